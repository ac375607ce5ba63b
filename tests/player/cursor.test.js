// The cell cursor: keys reach in every picture what a mouse reaches, say the same, and go to the same places.

import assert from "node:assert/strict";
import { test } from "node:test";

import { keyedTo } from "../../mla_viz/player/src/cursor.js";
import { edited, show } from "./golden.js";

const PICTURES = [
  ".growth",
  ...["left", "right"].flatMap((side) =>
    ["cache", "heads", "triangle"].map((part) => `.panel.${side} .${part}`),
  ),
];
const AT_THE_FOX = { search: "?step=3&layer=2&head=2", width: 366 };

/** The canvas of a picture, reached by the keyboard, with what a test does to it. */
function reach(page, picture) {
  const canvas = page.find(`${picture} canvas`);
  const key = (name, more = {}) => page.fire(canvas, "keydown", { key: name, ...more });
  page.fire(canvas, "focus");
  return { canvas, key, told: () => (page.find(".tooltip").hidden ? null : page.text(".tooltip")) };
}

/** The middle of the outlined cell. */
function middle(page) {
  const { left, top, width, height } = page.find(".cell").style;
  const [x, y, wide, high] = [left, top, width, height].map(Number.parseFloat);
  return { offsetX: x + wide / 2, offsetY: y + high / 2, clientX: 0, clientY: 0 };
}

const step = (page) => Number(page.root.dataset.step);
const spoken = (page) => {
  page.rest(200);
  return page.text(".told");
};

test("arrows, Home, End and page keys go from cell to cell, and stay inside", () => {
  const ragged = { rows: 30, columns: (row) => row + 1 };
  const flat = { rows: 1, columns: () => 30 };
  const go = (key, row, column, more = {}, grid = ragged) => {
    const to = keyedTo({ key, ...more }, { row, column }, grid);
    return to && [to.row, to.column];
  };
  const ctrlKey = true;
  assert.deepEqual(
    [
      go("ArrowRight", 5, 2),
      go("ArrowRight", 5, 5),
      go("ArrowLeft", 5, 0),
      go("ArrowUp", 5, 5),
      go("ArrowDown", 29, 3),
      go("Home", 5, 3),
      go("End", 5, 3),
      go("PageDown", 5, 3),
      go("PageDown", 25, 3),
      go("PageUp", 25, 20),
      go("PageDown", 0, 3, {}, flat),
      go("PageUp", 0, 3, {}, flat),
      go("Home", 5, 3, { ctrlKey }),
      go("End", 5, 3, { ctrlKey }),
    ],
    [
      [5, 3],
      [5, 5],
      [5, 0],
      [4, 4],
      [29, 3],
      [5, 0],
      [5, 5],
      [15, 3],
      [29, 3],
      [15, 15],
      [0, 13],
      [0, 0],
      [0, 0],
      [29, 29],
    ],
  );
  for (const key of [" ", "[", "]", "a", "Tab", "Enter", "Escape"])
    assert.equal(go(key, 5, 3), undefined, key);
  assert.equal(go("ArrowRight", 5, 3, { ctrlKey }), undefined);
  for (const other of ["altKey", "metaKey"]) assert.equal(go("Home", 5, 3, { [other]: true }), undefined);
});

test("in every picture every cell says by key what it says under a mouse", () => {
  // Where a cached element is narrower than its outline too; the chart has no room there.
  const narrow = PICTURES.slice(1).map((picture) => [picture, 120]);
  for (const [picture, width] of [...PICTURES.map((picture) => [picture, 366]), ...narrow]) {
    const page = show({ ...AT_THE_FOX, width });
    const { canvas, key, told } = reach(page, picture);
    const seen = new Set();
    key("Home", { ctrlKey: true });
    for (let row = 0, before; before !== middle(page).offsetY; row += 1) {
      before = middle(page).offsetY;
      for (let words; words !== told(); key("ArrowRight")) {
        words = told();
        seen.add(words);
        page.fire(canvas, "pointermove", middle(page));
        assert.equal(told(), words, `${picture}, row ${row}`);
      }
      key("Home");
      key("ArrowDown");
    }
    const cells = picture === ".growth" ? 4 : { cache: [99, 27], heads: [9, 9], triangle: [6, 6] };
    const [, side, part] = picture.match(/(left|right) \.(\w+)/) ?? [];
    assert.equal(seen.size, part ? cells[part][side === "left" ? 0 : 1] : cells, picture);
  }
});

test("a cell is spoken with its neighbours, once the keys rest", () => {
  const page = show(AT_THE_FOX);
  const { key } = reach(page, ".panel.left .triangle");
  assert.equal(page.text(".told"), "");
  for (const name of ["Home", "ArrowRight", "ArrowUp"]) key(name);
  page.rest(149);
  assert.equal(page.text(".told"), "");
  page.rest(1);
  // Layer 2, head 2: query 2 holds 14 and 15 64ths, query 3 from 30 on.
  assert.equal(page.text(".told"), "head 2, query 2 ␣⏎, token 2 ␣⏎, 0.234375000; left 0.219; below 0.484");
  key("ArrowLeft");
  assert.match(spoken(page), /, 0\.218750000; right 0\.234; above 0\.0\d\d; below 0\.469$/);
});

test("the chart tells every line's bytes at a token", () => {
  const page = show(AT_THE_FOX);
  const { key, told } = reach(page, ".growth");
  key("ArrowLeft");
  assert.equal(told(), "token 2 ␣⏎\nnaive 264 B\nabsorbed 72 B\nMHA 3×5 240 B\nMQA 1×5 80 B");
  assert.match(spoken(page), /; left 132 B and 36 B; right 396 B and 108 B$/);
});

test("inside a picture arrows are the cell's; Escape gives them back, and Enter takes them again", () => {
  const page = show(AT_THE_FOX);
  const { key, told } = reach(page, ".panel.right .heads");
  for (const name of ["ArrowLeft", "Home", "End", "ArrowRight", "ArrowUp"]) key(name);
  assert.equal(step(page), 2);
  assert.match(told(), /^head 1\n/);
  key("Escape");
  assert.deepEqual([told(), page.find(".cell"), spoken(page)], [null, null, ""]);
  key("ArrowLeft");
  assert.equal(step(page), 1);
  page.frame();
  key("Enter");
  assert.match(told(), /^head 1\ntoken 2/);
  key("ArrowRight");
  assert.equal(step(page), 1);
});

test("other keys stay the player's inside a picture", () => {
  const page = show(AT_THE_FOX);
  const { key } = reach(page, ".panel.right .heads");
  key(" ");
  assert.equal(page.root.dataset.playing, "true");
});

test("a mouse's focus leaves the arrows to the player", () => {
  const page = show(AT_THE_FOX);
  page.find(".panel.left .heads canvas").focusVisible = false;
  const { key, told } = reach(page, ".panel.left .heads");
  key("ArrowLeft");
  assert.deepEqual([step(page), told()], [1, null]);
});

test("another place gets the focus: the cursor is gone", () => {
  const page = show(AT_THE_FOX);
  const { canvas, told } = reach(page, ".growth");
  page.fire(canvas, "blur");
  assert.deepEqual([told(), page.find(".cell"), spoken(page)], [null, null, ""]);
});

/** Where a picture's first cell leads: the step and the head, after what is done to it. */
function wentTo(picture, go) {
  const page = show({ ...AT_THE_FOX, search: "?step=3&layer=2&head=3" });
  const { canvas, key, told } = reach(page, picture);
  key("Home", { ctrlKey: true });
  const where = middle(page);
  page.fire(canvas, "pointerleave");
  go({
    key,
    click: () => page.fire(canvas, "click", where),
    tap: (right = 0) => {
      const before = told();
      page.fire(canvas, "click", { ...where, offsetX: where.offsetX + right, pointerType: "touch" });
      assert.notEqual(told(), null);
      if (before && right <= 12) assert.equal(told(), before);
    },
  });
  return [step(page), Number(page.find("select[name=head]").value)];
}

test("a click, Enter and a second tap go to the step or the head of a cell; the first tap only tells", () => {
  for (const picture of PICTURES) {
    const [there, here] = [picture.endsWith("heads") ? [2, 0] : [0, 2], [2, 2]];
    const ways = [
      [there, ({ click }) => click()],
      [there, ({ key }) => key("Enter")],
      [here, ({ tap }) => tap()],
      [there, ({ tap }) => [0, 12].forEach(tap)],
      [here, ({ tap }) => [0, 13].forEach(tap)],
    ];
    for (const [expected, go] of ways) assert.deepEqual(wentTo(picture, go), expected, `${picture}: ${go}`);
  }
});

test("keys go on from the value that was clicked", () => {
  const page = show(AT_THE_FOX);
  const { canvas, key, told } = reach(page, ".panel.left .heads");
  key("Escape");
  page.fire(canvas, "click", { offsetX: 34 + 10, offsetY: 30, clientX: 0, clientY: 0 });
  key("Enter");
  key("ArrowRight");
  assert.match(told(), /^head 3\ntoken 2 /);
});

test("the cursor starts at the chosen head and the current token", () => {
  const { told } = reach(show(AT_THE_FOX), ".panel.left .heads");
  assert.match(told(), /^head 2\ntoken 3 /);
});

test("a kept query leads to its own step, not to that of its row", () => {
  const page = show({ name: "golden_models.bin" });
  const where = { offsetX: 34 + 10, offsetY: 120, clientX: 0, clientY: 0 };
  page.fire(page.find(".panel.left .triangle canvas"), "click", where);
  assert.equal(step(page), 2);
});

test("beside the chart's lines there is nothing to tell and nowhere to go", () => {
  for (const offsetX of [10, 360]) {
    const page = show(AT_THE_FOX);
    page.fire(page.find(".growth canvas"), "click", { offsetX, offsetY: 60, clientX: 0, clientY: 0 });
    assert.deepEqual([step(page), page.find(".tooltip").hidden], [2, true]);
  }
});

test("a step of one's own stops playing, from a picture and from a chip too", () => {
  for (const [selector, where] of [
    [".chip", {}],
    [".growth canvas", { offsetX: 70, offsetY: 60, clientX: 0, clientY: 0 }],
  ]) {
    const page = show(AT_THE_FOX);
    page.press(" ");
    page.fire(page.find(selector), "click", where);
    page.frame(2000);
    assert.deepEqual([step(page), page.root.dataset.playing], [0, "false"], selector);
  }
});

test("a cursor whose cell is no more stands on the nearest one that is", () => {
  const page = show(AT_THE_FOX);
  const { key, told } = reach(page, ".panel.left .triangle");
  key("End", { ctrlKey: true });
  assert.match(told(), /query 3.*\ntoken 3/);
  page.press("ArrowLeft");
  page.frame();
  assert.match(told(), /query 2.*\ntoken 2/);
});

test("where a picture has no cell, the keys are the player's", () => {
  const nothing = edited("golden_models.bin", ({ left }) => {
    left.attention.steps.offset += 4;
    left.attention.steps.shape = [1];
  });
  for (const picture of [".panel.left .heads", ".panel.left .triangle", ".panel.right .cache"]) {
    const page = show({ bytes: nothing, search: "?step=1" });
    const { key, told } = reach(page, picture);
    key("Enter");
    key("ArrowRight");
    assert.deepEqual([told(), step(page)], [null, 1], picture);
  }
});

test("every canvas is one tab stop that says what it is and which keys it takes", () => {
  const page = show(AT_THE_FOX);
  const help = page.find(".keys").getAttribute("id");
  for (const picture of PICTURES) {
    const canvas = page.find(`${picture} canvas`);
    const said = ["tabindex", "role", "aria-describedby"].map((name) => canvas.getAttribute(name));
    assert.deepEqual(said, ["0", "application", help], picture);
    for (const name of ["aria-roledescription", "aria-label"]) assert.ok(canvas.getAttribute(name), picture);
  }
});
