// The badge: the largest differences of this step between the sides, and what they prove.

import { find, setAttribute, setText } from "./dom.js";
import { differenceText } from "./words.js";

/** @import { Differences } from "./layout.d.ts" */
/** @import { Run } from "./payload.js" */
/** @import { Part, View } from "./stage.js" */
/** @typedef {{ name: keyof Differences, node: HTMLElement, figure: HTMLElement }} Difference */
/**
 * @typedef {object} Badge
 * @property {HTMLElement} badge
 * @property {HTMLElement} verdict
 * @property {HTMLElement} what
 * @property {HTMLElement} same
 * @property {Difference[]} differences
 */

const DIFFERENCES = /** @type {const} */ (["scores", "probs", "out", "logits"]);

/** @type {(badge: HTMLElement) => Part} */
export function makeBadge(badge) {
  const parts = {
    badge,
    verdict: find(badge, ".verdict"),
    what: find(badge, ".what"),
    same: find(badge, ".same"),
    differences: DIFFERENCES.map((name) => {
      const node = find(badge, `[data-difference=${name}]`);
      return { name, node, figure: find(node, "b") };
    }),
  };
  return { place: badge, paint: (view) => paintBadge(parts, view) };
}

/** @type {(parts: Badge, view: View) => void} */
function paintBadge({ badge, verdict, what, same, differences }, { run, step }) {
  setAttribute(badge, "data-verdict", !run.same_model ? "different" : run.same_tokens ? "same" : "warning");
  setText(verdict, run.same_model ? "✓ one model, two mechanisms" : "≠ different models");
  const words = run.differences
    ? `largest difference at this step, all layers, ${run.dtype}:`
    : "differences mean nothing here: the two sides have weights of their own";
  setText(what, words);
  for (const { name, node, figure } of differences) {
    node.hidden = !run.differences;
    if (run.differences) setText(figure, differenceText(run.differences[name].at(step)));
  }
  setText(same, sameTokensWords(run));
}

/** @type {(run: Run) => string} */
function sameTokensWords(run) {
  if (!run.same_model) return "both are fed the tokens above";
  return run.same_tokens ? "same tokens" : "⚠ the two sides would not choose the same tokens";
}
