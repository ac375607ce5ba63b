// The player: one state (run, step, layer, head, speed), changed at once and painted at the next frame.
// It knows the views by their load and paint; it does not know what any of them draws.

const STEPS_PER_SECOND = 2;
const SPOKEN_PAUSE_MS = 1000;
const REST_MS = 120;
const players = new WeakMap();

function makePlayer(root) {
  const state = { run: null, step: 0, layer: 0, head: 0, speedName: "1", playing: false };
  const player = { root, state, theme: null, frame: 0, rest: 0, asked: 0, playFrame: 0, spokenAt: 0 };
  player.address = makeAddressWriter(state);
  player.views = makeViews(player);
  player.transport = makeTransport(root, transportActions(player));
  player.chooser = makeChooser(player);
  player.stopWatching = watchPage(player);
  return player;
}

/** Canvases before words: a canvas that sets its font waits for the styles that words have changed. */
function makeViews(player) {
  const { root } = player;
  const find = (selector) => root.querySelector(selector);
  const tooltip = find(".tooltip");
  player.strip = makeTokenStrip(find(".tokens"), (step) => goTo(player, step));
  const drawn = [makeChart(find(".growth"))];
  const written = [makeBadge(find(".badge")), makeCandidates(find(".next")), player.strip];
  for (const name of ["left", "right"]) {
    const panel = find(`.panel.${name}`);
    panel.append(find("template").content.cloneNode(true));
    const chooseHead = (head) => choose(player, { head });
    drawn.push(
      makeCacheView(panel, name, tooltip), makeHeadsView(panel, name, tooltip, chooseHead),
      makeTriangleView(panel, name, tooltip),
    );
    written.push(makeHeader(panel, name), makeLedger(panel, name));
  }
  return [...drawn, ...written];
}

function transportActions(player) {
  const { state } = player;
  const stop = (step) => {
    setPlaying(player, false);
    goTo(player, step);
  };
  return {
    first: () => stop(0),
    back: () => stop(state.step - 1),
    forward: () => stop(state.step + 1),
    last: () => stop(Infinity),
    goTo: stop,
    play: () => setPlaying(player, !state.playing),
    setSpeed: (speedName) => choose(player, { speedName }),
  };
}

/** Make `step` the current one, now; painting follows at the next frame, once for all that came before it. */
function goTo(player, step) {
  const { state } = player;
  const target = clamp(step, state.run.n_steps);
  if (target === state.step) return;
  state.step = target;
  settle(player);
}

function choose(player, change) {
  Object.assign(player.state, change);
  if (player.state.playing) startClock(player);
  settle(player);
}

function clamp(index, count) {
  return Math.max(0, Math.min(index, count - 1));
}

/** Bring controls, attributes and address in line with the state, and ask for a painting. */
function settle(player) {
  const { root, state } = player;
  const { run, step } = state;
  Object.assign(root.dataset, {
    step, steps: run.n_steps, playing: state.playing,
    leftBytes: run.left.cache_bytes[step], rightBytes: run.right.cache_bytes[step],
  });
  player.transport.show(state);
  player.chooser.show(state);
  player.address.schedule();
  requestPaint(player);
}

function requestPaint(player) {
  if (player.frame) return;
  player.asked = performance.now();
  player.frame = requestAnimationFrame(() => paint(player));
}

function paint(player) {
  const { root, state } = player;
  player.frame = 0;
  if (!state.run) return;
  const view = { ...state, theme: player.theme ??= freshTheme(root, state.run) };
  for (const one of player.views) if (!one.away) paintView(one, view);
  clearTimeout(player.rest);
  player.rest = setTimeout(() => paintAway(player, view), REST_MS);
  narrateStep(player);
  player.strip.keepInView();
  const detail = { step: state.step, ms: performance.now() - player.asked };
  root.dispatchEvent(new CustomEvent("mla-paint", { bubbles: true, composed: true, detail }));
}

function paintView(one, view) {
  if (!one.surface || one.surface.width > 0) one.paint(view);
}

/** What is out of sight waits until stepping rests, so that what is in sight keeps up with it. */
function paintAway(player, view) {
  for (const one of player.views) if (one.away) paintView(one, view);
}

function freshTheme(root, run) {
  const theme = readTheme(root, run);
  applyTheme(root, theme);
  return theme;
}

/** Read the page's colours again at the next painting. */
function forgetTheme(player) {
  player.theme = null;
  if (player.state.run) requestPaint(player);
}

/** The line changes with every step; its spoken copy at most once a second while playing. */
function narrateStep(player) {
  const { root, state } = player;
  const words = narrate(state.run, state.step);
  setText(root.querySelector(".narration .seen"), words);
  const now = performance.now();
  if (state.playing && now - player.spokenAt < SPOKEN_PAUSE_MS) return;
  player.spokenAt = now;
  setText(root.querySelector(".narration .spoken"), words);
}

function setPlaying(player, playing) {
  const { state } = player;
  if (playing === state.playing) return;
  state.playing = playing;
  if (playing && state.step === state.run.n_steps - 1) state.step = 0;
  if (playing) startClock(player);
  else cancelAnimationFrame(player.playFrame);
  settle(player);
}

/** Play by the clock: the step follows from the time since start, so a slow frame costs no time. */
function startClock(player) {
  const { state } = player;
  const [start, from] = [performance.now(), state.step];
  const rate = STEPS_PER_SECOND * Number(state.speedName);
  const tick = () => {
    const step = from + Math.floor(((performance.now() - start) * rate) / 1000);
    goTo(player, step);
    if (state.step === state.run.n_steps - 1) setPlaying(player, false);
    else player.playFrame = requestAnimationFrame(tick);
  };
  cancelAnimationFrame(player.playFrame);
  player.playFrame = requestAnimationFrame(tick);
}

function makeChooser(player) {
  const [layer, head] = ["layer", "head"].map((name) => player.root.querySelector(`select[name=${name}]`));
  layer.addEventListener("change", () => choose(player, { layer: Number(layer.value) }));
  head.addEventListener("change", () => choose(player, { head: Number(head.value) }));
  return {
    load: (run) => {
      fillSelect(layer, run.n_layers);
      fillSelect(head, Math.max(run.left.n_heads, run.right.n_heads));
    },
    show: (state) => {
      layer.value = state.layer;
      head.value = state.head;
    },
  };
}

function fillSelect(select, count) {
  select.replaceChildren(...Array.from({ length: count }, (_, index) => new Option(String(index + 1), index)));
}

/** Follow the page's sizes and colours; return what ends it. */
function watchPage(player) {
  const surfaces = player.views.filter(({ surface }) => surface).map(({ surface }) => surface);
  const sizes = new ResizeObserver(() => measure(player, surfaces));
  for (const { canvas } of surfaces) sizes.observe(canvas.parentElement);
  const sight = watchSight(player);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => forgetTheme(player);
  dark.addEventListener("change", recolour);
  return () => {
    sizes.disconnect();
    sight.disconnect();
    dark.removeEventListener("change", recolour);
  };
}

/** Mark the views that are out of sight: those with a canvas or a place of their own. */
function watchSight(player) {
  const placed = new Map();
  for (const one of player.views) {
    const place = one.place ?? one.surface?.canvas;
    if (place) placed.set(place, one);
  }
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) placed.get(target).away = !isIntersecting;
    if (player.state.run) requestPaint(player);
  });
  for (const place of placed.keys()) sight.observe(place);
  return sight;
}

function measure(player, surfaces) {
  const ratio = window.devicePixelRatio || 1;
  const widths = surfaces.map(({ canvas }) => canvas.parentElement.clientWidth);
  if (surfaces.every((surface, index) => surface.width === widths[index] && surface.ratio === ratio)) return;
  surfaces.forEach((surface, index) => Object.assign(surface, { width: widths[index], ratio }));
  requestPaint(player);
}

/** Take a run in: the step, layer and head stay, as far as the new run has them. */
function loadRun(player, run) {
  const { state } = player;
  setPlaying(player, false);
  const wanted = state.run ? state : readAddress();
  Object.assign(state, {
    run,
    speedName: wanted.speedName,
    step: clamp(wanted.step ?? Infinity, run.n_steps),
    layer: clamp(wanted.layer ?? 0, run.n_layers),
    head: clamp(wanted.head ?? 0, Math.max(run.left.n_heads, run.right.n_heads)),
  });
  for (const view of player.views) view.load?.(run);
  player.chooser.load(run);
  player.transport.load(run);
  player.root.dataset.models = run.same_model ? "same" : "different";
  showNotes(player.root.querySelector(".notes"), run.notes);
}

function showNotes(list, notes) {
  list.hidden = notes.length === 0;
  list.replaceChildren(...notes.map((note) => element("li", "", note)));
}

function destroyPlayer(player) {
  cancelAnimationFrame(player.frame);
  cancelAnimationFrame(player.playFrame);
  clearTimeout(player.rest);
  player.address.stop();
  player.stopWatching();
}

/** Streamlit calls this at mount and whenever data or theme change; what it returns ends the latest call. */
export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector(".player");
  let player = players.get(parentElement);
  if (player?.root !== root) {
    if (player) destroyPlayer(player);
    player = makePlayer(root);
    players.set(parentElement, player);
  }
  if (data && player.data !== data) {
    const run = decodeRun(data);
    if (run.run !== player.state.run?.run) loadRun(player, run);
    player.data = data;
  }
  forgetTheme(player);
  if (player.state.run) settle(player);
  player.latest = component;
  return () => {
    if (player.latest !== component || players.get(parentElement) !== player) return;
    destroyPlayer(player);
    players.delete(parentElement);
  };
}
