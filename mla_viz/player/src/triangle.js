// The triangle: the weights of one head over all queries so far, queries down, keys across.
// It knows kept rows of weights; it does not know the other heads.

import {
  cellSpan,
  headOf,
  isPooled,
  keptFromWords,
  poolRow,
  WEIGHT_LEGEND,
  weightCell,
  weightCells,
  weightTable,
  writeRow,
} from "./attention.js";
import {
  beginSurface,
  drawMarker,
  drawRoom,
  GUTTER,
  imageFor,
  makeSurface,
  plotWidth,
  write,
} from "./canvas.js";
import { find, setAttribute, setText } from "./dom.js";
import { tokenWords } from "./narration.js";
import { emptySheet, makeTable, WINDOW } from "./table.js";
import { makeSave } from "./take.js";
import { plural } from "./words.js";

/** @import { Context, Picture, Surface } from "./canvas.js" */
/** @import { Cursors, Grid } from "./cursor.js" */
/** @import { SideName } from "./payload.js" */
/** @import { AttentionRows } from "./rows.js" */
/** @import { Part, View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */
/** @typedef {{ name: SideName, surface: Surface, view: View | null, caption: HTMLElement }} Triangle */

const HEIGHT = 230;
const TABLE_ROWS = 16;

/**
 * @param {HTMLElement} panel
 * @param {SideName} name
 * @param {Cursors} cursors
 * @param {(step: number) => void} goTo
 * @returns {Part}
 */
export function makeTriangleView(panel, name, cursors, goTo) {
  const surface = makeSurface(find(panel, ".triangle canvas", HTMLCanvasElement));
  /** @type {Triangle} */
  const state = { name, surface, view: null, caption: find(panel, ".triangle .caption") };
  cursors.attach(surface.canvas, "map of weights", () => state.view && triangleGrid(state.view, state, goTo));
  const table = makeTable(find(panel, ".triangle"), (view) => triangleSheet(view, name));
  makeSave(find(panel, ".triangle"), {
    name: "triangle",
    words: "the attention map",
    sides: [name],
    within: ["layer", "head"],
    surface,
    view: () => state.view,
    draw: (onto, view) => drawTriangle(onto, name, view),
    title: (onto, view) => triangleTitle(onto, name, view),
    legend: WEIGHT_LEGEND,
    sheet: (view) => triangleSheet(view, name, Infinity, Infinity),
  });
  return {
    surface,
    paint: (view) => {
      paintTriangle(state, view);
      table.paint(view);
    },
  };
}

/** @type {(state: Triangle, view: View) => void} */
function paintTriangle(state, view) {
  state.view = view;
  drawTriangle(state.surface, state.name, view);
  captionTriangle(state, view);
}

/**
 * Draw the whole triangle once for (run, layer, head); a step only shows more of it.
 * @type {(surface: Surface, name: SideName, view: View) => void}
 */
function drawTriangle(surface, name, view) {
  const { attention } = view.run[name];
  const context = beginSurface(surface, HEIGHT + 4);
  const row = attention.before(view.step);
  if (row < 0) {
    write(context, view.theme, keptFromWords(attention), GUTTER, 20);
    return;
  }
  drawRoom(context, view.theme, plotWidth(surface), HEIGHT);
  drawWeights(context, surface, name, view, row);
  drawQuery(context, view, attention, row, plotWidth(surface));
}

/** @type {(context: Context, surface: Surface, name: SideName, view: View, row: number) => void} */
function drawWeights(context, surface, name, view, row) {
  const { run, layer, theme } = view;
  const side = run[name];
  const head = headOf(view, side);
  const [wide, high] = [plotWidth(surface), HEIGHT].map((size) => Math.round(size * surface.ratio));
  const image = imageFor(surface, `${theme.key}|${layer}|${head}`, wide, high, (picture) => {
    fillTriangle(picture, side.attention, { layer, head }, run.n_steps, theme[name].scale);
  });
  const shown = Math.max(1, Math.floor(((row + 1) * high) / side.attention.steps.length));
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, wide, shown, GUTTER, 0, plotWidth(surface), shown / surface.ratio);
}

/** @typedef {{ layer: number, head: number }} Which */

/**
 * Every kept row at its height; where several share one, the largest weight wins.
 * @type {(picture: Picture, rows: AttentionRows, which: Which, nSteps: number, scale: Uint32Array) => void}
 */
export function fillTriangle(picture, rows, { layer, head }, nSteps, scale) {
  const kept = rows.steps.length;
  const levels = new Int16Array(picture.width).fill(-1);
  for (let row = 0; row < kept; row += 1) {
    const [top, bottom] = cellSpan(row, kept, picture.height);
    poolRow(levels, rows.stored(row, layer, head), rows.scale(255), nSteps);
    writeRow(picture, levels, scale, top, bottom);
    const nextTop = Math.floor(((row + 1) * picture.height) / kept);
    if (nextTop > top) levels.fill(-1);
  }
}

/**
 * Outline the current query's row, and name it in the gutter.
 * @type {(context: Context, view: View, rows: AttentionRows, row: number, width: number) => void}
 */
function drawQuery(context, { run, theme }, { steps }, row, width) {
  const height = HEIGHT / steps.length;
  const [top, right] = [row * height, ((steps[row] + 1) * width) / run.n_steps];
  const y = Math.min(Math.max(7, top + height / 2), HEIGHT - 5);
  context.strokeStyle = theme.ink;
  context.lineWidth = 1.25;
  context.strokeRect(GUTTER - 0.5, top - 0.5, right + 1, Math.max(2, height));
  drawMarker(context, theme, y);
  write(context, theme, String(steps[row] + 1), GUTTER - 10, y, {
    align: "right",
    size: 10.5,
    colour: theme.ink,
  });
}

/** @type {(triangle: Triangle, view: View) => void} */
function captionTriangle({ surface, name, caption }, view) {
  const side = view.run[name];
  setText(caption, triangleTitle(surface, name, view));
  const queries = plural(side.attention.before(view.step) + 1, "query row");
  const words = `Attention map of head ${headOf(view, side) + 1}, layer ${view.layer + 1}, ${side.short}: ${queries}, masked keys blank`;
  setAttribute(surface.canvas, "aria-label", words);
}

/** @type {(surface: Surface, name: SideName, view: View) => string} */
function triangleTitle(surface, name, view) {
  const { run, layer } = view;
  const side = run[name];
  const kept = side.attention.steps.length;
  const notes = kept < run.n_steps ? ` · ${kept} of ${run.n_steps} rows kept` : "";
  const pooled = isPooled(surface, run) ? " · pooled by maximum" : "";
  return `Head ${headOf(view, side) + 1}, layer ${layer + 1}: queries down, keys across${notes}${pooled}`;
}

/**
 * Which query looks at which token, and how much; choosing one goes to its step.
 * @type {(view: View, triangle: Triangle, goTo: (step: number) => void) => Grid}
 */
function triangleGrid(view, { surface, name }, goTo) {
  const { run, step, layer } = view;
  const { attention } = run[name];
  const head = headOf(view, run[name]);
  const last = attention.before(step);
  const height = HEIGHT / attention.steps.length;
  return {
    rows: last + 1,
    start: { row: last, column: attention.steps[last] },
    at: (x, y) => {
      const row = Math.floor(y / height);
      return row < 0 || row > last ? null : weightCell(surface, run.n_steps, row, x);
    },
    choose: ({ row }) => goTo(attention.steps[row]),
    ...weightCells(surface, run, attention, {
      height,
      stored: (row) => attention.stored(row, layer, head),
      where: (row) => `head ${head + 1}, query ${tokenWords(run, attention.steps[row])}`,
    }),
  };
}

/**
 * The current query and those before it, newest first, `most` of them.
 * @type {(view: View, name: SideName, most?: number, mostKeys?: number) => Sheet}
 */
function triangleSheet(view, name, most = TABLE_ROWS, mostKeys = WINDOW) {
  const { run, step, layer } = view;
  const { attention } = run[name];
  const head = headOf(view, run[name]);
  const kept = attention.before(step);
  if (kept < 0) return emptySheet(keptFromWords(attention));
  const lines = Array.from({ length: Math.min(most, kept + 1) }, (_, index) => ({
    name: tokenWords(run, attention.steps[kept - index]),
    stored: attention.stored(kept - index, layer, head),
  }));
  const { shown, ...table } = weightTable(run, attention, attention.steps[kept] + 1, lines, mostKeys);
  const queries = `${lines.length} of ${plural(kept + 1, "query row")}, newest first`;
  return { note: `Weights of head ${head + 1}: ${queries}; ${shown}.`, corner: "query", ...table };
}
