// The player: one state (run, step, layer, head, speed), changed at once and painted at the next frame.
// It knows controls, stage and address; it does not know who shows it, nor what a step looks like.

import { makeAddressWriter, readAddress } from "./address.js";
import { makeChooser, mostHeads } from "./chooser.js";
import { element, find } from "./dom.js";
import { makePhases } from "./inside.js";
import { listenToKeys } from "./keyboard.js";
import { hasVectors, keepsStep } from "./lane.js";
import { atLayer, readRun, withRest } from "./payload.js";
import { COUNT, PHASES, PHASES_PER_SECOND, phaseAt } from "./phases.js";
import { makeStage } from "./stage.js";
import { positionOf, STOPS } from "./stops.js";
import { makeTour } from "./tour.js";
import { makeTransport } from "./transport.js";

/** @import { Packed, Run } from "./payload.js" */
/**
 * `inside` is whether the step is open, `at` the moment in it (3.5 is the middle of its fourth phase), `phasing`
 * whether that moves, `lit` a phase that is pointed at, `tour` the stop of the tour, null outside it.
 * @typedef {{ step: number, layer: number, head: number, speedName: string, playing: boolean, inside: boolean, at: number, phasing: boolean, lit: number | null, tour: number | null }} Position
 */
/** `run` is as `layer` has it; `wanted` is the layer whose vectors the host was asked for last, null before. */
/** @typedef {Position & { run: Run | null, wanted: number | null }} State */
/** @typedef {State & { run: Run }} Loaded */
/** @typedef {{ want?: (rest: { run: string, layer: number }) => void }} Host whoever shows the player, and may have more */
/** @typedef {(change: Partial<Position>) => void} Choose */
/**
 * @typedef {object} Player
 * @property {HTMLElement} root
 * @property {Host} host
 * @property {State} state
 * @property {Packed | null} bytes
 * @property {number} clock
 * @property {ReturnType<typeof makeAddressWriter>} address
 * @property {ReturnType<typeof makeStage>} stage
 * @property {ReturnType<typeof makeTransport>} transport
 * @property {ReturnType<typeof makeChooser>} chooser
 * @property {ReturnType<typeof makePhases>} phases
 * @property {ReturnType<typeof makeTour>} tour
 * @property {number} phaseClock
 */

const STEPS_PER_SECOND = 2;

/**
 * Bring the page of player.html under `root` to life; a run comes by `load`, as packed bytes.
 * @param {HTMLElement} root
 * @param {Host} host
 */
export function mount(root, host = {}) {
  /** @type {State} */
  const state = {
    run: null,
    step: 0,
    layer: 0,
    head: 0,
    speedName: "1",
    playing: false,
    inside: false,
    at: COUNT,
    phasing: false,
    lit: null,
    tour: null,
    wanted: null,
  };
  /** @type {Choose} */
  const chooseThis = (change) => choose(player, change);
  const stop = (/** @type {number} */ step) => {
    setPlaying(player, false);
    goTo(player, step);
  };
  const actions = {
    first: () => stop(0),
    back: () => stop(state.step - 1),
    forward: () => stop(state.step + 1),
    last: () => stop(Infinity),
    goTo: stop,
    play: () => setPlaying(player, !state.playing),
    setSpeed: (/** @type {string} */ speedName) => choose(player, { speedName }),
    phaseBack: () => jump(player, Math.ceil(state.at) - 1),
    phaseOn: () => playTo(player, Math.floor(state.at) + 1),
  };
  /** @type {Player} */
  const player = {
    root,
    host,
    state,
    bytes: null,
    clock: 0,
    address: makeAddressWriter(state),
    stage: makeStage(root, state, { goTo: stop, choose: chooseThis }),
    transport: makeTransport(root, actions),
    chooser: makeChooser(root, chooseThis),
    phases: makePhases(root, {
      choose: chooseThis,
      playTo: (at) => (state.phasing ? jump(player, state.at) : playTo(player, at)),
      jump: (at) => jump(player, at),
    }),
    tour: makeTour(root, {
      goToStop: (stop) => goToStop(player, stop),
      reveal: () => reveal(player),
    }),
    phaseClock: 0,
  };
  listenToKeys(root, actions);
  return {
    load: (/** @type {Packed} */ bytes) => load(player, bytes),
    addRest: (/** @type {Packed} */ bytes) => addRest(player, bytes),
    recolour: () => recolour(player),
    destroy: () => destroy(player),
  };
}

/**
 * Make `step` the current one, now; painting follows at the next frame, once for all that came before it.
 * @type {(player: Player, step: number) => void}
 */
function goTo(player, step) {
  const { state } = player;
  if (!state.run) return;
  const target = clamp(step, state.run.n_steps);
  if (target === state.step) return;
  state.step = target;
  settle(player);
}

/** @type {(player: Player, change: Partial<Position>) => void} */
function choose(player, change) {
  Object.assign(player.state, change);
  if (player.state.playing) startClock(player);
  settle(player);
}

/** @type {(index: number, count: number) => number} */
function clamp(index, count) {
  return Math.max(0, Math.min(index, count - 1));
}

/**
 * Bring controls, attributes and address in line with the state, and ask for a painting.
 * @type {(player: Player) => void}
 */
function settle(player) {
  const { root, state } = player;
  const { step, playing } = state;
  if (!state.run) return;
  const run = atLayer(state.run, state.layer);
  state.run = run;
  const [left, right] = [run.left.cache_bytes.at(step), run.right.cache_bytes.at(step)];
  Object.assign(root.dataset, { step, steps: run.n_steps, playing, leftBytes: left, rightBytes: right });
  player.transport.show({ ...state, run });
  player.chooser.show({ ...state, run });
  player.phases.show(state);
  player.tour.show({ ...state, run });
  player.address.schedule();
  askForRest(player);
  player.stage.requestPaint();
}

/**
 * Ask the host for a layer's vectors where the open step needs them, once.
 * @type {(player: Player) => void}
 */
function askForRest({ host, state }) {
  const { run, inside, layer, step } = state;
  if (!run || !inside || !host.want || layer === state.wanted) return;
  if (hasVectors(run.left, state) || !keepsStep(run, step)) return;
  state.wanted = layer;
  host.want({ run: run.run, layer });
}

/**
 * Take in what was asked for.
 * @type {(player: Player, bytes: Packed) => void}
 */
function addRest(player, bytes) {
  if (!player.state.run) return;
  player.state.run = withRest(player.state.run, bytes);
  settle(player);
}

/** @type {(player: Player, playing: boolean) => void} */
function setPlaying(player, playing) {
  const { state } = player;
  if (!state.run || playing === state.playing) return;
  state.playing = playing;
  if (playing && state.step === state.run.n_steps - 1) state.step = 0;
  if (playing) startClock(player);
  else cancelAnimationFrame(player.clock);
  settle(player);
}

/**
 * Play by the clock: the step follows from the time since start, so a slow frame costs no time.
 * @type {(player: Player) => void}
 */
function startClock(player) {
  const { state } = player;
  const [start, from] = [performance.now(), state.step];
  const rate = STEPS_PER_SECOND * Number(state.speedName);
  const tick = () => {
    goTo(player, from + Math.floor(((performance.now() - start) * rate) / 1000));
    if (state.step + 1 === state.run?.n_steps) setPlaying(player, false);
    else player.clock = requestAnimationFrame(tick);
  };
  cancelAnimationFrame(player.clock);
  player.clock = requestAnimationFrame(tick);
}

/**
 * Take packed bytes in, where they are new.
 * @type {(player: Player, bytes: Packed) => void}
 */
function load(player, bytes) {
  if (player.bytes === bytes) return;
  const run = readRun(bytes);
  if (run.run !== player.state.run?.run) loadRun(player, run);
  player.bytes = bytes;
}

/**
 * Take a run in: layer and head stay, and the step under the same prompt, as far as the new run has them.
 * @type {(player: Player, run: Run) => void}
 */
function loadRun(player, run) {
  const { state } = player;
  setPlaying(player, false);
  const anew = state.run && state.run.prompt !== run.prompt;
  const wanted = anew ? { ...state, step: 0 } : state.run ? state : readAddress(run.prompt);
  Object.assign(state, {
    run,
    speedName: wanted.speedName,
    step: clamp(wanted.step ?? 0, run.n_steps),
    layer: clamp(wanted.layer ?? 0, run.n_layers),
    head: clamp(wanted.head ?? 0, mostHeads(run)),
    ...opened(wanted),
    wanted: null,
  });
  if (wanted.tour != null) Object.assign(state, toured(state, clamp(wanted.tour, STOPS.length)));
  player.stage.load(run);
  player.chooser.load(run);
  player.transport.load(run);
  player.root.dataset.models = run.same_model ? "same" : "different";
  showNotes(find(player.root, ".notes"), run.notes);
}

/**
 * A link to a phase opens the step there.
 * @type {(wanted: { phase?: number, tour?: number | null }) => Partial<Position>}
 */
function opened({ phase }) {
  return phase === undefined ? {} : { inside: true, at: clamp(phase, COUNT) + 1 };
}

/**
 * At a stop of the tour.
 * @type {(state: State, stop: number) => Partial<Position>}
 */
function toured(state, stop) {
  return state.run ? { ...positionOf({ ...state, run: state.run }, stop), tour: stop } : {};
}

/**
 * Go to a stop of the tour, or out of it.
 * @type {(player: Player, stop: number | null) => void}
 */
function goToStop(player, stop) {
  cancelAnimationFrame(player.phaseClock);
  setPlaying(player, false);
  choose(player, stop === null ? { tour: null, phasing: false } : toured(player.state, stop));
}

/**
 * Play the phase that the answer is about.
 * @type {(player: Player) => void}
 */
function reveal(player) {
  const { tour } = player.state;
  const { phase } = STOPS[tour ?? 0];
  if (phase) playTo(player, PHASES.indexOf(phase) + 1);
}

/**
 * Go to a moment of the step, at once.
 * @type {(player: Player, at: number) => void}
 */
function jump(player, at) {
  cancelAnimationFrame(player.phaseClock);
  Object.assign(player.state, { inside: true, phasing: false, at: Math.max(0, Math.min(at, COUNT)) });
  settle(player);
}

/**
 * Move on to a moment of the step by the clock; from the start where it is at its end. Without motion where that
 * is wanted: phase by phase.
 * @type {(player: Player, end: number) => void}
 */
function playTo(player, end) {
  const { state } = player;
  const target = Math.min(end, COUNT);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  cancelAnimationFrame(player.phaseClock);
  Object.assign(state, { inside: true, phasing: true, at: state.at >= target ? 0 : state.at });
  const [start, from] = [performance.now(), state.at];
  const rate = PHASES_PER_SECOND * Number(state.speedName);
  const tick = () => {
    const at = Math.min(target, from + ((performance.now() - start) * rate) / 1000);
    const before = phaseAt(state.at);
    state.at = still ? Math.min(target, Math.floor(at) + 1) : at;
    if (at === target) return jump(player, target);
    player.phases.show(state);
    if (phaseAt(state.at) === before) player.stage.redraw(state.at);
    else player.stage.requestPaint();
    player.phaseClock = requestAnimationFrame(tick);
  };
  settle(player);
  player.phaseClock = requestAnimationFrame(tick);
}

/** @type {(list: HTMLElement, notes: string[]) => void} */
function showNotes(list, notes) {
  list.hidden = notes.length === 0;
  list.replaceChildren(...notes.map((note) => element("li", "", note)));
}

/**
 * Read the page's colours again, and say in its address where the player stands: a host may change both.
 * @type {(player: Player) => void}
 */
function recolour(player) {
  player.stage.recolour();
  settle(player);
}

/** @type {(player: Player) => void} */
function destroy(player) {
  cancelAnimationFrame(player.phaseClock);
  cancelAnimationFrame(player.clock);
  player.stage.destroy();
  player.address.stop();
}
