import assert from "node:assert/strict";
import { test } from "node:test";

import { labelOf, progressOf, tagsOf } from "../../mla_viz/player/src/flow.js";
import { scoreWords, sumOf } from "../../mla_viz/player/src/flowcells.js";
import { laneAt, rowOf } from "../../mla_viz/player/src/lane.js";
import { atLayer } from "../../mla_viz/player/src/payload.js";
import { PHASES, phaseAt, phaseCounts } from "../../mla_viz/player/src/phases.js";
import { sceneOf } from "../../mla_viz/player/src/scene.js";
import { CUT, edited, MODELS, packed, SAME, show } from "./golden.js";

const START = { step: 2, layer: 0, head: 0 };
const PLACE = { step: 2, layer: 1, head: 2 };

test("keys and values are made from latents by the head's own matrices", () => {
  // Latents count up from 7000 by 9 a layer and 18 a token, W_UK from 9000, W_UV from 10000.
  const lane = laneAt(SAME, "left", PLACE);
  const latent = Array.from({ length: 7 }, (_, at) => 7000 + 18 * 1 + 9 + at);
  const [up, down] = [9000 + (3 + 2) * 28, 10000 + (3 + 2) * 35];
  const key = (at) => latent.reduce((sum, c, row) => sum + c * (up + row * 4 + at), 0);
  const value = (at) => latent.reduce((sum, c, row) => sum + c * (down + row * 5 + at), 0);
  assert.deepEqual([...rowOf(lane.keys, 1)], [key(0), key(1), key(2), key(3), 7034, 7035]);
  assert.deepEqual([...rowOf(lane.values, 1)], [value(0), value(1), value(2), value(3), value(4)]);
  assert.deepEqual([lane.keys.rows, lane.values.rows], [3, 3]);
  assert.equal(
    lane.mix.at(1),
    [0, 1, 2].reduce((sum, row) => sum + lane.probs[row] * rowOf(lane.values, row)[1], 0),
  );
});

test("labels and tags of a row stand beside one another, whatever the width", () => {
  const context = { measureText: (text) => ({ width: 6 * text.length }) };
  const theme = { font: "" };
  let shortened = 0;
  for (const run of [SAME, MODELS, CUT]) {
    const lanes = { left: laneAt(run, "left", START), right: laneAt(run, "right", START) };
    for (let width = 300; width <= 1500; width += 60) {
      const scene = sceneOf(run, lanes, 0, width);
      for (const item of scene.items) {
        const label = labelOf({ context, theme, scene }, item);
        const end = item.x + 6 * label.length;
        const next = scene.items.filter(({ side, y, x }) => side === item.side && y === item.y && x > item.x);
        // What one letter is too wide for has no other way out.
        if (label.length > 1) for (const { x } of next) assert.ok(end < x, `${label} at ${width}`);
        shortened += Number(label !== item.label);
      }
      const tags = tagsOf({ context, theme, scene });
      const names = (all) =>
        all
          .flatMap((tag) => tag.split(", "))
          .filter(Boolean)
          .sort();
      assert.deepEqual(names(tags), names(scene.arrows.map(({ label }) => label)));
      scene.arrows.forEach(({ side, top, x }, index) => {
        if (!tags[index]) return;
        const end = x + 7 + 6 * tags[index].length;
        const row = scene.arrows.filter((other) => other.side === side && other.top === top && other.x > x);
        for (const other of row) assert.ok(end <= other.x, `${tags[index]} at ${width}`);
      });
    }
  }
  assert.ok(shortened > 0);
});

test("latents are as wide as they are in their layer", () => {
  for (const [layer, rank] of [3, 7].entries()) {
    // They count up from 700 by 7 a layer and 14 a token.
    const { latents, latent } = laneAt(atLayer(CUT, layer), "right", { ...PLACE, layer });
    assert.deepEqual([latents.rows, latents.width], [3, rank]);
    assert.deepEqual(
      [...latent],
      Array.from({ length: rank }, (_, at) => 728 + 7 * layer + at),
    );
    assert.deepEqual(
      [...rowOf(latents, 1)],
      Array.from({ length: rank }, (_, at) => 714 + 7 * layer + at),
    );
  }
});

test("absorbed, W_UK moves to the query and latents are keys and values", () => {
  const lane = laneAt(SAME, "right", PLACE);
  const q = Array.from({ length: 6 }, (_, at) => 2000 + (2 * 6 + 5) * 6 + at);
  const row = 9000 + (3 + 2) * 28 + 3 * 4;
  assert.equal(
    lane.query[3],
    q.slice(0, 4).reduce((sum, value, at) => sum + value * (row + at), 0),
  );
  assert.deepEqual([...lane.query.subarray(7)], q.slice(4));
  assert.equal(lane.keys.width, 9);
  assert.deepEqual([...rowOf(lane.values, 0)], [...rowOf(lane.keys, 0).subarray(0, 7)]);
  const down = 10000 + (3 + 2) * 35;
  assert.equal(
    lane.oHead[4],
    [0, 1, 2, 3, 4, 5, 6].reduce((sum, at) => sum + lane.mix[at] * (down + at * 5 + 4), 0),
  );
});

test("a score is told by the scale of its side", () => {
  const scaled = { ...SAME, left: { ...SAME.left, dims: { ...SAME.left.dims, scale: 0.25 } } };
  assert.equal(laneAt(scaled, "left", PLACE).scale, 0.25);
  const keys = { width: 2, rows: 1, data: new Float64Array([4, 6]) };
  const at = (scale) =>
    scoreWords({ query: new Float64Array([1, 2]), keys, scores: new Float64Array([16 * scale]), scale }, 0, {
      qk: 4,
    });
  assert.deepEqual(at(0.5).slice(0, 2), [
    "= Σ query × key, each divided by √4",
    "6.00 = 2.00 × 6.00  (value 2)",
  ]);
  assert.deepEqual(at(0.75).slice(0, 2), [
    "= Σ query × key, each times 0.750",
    "9.00 = 2.00 × 6.00  (value 2)",
  ]);
});

test("a group's heads share its key and value", () => {
  const keysOf = (head) => [...laneAt(MODELS, "left", { step: 2, layer: 0, head }).keys.data];
  assert.deepEqual(keysOf(0), keysOf(1));
  assert.deepEqual(keysOf(2).slice(0, 4), [608, 609, 610, 611]);
});

test("a step or layer whose vectors did not travel has no lane", () => {
  assert.equal(laneAt(MODELS, "left", { step: 1, layer: 0, head: 0 }), null);
  assert.equal(laneAt(SAME, "left", { step: 1, layer: 2, head: 0 }), null);
});

test("a moment belongs to the phase that ends with it", () => {
  assert.deepEqual([0, 0.01, 1, 1.01, 3.5, 6, 9].map(phaseAt), [0, 0, 0, 1, 3, 5, 5]);
});

test("an item is nothing before its phase, whole after it, and between them in proportion", () => {
  const item = { phase: 2, from: 0.4, to: 0.9 };
  assert.deepEqual(
    [0, 2.3, 2.9, 6].map((at) => progressOf(item, at)),
    [0, 0, 1, 1],
  );
  assert.ok(Math.abs(progressOf(item, 2.65) - 0.5) < 1e-6);
});

test("every operation of the ledger has its phase, and a phase counts its own alone", () => {
  for (const run of [SAME, MODELS]) {
    for (const side of [run.left, run.right]) {
      for (const { phase } of side.operations) assert.ok(PHASES.includes(phase));
      const counted = PHASES.filter((phase) => phaseCounts(side, phase, 1).includes("FLOP"));
      assert.deepEqual(
        counted,
        PHASES.filter((phase) => side.operations.some((op) => op.phase === phase)),
      );
    }
  }
  // Score at the second token: 72 FLOP; W_UK on the way takes 3 x 2 x 4 x 7 = 168 and the score 108.
  assert.match(phaseCounts(SAME.left, "score", 1), /^72 FLOP, 108 B read$/);
  assert.match(phaseCounts(SAME.right, "score", 1), /^276 FLOP/);
});

test("one element is as wide in every strip and block of both lanes, and nothing leaves its lane", () => {
  for (const [run, step] of [
    [SAME, 3],
    [MODELS, 2],
  ]) {
    for (const width of [360, 800, 1400]) {
      const lanes = {
        left: laneAt(run, "left", { step, layer: 0, head: 0 }),
        right: laneAt(run, "right", { step, layer: 0, head: 0 }),
      };
      const scene = sceneOf(run, lanes, 0, width);
      for (const { bars, width: wide, matrix, x, side, y, height } of scene.items) {
        if (!bars) assert.ok(Math.abs(wide / matrix.width - scene.unit) < 1e-9);
        const [from, to] = scene.narrow
          ? [0, width]
          : side === "left"
            ? [0, scene.middle]
            : [scene.middle, width];
        assert.ok(x >= from && x + wide <= to + 1e-6, `${x} ${wide}`);
        assert.ok(y >= 0 && y + height <= scene.height, `${y} ${height} ${scene.height}`);
      }
    }
  }
});

test("the largest terms and the rest are the whole sum, to the digits that are told", () => {
  const [a, b] = [
    [1, -5, 2, 0.5, 3],
    [2, 1, -3, 1, 0.1],
  ];
  const product = (at) => [a[at], b[at], `value ${at + 1}`];
  assert.deepEqual(sumOf(-8.2, 5, product), [
    "−6.00 = 2.00 × −3.00  (value 3)",
    "−5.00 = −5.00 × 1.00  (value 2)",
    "2.00 = 1.00 × 2.00  (value 1)",
    "0.80 = the other 2",
  ]);
  assert.deepEqual(sumOf(-4.1, 5, product, 0.5)[0], "−3.00 = 2.00 × −3.00  (value 3)");
  for (let seed = 1; seed < 200; seed += 1) {
    const [one, other] = [3, 7].map((by) =>
      Array.from({ length: 9 }, (_, at) => Math.sin(seed * by + at * by)),
    );
    const value = one.reduce((sum, x, at) => sum + x * other[at], 0);
    const lines = sumOf(value, 9, (at) => [one[at], other[at], ""]);
    const told = lines.map((line) => line.split(" =")[0].replace("−", "-"));
    const digits = told[0].split(".")[1].length;
    assert.equal(told.reduce((sum, x) => sum + Number(x), 0).toFixed(digits), value.toFixed(digits));
  }
});

/** What is written on the canvas of the open step. */
function writtenIn(page) {
  return page.drawn(".inside canvas").filter(({ name }) => name === "fillText");
}

const OPEN = { search: "?step=3&layer=2&head=3&phase=6", width: 900 };

test("a join prints the measured difference of its step, layer and head", () => {
  const texts = writtenIn(show(OPEN)).map(({ args }) => args[0]);
  // Gaps count up: x from 0 by 2 a step, q from 20 by 6, scores from 50, probs from 80; out from 110.
  for (const text of [
    "x 5.0e+0",
    "c_KV 1.5e+1",
    "q 3.7e+1",
    "scores 6.7e+1",
    "weights 9.7e+1",
    "out 1.2e+2",
  ]) {
    assert.ok(texts.includes(text), `${text} in ${texts}`);
  }
});

test("what is no rounding is crossed out and red, what is rounding is not", () => {
  const signs = (bytes) => {
    const calls = writtenIn(show({ ...OPEN, bytes })).filter(({ args }) => "=≠".includes(args[0]));
    return calls.map(({ args, fillStyle }) => [args[0], fillStyle]);
  };
  const equal = edited("golden.bin", (header) => {
    for (const name of ["x", "latents", "q", "scores", "probs", "out"]) header.gaps[name] = null;
    header.gaps.x = header.gaps.out = null;
    header.dtype = "float32";
  });
  assert.deepEqual(signs(equal), []);
  const apart = edited("golden.bin", (header) => {
    header.dtype = "float32";
  });
  assert.deepEqual(new Set(signs(apart).map(([sign]) => sign)), new Set(["≠"]));
  assert.equal(new Set(signs(apart).map(([, colour]) => colour)).size, 1);
});

test("keys and buttons go from phase to phase, and the address keeps the place", () => {
  const page = show({ ...OPEN, search: "?step=3&layer=2&head=3&phase=5" });
  const at = () => Number(page.find(".phases input").value);
  const pressed = () =>
    [...page.root.querySelectorAll(".phases [data-phase]")]
      .map((button) => button.getAttribute("aria-pressed"))
      .indexOf("true");
  assert.deepEqual([at(), pressed()], [5, 4]);
  page.press("[");
  page.press("[");
  assert.deepEqual([at(), pressed()], [3, 2]);
  page.rest(300);
  assert.match(page.written.url, /phase=3/);
  page.press("]");
  page.frame(500);
  assert.equal(at(), 3.25);
  page.frame(5000);
  assert.deepEqual([at(), pressed()], [4, 3]);
});

test("the button opens and closes the step, and the address forgets a closed one", () => {
  const page = show({ width: 900 });
  const toggle = page.find("[data-action=inside]");
  const state = () => [page.find(".inside").hidden, toggle.getAttribute("aria-expanded"), toggle.textContent];
  assert.deepEqual(state(), [true, "false", "Open this step"]);
  page.fire(toggle, "click");
  assert.deepEqual(state(), [false, "true", "Close this step"]);
  page.fire(toggle, "click");
  page.rest(300);
  assert.deepEqual(state(), [true, "false", "Open this step"]);
  assert.doesNotMatch(page.written.url, /phase/);
});

const LAYER_1 = (header) => {
  for (const side of [header.left, header.right]) side.vectors.first = 1;
};

/** The golden run with the vectors of a layer that it has not; what is asked of the host is kept. */
function showWithout(options = {}) {
  const asked = [];
  const page = show({
    bytes: edited("golden.bin", LAYER_1),
    host: { want: (rest) => asked.push(rest) },
    ...options,
  });
  return { page, asked };
}

test("an open step whose vectors are not here is asked of the host, once", () => {
  const { page, asked } = showWithout({ search: "?step=3&layer=1" });
  assert.deepEqual(asked, [], "it is not open");
  page.press("]");
  page.press("ArrowLeft");
  page.frame();
  assert.deepEqual(
    asked.map(({ layer }) => layer),
    [0],
  );
  const told = () =>
    page
      .drawn(".inside canvas")
      .map(({ args }) => args[0])
      .filter((text) => /vectors|kept/.test(text));
  assert.deepEqual(told(), ["Asked of the server: the vectors of layer 1. They come here."]);
  const alone = show({ bytes: edited("golden.bin", LAYER_1), search: "?step=3&phase=3" });
  alone.frame();
  assert.match(String(alone.drawn(".inside canvas").map(({ args }) => args[0])), /did not travel/);
});

test("what was asked for is drawn once it comes, and what is of another run is left", () => {
  const { page, asked } = showWithout({ search: "?step=3&layer=2&phase=3", bytes: packed() });
  assert.deepEqual(asked, [], "it is here");
  const drawn = () => page.drawn(".inside canvas").length;
  const before = drawn();
  page.player.addRest(packed("golden_rest.bin"));
  page.frame();
  assert.equal(drawn(), before);
  page.press("ArrowLeft");
  page.find("select[name=layer]").value = "0";
  page.fire(page.find("select[name=layer]"), "change");
  page.frame();
  assert.deepEqual(asked, [{ run: SAME.run, layer: 0 }], "the rest has taken its place");
});

test("a step that was not kept is not asked for", () => {
  const { page, asked } = showWithout({ bytes: packed("golden_models.bin"), search: "?step=2&phase=3" });
  page.frame();
  assert.deepEqual(asked, []);
  assert.match(String(page.drawn(".inside canvas").map(({ args }) => args[0])), /This step was not kept/);
});
