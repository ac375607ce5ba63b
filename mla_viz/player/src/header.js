// A panel's header: the mechanism's name, which its parts bear where they stand alone, its cache, and what
// that is held against.

import { compare, timesText } from "./comparison.js";
import { find, findAll, setText } from "./dom.js";
import { shortNames } from "./narration.js";
import { bytesParts, plural } from "./words.js";

/** @import { Comparison } from "./comparison.js" */
/** @import { Run, SideName } from "./payload.js" */
/** @import { Part, View } from "./stage.js" */
/** @typedef {Record<"node" | "figure" | "unit" | "against", HTMLElement>} Figure */
/** @typedef {{ label: HTMLElement, amount: Figure, comparisons: Figure[] }} Header */
/** @typedef {{ bytes: number, words: string }} Held a cache that this one is held against */

/**
 * A relation as a figure that is no number, the word beside the figure, and the word before the baseline.
 * @type {Record<Comparison["relation"], { figure: string | null, unit: string, link: string }>}
 */
const RELATIONS = {
  same: { figure: "the same", unit: "", link: "as" },
  all: { figure: "all of it", unit: "more", link: "than" },
  less: { figure: null, unit: "less", link: "than" },
  more: { figure: null, unit: "more", link: "than" },
};

/** @type {(panel: HTMLElement, name: SideName) => Part} */
export function makeHeader(panel, name) {
  const about = find(panel, ".about");
  const parts = {
    label: find(panel, ".label"),
    amount: figureParts(find(panel, ".amount")),
    comparisons: findAll(panel, ".comparison").map(figureParts),
  };
  const names = findAll(panel, ".side");
  return {
    load: (run) => {
      setText(about, run[name].about);
      for (const node of names) setText(node, shortNames(run)[name === "left" ? 0 : 1]);
    },
    paint: (view) => paintHeader(parts, name, view),
  };
}

/** @type {(node: HTMLElement) => Figure} */
function figureParts(node) {
  return { node, figure: find(node, ".figure"), unit: find(node, ".unit"), against: find(node, ".against") };
}

/** @type {(parts: Header, name: SideName, view: View) => void} */
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

/**
 * What this side's cache is held against: the right one against the left, both against plain MHA of their
 * own heads, where they are no such MHA themselves.
 * @type {(run: Run, name: SideName, step: number) => Held[]}
 */
function baselinesOf(run, name, step) {
  const { baselines, sized } = run[name];
  const others = baselines.slice(0, 1).filter(({ label }) => label !== sized);
  const plain = others.map((baseline) => ({
    bytes: baseline.bytes_per_token * (step + 1),
    words: `${baseline.what} (${baseline.counted}${run[name].kept ? `, ${run.dtype}` : ""})`,
  }));
  if (name === "left") return plain;
  const beside = run.left.short === run.right.short ? "the left side" : `this ${run.left.short} side`;
  const kept = run.right.kept ? `, kept in ${run.dtype}` : "";
  return [{ bytes: run.left.cache_bytes.at(step), words: beside + kept }, ...plain];
}

/** @type {(comparison: Comparison) => string} */
function figureText({ relation, times }) {
  return RELATIONS[relation].figure ?? `${timesText(times)}×`;
}

/** @type {(parts: Figure, bytes: number, baseline: Held | undefined) => void} */
function showComparison({ node, figure, unit, against }, bytes, baseline) {
  node.hidden = !baseline || bytes === 0;
  if (!baseline || bytes === 0) return;
  const compared = compare(bytes, baseline.bytes);
  setText(figure, figureText(compared));
  setText(unit, RELATIONS[compared.relation].unit);
  setText(against, `${RELATIONS[compared.relation].link} ${baseline.words}`);
}
