// The ledger: every counted operation of one step with its shapes, FLOPs and bytes, and below it what was
// measured. It knows the numbers of one layer and step; it does not know how to change either.

import { element, find, findAll, setText } from "./dom.js";
import { PHASES, phaseAt } from "./phases.js";
import { bytesText, countText, timeText } from "./words.js";

/** @import { Operation, Product } from "./layout.d.ts" */
/** @import { Side, SideName } from "./payload.js" */
/** @import { Choose } from "./player.js" */
/** @import { Part, View } from "./stage.js" */
/** @typedef {{ flops: number, read: number, written: number }} Counts */
/** @typedef {{ row: HTMLElement, shapes: HTMLElement, counts: HTMLElement[] }} Row */
/**
 * @typedef {object} Ledger
 * @property {HTMLElement} caption
 * @property {HTMLElement} body
 * @property {HTMLElement[]} total
 * @property {HTMLElement} counting
 * @property {HTMLElement} remarks
 * @property {Row[]} rows
 */

/** @type {(panel: HTMLElement, name: SideName, choose: Choose) => Part} */
export function makeLedger(panel, name, choose) {
  const place = find(panel, ".ledger");
  const parts = {
    caption: find(place, ".caption"),
    body: find(place, "tbody"),
    total: findAll(place, "tfoot .count"),
    counting: find(place, ".counting"),
    remarks: find(place, ".measured"),
    rows: [],
  };
  return {
    place,
    load: (run) => loadLedger(parts, run[name], choose),
    paint: (view) => paintLedger(parts, name, view),
  };
}

/** @type {(parts: Ledger, side: Side, choose: Choose) => void} */
function loadLedger(parts, side, choose) {
  parts.rows = side.operations.map((operation) => makeOperation(operation, choose));
  parts.body.replaceChildren(...parts.rows.map(({ row }) => row));
  setText(parts.counting, countingWords(side));
}

/**
 * A line that is pointed at lights its phase up inside the step; a click opens the step there.
 * @type {(operation: Operation, choose: Choose) => Row}
 */
function makeOperation(operation, choose) {
  const row = element("tr", operation.shared ? "shared" : "");
  const work = element("th", "work");
  work.scope = "row";
  const shapes = element("span", "shapes");
  work.append(element("b", "", operation.name), " ", element("code", "formula", operation.formula), shapes);
  const counts = [0, 1, 2].map(() => element("td", "count"));
  row.append(work, ...counts);
  const phase = PHASES.indexOf(operation.phase);
  row.addEventListener("pointerenter", () => choose({ lit: phase }));
  row.addEventListener("pointerleave", () => choose({ lit: null }));
  row.addEventListener("click", () => choose({ inside: true, at: phase + 1 }));
  return { row, shapes, counts };
}

/** @type {(parts: Ledger, name: SideName, view: View) => void} */
function paintLedger({ caption, rows, total, remarks }, name, { run, step, layer, inside, at, lit }) {
  const side = run[name];
  const sums = { flops: 0, read: 0, written: 0 };
  setText(caption, `Operations of this step, layer ${layer + 1}: FLOPs, bytes read and written`);
  const now = inside ? PHASES[lit ?? phaseAt(at)] : null;
  rows.forEach(({ row, shapes, counts }, index) => {
    const operation = side.operations[index];
    row.classList.toggle("lit", operation.phase === now);
    const flops = operation.flops.at(step);
    const read = operation.bytes_read.at(step);
    const written = operation.bytes_written.at(step);
    sums.flops += flops;
    sums.read += read;
    sums.written += written;
    setText(shapes, shapesText(operation.shape, step + 1));
    showCounts(counts, { flops, read, written });
  });
  showCounts(total, sums);
  setText(remarks, ledgerRemarks(side, step, layer));
}

/**
 * "8×(1×48)·(48×10)"; what is null grows, and is the number of tokens so far.
 * @type {(shape: Product, tokens: number) => string}
 */
export function shapesText({ batch, rows, inner, columns }, tokens) {
  const [many, high, deep, wide] = [batch, rows, inner, columns].map((size) => size ?? tokens);
  return `${batch === 1 ? "" : `${many}×`}(${high}×${deep})·(${deep}×${wide})`;
}

/** @type {(cells: Node[], counts: Counts) => void} */
function showCounts(cells, { flops, read, written }) {
  setText(cells[0], countText(flops));
  setText(cells[1], bytesText(read));
  setText(cells[2], bytesText(written));
}

/** @type {(side: Side, step: number, layer: number) => string} */
function ledgerRemarks(side, step, layer) {
  const took = timeText(side.time_us.at(step, layer));
  const remarks = [`Measured attention time, this layer: ${took} (one run, not a benchmark).`];
  const working = side.working_bytes.at(step);
  if (working > 0) remarks.push(`Rebuilt and thrown away, this layer: ${bytesText(working)}.`);
  const [allocated, filled] = [side.allocated_bytes.at(step), side.cache_bytes.at(step)];
  remarks.push(`Cache, all layers: ${bytesText(allocated)} allocated, ${bytesText(filled)} filled.`);
  return remarks.join(" ");
}

/**
 * How these operations are counted, where one might take it otherwise.
 * @type {(side: Side) => string}
 */
export function countingWords({ operations, cache_elems: cached, cache_reads: reads, kept }) {
  const words = ["Every operation is counted by itself: operands read once, result written once."];
  if (reads > cached) {
    words.push(`Score and context both read the latent: ${reads} values a cached token, ${cached} stored.`);
  }
  if (kept) {
    words.push(
      `Cached bytes are read as ${kept.name} keeps them, scales included; multiplying them out is not counted.`,
    );
  }
  if (operations.some(({ shared }) => shared)) words.push("Greyed: the same on both sides.");
  return words.join(" ");
}
