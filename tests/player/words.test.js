import assert from "node:assert/strict";
import { test } from "node:test";
import { elementWords } from "../../mla_viz/player/src/cache.js";
import { drawnWords } from "../../mla_viz/player/src/candidates.js";
import { compare, comparedWords, timesText } from "../../mla_viz/player/src/comparison.js";
import { shapesText } from "../../mla_viz/player/src/ledger.js";
import { narrate, shortNames, stepWords } from "../../mla_viz/player/src/narration.js";
import * as words from "../../mla_viz/player/src/words.js";
import { MODELS, SAME } from "./golden.js";

/** A table of [arguments..., result] for a function. */
function table(name, say, rows) {
  test(name, () => {
    for (const row of rows) assert.deepEqual(say(...row.slice(0, -1)), row.at(-1), row.join(" | "));
  });
}

table("nothing in a token's text stays hidden", words.visibleText, [
  ["", "‹empty›"],
  [" a  b", "␣a␣␣b"],
  ["\n\t\r", "⏎⇥‹0D›"],
  ["\u0000\u007f\u009f", "‹00›‹7F›‹9F›"],
  ["\u00ad\u061c\u200b\u202e\u2060\ufeff", "‹AD›‹61C›‹200B›‹202E›‹2060›‹FEFF›"],
  ["\u200d", "‹200D›"],
  ["👩\u200d🚀", "👩\u200d🚀"],
  ["é🦊 ", "é🦊␣"],
  ["<b>&", "<b>&"],
]);

table("text is cut to a number of characters, an emoji being one", words.shortened, [
  ["abcd", 4, "abcd"],
  ["abcde", 4, "abc…"],
  ["🦊🦊🦊", 3, "🦊🦊🦊"],
  ["🦊🦊🦊", 2, "🦊…"],
]);

table("only right-to-left text is isolated from its sentence", (text) => words.quoted(text, 9), [
  ["abc", "abc"],
  ["שלום", "\u2068שלום\u2069"],
  ["مرحبا", "\u2068مرحبا\u2069"],
  [" eleven letters", "␣eleven␣…"],
]);

table("bytes are said in units of 1024", words.bytesText, [
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [1536, "1.5 KiB"],
  [1024 ** 2, "1.0 MiB"],
  [345600, "337.5 KiB"],
  [3 * 1024 ** 3, "3.0 GiB"],
  [5 * 1024 ** 4, "5.0 TiB"],
  [5000 * 1024 ** 4, "5000.0 TiB"],
]);

table("counts are said in units of 1000, three digits of them", words.countText, [
  [0, "0"],
  [999, "999"],
  [1000, "1.00 k"],
  [9994, "9.99 k"],
  [9995, "10.0 k"],
  [65536, "65.5 k"],
  [99949, "99.9 k"],
  [99950, "100 k"],
  [999499, "999 k"],
  [999500, "1.00 M"],
  [2.5e9, "2.50 G"],
  [7e15, "7000 T"],
]);

table("what is never drawn is told from what is unlikely", words.probabilityText, [
  [0, "0"],
  [1e-9, "< 0.001"],
  [0.0004, "< 0.001"],
  [0.0005, "0.001"],
  [0.3526, "0.353"],
  [1, "1.000"],
]);

table("what the bars are drawn from is said", drawnWords, [
  [{ temperature: 0.7, top_k: 40 }, "drawn at temperature 0.7 from the 40 likeliest"],
  [{ temperature: 2, top_k: 1 }, "drawn at temperature 2 from the likeliest alone"],
  [{ temperature: 1, top_k: 0 }, "drawn at temperature 1 from all tokens"],
  [{ temperature: 0, top_k: 40 }, "temperature 0: the likeliest is taken; bars are the model's own"],
]);

table("times are said in the unit that fits", words.timeText, [
  [0.25, "0.25 µs"],
  [0.999, "1.0 µs"],
  [1, "1.00 µs"],
  [301, "301 µs"],
  [999, "999 µs"],
  [1000, "1.00 ms"],
  [4500, "4.50 ms"],
]);

table("one is singular", words.plural, [
  [0, "token", "0 tokens"],
  [1, "token", "1 token"],
  [2, "query row", "2 query rows"],
]);

table("differences have one digit behind the point", words.differenceText, [
  [0, "0"],
  [7.68e-6, "7.7e-6"],
  [13, "1.3e+1"],
]);

table("signs are true minuses", words.signedText, [
  [-1.005, "−1.00"],
  [0.5, "0.50"],
]);

table("bytes are held against a baseline", compare, [
  [36, 36, { relation: "same", times: 1 }],
  [36, 0, { relation: "all", times: Infinity }],
  [36, 132, { relation: "less", times: 132 / 36 }],
  [132, 36, { relation: "more", times: 132 / 36 }],
]);

table("a ratio has as many digits as tell it from one", timesText, [
  [1.049, "1.05"],
  [1.094, "1.09"],
  [1.095, "1.1"],
  [99.94, "99.9"],
  [99.95, "100"],
]);

table("a sentence says how much less or more", comparedWords, [
  [36, 132, ", 3.7 times less"],
  [132, 36, ", 3.7 times more"],
  [36, 36, ", the same"],
  [0, 36, ""],
  [36, 0, ""],
  [0, 0, ""],
]);

table("an element of a cached row has a name", elementWords, [
  [SAME.left.segments, 0, "head 1, k, value 1"],
  [SAME.left.segments, 5, "head 1, k, value 6"],
  [SAME.left.segments, 6, "head 1, v, value 1"],
  [SAME.left.segments, 32, "head 3, v, value 5"],
  [SAME.left.segments, 33, "value 34"],
  [SAME.right.segments, 6, "latent c_KV, value 7"],
  [SAME.right.segments, 7, "rope key k_R, value 1"],
]);

table("the shapes of an operation, tokens for what grows", shapesText, [
  [{ batch: 3, rows: 1, inner: 6, columns: null }, 9, "3×(1×6)·(6×9)"],
  [{ batch: 1, rows: null, inner: 4, columns: 5 }, 7, "(7×4)·(4×5)"],
  [{ batch: 2, rows: 1, inner: null, columns: 5 }, 1, "2×(1×1)·(1×5)"],
]);

table("sides are told apart by their names, or by where they stand", shortNames, [
  [SAME, ["naive", "absorbed"]],
  [{ ...SAME, right: SAME.left }, ["left naive", "right naive"]],
]);

table("a step is told in a line", stepWords, [
  [SAME, 1, "step 2 of 4 · ␣⏎ · prefill"],
  [SAME, 3, "step 4 of 4 · \\xf0 · generated"],
]);

table("a step is told in sentences", narrate, [
  [
    SAME,
    0,
    'Step 1 of 4 feeds token 1, "Once". Naive caches 132 B, absorbed 36 B, 3.7 times less, over all layers. Most likely next: a 50 % (naive), ␣b 63 % (absorbed).',
  ],
  [
    SAME,
    1,
    'Step 2 of 4 feeds token 2, "␣⏎". Naive caches 264 B, absorbed 72 B, 3.7 times less, over all layers. Most likely next: d 75 %.',
  ],
  [
    MODELS,
    2,
    'Step 3 of 3 feeds token 3, "<b>". GQA caches 192 B, recompute nothing, over all layers. Most likely next: e 50 % (GQA), y 25 % (recompute).',
  ],
]);
