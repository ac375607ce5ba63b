// The token strip: every token as a button, prompt and generated in a lane each, the current one kept in view.
// A lane is one tab stop: keys step as they do everywhere, and the focus goes along.
// It knows chips and their places; it asks `goTo` for a step and does not know what else follows one.

import { element, findAll, setAttribute, setText } from "./dom.js";
import { tokenWords } from "./narration.js";
import { chooses } from "./payload.js";
import { plural, shortened, visibleText } from "./words.js";

/** @import { Token } from "./layout.d.ts" */
/** @import { Run } from "./payload.js" */
/** @import { Part } from "./stage.js" */
/**
 * @typedef {object} Strip
 * @property {HTMLElement[]} lanes
 * @property {HTMLElement[]} names what stands before each
 * @property {HTMLElement[]} chips
 * @property {number} promptLength
 * @property {number} step
 * @property {HTMLElement[]} stops the chip of each lane that the tab key reaches
 * @property {boolean} focused whether a chip has the focus
 */

const CHIP_LENGTH = 32;
const CHUNK = 64;
const UNCHUNKED = 256;

/** @type {(strip: HTMLElement, goTo: (step: number) => void) => Part & { keepInView: () => void }} */
export function makeTokenStrip(strip, goTo) {
  /** @type {Strip} */
  const state = {
    lanes: findAll(strip, ".lane"),
    names: findAll(strip, ".of"),
    chips: [],
    promptLength: 0,
    step: -1,
    stops: [],
    focused: false,
  };
  strip.addEventListener("click", ({ target }) => {
    const token = target instanceof Element && target.closest("[data-token]")?.getAttribute("data-token");
    if (token) goTo(Number(token) - 1);
  });
  strip.addEventListener("focusin", () => {
    state.focused = true;
  });
  strip.addEventListener("focusout", () => {
    state.focused = false;
  });
  return {
    load: (run) => loadChips(state, run),
    paint: ({ step }) => paintChips(state, step),
    keepInView: () => keepInView(state),
  };
}

/** @type {(state: Strip, run: Run) => void} */
function loadChips(state, run) {
  const { focused, names } = state;
  const own = chooses(run);
  const chips = run.tokens.map((token) => makeChip(run, token));
  const parts = [chips.slice(0, run.prompt_len), own ? chips.slice(run.prompt_len) : []];
  setText(names[0], own ? "prompt" : "hidden states");
  state.lanes.forEach((lane, index) => {
    const nodes = parts[index];
    lane.hidden = names[index].hidden = nodes.length === 0;
    lane.replaceChildren(...(nodes.length > UNCHUNKED ? chunked(nodes) : nodes));
    lane.scrollTop = 0;
    const words = `${plural(nodes.length, own ? "token" : "hidden state")}, ${["given", "generated"][index]}`;
    setAttribute(lane, "aria-label", `${words}; choose one to go to its step`);
  });
  Object.assign(state, { chips, promptLength: run.prompt_len, step: -1, stops: [], focused });
}

/**
 * Long lists in chunks that the browser neither lays out nor paints while they are out of view.
 * @type {(nodes: HTMLElement[]) => HTMLElement[]}
 */
function chunked(nodes) {
  return Array.from({ length: Math.ceil(nodes.length / CHUNK) }, (_, index) => {
    const chunk = element("div", "chunk");
    chunk.append(...nodes.slice(index * CHUNK, (index + 1) * CHUNK));
    return chunk;
  });
}

/** @type {(run: Run, token: Token) => HTMLElement} */
function makeChip(run, { id, text, pos, source }) {
  const whole = visibleText(text);
  const chip = element("button", `chip ${source}`, shortened(whole, CHIP_LENGTH));
  chip.type = "button";
  chip.tabIndex = -1;
  chip.dataset.token = String(pos + 1);
  const fed = pos < run.n_steps ? "" : ", not fed any more";
  const cut = whole.length > CHIP_LENGTH ? ` · ${whole}` : "";
  chip.setAttribute("aria-label", `token ${tokenWords(run, pos)}`);
  chip.title = `token ${pos + 1} · id ${id} · ${source}${fed}${cut}`;
  return chip;
}

/** @type {(state: Strip, step: number) => void} */
function paintChips(state, step) {
  if (step === state.step) return;
  const [from, to] = [Math.min(step, state.step), Math.max(step, state.step)];
  for (let pos = from + 1; pos <= to; pos += 1) {
    state.chips[pos].classList.toggle("past", pos <= step);
  }
  state.chips[state.step]?.removeAttribute("aria-current");
  state.chips[step].setAttribute("aria-current", "step");
  state.step = step;
  moveStops(state, step);
  if (state.focused) state.chips[step].focus({ preventScroll: true });
}

/**
 * One chip of each lane: the current one, or the one next to it.
 * @type {(state: Strip, step: number) => void}
 */
function moveStops(state, step) {
  const { chips, promptLength } = state;
  for (const chip of state.stops) chip.tabIndex = -1;
  state.stops = [Math.min(step, promptLength - 1), Math.max(step, promptLength)].flatMap(
    (pos) => chips[pos] ?? [],
  );
  for (const chip of state.stops) chip.tabIndex = 0;
}

/**
 * Scroll a lane, never the page, until the current token's line has the line before it above; behind the
 * prompt its end stays in view.
 * @type {(state: Strip) => void}
 */
function keepInView({ lanes: [prompt, generated], chips, promptLength, step }) {
  scrollTo(prompt, chips[Math.min(step, promptLength - 1)]);
  if (step >= promptLength) scrollTo(generated, chips[step]);
}

/** @type {(lane: HTMLElement, token: HTMLElement) => void} */
function scrollTo(lane, token) {
  const [inside, chip] = [lane.getBoundingClientRect(), token.getBoundingClientRect()];
  const line = chip.height + 5;
  const offset = Math.round(chip.top - inside.top - 3);
  if (offset < 0 || offset + chip.height > inside.height) lane.scrollTop += offset - line;
}
