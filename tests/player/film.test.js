// The film of some steps: its moments, what it may be asked for, and the recorder that is told what to do.

import assert from "node:assert/strict";
import { resolveObjectURL } from "node:buffer";
import { test } from "node:test";

import { momentAt, stepSeconds, withDuration } from "../../mla_viz/player/src/film.js";
import { edited, show } from "./golden.js";

const OPEN = { search: "?step=3&layer=2&head=2&phase=6&speed=8", width: 900 };
// At speed 8 six phases take 1.5 seconds, and what is done stays for one more.
const EACH = 2.5;

/** A recorder that writes down what it is told, and makes a film of that. */
function withRecorder(able = (type) => type.includes("vp8")) {
  const told = [];
  globalThis.MediaRecorder = class extends EventTarget {
    static isTypeSupported = able;
    constructor(stream, options) {
      super();
      told.push(["new", stream.rate, options.mimeType]);
      told.canvas = stream.canvas;
      told.piece = () =>
        this.dispatchEvent(
          Object.assign(new Event("dataavailable"), { data: new Blob(["film".repeat(99)]) }),
        );
    }
    start = () => told.push("start");
    pause = () => told.push("pause");
    resume = () => told.push("resume");
    stop = () => {
      told.push("stop");
      this.dispatchEvent(new Event("stop"));
    };
  };
  return told;
}

const settled = () => new Promise(setImmediate);
const said = (page) => page.text(".film [role=status]");
const texts = (canvas) =>
  canvas
    .getContext("2d")
    .calls.filter(({ name }) => name === "fillText")
    .map(({ args }) => args[0]);

/** Ask for a film of these steps, as a visitor does. */
async function ask(page, first, last) {
  const [from, to] = page.root.querySelectorAll(".film input");
  [from.value, to.value] = [first, last];
  page.fire(page.find(".film button"), "click");
  await settled();
}

/** The next frame, and a piece from the recorder before it. */
async function play(page, told, ms = 200) {
  told.piece();
  page.frame(ms);
  await settled();
}

/** A player whose step is open, and the form of its film too. */
function opened(options = OPEN) {
  const page = show(options);
  const toggle = page.root.querySelectorAll(".inside .tools button").at(-1);
  page.fire(toggle, "click");
  return { page, toggle };
}

test("a film goes through the phases of each step, stays a second with it, and ends", () => {
  assert.equal(stepSeconds({ speedName: "8" }), EACH);
  assert.equal(stepSeconds({ speedName: "1" }), 13);
  const range = { first: 1, last: 2 };
  const at = (seconds) => momentAt(range, EACH, seconds);
  assert.deepEqual(at(0), { step: 1, at: 0 });
  assert.deepEqual(at(0.75), { step: 1, at: 3 });
  assert.deepEqual(at(1.5), { step: 1, at: 6 });
  assert.deepEqual(at(2.4), { step: 1, at: 6 });
  assert.deepEqual(at(2.5 + 0.25), { step: 2, at: 1 });
  assert.equal(at(5), null);
});

test("the form opens at the step in sight, and again at the one that is then", () => {
  withRecorder();
  const { page, toggle } = opened();
  const fields = () => page.root.querySelectorAll(".film input").map(({ value }) => value);
  assert.deepEqual([page.find(".film").hidden, toggle.getAttribute("aria-expanded")], [false, "true"]);
  assert.deepEqual(fields(), ["3", "3"]);
  page.fire(toggle, "click");
  assert.deepEqual([page.find(".film").hidden, toggle.getAttribute("aria-expanded")], [true, "false"]);
  page.press("ArrowLeft");
  page.frame();
  page.fire(toggle, "click");
  assert.deepEqual(fields(), ["2", "2"]);
});

test("a range that is none is refused in a line, and nothing is recorded", async () => {
  const told = withRecorder();
  const { page } = opened();
  for (const [first, last, got] of [
    ["0", "2", "0 to 2"],
    ["2", "5", "2 to 5"],
    ["3", "2", "3 to 2"],
    ["1.5", "2", "1.5 to 2"],
    ["", "2", "none to 2"],
  ]) {
    await ask(page, first, last);
    const words = `Expected whole steps from 1 to 4, the first not after the last; got ${got}.`;
    assert.equal(said(page), words);
  }
  assert.deepEqual(told, []);
});

test("a step whose vectors did not travel is refused by its number", async () => {
  const told = withRecorder();
  const { page } = opened({
    ...OPEN,
    bytes: edited("golden_models.bin", () => {}),
    search: "?step=3&phase=6",
  });
  await ask(page, "2", "3");
  assert.match(said(page), /^The vectors of step 2 did not travel/);
  assert.deepEqual(told, []);
});

test("without a recorder of WebM the control says so", async () => {
  for (const none of [() => delete globalThis.MediaRecorder, () => withRecorder(() => false)]) {
    none();
    const { page } = opened();
    const words = "This browser cannot record a film: it has no MediaRecorder for WebM.";
    assert.equal(said(page), words);
    await ask(page, "3", "3");
    assert.equal(said(page), words);
  }
});

test("a film is drawn beside the page, frame by frame, and saved under its steps", async () => {
  const told = withRecorder();
  const { page } = opened();
  await ask(page, "2", "3");
  assert.deepEqual(told.slice(0, 2), [["new", 30, "video/webm;codecs=vp8"], "start"]);
  assert.deepEqual(
    [page.text(".film button"), said(page), page.find(".film progress").hidden],
    ["Stop and save", "Recording.", false],
  );
  const live = page.drawn(".inside canvas");
  assert.equal(texts(told.canvas)[0], "Inside step 2 of 4, layer 2, head 2, project");
  const titles = new Set();
  const progress = [];
  for (let frames = 0; frames < 40 && !told.includes("stop"); frames += 1) {
    await play(page, told);
    titles.add(texts(told.canvas)[0]);
    progress.push(page.find(".film progress").value ?? 0);
  }
  const name = (step, phase) => `Inside step ${step} of 4, layer 2, head 2${phase}`;
  const phases = [", project", ", cache", ", score", ", softmax", ", mix", ", output", ""];
  for (const step of [2, 3]) assert.ok(titles.has(name(step, "")), [...titles].join());
  for (const title of titles)
    assert.ok(
      [2, 3].some((step) => phases.some((phase) => title === name(step, phase))),
      title,
    );
  assert.deepEqual(
    progress,
    progress.toSorted((a, b) => a - b),
  );
  await settled();
  const [link] = page.document.clicked;
  assert.equal(link.download, "mla-viz-inside-steps-1-2-layer-1-head-1.webm");
  assert.match(await resolveObjectURL(link.href).text(), /^(film)+$/);
  assert.equal(resolveObjectURL(link.href).type, "video/webm");
  assert.deepEqual(
    [page.text(".film button"), said(page), page.find(".film progress").hidden],
    ["Record WebM", `Saved ${link.download}.`, true],
  );
  assert.deepEqual(
    [page.root.dataset.step, page.drawn(".inside canvas")],
    ["2", live],
    "the page stays where it was",
  );
});

test("a film that is stopped is saved as far as it got", async () => {
  const told = withRecorder();
  const { page, toggle } = opened();
  await ask(page, "1", "4");
  for (let presses = 0; presses < 2; presses += 1) page.fire(toggle, "click");
  assert.deepEqual(
    page.root.querySelectorAll(".film input").map(({ value }) => value),
    ["1", "4"],
  );
  for (let frames = 0; frames < 15; frames += 1) await play(page, told);
  page.fire(page.find(".film button"), "click");
  for (let frames = 0; frames < 4; frames += 1) await play(page, told);
  assert.equal(told.at(-1), "stop");
  assert.equal(page.document.clicked[0].download, "mla-viz-inside-steps-0-1-layer-1-head-1.webm");
  assert.equal(page.text(".film button"), "Record WebM");
});

test("in a tab out of sight the film waits, and no time passes in it", async () => {
  const told = withRecorder();
  const { page } = opened();
  await ask(page, "3", "3");
  await play(page, told);
  for (const hidden of [true, false]) {
    page.document.hidden = hidden;
    page.document.dispatchEvent({ type: "visibilitychange" });
  }
  await play(page, told, 60_000);
  assert.deepEqual(told.slice(2), ["pause", "resume"]);
  assert.ok(page.find(".film progress").value < 0.2);
});

test("a recorder that is slow is waited for before the first phase and behind the last", async () => {
  const told = withRecorder();
  const { page } = opened();
  await ask(page, "3", "3");
  const frames = async (count) => {
    for (let frame = 0; frame < count; frame += 1) {
      page.frame(200);
      await settled();
    }
  };
  await frames(10);
  assert.equal(page.find(".film progress").value, undefined);
  await play(page, told);
  await frames(20);
  assert.ok(!told.includes("stop"));
  for (let piece = 0; piece < 2; piece += 1) await play(page, told);
  assert.ok(told.includes("stop"));
});

test("a recorder that makes nothing is not waited for without end, and that is said", async () => {
  const told = withRecorder();
  const { page } = opened();
  await ask(page, "3", "3");
  for (let frame = 0; frame < 80 && !told.includes("stop"); frame += 1) {
    page.frame(200);
    await settled();
  }
  await settled();
  assert.equal(said(page), "Not saved: the browser's recorder made nothing: it may be too busy.");
  assert.deepEqual(page.document.clicked, []);
});

test("a film's length is written into its head, once, and what has another head is left alone", () => {
  const info = [0x15, 0x49, 0xa9, 0x66];
  const film = Uint8Array.of(0x1a, 0x45, ...info, 0x83, 1, 2, 3, 0x16, 9);
  const timed = withDuration(film, 2500);
  assert.deepEqual([...timed.subarray(0, 7)], [0x1a, 0x45, ...info, 0x83 + 11]);
  assert.deepEqual([...timed.subarray(7, 10)], [0x44, 0x89, 0x88]);
  assert.equal(new DataView(timed.buffer).getFloat64(10), 2500);
  assert.deepEqual([...timed.subarray(18)], [1, 2, 3, 0x16, 9]);
  for (const other of [
    timed,
    Uint8Array.of(1, 2, 3),
    Uint8Array.of(...info, 0x40, 9),
    Uint8Array.of(...info, 0xfa, 1),
  ])
    assert.equal(withDuration(other, 2500), other);
});

test("what is drawn wrongly ends the film, and that is said", async () => {
  withRecorder();
  const { page } = opened();
  await ask(page, "3", "3");
  page.window.devicePixelRatio = 1;
  const make = page.document.createElement;
  page.document.createElement = (tag) => {
    if (tag === "canvas") throw new Error("no canvas left");
    return make(tag);
  };
  page.frame(200);
  await settled();
  assert.equal(said(page), "Not saved: no canvas left.");
  assert.equal(page.text(".film button"), "Record WebM");
});

test("keys in the fields are the fields' own", () => {
  withRecorder();
  const { page } = opened();
  const [field] = page.root.querySelectorAll(".film input");
  for (const key of ["ArrowLeft", "Home", " ", "["]) page.fire(field, "keydown", { key });
  assert.deepEqual([page.root.dataset.step, page.root.dataset.playing], ["2", "false"]);
});
