// The candidates for the next token: both sides' likeliest as they are drawn, side by side, and what came next.
// It knows the words and probabilities of one step; it does not know how one is drawn.

import { element, find, findAll, setText } from "./dom.js";
import { shortNames } from "./narration.js";
import { chooses } from "./payload.js";
import { probabilityText, shortened, visibleText } from "./words.js";

/** @import { Candidates } from "./layout.d.ts" */
/** @import { Run } from "./payload.js" */
/** @import { Part, View } from "./stage.js" */
/** @typedef {Record<"line" | "bar" | "figure", HTMLElement>} Bar */
/** @typedef {{ row: HTMLElement, name: HTMLElement, bars: Bar[], mark: HTMLElement }} Row */
/** @typedef {{ rows: Row[], title: HTMLElement, keys: HTMLElement[] }} Card */
/** @typedef {{ text: string, probs: (number | undefined)[] }} Candidate */

const SHOWN = 8;

/** @type {(card: HTMLElement) => Part} */
export function makeCandidates(card) {
  const rows = Array.from({ length: SHOWN }, makeCandidate);
  find(card, ".candidates").replaceChildren(...rows.map(({ row }) => row));
  const parts = { rows, title: find(card, ".aside"), keys: findAll(card, ".key") };
  return {
    place: card,
    load: (run) =>
      setText(parts.title, chooses(run) ? drawnWords(run) : "none: a layer alone chooses no token"),
    paint: (view) => paintCandidates(parts, view),
  };
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
  const mark = element("b", "mark");
  row.append(name, pair, mark);
  return { row, name, bars, mark };
}

/** @type {(parts: Card, view: View) => void} */
function paintCandidates({ rows, keys }, { run, step }) {
  shortNames(run).forEach((name, index) => {
    setText(keys[index], name);
  });
  if (!chooses(run)) {
    for (const { row } of rows) row.hidden = true;
    return;
  }
  const tops = [run.left.top, run.right.top];
  const floors = tops.map(({ probs }) => probs.at(step, probs.shape[1] - 1));
  const next = run.tokens[step + 1].text;
  const candidates = unionOfTop(tops, step, next);
  rows.forEach(({ row, name, bars, mark }, index) => {
    const candidate = candidates[index];
    row.hidden = !candidate;
    if (!candidate) return;
    setText(name, shortened(visibleText(candidate.text), 16));
    row.classList.toggle("next", candidate.text === next);
    setText(mark, candidate.text === next ? nextWords(run, step) : "");
    bars.forEach((bar, side) => {
      showBar(bar, candidate.probs[side], floors[side]);
    });
  });
}

/**
 * What the bars are the probabilities of.
 * @type {(run: Run) => string}
 */
export function drawnWords({ temperature, top_k: kept }) {
  if (temperature === 0) return "temperature 0: the likeliest is taken; bars are the model's own";
  const among = kept === 0 ? "all tokens" : kept === 1 ? "the likeliest alone" : `the ${kept} likeliest`;
  return `drawn at temperature ${temperature} from ${among}`;
}

/**
 * How the next token came: from the prompt, or by the left side's choice.
 * @type {(run: Run, step: number) => string}
 */
function nextWords(run, step) {
  if (run.tokens[step + 1].source === "prompt") return "in prompt";
  return `${run.temperature === 0 ? "taken" : "drawn"}${run.same_model ? "" : " left"}`;
}

/** @type {(bar: Bar, probability: number | undefined, floor: number) => void} */
function showBar({ bar, figure }, probability, floor) {
  bar.style.width = `${(100 * (probability ?? 0)).toFixed(2)}%`;
  const unlisted = probability === undefined && floor > 0;
  setText(figure, unlisted ? `≤ ${Math.max(floor, 0.001).toFixed(3)}` : probabilityText(probability ?? 0));
}

/**
 * Candidates of either side, most likely first, the next token among them; a side that does not list one
 * leaves its place open.
 * @type {(tops: Candidates[], step: number, next: string) => Candidate[]}
 */
export function unionOfTop(tops, step, next) {
  /** @type {Map<string, Candidate>} */
  const found = new Map();
  tops.forEach(({ text, probs }, side) => {
    text[step].forEach((candidate, rank) => {
      const known = found.get(candidate) ?? { text: candidate, probs: [undefined, undefined] };
      known.probs[side] ??= probs.at(step, rank);
      found.set(candidate, known);
    });
  });
  if (!found.has(next)) found.set(next, { text: next, probs: [undefined, undefined] });
  /** @type {(candidate: Candidate) => number} */
  const best = ({ probs: [left, right] }) => Math.max(left ?? 0, right ?? 0);
  const ranked = [...found.values()].sort((a, b) => best(b) - best(a));
  const place = ranked.findIndex(({ text }) => text === next);
  return ranked.filter((_, rank) => rank < SHOWN - 1 || rank === Math.max(place, SHOWN - 1));
}
