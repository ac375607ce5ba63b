// The worked example's numbers: what a cell is called, and the sum that makes it of the cells that are drawn.
// It knows matrices and sums; it draws nothing.

import { cellText } from "./words.js";

/** @import { Colour } from "./layout.d.ts" */
/** @typedef {"naive" | "rebuilt" | "absorbed" | "alike"} LaneName */
/** @typedef {{ kind: "product" | "turned" | "sum" | "exp" | "row sums" | "share", of: string[], by: number }} Made */
/**
 * @typedef {object} Matrix
 * @property {string} name
 * @property {number[][]} values
 * @property {string} role
 * @property {string[]} rows what they are called, where they are called anything
 * @property {string[]} columns
 * @property {boolean} newest whether the last row is the newest word's
 * @property {Made | null} made
 */
/** @typedef {{ name: string, gaps: Record<string, number>, apart: boolean }} Join */
/** @typedef {string[]} Place names of the matrices that stand side by side in it */
/** @typedef {{ name: LaneName, says: string, schemes: Place[][][] }} Lane */
/** @typedef {{ lanes: Lane[], joins: Join[] }} Band */
/**
 * @typedef {object} Drawing
 * @property {string} run what it shows, in words
 * @property {{ color: Colour }} left
 * @property {{ color: Colour }} right
 * @property {Band[]} bands
 * @property {Record<LaneName, Record<string, Matrix>>} matrices
 */
/** @typedef {{ matrix: Matrix, row: number, column: number }} Cell */
/** @typedef {{ words: string, value: number }} Term */
/** @typedef {{ terms: Term[], cells: Cell[][] }} Sum what adds up to a cell, and the rows and columns it is of */
/** @typedef {(name: string) => Matrix | undefined} Known the matrices that are drawn, by name */

const MOST_DIGITS = 6;
const EXACT = 1e-9;

/**
 * How a matrix is made, in words: "x · W_UQ head 1".
 * @type {(made: Made) => string}
 */
export function madeWords({ kind, of, by }) {
  const [one, other] = of;
  if (kind === "turned") return `${one}, each pair turned by ${other}`;
  if (kind === "sum") return `(${of.join(" + ")}) / ${cellText(by)}`;
  if (kind === "exp") return `e to the power of ${one}`;
  if (kind === "row sums") return `sum of each row of ${one}`;
  if (kind === "share") return `${one} / ${other}`;
  return pairsOf(of)
    .map((pair) => pair.join(" · "))
    .join(" + ");
}

/**
 * The sum that makes a cell; nothing where it is given, or what it is made of is not drawn.
 * @type {(cell: Cell, known: Known) => Sum | null}
 */
export function makingOf({ matrix: { made }, row, column }, known) {
  if (!made) return null;
  const first = rowOf(made.of[0], row, known);
  if (made.kind === "product") return productSum(made.of, row, column, known);
  if (!first) return null;
  const { matrix, row: at } = first;
  const value = matrix.values[at][column];
  const here = { matrix, row: at, column };
  switch (made.kind) {
    case "exp":
      return { terms: [{ words: `e^(${number(value)})`, value: Math.exp(value) }], cells: [[here]] };
    case "row sums":
      return {
        terms: matrix.values[at].map((one, index) => ({ words: matrix.columns[index], value: one })),
        cells: [line(matrix, at)],
      };
    case "sum":
      return addition(made, row, column, known);
    case "share": {
      const whole = rowOf(made.of[1], row, known);
      if (!whole) return null;
      const sum = whole.matrix.values[whole.row][0];
      const words = `${number(value)} / ${number(sum)}`;
      return { terms: [{ words, value: value / sum }], cells: [[here], [{ ...whole, column: 0 }]] };
    }
    default:
      return turn(first, column, rowOf(made.of[1], row, known));
  }
}

/** @type {(of: string[], row: number, column: number, known: Known) => Sum | null} */
function productSum(of, row, column, known) {
  /** @type {Sum} */
  const sum = { terms: [], cells: [] };
  for (const [left, right] of pairsOf(of)) {
    const one = rowOf(left, row, known);
    const other = known(right);
    if (!one || !other) return null;
    const across = line(one.matrix, one.row);
    const down = other.values.map((_, at) => ({ matrix: other, row: at, column }));
    sum.cells.push(across, down);
    sum.terms.push(
      ...across.map((cell, at) => {
        const [a, b] = [figureAt(cell), figureAt(down[at])];
        return { words: `${number(a)} × ${number(b)}`, value: a * b };
      }),
    );
  }
  return sum;
}

/** @type {(made: Made, row: number, column: number, known: Known) => Sum | null} */
function addition({ of, by }, row, column, known) {
  const places = of.map((name) => rowOf(name, row, known));
  if (places.includes(null)) return null;
  const cells = places.flatMap((place) => (place ? { ...place, column } : []));
  const terms = cells.map((cell) => ({
    words: `${number(figureAt(cell))} / ${number(by)}  (${cell.matrix.name})`,
    value: figureAt(cell) / by,
  }));
  return { terms, cells: cells.map((cell) => [cell]) };
}

/**
 * A pair (a, b), turned: (a·cos − b·sin, a·sin + b·cos).
 * @type {(pairs: { matrix: Matrix, row: number }, column: number, turns: { matrix: Matrix, row: number } | null) => Sum | null}
 */
function turn({ matrix, row }, column, turns) {
  if (!turns) return null;
  const even = column - (column % 2);
  const [a, b] = [even, even + 1].map((at) => matrix.values[row][at]);
  const [cos, sin] = [even, even + 1].map((at) => turns.matrix.values[turns.row][at]);
  const products = column === even ? [[a, cos], [-b, sin]] : [[a, sin], [b, cos]]; // biome-ignore format: pairs
  const pair = [even, even + 1].map((at) => ({ matrix, row, column: at }));
  return {
    terms: products.map(([one, other]) => ({
      words: `${number(one)} × ${number(other)}`,
      value: one * other,
    })),
    cells: [pair, pair.map((cell) => ({ ...turns, column: cell.column }))],
  };
}

/** @type {(of: string[]) => string[][]} */
function pairsOf(of) {
  return of.flatMap((name, at) => (at % 2 ? [] : [[name, of[at + 1]]]));
}

/**
 * A row of a matrix; where only its heads are drawn, each on its own, the row of that head.
 * @type {(name: string, row: number, known: Known) => { matrix: Matrix, row: number } | null}
 */
function rowOf(name, row, known) {
  const whole = known(name);
  if (whole) return { matrix: whole, row };
  const head = known(`${name} head ${row + 1}`);
  return head ? { matrix: head, row: 0 } : null;
}

/** @type {(matrix: Matrix, row: number) => Cell[]} */
function line(matrix, row) {
  return matrix.values[row].map((_, column) => ({ matrix, row, column }));
}

/** @type {(cell: Cell) => number} */
export function figureAt({ matrix, row, column }) {
  return matrix.values[row][column];
}

/** @type {(value: number) => string} */
function number(value) {
  return cellText(value, 4);
}

/**
 * What a cell is, its figure as it is printed, and what makes it; the terms, as told, add up to that figure.
 * @type {(cell: Cell, sum: Sum | null) => string}
 */
export function cellWords({ matrix, row, column }, sum) {
  const { name, rows, columns, made, values } = matrix;
  const printed = cellText(values[row][column]);
  const down = rows[row] ?? (values.length > 1 ? `row ${row + 1}` : "");
  const across = columns[column] ?? (values[0].length > 1 ? `column ${column + 1}` : "");
  const title = `${[name, down, across].filter(Boolean).join(", ")}: ${printed}`;
  if (!made) return `${title}\n${matrix.role}`;
  if (!sum) return `${title}\n= ${madeWords(made)}, at an earlier stage`;
  return [title, `= ${madeWords(made)}`, ...termLines(sum.terms, values[row][column])].join("\n");
}

/**
 * A line a term and their sum, in as few digits as add up to the value's own as printed.
 * @type {(terms: Term[], value: number) => string[]}
 */
export function termLines(terms, value) {
  let digits = 2;
  const exact = () =>
    terms.every((term) => Math.abs(term.value - Number(term.value.toFixed(digits))) < EXACT);
  while (digits < 4 && !exact()) digits += 1;
  const rounded = (/** @type {number} */ value) => Number(value.toFixed(digits));
  const total = () => rounded(terms.reduce((sum, term) => sum + rounded(term.value), 0));
  while (digits < MOST_DIGITS && cellText(total()) !== cellText(value)) digits += 1;
  const lines = terms.map((term) => `${cellText(term.value, digits)} = ${term.words}`);
  return terms.length > 1 ? [...lines, `${cellText(total(), digits)} in all`] : lines;
}
