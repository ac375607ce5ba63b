// The worked example's drawing: bands of lanes, matrices in them as tables, arrows, and what is equal.
// It knows nodes and where matrices stand; it does not know what makes a number.

import { element, setAttribute } from "./dom.js";
import { madeWords } from "./example.js";
import { cellText, differenceText } from "./words.js";

/** @import { Band, Drawing, Join, Lane, LaneName, Matrix, Place } from "./example.js" */
/** @typedef {{ lane: LaneName, scheme: number, matrix: Matrix, cells: HTMLElement[][] }} Drawn */

/** @type {Record<LaneName, string>} */
const NAMES = { naive: "Naive", rebuilt: "Rebuilt", absorbed: "Absorbed", alike: "Both sides" };

/**
 * The nodes of a drawing, every matrix that stands in them, and how wide a cell may be, in CSS, where
 * `--room` is the width of a lane.
 * @type {(drawing: Drawing) => { bands: HTMLElement[], drawn: Drawn[], cell: string }}
 */
export function draw(drawing) {
  /** @type {Drawn[]} */
  const drawn = [];
  let schemes = 0;
  /** @type {LaneName[]} */
  const told = [];
  const bands = drawing.bands.map((band) => {
    const kind = band.lanes.length > 1 ? "two" : "one";
    const node = element("div", `band ${kind}${band.joins.length ? " joined" : ""}`);
    const lanes = band.lanes.map((lane) => {
      const place = laneNode(lane, !told.includes(lane.name));
      told.push(lane.name);
      for (const scheme of lane.schemes) {
        schemes += 1;
        const { node: picture, tables } = schemeNode(scheme, drawing.matrices[lane.name]);
        drawn.push(...tables.map((table) => ({ lane: lane.name, scheme: schemes, ...table })));
        place.append(picture);
      }
      return place;
    });
    node.append(...joined(lanes, band));
    return node;
  });
  const widest = drawing.bands.flatMap(({ lanes }) =>
    lanes.flatMap(({ name, schemes }) => schemes.map((scheme) => cellWidth(scheme, drawing.matrices[name]))),
  );
  return { bands, drawn, cell: `min(${[...new Set(widest)].join(", ")})` };
}

/** @type {(scheme: Place[][], matrices: Record<string, Matrix>) => string} */
function cellWidth(scheme, matrices) {
  const columns = scheme[0].map((_, at) => scheme.map((row) => row[at]));
  const sum = (/** @type {number[]} */ numbers) => numbers.reduce((total, one) => total + one, 0);
  const cells = columns.map((places) =>
    Math.max(...places.map((names) => sum(names.map((name) => matrices[name].values[0].length)))),
  );
  const beside = columns.map((places) => Math.max(...places.map((names) => names.length - 1), 0));
  const labels = columns[0].some((names) => names.length > 0 && labelled(matrices[names[0]])) ? 1 : 0;
  const rest = `${labels} * var(--labels) + ${columns.length - 1} * var(--gap) + ${sum(beside)} * var(--beside)`;
  return `(var(--room) - (${rest})) / ${sum(cells)}`;
}

/**
 * Whether its rows have names that must be read: more than one.
 * @type {(matrix: Matrix) => boolean}
 */
function labelled({ values, rows }) {
  return values.length > 1 && rows.length > 0;
}

/**
 * Lanes with what is equal between them.
 * @type {(lanes: HTMLElement[], band: Band) => HTMLElement[]}
 */
function joined(lanes, { joins }) {
  if (lanes.length < 2) return lanes;
  const middle = element("div", "joins");
  middle.append(...joins.map(joinNode));
  return [lanes[0], middle, lanes[1]];
}

/** @type {(join: Join) => HTMLElement} */
function joinNode({ name, gaps, apart }) {
  const node = element("p", apart ? "join apart" : "join");
  const formats = Object.entries(gaps);
  const same = formats.every(([, gap]) => gap === 0);
  const words = element("span", "");
  words.append(
    element("b", "", name),
    ...(same
      ? [element("span", "", `equal in ${formats.map(([format]) => format).join(" and ")}`)]
      : formats.map(([format, gap]) =>
          element("span", "", `${format} ${gap === 0 ? "equal" : differenceText(gap)}`),
        )),
  );
  node.append(element("span", "sign", apart ? "≠" : "="), words);
  return node;
}

/** @type {(lane: Lane, named: boolean) => HTMLElement} */
function laneNode({ name, says }, named) {
  const node = element("div", `way ${name}`);
  if (!named && !says) return node;
  const words = element("p", "says");
  if (named) words.append(element("b", "", NAMES[name]), " ");
  words.append(says);
  node.append(words);
  return node;
}

/** @type {(scheme: Place[][], matrices: Record<string, Matrix>) => { node: HTMLElement, tables: { matrix: Matrix, cells: HTMLElement[][] }[] }} */
function schemeNode(scheme, matrices) {
  const node = element("div", "scheme");
  /** @type {{ matrix: Matrix, cells: HTMLElement[][] }[]} */
  const tables = [];
  node.style.gridTemplateColumns = `repeat(${scheme[0].length}, max-content)`;
  scheme.forEach((row, down) => {
    row.forEach((place, across) => {
      if (place.length === 0) return;
      const spot = element("div", across === 0 ? "spot first" : "spot");
      Object.assign(spot.style, { gridRow: `${down + 1}`, gridColumn: `${across + 1}` });
      const [left, above] = [row[across - 1] ?? [], scheme[down - 1]?.[across] ?? []];
      place.forEach((name, at) => {
        const matrix = matrices[name];
        const marks = {
          down: takes(matrix, above),
          across: at === 0 && takes(matrix, left),
          named: at === 0 && left.length === 0 && labelled(matrix),
          first: across === 0,
          headed: above.length === 0,
        };
        const table = matrixNode(matrix, marks);
        tables.push({ matrix, cells: table.cells });
        spot.append(table.node);
      });
      node.append(spot);
    });
  });
  return { node, tables };
}

/**
 * Whether a matrix, or a row of it, is made of one of these.
 * @type {(matrix: Matrix, names: Place) => boolean}
 */
function takes({ made }, names) {
  return Boolean(
    made?.of.some((part) => names.some((name) => name === part || name.startsWith(`${part} head`))),
  );
}

const LOOKS = { "fixed at training": "fixed", cached: "cached", "made and thrown away": "passing" };

/** @type {(matrix: Matrix, marks: Record<"down" | "across" | "named" | "first" | "headed", boolean>) => { node: HTMLElement, cells: HTMLElement[][] }} */
function matrixNode(matrix, marks) {
  const { values, role, rows, columns, newest } = matrix;
  const on = Object.entries(marks).flatMap(([mark, is]) => (is ? mark : []));
  const node = part(
    "table",
    "table",
    ["matrix", LOOKS[/** @type {keyof typeof LOOKS} */ (role)], ...on].join(" "),
  );
  const body = part("tbody", "rowgroup");
  const cells = values.map((line) => line.map((value) => part("td", "cell", "", cellText(value))));
  cells.forEach((line, row) => {
    const node = part("tr", "row", newest && row === cells.length - 1 ? "newest" : "");
    if (rows.length > 0) node.append(part("th", "rowheader", "", rows[row]));
    node.append(...line);
    body.append(node);
  });
  node.append(captionOf(matrix));
  if (columns.length > 0) {
    const [head, line] = [part("thead", "rowgroup"), part("tr", "row")];
    if (rows.length > 0) line.append(part("td", "cell", "unseen"));
    line.append(...columns.map((column) => part("th", "columnheader", "", column)));
    head.append(line);
    node.append(head);
  }
  node.append(body);
  return { node, cells };
}

/**
 * A part of a table, its role said: the style sheet lays tables out as no table, which would take it away.
 * @type {(tag: keyof HTMLElementTagNameMap, role: string, className?: string, text?: string) => HTMLElement}
 */
function part(tag, role, className = "", text = "") {
  const node = element(tag, className, text);
  setAttribute(node, "role", role);
  return node;
}

/**
 * Name and shape; what becomes of it and what makes it where the picture does not say so itself.
 * @type {(matrix: Matrix) => HTMLElement}
 */
function captionOf({ name, values, role, made }) {
  const caption = element("caption", "");
  const [symbol, head = ""] = name.split(/ (?=head )/);
  const shape = `${head} ${values.length}×${values[0].length}`.trim();
  caption.append(element("span", "symbol", symbol), " ", element("span", "shape", shape));
  caption.append(element("span", "unseen", `, ${role}`));
  if (made) {
    const seen = ["sum", "share"].includes(made.kind) ? "shape" : "unseen";
    caption.append(element("span", seen, ` = ${madeWords(made)}`));
  }
  return caption;
}
