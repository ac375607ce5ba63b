// Inside a step: both lanes on one stage, from x to the layer's output, at any moment between two phases.
// It knows a step's scene and the controls of its phases; who moves them, and what a token is, others know.

import { beginSurface, makeSurface, write } from "./canvas.js";
import { find, findAll, setAttribute, setText } from "./dom.js";
import { makeFilm } from "./film.js";
import { drawFlow, joinSign } from "./flow.js";
import { flowSheet, gridOf } from "./flowcells.js";
import { keepsStep, laneAt } from "./lane.js";
import { LOOKS, showLooks } from "./looks.js";
import { SIDES } from "./payload.js";
import { COUNT, PHASES, phaseAt, phaseCounts, phaseWords } from "./phases.js";
import { sceneOf } from "./scene.js";
import { emptySheet, makeTable } from "./table.js";
import { makeSave } from "./take.js";
import { capitalised, differenceText, isApart } from "./words.js";

/** @import { Surface } from "./canvas.js" */
/** @import { Cursors } from "./cursor.js" */
/** @import { Images } from "./flow.js" */
/** @import { Lane } from "./lane.js" */
/** @import { Run, SideName } from "./payload.js" */
/** @import { Choose, Loaded } from "./player.js" */
/** @import { Item, Join, Scene } from "./scene.js" */
/** @import { Part, View } from "./stage.js" */
/** @import { Figure } from "./take.js" */
/** @typedef {{ scene: Scene | null, images: Images, key: string }} Laid a step laid out, and what it was laid out for */
/** @typedef {Laid & { surface: Surface, view: View | null }} Inside */

const EMPTY_HEIGHT = 60;
const LEGEND =
  `Solid frame: ${LOOKS.cached.words}. Dashed frame: ${LOOKS.passing.words}. Grey: ${LOOKS.fixed.words}.` +
  " Strong colour: large, above zero; grey: below it.";

/**
 * @param {HTMLElement} root
 * @param {Cursors} cursors
 * @param {Choose} choose
 * @returns {Part & { redraw: (at: number) => void }}
 */
export function makeInsideView(root, cursors, choose) {
  const place = find(root, ".inside");
  const surface = makeSurface(find(place, "canvas", HTMLCanvasElement));
  /** @type {Inside} */
  const inside = { surface, view: null, scene: null, images: new Map(), key: "" };
  const joined = find(place, ".joined");
  showLooks(root);
  const parts = { title: find(place, "h3"), says: SIDES.map((side) => find(place, `.says .${side}`)) };
  cursors.attach(surface.canvas, "flow of a step", () => gridOf(inside.view, inside.scene));
  const table = makeTable(place, (view) =>
    inside.scene ? flowSheet(view, inside.scene) : emptySheet(missingWords(view)),
  );
  /** @type {Laid} */
  const laid = { scene: null, images: new Map(), key: "" };
  /** @type {Figure} */
  const figure = {
    name: "inside",
    words: "the open step",
    sides: SIDES,
    within: ["layer", "head"],
    surface,
    view: () => inside.view,
    draw: (onto, view) => drawInside(laid, onto, view),
    title: (_, view) => insideTitle(view) + (view.at < COUNT ? `, ${PHASES[phaseAt(view.at)]}` : ""),
    legend: LEGEND,
    sheet: (view) =>
      inside.scene ? flowSheet(view, inside.scene, Infinity, Infinity) : emptySheet(missingWords(view)),
  };
  makeSave(place, figure);
  makeFilm(place, figure, (view) => lanesAt(view) !== null);
  const point = (/** @type {number | null} */ lit) => lit !== inside.view?.lit && choose({ lit });
  surface.canvas.addEventListener("pointermove", ({ offsetX: x, offsetY: y }) => {
    point(inside.scene?.items.find((item) => contains(item, x, y))?.phase ?? null);
  });
  surface.canvas.addEventListener("pointerleave", () => point(null));
  return {
    surface,
    paint: (view) => {
      if (!view.inside) return;
      inside.view = view;
      paintInside(inside, view);
      setText(joined, joinedWords(inside.scene, view));
      setText(parts.title, insideTitle(view));
      table.paint(view);
      SIDES.forEach((side, index) => {
        sayPhase(parts.says[index], view, side);
      });
    },
    redraw: (at) => {
      if (!inside.view?.inside) return;
      inside.view = { ...inside.view, at };
      paintInside(inside, inside.view);
      SIDES.forEach((side, index) => {
        sayPhase(parts.says[index], /** @type {View} */ (inside.view), side);
      });
    },
  };
}

/**
 * Why nothing is drawn.
 * @type {(view: View) => string}
 */
function missingWords({ run, step, layer, wanted }) {
  if (!keepsStep(run, step)) return "This step was not kept: the note above says which were.";
  if (wanted === layer) return `Asked of the server: the vectors of layer ${layer + 1}. They come here.`;
  return "The vectors of this step and layer did not travel: the note above says which did.";
}

/** @type {(view: View) => string} */
function insideTitle({ run, step, layer, head }) {
  return `Inside step ${step + 1} of ${run.n_steps}, layer ${layer + 1}, head ${head + 1}`;
}

/** @type {(item: Item, x: number, y: number) => boolean} */
function contains(item, x, y) {
  return x >= item.x && x < item.x + item.width && y >= item.y && y < item.y + item.height;
}

/** @type {(node: HTMLElement, view: View, side: SideName) => void} */
function sayPhase(node, { run, step, at }, side) {
  const phase = PHASES[phaseAt(at)];
  const counts = phaseCounts(run[side], phase, step);
  const [name, words, amount] = node.children;
  setText(name, capitalised(run[side].short));
  setText(words, phaseWords(run[side], phase, step + 1));
  setText(amount, `This layer: ${counts}.`);
}

/** @type {(inside: Inside, view: View) => void} */
function paintInside(inside, view) {
  const { surface } = inside;
  const { step, layer, head } = view;
  drawInside(inside, surface, view);
  const words = `Flow of step ${step + 1}, layer ${layer + 1}, head ${head + 1}`;
  setAttribute(surface.canvas, "aria-label", words);
}

/**
 * Draw a moment, on a scene that is laid out once a step.
 * @type {(laid: Laid, surface: Surface, view: View) => void}
 */
function drawInside(laid, surface, view) {
  const { run, step, layer, head, theme, at, lit } = view;
  const { first, steps } = run.left.vectors;
  const key = [theme.key, first, steps.data.length, step, layer, head, surface.width].join("|");
  if (key !== laid.key) Object.assign(laid, { key, scene: sceneAt(view, surface.width), images: new Map() });
  const { scene, images } = laid;
  const context = beginSurface(surface, scene?.height ?? EMPTY_HEIGHT);
  if (scene)
    drawFlow(
      { context, scene, theme, images, at, lit, rounded: run.right.kept !== null },
      joinsAt(scene, run, { step, layer, head }),
    );
  else write(context, theme, missingWords(view), 2, 30);
}

/**
 * The joins in a line: for who cannot see them, and where lanes stand one under the other.
 * @type {(scene: Scene | null, view: View) => string}
 */
function joinedWords(scene, { run, step, layer, head }) {
  if (run.cut) return cutWords(run.cut.whole);
  if (!run.gaps) return "Two models with weights of their own: nothing here is equal.";
  const joins = scene ? joinsAt(scene, run, { step, layer, head }) : [];
  const { kept } = run.right;
  const told = joins.map(
    ({ join, gap, apart }) => `${join.label} ${joinSign(apart, kept !== null)} ${differenceText(gap)}`,
  );
  const why = kept ? ` They differ because the right cache is rounded to ${kept.name}.` : "";
  return `Largest difference between the sides, as measured: ${told.join(", ")}.${why}`;
}

/** @type {(whole: boolean) => string} */
function cutWords(whole) {
  return whole
    ? "One model, twice: nothing is cut off, and the vectors of both sides differ by rounding alone."
    : "One model, but one cache is cut: the vectors of both sides differ by what was left out.";
}

/** @type {(view: View, width: number) => Scene | null} */
function sceneAt(view, width) {
  const lanes = lanesAt(view);
  return lanes && sceneOf(view.run, lanes, view.head, width);
}

/** @type {(view: View) => Record<SideName, Lane> | null} */
function lanesAt({ run, step, layer, head }) {
  const [left, right] = SIDES.map((side) => laneAt(run, side, { step, layer, head }));
  return left && right ? { left, right } : null;
}

/**
 * Each join with its measured difference.
 * @type {(scene: Scene, run: Run, place: { step: number, layer: number, head: number }) =>
 *   { join: Join, gap: number, apart: boolean }[]}
 */
function joinsAt({ joins, scales }, run, { step, layer, head }) {
  const { gaps } = run;
  const row = run.left.attention.before(step);
  if (!gaps || run.left.attention.steps[row] !== step) return [];
  return joins.flatMap((join) => {
    const measured = gaps[/** @type {keyof typeof gaps} */ (join.name)];
    if (!measured) return [];
    const [gap] =
      measured.shape.length === 3
        ? measured.part(row, layer).subarray(head)
        : measured.part(row).subarray(layer);
    const largest = scales.get(SCALES[join.name] ?? join.name) ?? 1;
    return [{ join, gap, apart: isApart(gap, largest, run.dtype) }];
  });
}

/** @type {Record<string, string>} */
const SCALES = { latents: "latent", o_head: "o" };

/**
 * The controls of the phases.
 * @param {HTMLElement} root
 * @param {{ choose: Choose, playTo: (at: number) => void, jump: (at: number) => void }} ask
 */
export function makePhases(root, { choose, playTo, jump }) {
  const place = find(root, ".inside");
  const toggle = find(root, "[data-action=inside]");
  const range = find(place, ".phases input", HTMLInputElement);
  const play = find(place, "[data-action=phases]");
  const buttons = findAll(place, "[data-phase]");
  let open = false;
  let now = COUNT;
  toggle.addEventListener("click", () => choose({ inside: !open }));
  range.addEventListener("input", () => jump(Number(range.value)));
  play.addEventListener("click", () => playTo(COUNT));
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => {
      jump(index);
      playTo(index + 1);
    });
  });
  return {
    show: (/** @type {Pick<Loaded, "inside" | "at" | "phasing">} */ { inside, at, phasing }) => {
      [open, now] = [inside, at];
      place.hidden = !inside;
      setAttribute(toggle, "aria-expanded", inside);
      setText(toggle, inside ? "Close this step" : "Open this step");
      range.value = String(now);
      range.style.setProperty("--done", `${(100 * now) / COUNT}%`);
      setAttribute(
        range,
        "aria-valuetext",
        `${capitalised(PHASES[phaseAt(now)])}, ${Math.round(now * 100) / 100} of ${COUNT}`,
      );
      setAttribute(play, "aria-label", phasing ? "Pause the phases" : "Play the phases");
      setAttribute(place, "data-phasing", phasing);
      buttons.forEach((button, index) => {
        setAttribute(button, "aria-pressed", index === phaseAt(now));
      });
    },
  };
}
