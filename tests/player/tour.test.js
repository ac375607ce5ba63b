// The tour: where its stops stand, what they ask of the golden runs, and its card.

import assert from "node:assert/strict";
import { test } from "node:test";

import { readRun } from "../../mla_viz/player/src/payload.js";
import { positionOf, STOPS, tellStop } from "../../mla_viz/player/src/stops.js";
import { alone, edited, MODELS, SAME, show } from "./golden.js";

const sight = (run, more = {}) => ({ run, step: 3, layer: 0, head: 0, ...more });
const TOUR = ".tour";
const card = (page) => page.find(TOUR);
const choices = (page) => page.root.querySelectorAll(".choice");
const click = (page, action) => page.fire(page.find(`[data-action=tour-${action}]`), "click");

test("every stop asks a question with one right choice among different ones, of any run", () => {
  for (const run of [SAME, MODELS, readRun(alone())]) {
    for (const step of run.left.vectors.steps.data) {
      STOPS.forEach((_, stop) => {
        const { question, choices, right, because } = tellStop(sight(run, { step }), stop);
        assert.ok(choices.length > 1 && new Set(choices).size === choices.length, choices.join());
        assert.ok(choices[right], `${stop}: ${right}`);
        for (const words of [question, because, ...choices])
          assert.ok(!/NaN|undefined|Infinity|null/.test(words) && words.length > 0, `${stop}: ${words}`);
      });
    }
  }
});

test("a stop stands at the chosen step where its vectors are, at a good one otherwise", () => {
  assert.deepEqual(positionOf(sight(SAME, { step: 2 }), 2), { step: 2, layer: 0, playing: false });
  assert.equal(positionOf(sight(SAME, { step: 0 }), 2).step, 3);
  assert.equal(positionOf(sight(MODELS, { step: 1 }), 2).step, 2);
  assert.equal(positionOf(sight(SAME, { layer: 7 }), 2).layer, 0);
  const inside = { inside: true, at: 2, phasing: false };
  assert.deepEqual(positionOf(sight(SAME), 4), { step: 3, layer: 0, playing: false, ...inside });
});

test("a first visit opens at step 1 and offers the tour, once", () => {
  const page = show({ search: "" });
  assert.equal(page.root.dataset.step, "0");
  assert.equal(page.find(".offer").hidden, false);
  click(page, "decline");
  assert.equal(page.find(".offer").hidden, true);
  assert.equal(show({ search: "", kept: page.kept }).find(".offer").hidden, true);
});

test("the card asks, marks the choice and the right one, and tells why", () => {
  const page = show({ search: "" });
  click(page, "begin");
  page.frame();
  assert.equal(card(page).hidden, false);
  assert.equal(page.text(".tour h3"), "1 of 10 · What is a key?");
  assert.equal(page.text(".because"), "");
  const { right, because } = tellStop(sight(SAME), 0);
  const wrong = right === 0 ? 1 : 0;
  page.fire(choices(page)[wrong], "click");
  assert.equal(page.text(".because"), `No. ${because}`);
  assert.deepEqual(
    [right, wrong].map((index) => choices(page)[index].dataset.mark),
    ["right", "wrong"],
  );
  page.press(String(right + 1));
  assert.equal(page.text(".because"), `No. ${because}`, "the first guess counts");
  click(page, "next");
  assert.equal(page.text(".tour h3"), "2 of 10 · Why keep it?");
  assert.equal(page.find(".tokens").classList.contains("pointed"), true);
  click(page, "answer");
  assert.equal(page.text(".because"), tellStop(sight(SAME), 1).because);
  click(page, "back");
  assert.equal(page.text(".because"), `No. ${because}`);
});

test("a right guess is told so, and plays the phase that shows it", () => {
  const page = show({ search: "?tour=6" });
  assert.equal(page.text(".tour h3"), "6 of 10 · The same number?");
  page.press(String(tellStop(sight(SAME), 5).right + 1));
  assert.match(page.text(".because"), /^Yes\. /);
  assert.equal(page.find(".inside").dataset.phasing, "true");
  for (let frame = 0; frame < 200; frame += 1) page.frame();
  assert.equal(page.find(".phases input").value, "4");
});

test("the place is in the address, is found again, and Escape leaves it", () => {
  const page = show({ search: "?a=b&tour=3&step=3" });
  page.rest(1000);
  assert.match(page.written.url, /a=b&step=3&.*&tour=3/);
  const { activeElement: before } = page.document;
  page.press("Escape");
  page.rest(1000);
  assert.equal(card(page).hidden, true);
  assert.doesNotMatch(page.written.url, /tour/);
  assert.notEqual(page.document.activeElement, before);
  assert.equal(page.document.activeElement, page.find("[data-action=tour-toggle]"));
  assert.equal(page.root.querySelectorAll(".pointed").length, 0);
  click(page, "toggle");
  assert.equal(page.text(".tour h3"), "3 of 10 · What the left side keeps");
  const again = show({ search: "?tour=99", kept: "3" });
  assert.match(again.text(".tour h3"), /^10 of 10/);
  click(again, "next");
  assert.equal(card(again).hidden, true);
});

test("a browser without storage shows the tour all the same", () => {
  const page = show({ search: "" });
  page.window.localStorage.setItem = page.window.localStorage.getItem = () => {
    throw new Error("denied");
  };
  click(page, "begin");
  assert.equal(card(page).hidden, false);
});

test("without a rounding of its own a difference is told as one", () => {
  const bytes = edited("golden.bin", (header) => {
    header.dtype = "float64";
  });
  const page = show({ bytes, search: "?tour=6" });
  click(page, "answer");
  assert.match(page.text(".because"), /which is more than rounding makes/);
});
