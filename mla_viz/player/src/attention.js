// What both attention maps share: columns, one a token of the whole run, one linear scale from 0 to 1, and
// what is said of a weight. It knows rows of weights; it does not know how a mechanism came by them.

import { GUTTER, plotWidth } from "./canvas.js";
import { tokenWords } from "./narration.js";
import { WINDOW } from "./table.js";
import { probabilityText } from "./words.js";

/** @import { Picture, Surface } from "./canvas.js" */
/** @import { Cell, Grid } from "./cursor.js" */
/** @import { Run, Side } from "./payload.js" */
/** @import { AttentionRows, Stored } from "./rows.js" */
/** @import { View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */

export const WEIGHT_LEGEND =
  "Attention weight on one linear scale, from 0 (faint) to 1 (strong); masked keys are blank.";

/**
 * The chosen head, where this side has it; its last one otherwise.
 * @type {(view: View, side: Side) => number}
 */
export function headOf({ head }, side) {
  return Math.min(head, side.n_heads - 1);
}

/**
 * Pixels [from, to) of cell `index` out of `cells` laid over `extent` pixels; wide cells leave a gap.
 * @type {(index: number, cells: number, extent: number) => [from: number, to: number]}
 */
export function cellSpan(index, cells, extent) {
  const from = Math.floor((index * extent) / cells);
  const to = Math.floor(((index + 1) * extent) / cells);
  return [from, Math.max(from + 1, extent / cells >= 5 ? to - 1 : to)];
}

/**
 * Lay stored weights into `levels`, a cell each of `cells` in all; the largest wins, -1 stays blank.
 * @type {(levels: Int16Array, stored: Stored, toLevel: number, cells: number) => void}
 */
export function poolRow(levels, stored, toLevel, cells) {
  const extent = levels.length;
  const perCell = extent / cells;
  const gap = perCell >= 5 ? 1 : 0;
  for (let cell = 0; cell < stored.length; cell += 1) {
    const level = Math.round(stored[cell] * toLevel);
    const from = Math.floor(cell * perCell);
    const to = Math.max(from + 1, Math.floor((cell + 1) * perCell) - gap);
    for (let pixel = from; pixel < to; pixel += 1) if (level > levels[pixel]) levels[pixel] = level;
  }
}

/**
 * Write one row of levels as colours into image rows [top, bottom).
 * @type {(picture: Picture, levels: Int16Array, scale: Uint32Array, top: number, bottom: number) => void}
 */
export function writeRow({ pixels, width }, levels, scale, top, bottom) {
  for (let y = top; y < bottom; y += 1) {
    for (let x = 0; x < width; x += 1) if (levels[x] >= 0) pixels[y * width + x] = scale[levels[x]];
  }
}

/**
 * Whether a pixel of this surface stands for more than one token.
 * @type {(surface: Surface, run: Run) => boolean}
 */
export function isPooled(surface, run) {
  return plotWidth(surface) * surface.ratio < run.n_steps;
}

/**
 * What is said where a step has no row.
 * @type {(rows: AttentionRows) => string}
 */
export function keptFromWords({ steps }) {
  return steps.length
    ? `No weights kept this early: the first are of step ${steps[0] + 1}.`
    : "No weights kept in this run.";
}

/**
 * The largest of the keys [from, to): its place.
 * @type {(stored: Stored, from: number, to: number) => number}
 */
export function peakOf(stored, from, to) {
  let best = from;
  for (let key = from; key < to; key += 1) if (stored[key] > stored[best]) best = key;
  return best;
}

/**
 * The tokens [from, to) under x: one, or all that share its pixel.
 * @type {(surface: Surface, nSteps: number, x: number) => [from: number, to: number]}
 */
export function tokensUnder(surface, nSteps, x) {
  const width = plotWidth(surface);
  const from = Math.floor(((x - GUTTER) / width) * nSteps);
  return [from, from + Math.max(1, Math.ceil(nSteps / (width * surface.ratio)))];
}

/**
 * The weight of these tokens, in words: exact where it is one, the largest of several otherwise.
 * @type {(run: Run, rows: AttentionRows, stored: Stored, tokens: number[], where: string) => string | null}
 */
export function weightWords(run, rows, stored, [from, until], where) {
  if (from < 0 || from >= stored.length) return null;
  const to = Math.min(stored.length, until);
  const best = peakOf(stored, from, to);
  const weight = stored[best] * rows.scale(1);
  const figure = rows.exact ? weight.toPrecision(9) : `≈ ${weight.toFixed(3)} (rounded)`;
  const pooled = to - from > 1 ? `, max of ${to - from} tokens` : "";
  return `${where}\ntoken ${tokenWords(run, best)}\n${figure}${pooled}`;
}

/**
 * What a map of weights shows: `stored` are a row's weights, `where` names it, each row is `height` high.
 * @param {Surface} surface
 * @param {Run} run
 * @param {AttentionRows} rows
 * @param {{ height: number, stored: (row: number) => Stored, where: (row: number) => string }} map
 * @returns {Pick<Grid, "columns" | "box" | "words" | "value">}
 */
export function weightCells(surface, run, rows, { height, stored, where }) {
  const width = plotWidth(surface) / run.n_steps;
  return {
    columns: (row) => stored(row).length,
    box: ({ row, column }) => ({ x: GUTTER + column * width, y: row * height, width, height }),
    words: ({ row, column, until = column + 1 }) =>
      weightWords(run, rows, stored(row), [column, until], where(row)),
    value: ({ row, column }) => probabilityText(stored(row)[column] * rows.scale(1)),
  };
}

/**
 * The cell of a row under x, which covers all tokens that share its pixel.
 * @type {(surface: Surface, nSteps: number, row: number, x: number) => Cell}
 */
export function weightCell(surface, nSteps, row, x) {
  const [column, until] = tokensUnder(surface, nSteps, x);
  return { row, column, until };
}

/**
 * Weights as a table: a column a key, the last of them where there are more than `most`; masked ones stay blank.
 * @param {Run} run
 * @param {AttentionRows} rows
 * @param {number} keys
 * @param {{ name: string, stored: Stored }[]} lines
 * @returns {{ shown: string } & Pick<Sheet, "columns" | "rows" | "text">}
 */
export function weightTable(run, rows, keys, lines, most = WINDOW) {
  const from = Math.max(0, keys - most);
  const columns = Array.from({ length: keys - from }, (_, index) => tokenWords(run, from + index));
  return {
    shown: `keys ${from + 1} to ${keys} of ${keys}${rows.exact ? "" : ", rounded"}`,
    columns,
    rows: lines.map(({ name, stored }) => ({
      name,
      values: columns.map((_, index) =>
        from + index < stored.length ? stored[from + index] * rows.scale(1) : null,
      ),
    })),
    text: probabilityText,
  };
}
