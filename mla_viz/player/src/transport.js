// The transport: buttons, range and speed, all of them asking the player for an absolute step.
// It knows controls; it does not know runs beyond their length, nor what a step looks like.

import { find, findAll, setAttribute, setText } from "./dom.js";
import { STEP_TOKEN_LENGTH, stepWords } from "./narration.js";

/** Wire the controls under `root` to `actions`: first, back, play, forward, last, goTo, setSpeed. */
export function makeTransport(root, actions) {
  const buttons = findAll(root, ".transport [data-action]").map((button) => [button.dataset.action, button]);
  const parts = {
    buttons: Object.fromEntries(buttons),
    range: find(root, "input[type=range]", HTMLInputElement),
    speed: find(root, "select[name=speed]", HTMLSelectElement),
    where: find(root, ".where"),
  };
  for (const [name, button] of buttons) button.addEventListener("click", actions[name]);
  parts.range.addEventListener("input", () => actions.goTo(Number(parts.range.value)));
  parts.speed.addEventListener("change", () => actions.setSpeed(parts.speed.value));
  return { load: (run) => fitTransport(parts, run), show: (state) => showTransport(parts, state) };
}

/** Fix the widths that follow from the run, so that no step moves the controls. */
function fitTransport({ range, where }, run) {
  range.max = String(run.n_steps - 1);
  const widest = `step  of  ·  · generated`.length + 2 * String(run.n_steps).length + STEP_TOKEN_LENGTH;
  where.style.setProperty("--widest", `${widest}ch`);
}

/** Bring every control up to date with the state, at once: painting may wait, these may not. */
function showTransport({ buttons, range, speed, where }, { run, step, playing, speedName }) {
  const last = run.n_steps - 1;
  range.value = String(step);
  setAttribute(range, "aria-valuetext", stepWords(run, step));
  range.style.setProperty("--done", `${last ? (100 * step) / last : 100}%`);
  for (const name of ["first", "back"]) setAttribute(buttons[name], "aria-disabled", step === 0);
  for (const name of ["forward", "last"]) setAttribute(buttons[name], "aria-disabled", step === last);
  setAttribute(buttons.play, "aria-label", playing ? "Pause" : "Play");
  setAttribute(buttons.play, "title", playing ? "Pause (space)" : "Play (space)");
  if (speed.value !== speedName) speed.value = speedName;
  setText(where, stepWords(run, step));
}
