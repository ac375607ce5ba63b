// The candidates for the next token: both sides' likeliest, side by side.
// It knows the words and probabilities of one step; it does not know how one was chosen.

import { element, find, findAll, setText } from "./dom.js";
import { shortNames } from "./narration.js";
import { shortened, visibleText } from "./words.js";

/** @import { Candidates } from "./layout.d.ts" */
/** @import { Part, View } from "./stage.js" */
/** @typedef {Record<"line" | "bar" | "figure", HTMLElement>} Bar */
/** @typedef {{ row: HTMLElement, name: HTMLElement, bars: Bar[] }} Row */
/** @typedef {{ rows: Row[], title: HTMLElement, keys: HTMLElement[] }} Card */
/** @typedef {{ text: string, probs: (number | undefined)[] }} Candidate */

const SHOWN = 8;

/** @type {(card: HTMLElement) => Part} */
export function makeCandidates(card) {
  const rows = Array.from({ length: SHOWN }, makeCandidate);
  find(card, ".candidates").replaceChildren(...rows.map(({ row }) => row));
  const parts = { rows, title: find(card, ".aside"), keys: findAll(card, ".key") };
  return { place: card, paint: (view) => paintCandidates(parts, view) };
}

/** @type {() => Row} */
function makeCandidate() {
  const row = element("li", "candidate");
  const name = element("span", "name");
  const bars = ["left", "right"].map((side) => {
    const bar = element("span", `bar ${side}`);
    const figure = element("span", "probability");
    const line = element("span", "line");
    line.append(bar, figure);
    return { line, bar, figure };
  });
  const pair = element("span", "pair");
  pair.append(...bars.map(({ line }) => line));
  row.append(name, pair);
  return { row, name, bars };
}

/** @type {(parts: Card, view: View) => void} */
function paintCandidates({ rows, title, keys }, { run, step }) {
  setText(title, `temperature ${run.temperature}`);
  shortNames(run).forEach((name, index) => {
    setText(keys[index], name);
  });
  const tops = [run.left.top, run.right.top];
  const floors = tops.map(({ probs }) => probs.at(step, probs.shape[1] - 1));
  const candidates = unionOfTop(tops, step);
  rows.forEach(({ row, name, bars }, index) => {
    const candidate = candidates[index];
    row.hidden = !candidate;
    if (!candidate) return;
    setText(name, shortened(visibleText(candidate.text), 16));
    bars.forEach((bar, side) => {
      showBar(bar, candidate.probs[side], floors[side]);
    });
  });
}

/** @type {(bar: Bar, probability: number | undefined, floor: number) => void} */
function showBar({ bar, figure }, probability, floor) {
  bar.style.width = `${(100 * (probability ?? 0)).toFixed(2)}%`;
  setText(
    figure,
    probability === undefined ? `below ${Math.max(floor, 0.001).toFixed(3)}` : probability.toFixed(3),
  );
}

/**
 * Candidates of either side, most likely first; a side that does not list one leaves its place open.
 * @type {(tops: Candidates[], step: number) => Candidate[]}
 */
export function unionOfTop(tops, step) {
  /** @type {Map<string, Candidate>} */
  const found = new Map();
  tops.forEach(({ text, probs }, side) => {
    text[step].forEach((candidate, rank) => {
      const known = found.get(candidate) ?? { text: candidate, probs: [undefined, undefined] };
      known.probs[side] ??= probs.at(step, rank);
      found.set(candidate, known);
    });
  });
  /** @type {(candidate: Candidate) => number} */
  const best = ({ probs: [left, right] }) => Math.max(left ?? 0, right ?? 0);
  return [...found.values()].sort((a, b) => best(b) - best(a)).slice(0, SHOWN);
}
