// The stage: every part that shows a step, painted together at the next frame after something changed.
// It knows parts by their load and paint; it does not know what any of them draws, nor who steps.

import { makeBadge } from "./badge.js";
import { makeCacheView } from "./cache.js";
import { makeCandidates } from "./candidates.js";
import { find, setText } from "./dom.js";
import { makeChart } from "./growth.js";
import { makeHeader } from "./header.js";
import { makeHeadsView } from "./heads.js";
import { makeLedger } from "./ledger.js";
import { narrate } from "./narration.js";
import { applyTheme, readTheme } from "./theme.js";
import { makeTokenStrip } from "./tokens.js";
import { makeTriangleView } from "./triangle.js";

const SPOKEN_PAUSE_MS = 1000;
const REST_MS = 120;

/** The parts under `root`, showing `state`; `goTo` and `choose` are asked for another step or head. */
export function makeStage(root, state, { goTo, choose }) {
  const strip = makeTokenStrip(find(root, ".tokens"), goTo);
  const stage = {
    root,
    state,
    strip,
    views: makeViews(root, strip, choose),
    seen: find(root, ".narration .seen"),
    spoken: find(root, ".narration .spoken"),
    theme: null,
    frame: 0,
    rest: 0,
    asked: 0,
    spokenAt: 0,
  };
  const stopWatching = watchPage(stage);
  return {
    load: (run) => {
      for (const view of stage.views) view.load?.(run);
    },
    requestPaint: () => requestPaint(stage),
    recolour: () => recolour(stage),
    destroy: () => {
      cancelAnimationFrame(stage.frame);
      clearTimeout(stage.rest);
      stopWatching();
    },
  };
}

/** Canvases before words: a canvas that sets its font waits for the styles that words have changed. */
function makeViews(root, strip, choose) {
  const tooltip = find(root, ".tooltip");
  const template = find(root, "template", HTMLTemplateElement);
  const drawn = [makeChart(find(root, ".growth"))];
  const written = [makeBadge(find(root, ".badge")), makeCandidates(find(root, ".next")), strip];
  for (const name of ["left", "right"]) {
    const panel = find(root, `.panel.${name}`);
    panel.append(template.content.cloneNode(true));
    drawn.push(
      makeCacheView(panel, name, tooltip),
      makeHeadsView(panel, name, tooltip, (head) => choose({ head })),
      makeTriangleView(panel, name, tooltip),
    );
    written.push(makeHeader(panel, name), makeLedger(panel, name));
  }
  return [...drawn, ...written];
}

function requestPaint(stage) {
  if (stage.frame) return;
  stage.asked = performance.now();
  stage.frame = requestAnimationFrame(() => paint(stage));
}

function paint(stage) {
  const { root, state, views } = stage;
  stage.frame = 0;
  if (!state.run) return;
  stage.theme ??= freshTheme(root, state.run);
  const view = { ...state, theme: stage.theme };
  for (const one of views) if (!one.away) paintView(one, view);
  clearTimeout(stage.rest);
  stage.rest = setTimeout(() => paintAway(views, view), REST_MS);
  narrateStep(stage);
  stage.strip.keepInView();
  const detail = { step: state.step, ms: performance.now() - stage.asked };
  root.dispatchEvent(new CustomEvent("mla-paint", { bubbles: true, composed: true, detail }));
}

function paintView(one, view) {
  if (!one.surface || one.surface.width > 0) one.paint(view);
}

/** What is out of sight waits until stepping rests, so that what is in sight keeps up with it. */
function paintAway(views, view) {
  for (const one of views) if (one.away) paintView(one, view);
}

function freshTheme(root, run) {
  const theme = readTheme(root, run);
  applyTheme(root, theme);
  return theme;
}

/** Read the page's colours again at the next painting. */
function recolour(stage) {
  stage.theme = null;
  if (stage.state.run) requestPaint(stage);
}

/** The line changes with every step; its spoken copy at most once a second while playing. */
function narrateStep(stage) {
  const { state, seen, spoken } = stage;
  const words = narrate(state.run, state.step);
  setText(seen, words);
  const now = performance.now();
  if (state.playing && now - stage.spokenAt < SPOKEN_PAUSE_MS) return;
  stage.spokenAt = now;
  setText(spoken, words);
}

/** Follow the page's sizes and colours; return what ends it. */
function watchPage(stage) {
  const surfaces = stage.views.flatMap(({ surface }) => surface ?? []);
  const sizes = new ResizeObserver(() => measure(stage, surfaces));
  for (const { canvas } of surfaces) sizes.observe(canvas.parentElement);
  const sight = watchSight(stage);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => recolour(stage);
  dark.addEventListener("change", changed);
  return () => {
    sizes.disconnect();
    sight.disconnect();
    dark.removeEventListener("change", changed);
  };
}

/** Mark the views that are out of sight: those with a canvas or a place of their own. */
function watchSight(stage) {
  const placed = new Map();
  for (const one of stage.views) {
    const place = one.place ?? one.surface?.canvas;
    if (place) placed.set(place, one);
  }
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) placed.get(target).away = !isIntersecting;
    if (stage.state.run) requestPaint(stage);
  });
  for (const place of placed.keys()) sight.observe(place);
  return sight;
}

function measure(stage, surfaces) {
  const ratio = window.devicePixelRatio || 1;
  const widths = surfaces.map(({ canvas }) => canvas.parentElement.clientWidth);
  if (surfaces.every((surface, index) => surface.width === widths[index] && surface.ratio === ratio)) return;
  surfaces.forEach((surface, index) => {
    Object.assign(surface, { width: widths[index], ratio });
  });
  requestPaint(stage);
}
