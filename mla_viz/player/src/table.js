// A picture as a table: a switch in its caption row shows the numbers of this step in its place.
// It knows cells of numbers; which they are it asks the picture's own part, and only while it is on.

import { element, find, setAttribute, setText } from "./dom.js";

/** @import { View } from "./stage.js" */
/**
 * @typedef {object} Sheet
 * @property {string} note what is shown, and of how much
 * @property {string} corner what the rows are
 * @property {string[]} columns
 * @property {SheetRow[]} rows
 * @property {(value: number) => string} text a value as it is read; a file takes it as it is
 * @property {string} [unit] of all values
 */
/** @typedef {{ name: string, values: (number | null)[] }} SheetRow null where there is nothing to tell */

/** Columns, or rows, at most: a table of thousands would be slow to make at each step. */
export const WINDOW = 64;

/**
 * Where there are no numbers, only why.
 * @type {(note: string) => Sheet}
 */
export function emptySheet(note) {
  return { note, corner: "", columns: [], rows: [], text: String };
}

/** @type {(picture: HTMLElement, sheetOf: (view: View) => Sheet) => { paint: (view: View) => void }} */
export function makeTable(picture, sheetOf) {
  const plot = find(picture, ".plot");
  const toggle = find(picture, "[data-action=table]");
  const sheet = makeSheet(toggle.getAttribute("aria-label") ?? "");
  let on = false;
  /** @type {View | null} */
  let last = null;
  const paint = (/** @type {View} */ view) => {
    last = view;
    if (on) showSheet(sheet, sheetOf(view));
  };
  toggle.addEventListener("click", () => {
    on = !on;
    setAttribute(toggle, "aria-pressed", on);
    plot.classList.toggle("tabled", on);
    if (on) plot.append(sheet.node);
    else sheet.node.remove();
    if (last) paint(last);
  });
  return { paint };
}

/** @typedef {Record<"node" | "note" | "table", HTMLElement>} Parts */

/** @type {(name: string) => Parts} */
function makeSheet(name) {
  const [node, note] = [element("div", "sheet"), element("p", "remarks")];
  const [scroller, table] = [element("div", "scroller"), element("table", "")];
  for (const [key, value] of Object.entries({ tabindex: 0, role: "group", "aria-label": name }))
    setAttribute(scroller, key, value);
  scroller.append(table);
  node.append(note, scroller);
  return { node, note, table };
}

/** @type {(parts: Parts, sheet: Sheet) => void} */
function showSheet({ note, table }, { note: words, corner, columns, rows, text }) {
  setText(note, words);
  const head = element("thead", "");
  head.append(lineOf([corner, ...columns].map((name) => headerOf(name, "col"))));
  const body = element("tbody", "");
  body.append(
    ...rows.map(({ name, values }) => {
      const cells = values.map((value) => element("td", "", value === null ? "" : text(value)));
      return lineOf([headerOf(name, "row"), ...cells]);
    }),
  );
  table.replaceChildren(...(rows.length ? [head, body] : []));
}

/** @type {(cells: HTMLElement[]) => HTMLElement} */
function lineOf(cells) {
  const line = element("tr", "");
  line.append(...cells);
  return line;
}

/** @type {(text: string, scope: string) => HTMLElement} */
function headerOf(text, scope) {
  const header = element("th", "", text);
  header.scope = scope;
  return header;
}
