// The player: one state (run, step, layer, head, speed), changed at once and painted at the next frame.
// It knows controls, stage and address; it does not know who shows it, nor what a step looks like.

import { makeAddressWriter, readAddress } from "./address.js";
import { makeChooser, mostHeads } from "./chooser.js";
import { element, find } from "./dom.js";
import { listenToKeys } from "./keyboard.js";
import { readRun } from "./payload.js";
import { makeStage } from "./stage.js";
import { makeTransport } from "./transport.js";

const STEPS_PER_SECOND = 2;

/** Bring the page of player.html under `root` to life; a run comes by `load`, as packed bytes. */
export function mount(root) {
  const state = { run: null, step: 0, layer: 0, head: 0, speedName: "1", playing: false };
  const player = { root, state, bytes: null, clock: 0, address: makeAddressWriter(state) };
  const actions = transportActions(player);
  player.stage = makeStage(root, state, {
    goTo: (step) => goTo(player, step),
    choose: (change) => choose(player, change),
  });
  player.transport = makeTransport(root, actions);
  player.chooser = makeChooser(root, (change) => choose(player, change));
  listenToKeys(root, actions);
  return {
    load: (bytes) => load(player, bytes),
    recolour: () => recolour(player),
    destroy: () => destroy(player),
  };
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
    step,
    steps: run.n_steps,
    playing: state.playing,
    leftBytes: run.left.cache_bytes.at(step),
    rightBytes: run.right.cache_bytes.at(step),
  });
  player.transport.show(state);
  player.chooser.show(state);
  player.address.schedule();
  player.stage.requestPaint();
}

function setPlaying(player, playing) {
  const { state } = player;
  if (playing === state.playing) return;
  state.playing = playing;
  if (playing && state.step === state.run.n_steps - 1) state.step = 0;
  if (playing) startClock(player);
  else cancelAnimationFrame(player.clock);
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
    else player.clock = requestAnimationFrame(tick);
  };
  cancelAnimationFrame(player.clock);
  player.clock = requestAnimationFrame(tick);
}

/** Take packed bytes in, where they are new. */
function load(player, bytes) {
  if (player.bytes === bytes) return;
  const run = readRun(bytes);
  if (run.run !== player.state.run?.run) loadRun(player, run);
  player.bytes = bytes;
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
    head: clamp(wanted.head ?? 0, mostHeads(run)),
  });
  player.stage.load(run);
  player.chooser.load(run);
  player.transport.load(run);
  player.root.dataset.models = run.same_model ? "same" : "different";
  showNotes(find(player.root, ".notes"), run.notes);
}

function showNotes(list, notes) {
  list.hidden = notes.length === 0;
  list.replaceChildren(...notes.map((note) => element("li", "", note)));
}

/** Read the page's colours again, and say in its address where the player stands: a host may have changed both. */
function recolour(player) {
  player.stage.recolour();
  if (player.state.run) settle(player);
}

function destroy(player) {
  cancelAnimationFrame(player.clock);
  player.stage.destroy();
  player.address.stop();
}
