// The worked example: sums that make a cell and add up, what is drawn of a record, pointing and keys.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { cellWords, makingOf, termLines } from "../../mla_viz/player/src/example.js";
import { mount } from "../../mla_viz/player/src/lesson.js";
import { LOOKS } from "../../mla_viz/player/src/looks.js";
import { nearestThatWay } from "../../mla_viz/player/src/places.js";
import { contrast } from "../../mla_viz/player/src/theme.js";
import { openPage } from "./fake_page.js";
import { show } from "./golden.js";

const HTML = readFileSync(new URL("../../mla_viz/player/lesson.html", import.meta.url), "utf8");

/** A matrix as Python packs it. */
const matrix = (name, values, more = {}) => ({
  name,
  values,
  role: "made and thrown away",
  rows: [],
  columns: [],
  newest: false,
  made: null,
  ...more,
});
const made = (kind, of, by = 1) => ({ made: { kind, of, by } });
const WORDS = ["The", "fox"];

const Q = matrix("q", [[0.25, -2]]);
const W = matrix(
  "W_UKᵀ",
  [
    [0.5, 1, -1],
    [1, 0.5, 0],
  ],
  { role: "fixed at training" },
);
const MOVED = matrix("q̃", [[-1.875, -0.75, -0.25]], made("product", ["q", "W_UKᵀ"]));
const KEYS = matrix(
  "C_KV",
  [
    [1, 2, 3],
    [4, 5, 6],
  ],
  { role: "cached", rows: WORDS, newest: true },
);

/** The sum of a cell among these matrices, and what lights up. */
function sumIn(all, name, row, column) {
  const known = (wanted) => all.find((one) => one.name === wanted);
  const sum = makingOf({ matrix: known(name), row, column }, known);
  const lit = sum?.cells.map((cells) => cells.map((cell) => [cell.matrix.name, cell.row, cell.column]));
  return { terms: sum?.terms.map(({ words, value }) => [words, value]), lit };
}

test("a product is a row times a column, and both light up", () => {
  assert.deepEqual(sumIn([Q, W, MOVED], "q̃", 0, 1), {
    terms: [
      ["0.25 × 1", 0.25],
      ["−2 × 0.5", -1],
    ],
    lit: [
      [
        ["q", 0, 0],
        ["q", 0, 1],
      ],
      [
        ["W_UKᵀ", 0, 1],
        ["W_UKᵀ", 1, 1],
      ],
    ],
  });
});

test("products of pairs are summed, and a row of all heads may stand alone as a head's own", () => {
  const heads = [1, 2].map((at) => matrix(`o head ${at}`, [[at, 10 * at]]));
  const weights = [1, 2].map((at) => matrix(`W_O head ${at}`, [[at], [0.5]]));
  const of = ["o head 1", "W_O head 1", "o head 2", "W_O head 2"];
  const out = matrix("out", [[20]], made("product", of));
  const { terms, lit } = sumIn([...heads, ...weights, out], "out", 0, 0);
  assert.deepEqual(
    terms.map(([, value]) => value),
    [1, 5, 4, 10],
  );
  assert.equal(lit.length, 4);
  const scores = matrix("s", [[1], [11]], made("sum", ["o", "p"], 2));
  const parts = matrix("p", [[1], [2]]);
  const ofHead = sumIn([...heads, parts, scores], "s", 1, 0);
  assert.deepEqual(ofHead.terms, [
    ["2 / 2  (o head 2)", 1],
    ["2 / 2  (p)", 1],
  ]);
  assert.deepEqual(ofHead.lit, [[["o head 2", 0, 0]], [["p", 1, 0]]]);
});

test("a pair is turned: a·cos − b·sin and a·sin + b·cos", () => {
  const all = [
    matrix("a", [[3, 4]]),
    matrix("turns", [[0.6, 0.8]]),
    matrix("r", [[-1.4, 4.8]], made("turned", ["a", "turns"])),
  ];
  assert.deepEqual(
    sumIn(all, "r", 0, 0).terms.map(([words]) => words),
    ["3 × 0.6", "−4 × 0.8"],
  );
  assert.deepEqual(
    sumIn(all, "r", 0, 1).terms.map(([words]) => words),
    ["3 × 0.8", "4 × 0.6"],
  );
  assert.equal(sumIn(all, "r", 0, 1).lit.flat().length, 4);
});

test("softmax is told as powers, sums of rows and shares", () => {
  const s = matrix("s", [[0, 1]], { columns: WORDS });
  const exp = matrix("exp s", [[1, Math.E]], { columns: WORDS, ...made("exp", ["s"]) });
  const sums = matrix("row sums", [[1 + Math.E]], made("row sums", ["exp s"]));
  const p = matrix("p", [[1 / (1 + Math.E), Math.E / (1 + Math.E)]], made("share", ["exp s", "row sums"]));
  const all = [s, exp, sums, p];
  assert.deepEqual(sumIn(all, "exp s", 0, 1).terms, [["e^(1)", Math.E]]);
  assert.deepEqual(sumIn(all, "row sums", 0, 0).terms, [
    ["The", 1],
    ["fox", Math.E],
  ]);
  assert.deepEqual(sumIn(all, "p", 0, 0).terms, [["1 / 3.7183", 1 / (1 + Math.E)]]);
  assert.deepEqual(sumIn(all, "p", 0, 1).lit, [[["exp s", 0, 1]], [["row sums", 0, 0]]]);
});

test("a cell tells its place, its figure and its sum, or what it is where it has none", () => {
  const cell = { matrix: MOVED, row: 0, column: 0 };
  const known = (name) => [Q, W].find((one) => one.name === name);
  assert.equal(
    cellWords(cell, makingOf(cell, known)),
    "q̃, column 1: −1.88\n= q · W_UKᵀ\n0.125 = 0.25 × 0.5\n−2 = −2 × 1\n−1.875 in all",
  );
  assert.equal(cellWords(cell, null), "q̃, column 1: −1.88\n= q · W_UKᵀ, at an earlier stage");
  assert.equal(cellWords({ matrix: KEYS, row: 1, column: 2 }, null), "C_KV, fox, column 3: 6\ncached");
});

test("terms add up to the figure that is printed, whatever they are", () => {
  for (let seed = 1; seed < 400; seed += 1) {
    const terms = Array.from({ length: 2 + (seed % 7) }, (_, at) => ({
      words: "",
      value: 3 * Math.sin(seed * 12.9898 + at * 78.233),
    }));
    const value = terms.reduce((sum, term) => sum + term.value, 0);
    const lines = termLines(terms, value).map((line) => Number(line.split(" ")[0].replace("−", "-")));
    const total = lines.pop();
    const sum = lines.reduce((all, one) => all + one, 0);
    assert.ok(Math.abs(sum - total) < 1e-9, `${sum} ${total}`);
    assert.equal(Number(total.toFixed(2)), Number(value.toFixed(2)), String(seed));
  }
});

test("a key goes to the nearest place that way, or to the end of its line", () => {
  const places = [
    [0, 0],
    [30, 0],
    [90, 0],
    [34, 24],
    [90, 60],
  ].map(([left, top]) => ({ left, top }));
  const to = (from, key) => nearestThatWay(places, from, key);
  assert.deepEqual([to(0, "ArrowRight"), to(1, "ArrowRight"), to(2, "ArrowRight")], [1, 2, 2]);
  assert.deepEqual([to(1, "ArrowDown"), to(2, "ArrowDown"), to(3, "ArrowUp")], [3, 4, 1]);
  assert.deepEqual([to(2, "Home"), to(0, "End"), to(0, "Tab"), to(2, "ArrowLeft")], [0, 2, null, 1]);
});

const COLOUR = { light: "#b44d12", light_tint: "#fdf3ec", dark: "#f0935a", dark_tint: "#251a14" };
const join = (name, gap, apart) => ({ name, gaps: { float64: gap, float32: 2 * gap }, apart });
const RECORD = {
  run: "Drawing of stage 4",
  left: { color: COLOUR },
  right: { color: { ...COLOUR, light: "#0b6e8f" } },
  bands: [
    {
      lanes: [
        { name: "naive", says: "keeps keys.", schemes: [[[["C_KV"]]]] },
        {
          name: "absorbed",
          says: "",
          schemes: [
            [
              [[], ["W_UKᵀ"]],
              [["q"], ["q̃"]],
            ],
          ],
        },
      ],
      joins: [join("out", 0, false), join("o", 1.5e-16, false), join("scores", 0.25, true)],
    },
  ],
  matrices: { naive: { C_KV: KEYS }, absorbed: { q: Q, W_UKᵀ: W, q̃: MOVED }, alike: {}, rebuilt: {} },
};

/** The example in a page, loaded and coloured. */
function open(record = RECORD, colours = {}) {
  const page = openPage({ html: HTML, colours });
  const lesson = mount(page.root);
  lesson.load(record);
  lesson.recolour();
  const cells = page.root.querySelectorAll("td");
  return { ...page, lesson, cells, named: (text) => cells.find((cell) => cell.textContent === text) };
}

test("every matrix is a table of its numbers with its name, shape and look", () => {
  const page = open();
  assert.deepEqual(page.texts("caption"), [
    "C_KV 2×3, cached",
    "W_UKᵀ 2×3, fixed at training",
    "q 1×2, made and thrown away",
    "q̃ 1×3, made and thrown away = q · W_UKᵀ",
  ]);
  const looks = page.root.querySelectorAll("table").map((node) => node.className);
  assert.deepEqual(looks, [
    "matrix cached named first headed",
    "matrix fixed headed",
    "matrix passing first headed",
    "matrix passing down across",
  ]);
  assert.equal(page.text(".bands .naive .says"), "Naive keeps keys.");
  assert.deepEqual(
    page.root.querySelectorAll("[role=rowheader]").map((node) => node.textContent),
    WORDS,
  );
  assert.equal(page.cells.length, 6 + 6 + 2 + 3);
});

test("a join prints what was measured, and what is no rounding is crossed out", () => {
  const page = open();
  assert.deepEqual(page.texts(".join"), [
    "=outequal in float64 and float32",
    "=ofloat64 1.5e-16float32 3.0e-16",
    "≠scoresfloat64 2.5e-1float32 5.0e-1",
  ]);
  assert.deepEqual(page.texts(".apart .sign"), ["≠"]);
});

test("a kind has one scale in all of its matrices, and figures can be read on every colour", () => {
  const two = structuredClone(RECORD);
  const head = matrix("c_KV", [[3, -3, 0]]);
  two.bands[0].lanes[0].schemes.push([[["c_KV"]]]);
  two.matrices.naive.c_KV = head;
  for (const colours of [{}, { "--st-background-color": "#101010", "--st-text-color": "#eeeeee" }]) {
    const page = open(two, colours);
    const channels = (css) => css.match(/\d+/g).map(Number);
    const [three, alike] = page.cells.filter((cell) => cell.textContent === "3").map(({ style }) => style);
    assert.equal(three.background, alike.background);
    assert.notEqual(page.named("−3").style.background, alike.background);
    for (const { style } of page.cells) {
      assert.ok(contrast(channels(style.color), channels(style.background)) >= 4.5, style.background);
    }
    assert.equal(page.root.style["--apart"], colours["--st-text-color"] ? "#ff8a80" : "#c62828");
  }
});

test("pointing at a cell tells its sum and frames it with its row and its column", () => {
  const page = open();
  const result = page.named("−1.88");
  page.fire(result, "pointerenter", {});
  page.fire(result, "pointermove", { offsetX: 1, offsetY: 1, clientX: 5, clientY: 5 });
  assert.equal(page.root.querySelectorAll(".cell").length, 3);
  assert.equal(page.root.querySelectorAll(".source").length, 2);
  assert.match(page.text(".tooltip"), /−1\.875 in all$/);
  page.fire(result, "pointerleave", {});
  assert.equal(page.root.querySelectorAll(".cell").length, 0);
  assert.ok(page.find(".tooltip").hidden);
});

test("the picture is one tab stop, which follows the focus and is spoken", () => {
  const page = open();
  const stops = () => page.cells.filter((cell) => cell.tabIndex === 0);
  assert.deepEqual(stops(), [page.cells[0]]);
  const result = page.named("−1.88");
  page.fire(result, "focus");
  assert.deepEqual(stops(), [result]);
  assert.match(page.text(".told"), /^q̃, column 1: −1.88, = q · W_UKᵀ, .*in all$/);
  assert.equal(page.find(".keys").hidden, false);
  page.fire(result, "blur");
  assert.deepEqual([page.text(".told"), page.find(".keys").hidden], ["", true]);
});

test("both pages have the one legend and the one frame for each look", () => {
  const words = Object.values(LOOKS).map((look) => look.words);
  assert.deepEqual(open().texts(".look"), words);
  assert.deepEqual(show().texts(".look"), words);
  for (const { root } of [open(), show()]) {
    assert.deepEqual([root.style["--cached"], root.style["--passing"]], ["2px solid", "1px dashed"]);
  }
});
