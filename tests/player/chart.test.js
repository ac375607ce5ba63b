import assert from "node:assert/strict";
import { test } from "node:test";

import { chartAxes, chartSeries } from "../../mla_viz/player/src/growth.js";
import { byteTicks, spread, tokenTicks } from "../../mla_viz/player/src/ticks.js";
import { MODELS, SAME, themeOf } from "./golden.js";

const KIB = 1024;

test("linear byte ticks are round in the unit they are written in", () => {
  const ticks = (highest) => byteTicks({ highest, lowest: 1, log: false });
  assert.deepEqual(ticks(528), [0, 200, 400]);
  assert.deepEqual(ticks(100), [0, 50, 100]);
  assert.deepEqual(ticks(60 * KIB), [0, 20 * KIB, 40 * KIB, 60 * KIB]);
  assert.deepEqual(ticks(3.5 * KIB ** 2), [0, KIB ** 2, 2 * KIB ** 2, 3 * KIB ** 2]);
});

test("logarithmic byte ticks are powers of two, at most six of them", () => {
  const ticks = (lowest, highest) => byteTicks({ highest, lowest, log: true });
  assert.deepEqual(ticks(36, 528), [64, 128, 256, 512]);
  assert.deepEqual(ticks(64, 64), [64]);
  assert.deepEqual(ticks(64, 4096), [64, 256, 1024, 4096]);
  assert.deepEqual(ticks(1, 2 ** 20), [1, 16, 256, 4096, 65536, 2 ** 20]);
});

test("token ticks are round, at least 70 pixels apart, and start at no zero", () => {
  assert.deepEqual(tokenTicks(4, 400), [1, 2, 3, 4]);
  assert.deepEqual(tokenTicks(57, 226), [20, 40]);
  assert.deepEqual(tokenTicks(4096, 300), [1000, 2000, 3000, 4000]);
});

test("names are pushed apart and stay inside", () => {
  assert.deepEqual(spread([20, 22, 60], 10, 100, 14), [20, 34, 60]);
  assert.deepEqual(spread([0, 0], 10, 100, 14), [10, 24]);
  assert.deepEqual(spread([95, 98, 99], 10, 100, 14), [72, 86, 100]);
});

test("every line has its side's bytes, name and colour", () => {
  const theme = themeOf(SAME);
  const series = chartSeries(SAME, theme);
  const told = series.map(({ label, colour, thick, dash, at }) => [
    label,
    colour,
    thick,
    dash,
    [0, 1, 2, 3].map(at),
  ]);
  assert.deepEqual(told, [
    ["MHA 3×5", theme.muted, false, [], [120, 240, 360, 480]],
    ["MQA 1×5", theme.muted, false, [], [40, 80, 120, 160]],
    ["naive", theme.left.full, true, [], [132, 264, 396, 528]],
    ["absorbed", theme.right.full, true, [], [36, 72, 108, 144]],
  ]);
  assert.deepEqual(
    series.map(({ text }) => text),
    [theme.muted, theme.muted, theme.left.text, theme.right.text],
  );
});

test("plain attention stands with the heads of either side, once, and not beside a side that is it", () => {
  const labels = (run) => chartSeries(run, themeOf(run)).map(({ label, at }) => [label, at(0)]);
  assert.deepEqual(labels(MODELS), [
    ["MHA 4×4", 128],
    ["MQA 1×4", 32],
    ["MHA 2×2", 32],
    ["MQA 1×2", 16],
    ["GQA 2×4", 64],
    ["recompute", 0],
  ]);
  const twice = labels({ ...MODELS, right: MODELS.left }).map(([label]) => label);
  assert.deepEqual(twice, ["MHA 4×4", "MQA 1×4", "left GQA 2×4", "right GQA 2×4"]);
});

test("the right line is dashed where it lies on the left one", () => {
  const series = chartSeries({ ...SAME, right: SAME.left }, themeOf(SAME));
  assert.deepEqual(
    series.slice(2).map(({ dash }) => dash),
    [[], [7, 3]],
  );
});

function axesOf(log) {
  const series = [{ at: (step) => 16 * (step + 1) }, { at: () => 0 }, { at: (step) => 32 * 8 ** step }];
  return chartAxes(series, 3, 356, log);
}

test("a linear chart spans from nothing to the highest amount, over all steps", () => {
  const { x, y, width, height, highest, lowest } = axesOf(false);
  assert.deepEqual([width, height, highest, lowest], [188, 186, 2048, 16]);
  assert.deepEqual([x(0), x(1), x(2)], [64, 158, 252]);
  assert.deepEqual([y(0), y(1024), y(2048)], [196, 103, 10]);
});

test("a logarithmic chart spans from the lowest amount, and what is less lies on its floor", () => {
  const { y } = axesOf(true);
  assert.deepEqual([y(16), y(2048), y(0), y(1)], [196, 10, 196, 196]);
  assert.ok(Math.abs(y(16 * Math.sqrt(128)) - 103) < 1e-9);
});

test("a run of one step has a chart too", () => {
  const { x, y } = chartAxes([{ at: () => 8 }], 1, 356, true);
  assert.deepEqual([x(0), y(8)], [64, 196]);
});
