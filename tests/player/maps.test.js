import assert from "node:assert/strict";
import { test } from "node:test";

import * as attention from "../../mla_viz/player/src/attention.js";
import * as cache from "../../mla_viz/player/src/cache.js";
import { headAt, headHeight } from "../../mla_viz/player/src/heads.js";
import { NDArray } from "../../mla_viz/player/src/ndarray.js";
import { AttentionRows } from "../../mla_viz/player/src/rows.js";
import { fillTriangle } from "../../mla_viz/player/src/triangle.js";
import { MODELS, SAME } from "./golden.js";

// A scale by which a pixel is its level and one more, so that 0 stays "never written".
const SCALE = Uint32Array.from({ length: 256 }, (_, level) => level + 1);

function picture(width, height, fill) {
  const pixels = new Uint32Array(width * height);
  fill({ pixels, width, height });
  return Array.from({ length: height }, (_, y) => [...pixels.subarray(y * width, (y + 1) * width)]);
}

function pooled(width, stored, toLevel, cells) {
  const levels = new Int16Array(width).fill(-1);
  attention.poolRow(levels, stored, toLevel, cells);
  return [...levels];
}

test("a row of weights leaves what is to come blank, and a gap between wide cells", () => {
  assert.deepEqual(pooled(4, [0, 0.5], 255, 4), [0, 128, -1, -1]);
  assert.deepEqual(pooled(8, [1, 0.2], 255, 4), [255, 255, 51, 51, -1, -1, -1, -1]);
  assert.deepEqual(pooled(10, [1], 255, 2), [255, 255, 255, 255, -1, -1, -1, -1, -1, -1]);
  assert.deepEqual(pooled(3, [7, 200, 9], 1, 3), [7, 200, 9]);
});

test("weights that share a pixel are pooled by their maximum", () => {
  assert.deepEqual(pooled(2, [10, 90, 30, 20], 1, 4), [90, 30]);
  assert.deepEqual(pooled(2, [10, 90, 30], 1, 6), [90, -1]);
});

test("cells cover an extent without overlap, wide ones with a gap", () => {
  const spans = [0, 1, 2].map((index) => attention.cellSpan(index, 3, 10));
  assert.deepEqual(spans, [
    [0, 3],
    [3, 6],
    [6, 10],
  ]);
  assert.deepEqual(attention.cellSpan(1, 2, 12), [6, 11]);
  assert.deepEqual(attention.cellSpan(5, 10, 3), [1, 2]);
});

test("the largest of some keys is found inside them, the first of equals", () => {
  assert.equal(attention.peakOf([9, 3, 8, 8], 1, 4), 2);
  assert.equal(attention.peakOf([1, 2, 3], 0, 3), 2);
  assert.equal(attention.peakOf([1, 2, 3], 0, 2), 1);
});

test("a side with fewer heads shows its last one", () => {
  assert.equal(attention.headOf({ head: 3 }, { n_heads: 2 }), 1);
  assert.equal(attention.headOf({ head: 1 }, { n_heads: 2 }), 1);
});

const surface = { width: 236, ratio: 1 };

test("the tokens under a point are one, or all that share its pixel", () => {
  assert.deepEqual(attention.tokensUnder(surface, 4, 34), [0, 1]);
  assert.deepEqual(attention.tokensUnder(surface, 4, 83.9), [0, 1]);
  assert.deepEqual(attention.tokensUnder(surface, 4, 84), [1, 2]);
  assert.deepEqual(attention.tokensUnder(surface, 500, 35), [2, 5]);
  assert.deepEqual(attention.tokensUnder({ width: 236, ratio: 2 }, 500, 35), [2, 4]);
  assert.ok(attention.tokensUnder(surface, 4, 33)[0] < 0);
});

test("a map is pooled where it has more tokens than pixels", () => {
  const pooledAt = (ratio, n_steps) => attention.isPooled({ width: 236, ratio }, { n_steps });
  assert.deepEqual([pooledAt(1, 200), pooledAt(1, 201), pooledAt(2, 201)], [false, true, false]);
});

test("a weight is told exactly, or as rounded, or as the largest of several", () => {
  const say = (run, row, tokens) => {
    const rows = run.left.attention;
    return attention.weightWords(run, rows, rows.stored(row, 0, 1), tokens, "here");
  };
  assert.equal(say(SAME, 2, [1, 2]), "here\ntoken 2 ␣⏎\n0.343750000");
  assert.equal(say(SAME, 2, [1, 3]), "here\ntoken 3 🦊\n0.359375000, max of 2 tokens");
  assert.equal(say(SAME, 2, [1, 9]), "here\ntoken 3 🦊\n0.359375000, max of 2 tokens");
  assert.equal(say(MODELS, 1, [2, 3]), "here\ntoken 3 <b>\n≈ 0.561 (rounded)");
  assert.equal(say(SAME, 2, [3, 4]), null);
  assert.equal(say(SAME, 2, [-1, 0]), null);
});

test("what was not kept is said", () => {
  assert.equal(
    attention.keptFromWords({ steps: [4, 6] }),
    "No weights kept this early: the first are of step 5.",
  );
  assert.equal(attention.keptFromWords({ steps: [] }), "No weights kept in this run.");
});

test("heads share a height that stays legible", () => {
  assert.deepEqual([1, 8, 16, 100].map(headHeight), [14, 14, 8, 2]);
  const side = { n_heads: 8 };
  assert.deepEqual(
    [0, 13.9, 14, 111.9, 112].map((y) => headAt(side, y)),
    [0, 0, 1, 7, -1],
  );
});

test("a triangle has a row a query, its keys to come blank", () => {
  const rows = picture(4, 4, (image) =>
    fillTriangle(image, SAME.left.attention, { layer: 1, head: 2 }, 4, SCALE),
  );
  const level = (numerator) => Math.round((numerator / 64) * 255) + 1;
  assert.deepEqual(rows, [
    [level(5), 0, 0, 0],
    [level(16), level(17), 0, 0],
    [level(33), level(34), level(35), 0],
    [level(56), level(57), level(58), level(59)],
  ]);
});

test("queries that share a row of pixels are pooled by their maximum, and no further", () => {
  const rows = picture(4, 2, (image) =>
    fillTriangle(image, SAME.left.attention, { layer: 0, head: 0 }, 4, SCALE),
  );
  const level = (numerator) => Math.round((numerator / 64) * 255) + 1;
  assert.deepEqual(rows[0], [level(6), level(7), 0, 0]);
  assert.deepEqual(rows[1], [level(36), level(37), level(38), level(39)]);
});

test("an earlier query that shares a row of pixels counts there too", () => {
  const steps = { data: Int32Array.of(0, 1, 2, 3) };
  const data = { data: Uint8Array.of(90, 10, 20, 70, 5, 30, 1, 2, 3, 4) };
  const rows = new AttentionRows({ exact: false, steps, data }, 1, 1);
  const drawn = picture(4, 2, (image) => fillTriangle(image, rows, { layer: 0, head: 0 }, 4, SCALE));
  assert.deepEqual(drawn, [
    [91, 21, 0, 0],
    [71, 6, 31, 5],
  ]);
});

test("rounded weights are drawn as they are", () => {
  const rows = picture(3, 2, (image) =>
    fillTriangle(image, MODELS.left.attention, { layer: 0, head: 3 }, 3, SCALE),
  );
  assert.deepEqual(rows, [
    [49, 0, 0],
    [208, 224, 240],
  ]);
});

const CELLS = {
  every: 1,
  data: new NDArray(Uint8Array.of(9, 9, 9, 9, 9, 9, 10, 20, 0, 30, 50, 0, 60, 60, 0, 70, 70, 0), [3, 2, 3]),
};
/** Of the layer's width, which is not the widest. */
const pooledCells = (image, layer, nSteps, cells = CELLS) =>
  cache.poolCells(image, { cells, cache_elems: 2 }, layer, nSteps, SCALE);

test("cells are drawn one by one where a pixel is no larger, and by their mean where it is", () => {
  const draw = (width, height, layer) => picture(width, height, (image) => pooledCells(image, layer, 2));
  assert.deepEqual(draw(2, 2, 1), [
    [11, 21],
    [31, 51],
  ]);
  assert.deepEqual(draw(4, 2, 1), [
    [11, 11, 21, 21],
    [31, 31, 51, 51],
  ]);
  assert.deepEqual(draw(1, 2, 1), [[16], [41]]);
  assert.deepEqual(draw(2, 1, 1), [[21, 36]]);
  assert.deepEqual(draw(1, 1, 2), [[66]]);
});

test("cells of every second token last for two", () => {
  const rows = picture(1, 4, (image) => pooledCells(image, 1, 4, { ...CELLS, every: 2 }));
  assert.deepEqual(rows, [[16], [16], [41], [41]]);
});

test("a cached value is its byte between the ends of its layer", () => {
  const { value, low, high } = cache.cellValue(SAME.left, 1, 2, 3);
  // Byte 7 (132 + 2 33 + 3) mod 256 = 127 of layer 1, from -2 to 2.5.
  assert.deepEqual([low, high], [-2, 2.5]);
  assert.equal(value, -2 + (4.5 * 127) / 255);
  assert.equal(cache.cellValue(MODELS.left, 0, 3, 1).value, -2 + (5 * 119) / 255);
  assert.equal(cache.cellValue(MODELS.left, 0, 1, 1).value, -2 + (5 * 7) / 255);
  assert.equal(cache.cellValue(MODELS.left, 0, 9, 1).value, cache.cellValue(MODELS.left, 0, 2, 1).value);
});

test("one byte is as wide on both sides, and a row at most five pixels high", () => {
  const { byteWidth, elementWidth, rowHeight, plotHeight } = cache.cacheScale(SAME, "left", 330);
  assert.deepEqual([byteWidth, elementWidth, rowHeight, plotHeight], [5, 10, 5, 24]);
  assert.equal(cache.cacheScale(SAME, "right", 330).elementWidth, 10);
  const side = (cache_elems, row_bytes = 4 * cache_elems) => ({ cache_elems, row_bytes });
  const run = (n_steps, left, right) => ({ n_steps, left, right });
  assert.deepEqual(cache.cacheScale(run(320, side(0), side(0)), "left", 100), {
    byteWidth: 100,
    elementWidth: 0,
    rowHeight: 0.5,
    plotHeight: 160,
  });
  const wide = run(20, side(0), side(50));
  assert.equal(cache.cacheScale(wide, "right", 100).elementWidth, 2);
  assert.equal(cache.cacheScale(wide, "right", 100).plotHeight, 100);
  // 48 values in 98 bytes beside as many in 192: the row is as much narrower as its bytes are fewer.
  const rounded = run(20, side(48), side(48, 98));
  const widths = ["left", "right"].map((name) => 48 * cache.cacheScale(rounded, name, 384).elementWidth);
  assert.deepEqual(widths, [384, 196]);
});

test("what lies under a point of the cache is told", () => {
  const say = (run, name, step, x, y) => {
    const grid = cache.cacheGrid({ run, step, layer: 0 }, { surface: { width: 366 }, name });
    const cell = grid.at(x, y);
    return cell && grid.words(cell);
  };
  // The eighth element of the second token: byte 7 (33 + 7) mod 256 = 24 of layer 0, from -1 to 1.5.
  assert.equal(
    say(SAME, "left", 2, 34 + 70, 5),
    "token 2 ␣⏎\nhead 1, v, value 2\n≈ −0.76 (one byte, range −1.00 … 1.50)",
  );
  assert.equal(say(SAME, "left", 2, 34 + 70, 15), null);
  assert.equal(say(SAME, "left", 2, 34 + 70, -1), null);
  assert.equal(say(SAME, "left", 2, 33, 5), null);
  assert.match(say(SAME, "right", 2, 34 + 89, 14), /^token 3 🦊\nrope key k_R, value 2\n/);
  assert.equal(say(SAME, "right", 2, 34 + 90, 14), null);
  assert.match(say(MODELS, "left", 2, 34, 14), /pooled, one byte/);
});
