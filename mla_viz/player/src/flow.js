// The drawing of a step's scene at a moment: what is there by then, what is read just now, what is equal.
// It knows scenes and colours; it does not know who moves the moment, nor what a run is beyond its gaps.

import { makeImage, textWidth, write } from "./canvas.js";
import { mixed } from "./lane.js";
import { apartColour, LOOKS } from "./looks.js";
import { phaseAt } from "./phases.js";
import { laneEnd, MIDDLE } from "./scene.js";
import { shadeAt } from "./theme.js";
import { differenceText, figureText, plural } from "./words.js";

/** @import { Context } from "./canvas.js" */
/** @import { Matrix } from "./lane.js" */
/** @import { SideName } from "./payload.js" */
/** @import { Arrow, Item, Join, Scene } from "./scene.js" */
/** @import { Theme } from "./theme.js" */
/** @typedef {Map<string, HTMLCanvasElement>} Images of the items of one scene, made once */
/** @typedef {{ context: Context, scene: Scene, theme: Theme, images: Images, at: number, lit: number | null, rounded: boolean }} Moment */

const RADIUS = 9;
const LABEL = 11;
const BOLD = 1.1; // times the width of plain letters
const READING = 52; // pixels below the rows: a line about the row that is read, and one more
const TAG = 10.5;
const TAG_GAP = 7;
const TAG_PADDING = 8;

/**
 * How far an item is at a moment: 0 before it begins, 1 once it is whole.
 * @type {(item: Pick<Item, "phase" | "from" | "to">, at: number) => number}
 */
export function progressOf({ phase, from, to }, at) {
  return Math.max(0, Math.min(1, (at - phase - from + 1e-9) / (to - from)));
}

/** @type {(moment: Moment, joins: { join: Join, gap: number, apart: boolean }[]) => void} */
export function drawFlow(moment, joins) {
  const { scene } = moment;
  const tags = tagsOf(moment);
  scene.arrows.forEach((arrow, index) => {
    drawArrow(moment, arrow, tags[index]);
  });
  for (const item of scene.items) drawItem(moment, item);
  for (const { side, x, y, words } of scene.gaps) {
    write(moment.context, moment.theme, words, x, y, {
      colour: moment.theme[side].text,
      size: 11 * scene.text,
    });
  }
  for (const join of joins) drawJoin(moment, join);
  drawReading(moment);
}

/**
 * The tags of arrows; where one would run into the next arrow of its row, that one has both.
 * @type {(moment: Pick<Moment, "context" | "theme" | "scene">) => string[]}
 */
export function tagsOf({ context, theme, scene }) {
  const { arrows, text } = scene;
  const tags = arrows.map(({ label }) => label);
  arrows.forEach(({ side, x, top }, index) => {
    const end = x + TAG_GAP + textWidth(context, theme, tags[index], TAG * text) + TAG_PADDING;
    const next = arrows.findIndex(
      (other) => other.side === side && other.top === top && other.x > x && other.x < end,
    );
    if (!tags[index] || next < 0) return;
    tags[next] = [tags[index], tags[next]].join(", ");
    tags[index] = "";
  });
  return tags;
}

/** @type {(moment: Moment, arrow: Arrow, tag: string) => void} */
function drawArrow({ context, theme, scene, at, lit }, { side, from, x, top, bottom, phase }, tag) {
  const now = phase === phaseAt(at) || phase === lit;
  context.strokeStyle = now ? theme.ink : theme.muted;
  context.fillStyle = context.strokeStyle;
  context.lineWidth = now ? 1.6 : 1;
  context.beginPath();
  context.moveTo(from, top);
  context.lineTo(from, from === x ? top : top + 5);
  context.lineTo(x, from === x ? top : top + 5);
  context.lineTo(x, bottom - 4);
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3.5, bottom - 6);
  context.lineTo(x + 3.5, bottom - 6);
  context.lineTo(x, bottom);
  context.fill();
  if (!tag) return;
  const size = TAG * scene.text;
  const width = textWidth(context, theme, tag, size) + TAG_PADDING;
  const room = laneEnd(scene, side) - x - TAG_GAP;
  const beside = width <= room ? x + TAG_GAP : x - TAG_GAP - width;
  drawWeight(context, theme, tag, beside, (top + bottom) / 2 - 1, size);
}

/**
 * A weight has one look: a grey tag, since it is fixed at training.
 * @type {(context: Context, theme: Theme, label: string, x: number, y: number, size: number) => void}
 */
function drawWeight(context, theme, label, x, y, size) {
  const width = textWidth(context, theme, label, size);
  context.fillStyle = theme.line;
  if (label.startsWith("W")) context.fillRect(x, y - size * 0.75, width + TAG_PADDING, size * 1.45);
  write(context, theme, label, x + 4, y, { size, colour: theme.ink });
}

/**
 * An item's label; its first part alone where the whole would run into the next item of its row.
 * @type {(moment: Pick<Moment, "context" | "theme" | "scene">, item: Item) => string}
 */
export function labelOf({ context, theme, scene }, { side, x, y, label }) {
  const row = scene.items.filter((other) => other.side === side && other.y === y && other.x > x);
  const room = Math.min(...row.map((other) => other.x)) - x;
  return textWidth(context, theme, label, LABEL * scene.text) * BOLD < room ? label : label.split(/,| 1×/)[0];
}

/** @type {(moment: Moment, item: Item) => void} */
function drawItem(moment, item) {
  const { context, theme, scene, at, lit } = moment;
  const share = progressOf(item, at);
  const bright = item.phase === lit;
  write(context, theme, labelOf(moment, item), item.x, item.y - 9, {
    size: LABEL * scene.text,
    colour: item.slot === "cache" ? theme[item.side].text : theme.ink,
    bold: item.slot === "cache" || bright,
  });
  if (item.bars) {
    drawBars(moment, item, share);
    return;
  }
  if (item.room > item.height) drawToCome(moment, item);
  drawCells(moment, item, share);
  const frame = item.look === "cached" ? theme[item.side].full : theme.muted;
  context.strokeStyle = bright ? theme.ink : frame;
  context.lineWidth = LOOKS[item.look].width;
  context.setLineDash(LOOKS[item.look].dash);
  const height = item.slot === "cache" ? Math.max(item.height, 3) : item.height;
  context.strokeRect(item.x - 1, item.y - 1, item.width + 2, height + 2);
  context.setLineDash([]);
}

/**
 * The rest of the room, which later tokens fill; named where words about a row that is read leave room for it.
 * @type {(moment: Moment, item: Item) => void}
 */
function drawToCome({ context, theme }, { x, y, width, height, room, rowHeight }) {
  const words = `${plural(Math.round((room - height) / rowHeight), "token")} to come`;
  if (room - height > READING && textWidth(context, theme, words, 10.5) + 8 < width) {
    write(context, theme, words, x + width / 2, y + (height + room) / 2, { align: "center", size: 10.5 });
  }
  context.strokeStyle = theme.line;
  context.lineWidth = 1;
  context.strokeRect(x - 0.5, y + height + 1.5, width + 1, room - height - 1);
}

/** @type {(moment: Moment, item: Item, share: number) => void} */
function drawCells(moment, item, share) {
  const { context, scene } = moment;
  const { matrix, slot, look } = item;
  context.imageSmoothingEnabled = false;
  if (slot === "cache" && look === "cached") {
    const before = matrix.rows - 1;
    drawRows(moment, item, 0, before);
    if (share === 1) drawRows(moment, item, before, matrix.rows);
    else if (share > 0) drawArrival(moment, item, share);
    return;
  }
  if (slot === "cache") {
    drawRows(moment, item, 0, Math.floor(share * matrix.rows));
    return;
  }
  if (item.phase === 4 && share < 1) {
    const { probs, values } = scene.lanes[item.side];
    const rows = Math.floor(share * values.rows);
    if (rows > 0) drawWhole(moment, item, { data: mixed(probs, values, rows), rows: 1, width: matrix.width });
    return;
  }
  const shown = Math.round(share * matrix.width);
  if (shown > 0) {
    const image = imageOf(moment, item);
    context.drawImage(image, 0, 0, shown, 1, item.x, item.y, shown * scene.unit, item.height);
  }
}

/** @type {(moment: Moment, item: Item, first: number, end: number) => void} */
function drawRows(moment, item, first, end) {
  if (end <= first) return;
  const image = imageOf(moment, item);
  const { x, y, width, rowHeight } = item;
  moment.context.drawImage(
    image,
    0,
    first,
    image.width,
    end - first,
    x,
    y + first * rowHeight,
    width,
    (end - first) * rowHeight,
  );
}

/**
 * The new row on its way from where it was made to its place.
 * @type {(moment: Moment, item: Item, share: number) => void}
 */
function drawArrival(moment, item, share) {
  const image = imageOf(moment, item);
  const last = item.matrix.rows - 1;
  const [from, to] = [item.y - 44, item.y + last * item.rowHeight];
  const eased = share * share * (3 - 2 * share);
  const y = from + (to - from) * eased;
  moment.context.drawImage(
    image,
    0,
    last,
    image.width,
    1,
    item.x,
    y,
    item.width,
    Math.max(item.rowHeight, 3),
  );
}

/** @type {(moment: Moment, item: Item, matrix: Matrix) => void} */
function drawWhole(moment, item, matrix) {
  const image = cellsImage(moment, { ...item, matrix }, null);
  moment.context.drawImage(image, 0, 0, image.width, 1, item.x, item.y, item.width, item.height);
}

/** @type {(moment: Moment, item: Item) => HTMLCanvasElement} */
function imageOf(moment, item) {
  const key = `${item.side}|${item.slot}|${item.id}`;
  const known = moment.images.get(key) ?? cellsImage(moment, item, null);
  moment.images.set(key, known);
  return known;
}

/** @type {(moment: Moment, item: Item, reused: HTMLCanvasElement | null) => HTMLCanvasElement} */
function cellsImage({ scene, theme }, { side, scale, matrix }, reused) {
  const full = scene.scales.get(scale) || 1;
  const colours = theme[side].signed;
  return makeImage(reused, matrix.width, matrix.rows, ({ pixels }) => {
    for (let at = 0; at < matrix.data.length; at += 1) {
      pixels[at] = shadeAt(colours, matrix.data[at] / full);
    }
  });
}

/** @type {(moment: Moment, item: Item, share: number) => void} */
function drawBars(
  { context, theme, scene },
  { side, id, matrix, x, y, width, height, rowHeight, scale },
  share,
) {
  const signed = id === "scores";
  const full = signed ? scene.scales.get(scale) || 1 : 1;
  const zero = signed ? x + width / 2 : x;
  const reach = signed ? width / 2 : width;
  const thick = Math.max(0.7, rowHeight - (rowHeight > 4 ? 1.5 : 0.3));
  const rows = Math.floor(share * matrix.rows);
  for (let row = 0; row < matrix.rows; row += 1) {
    const value = id === "probs" ? matrix.data[row] * share : row < rows ? matrix.data[row] : 0;
    const length = (Math.abs(value) / full) * reach;
    context.fillStyle = value < 0 ? theme.muted : theme[side].full;
    context.fillRect(value < 0 ? zero - length : zero, y + row * rowHeight, length, thick);
  }
  context.fillStyle = theme.line;
  context.fillRect(zero - 0.5, y - 1, 1, height + 2);
}

/**
 * The row that is read just now: framed wherever it stands, and what it gives.
 * @type {(moment: Moment) => void}
 */
function drawReading({ context, theme, scene, at }) {
  const phase = Math.floor(at);
  if (phase !== 2 && phase !== 4) return;
  for (const side of /** @type {SideName[]} */ (["left", "right"])) {
    const items = scene.items.filter((item) => item.side === side);
    const made = items.find((item) => item.phase === phase && (phase === 4 || item.id === "scores"));
    const share = made ? progressOf(made, at) : 0;
    const rows = scene.lanes[side].keys.rows;
    const row = Math.min(rows - 1, Math.floor(share * rows));
    if (share <= 0 || share >= 1) continue;
    const read =
      items.find((item) => item.id === (phase === 2 ? "keys" : "values")) ??
      items.find((item) => item.id === "cache");
    if (read)
      frameRow(context, theme, read, row, phase === 4 ? scene.lanes[side].values.width : read.matrix.width);
    const bar = items.find((item) => item.id === (phase === 2 ? "scores" : "probs"));
    if (bar) frameRow(context, theme, bar, row, 0);
    if (read && bar) writeReading(context, theme, scene, side, { read, bar, row, phase });
  }
}

/** @type {(context: Context, theme: Theme, item: Item, row: number, columns: number) => void} */
function frameRow(context, theme, { x, y, width, rowHeight, matrix }, row, columns) {
  context.strokeStyle = theme.ink;
  context.lineWidth = 1.5;
  const wide = columns ? (width * columns) / matrix.width : width;
  context.strokeRect(x - 2, y + row * rowHeight - 1.5, wide + 4, Math.max(3, rowHeight) + 2);
}

/** @type {(context: Context, theme: Theme, scene: Scene, side: SideName, reading: { read: Item, bar: Item, row: number, phase: number }) => void} */
function writeReading(context, theme, scene, side, { read, bar, row, phase }) {
  const { scores, probs } = scene.lanes[side];
  const words =
    phase === 2
      ? `query · row ${row + 1} → ${figureText(scores[row])}`
      : `+ ${figureText(probs[row])} × row ${row + 1}`;
  const y = read.y + read.matrix.rows * read.rowHeight + 12;
  write(context, theme, words, read.x, y, { size: 11.5 * scene.text, colour: theme.ink, bold: true });
  context.strokeStyle = theme.ink;
  context.lineWidth = 1;
  context.beginPath();
  const middle = read.y + (row + 0.5) * read.rowHeight;
  context.moveTo(read.x + read.width + 4, middle);
  context.lineTo(bar.x - 4, middle);
  context.stroke();
}

/**
 * An equals sign with the measured difference; crossed out and red where it is no rounding, "≈" where one cache
 * is kept in fewer bits.
 * @type {(moment: Moment, joined: { join: Join, gap: number, apart: boolean }) => void}
 */
function drawJoin({ context, theme, scene, at, rounded }, { join, gap, apart: differs }) {
  if (at < join.phase + 0.999) return;
  const x = scene.middle;
  const apart = differs && !rounded;
  const colour = apart ? apartColour(theme) : theme.ink;
  const y = join.y;
  const sign = x - MIDDLE / 2 + 14;
  context.beginPath();
  context.arc(sign, y, RADIUS, 0, 2 * Math.PI);
  context.strokeStyle = colour;
  context.lineWidth = apart ? 2 : 1.2;
  context.stroke();
  write(context, theme, joinSign(differs, rounded), sign, y + 0.5, {
    align: "center",
    size: 13,
    colour,
    bold: true,
  });
  const words = `${join.label} ${gap === 0 ? "equal" : differenceText(gap)}`;
  write(context, theme, words, sign + RADIUS + 5, y, { size: 10.5, colour });
}

/** @type {(apart: boolean, rounded: boolean) => string} */
export function joinSign(apart, rounded) {
  return apart ? (rounded ? "≈" : "≠") : "=";
}
