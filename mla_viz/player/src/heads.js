// The strip of heads: every head of one layer over the tokens so far, a row each.
// It knows the weights of one step; it asks `chooseHead` for a head and does not know what follows.

import {
  cellSpan,
  headOf,
  isPooled,
  keptFromWords,
  peakOf,
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
  makeImage,
  makeSurface,
  plotWidth,
  textWidth,
  write,
} from "./canvas.js";
import { find, setAttribute, setText } from "./dom.js";
import { tokenWords } from "./narration.js";
import { emptySheet, makeTable, WINDOW } from "./table.js";
import { makeSave } from "./take.js";
import { plural, quoted } from "./words.js";

/** @import { Context, Surface } from "./canvas.js" */
/** @import { Cursors, Grid } from "./cursor.js" */
/** @import { Side, SideName } from "./payload.js" */
/** @import { Part, View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */
/** @typedef {{ name: SideName, surface: Surface, view: View | null, caption: HTMLElement }} Heads */

const LABEL_HEIGHT = 18;

/**
 * @param {HTMLElement} panel
 * @param {SideName} name
 * @param {Cursors} cursors
 * @param {(head: number) => void} chooseHead
 * @returns {Part}
 */
export function makeHeadsView(panel, name, cursors, chooseHead) {
  const surface = makeSurface(find(panel, ".heads canvas", HTMLCanvasElement));
  /** @type {Heads} */
  const state = { name, surface, view: null, caption: find(panel, ".heads .caption") };
  cursors.attach(
    surface.canvas,
    "map of weights",
    () => state.view && headsGrid(state.view, state, chooseHead),
  );
  const table = makeTable(find(panel, ".heads"), (view) => headsSheet(view, name));
  makeSave(find(panel, ".heads"), {
    name: "heads",
    words: "attention now",
    sides: [name],
    within: ["layer"],
    surface,
    view: () => state.view,
    draw: (onto, view) => drawStrip(onto, name, view),
    title: (onto, view) => headsTitle(onto, name, view),
    legend: WEIGHT_LEGEND,
    sheet: (view) => headsSheet(view, name, Infinity),
  });
  return {
    surface,
    paint: (view) => {
      paintHeads(state, view);
      table.paint(view);
    },
  };
}

/**
 * CSS pixels of one head's row.
 * @type {(nHeads: number) => number}
 */
export function headHeight(nHeads) {
  return Math.max(2, Math.min(14, 128 / nHeads));
}

/**
 * The head whose row lies at y; -1 below the last one.
 * @type {(side: Side, y: number) => number}
 */
export function headAt(side, y) {
  const head = Math.floor(y / headHeight(side.n_heads));
  return head < side.n_heads ? head : -1;
}

/** @type {(state: Heads, view: View) => void} */
function paintHeads(state, view) {
  state.view = view;
  drawStrip(state.surface, state.name, view);
  captionHeads(state, view);
}

/** @type {(surface: Surface, name: SideName, view: View) => void} */
function drawStrip(surface, name, view) {
  const side = view.run[name];
  const row = side.attention.before(view.step);
  const height = side.n_heads * headHeight(side.n_heads);
  const context = beginSurface(surface, height + LABEL_HEIGHT);
  if (row < 0) {
    write(context, view.theme, keptFromWords(side.attention), GUTTER, height / 2);
    return;
  }
  drawRoom(context, view.theme, plotWidth(surface), height);
  drawHeads(context, surface, name, view, row);
  drawHeadLabels(context, view, side);
  labelTokens(context, view, plotWidth(surface), height + 10, side.attention.steps[row]);
}

/** @type {(context: Context, surface: Surface, name: SideName, view: View, row: number) => void} */
function drawHeads(context, surface, name, { run, layer, theme }, row) {
  const { attention, n_heads: nHeads } = run[name];
  const height = nHeads * headHeight(nHeads);
  const [wide, high] = [Math.round(plotWidth(surface) * surface.ratio), Math.round(height * surface.ratio)];
  const levels = new Int16Array(wide);
  surface.image = makeImage(surface.image, wide, high, (picture) => {
    for (let head = 0; head < nHeads; head += 1) {
      poolRow(levels.fill(-1), attention.stored(row, layer, head), attention.scale(255), run.n_steps);
      writeRow(picture, levels, theme[name].scale, ...cellSpan(head, nHeads, high));
    }
  });
  context.drawImage(surface.image, GUTTER, 0, plotWidth(surface), height);
}

/** @type {(context: Context, view: View, side: Side) => void} */
function drawHeadLabels(context, { head, theme }, side) {
  const height = headHeight(side.n_heads);
  const every = Math.ceil(11 / height);
  for (let index = 0; index < side.n_heads; index += 1) {
    const chosen = index === Math.min(head, side.n_heads - 1);
    const y = (index + 0.5) * height;
    if (chosen) drawMarker(context, theme, y);
    const crowded = Math.abs(index - head) < every;
    if (!chosen && (index % every || crowded)) continue;
    const colour = chosen ? theme.ink : theme.muted;
    write(context, theme, String(index + 1), GUTTER - 10, y, {
      align: "right",
      size: 10.5,
      colour,
      bold: chosen,
    });
  }
}

/**
 * Token text under some columns: first and current always, others where they do not touch.
 * @type {(context: Context, view: View, width: number, y: number, current: number) => void}
 */
function labelTokens(context, { run, theme }, width, y, current) {
  const column = width / run.n_steps;
  /** @type {[from: number, to: number][]} */
  const taken = [];
  /** @type {(pos: number, colour: string) => void} */
  const place = (pos, colour) => {
    const text = quoted(run.tokens[pos].text, 12);
    const half = textWidth(context, theme, text, 10.5) / 2;
    const middle = Math.min(Math.max(GUTTER + (pos + 0.5) * column, GUTTER + half), GUTTER + width - half);
    if (taken.some(([from, to]) => middle + half + 8 > from && middle - half - 8 < to)) return;
    taken.push([middle - half, middle + half]);
    write(context, theme, text, middle, y, { align: "center", size: 10.5, colour });
  };
  place(current, theme.ink);
  const stride = Math.max(1, Math.round(56 / column));
  for (let pos = 0; pos < current; pos += stride) place(pos, theme.muted);
}

/** @type {(heads: Heads, view: View) => void} */
function captionHeads({ surface, name, caption }, view) {
  const side = view.run[name];
  const row = side.attention.before(view.step);
  setText(caption, headsTitle(surface, name, view));
  const peak = row < 0 ? "" : `; head ${headOf(view, side) + 1} looks most at ${peakWords(view, side, row)}`;
  const words = `Attention of ${plural(side.n_heads, "head")} of ${side.short}, layer ${view.layer + 1}, over ${tokensOf(side, row)}${peak}`;
  setAttribute(surface.canvas, "aria-label", words);
}

/** @type {(surface: Surface, name: SideName, view: View) => string} */
function headsTitle(surface, name, view) {
  const side = view.run[name];
  const row = side.attention.before(view.step);
  const notes = attentionNotes(surface, view, side, row);
  return `Attention now, layer ${view.layer + 1}: every head over ${tokensOf(side, row)}${notes}`;
}

/** @type {(side: Side, row: number) => string} */
function tokensOf({ attention }, row) {
  return plural(row < 0 ? 0 : attention.steps[row] + 1, "token");
}

/** @type {(surface: Surface, view: View, side: Side, row: number) => string} */
function attentionNotes(surface, { run, step }, { attention }, row) {
  const notes = [];
  if (row >= 0 && attention.steps[row] !== step)
    notes.push(`step ${attention.steps[row] + 1}, the nearest kept`);
  if (isPooled(surface, run)) notes.push("pooled by maximum");
  if (!attention.exact) notes.push("rounded");
  return notes.map((note) => ` · ${note}`).join("");
}

/** @type {(view: View, side: Side, row: number) => string} */
function peakWords(view, side, row) {
  const stored = side.attention.stored(row, view.layer, headOf(view, side));
  const best = peakOf(stored, 0, stored.length);
  return `token ${tokenWords(view.run, best)}`;
}

/**
 * Which head looks at which token, and how much; nothing where no weights were kept.
 * @type {(view: View, heads: Heads, chooseHead: (head: number) => void) => Grid | null}
 */
function headsGrid(view, { surface, name }, chooseHead) {
  const { run, step, layer } = view;
  const side = run[name];
  const { attention, n_heads: nHeads } = side;
  const kept = attention.before(step);
  if (kept < 0) return null;
  return {
    rows: nHeads,
    start: { row: headOf(view, side), column: attention.steps[kept] },
    at: (x, y) => (headAt(side, y) < 0 ? null : weightCell(surface, run.n_steps, headAt(side, y), x)),
    choose: ({ row }) => chooseHead(row),
    ...weightCells(surface, run, attention, {
      height: headHeight(nHeads),
      stored: (head) => attention.stored(kept, layer, head),
      where: (head) => `head ${head + 1}`,
    }),
  };
}

/** @type {(view: View, name: SideName, most?: number) => Sheet} */
function headsSheet({ run, step, layer }, name, most = WINDOW) {
  const { attention, n_heads: nHeads } = run[name];
  const kept = attention.before(step);
  if (kept < 0) return emptySheet(keptFromWords(attention));
  const query = attention.steps[kept];
  const lines = Array.from({ length: Math.min(most, nHeads) }, (_, head) => ({
    name: String(head + 1),
    stored: attention.stored(kept, layer, head),
  }));
  const { shown, ...table } = weightTable(run, attention, query + 1, lines, most);
  const heads = `${lines.length} of ${plural(nHeads, "head")}`;
  return {
    note: `Weights of query ${tokenWords(run, query)}: ${heads}, ${shown}.`,
    corner: "head",
    ...table,
  };
}
