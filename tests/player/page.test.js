// What the page says of a step: every text beside the canvases, at steps of both golden runs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { unionOfTop } from "../../mla_viz/player/src/candidates.js";
import { NDArray } from "../../mla_viz/player/src/ndarray.js";
import { alone, edited, show } from "./golden.js";

const AT_THE_FOX = { search: "?step=3&layer=2&head=3" };
const HELD = "than plain MHA of 3 heads, head dim 5 (2·3·5 values a token and layer)";

/** The figures of a panel's header, those that are hidden left out. */
function header(page, side) {
  const shown = page.root.querySelectorAll(`.panel.${side} .head p`).filter((node) => !node.hidden);
  return shown
    .filter((node) => node.querySelector(".figure"))
    .map((node) => [".figure", ".unit", ".against"].map((part) => node.querySelector(part).textContent));
}

test("the headers tell each side's cache and what it is held against", () => {
  const page = show(AT_THE_FOX);
  assert.equal(page.text(".panel.left .label"), "Naive: keys and values per head");
  assert.equal(page.text(".panel.right .label"), "Absorbed: one latent for all heads");
  assert.deepEqual(header(page, "left"), [
    ["396", "B", "3 tokens, all layers"],
    ["1.1×", "more", HELD],
  ]);
  assert.deepEqual(header(page, "right"), [
    ["108", "B", "3 tokens, all layers"],
    ["3.7×", "less", "than this naive side"],
    ["3.3×", "less", HELD],
  ]);
});

test("each side is held against plain MHA of its own heads, and not where it is that itself", () => {
  const bytes = edited("golden.bin", ({ left, right }) => {
    left.sized = left.baselines[0].label;
    Object.assign(right.baselines[0], { what: "plain MHA of its own", bytes_per_token: 72 });
  });
  const page = show({ bytes, search: "?step=3" });
  assert.equal(header(page, "left").length, 1);
  assert.deepEqual(header(page, "right")[2].slice(0, 2), ["2.0×", "less"]);
  assert.match(header(page, "right")[2][2], /^than plain MHA of its own/);
});

test("a side without a cache is held against nothing", () => {
  const page = show({ name: "golden_models.bin", search: "?step=2" });
  assert.deepEqual(header(page, "left")[1].slice(0, 2), ["2.0×", "less"]);
  assert.deepEqual(header(page, "right"), [["no cache", "", "2 tokens, all layers"]]);
  assert.equal(page.text(".panel.right .cache .caption"), "No cache, layer 1");
  assert.equal(page.text(".panel.right .cache .aside"), "nothing kept");
});

/** The rows of a ledger: name, formula, shapes, counts. */
function ledger(page, side) {
  const rows = page.root.querySelectorAll(`.panel.${side} .ledger tbody tr`);
  return rows.map((row) => [
    ...["b", ".formula", ".shapes"].map((part) => row.querySelector(part).textContent),
    ...row.querySelectorAll(".count").map((cell) => cell.textContent),
  ]);
}

test("the ledger tells shapes, FLOPs, bytes read and written of this step, and their sums", () => {
  const page = show(AT_THE_FOX);
  assert.deepEqual(ledger(page, "left"), [
    ["query", "q = x·[W_UQ | W_QR]", "(1×10)·(10×18)", "360", "380 B", "36 B"],
    ["latent", "c_KV, k_R = x·[W_DKV | W_KR]", "(1×10)·(10×9)", "180", "200 B", "18 B"],
    ["expand new", "k, v = c_KV·[W_UK | W_UV]", "(1×7)·(7×27)", "378", "396 B", "66 B"],
    ["score", "q·kᵀ / √6", "3×(1×6)·(6×3)", "108", "144 B", "18 B"],
    ["context", "o = p·v", "3×(1×3)·(3×5)", "90", "108 B", "30 B"],
    ["output", "out = o·W_O", "(1×15)·(15×10)", "300", "330 B", "20 B"],
  ]);
  assert.deepEqual(page.texts(".panel.left tfoot .count"), ["1.42 k", "1.5 KiB", "188 B"]);
  assert.equal(
    page.text(".panel.left .ledger .caption"),
    "Operations of this step, layer 2: FLOPs, bytes read and written",
  );
});

test("what both sides do alike is marked and says so", () => {
  const page = show();
  const marked = (side) => {
    const rows = page.root.querySelectorAll(`.panel.${side} .ledger tbody tr`);
    return rows
      .filter((row) => row.classList.contains("shared"))
      .map((row) => row.querySelector("b").textContent);
  };
  const alike = ["query", "latent", "output"];
  assert.deepEqual([marked("left"), marked("right")], [alike, alike]);
  const counting = "Every operation is counted by itself: operands read once, result written once.";
  assert.equal(page.text(".panel.left .counting"), `${counting} Greyed: the same on both sides.`);
  assert.equal(show({ name: "golden_models.bin" }).text(".panel.left .counting"), counting);
});

test("where the ledger reads more than is cached it says so", () => {
  assert.match(
    show().text(".panel.right .counting"),
    / Score and context both read the latent: 16 values a cached token, 9 stored\./,
  );
});

test("below the ledger stands what was measured and allocated at this step, and in which layers", () => {
  const page = show(AT_THE_FOX);
  assert.equal(
    page.text(".panel.left .measured"),
    "Measured attention time, this layer: 301 µs (one run, not a benchmark)." +
      " Cache, all layers: 2.1 KiB allocated, 396 B filled.",
  );
  assert.equal(
    page.text(".panel.right .measured"),
    "Measured attention time, this layer: 501 µs (one run, not a benchmark)." +
      " Rebuilt and thrown away, this layer: 13 B. Cache, all layers: 578 B allocated, 108 B filled.",
  );
});

test("captions say layer, head and step as a visitor counts them, and canvases have words", () => {
  const page = show(AT_THE_FOX);
  const label = (selector) => page.find(`${selector} canvas`).getAttribute("aria-label");
  assert.equal(page.text(".panel.left .cache .caption"), "Cache, layer 2: 3 tokens × 33 values");
  assert.equal(page.text(".panel.left .cache .aside"), "+132 B this token, all layers");
  assert.equal(
    label(".panel.right .cache"),
    "Cache of absorbed, layer 2: 3 tokens × 9 values; 108 B over all layers",
  );
  assert.equal(page.text(".panel.left .heads .caption"), "Attention now, layer 2: every head over 3 tokens");
  assert.equal(
    label(".panel.left .heads"),
    "Attention of 3 heads of naive, layer 2, over 3 tokens; head 3 looks most at token 3 🦊",
  );
  assert.equal(page.text(".panel.right .triangle .caption"), "Head 3, layer 2: queries down, keys across");
  assert.equal(
    label(".panel.right .triangle"),
    "Attention map of head 3, layer 2, absorbed: 3 query rows, masked keys blank",
  );
  assert.equal(label(".growth"), "Cached bytes against tokens: after 3 tokens naive 396 B, absorbed 108 B");
});

test("the first token adds all that is cached", () => {
  const page = show({ search: "?step=1" });
  assert.equal(page.text(".panel.left .cache .aside"), "+132 B this token, all layers");
  assert.equal(page.text(".panel.left .cache .caption"), "Cache, layer 1: 1 token × 33 values");
});

test("steps that were not kept, rounding and pooling are said", () => {
  const page = show({ name: "golden_models.bin", search: "?step=2&head=4" });
  const heads = "Attention now, layer 1: every head over 1 token · step 1, the nearest kept · rounded";
  assert.equal(page.text(".panel.left .heads .caption"), heads);
  assert.equal(
    page.text(".panel.left .triangle .caption"),
    "Head 4, layer 1: queries down, keys across · 2 of 3 rows kept",
  );
  assert.match(page.text(".panel.right .triangle .caption"), /^Head 2, /);
  page.resize(38);
  page.frame();
  assert.match(page.text(".panel.left .heads .caption"), / · pooled by maximum · rounded$/);
  assert.match(page.text(".panel.left .triangle .caption"), / · pooled by maximum$/);
});

test("the badge tells the differences of this step and what they prove", () => {
  const page = show({ search: "?step=1" });
  const badge = page.find(".badge");
  assert.equal(badge.getAttribute("data-verdict"), "same");
  assert.equal(page.text(".verdict"), "✓ one model, two mechanisms");
  assert.equal(page.text(".what"), "largest difference at this step, all layers, bfloat16:");
  assert.equal(page.text(".same"), "same tokens");
  const figures = () =>
    badge
      .querySelectorAll("[data-difference]")
      .map((node) => [node.dataset.difference, node.textContent, node.hidden]);
  assert.deepEqual(figures(), [
    ["scores", "scores 0", false],
    ["probs", "weights 2.0e-7", false],
    ["out", "output 3.0e-6", false],
    ["logits", "logits 4.0e-5", false],
  ]);
  page.press("ArrowRight");
  page.frame();
  assert.deepEqual(
    figures().map(([, text]) => text),
    ["scores 5.0e+0", "weights 6.0e+0", "output 7.0e+0", "logits 8.0e+0"],
  );
});

test("sides that would choose different tokens are warned of", () => {
  const bytes = edited("golden.bin", (header) => {
    header.same_tokens = false;
  });
  const page = show({ bytes });
  assert.equal(page.find(".badge").getAttribute("data-verdict"), "warning");
  assert.equal(page.text(".same"), "⚠ the two sides would not choose the same tokens");
});

test("a cache in fewer bits is no warning: the badge says what it is and what it does", () => {
  const rounded = (same) =>
    edited("golden.bin", (header) => {
      header.same_tokens = same;
      Object.assign(header.right, { kept: { name: "int8", about: "Kept in int8." } });
      header.right.layers[0].row_bytes = 11;
    });
  const page = show({ bytes: rounded(true), search: "?step=1" });
  assert.equal(page.find(".badge").getAttribute("data-verdict"), "rounded");
  assert.equal(page.text(".verdict"), "≈ one model, right cache rounded to int8");
  assert.equal(
    page.text(".what"),
    "the right side keeps 11 bytes a token and layer (left: 66) and reads rounded values, so the sides differ; largest difference at this step, all layers, bfloat16:",
  );
  assert.equal(page.text(".same"), "both would choose the same tokens all the same");
  assert.match(page.text(".panel.right .cache .caption"), / × 9 values in int8, 11 bytes a token$/);
  const other = show({ bytes: rounded(false) });
  assert.equal(other.find(".badge").getAttribute("data-verdict"), "rounded");
  assert.equal(other.text(".same"), "the right side would choose another token at some step");
});

test("two models have no differences, and the page says so", () => {
  const page = show({ name: "golden_models.bin" });
  assert.equal(page.root.dataset.models, "different");
  assert.equal(page.find(".badge").getAttribute("data-verdict"), "different");
  assert.equal(page.text(".verdict"), "≠ different models");
  assert.match(page.text(".what"), /^differences mean nothing here/);
  assert.equal(page.text(".same"), "both are fed the tokens above");
  assert.ok(page.root.querySelectorAll("[data-difference]").every((node) => node.hidden));
  assert.deepEqual(page.texts(".notes li"), ["first note", "second note"]);
  assert.equal(page.find(".notes").hidden, false);
  assert.equal(show().find(".notes").hidden, true);
  assert.equal(show().root.dataset.models, "same");
});

test("a cut of a pretrained model is one model, and the page says what it loses", () => {
  const cut = { kl: 0.0512, agreement: 0.9, tokens: 40, text: "own", whole: false };
  Object.assign(cut, { elems: 20, pooled: false, decoupled: false });
  const bytes = edited("golden_models.bin", (header) => {
    Object.assign(header, { cut, same_tokens: false });
  });
  const page = show({ bytes });
  assert.equal(page.find(".badge").getAttribute("data-verdict"), "rounded");
  assert.equal(page.text(".verdict"), "≈ one model, one cache cut to 20");
  assert.equal(
    page.text(".what"),
    "over these 40 tokens, KL(left || right) is 0.0512 nats a token, and both find the same next token likeliest at 90 %",
  );
  assert.equal(page.text(".same"), "the right side would choose another token at some step");
  const changed = (change) =>
    show({
      bytes: edited("golden_models.bin", (header) => {
        header.cut = { ...cut, ...change };
      }),
    });
  assert.equal(changed({ whole: true }).text(".verdict"), "✓ one model, nothing cut off");
  assert.equal(changed({ pooled: true }).text(".verdict"), "≈ one model, one cache cut to 20 on average");
  const apart = changed({ decoupled: true });
  assert.equal(apart.text(".verdict"), "≈ one model, one cache with RoPE decoupled");
  assert.equal(apart.find(".badge").getAttribute("data-verdict"), "rounded");
});

test("another layer shows what it caches and counts", () => {
  const page = show({ name: "golden_cut.bin", search: "?step=2" });
  const shown = () => [
    page.text(".panel.right .cache .caption"),
    page.texts(".panel.right .ledger .shapes").find((shapes) => shapes.startsWith("(2×")),
    page.text(".panel.right .ledger tfoot .count"),
  ];
  const first = shown();
  assert.match(first[0], /layer 1: 2 tokens × 3 values$/);
  assert.equal(first[1], "(2×3)·(3×16)");
  assert.equal(page.text(".panel.left .cache .caption"), "Cache, layer 1: 2 tokens × 16 values");
  const layers = page.find("select[name=layer]");
  layers.value = "1";
  page.fire(layers, "change");
  page.frame();
  const second = shown();
  assert.match(second[0], /layer 2: 2 tokens × 7 values$/);
  assert.equal(second[1], "(2×7)·(7×16)");
  assert.notEqual(second[2], first[2]);
  assert.equal(page.text(".verdict"), "≈ one model, one cache cut to 5 on average");
});

test("candidates of both sides stand side by side, the likeliest first", () => {
  const page = show({ search: "?step=3" });
  const rows = page.root.querySelectorAll(".candidate").filter((row) => !row.hidden);
  const told = rows.map((row) => [
    row.querySelector(".name").textContent,
    ...row
      .querySelectorAll(".line")
      .flatMap((line) => [
        line.querySelector(".bar").className.split(" ")[1],
        line.querySelector(".bar").style.width,
        line.querySelector(".probability").textContent,
      ]),
  ]);
  assert.deepEqual(told, [
    ["g", "left", "37.50%", "0.375", "right", "50.00%", "0.500"],
    ["h", "left", "25.00%", "0.250", "right", "12.50%", "0.125"],
    ["i", "left", "12.50%", "0.125", "right", "0.00%", "≤ 0.063"],
    ["n", "left", "0.00%", "≤ 0.125", "right", "6.25%", "0.063"],
    ["\\xf0", "left", "0.00%", "≤ 0.125", "right", "0.00%", "≤ 0.063"],
  ]);
  assert.equal(page.text(".next .aside"), "drawn at temperature 0.75 from the 5 likeliest");
  assert.deepEqual(page.texts(".key"), ["naive", "absorbed"]);
});

test("where a side's list ends in nothing, what it does not list is nothing", () => {
  const told = (name, step) => show({ name, search: `?step=${step}` }).texts(".candidate .probability");
  assert.deepEqual(told("golden.bin", 4).slice(0, 6), ["1.000", "1.000", "0", "0", "0", "0"]);
});

/** The candidates of a step, the marked ones with their mark. */
function marks(page) {
  const rows = page.root.querySelectorAll(".candidate").filter((row) => !row.hidden);
  return rows.map((row) =>
    [".name", ".mark"]
      .map((part) => row.querySelector(part).textContent)
      .filter(Boolean)
      .join(": "),
  );
}

test("the token that came next is marked, and how it came", () => {
  const page = show({ search: "?step=1" });
  assert.deepEqual(marks(page), ["␣b", "a", "c", "m", "␣⏎: in prompt"]);
  page.press("End");
  page.frame();
  assert.deepEqual(marks(page), ["␣j", "k", "l", "o", "␣day: drawn"]);
  assert.equal(page.root.querySelectorAll(".candidate.next").length, 1);
  assert.equal(marks(show({ name: "golden_models.bin", search: "?step=1" })).at(-1), "␣two: taken left");
});

test("of sixteen candidates the eight likeliest are shown, and always the one that came next", () => {
  const side = (letters, first) => ({
    text: [Array.from(letters)],
    probs: new NDArray(
      Float32Array.from(letters, (_, rank) => first - rank / 32),
      [1, 8],
    ),
  });
  const union = (next) =>
    unionOfTop([side("abcdefgh", 0.5), side("ijklmnop", 0.484375)], 0, next).map(({ text }) => text);
  assert.deepEqual(union("a"), Array.from("aibjckdl"));
  assert.deepEqual(union("l"), Array.from("aibjckdl"));
  assert.deepEqual(union("p"), Array.from("aibjckdp"));
  assert.deepEqual(union("z"), Array.from("aibjckdz"));
});

test("a layer alone shows no candidates, no logits, and says why", () => {
  const page = show({ bytes: alone(), search: "?step=2" });
  assert.equal(page.text(".next .aside"), "none: a layer alone chooses no token");
  assert.ok(page.root.querySelectorAll(".candidate").every((row) => row.hidden));
  assert.equal(page.text(".verdict"), "✓ one layer, two mechanisms");
  assert.equal(page.text(".same"), "both are fed the same hidden states");
  const lanes = (page) =>
    page.root.querySelectorAll(".tokens .of").map(({ hidden, textContent }) => [textContent, hidden]);
  assert.deepEqual(lanes(page), [
    ["hidden states", false],
    ["generated", true],
  ]);
  assert.equal(page.find(".lane.generated").hidden, true);
  assert.match(page.find(".lane.prompt").getAttribute("aria-label"), /^3 hidden states, given;/);
  assert.deepEqual(lanes(show()), [
    ["prompt", false],
    ["generated", false],
  ]);
  const hidden = (name) => page.find(`[data-difference=${name}]`).hidden;
  assert.deepEqual(["scores", "probs", "out", "logits"].map(hidden), [false, false, false, true]);
  assert.ok(page.text(".narration .seen").endsWith("over all layers."));
  assert.equal(show().find("[data-difference=logits]").hidden, false);
});

test("the narration is seen at every step", () => {
  const page = show({ search: "?step=1" });
  assert.match(page.text(".narration .seen"), /^Step 1 of 4 feeds token 1, "Once"\./);
  page.press("ArrowRight");
  page.frame();
  assert.match(page.text(".narration .seen"), /^Step 2 of 4 feeds token 2, "␣⏎"\./);
  assert.equal(page.text(".narration .spoken"), page.text(".narration .seen"));
});

test("the token strip marks what was fed, what is now, and where the prompt ends", () => {
  const page = show(AT_THE_FOX);
  assert.deepEqual(
    page.find(".tokens").children.map((node) => node.textContent),
    ["prompt", "Once␣⏎🦊", "generated", "\\xf0␣day"],
  );
  const chips = page.root.querySelectorAll(".chip");
  assert.deepEqual(
    chips.map((chip) => chip.classList.contains("past")),
    [true, true, true, false, false],
  );
  assert.deepEqual(
    chips.map((chip) => chip.getAttribute("aria-current")),
    [null, null, "step", null, null],
  );
  assert.deepEqual(
    chips.map((chip) => chip.dataset.token),
    ["1", "2", "3", "4", "5"],
  );
  assert.equal(chips[1].title, "token 2 · id 101 · prompt");
  assert.equal(chips[4].title, "token 5 · id 104 · generated, not fed any more");
  assert.deepEqual(
    page.root.querySelectorAll(".lane").map((lane) => lane.getAttribute("aria-label")),
    ["3 tokens, given", "2 tokens, generated"].map((words) => `${words}; choose one to go to its step`),
  );
  page.press("Home");
  page.frame();
  assert.deepEqual(
    chips.map((chip) => chip.classList.contains("past")),
    [true, false, false, false, false],
  );
  assert.deepEqual(
    chips.map((chip) => chip.getAttribute("aria-current")),
    ["step", null, null, null, null],
  );
});

test("a long lane is laid out in chunks", () => {
  const generated = (count) => {
    const bytes = edited("golden.bin", (header) => {
      const all = Array.from({ length: 3 + count }, (_, pos) => ({ ...header.tokens[0], pos }));
      header.tokens = all;
    });
    return show({ bytes }).find(".lane.generated").children;
  };
  assert.deepEqual(
    generated(300).map((chunk) => [chunk.className, chunk.children.length]),
    [64, 64, 64, 64, 44].map((count) => ["chunk", count]),
  );
  assert.equal(generated(256).length, 256);
});

test("a long token is cut, and whole in its title", () => {
  const bytes = edited("golden.bin", (header) => {
    header.tokens[0].text = "a".repeat(33);
    header.tokens[1].text = "a".repeat(32);
  });
  const [cut, whole] = show({ bytes }).root.querySelectorAll(".chip");
  assert.equal(cut.textContent, `${"a".repeat(31)}…`);
  assert.equal(cut.title, `token 1 · id 100 · prompt · ${"a".repeat(33)}`);
  assert.deepEqual([whole.textContent, whole.title], ["a".repeat(32), "token 2 · id 101 · prompt"]);
});
