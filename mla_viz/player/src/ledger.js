// The ledger: every counted operation of one step with its shapes, FLOPs and bytes, and below it what was
// measured. It knows the numbers of one layer and step; it does not know how to change either.

import { element, find, findAll, setText } from "./dom.js";
import { bytesText, countText, timeText } from "./words.js";

export function makeLedger(panel, name) {
  const place = find(panel, ".ledger");
  const parts = {
    caption: find(place, ".caption"),
    body: find(place, "tbody"),
    total: findAll(place, "tfoot .count"),
    remarks: find(place, ".remarks"),
    rows: [],
  };
  return {
    place,
    load: (run) => loadLedger(parts, run[name]),
    paint: (view) => paintLedger(parts, name, view),
  };
}

function loadLedger(parts, side) {
  parts.rows = side.operations.map(makeOperation);
  parts.body.replaceChildren(...parts.rows.map(({ row }) => row));
}

function makeOperation(operation) {
  const row = element("tr", operation.shared ? "shared" : "");
  const work = element("th", "work");
  work.scope = "row";
  const shapes = element("span", "shapes");
  work.append(element("b", "", operation.name), " ", element("code", "formula", operation.formula), shapes);
  const counts = [0, 1, 2].map(() => element("td", "count"));
  row.append(work, ...counts);
  if (operation.shared) row.title = "The same on both sides";
  return { row, shapes, counts, operation };
}

function paintLedger({ caption, rows, total, remarks }, name, { run, step, layer }) {
  const side = run[name];
  const sums = { flops: 0, read: 0, written: 0 };
  setText(caption, `Operations of this step, layer ${layer + 1}: FLOPs, bytes read and written`);
  for (const { shapes, counts, operation } of rows) {
    const flops = operation.flops.at(step);
    const read = operation.bytes_read.at(step);
    const written = operation.bytes_written.at(step);
    sums.flops += flops;
    sums.read += read;
    sums.written += written;
    setText(shapes, operation.shapes.replace(/\bt\b/g, String(step + 1)));
    showCounts(counts, { flops, read, written });
  }
  showCounts(total, sums);
  setText(remarks, ledgerRemarks(side, step, layer));
}

function showCounts(cells, { flops, read, written }) {
  setText(cells[0], countText(flops));
  setText(cells[1], bytesText(read));
  setText(cells[2], bytesText(written));
}

function ledgerRemarks(side, step, layer) {
  const took = timeText(side.time_us.at(step, layer));
  const remarks = [`Measured attention time, this layer: ${took} (one run, not a benchmark).`];
  const working = side.working_bytes.at(step);
  if (working > 0) remarks.push(`Rebuilt and thrown away this step: ${bytesText(working)}.`);
  const [allocated, filled] = [side.allocated_bytes.at(step), side.cache_bytes.at(step)];
  remarks.push(`Allocated ${bytesText(allocated)}, filled ${bytesText(filled)}.`);
  return remarks.join(" ");
}
