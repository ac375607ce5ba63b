// The chart of growth: cached bytes of both sides, and of plain attention with their heads, against tokens.
// It knows whole series and one marked step; it does not know attention, operations or controls.

import { beginSurface, makeSurface, write } from "./canvas.js";
import { find, setAttribute, setText } from "./dom.js";
import { shortNames, sizedNames, tokenWords } from "./narration.js";
import { SIDES } from "./payload.js";
import { makeTable, WINDOW } from "./table.js";
import { makeSave } from "./take.js";
import { byteTicks, spread, tokenTicks } from "./ticks.js";
import { bytesText, plural } from "./words.js";

/** @import { Context, Surface } from "./canvas.js" */
/** @import { Cursors, Grid } from "./cursor.js" */
/** @import { Baseline } from "./layout.d.ts" */
/** @import { Run } from "./payload.js" */
/** @import { Part, View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */
/** @import { Theme } from "./theme.js" */
/** @typedef {{ surface: Surface, log: boolean, view: View | null }} Chart */
/**
 * @typedef {object} Line
 * @property {string} label
 * @property {string} colour
 * @property {string} text colour of the label
 * @property {boolean} thick
 * @property {number[]} dash
 * @property {(step: number) => number} at bytes after a step
 */
/**
 * @typedef {object} Axes
 * @property {number} width
 * @property {number} height
 * @property {number} highest in bytes, as is the lowest
 * @property {number} lowest
 * @property {boolean} log
 * @property {(step: number) => number} x
 * @property {(bytes: number) => number} y
 */

const HEIGHT = 236;
const MARGIN = { left: 64, right: 104, top: 10, bottom: 40 };

/** @type {(card: HTMLElement, cursors: Cursors, goTo: (step: number) => void) => Part} */
export function makeChart(card, cursors, goTo) {
  const surface = makeSurface(find(card, "canvas", HTMLCanvasElement));
  /** @type {Chart} */
  const state = { surface, log: false, view: null };
  cursors.attach(surface.canvas, "chart", () => state.view && chartGrid(state, state.view, goTo));
  const toggle = find(card, "[data-action=scale]");
  toggle.addEventListener("click", () => {
    state.log = !state.log;
    setAttribute(toggle, "aria-pressed", state.log);
    setText(toggle, state.log ? "log scale" : "linear scale");
    if (state.view) paintChart(state, state.view);
  });
  const table = makeTable(card, chartSheet);
  makeSave(card, {
    name: "growth",
    words: "cached bytes",
    sides: SIDES,
    within: [],
    surface,
    view: () => state.view,
    draw: (onto, view) => drawChart(onto, view, state.log),
    title: () => find(card, "h3").textContent,
    legend: find(card, ".remarks").textContent,
    sheet: (view) => chartSheet(view, Infinity),
  });
  return {
    surface,
    paint: (view) => {
      paintChart(state, view);
      table.paint(view);
    },
  };
}

/** @type {(state: Chart, view: View) => void} */
function paintChart(state, view) {
  state.view = view;
  const { surface } = state;
  const { run, step } = view;
  drawChart(surface, view, state.log);
  const [left, right] = shortNames(run);
  const words = `${left} ${bytesText(run.left.cache_bytes.at(step))}, ${right} ${bytesText(run.right.cache_bytes.at(step))}`;
  setAttribute(
    surface.canvas,
    "aria-label",
    `Cached bytes against tokens: after ${plural(step + 1, "token")} ${words}`,
  );
}

/** @type {(surface: Surface, view: View, log: boolean) => void} */
function drawChart(surface, { run, step, theme }, log) {
  const context = beginSurface(surface, HEIGHT);
  const series = chartSeries(run, theme);
  const axes = chartAxes(series, run.n_steps, surface.width, log);
  drawGrid(context, theme, axes, run.n_steps);
  for (const line of series) drawSeries(context, line, axes, step, run.n_steps);
  drawNow(context, theme, axes, series, step);
  labelSeries(context, theme, axes, series, run.n_steps);
}

/**
 * The lines of the chart: plain baselines thin, both sides thick, the right one dashed where they coincide.
 * @type {(run: Run, theme: Theme) => Line[]}
 */
export function chartSeries(run, theme) {
  const plain = references(run).map(({ label, bytes_per_token: each }) => ({
    label,
    colour: theme.muted,
    text: theme.muted,
    thick: false,
    dash: [],
    at: (/** @type {number} */ step) => each * (step + 1),
  }));
  const last = run.n_steps - 1;
  const alike = run.left.cache_bytes.at(last) === run.right.cache_bytes.at(last);
  const names = sizedNames(run);
  const own = SIDES.map((name, index) => ({
    label: names[index],
    colour: theme[name].full,
    text: theme[name].text,
    thick: true,
    dash: alike && name === "right" ? [7, 3] : [],
    at: (/** @type {number} */ step) => run[name].cache_bytes.at(step),
  }));
  return [...plain, ...own];
}

/**
 * Plain attention with the heads of either side, each once, without what a side is itself.
 * @type {(run: Run) => Baseline[]}
 */
function references({ left, right }) {
  const all = new Map([...left.baselines, ...right.baselines].map((each) => [each.label, each]));
  return [...all.values()].filter(({ label }) => label !== left.sized && label !== right.sized);
}

/**
 * Where a step and an amount of bytes lie in the chart; a log scale starts at the smallest that is drawn.
 * @type {(series: Line[], nSteps: number, surfaceWidth: number, log: boolean) => Axes}
 */
export function chartAxes(series, nSteps, surfaceWidth, log) {
  const [width, height] = [surfaceWidth - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
  const last = Math.max(1, nSteps - 1);
  const highest = Math.max(...series.map((line) => line.at(nSteps - 1)), 1);
  const lowest = Math.min(...series.map((line) => line.at(0)).filter((bytes) => bytes > 0), highest);
  const share = log
    ? (/** @type {number} */ bytes) =>
        Math.log(Math.max(bytes, lowest) / lowest) / Math.log(Math.max(highest / lowest, 2))
    : (/** @type {number} */ bytes) => bytes / highest;
  return {
    width,
    height,
    highest,
    lowest,
    log,
    x: (step) => MARGIN.left + (step / last) * width,
    y: (bytes) => MARGIN.top + height * (1 - share(bytes)),
  };
}

/** @type {(context: Context, theme: Theme, axes: Axes, nSteps: number) => void} */
function drawGrid(context, theme, axes, nSteps) {
  for (const bytes of byteTicks(axes)) {
    const y = Math.round(axes.y(bytes)) + 0.5;
    context.fillStyle = theme.line;
    context.fillRect(MARGIN.left, y - 0.5, axes.width, 1);
    const words = bytesText(bytes).replace(".0", "");
    write(context, theme, words, MARGIN.left - 6, y, { align: "right", size: 10.5 });
  }
  const bottom = MARGIN.top + axes.height;
  for (const tokens of tokenTicks(nSteps, axes.width)) {
    write(context, theme, String(tokens), axes.x(tokens - 1), bottom + 11, { align: "center", size: 10.5 });
  }
  write(context, theme, "tokens cached", MARGIN.left + axes.width / 2, bottom + 28, { align: "center" });
  context.save();
  context.translate(9, MARGIN.top + axes.height / 2);
  context.rotate(-Math.PI / 2);
  write(context, theme, "cache, bytes", 0, 0, { align: "center" });
  context.restore();
}

/**
 * The whole run thin, what has been decoded so far thick; baselines thin throughout.
 * @type {(context: Context, line: Line, axes: Axes, step: number, nSteps: number) => void}
 */
function drawSeries(context, line, axes, step, nSteps) {
  context.strokeStyle = line.colour;
  context.setLineDash(line.dash);
  traceSeries(context, line, axes, nSteps - 1, line.thick ? 1.5 : 1);
  if (line.thick) traceSeries(context, line, axes, step, 3.5);
  context.setLineDash([]);
}

/** @type {(context: Context, line: Line, axes: Axes, last: number, lineWidth: number) => void} */
function traceSeries(context, line, axes, last, lineWidth) {
  const stride = Math.max(1, Math.floor(last / axes.width));
  context.lineWidth = lineWidth;
  context.beginPath();
  for (let step = 0; step < last; step += stride) context.lineTo(axes.x(step), axes.y(line.at(step)));
  context.lineTo(axes.x(last), axes.y(line.at(last)));
  context.stroke();
}

/**
 * A cell a token, which tells every line's bytes there; choosing one goes to its step.
 * @type {(chart: Chart, view: View, goTo: (step: number) => void) => Grid}
 */
function chartGrid({ surface, log }, { run, step, theme }, goTo) {
  const series = chartSeries(run, theme);
  const axes = chartAxes(series, run.n_steps, surface.width, log);
  const apart = axes.width / Math.max(1, run.n_steps - 1);
  return {
    rows: 1,
    columns: () => run.n_steps,
    start: { row: 0, column: step },
    box: ({ column }) => {
      const [width, height] = [Math.min(apart, 12), axes.height];
      return { x: axes.x(column) - width / 2, y: MARGIN.top, width, height };
    },
    at: (x) => {
      const column = Math.round((x - axes.x(0)) / apart);
      return column < 0 || column >= run.n_steps ? null : { row: 0, column };
    },
    words: ({ column }) => {
      const lines = ownFirst(series).map(({ label, at }) => `${label} ${bytesText(at(column))}`);
      return [`token ${tokenWords(run, column)}`, ...lines].join("\n");
    },
    value: ({ column }) => SIDES.map((name) => bytesText(run[name].cache_bytes.at(column))).join(" and "),
    choose: ({ column }) => goTo(column),
  };
}

/** @type {(context: Context, theme: Theme, axes: Axes, series: Line[], step: number) => void} */
function drawNow(context, theme, axes, series, step) {
  const x = axes.x(step);
  context.strokeStyle = theme.ink;
  context.lineWidth = 1;
  context.setLineDash([2, 3]);
  context.beginPath();
  context.moveTo(x, MARGIN.top);
  context.lineTo(x, MARGIN.top + axes.height);
  context.stroke();
  context.setLineDash([]);
  for (const line of series.filter(({ thick }) => thick)) {
    context.fillStyle = line.colour;
    context.strokeStyle = theme.ground;
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, axes.y(line.at(step)), 5, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}

/**
 * Names at the right end, pushed apart until none touches another, each tied to its line's end.
 * @type {(context: Context, theme: Theme, axes: Axes, series: Line[], nSteps: number) => void}
 */
function labelSeries(context, theme, axes, series, nSteps) {
  const end = (/** @type {Line} */ line) => axes.y(line.at(nSteps - 1));
  const lines = [...series].sort((a, b) => end(a) - end(b));
  const heights = spread(lines.map(end), MARGIN.top, MARGIN.top + axes.height, 14);
  const x = MARGIN.left + axes.width;
  lines.forEach((line, index) => {
    const y = heights[index];
    context.strokeStyle = line.colour;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x + 3, end(line));
    context.lineTo(x + 13, y);
    context.stroke();
    write(context, theme, line.label, x + 17, y, { size: 11.5, colour: line.text, bold: line.thick });
  });
}

/** @type {(series: Line[]) => Line[]} */
function ownFirst(series) {
  return [...series.filter(({ thick }) => thick), ...series.filter(({ thick }) => !thick)];
}

/**
 * Every line's bytes after this token and `most` before it, newest first.
 * @type {(view: View, most?: number) => Sheet}
 */
function chartSheet({ run, step, theme }, most = WINDOW) {
  const series = ownFirst(chartSeries(run, theme));
  const rows = Array.from({ length: Math.min(most, step + 1) }, (_, index) => ({
    name: tokenWords(run, step - index),
    values: series.map(({ at }) => at(step - index)),
  }));
  const note = `Bytes after each token: ${rows.length} of ${plural(step + 1, "token")}, newest first.`;
  const columns = series.map(({ label }) => label);
  return { note, corner: "token", columns, rows, text: bytesText, unit: "bytes" };
}
