// The transport: buttons, range, speed and keys, all of them asking the player for an absolute step.
// It knows controls; it does not know runs beyond their length, nor what a step looks like.

const KEY_ACTIONS = {
  ArrowLeft: "back", ArrowRight: "forward", " ": "play", Home: "first", End: "last",
};

/** Wire the controls under `root` to `actions`: first, back, play, forward, last, goTo, setSpeed. */
function makeTransport(root, actions) {
  const parts = {
    buttons: Object.fromEntries(
      [...root.querySelectorAll(".transport [data-action]")].map((button) => [button.dataset.action, button]),
    ),
    range: root.querySelector("input[type=range]"),
    speed: root.querySelector("select[name=speed]"),
    where: root.querySelector(".where"),
  };
  for (const [name, button] of Object.entries(parts.buttons)) button.addEventListener("click", actions[name]);
  parts.range.addEventListener("input", () => actions.goTo(Number(parts.range.value)));
  parts.speed.addEventListener("change", () => actions.setSpeed(parts.speed.value));
  root.addEventListener("keydown", (event) => handleKey(event, actions));
  return { load: (run) => fitTransport(parts, run), show: (state) => showTransport(parts, state) };
}

function handleKey(event, actions) {
  const action = KEY_ACTIONS[event.key];
  const { target } = event;
  if (!action || event.ctrlKey || event.metaKey || event.altKey || target.closest("select")) return;
  if (event.key === " " && target.closest("button")) return;
  event.preventDefault();
  actions[action]();
}

/** Fix the widths that follow from the run, so that no step moves the controls. */
function fitTransport({ range, where }, run) {
  range.max = run.n_steps - 1;
  const widest = `step  of  ·  · generated`.length + 2 * String(run.n_steps).length + STEP_TOKEN_LENGTH;
  where.style.setProperty("--widest", `${widest}ch`);
}

/** Bring every control up to date with the state, at once: painting may wait, these may not. */
function showTransport({ buttons, range, speed, where }, { run, step, playing, speedName }) {
  const last = run.n_steps - 1;
  range.value = step;
  setAttribute(range, "aria-valuetext", stepWords(run, step));
  range.style.setProperty("--done", `${last ? (100 * step) / last : 100}%`);
  for (const name of ["first", "back"]) setAttribute(buttons[name], "aria-disabled", step === 0);
  for (const name of ["forward", "last"]) setAttribute(buttons[name], "aria-disabled", step === last);
  setAttribute(buttons.play, "aria-label", playing ? "Pause" : "Play");
  setAttribute(buttons.play, "title", playing ? "Pause (space)" : "Play (space)");
  if (speed.value !== speedName) speed.value = speedName;
  setText(where, stepWords(run, step));
}
