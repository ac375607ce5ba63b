// Taking a picture along, as PNG, SVG or CSV: made in the browser at the moment it is asked for.
// It knows how a picture is drawn again, with words that let it stand alone; it does not know what it shows.

import { beginSurface, makeSurface, textWidth, write } from "./canvas.js";
import { contextOf, element, find, setAttribute, setText } from "./dom.js";
import { narrate } from "./narration.js";
import { makeSvgSurface, svgText } from "./svg.js";

/** @import { Surface } from "./canvas.js" */
/** @import { SideName } from "./payload.js" */
/** @import { View } from "./stage.js" */
/** @import { Sheet } from "./table.js" */
/**
 * A picture that can be taken along.
 * @typedef {object} Figure
 * @property {string} name in file names
 * @property {string} words in sentences
 * @property {readonly SideName[]} sides whose it is
 * @property {("layer" | "head")[]} within what it shows one of
 * @property {Surface} surface where it stands on the page
 * @property {() => View | null} view what it shows there now
 * @property {(surface: Surface, view: View) => void} draw
 * @property {(surface: Surface, view: View) => string} title
 * @property {string} legend
 * @property {(view: View) => Sheet} sheet its numbers, all of them
 */
/** @typedef {{ drawn: Surface, whole: Surface }} Paper */
/** @typedef {{ text: string, size: number, bold: boolean, colour: string }} Heading a line of it */
/** @typedef {(figure: Figure, view: View) => Blob | Promise<Blob>} Make */

const RATIO = 2;
const MARGIN = 16;
const LINE = 18;
const KEPT_MS = 60_000;

/** @type {Record<string, Make>} */
const FORMATS = {
  PNG: async (figure, view) => {
    const { canvas } = compose(figure, view, makePaper(figure, surfaceOf));
    return new Promise((resolve, reject) => {
      const missing = new Error("this browser cannot draw so large a picture");
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(missing)), "image/png");
    });
  },
  SVG: (figure, view) => {
    const drawn = compose(figure, view, makePaper(figure, makeSvgSurface));
    return new Blob([svgText(drawn, figure.title(figure.surface, view))], { type: "image/svg+xml" });
  },
  CSV: (figure, view) => new Blob([csvText(figure.sheet(view))], { type: "text/csv" }),
};

/**
 * A button beside the picture's switch to a table, which opens to one button a format.
 * @type {(place: HTMLElement, figure: Figure) => void}
 */
export function makeSave(place, figure) {
  const menu = element("span", "save");
  const toggle = buttonOf("save", `Save ${figure.words}`);
  const list = element("span", "formats");
  const said = element("span", "spoken");
  setAttribute(said, "role", "status");
  setAttribute(list, "role", "group");
  setAttribute(list, "aria-label", `Save ${figure.words} as`);
  const open = (/** @type {boolean} */ on) => {
    list.hidden = !on;
    setAttribute(toggle, "aria-expanded", on);
  };
  const close = () => {
    open(false);
    toggle.focus();
  };
  for (const [format, make] of Object.entries(FORMATS)) {
    const button = buttonOf(format, `${format} of ${figure.words}`);
    button.addEventListener("click", () => {
      close();
      save(figure, format, make).then((words) => setText(said, words));
    });
    list.append(button);
  }
  toggle.addEventListener("click", () => {
    toggle.focus();
    open(Boolean(list.hidden));
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || list.hidden) return;
    event.preventDefault();
    close();
  });
  menu.addEventListener("focusout", ({ relatedTarget }) => {
    if (!(relatedTarget instanceof Node && menu.contains(relatedTarget))) open(false);
  });
  open(false);
  menu.append(toggle, list, said);
  find(place, ".tools").append(menu);
}

/** @type {(text: string, label: string) => HTMLElement} */
export function buttonOf(text, label) {
  const button = element("button", "", text);
  button.type = "button";
  setAttribute(button, "aria-label", label);
  return button;
}

/**
 * Make a file and hand it to the browser; what is said of it.
 * @type {(figure: Figure, format: string, make: Make) => Promise<string>}
 */
async function save(figure, format, make) {
  const view = figure.view();
  if (!view) return "Nothing is drawn yet.";
  const name = fileName(figure, view, format.toLowerCase());
  try {
    download(name, await make(figure, { ...view, lit: null }));
    return `Saved ${name}.`;
  } catch (error) {
    return `Not saved: ${error instanceof Error ? error.message : error}.`;
  }
}

/**
 * Have the browser save a file.
 * @type {(name: string, blob: Blob) => void}
 */
export function download(name, blob) {
  const address = URL.createObjectURL(blob);
  Object.assign(element("a", ""), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}

/**
 * "mla-viz-triangle-left-step-9-layer-1-head-0.svg": counted from 0, as Python counts them.
 * @type {(figure: Pick<Figure, "name" | "sides" | "within">, view: View, extension: string) => string}
 */
export function fileName({ name, sides, within }, view, extension) {
  const heads = Math.max(...sides.map((side) => view.run[side].n_heads));
  const place = { layer: view.layer, head: Math.min(view.head, heads - 1) };
  const side = sides.length === 1 ? [sides[0]] : [];
  const where = within.map((part) => `${part}-${place[part]}`);
  return `${["mla-viz", name, ...side, `step-${view.step}`, ...where].join("-")}.${extension}`;
}

/**
 * A sheet as CSV (RFC 4180): numbers in nine digits, as many as a float32 has, and none rounded for the eye.
 * @type {(sheet: Sheet) => string}
 */
export function csvText({ corner, columns, rows, unit }) {
  const head = [corner, ...columns.map((name) => (unit ? `${name} (${unit})` : name))];
  const body = rows.map(({ name, values }) => [name, ...values.map(plain)]);
  return [head, ...body].map((cells) => `${cells.map(quotedCell).join(",")}\r\n`).join("");
}

/** @type {(value: number | null) => string} */
function plain(value) {
  return value === null ? "" : String(Number(value.toPrecision(9)));
}

/** @type {(text: string) => string} */
function quotedCell(text) {
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

/** @type {(width: number, ratio: number) => Surface} */
export function surfaceOf(width, ratio) {
  return Object.assign(makeSurface(document.createElement("canvas")), { width, ratio });
}

/**
 * What a picture is drawn on, and the larger sheet that it is then laid on.
 * @type {(figure: Pick<Figure, "surface">, make: typeof surfaceOf, ratio?: number) => Paper}
 */
export function makePaper({ surface }, make, ratio = Math.max(RATIO, surface.ratio)) {
  return { drawn: make(surface.width, ratio), whole: make(surface.width + 2 * MARGIN, ratio) };
}

/**
 * The picture drawn again on the page's ground, below at least `rows` lines of words that say what it is.
 * @type {(figure: Figure, view: View, paper: Paper, rows?: number) => Surface}
 */
export function compose(figure, view, { drawn, whole }, rows = 0) {
  const { theme } = view;
  figure.draw(drawn, view);
  const lines = headingOf(figure, view, drawn);
  const top = MARGIN + Math.max(rows, lines.length) * LINE + 8;
  const context = beginSurface(whole, top + drawn.height + MARGIN);
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, whole.width, whole.height);
  lines.forEach(({ text, ...style }, index) => {
    write(context, theme, text, MARGIN, MARGIN + (index + 0.5) * LINE, style);
  });
  context.drawImage(drawn.canvas, MARGIN, top, drawn.width, drawn.height);
  return whole;
}

/**
 * What is shown, of which mechanisms, what this step did, and how to read the colours.
 * @type {(figure: Figure, view: View, drawn: Surface) => Heading[]}
 */
export function headingOf({ title, sides, legend }, view, drawn) {
  const { run, step, theme } = view;
  const mechanisms = sides.map((side) => run[side].label).join(" | ");
  const parts = [
    { text: title(drawn, view), size: 14, bold: true, colour: theme.ink },
    { text: mechanisms, size: 12, bold: true, colour: sides.length > 1 ? theme.ink : theme[sides[0]].text },
    { text: narrate(run, step), size: 12, bold: false, colour: theme.ink },
    { text: legend, size: 12, bold: false, colour: theme.muted },
  ];
  const ruler = contextOf(document.createElement("canvas"));
  const fits = (/** @type {number} */ size) => (/** @type {string} */ text) =>
    textWidth(ruler, theme, text, size * 1.06) <= drawn.width; // bold runs a little wider
  return parts.flatMap(({ text, ...style }) =>
    wrapped(text, fits(style.size)).map((line) => ({ text: line, ...style })),
  );
}

/**
 * Text in lines that fit, broken between words.
 * @type {(text: string, fits: (text: string) => boolean) => string[]}
 */
export function wrapped(text, fits) {
  /** @type {string[]} */
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = `${lines[lines.length - 1]} ${word}`;
    if (lines.length && fits(longer)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
