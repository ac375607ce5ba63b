// The stage: every part that shows a step, painted together at the next frame after something changed.
// It knows parts by their load and paint; it does not know what any of them draws, nor who steps.

import { makeBadge } from "./badge.js";
import { makeCacheView } from "./cache.js";
import { makeCandidates } from "./candidates.js";
import { makeCursors } from "./cursor.js";
import { find, frameOf, setText } from "./dom.js";
import { makeChart } from "./growth.js";
import { makeHeader } from "./header.js";
import { makeHeadsView } from "./heads.js";
import { makeInsideView } from "./inside.js";
import { makeLedger } from "./ledger.js";
import { narrate } from "./narration.js";
import { SIDES } from "./payload.js";
import { applyTheme, readTheme } from "./theme.js";
import { makeTokenStrip } from "./tokens.js";
import { makeTooltip } from "./tooltip.js";
import { makeTriangleView } from "./triangle.js";

/** @import { Surface } from "./canvas.js" */
/** @import { Cursors } from "./cursor.js" */
/** @import { Run } from "./payload.js" */
/** @import { Choose, Loaded, State } from "./player.js" */
/** @import { Theme } from "./theme.js" */
/** @import { Tooltip } from "./tooltip.js" */
/** @typedef {Loaded & { theme: Theme }} View */
/** @typedef {{ strip: Part, cursors: Cursors, goTo: (step: number) => void, choose: Choose }} Shared */
/**
 * @typedef {object} Part
 * @property {(view: View) => void} paint
 * @property {(run: Run) => void} [load]
 * @property {Surface} [surface]
 * @property {Element} [place] what may be out of sight, where it is not the surface
 * @property {boolean} [away] whether it is
 */
/**
 * @typedef {object} Stage
 * @property {HTMLElement} root
 * @property {State} state
 * @property {Part & { keepInView: () => void }} strip
 * @property {Part[]} views
 * @property {Tooltip} tooltip
 * @property {Cursors} cursors
 * @property {HTMLElement} seen
 * @property {HTMLElement} spoken
 * @property {Theme | null} theme
 * @property {View | null} view what was painted last
 * @property {number} frame
 * @property {number} rest
 * @property {number} asked
 * @property {number} spokenAt
 */

const SPOKEN_PAUSE_MS = 1000;
const REST_MS = 120;

/**
 * The parts under `root`, showing `state`; `goTo` and `choose` are asked for another step or head.
 * @param {HTMLElement} root
 * @param {State} state
 * @param {{ goTo: (step: number) => void, choose: Choose }} ask
 */
export function makeStage(root, state, { goTo, choose }) {
  const strip = makeTokenStrip(find(root, ".tokens"), goTo);
  const tooltip = makeTooltip(find(root, ".tooltip"));
  const cursors = makeCursors({ tooltip, spoken: find(root, ".told"), help: find(root, ".keys") });
  const inside = makeInsideView(root, cursors, choose);
  /** @type {Stage} */
  const stage = {
    root,
    state,
    strip,
    views: [inside, ...makeViews(root, { strip, cursors, goTo, choose })],
    tooltip,
    cursors,
    seen: find(root, ".narration .seen"),
    spoken: find(root, ".narration .spoken"),
    theme: null,
    view: null,
    frame: 0,
    rest: 0,
    asked: 0,
    spokenAt: 0,
  };
  const stopWatching = watchPage(stage);
  return {
    load: (/** @type {Run} */ run) => {
      for (const view of stage.views) view.load?.(run);
    },
    requestPaint: () => requestPaint(stage),
    redraw: inside.redraw,
    recolour: () => recolour(stage),
    destroy: () => {
      cancelAnimationFrame(stage.frame);
      clearTimeout(stage.rest);
      tooltip.destroy();
      cursors.destroy();
      stopWatching();
    },
  };
}

/**
 * Canvases before words: a canvas that sets its font waits for the styles that words have changed.
 * @type {(root: HTMLElement, shared: Shared) => Part[]}
 */
function makeViews(root, { strip, cursors, goTo, choose }) {
  const template = find(root, "template", HTMLTemplateElement);
  const drawn = [makeChart(find(root, ".growth"), cursors, goTo)];
  const written = [makeBadge(find(root, ".badge")), makeCandidates(find(root, ".next")), strip];
  for (const name of SIDES) {
    const panel = find(root, `.panel.${name}`);
    panel.append(template.content.cloneNode(true));
    drawn.push(
      makeCacheView(panel, name, cursors, goTo),
      makeHeadsView(panel, name, cursors, (head) => choose({ head })),
      makeTriangleView(panel, name, cursors, goTo),
    );
    written.push(makeHeader(panel, name), makeLedger(panel, name, choose));
  }
  return [...drawn, ...written];
}

/** @type {(stage: Stage) => void} */
function requestPaint(stage) {
  if (stage.frame) return;
  stage.asked = performance.now();
  stage.frame = requestAnimationFrame(() => paint(stage));
}

/** @type {(stage: Stage) => void} */
function paint(stage) {
  const { root, state, views } = stage;
  const { run } = state;
  stage.frame = 0;
  if (!run) return;
  stage.theme ??= freshTheme(root, run);
  stage.view = { ...state, run, theme: stage.theme };
  for (const one of views) if (!one.away) paintView(one, stage.view);
  clearTimeout(stage.rest);
  stage.rest = setTimeout(() => paintAway(stage), REST_MS);
  narrateStep(stage, run);
  stage.cursors.refresh();
  stage.tooltip.refresh();
  stage.strip.keepInView();
  const detail = { step: state.step, ms: performance.now() - stage.asked };
  root.dispatchEvent(new CustomEvent("mla-paint", { bubbles: true, composed: true, detail }));
}

/** @type {(one: Part, view: View) => void} */
function paintView(one, view) {
  if (!one.surface || one.surface.width > 0) one.paint(view);
}

/**
 * What is out of sight waits until stepping rests, so that what is in sight keeps up with it.
 * @type {(stage: Stage) => void}
 */
function paintAway({ views, view }) {
  if (view) for (const one of views) if (one.away) paintView(one, view);
}

/** @type {(root: HTMLElement, run: Run) => Theme} */
function freshTheme(root, run) {
  const theme = readTheme(root, run);
  applyTheme(root, theme);
  return theme;
}

/**
 * Read the page's colours again at the next painting.
 * @type {(stage: Stage) => void}
 */
function recolour(stage) {
  stage.theme = null;
  if (stage.state.run) requestPaint(stage);
}

/**
 * Onto paper or back from it: everything at once, in that ground's colours, since printing waits for no frame.
 * @type {(stage: Stage) => void}
 */
function paintWhole(stage) {
  stage.theme = null;
  paint(stage);
  paintAway(stage);
}

/**
 * The line changes with every step; its spoken copy at most once a second while playing.
 * @type {(stage: Stage, run: Run) => void}
 */
function narrateStep(stage, run) {
  const { state, seen, spoken } = stage;
  const words = narrate(run, state.step);
  setText(seen, words);
  const now = performance.now();
  if (state.playing && now - stage.spokenAt < SPOKEN_PAUSE_MS) return;
  stage.spokenAt = now;
  setText(spoken, words);
}

/**
 * Follow the page's sizes and colours; return what ends it.
 * @type {(stage: Stage) => () => void}
 */
function watchPage(stage) {
  const surfaces = stage.views.flatMap(({ surface }) => surface ?? []);
  const sizes = new ResizeObserver(() => measure(stage, surfaces));
  for (const { canvas } of surfaces) sizes.observe(frameOf(canvas));
  const sight = watchSight(stage);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => recolour(stage);
  dark.addEventListener("change", changed);
  const paper = matchMedia("print");
  const turned = () => paintWhole(stage);
  paper.addEventListener("change", turned);
  return () => {
    sizes.disconnect();
    sight.disconnect();
    dark.removeEventListener("change", changed);
    paper.removeEventListener("change", turned);
  };
}

/**
 * Mark the views that are out of sight: those with a plot or a place of their own.
 * @type {(stage: Stage) => IntersectionObserver}
 */
function watchSight(stage) {
  const placed = new Map();
  for (const one of stage.views) {
    const place = one.place ?? (one.surface && frameOf(one.surface.canvas));
    if (place) placed.set(place, one);
  }
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) placed.get(target).away = !isIntersecting;
    if (stage.state.run) requestPaint(stage);
  });
  for (const place of placed.keys()) sight.observe(place);
  return sight;
}

/** @type {(stage: Stage, surfaces: Surface[]) => void} */
function measure(stage, surfaces) {
  const ratio = window.devicePixelRatio || 1;
  const widths = surfaces.map(({ canvas }) => frameOf(canvas).clientWidth);
  if (surfaces.every((surface, index) => surface.width === widths[index] && surface.ratio === ratio)) return;
  surfaces.forEach((surface, index) => {
    Object.assign(surface, { width: widths[index], ratio });
  });
  requestPaint(stage);
}
