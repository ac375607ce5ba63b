// A panel's header: the mechanism's name, its cache, and what that is held against.

import { compare } from "./comparison.js";
import { find, findAll, setText } from "./dom.js";
import { bytesParts, plural } from "./words.js";

export function makeHeader(panel, name) {
  const parts = {
    label: find(panel, ".label"),
    amount: figureParts(find(panel, ".amount")),
    comparisons: findAll(panel, ".comparison").map(figureParts),
  };
  return { paint: (view) => paintHeader(parts, name, view) };
}

function figureParts(node) {
  return { node, figure: find(node, ".figure"), unit: find(node, ".unit"), against: find(node, ".against") };
}

function paintHeader({ label, amount, comparisons }, name, { run, step }) {
  const side = run[name];
  const bytes = side.cache_bytes.at(step);
  const [figure, unit] = bytesParts(bytes);
  setText(label, side.label);
  setText(amount.figure, bytes ? figure : "no cache");
  setText(amount.unit, bytes ? unit : "");
  setText(amount.against, `${plural(step + 1, "token")}, all layers`);
  const against = baselinesOf(run, name, step);
  comparisons.forEach((parts, index) => {
    showComparison(parts, bytes, against[index]);
  });
}

/** What this side's cache is held against: the right one against the left, both against plain MHA. */
function baselinesOf(run, name, step) {
  const plain = run.baselines.slice(0, 1).map((baseline) => ({
    bytes: baseline.bytes_per_token * (step + 1),
    words: baselineWords(baseline),
  }));
  if (name === "left") return plain;
  const beside = run.left.short === run.right.short ? "the left side" : `this ${run.left.short} side`;
  return [{ bytes: run.left.cache_bytes.at(step), words: beside }, ...plain];
}

/** The baseline's own words, what it counts in brackets: "plain MHA of the same heads (2 × 8 × 32 values ...)". */
function baselineWords(baseline) {
  const [what, counted] = baseline.detail.replace(/ x /g, "\u00a0×\u00a0").split(/:\s*/);
  return counted ? `${what} (${counted})` : what;
}

function showComparison({ node, figure, unit, against }, bytes, baseline) {
  node.hidden = !baseline || bytes === 0;
  if (node.hidden) return;
  const compared = compare(bytes, baseline.bytes);
  const [first, ...rest] = compared.word.split(" ");
  setText(figure, compared.figure);
  setText(unit, rest.length ? first : "");
  setText(against, `${rest.length ? rest.join(" ") : first} ${baseline.words}`);
}
