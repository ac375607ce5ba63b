// The cell cursor: each canvas is one tab stop, and keys go from value to value in it as a mouse does.
// It knows grids of cells, keys and clicks; what a cell says and does it asks the canvas's own part.

import { element, frameOf, setAttribute, setText } from "./dom.js";

/** @import { Tooltip } from "./tooltip.js" */
/** @typedef {{ x: number, y: number, width: number, height: number }} Box in CSS pixels of the canvas */
/**
 * @typedef {object} Cell
 * @property {number} row
 * @property {number} column
 * @property {number} [until] behind its last column, where a point covers more than one
 */
/**
 * What a canvas shows now: rows of cells, which may differ in length.
 * @typedef {object} Grid
 * @property {number} rows
 * @property {(row: number) => number} columns
 * @property {Cell} start where the cursor stands at first
 * @property {(cell: Cell) => Box} box
 * @property {(x: number, y: number) => Cell | null} at what lies under a point; it may be no cell of its row
 * @property {(cell: Cell) => string | null} words what a tooltip says, in lines; null where it is no cell
 * @property {(cell: Cell) => string} value its figure alone, for its neighbours to be told by
 * @property {(cell: Cell) => void} [choose] what a click or Enter does
 */
/** @typedef {{ canvas: HTMLCanvasElement, grid: () => Grid | null, cell: Cell | null }} Stop */
/** @typedef {ReturnType<typeof makeCursors>} Cursors */
/** @typedef {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">} Key */

const PAGE = 10;
const SMALLEST = 7;
const SPOKEN_PAUSE_MS = 150;

/** @type {Record<string, [down: number, right: number]>} */
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
/** @type {Record<string, keyof typeof ARROWS>} */
const NEIGHBOURS = { left: "ArrowLeft", right: "ArrowRight", above: "ArrowUp", below: "ArrowDown" };

/**
 * The cursor of all canvases of a player: it stands in the one that has the focus. `spoken` is a live region,
 * `help` tells the keys and is seen while they are the cursor's.
 * @param {{ tooltip: Tooltip, spoken: HTMLElement, help: HTMLElement }} shared
 */
export function makeCursors({ tooltip, spoken, help }) {
  const outline = element("span", "cell");
  /** @type {Stop | null} */
  let active = null;
  let timer = 0;

  const leave = () => {
    if (active) tooltip.drop();
    active = null;
    help.hidden = true;
    outline.remove();
    clearTimeout(timer);
    setText(spoken, "");
  };
  const show = (/** @type {Stop} */ stop) => {
    const grid = gridOf(stop);
    if (!grid) return leave();
    const cell = clamped(stop.cell ?? grid.start, grid);
    const box = grid.box(cell);
    Object.assign(stop, { cell });
    active = stop;
    help.hidden = false;
    drawOutline(outline, box);
    frameOf(stop.canvas).append(outline);
    const below = { x: box.x + box.width / 2, y: box.y + box.height };
    tooltip.hold(stop.canvas, () => gridOf(stop)?.words(cell) ?? null, below);
  };
  const move = (/** @type {Stop} */ stop, /** @type {Cell | null} */ cell) => {
    stop.cell = cell;
    show(stop);
    outline.scrollIntoView({ block: "nearest", inline: "nearest" });
    clearTimeout(timer);
    timer = setTimeout(() => setText(spoken, spokenWords(stop)), SPOKEN_PAUSE_MS);
  };
  /** Whether the key was one of the cursor's own. @type {(stop: Stop, event: KeyboardEvent) => boolean} */
  const take = (stop, event) => {
    const grid = gridOf(stop);
    if (!grid) return false;
    if (active !== stop || !stop.cell) {
      if (event.key === "Enter") move(stop, stop.cell);
      return event.key === "Enter";
    }
    const to = keyedTo(event, stop.cell, grid);
    if (to) move(stop, to);
    else if (event.key === "Enter") grid.choose?.(stop.cell);
    else if (event.key === "Escape") leave();
    else return false;
    return true;
  };
  return {
    /**
     * Make a canvas, which stands at the upper left of its frame, a tab stop whose `kind` is spoken.
     * @type {(canvas: HTMLCanvasElement, kind: string, grid: () => Grid | null) => void}
     */
    attach: (canvas, kind, grid) => {
      /** @type {Stop} */
      const stop = { canvas, grid, cell: null };
      describeStop(canvas, kind, help.id);
      tooltip.attach(canvas, {
        describe: (x, y) => wordsAt(stop, x, y),
        choose: (x, y) => chooseAt(stop, x, y),
      });
      canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && move(stop, stop.cell));
      canvas.addEventListener("blur", () => active === stop && leave());
      canvas.addEventListener("keydown", (event) => take(stop, event) && event.preventDefault());
    },
    /** After a painting the cell may be elsewhere, or no more. */
    refresh: () => active && show(active),
    destroy: () => clearTimeout(timer),
  };
}

/** @type {(canvas: HTMLCanvasElement, kind: string, help: string) => void} */
function describeStop(canvas, kind, help) {
  const attributes = {
    tabindex: 0,
    role: "application",
    "aria-roledescription": kind,
    "aria-describedby": help,
  };
  for (const [name, value] of Object.entries(attributes)) setAttribute(canvas, name, value);
}

/**
 * The grid of a canvas, where it has any cell.
 * @type {(stop: Stop) => Grid | null}
 */
function gridOf({ grid }) {
  const now = grid();
  return now && now.rows > 0 && now.columns(0) > 0 ? now : null;
}

/** @type {(stop: Stop, x: number, y: number) => string | null} */
function wordsAt(stop, x, y) {
  const grid = gridOf(stop);
  const cell = grid?.at(x, y);
  return grid && cell ? grid.words(cell) : null;
}

/**
 * A click: the cursor will go on from there.
 * @type {(stop: Stop, x: number, y: number) => void}
 */
function chooseAt(stop, x, y) {
  const grid = gridOf(stop);
  const cell = grid?.at(x, y);
  if (!grid || !cell) return;
  stop.cell = cell;
  grid.choose?.(cell);
}

/**
 * The cell that a key goes to; nothing where the key is none of the cursor's.
 * @type {(key: Key, cell: Cell, grid: Grid) => Cell | undefined}
 */
export function keyedTo({ key, ctrlKey, metaKey, altKey }, { row, column }, grid) {
  if (metaKey || altKey) return undefined;
  if (key === "Home") return clamped({ row: ctrlKey ? 0 : row, column: 0 }, grid);
  if (key === "End") return clamped({ row: ctrlKey ? Infinity : row, column: Infinity }, grid);
  if (ctrlKey) return undefined;
  const page = key === "PageDown" ? PAGE : key === "PageUp" ? -PAGE : 0;
  const [down, right] = ARROWS[key] ?? (grid.rows > 1 ? [page, 0] : [0, page]);
  return down || right ? clamped({ row: row + down, column: column + right }, grid) : undefined;
}

/** @type {(cell: Cell, grid: Grid) => Cell} */
function clamped({ row, column }, grid) {
  const inside = Math.max(0, Math.min(row, grid.rows - 1));
  return { row: inside, column: Math.max(0, Math.min(column, grid.columns(inside) - 1)) };
}

/**
 * What a cell says and, behind it, the figures around it.
 * @type {(stop: Stop) => string}
 */
function spokenWords(stop) {
  const grid = gridOf(stop);
  if (!grid || !stop.cell) return "";
  const { row, column } = stop.cell;
  const around = Object.entries(NEIGHBOURS).flatMap(([name, key]) => {
    const next = { row: row + ARROWS[key][0], column: column + ARROWS[key][1] };
    const there = clamped(next, grid);
    return there.row === next.row && there.column === next.column ? `${name} ${grid.value(next)}` : [];
  });
  return [(grid.words(stop.cell) ?? "").replaceAll("\n", ", "), ...around].join("; ");
}

/**
 * Around the cell, and never too small to be seen.
 * @type {(outline: HTMLElement, box: Box) => void}
 */
function drawOutline({ style }, { x, y, width, height }) {
  const [wide, high] = [Math.max(SMALLEST, width), Math.max(SMALLEST, height)];
  const [left, top] = [x - (wide - width) / 2, y - (high - height) / 2];
  Object.assign(style, { left: `${left}px`, top: `${top}px`, width: `${wide}px`, height: `${high}px` });
}
