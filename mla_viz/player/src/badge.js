// The badge: the largest differences of this step between the sides, and what they prove.

import { find, findAll, setAttribute, setText } from "./dom.js";
import { differenceText } from "./words.js";

export function makeBadge(badge) {
  const parts = {
    badge,
    verdict: find(badge, ".verdict"),
    what: find(badge, ".what"),
    same: find(badge, ".same"),
    differences: findAll(badge, "[data-difference]").map((node) => ({ node, figure: find(node, "b") })),
  };
  return { place: badge, paint: (view) => paintBadge(parts, view) };
}

function paintBadge({ badge, verdict, what, same, differences }, { run, step }) {
  const proven = run.same_model && run.differences !== null;
  setAttribute(badge, "data-verdict", !run.same_model ? "different" : run.same_tokens ? "same" : "warning");
  setText(verdict, run.same_model ? "✓ one model, two mechanisms" : "≠ different models");
  const words = proven
    ? `largest difference at this step, ${run.dtype}:`
    : "differences mean nothing here: the two sides have weights of their own";
  setText(what, words);
  for (const { node, figure } of differences) {
    node.hidden = !proven;
    if (proven) setText(figure, differenceText(run.differences[node.dataset.difference].at(step)));
  }
  setText(same, sameTokensWords(run));
}

function sameTokensWords(run) {
  if (!run.same_model) return "both are fed the tokens above";
  return run.same_tokens ? "same tokens" : "⚠ the two sides would not choose the same tokens";
}
