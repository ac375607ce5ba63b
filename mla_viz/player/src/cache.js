// The cache map: one row a token, one column a cached element, both sides to one scale, so area is memory.
// It knows cached cells and their segments; it does not know attention, time or other mechanisms' weights.

import {
  beginSurface,
  drawMarker,
  drawRoom,
  GUTTER,
  imageFor,
  makeSurface,
  plotWidth,
  textWidth,
  write,
} from "./canvas.js";
import { find, setAttribute, setText } from "./dom.js";
import { shortNames, tokenWords } from "./narration.js";
import { emptySheet, makeTable } from "./table.js";
import { makeSave } from "./take.js";
import { bytesText, plural, signedText } from "./words.js";

/** @import { Context, Picture, Surface } from "./canvas.js" */
/** @import { Cursors, Grid } from "./cursor.js" */
/** @import { Segment } from "./layout.d.ts" */
/** @import { Run, Side, SideName } from "./payload.js" */
/** @import { Part, View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */
/** @import { Theme } from "./theme.js" */
/** @typedef {{ name: SideName, surface: Surface, view: View | null }} CacheMap */
/** @typedef {{ caption: HTMLElement, aside: HTMLElement }} Captions */
/** @typedef {{ byteWidth: number, elementWidth: number, rowHeight: number, plotHeight: number }} Scale in CSS pixels */
/** @typedef {{ from: number, width: number, y: number, free: number[], few: boolean }} Bracket */

const HEIGHT = 160;
const TALLEST_ROW = 5;
const BRACKET_HEIGHT = 34;
const TABLE_CELLS = 4096;
const LEGEND =
  "A row a token, a column a cached value, faint to strong from the smallest to the largest." +
  " One byte has the same size on both sides.";

/**
 * @param {HTMLElement} panel
 * @param {SideName} name
 * @param {Cursors} cursors
 * @param {(step: number) => void} goTo
 * @returns {Part}
 */
export function makeCacheView(panel, name, cursors, goTo) {
  const surface = makeSurface(find(panel, ".cache canvas", HTMLCanvasElement));
  /** @type {CacheMap} */
  const state = { name, surface, view: null };
  const captions = { caption: find(panel, ".cache .caption"), aside: find(panel, ".cache .aside") };
  cursors.attach(surface.canvas, "map of values", () => state.view && cacheGrid(state.view, state, goTo));
  const table = makeTable(find(panel, ".cache"), (view) => cacheSheet(view, name));
  makeSave(find(panel, ".cache"), {
    name: "cache",
    words: "the cache",
    sides: [name],
    within: ["layer"],
    surface,
    view: () => state.view,
    draw: (onto, view) => drawCache(onto, name, view),
    title: (_, view) => cacheTitle(name, view),
    legend: LEGEND,
    sheet: (view) => cacheSheet(view, name, Infinity),
  });
  return {
    surface,
    paint: (view) => {
      paintCache(state, captions, view);
      table.paint(view);
    },
  };
}

/**
 * CSS pixels of one element, and of one token's row. A byte has one size on both sides; where a cache is kept
 * in fewer bits an element has its share of the row's bytes, scales included.
 * @type {(run: Run, name: SideName, width: number) => Scale}
 */
export function cacheScale(run, name, width) {
  const { cache_elems: elems, row_bytes: bytes } = run[name];
  const byteWidth = width / Math.max(run.left.row_bytes, run.right.row_bytes, 1);
  const rowHeight = Math.min(TALLEST_ROW, HEIGHT / run.n_steps);
  const elementWidth = (byteWidth * bytes) / Math.max(elems, 1);
  return { byteWidth, elementWidth, rowHeight, plotHeight: Math.max(24, run.n_steps * rowHeight) };
}

/** @type {(state: CacheMap, captions: Captions, view: View) => void} */
function paintCache(state, captions, view) {
  state.view = view;
  drawCache(state.surface, state.name, view);
  captionCache(state.surface, captions, view, state.name);
}

/** @type {(surface: Surface, name: SideName, view: View) => void} */
function drawCache(surface, name, view) {
  const side = view.run[name];
  const scale = cacheScale(view.run, name, plotWidth(surface));
  const context = beginSurface(surface, scale.plotHeight + BRACKET_HEIGHT);
  const width = side.cache_elems * scale.elementWidth;
  if (side.cache_elems > 0) {
    drawRoom(context, view.theme, width, scale.plotHeight);
    drawCells(context, { surface, name }, view, scale.rowHeight, width);
    drawBrackets(context, view.theme, side.segments, scale);
  }
  drawMissing(context, view, name, scale, width);
  drawNewRow(context, view, scale.rowHeight, width);
  drawToCome(context, view, scale, width);
  writePooled(context, view.theme, side, scale, surface);
}

/** @type {(context: Context, map: Pick<CacheMap, "surface" | "name">, view: View, rowHeight: number, width: number) => void} */
function drawCells(context, { surface, name }, view, rowHeight, width) {
  const { run, step, layer, theme } = view;
  const rows = run.n_steps * rowHeight;
  const key = `${theme.key}|${layer}`;
  const [wide, high] = [Math.round(width * surface.ratio), Math.round(rows * surface.ratio)];
  const image = imageFor(surface, key, wide, high, (picture) => {
    poolCells(picture, run[name], layer, run.n_steps, theme[name].scale);
  });
  const shown = Math.max(1, Math.round((image.height * (step + 1)) / run.n_steps));
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, image.width, shown, GUTTER, 0, width, (rows * shown) / image.height);
}

/**
 * Fill the image with the mean of the cells under each pixel, or the cell itself where it is wider.
 * @type {(picture: Picture, side: Pick<Side, "cells" | "cache_elems">, layer: number, nSteps: number, scale: Uint32Array) => void}
 */
export function poolCells({ pixels, width, height }, { cells, cache_elems: elems }, layer, nSteps, scale) {
  const { every } = cells;
  const [, tokens] = cells.data.shape;
  const first = Array.from({ length: width }, (_, x) => Math.floor((x * elems) / width));
  const end = first.map((from, x) => Math.max(from + 1, Math.floor(((x + 1) * elems) / width)));
  const sums = new Float64Array(width);
  for (let y = 0; y < height; y += 1) {
    const from = Math.min(tokens - 1, Math.floor((y * nSteps) / height / every));
    const to = Math.min(tokens, Math.max(from + 1, Math.floor(((y + 1) * nSteps) / height / every)));
    sums.fill(0);
    for (let row = from; row < to; row += 1) addRow(sums, cells.data.part(layer, row), first, end);
    for (let x = 0; x < width; x += 1) {
      pixels[y * width + x] = scale[Math.round(sums[x] / ((to - from) * (end[x] - first[x])))];
    }
  }
}

/** @type {(sums: Float64Array, row: Uint8Array, first: number[], end: number[]) => void} */
function addRow(sums, row, first, end) {
  for (let x = 0; x < sums.length; x += 1) {
    for (let column = first[x]; column < end[x]; column += 1) sums[x] += row[column];
  }
}

/**
 * The dashed outline: what the other side holds in its cache and this one does not.
 * @type {(context: Context, view: View, name: SideName, scale: Scale, width: number) => void}
 */
function drawMissing(context, { run, step, theme }, name, { byteWidth, rowHeight }, width) {
  const [other, otherName] =
    name === "left" ? [run.right, shortNames(run)[1]] : [run.left, shortNames(run)[0]];
  const missing = (other.row_bytes - run[name].row_bytes) * byteWidth;
  if (missing <= 0) return;
  const height = Math.max(2, (step + 1) * rowHeight);
  context.strokeStyle = theme.muted;
  context.lineWidth = 1;
  context.setLineDash([4, 3]);
  context.strokeRect(GUTTER + width + 1.5, 0.5, missing - 2, height);
  context.setLineDash([]);
  const words = `what ${otherName} caches more`;
  if (textWidth(context, theme, words, 11.5) + 8 > missing) return;
  const y = height >= 20 ? height / 2 : height + 10;
  write(context, theme, words, GUTTER + width + missing / 2, y, { align: "center", size: 11.5 });
}

/** @type {(context: Context, view: View, rowHeight: number, width: number) => void} */
function drawNewRow(context, { step, theme }, rowHeight, width) {
  const bottom = (step + 1) * rowHeight;
  const middle = Math.max(6, bottom - rowHeight / 2);
  write(context, theme, String(step + 1), GUTTER - 10, middle, {
    align: "right",
    size: 10.5,
    colour: theme.ink,
  });
  drawMarker(context, theme, middle);
  context.fillStyle = theme.ink;
  context.fillRect(GUTTER, bottom, Math.max(width, 2), 1.5);
}

/**
 * Name the empty rest of the room, where there is room for words.
 * @type {(context: Context, view: View, scale: Scale, width: number) => void}
 */
function drawToCome(context, { run, step, theme }, { rowHeight, plotHeight }, width) {
  const filled = (step + 1) * rowHeight;
  const words = `${plural(run.n_steps - step - 1, "token")} to come`;
  if (plotHeight - filled < 22 || textWidth(context, theme, words, 11) + 12 > width) return;
  write(context, theme, words, GUTTER + width / 2, (plotHeight + filled) / 2 + 1, { align: "center" });
}

/**
 * Say where a pixel stands for more than one value, at the right below the brackets.
 * @type {(context: Context, theme: Theme, side: Side, scale: Scale, surface: Surface) => void}
 */
function writePooled(context, theme, side, { elementWidth, rowHeight, plotHeight }, surface) {
  const subPixel = Math.min(elementWidth, rowHeight) * surface.ratio < 1;
  const reduced = side.cells.every > 1;
  if (!side.cache_elems || !(reduced || subPixel)) return;
  const words = reduced ? "pooled" : "pooled for display: mean under each pixel";
  write(context, theme, words, surface.width - 2, plotHeight + 29, { align: "right", size: 10.5 });
}

/** @type {(context: Context, theme: Theme, segments: Segment[], scale: Scale) => void} */
function drawBrackets(context, theme, segments, { elementWidth, plotHeight }) {
  const y = plotHeight + 8;
  let from = GUTTER;
  let free = [0, 0];
  for (const { label, elems } of segments) {
    const width = elems * elementWidth;
    context.fillStyle = theme.muted;
    context.fillRect(from + 0.5, y, Math.max(1, width - 1.5), 1.5);
    context.fillRect(from + 0.5, y - 3, 1, 4);
    free = labelBracket(context, theme, label, { from, width, y, free, few: segments.length < 4 });
    from += width;
  }
}

/**
 * Write the label centred where it fits and leaves its neighbours room; where segments are few it may overhang, on
 * the first free line. The second line's end belongs to what is said of pooling.
 * @type {(context: Context, theme: Theme, label: string, bracket: Bracket) => number[]}
 */
function labelBracket(context, theme, label, { from, width, y, free, few }) {
  const needed = textWidth(context, theme, label, 10.5);
  const fits = needed + 4 <= width;
  const x = fits ? from + (width - needed) / 2 : from;
  if (!few && (!fits || free[0] > x)) return free;
  const line = free[0] <= x ? 0 : 1;
  write(context, theme, label, x, y + 9 + 12 * line, { size: 10.5 });
  return free.map((right, index) => (index === line ? x + needed + 6 : right));
}

/** @type {(surface: Surface, captions: Captions, view: View, name: SideName) => void} */
function captionCache(surface, { caption, aside }, view, name) {
  const { run, step, layer } = view;
  const side = run[name];
  const bytes = side.cache_bytes.at(step);
  const added = bytes - (step ? side.cache_bytes.at(step - 1) : 0);
  setText(caption, cacheTitle(name, view));
  setText(aside, added ? `+${bytesText(added)} this token, all layers` : "nothing kept");
  const size = sizeWords(step, side);
  const words = `Cache of ${side.short}, layer ${layer + 1}: ${size}; ${bytesText(bytes)} over all layers`;
  setAttribute(surface.canvas, "aria-label", words);
}

/** @type {(name: SideName, view: View) => string} */
function cacheTitle(name, { run, step, layer }) {
  const side = run[name];
  const size = sizeWords(step, side);
  return side.cache_elems ? `Cache, layer ${layer + 1}: ${size}` : `No cache, layer ${layer + 1}`;
}

/** @type {(step: number, side: Side) => string} */
function sizeWords(step, { cache_elems: elems, row_bytes: bytes, kept }) {
  const size = `${plural(step + 1, "token")} × ${plural(elems, "value")}`;
  return kept ? `${size} in ${kept.name}, ${plural(bytes, "byte")} a token` : size;
}

/**
 * Which token's which value, and how large; choosing one goes to the step that cached it.
 * @type {(view: View, map: Pick<CacheMap, "surface" | "name">, goTo: (step: number) => void) => Grid}
 */
export function cacheGrid({ run, step, layer }, { surface, name }, goTo) {
  const side = run[name];
  const { elementWidth: width, rowHeight: height } = cacheScale(run, name, plotWidth(surface));
  return {
    rows: step + 1,
    columns: () => side.cache_elems,
    start: { row: step, column: 0 },
    box: ({ row, column }) => ({ x: GUTTER + column * width, y: row * height, width, height }),
    at: (x, y) => {
      const [row, column] = [Math.floor(y / height), Math.floor((x - GUTTER) / width)];
      return row < 0 || row > step ? null : { row, column };
    },
    words: ({ row, column }) =>
      column < 0 || column >= side.cache_elems ? null : cacheWords(run, side, layer, row, column),
    value: ({ row, column }) => signedText(cellValue(side, layer, row, column).value),
    choose: ({ row }) => goTo(row),
  };
}

/** @type {(run: Run, side: Side, layer: number, pos: number, index: number) => string} */
function cacheWords(run, side, layer, pos, index) {
  const { value, low, high } = cellValue(side, layer, pos, index);
  const kept = side.cells.every > 1 ? "pooled, one byte" : "one byte";
  const read = side.kept ? `kept in ${side.kept.name}, as it is read back\n` : "";
  return (
    `token ${tokenWords(run, pos)}\n${elementWords(side.segments, index)}\n${read}` +
    `≈ ${signedText(value)} (${kept}, range ${signedText(low)} … ${signedText(high)})`
  );
}

/**
 * The row that this step cached, at most `most` values of it, a line of the table for each stretch.
 * @type {(view: View, name: SideName, most?: number) => Sheet}
 */
function cacheSheet({ run, step, layer }, name, most = TABLE_CELLS) {
  const side = run[name];
  if (!side.cache_elems) return emptySheet("Nothing is cached.");
  const rows = stretchesOf(side.segments, most).map(({ label, from, elems }) => ({
    name: label,
    values: Array.from({ length: elems }, (_, index) => cellValue(side, layer, step, from + index).value),
  }));
  const count = rows.reduce((sum, { values }) => sum + values.length, 0);
  const kept = side.cells.every > 1 ? "pooled, one byte each" : "one byte each";
  return {
    note: `Cached of token ${tokenWords(run, step)}: ${count} of ${plural(side.cache_elems, "value")}, ${kept}.`,
    corner: "value",
    columns: Array.from(
      { length: Math.max(...rows.map(({ values }) => values.length)) },
      (_, at) => `${at + 1}`,
    ),
    rows,
    text: signedText,
  };
}

/**
 * The parts of each segment, or the segment itself where it has none: where each begins, and how much of it
 * lies within the first `most` elements.
 * @type {(segments: Segment[], most: number) => { label: string, from: number, elems: number }[]}
 */
function stretchesOf(segments, most) {
  let from = 0;
  const all = segments.flatMap(({ label, elems, parts }) =>
    parts.length ? parts.map((part) => ({ ...part, label: `${label}, ${part.label}` })) : { label, elems },
  );
  return all.flatMap(({ label, elems }) => {
    const stretch = { label, from, elems: Math.min(elems, most - from) };
    from += elems;
    return stretch.elems > 0 ? stretch : [];
  });
}

/**
 * The cached value of a token and element, as its byte has it, and the range that it was rounded over.
 * @type {(side: Side, layer: number, pos: number, index: number) => Record<"value" | "low" | "high", number>}
 */
export function cellValue({ cells }, layer, pos, index) {
  const [, tokens] = cells.data.shape;
  const row = Math.min(tokens - 1, Math.floor(pos / cells.every));
  const level = cells.data.at(layer, row, index);
  const [low, high] = cells.low_high.part(layer);
  return { value: low + ((high - low) * level) / 255, low, high };
}

/**
 * What one element of a cached row is, in words that count from one: "head 2, k, value 7".
 * @type {(segments: Segment[], index: number) => string}
 */
export function elementWords(segments, index) {
  const segment = within(segments, index);
  if (!segment) return `value ${index + 1}`;
  const part = within(segment.of.parts, segment.rest);
  if (!part) return `${segment.of.label}, value ${segment.rest + 1}`;
  return `${segment.of.label}, ${part.of.label}, value ${part.rest + 1}`;
}

/**
 * The stretch that an index falls into, and the index inside it.
 * @template {{ elems: number }} Stretch
 * @param {Stretch[]} stretches
 * @param {number} index
 */
function within(stretches, index) {
  let rest = index;
  for (const of of stretches) {
    if (rest < of.elems) return { of, rest };
    rest -= of.elems;
  }
  return undefined;
}
