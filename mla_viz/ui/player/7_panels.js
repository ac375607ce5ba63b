// What is said in words and tables: panel headers with their baselines, the ledger, the badge.
// It knows counted and measured numbers of one step; it does not know canvases or how to change the step.

function makeHeader(panel, name) {
  const parts = {
    label: panel.querySelector(".label"),
    amount: panel.querySelector(".amount"),
    comparisons: [...panel.querySelectorAll(".comparison")],
  };
  return { paint: (view) => paintHeader(parts, name, view) };
}

function paintHeader({ label, amount, comparisons }, name, { run, step }) {
  const side = run[name];
  const bytes = side.cache_bytes[step];
  const [figure, unit] = bytesParts(bytes);
  setText(label, side.label);
  setText(amount.querySelector(".figure"), bytes ? figure : "no cache");
  setText(amount.querySelector(".unit"), bytes ? unit : "");
  setText(amount.querySelector(".against"), `${plural(step + 1, "token")}, all layers`);
  const against = baselinesOf(run, name, step);
  comparisons.forEach((node, index) => showComparison(node, bytes, against[index]));
}

/** What this side's cache is held against: the right one against the left, both against plain MHA. */
function baselinesOf(run, name, step) {
  const plain = run.baselines.slice(0, 1).map((baseline) => (
    { bytes: baseline.bytes_per_token * (step + 1), words: baselineWords(baseline) }
  ));
  if (name === "left") return plain;
  const beside = run.left.short === run.right.short ? "the left side" : `this ${run.left.short} side`;
  return [{ bytes: run.left.cache_bytes[step], words: beside }, ...plain];
}

function showComparison(node, bytes, baseline) {
  node.hidden = !baseline || bytes === 0;
  if (node.hidden) return;
  const { figure, word } = compare(bytes, baseline.bytes);
  const [first, ...rest] = word.split(" ");
  setText(node.querySelector(".figure"), figure);
  setText(node.querySelector(".unit"), rest.length ? first : "");
  setText(node.querySelector(".against"), `${rest.length ? rest.join(" ") : first} ${baseline.words}`);
}

function makeLedger(panel, name) {
  const parts = {
    caption: panel.querySelector(".ledger .caption"),
    body: panel.querySelector(".ledger tbody"),
    total: [...panel.querySelectorAll(".ledger tfoot .count")],
    remarks: panel.querySelector(".remarks"),
    rows: [],
  };
  return {
    place: panel.querySelector(".ledger"),
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
  const sums = [0, 0, 0];
  setText(caption, `Operations of this step, layer ${layer + 1}: FLOPs, bytes read and written`);
  for (const { shapes, counts, operation } of rows) {
    const values = [operation.flops, operation.bytes_read, operation.bytes_written].map((array) => array[step]);
    values.forEach((value, index) => { sums[index] += value; });
    setText(shapes, operation.shapes.replace(/\bt\b/g, String(step + 1)));
    showCounts(counts, values);
  }
  showCounts(total, sums);
  setText(remarks, ledgerRemarks(side, step, side.time_us[step * run.n_layers + layer]));
}

function showCounts(cells, [flops, read, written]) {
  setText(cells[0], countText(flops));
  setText(cells[1], bytesText(read));
  setText(cells[2], bytesText(written));
}

function ledgerRemarks(side, step, microseconds) {
  const remarks = [`Measured attention time, this layer: ${timeText(microseconds)} (one run, not a benchmark).`];
  const working = side.working_bytes[step];
  if (working > 0) remarks.push(`Rebuilt and thrown away this step: ${bytesText(working)}.`);
  const filled = side.cache_bytes[step];
  remarks.push(`Allocated ${bytesText(side.allocated_bytes[step])}, filled ${bytesText(filled)}.`);
  return remarks.join(" ");
}

function makeBadge(badge) {
  const parts = Object.fromEntries(
    ["verdict", "what", "same"].map((name) => [name, badge.querySelector(`.${name}`)]),
  );
  parts.badge = badge;
  parts.values = [...badge.querySelectorAll("[data-difference]")];
  return { place: badge, paint: (view) => paintBadge(parts, view) };
}

function paintBadge({ badge, verdict, what, same, values }, { run, step }) {
  const proven = run.same_model && run.differences !== null;
  setAttribute(badge, "data-verdict", !run.same_model ? "different" : run.same_tokens ? "same" : "warning");
  setText(verdict, run.same_model ? "✓ one model, two mechanisms" : "≠ different models");
  setText(what, proven
    ? `largest difference at this step, ${run.dtype}:`
    : "differences mean nothing here: the two sides have weights of their own");
  for (const node of values) {
    node.hidden = !proven;
    if (proven) setText(node.querySelector("b"), differenceText(run.differences[node.dataset.difference][step]));
  }
  setText(same, sameTokensWords(run));
}

function sameTokensWords(run) {
  if (!run.same_model) return "both are fed the tokens above";
  return run.same_tokens ? "same tokens" : "⚠ the two sides would not choose the same tokens";
}
