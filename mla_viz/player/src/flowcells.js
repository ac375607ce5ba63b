// The cells of a step's scene: which lies where, its value, and the sum that makes it.
// It knows scenes and words; it draws nothing.

import { ABSORBING, rowOf } from "./lane.js";
import { shortNames } from "./narration.js";
import { WINDOW } from "./table.js";
import { figureText, plural, quoted } from "./words.js";

/** @import { Cell, Grid } from "./cursor.js" */
/** @import { Lane } from "./lane.js" */
/** @import { Dims } from "./layout.d.ts" */
/** @import { Side } from "./payload.js" */
/** @import { Item, Scene } from "./scene.js" */
/** @import { View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */
/** @typedef {{ items: Item[], row: number }} Line items side by side, and which of their rows */
/** @typedef {{ view: View, lane: Lane, side: Side, item: Item, row: number, column: number }} Place */
/** @typedef {{ value: number, words: string }} Term */

const TERMS = 3;
const TABLE_ROWS = 8;

/** @type {(view: View | null, scene: Scene | null) => Grid | null} */
export function gridOf(view, scene) {
  if (!view?.inside || !scene) return null;
  const lines = linesOf(scene);
  /** @type {(cell: Cell) => Place} */
  const placeOf = ({ row, column }) => {
    const line = lines[row];
    const { item, rest } = itemAt(line, column);
    const { side } = item;
    return { view, item, side: view.run[side], lane: scene.lanes[side], row: line.row, column: rest };
  };
  return {
    rows: lines.length,
    columns: (row) => lines[row].items.reduce((sum, { matrix }) => sum + matrix.width, 0),
    start: { row: 0, column: 0 },
    box: (cell) => boxOf(placeOf(cell)),
    at: (x, y) => cellAt(lines, x, y),
    words: (cell) => cellWords(placeOf(cell)),
    value: (cell) => figureText(figureOf(placeOf(cell))),
  };
}

/**
 * Every vector of the step a row: of cached or rebuilt rows the newest `mostRows`, of each the first `most` values.
 * @type {(view: View, scene: Scene, mostRows?: number, most?: number) => Sheet}
 */
export function flowSheet(view, scene, mostRows = TABLE_ROWS, most = WINDOW) {
  const [left, right] = shortNames(view.run);
  const rows = scene.items.flatMap((item) => {
    const name = `${item.side === "left" ? left : right}: ${shortName(item)}`;
    const { rows: count, width, data } = item.matrix;
    if (count === 1 || width === 1) return { name, values: [...data.slice(0, most)] };
    const first = Math.max(0, count - mostRows);
    return Array.from({ length: count - first }, (_, index) => ({
      name: `${name}, token ${first + index + 1}`,
      values: [...rowOf(item.matrix, first + index).slice(0, most)],
    }));
  });
  const widest = Math.max(...rows.map(({ values }) => values.length));
  return {
    note: `${plural(rows.length, "row")}: of what is cached or rebuilt the newest ${mostRows}, of a vector the first ${most} values.`,
    corner: "vector",
    columns: Array.from({ length: widest }, (_, at) => `${at + 1}`),
    rows,
    text: figureText,
  };
}

/** @type {(scene: Scene) => Line[]} */
function linesOf({ items }) {
  /** @type {Map<string, Item[]>} */
  const groups = new Map();
  for (const item of items) {
    const key = `${item.side}|${item.slot}`;
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return [...groups.values()].flatMap((group) =>
    Array.from({ length: group[0].matrix.rows }, (_, row) => ({ items: group, row })),
  );
}

/** @type {(line: Line, column: number) => { item: Item, rest: number }} */
function itemAt({ items }, column) {
  let rest = column;
  for (const item of items) {
    if (rest < item.matrix.width) return { item, rest };
    rest -= item.matrix.width;
  }
  throw new Error(`flow: expected a column before ${column - rest}, got ${column}`);
}

/** @type {(place: Place) => { x: number, y: number, width: number, height: number }} */
function boxOf({ item, row, column }) {
  const width = item.width / item.matrix.width;
  return { x: item.x + column * width, y: item.y + row * item.rowHeight, width, height: item.rowHeight };
}

/** @type {(lines: Line[], x: number, y: number) => Cell | null} */
function cellAt(lines, x, y) {
  for (const [row, line] of lines.entries()) {
    let first = 0;
    for (const item of line.items) {
      const [dx, dy] = [x - item.x, y - item.y - line.row * item.rowHeight];
      if (dx >= 0 && dx < item.width && dy >= 0 && dy < item.rowHeight) {
        return { row, column: first + Math.floor((dx / item.width) * item.matrix.width) };
      }
      first += item.matrix.width;
    }
  }
  return null;
}

/** @type {(place: Place) => number} */
function figureOf({ item: { matrix }, row, column }) {
  return matrix.data[row * matrix.width + column];
}

/**
 * What a cell is, its value, and the largest terms of the sum that makes it.
 * @type {(place: Place) => string}
 */
function cellWords(place) {
  const { item, column } = place;
  const value = figureText(figureOf(place));
  const name = item.bars
    ? `${item.label} of ${tokenWords(place)}`
    : `${shortName(item)}${item.slot === "cache" ? `, ${tokenWords(place)}` : ""}, value ${column + 1}`;
  return [`${name}: ${value}`, ...madeWords(place)].join("\n");
}

/** @type {(place: Pick<Place, "side" | "view">) => number} */
function headOf({ side, view }) {
  return Math.min(view.head, side.n_heads - 1);
}

/** @type {(item: Item) => string} */
function shortName({ label }) {
  return label.replace(/ 1×.*$/, "");
}

/** @type {(place: Place) => string} */
function tokenWords({ view, row }) {
  return `token ${row + 1} ${quoted(view.run.tokens[row].text, 16)}`;
}

/** @type {(place: Place) => string[]} */
function madeWords(place) {
  const { item, lane, row, column, side } = place;
  const { dims, vectors } = side;
  const layer = place.view.layer - vectors.first;
  const head = headOf(place);
  const value = figureOf(place);
  if (item.id === "scores") return scoreWords(lane, row, side.dims);
  if (item.id === "probs") return weightWords(lane, row);
  if (item.id === "õ" || (item.id === "o" && item.phase === 4)) {
    const terms = sumOf(value, lane.values.rows, (at) => [
      lane.probs[at],
      rowOf(lane.values, at)[column],
      `token ${at + 1}`,
    ]);
    return ["= Σ weight × value", ...terms];
  }
  if (item.id === "o" && vectors.W_UV) {
    const up = vectors.W_UV.part(layer, head);
    const width = up.length / dims.latent;
    return [
      "= Σ õ × W_UV",
      ...sumOf(value, dims.latent, (at) => [lane.mix[at], up[at * width + column], `value ${at + 1}`]),
    ];
  }
  if (
    item.id === "moved" &&
    side.mechanism === "mla_absorbed" &&
    column < dims.latent &&
    vectors.W_UK &&
    lane.q
  ) {
    const up = vectors.W_UK.part(layer, head);
    const width = up.length / dims.latent;
    const { q } = lane;
    return [
      "= Σ q × W_UK",
      ...sumOf(value, width, (at) => [q[at], up[column * width + at], `value ${at + 1}`]),
    ];
  }
  return originWords(place);
}

/**
 * A score as the sum that it is, by the scale that its side has.
 * @type {(lane: Pick<Lane, "query" | "keys" | "scores" | "scale">, row: number, dims: Pick<Dims, "qk">) => string[]}
 */
export function scoreWords({ query, keys, scores, scale }, row, { qk: width }) {
  const key = rowOf(keys, row);
  const terms = sumOf(scores[row], query.length, (at) => [query[at], key[at], `value ${at + 1}`], scale);
  const own = Math.abs(scale * Math.sqrt(width) - 1) > 1e-9;
  return [`= Σ query × key, each ${own ? `times ${figureText(scale)}` : `divided by √${width}`}`, ...terms];
}

/** @type {(lane: Lane, row: number) => string[]} */
function weightWords({ scores }, row) {
  const largest = Math.max(...scores);
  let sum = 0;
  for (const score of scores) sum += Math.exp(score - largest);
  return [
    `= e^(${figureText(scores[row])} − ${figureText(largest)}) / ${figureText(sum)}`,
    "less the largest score; divided by the sum over all tokens",
  ];
}

/**
 * The largest terms of a sum of products, and the rest, in as many digits as add up to the value.
 * @type {(value: number, count: number, product: (at: number) => [number, number, string], factor?: number) => string[]}
 */
export function sumOf(value, count, product, factor = 1) {
  /** @type {Term[]} */
  const terms = Array.from({ length: count }, (_, at) => {
    const [one, other, words] = product(at);
    return { value: one * other * factor, words: `${figureText(one)} × ${figureText(other)}  (${words})` };
  });
  const digits = Math.min(6, Math.max(2, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));
  const text = (/** @type {number} */ term) =>
    term.toFixed(digits).replace(/^-(0[.]0*$)?/, (_, zero) => zero ?? "−");
  const largest = [...terms]
    .sort((one, other) => Math.abs(other.value) - Math.abs(one.value))
    .slice(0, TERMS);
  const told = largest.reduce((sum, term) => sum + Number(term.value.toFixed(digits)), 0);
  const lines = largest.map((term) => `${text(term.value)} = ${term.words}`);
  const left = count - largest.length;
  return left > 0 ? [...lines, `${text(Number(value.toFixed(digits)) - told)} = the other ${left}`] : lines;
}

/**
 * Where a cell of a vector or of the cache comes from.
 * @type {(place: Place) => string[]}
 */
function originWords(place) {
  const { item, row, column, lane, side, view } = place;
  const value = figureOf(place);
  const { dims, vectors, mechanism } = side;
  const [isKey, isValue] = [item.id === "k" || item.id === "keys", item.id === "v" || item.id === "values"];
  if (side.kept && item.look === "cached" && item.id !== "latent")
    return [`as ${side.kept.name} keeps it: rounded, then read back`];
  if ((isKey || isValue) && dims.latent && lane.latents) {
    const token = item.slot === "cache" ? row : view.step;
    if (isKey && column >= dims.qk - dims.rope) return ["the RoPE key, the same for all heads"];
    const up = (isKey ? vectors.W_UK : vectors.W_UV)?.part(
      view.layer - vectors.first,
      headOf({ side, view }),
    );
    if (!up) return [];
    const width = up.length / dims.latent;
    const latent = rowOf(lane.latents, token);
    return [
      `= Σ c_KV × ${isKey ? "W_UK" : "W_UV"}`,
      ...sumOf(value, dims.latent, (at) => [latent[at], up[at * width + column], `value ${at + 1}`]),
    ];
  }
  if (item.slot === "cache")
    return [`cached at step ${row + 1}${ABSORBING.includes(mechanism) ? ", read by all heads" : ""}`];
  return [];
}
