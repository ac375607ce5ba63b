// The tour's card, and the line that offers it: a question, the choices, and the answer once one was chosen.
// It knows the page's nodes and what was guessed; what is asked, and who moves the player there, others know.

import { element, find, findAll, setAttribute, setText } from "./dom.js";
import { recall, remember } from "./memory.js";
import { STOPS, tellStop } from "./stops.js";

/** @import { Loaded } from "./player.js" */
/** @import { Told } from "./stops.js" */
/**
 * @typedef {object} Ask
 * @property {(stop: number | null) => void} goToStop null leaves the tour
 * @property {() => void} reveal
 */
/**
 * `guess` is what was chosen here, -1 where the answer was asked for, null while neither was.
 * @typedef {object} Tour
 * @property {HTMLElement} root
 * @property {HTMLElement} card
 * @property {HTMLElement} offer
 * @property {Record<"toggle" | "title" | "asks" | "choices" | "because" | "back" | "next" | "answer", HTMLElement>} parts
 * @property {Ask} ask
 * @property {number | null} stop
 * @property {string} key the question that is shown: its stop, run and place
 * @property {Map<string, number>} guesses by that key
 * @property {Told | null} told
 */

const MEMORY = "mla-viz-tour";
/** After this the pictures have their heights, even where the page has only just opened. */
const DRAWN_MS = 150;

/**
 * @param {HTMLElement} root
 * @param {Ask} ask
 */
export function makeTour(root, ask) {
  const card = find(root, ".tour");
  const button = (/** @type {string} */ action) => find(root, `[data-action=tour-${action}]`);
  /** @type {Tour} */
  const tour = {
    root,
    card,
    offer: find(root, ".offer"),
    parts: {
      toggle: button("toggle"),
      title: find(card, "h3"),
      asks: find(card, ".asks"),
      choices: find(card, ".choices"),
      because: find(card, ".because"),
      back: button("back"),
      next: button("next"),
      answer: button("answer"),
    },
    ask,
    stop: null,
    key: "",
    guesses: new Map(),
    told: null,
  };
  const begin = () => go(tour, lastStop());
  const leave = () => go(tour, null);
  button("begin").addEventListener("click", begin);
  button("decline").addEventListener("click", leave);
  tour.parts.toggle.addEventListener("click", () => (tour.stop === null ? begin() : leave()));
  button("leave").addEventListener("click", leave);
  tour.parts.back.addEventListener("click", () => go(tour, Math.max(0, (tour.stop ?? 0) - 1)));
  tour.parts.next.addEventListener("click", () => goOn(tour));
  tour.parts.answer.addEventListener("click", () => guess(tour, -1));
  tour.offer.hidden = recall("localStorage", MEMORY) !== null;
  root.addEventListener("keydown", (event) => takeKey(tour, event));
  return { show: (/** @type {Loaded} */ state) => show(tour, state) };
}

/**
 * Digits choose, Escape leaves; what another part has taken, or a field needs, stays with it.
 * @type {(tour: Tour, event: KeyboardEvent) => void}
 */
function takeKey(tour, event) {
  const { key, target, defaultPrevented, ctrlKey, metaKey, altKey } = event;
  if (tour.stop === null || defaultPrevented || ctrlKey || metaKey || altKey) return;
  if (target instanceof Element && target.closest("select")) return;
  const choice = Number.parseInt(key, 10) - 1;
  if (key === "Escape") go(tour, null);
  else if (tour.told?.choices[choice] !== undefined) guess(tour, choice);
  else return;
  event.preventDefault();
}

/**
 * Where the tour was left, 0 where it never was begun or was seen to its end.
 * @type {() => number}
 */
function lastStop() {
  const last = Number.parseInt(recall("localStorage", MEMORY) ?? "", 10) - 1;
  return last > 0 && last < STOPS.length - 1 ? last : 0;
}

/**
 * Go to a stop, or out of the tour; the focus goes along.
 * @type {(tour: Tour, stop: number | null) => void}
 */
function go(tour, stop) {
  const { toggle, title } = tour.parts;
  tour.offer.hidden = true;
  tour.ask.goToStop(stop);
  if (stop === null && recall("localStorage", MEMORY) === null) remember("localStorage", MEMORY, "declined");
  (stop === null ? toggle : title).focus({ preventScroll: true });
}

/** @type {(tour: Tour) => void} */
function goOn(tour) {
  const last = tour.stop === STOPS.length - 1;
  go(tour, last ? null : (tour.stop ?? 0) + 1);
}

/** @type {(tour: Tour, choice: number) => void} */
function guess(tour, choice) {
  if (tour.guesses.has(tour.key)) return;
  tour.guesses.set(tour.key, choice);
  showAnswer(tour);
  tour.parts.next.focus({ preventScroll: true });
  tour.ask.reveal();
}

/** @type {(tour: Tour, state: Loaded) => void} */
function show(tour, { run, step, layer, head, tour: stop }) {
  setAttribute(tour.parts.toggle, "aria-expanded", stop !== null);
  tour.card.hidden = stop === null;
  const key = stop === null ? "" : [stop, run.run, step, layer, head].join("|");
  if (key === tour.key) return;
  const moved = stop !== tour.stop;
  Object.assign(tour, { key, stop, told: stop === null ? null : tellStop({ run, step, layer, head }, stop) });
  if (moved) pointAt(tour, stop === null ? null : STOPS[stop].place);
  if (stop === null || !tour.told) return;
  tour.offer.hidden = true;
  remember("localStorage", MEMORY, String(stop + 1));
  const { parts, told } = tour;
  setText(parts.title, `${stop + 1} of ${STOPS.length} · ${STOPS[stop].title}`);
  setText(parts.asks, told.question);
  setAttribute(parts.back, "aria-disabled", stop === 0);
  setText(parts.next, stop === STOPS.length - 1 ? "Done" : "Next");
  parts.choices.replaceChildren(...told.choices.map((words, index) => choiceOf(tour, words, index)));
  showAnswer(tour);
}

/** @type {(tour: Tour, words: string, index: number) => HTMLElement} */
function choiceOf(tour, words, index) {
  const button = element("button", "choice");
  button.type = "button";
  button.append(element("kbd", "", String(index + 1)), element("span", "", words), element("b", "", ""));
  button.addEventListener("click", () => guess(tour, index));
  return button;
}

/**
 * The answer where one was chosen or asked for: the right choice marked, a wrong one too, and why.
 * @type {(tour: Tour) => void}
 */
function showAnswer({ parts, told, guesses, key }) {
  const chosen = guesses.get(key);
  const known = chosen !== undefined;
  if (!told) return;
  [...parts.choices.children].forEach((button, index) => {
    const mark = !known ? "" : index === told.right ? "✓" : index === chosen ? "not this one" : "";
    setText(find(button, "b"), mark);
    setAttribute(button, "data-mark", mark && (index === told.right ? "right" : "wrong"));
    setAttribute(button, "aria-disabled", known);
  });
  parts.answer.hidden = known;
  const verdict = chosen === undefined || chosen < 0 ? "" : chosen === told.right ? "Yes. " : "No. ";
  setText(parts.because, known ? verdict + told.because : "");
}

/**
 * Mark what a stop speaks of, and bring it into view.
 * @type {(tour: Tour, place: string | null) => void}
 */
function pointAt({ root }, place) {
  for (const node of findAll(root, ".pointed")) node.classList.toggle("pointed", false);
  if (!place) return;
  const node = find(root, place);
  node.classList.toggle("pointed", true);
  setTimeout(() => node.scrollIntoView({ block: "nearest" }), DRAWN_MS);
}
