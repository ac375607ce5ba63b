// A step of a run in sentences. It knows the run; it does not know the page.

import { comparedWords } from "./comparison.js";
import { chooses } from "./payload.js";
import { bytesText, capitalised, quoted } from "./words.js";

/** @import { Run, Side, SideName } from "./payload.js" */

/** Room that a token's text takes in the line beside the controls, in characters. */
export const STEP_TOKEN_LENGTH = 10;

/**
 * Two sides named apart, even when both run the same mechanism.
 * @type {(run: Pick<Run, SideName>) => [left: string, right: string]}
 */
export function shortNames({ left, right }) {
  return left.short === right.short
    ? [`left ${left.short}`, `right ${right.short}`]
    : [left.short, right.short];
}

/**
 * The same with the heads of those whose cache is told by them: "MQA 1×16".
 * @type {(run: Run) => [left: string, right: string]}
 */
export function sizedNames({ left, right }) {
  return shortNames({ left: { ...left, short: left.sized }, right: { ...right, short: right.sized } });
}

/**
 * "step 10 of 57 · ␣who · prefill".
 * @type {(run: Run, step: number) => string}
 */
export function stepWords(run, step) {
  const { text, source } = run.tokens[step];
  const stage = source === "prompt" ? "prefill" : "generated";
  return `step ${step + 1} of ${run.n_steps} · ${quoted(text, STEP_TOKEN_LENGTH)} · ${stage}`;
}

/**
 * A token by its place, which counts from one, and its text: "12 ␣who".
 * @type {(run: Pick<Run, "tokens">, pos: number) => string}
 */
export function tokenWords({ tokens }, pos) {
  return `${pos + 1} ${quoted(tokens[pos].text, 20)}`;
}

/**
 * One sentence for each thing that happened in this step.
 * @type {(run: Run, step: number) => string}
 */
export function narrate(run, step) {
  const { left, right } = run;
  const fed = `Step ${step + 1} of ${run.n_steps} feeds token ${step + 1}, "${quoted(run.tokens[step].text, 24)}".`;
  const compared = comparedWords(right.cache_bytes.at(step), left.cache_bytes.at(step));
  const [leftName, rightName] = shortNames(run);
  const caches = `${capitalised(leftName)} caches ${cachedWords(left, step)}, ${rightName} ${cachedWords(right, step)}${compared}, over all layers.`;
  return chooses(run) ? `${fed} ${caches} ${likelyWords(run, step)}` : `${fed} ${caches}`;
}

/** @type {(side: Side, step: number) => string} */
function cachedWords(side, step) {
  const bytes = side.cache_bytes.at(step);
  return bytes === 0 ? "nothing" : bytesText(bytes);
}

/** @type {(run: Run, step: number) => string} */
function likelyWords(run, step) {
  /** @type {(side: Side) => string} */
  const best = ({ top }) => `${quoted(top.text[step][0], 24)} ${Math.round(top.probs.at(step, 0) * 100)} %`;
  const [left, right] = [best(run.left), best(run.right)];
  if (left === right) return `Most likely next: ${left}.`;
  const [leftName, rightName] = shortNames(run);
  return `Most likely next: ${left} (${leftName}), ${right} (${rightName}).`;
}
