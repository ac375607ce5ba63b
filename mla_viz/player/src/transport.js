// The transport: buttons, range and speed, all of them asking the player for an absolute step.
// It knows controls; it does not know runs beyond their length, nor what a step looks like.

import { find, setAttribute, setText } from "./dom.js";
import { STEP_TOKEN_LENGTH, stepWords } from "./narration.js";

/** @typedef {"first" | "back" | "play" | "forward" | "last"} Action */
/** @import { Run } from "./payload.js" */
/** @import { Loaded } from "./player.js" */
/**
 * @typedef {Record<Action, () => void> & {
 *   goTo: (step: number) => void, setSpeed: (name: string) => void
 * }} Actions
 */
/**
 * @typedef {object} Controls
 * @property {Record<Action, HTMLElement>} buttons
 * @property {HTMLInputElement} range
 * @property {HTMLSelectElement} speed
 * @property {HTMLElement} where
 */

const ACTIONS = /** @type {const} */ (["first", "back", "play", "forward", "last"]);

/**
 * Wire the controls under `root` to `actions`: first, back, play, forward, last, goTo, setSpeed.
 * @param {HTMLElement} root
 * @param {Actions} actions
 */
export function makeTransport(root, actions) {
  const button = (/** @type {Action} */ action) => find(root, `.transport [data-action=${action}]`);
  const parts = {
    buttons: {
      first: button("first"),
      back: button("back"),
      play: button("play"),
      forward: button("forward"),
      last: button("last"),
    },
    range: find(root, "input[type=range]", HTMLInputElement),
    speed: find(root, "select[name=speed]", HTMLSelectElement),
    where: find(root, ".where"),
  };
  for (const action of ACTIONS) parts.buttons[action].addEventListener("click", actions[action]);
  parts.range.addEventListener("input", () => actions.goTo(Number(parts.range.value)));
  parts.speed.addEventListener("change", () => actions.setSpeed(parts.speed.value));
  return {
    load: (/** @type {Run} */ run) => fitTransport(parts, run),
    show: (/** @type {Loaded} */ state) => showTransport(parts, state),
  };
}

/**
 * Fix the widths that follow from the run, so that no step moves the controls.
 * @type {(parts: Controls, run: Run) => void}
 */
function fitTransport({ range, where }, run) {
  range.max = String(run.n_steps - 1);
  const widest = `step  of  ·  · generated`.length + 2 * String(run.n_steps).length + STEP_TOKEN_LENGTH;
  where.style.setProperty("--widest", `${widest}ch`);
}

/**
 * Bring every control up to date with the state, at once: painting may wait, these may not.
 * @type {(parts: Controls, state: Loaded) => void}
 */
function showTransport({ buttons, range, speed, where }, { run, step, playing, speedName }) {
  const last = run.n_steps - 1;
  range.value = String(step);
  setAttribute(range, "aria-valuetext", stepWords(run, step));
  range.style.setProperty("--done", `${last ? (100 * step) / last : 100}%`);
  for (const button of [buttons.first, buttons.back]) setAttribute(button, "aria-disabled", step === 0);
  for (const button of [buttons.forward, buttons.last]) setAttribute(button, "aria-disabled", step === last);
  setAttribute(buttons.play, "aria-label", playing ? "Pause" : "Play");
  setAttribute(buttons.play, "title", playing ? "Pause (space)" : "Play (space)");
  if (speed.value !== speedName) speed.value = speedName;
  setText(where, stepWords(run, step));
}
