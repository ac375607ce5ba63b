// The worked example in a page: its drawing, coloured, and what is pointed at, tapped or gone to by key.
// It knows nodes, keys and colours; it does not know what a matrix means.

import { element, find, setAttribute, setText } from "./dom.js";
import { cellWords, figureAt, makingOf } from "./example.js";
import { draw } from "./exampledraw.js";
import { apartColour, showLooks } from "./looks.js";
import { nearestThatWay } from "./places.js";
import { applyTheme, contrast, cssOf, readTheme, rgbOfPixel, SATURATION, shadeAt } from "./theme.js";
import { makeTooltip } from "./tooltip.js";

/** @import { Cell, Drawing, Known, LaneName, Matrix } from "./example.js" */
/** @import { Drawn } from "./exampledraw.js" */
/** @import { RGB, SideColours, Theme } from "./theme.js" */
/** @import { Tooltip } from "./tooltip.js" */
/** @typedef {{ drawn: Drawn, cell: Cell, node: HTMLElement }} Spot */
/** @typedef {{ root: HTMLElement, tooltip: Tooltip, drawing: Drawing | null, spots: Spot[], all: Drawn[], frames: HTMLElement[] }} Lesson */

/**
 * A drawing under `root`, which gets its record by `load`.
 * @type {(root: HTMLElement) => { load: (drawing: Drawing) => void, recolour: () => void, destroy: () => void }}
 */
export function mount(root) {
  const tooltip = makeTooltip(find(root, ".tooltip"));
  /** @type {Lesson} */
  const lesson = { root, tooltip, drawing: null, spots: [], all: [], frames: [] };
  showLooks(root);
  const recolour = () => paint(lesson);
  const watched = ["(prefers-color-scheme: dark)", "print"].map((query) => matchMedia(query));
  for (const one of watched) one.addEventListener("change", recolour);
  const elsewhere = (/** @type {Event} */ event) => {
    if (!event.composedPath().includes(root)) light(lesson, null);
  };
  document.addEventListener("pointerdown", elsewhere);
  return {
    load: (drawing) => load(lesson, drawing),
    recolour,
    destroy: () => {
      tooltip.destroy();
      document.removeEventListener("pointerdown", elsewhere);
      for (const one of watched) one.removeEventListener("change", recolour);
    },
  };
}

/** @type {(lesson: Lesson, drawing: Drawing) => void} */
function load(lesson, drawing) {
  if (JSON.stringify(drawing) === JSON.stringify(lesson.drawing)) return;
  const { bands, drawn, cell } = draw(drawing);
  const spots = drawn.flatMap((one) =>
    one.cells.flatMap((line, row) =>
      line.map((node, column) => ({ drawn: one, cell: { matrix: one.matrix, row, column }, node })),
    ),
  );
  Object.assign(lesson, { drawing, all: drawn, spots });
  lesson.tooltip.drop();
  light(lesson, null);
  const place = find(lesson.root, ".bands");
  setAttribute(place, "aria-label", drawing.run);
  place.style.setProperty("--widest", cell);
  place.replaceChildren(...bands);
  for (const spot of spots) attach(lesson, spot);
  setAttribute(spots[0].node, "tabindex", 0);
}

/** @type {(lesson: Lesson, spot: Spot) => void} */
function attach(lesson, spot) {
  const { node } = spot;
  const { tooltip, root } = lesson;
  const describe = () => wordsOf(lesson, spot);
  setAttribute(node, "tabindex", -1);
  tooltip.attach(node, { describe, choose: () => {} });
  node.addEventListener("pointerenter", () => light(lesson, spot));
  node.addEventListener("pointerleave", () => light(lesson, null));
  node.addEventListener("click", () => light(lesson, spot));
  node.addEventListener("focus", () => {
    for (const other of lesson.spots) if (other.node.tabIndex === 0) other.node.tabIndex = -1;
    node.tabIndex = 0;
    if (!node.matches(":focus-visible")) return;
    light(lesson, spot);
    tooltip.hold(node, describe, { x: node.offsetWidth / 2, y: node.offsetHeight });
    setText(find(root, ".told"), describe().replaceAll("\n", ", "));
    find(root, ".keys").hidden = false;
  });
  node.addEventListener("blur", () => {
    tooltip.drop();
    light(lesson, null);
    setText(find(root, ".told"), "");
    find(root, ".keys").hidden = true;
  });
  node.addEventListener("keydown", (event) => {
    const to = keyedTo(lesson, spot, event);
    if (!to) return;
    event.preventDefault();
    to.node.focus({ preventScroll: true });
    to.node.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

/** @type {(lesson: Lesson, spot: Spot) => string} */
function wordsOf(lesson, { drawn, cell }) {
  return cellWords(cell, makingOf(cell, knownTo(lesson, drawn)));
}

/**
 * What a matrix may be made of: what stands in its scheme, then in its lane, then in both lanes.
 * @type {(lesson: Lesson, drawn: Drawn) => Known}
 */
function knownTo(lesson, { lane, scheme }) {
  return (name) => nearest(lesson.all, lane, scheme, name)?.matrix;
}

/** @type {(all: Drawn[], lane: LaneName, scheme: number, name: string) => Drawn | undefined} */
function nearest(all, lane, scheme, name) {
  const called = all.filter((one) => one.matrix.name === name);
  return (
    called.find((one) => one.scheme === scheme) ??
    called.find((one) => one.lane === lane) ??
    called.find((one) => one.lane === "alike")
  );
}

/**
 * Frame a cell, and the rows and columns that make it.
 * @type {(lesson: Lesson, spot: Spot | null) => void}
 */
function light(lesson, spot) {
  for (const frame of lesson.frames) frame.remove();
  lesson.frames = [];
  if (!spot) return;
  const { drawn, cell } = spot;
  const sum = makingOf(cell, knownTo(lesson, drawn));
  const groups = (sum?.cells ?? []).map((cells) =>
    cells.flatMap(({ matrix, row, column }) => {
      const one = nearest(lesson.all, drawn.lane, drawn.scheme, matrix.name);
      return one ? one.cells[row][column] : [];
    }),
  );
  const place = find(lesson.root, ".bands");
  lesson.frames = [[spot.node], ...groups].map((nodes, at) => frameAround(place, nodes, at === 0));
  place.append(...lesson.frames);
}

/** @type {(place: HTMLElement, nodes: HTMLElement[], result: boolean) => HTMLElement} */
function frameAround(place, nodes, result) {
  const frame = element("span", result ? "cell" : "cell source");
  const origin = place.getBoundingClientRect();
  const boxes = nodes.map((node) => node.getBoundingClientRect());
  const [left, top] = [Math.min(...boxes.map((box) => box.left)), Math.min(...boxes.map((box) => box.top))];
  Object.assign(frame.style, {
    left: `${left - origin.left}px`,
    top: `${top - origin.top}px`,
    width: `${Math.max(...boxes.map((box) => box.right)) - left}px`,
    height: `${Math.max(...boxes.map((box) => box.bottom)) - top}px`,
  });
  return frame;
}

/**
 * The cell that a key goes to: the nearest one that way, the ends of a line, the matrix before or behind.
 * @type {(lesson: Lesson, spot: Spot, event: KeyboardEvent) => Spot | null}
 */
function keyedTo({ spots, all }, spot, { key, ctrlKey, metaKey, altKey }) {
  if (metaKey || altKey) return null;
  if (key === "PageDown" || key === "PageUp") {
    const at = all.indexOf(spot.drawn) + (key === "PageDown" ? 1 : -1);
    return spots.find(({ drawn }) => drawn === all[at]) ?? spot;
  }
  if (ctrlKey && (key === "Home" || key === "End")) return spots.at(key === "Home" ? 0 : -1) ?? null;
  const places = spots.map(({ node }) => node.getBoundingClientRect());
  const at = nearestThatWay(places, spots.indexOf(spot), key);
  return at === null ? null : spots[at];
}

/** @type {(lesson: Lesson) => void} */
function paint({ root, drawing, all }) {
  if (!drawing) return;
  const theme = readTheme(root, drawing);
  applyTheme(root, theme);
  root.style.setProperty("--apart", apartColour(theme));
  const fullOf = scalesOf(all);
  for (const { lane, matrix, cells } of all) {
    const sides = lane === "alike" ? [theme.left, theme.right] : [sideOf(theme, lane)];
    const full = fullOf(matrix);
    cells.forEach((line, row) => {
      line.forEach(({ style }, column) => {
        const share = figureAt({ matrix, row, column }) / full;
        const grounds = sides.map(({ signed }) => rgbOfPixel(shadeAt(signed, share)));
        const [one, other] = grounds.map(cssOf);
        style.background = other ? `linear-gradient(90deg, ${one} 50%, ${other} 50%)` : one;
        style.color = inkOn(grounds, theme);
      });
    });
  }
}

/** @type {(theme: Theme, lane: LaneName) => SideColours} */
function sideOf(theme, lane) {
  return lane === "absorbed" ? theme.right : theme.left;
}

/**
 * The value of the full colour of each kind, as in the player: heads, words and transposes of one kind are on one
 * scale in both lanes.
 * @type {(all: Drawn[]) => (matrix: Matrix) => number}
 */
function scalesOf(all) {
  /** @type {Map<string, number[]>} */
  const kinds = new Map();
  for (const { matrix } of all) {
    kinds.set(kindOf(matrix), [...(kinds.get(kindOf(matrix)) ?? []), ...matrix.values.flat()]);
  }
  return (matrix) => {
    const values = kinds.get(kindOf(matrix)) ?? [];
    const squares = values.reduce((sum, value) => sum + value * value, 0);
    return SATURATION * Math.sqrt(squares / values.length) || 1;
  };
}

/** @type {(matrix: Matrix) => string} */
function kindOf({ name }) {
  return name
    .replace(/ head \d+$/, "")
    .replace("ᵀ", "")
    .toLowerCase();
}

/**
 * The page's ink, or its ground, or where neither reads on all of these, black or white.
 * @type {(grounds: RGB[], theme: Theme) => string}
 */
function inkOn(grounds, theme) {
  const inks = [theme.ink, theme.ground, "rgb(0 0 0)", "rgb(255 255 255)"];
  const least = inks.map((css) => {
    const ink = (css.match(/\d+/g) ?? []).map(Number);
    return Math.min(...grounds.map((ground) => contrast(ink, ground)));
  });
  const reads = least.findIndex((one) => one >= 4.5);
  return inks[reads >= 0 ? reads : least.indexOf(Math.max(...least))];
}
