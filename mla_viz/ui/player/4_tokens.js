// The token strip: every token of the run as a chip, the current one outlined and kept in view.
// It knows chips and their places; it asks `goTo` for a step and does not know what else follows one.

function makeTokenStrip(strip, goTo) {
  const state = { strip, chips: [], tops: [], run: null, step: -1 };
  strip.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-pos]");
    if (chip) goTo(Number(chip.dataset.pos));
  });
  return {
    load: (run) => loadChips(state, run),
    measure: () => { state.tops = state.chips.map((chip) => chip.offsetTop); },
    paint: ({ step }) => paintChips(state, step),
  };
}

function loadChips(state, run) {
  state.run = run;
  state.step = -1;
  state.chips = run.tokens.map((token, pos) => makeChip(run, token, pos));
  const nodes = [...state.chips];
  if (run.prompt_len < nodes.length) nodes.splice(run.prompt_len, 0, makeBoundary());
  state.strip.replaceChildren(...nodes);
  setAttribute(state.strip, "aria-label", `${plural(run.tokens.length, "token")}; click one to go to its step`);
}

function makeChip(run, token, pos) {
  const fed = pos < run.n_steps;
  const chip = element("span", `chip ${token.source}${fed ? "" : " unfed"}`, visibleText(token.text));
  chip.dataset.pos = pos;
  chip.title = `token ${pos} · id ${token.id} · ${token.source}${fed ? "" : ", not fed any more"}`;
  return chip;
}

function makeBoundary() {
  const boundary = element("span", "boundary", "generated");
  boundary.title = "The prompt ends here; what follows was generated";
  return boundary;
}

function paintChips(state, step) {
  if (step === state.step) return;
  const [from, to] = [Math.min(step, state.step), Math.max(step, state.step)];
  for (let pos = Math.max(0, from); pos <= to; pos += 1) {
    state.chips[pos].classList.toggle("past", pos <= step);
  }
  state.chips[state.step]?.removeAttribute("aria-current");
  state.chips[step].setAttribute("aria-current", "step");
  state.step = step;
  keepInView(state);
}

/** Scroll the strip, never the page, so that the current token's line is its middle one. */
function keepInView({ strip, tops, step }) {
  if (tops.length > step) strip.scrollTop = tops[step] - 34;
}
