// The badge: the largest differences of this step between the sides, and what they prove.

import { find, setAttribute, setText } from "./dom.js";
import { chooses } from "./payload.js";
import { differenceText, figureText, plural } from "./words.js";

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
  const [kind, words] = verdictOf(run);
  setAttribute(badge, "data-verdict", kind);
  setText(verdict, words);
  setText(what, whatWords(run));
  for (const { name, node, figure } of differences) {
    node.hidden = !run.differences || (name === "logits" && !chooses(run));
    if (run.differences) setText(figure, differenceText(run.differences[name].at(step)));
  }
  setText(same, sameTokensWords(run));
}

/**
 * A cache in fewer bits makes the sides differ as it should: that is no warning.
 * @type {(run: Run) => [kind: string, words: string]}
 */
function verdictOf(run) {
  const { same_model: sameModel, same_tokens: sameTokens, cut, right } = run;
  const { kept } = right;
  if (cut) {
    if (cut.whole) return ["same", "✓ one model, nothing cut off"];
    const { elems, pooled, decoupled } = cut;
    const as = decoupled ? "with RoPE decoupled" : `cut to ${elems}${pooled ? " on average" : ""}`;
    return ["rounded", `≈ one model, one cache ${as}`];
  }
  if (!sameModel) return ["different", "≠ different models"];
  if (kept) return ["rounded", `≈ one model, right cache rounded to ${kept.name}`];
  return [sameTokens ? "same" : "warning", `✓ one ${chooses(run) ? "model" : "layer"}, two mechanisms`];
}

/** @type {(run: Run) => string} */
function whatWords({ differences, dtype, right, left, cut }) {
  if (cut) {
    const agreed = `${(100 * cut.agreement).toFixed(0)} %`;
    return `over these ${plural(cut.tokens, "token")}, KL(left || right) is ${figureText(cut.kl)} nats a token, and both find the same next token likeliest at ${agreed}`;
  }
  if (!differences) return "differences mean nothing here: the two sides have weights of their own";
  const largest = `largest difference at this step, all layers, ${dtype}:`;
  if (!right.kept) return largest;
  const [bytes, other] = [right, left].map((side) => side.row_bytes.toLocaleString("en"));
  return `the right side keeps ${bytes} bytes a token and layer (left: ${other}) and reads rounded values, so the sides differ; ${largest}`;
}

/** @type {(run: Run) => string} */
function sameTokensWords(run) {
  if (!run.same_model && !run.cut) return "both are fed the tokens above";
  if (!chooses(run)) return "both are fed the same hidden states";
  if (run.cut || run.right.kept) {
    return run.same_tokens
      ? "both would choose the same tokens all the same"
      : "the right side would choose another token at some step";
  }
  return run.same_tokens ? "same tokens" : "⚠ the two sides would not choose the same tokens";
}
