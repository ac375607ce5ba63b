// How a visitor moves: buttons, range, keys, menus, chips, pointer, clock and address.

import assert from "node:assert/strict";
import { test } from "node:test";

import { mount } from "../../mla_viz/player/src/player.js";
import { tooltipPlace } from "../../mla_viz/player/src/tooltip.js";
import { openPage } from "./fake_page.js";
import { edited, packed, SAME, show } from "./golden.js";

const step = (page) => Number(page.root.dataset.step);
const click = (page, action) => page.fire(page.find(`[data-action=${action}]`), "click");
const disabled = (page) =>
  ["first", "back", "play", "forward", "last"].filter(
    (action) => page.find(`[data-action=${action}]`).getAttribute("aria-disabled") === "true",
  );

test("buttons go to the step they name, and say where they end", () => {
  const page = show({ search: "?step=2" });
  const went = ["forward", "last", "forward", "back", "first", "back"].map((action) => {
    click(page, action);
    return step(page);
  });
  assert.deepEqual(went, [2, 3, 3, 2, 0, 0]);
  assert.deepEqual(disabled(page), ["first", "back"]);
  click(page, "last");
  assert.deepEqual(disabled(page), ["forward", "last"]);
  click(page, "back");
  assert.deepEqual(disabled(page), []);
});

test("keys do what the buttons do", () => {
  const page = show({ search: "?step=2" });
  const went = ["ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft", "x"].map((key) => {
    page.press(key);
    return step(page);
  });
  assert.deepEqual(went, [2, 1, 3, 3, 0, 0, 0]);
});

test("keys with a modifier, in a menu, or space on a button belong to others", () => {
  const page = show({ search: "?step=2" });
  for (const modifier of ["ctrlKey", "metaKey", "altKey"]) page.press("ArrowRight", { [modifier]: true });
  page.fire(page.find("select[name=layer]"), "keydown", { key: "ArrowRight" });
  page.fire(page.find("[data-action=play]"), "keydown", { key: " " });
  assert.deepEqual([step(page), page.root.dataset.playing], [1, "false"]);
  page.fire(page.find("[data-action=play]"), "keydown", { key: "ArrowRight" });
  assert.equal(step(page), 2);
});

test("a key that was used does nothing else", () => {
  const page = show();
  const prevented = (key) => {
    let called = false;
    page.press(key, {
      preventDefault() {
        called = true;
      },
    });
    return called;
  };
  assert.deepEqual([prevented("Home"), prevented("x")], [true, false]);
});

test("the range and the chips go to a step", () => {
  const page = show();
  const range = page.find("input[type=range]");
  assert.deepEqual([range.max, range.value], ["3", "3"]);
  range.value = "1";
  page.fire(range, "input");
  assert.deepEqual([step(page), range.style["--done"]], [1, `${100 / 3}%`]);
  page.fire(page.root.querySelectorAll(".chip")[2], "click");
  assert.deepEqual([step(page), range.value], [2, "2"]);
  assert.equal(range.getAttribute("aria-valuetext"), "step 3 of 4 · 🦊 · prefill");
  assert.equal(page.text(".where"), "step 3 of 4 · 🦊 · prefill");
  page.fire(page.root.querySelectorAll(".chip")[4], "click");
  assert.equal(step(page), 3);
});

test("the line beside the controls has room for its widest words", () => {
  const words = "step 4 of 4 · ten chars. · generated";
  assert.equal(show().find(".where").style["--widest"], `${words.length}ch`);
});

test("playing goes two steps a second, times its speed, and stops at the end", () => {
  const page = show({ search: "?step=1" });
  const play = page.find("[data-action=play]");
  click(page, "play");
  assert.deepEqual(
    [page.root.dataset.playing, play.getAttribute("aria-label"), play.title],
    ["true", "Pause", "Pause (space)"],
  );
  page.frame(499);
  assert.equal(step(page), 0);
  page.frame(1);
  assert.equal(step(page), 1);
  const speed = page.find("select[name=speed]");
  speed.value = "4";
  page.fire(speed, "change");
  page.frame(124);
  assert.equal(step(page), 1);
  page.frame(1);
  assert.equal(step(page), 2);
  page.frame(125);
  assert.deepEqual([step(page), page.root.dataset.playing], [3, "false"]);
  assert.deepEqual([play.getAttribute("aria-label"), play.title], ["Play", "Play (space)"]);
  page.frame(1000);
  assert.equal(step(page), 3);
});

test("playing at the end starts anew, and any step of one's own stops it", () => {
  const page = show();
  page.press(" ");
  assert.deepEqual([step(page), page.root.dataset.playing], [0, "true"]);
  page.press("ArrowRight");
  assert.deepEqual([step(page), page.root.dataset.playing], [1, "false"]);
  page.frame(2000);
  assert.equal(step(page), 1);
});

test("while it plays the narration is spoken once a second", () => {
  const page = show({ search: "?step=1&speed=8" });
  const spoken = () => page.text(".narration .spoken").slice(0, 6);
  click(page, "play");
  page.frame(100);
  page.frame(0);
  assert.deepEqual(
    [step(page), spoken(), page.text(".narration .seen").slice(0, 6)],
    [1, "Step 1", "Step 2"],
  );
});

test("the address says where one stands, and keeps what is not its own", () => {
  const page = show({ search: "?prompt=a+b&step=2&layer=2&head=3&speed=2&seed=7", hash: "#here" });
  assert.deepEqual([step(page), page.root.dataset.steps], [1, "4"]);
  assert.deepEqual(
    ["layer", "head", "speed"].map((name) => page.find(`select[name=${name}]`).value),
    ["1", "2", "2"],
  );
  page.press("ArrowRight");
  page.rest(259);
  assert.equal(page.written, undefined);
  page.rest(1);
  assert.deepEqual(page.written, {
    state: "kept",
    url: "/app?prompt=a+b&seed=7&step=3&layer=2&head=3&speed=2#here",
  });
  assert.equal(page.stored, `step=3&layer=2&head=3&speed=2&prompt=${SAME.prompt}`);
});

test("an address that says so already is not written again", () => {
  const page = show({ search: "?step=2&layer=1&head=1&speed=1" });
  page.rest(300);
  assert.equal(page.written, undefined);
});

test("without a step in the address the tab's last place counts", () => {
  const stored = `step=2&layer=2&head=2&speed=0.5&prompt=${SAME.prompt}`;
  const page = show({ search: "?seed=7&layer=1", stored });
  assert.equal(step(page), 1);
  assert.deepEqual(
    ["layer", "head", "speed"].map((name) => page.find(`select[name=${name}]`).value),
    ["1", "1", "0.5"],
  );
});

test("an address out of range is brought into it, and an unknown one is the first step", () => {
  const at = (search) => {
    const page = show({ search });
    return [step(page), page.find("select[name=layer]").value, page.find("select[name=head]").value];
  };
  assert.deepEqual(at("?step=100&layer=9&head=9"), [3, "1", "2"]);
  assert.deepEqual(at("?step=-3&layer=0&head=0"), [0, "0", "0"]);
  assert.deepEqual(at("?step=x"), [0, "0", "0"]);
  assert.equal(show({ search: "?step=2&speed=3" }).find("select[name=speed]").value, "1");
});

test("a browser without storage shows the run all the same", () => {
  const page = show({ search: "?step=2" });
  page.window.sessionStorage.setItem = () => {
    throw new Error("denied");
  };
  page.press("ArrowRight");
  page.rest(300);
  assert.match(page.written.url, /step=3/);
});

test("menus count from one and offer what there is", () => {
  const page = show({ name: "golden_models.bin" });
  const offered = (name) =>
    page.find(`select[name=${name}]`).children.map(({ textContent, value }) => [textContent, value]);
  assert.deepEqual(offered("layer"), [["1", "0"]]);
  assert.deepEqual(offered("head"), [
    ["1", "0"],
    ["2", "1"],
    ["3", "2"],
    ["4", "3"],
  ]);
  const head = page.find("select[name=head]");
  head.value = "3";
  page.fire(head, "change");
  page.frame();
  assert.match(page.text(".panel.left .triangle .caption"), /^Head 4,/);
});

test("a click on a head chooses it", () => {
  const page = show();
  page.fire(page.find(".panel.right .heads canvas"), "click", { offsetX: 60, offsetY: 20 });
  page.frame();
  assert.equal(page.find("select[name=head]").value, "1");
  assert.match(page.text(".panel.left .triangle .caption"), /^Head 2,/);
  page.fire(page.find(".panel.right .heads canvas"), "click", { offsetX: 60, offsetY: 43 });
  assert.equal(page.find("select[name=head]").value, "1");
});

test("pointing at a map says what lies there", () => {
  const page = show({ search: "?step=3&layer=2&head=3" });
  const tooltip = page.find(".tooltip");
  const at = (selector, offsetX, offsetY) => {
    page.fire(page.find(selector), "pointermove", { offsetX, offsetY, clientX: 0, clientY: 0 });
    return tooltip.hidden ? null : tooltip.textContent;
  };
  // Layer 2 at step 2: head 2 holds 30 to 32 64ths, head 3 33 to 35; query 1 of head 3 16 and 17.
  assert.equal(at(".panel.left .heads canvas", 34 + 60, 20), "head 2\ntoken 2 ␣⏎\n0.484375000");
  assert.equal(at(".panel.right .heads canvas", 34 + 60, 20), "head 2\ntoken 2 ␣⏎\n0.500000000");
  assert.equal(at(".panel.left .heads canvas", 34 + 160, 20), null);
  assert.equal(at(".panel.left .heads canvas", 34 + 60, 43), null);
  assert.equal(
    at(".panel.left .triangle canvas", 34 + 60, 60),
    "head 3, query 2 ␣⏎\ntoken 2 ␣⏎\n0.265625000",
  );
  assert.equal(at(".panel.left .triangle canvas", 34 + 120, 60), null);
  assert.equal(at(".panel.left .triangle canvas", 34 + 10, 200), null);
  assert.match(at(".panel.left .cache canvas", 34, 11), /^token 3 🦊\nhead 1, k, value 1\n≈ /);
  page.fire(page.find(".panel.left .cache canvas"), "pointerleave");
  assert.equal(tooltip.hidden, true);
});

test("pointing at a kept query names it, not its row", () => {
  const page = show({ name: "golden_models.bin" });
  const where = { offsetX: 34 + 10, offsetY: 120, clientX: 0, clientY: 0 };
  page.fire(page.find(".panel.left .triangle canvas"), "pointermove", where);
  assert.equal(page.text(".tooltip"), "head 1, query 3 <b>\ntoken 1 one\n≈ 0.251 (rounded)");
});

test("a finger's tap tells a value until the next tap elsewhere", () => {
  const page = show({ search: "?step=3&layer=2&head=3" });
  const [tooltip, canvas] = [page.find(".tooltip"), page.find(".panel.left .triangle canvas")];
  const touch = { pointerType: "touch", clientX: 0, clientY: 0, offsetX: 34 + 60, offsetY: 60 };
  for (const type of ["pointerdown", "pointermove", "pointerleave"]) page.fire(canvas, type, touch);
  assert.equal(tooltip.hidden, true);
  page.fire(canvas, "click", touch);
  assert.equal(tooltip.textContent, "head 3, query 2 ␣⏎\ntoken 2 ␣⏎\n0.265625000");
  for (const type of ["pointerdown", "pointerleave"]) page.fire(canvas, type, touch);
  assert.equal(tooltip.hidden, false);
  page.fire(page.find(".badge"), "pointerdown", touch);
  assert.equal(tooltip.hidden, true);
  page.fire(canvas, "click", touch);
  page.fire(canvas, "click", { ...touch, offsetY: 200 });
  assert.equal(tooltip.hidden, true);
});

test("a tooltip that stays open tells what is there now", () => {
  const page = show({ search: "?step=3&layer=2&head=3" });
  const where = { offsetX: 34 + 60, offsetY: 20, clientX: 0, clientY: 0 };
  page.fire(page.find(".panel.left .heads canvas"), "pointermove", where);
  page.press("ArrowLeft");
  page.frame();
  assert.equal(page.text(".tooltip"), "head 2\ntoken 2 ␣⏎\n0.234375000");
  page.press("ArrowLeft");
  page.frame();
  assert.equal(page.find(".tooltip").hidden, true);
});

test("the tooltip follows the pointer inside its frame", () => {
  const page = show();
  page.find(".frame").box = { left: 10, top: 20, width: 400, height: 900 };
  const where = { offsetX: 40, offsetY: 5, clientX: 110, clientY: 220 };
  page.fire(page.find(".panel.left .cache canvas"), "pointermove", where);
  assert.equal(page.find(".tooltip").style.transform, "translate(114px, 218px)");
  page.window.innerHeight = 240;
  page.fire(page.find(".panel.left .cache canvas"), "pointermove", where);
  assert.equal(page.find(".tooltip").style.transform, "translate(114px, 190px)");
});

test("a tooltip stands below the pointer, inside the page, above it where there is no room", () => {
  const box = { width: 100, height: 40 };
  assert.deepEqual(tooltipPlace({ x: 50, y: 60 }, box, { width: 400, below: 500 }), [64, 78]);
  assert.deepEqual(tooltipPlace({ x: 350, y: 60 }, box, { width: 400, below: 67 }), [300, 78]);
  assert.deepEqual(tooltipPlace({ x: 350, y: 60 }, box, { width: 400, below: 66 }), [300, 10]);
  assert.deepEqual(tooltipPlace({ x: 5, y: 60 }, box, { width: 90, below: 500 }), [0, 78]);
});

test("attributes tell tests and hosts the step, and each painting is an event", () => {
  const page = show({ search: "?step=2" });
  const { step: at, steps, playing, leftBytes, rightBytes } = page.root.dataset;
  assert.deepEqual([at, steps, playing, leftBytes, rightBytes], ["1", "4", "false", "264", "72"]);
  page.events.length = 0;
  page.press("ArrowRight");
  page.press("ArrowRight");
  page.frame(16);
  assert.deepEqual(page.events, [{ step: 3, ms: 16 }]);
});

test("what is out of sight is painted once stepping rests", () => {
  const page = show({ search: "?step=1" });
  const card = page.find(".next");
  page.see([{ target: card, isIntersecting: false }]);
  page.frame();
  page.press("ArrowRight");
  page.frame();
  const first = () => page.text(".candidate .name");
  assert.equal(first(), "␣b");
  page.rest(119);
  assert.equal(first(), "␣b");
  page.rest(1);
  assert.equal(first(), "d");
});

/** A page whose prompt and generated tokens have room for two lines each, with a token a line. */
function narrowLanes(options) {
  const page = show(options);
  const lanes = page.root.querySelectorAll(".lane");
  for (const lane of lanes) {
    Object.assign(lane, { scrollTop: 0, box: { top: 100, height: 61 } });
    lane.children.forEach((chip, index) => {
      chip.box = { top: 103 + 30 * index, height: 25 };
    });
  }
  return { page, tops: () => lanes.map(({ scrollTop }) => scrollTop) };
}

test("a lane scrolls to the line before the current token, and stays where that is in view", () => {
  const { page, tops } = narrowLanes({ search: "?step=1" });
  page.press("ArrowRight");
  page.frame();
  assert.deepEqual(tops(), [0, 0]);
  page.press("ArrowRight");
  page.frame();
  assert.deepEqual(tops(), [30, 0]);
});

test("behind the prompt its end is in view", () => {
  const { page, tops } = narrowLanes({ search: "?step=1" });
  page.press("End");
  page.frame();
  assert.deepEqual(tops(), [30, 0]);
});

test("each token is a button with a name, and each lane one tab stop, next to the current token", () => {
  const page = show({ search: "?step=1" });
  const chips = page.root.querySelectorAll(".chip");
  assert.deepEqual(
    chips.map(({ localName, type }) => `${localName} ${type}`),
    Array(5).fill("button button"),
  );
  assert.deepEqual(
    chips.slice(0, 3).map((chip) => chip.getAttribute("aria-label")),
    ["token 1 Once", "token 2 ␣⏎", "token 3 🦊"],
  );
  const stops = ["Home", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"].map((key) => {
    page.press(key);
    page.frame();
    return chips.flatMap(({ tabIndex }, pos) => (tabIndex === 0 ? pos : []));
  });
  assert.deepEqual(stops, [
    [0, 3],
    [1, 3],
    [2, 3],
    [2, 3],
    [2, 3],
  ]);
});

test("the focus goes along with the current token while it is on one, and stays out of it otherwise", () => {
  const page = show({ search: "?step=1" });
  const chips = page.root.querySelectorAll(".chip");
  const go = (key) => {
    page.press(key);
    page.frame();
    return page.document.activeElement;
  };
  assert.equal(go("ArrowRight"), undefined);
  chips[1].focus();
  assert.deepEqual(
    ["ArrowRight", "End", "Home"].map((key) => chips.indexOf(go(key))),
    [2, 3, 0],
  );
  const play = page.find("[data-action=play]");
  play.focus();
  assert.equal(go("End"), play);
});

test("another run leaves the focus on its current token", () => {
  const page = show({ search: "?step=2" });
  page.root.querySelectorAll(".chip")[1].focus();
  page.player.load(prompted("golden.bin", "another"));
  page.player.recolour();
  page.frame();
  assert.equal(page.document.activeElement, page.root.querySelectorAll(".chip")[0]);
});

/** A golden run under another prompt, or under that of the first one. */
const prompted = (name, prompt = SAME.prompt) =>
  edited(name, (header) => {
    header.prompt = prompt;
  });

test("another run of a prompt keeps the place as far as it reaches; the same one changes nothing", () => {
  const page = show({ search: "?step=4&layer=2&head=2" });
  page.player.load(packed());
  assert.equal(page.root.dataset.models, "same");
  page.player.load(prompted("golden_models.bin"));
  page.player.recolour();
  page.frame();
  assert.equal(step(page), 2);
  assert.deepEqual(
    ["layer", "head"].map((name) => page.find(`select[name=${name}]`).value),
    ["0", "1"],
  );
  assert.equal(page.texts(".chip").length, 4);
  page.press("Home");
  page.player.load(packed());
  page.player.recolour();
  assert.deepEqual([step(page), page.find("select[name=head]").value], [0, "1"]);
});

test("a new prompt starts at its start, in the layer and head that are shown", () => {
  const page = show({ search: "?step=3&layer=2&head=2" });
  page.player.load(prompted("golden.bin", "another"));
  page.player.recolour();
  assert.equal(step(page), 0);
  assert.deepEqual(
    ["layer", "head"].map((name) => page.find(`select[name=${name}]`).value),
    ["1", "1"],
  );
  page.rest(300);
  assert.match(page.written.url, /step=1&layer=2&head=2/);
});

test("a step of the address that was left by another prompt is not taken", () => {
  const stored = "step=3&layer=1&head=1&speed=1&prompt=another";
  assert.equal(step(show({ search: "?step=3", stored })), 0);
  assert.equal(step(show({ search: "", stored })), 0);
  assert.equal(step(show({ search: "?step=2", stored })), 1);
  assert.equal(step(show({ search: "?step=3", stored: stored.replace("another", SAME.prompt) })), 2);
});

test("bytes that are shown already are not read again", () => {
  const bytes = packed();
  const page = show({ bytes });
  bytes.fill(0);
  page.player.load(bytes);
  assert.equal(page.root.dataset.steps, "4");
});

test("nothing goes on behind a player that was ended", () => {
  const page = show({ search: "?step=1" });
  page.press(" ");
  page.fire(page.find(".growth canvas"), "focus");
  page.player.destroy();
  assert.deepEqual([page.frames.size, page.timers.size, page.observers.length], [0, 0, 0]);
  assert.equal(page.document.listeners.length, 0);
});

test("keys before the first run do nothing", () => {
  const page = openPage();
  const player = mount(page.root);
  for (const key of ["ArrowRight", " "]) page.press(key);
  page.frame();
  assert.equal(page.root.dataset.step, undefined);
  player.load(packed());
  player.recolour();
  assert.equal(step(page), 0);
});
