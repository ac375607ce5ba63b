// The token strip: every token of the run as a chip, the current one outlined and kept in view.
// It knows chips and their places; it asks `goTo` for a step and does not know what else follows one.

import { element, setAttribute } from "./dom.js";
import { plural, shortened, visibleText } from "./words.js";

/** @import { Token } from "./layout.d.ts" */
/** @import { Run } from "./payload.js" */
/** @import { Part } from "./stage.js" */
/** @typedef {{ strip: HTMLElement, chips: HTMLElement[], step: number }} Strip */

const CHIP_LENGTH = 32;
const CHUNK = 64;
const UNCHUNKED = 256;

/** @type {(strip: HTMLElement, goTo: (step: number) => void) => Part & { keepInView: () => void }} */
export function makeTokenStrip(strip, goTo) {
  /** @type {Strip} */
  const state = { strip, chips: [], step: -1 };
  strip.addEventListener("click", ({ target }) => {
    const pos = target instanceof Element && target.closest("[data-pos]")?.getAttribute("data-pos");
    if (pos) goTo(Number(pos));
  });
  return {
    load: (run) => loadChips(state, run),
    paint: ({ step }) => paintChips(state, step),
    keepInView: () => keepInView(state),
  };
}

/** @type {(state: Strip, run: Run) => void} */
function loadChips(state, run) {
  const { strip } = state;
  state.step = -1;
  state.chips = run.tokens.map((token) => makeChip(run, token));
  const nodes = [...state.chips];
  if (run.prompt_len < nodes.length) nodes.splice(run.prompt_len, 0, makeBoundary());
  strip.replaceChildren(...(nodes.length > UNCHUNKED ? chunked(nodes) : nodes));
  setAttribute(strip, "aria-label", `${plural(run.tokens.length, "token")}; click one to go to its step`);
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
  const chip = element("span", `chip ${source}`, shortened(whole, CHIP_LENGTH));
  chip.dataset.pos = String(pos);
  const fed = pos < run.n_steps ? "" : ", not fed any more";
  const cut = whole.length > CHIP_LENGTH ? ` · ${whole}` : "";
  chip.title = `token ${pos} · id ${id} · ${source}${fed}${cut}`;
  return chip;
}

/** @type {() => HTMLElement} */
function makeBoundary() {
  const boundary = element("span", "boundary", "generated");
  boundary.title = "The prompt ends here; what follows was generated";
  return boundary;
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
}

/**
 * Scroll the strip, never the page, until the current token's line has the line before it above.
 * @type {(state: Strip) => void}
 */
function keepInView({ strip, chips, step }) {
  const [inside, chip] = [strip.getBoundingClientRect(), chips[step].getBoundingClientRect()];
  const line = chip.height + 5;
  const offset = Math.round(chip.top - inside.top - 3);
  if (offset < 0 || offset + chip.height > inside.height) strip.scrollTop += offset - line;
}
