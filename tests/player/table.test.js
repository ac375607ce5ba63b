// Pictures as tables: the numbers of the step that is shown, made only while their switch is on.

import assert from "node:assert/strict";
import { test } from "node:test";

import { weightTable } from "../../mla_viz/player/src/attention.js";
import { edited, show } from "./golden.js";

const PICTURES = [
  ".inside",
  ".growth",
  ...["left", "right"].flatMap((side) =>
    ["cache", "heads", "triangle"].map((part) => `.panel.${side} .${part}`),
  ),
];
const AT_THE_FOX = { search: "?step=3&layer=2&head=2&phase=6", width: 366 };

const press = (page, picture) => page.fire(page.find(`${picture} [data-action=table]`), "click");
const cells = (page, picture) =>
  page.root
    .querySelectorAll(`${picture} .scroller tr`)
    .map((row) => row.children.map(({ textContent }) => textContent));

/** A picture's table at a step: what it says of itself, and its cells. */
function tableOf(picture, options = AT_THE_FOX) {
  const page = show(options);
  press(page, picture);
  return { page, note: page.text(`${picture} .remarks`), rows: cells(page, picture) };
}

test("a table stands in a picture's place only while its switch is on", () => {
  for (const picture of PICTURES) {
    const page = show(AT_THE_FOX);
    const [toggle, plot] = [page.find(`${picture} [data-action=table]`), page.find(`${picture} .plot`)];
    const shown = () => [
      plot.querySelectorAll("td").length > 0,
      plot.classList.contains("tabled"),
      toggle.getAttribute("aria-pressed"),
    ];
    const states = [shown()];
    for (let presses = 0; presses < 2; presses += 1) {
      press(page, picture);
      states.push(shown());
    }
    const off = [false, false, "false"];
    assert.deepEqual(states, [off, [true, true, "true"], off], picture);
  }
});

test("no cell of a table is made before its switch is on", () => {
  const page = show(AT_THE_FOX);
  const make = page.document.createElement;
  page.document.createElement = (tag) => {
    assert.notEqual(tag, "td");
    return make(tag);
  };
  page.press("ArrowLeft");
  page.frame();
  assert.throws(() => press(page, ".growth"));
});

test("a picture is in sight where its place is, whatever stands there", () => {
  const page = show(AT_THE_FOX);
  const { watched } = page.observers.find(({ kind }) => kind === "sight");
  for (const picture of PICTURES) assert.ok(watched.includes(page.find(`${picture} .plot`)), picture);
});

test("a table has a header for each of its rows and columns, and is reached by keyboard", () => {
  for (const picture of PICTURES) {
    const { page } = tableOf(picture);
    const [head, ...body] = page.root.querySelectorAll(`${picture} .scroller tr`);
    const kinds = (row) => row.children.map(({ localName, scope }) => `${localName} ${scope}`.trim());
    assert.deepEqual(new Set(kinds(head)), new Set(["th col"]), picture);
    for (const row of body) {
      assert.equal(row.children.length <= head.children.length, true, picture);
      assert.deepEqual(kinds(row), ["th row", ...Array(row.children.length - 1).fill("td")], picture);
    }
    const scroller = page.find(`${picture} .scroller`);
    assert.deepEqual([scroller.tabIndex, scroller.getAttribute("role")], [0, "group"], picture);
    assert.match(scroller.getAttribute("aria-label"), / as a table$/);
  }
});

test("the heads' table has a row a head and a column a key", () => {
  const { note, rows } = tableOf(".panel.left .heads");
  assert.equal(note, "Weights of query 3 🦊: 3 of 3 heads, keys 1 to 3 of 3.");
  // 27 + 3 head + key 64ths.
  assert.deepEqual(rows, [
    ["head", "1 Once", "2 ␣⏎", "3 🦊"],
    ["1", "0.422", "0.438", "0.453"],
    ["2", "0.469", "0.484", "0.500"],
    ["3", "0.516", "0.531", "0.547"],
  ]);
});

test("the triangle's table has the newest query first, masked keys blank", () => {
  const { note, rows } = tableOf(".panel.left .triangle");
  assert.equal(note, "Weights of head 2: 3 of 3 query rows, newest first; keys 1 to 3 of 3.");
  assert.deepEqual(rows.slice(0, 3), [
    ["query", "1 Once", "2 ␣⏎", "3 🦊"],
    ["3 🦊", "0.469", "0.484", "0.500"],
    ["2 ␣⏎", "0.219", "0.234", ""],
  ]);
});

test("the keys of a kept query are counted by its token, not by its row", () => {
  const { note } = tableOf(".panel.left .triangle", { name: "golden_models.bin" });
  assert.match(note, /; keys 1 to 3 of 3, rounded\.$/);
});

test("the chart's table has every line's bytes after each token, newest first", () => {
  const { note, rows } = tableOf(".growth");
  assert.equal(note, "Bytes after each token: 3 of 3 tokens, newest first.");
  assert.deepEqual(rows.slice(0, 2), [
    ["token", "naive", "absorbed", "MHA 3×5", "MQA 1×5"],
    ["3 🦊", "396 B", "108 B", "360 B", "120 B"],
  ]);
});

test("the cache's table has the values of the new row, a line for each part of it", () => {
  const { note, rows } = tableOf(".panel.left .cache");
  assert.equal(note, "Cached of token 3 🦊: 33 of 33 values, one byte each.");
  const names = ["value", ...[1, 2, 3].flatMap((head) => [`head ${head}, k`, `head ${head}, v`])];
  assert.deepEqual(
    rows.map(([name]) => name),
    names,
  );
  assert.deepEqual(
    rows.map(({ length }) => length),
    [7, 7, 6, 7, 6, 7, 6],
  );
  // Byte 7 (132 + 2 33 + 3) mod 256 = 127 of layer 2, from -2 to 2.5.
  assert.equal(rows[1][4], "0.24");
  const right = tableOf(".panel.right .cache").rows;
  assert.deepEqual(
    right.map(([name, ...values]) => [name, values.length]),
    [
      ["value", 7],
      ["latent c_KV", 7],
      ["rope key k_R", 2],
    ],
  );
});

test("a table follows the step, the layer and the head", () => {
  for (const picture of PICTURES) {
    const wanted = ["?step=2&layer=2&head=2&phase=6", "?step=2&phase=6"].map(
      (search) => tableOf(picture, { ...AT_THE_FOX, search }).rows,
    );
    const { page } = tableOf(picture);
    page.press("ArrowLeft");
    page.frame();
    const shown = [cells(page, picture)];
    for (const select of ["layer", "head"].map((name) => page.find(`select[name=${name}]`))) {
      select.value = "0";
      page.fire(select, "change");
    }
    page.frame();
    assert.deepEqual([...shown, cells(page, picture)], wanted, picture);
  }
});

test("where there is nothing to tell, the table says so in words", () => {
  const nothing = edited("golden_models.bin", ({ left }) => {
    left.attention.steps.offset += 4;
    left.attention.steps.shape = [1];
  });
  const at = (picture) => tableOf(picture, { bytes: nothing, search: "?step=1" });
  for (const picture of [".panel.left .heads", ".panel.left .triangle"]) {
    const { note, rows } = at(picture);
    assert.deepEqual([note, rows], ["No weights kept this early: the first are of step 3.", []]);
  }
  const { note, rows } = at(".panel.right .cache");
  assert.deepEqual([note, rows], ["Nothing is cached.", []]);
});

test("of many keys a table has the last, and says how many there are", () => {
  const run = { tokens: Array.from({ length: 100 }, () => ({ text: "a" })) };
  const stored = (keys) => Float32Array.from({ length: keys }, (_, key) => key / 100);
  const { shown, columns, rows } = weightTable(run, { exact: false, scale: (full) => full }, 100, [
    { name: "new", stored: stored(100) },
    { name: "old", stored: stored(38) },
  ]);
  assert.equal(shown, "keys 37 to 100 of 100, rounded");
  assert.deepEqual([columns.length, columns[0], columns.at(-1)], [64, "37 a", "100 a"]);
  assert.deepEqual(rows[0].values.slice(0, 2), [0.36, 0.37].map(Math.fround));
  assert.deepEqual(rows[1].values.slice(0, 3), [...[0.36, 0.37].map(Math.fround), null]);
});

test("no table is longer than can be made at every step, and it says what it leaves out", () => {
  const large = edited("golden.bin", ({ left, right }) => {
    const parts = [
      { label: "k", elems: 4000 },
      { label: "v", elems: 1000 },
    ];
    left.n_heads = 100;
    const segments = [
      { label: "head 1", elems: 5000, parts },
      { label: "head 2", elems: 1, parts: [] },
    ];
    Object.assign(left.layers[0], { cache_elems: 5001, segments });
    const latent = [{ label: "latent", elems: 5000, parts: [] }];
    Object.assign(right.layers[0], { cache_elems: 5000, segments: latent });
  });
  const sizes = [".left .cache", ".right .cache", ".left .heads"].map((part) => {
    const { note, rows } = tableOf(`.panel${part}`, { bytes: large, search: "?step=3" });
    return [note.split(": ")[1], rows.slice(1).map(({ length }) => length - 1)];
  });
  assert.deepEqual(sizes.slice(0, 2), [
    ["4096 of 5001 values, one byte each.", [4000, 96]],
    ["4096 of 5000 values, one byte each.", [4096]],
  ]);
  assert.match(sizes[2][0], /^64 of 100 heads,/);
  assert.equal(sizes[2][1].length, 64);
});

test("keys that scroll a table are its own, space still plays", () => {
  const { page } = tableOf(".panel.left .cache");
  const scroller = page.find(".panel.left .cache .scroller");
  for (const key of ["ArrowLeft", "Home"]) page.fire(scroller, "keydown", { key });
  assert.equal(Number(page.root.dataset.step), 2);
  page.fire(scroller, "keydown", { key: " " });
  assert.equal(page.root.dataset.playing, "true");
});

test("a picture that gave its place to a table is no less up to date than before", () => {
  const page = show(AT_THE_FOX);
  press(page, ".panel.left .heads");
  const calls = page.drawn(".panel.left .heads canvas");
  page.press("ArrowLeft");
  page.frame();
  press(page, ".panel.left .heads");
  assert.notEqual(page.drawn(".panel.left .heads canvas"), calls);
  assert.match(page.text(".panel.left .heads .caption"), /over 2 tokens$/);
});
