// The phases of a range of steps as a film: drawn beside the page as the stage draws them, and recorded by the browser.
// It knows moments and the recorder; it does not know what a moment looks like.

import { element, find, setAttribute, setText } from "./dom.js";
import { COUNT, PHASES_PER_SECOND } from "./phases.js";
import { buttonOf, compose, download, fileName, headingOf, makePaper, surfaceOf } from "./take.js";
import { plural } from "./words.js";

/** @import { View } from "./stage.js" */
/** @import { Figure } from "./take.js" */
/** @typedef {{ first: number, last: number }} Range of steps, counted from 0 */
/** @typedef {{ range: Range, stopped: () => boolean, progress: (share: number, words: string) => void }} Take */

const TYPES = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const FRAMES_PER_SECOND = 30;
const BITS_PER_SECOND = 8e6;
/** Of a frame, about: what a recorder without hardware of its own keeps up with. */
const PIXELS = 2e6;
/** For how long a step that is done stays in sight. */
const HOLD_SECONDS = 1;
/** A pause of the page, as in a tab out of sight, is none of the film. */
const LONGEST_MS = 250;
const PIECE_MS = 250;
const PATIENCE_SECONDS = 5;
/** Bytes of a film; a head without frames has fewer. */
const SMALLEST = 1024;
const INFO = [0x15, 0x49, 0xa9, 0x66];
const DURATION_BYTES = 11;
const UNABLE = "This browser cannot record a film: it has no MediaRecorder for WebM.";

/**
 * A button beside the picture's menu, which opens to the steps of the film, its progress, and what ends it.
 * `travels` tells whether a step can be drawn.
 * @type {(place: HTMLElement, figure: Figure, travels: (view: View) => boolean) => void}
 */
export function makeFilm(place, figure, travels) {
  const toggle = buttonOf("film", "Film of the phases");
  const form = element("div", "film");
  const [first, last] = [fieldOf("First step of the film"), fieldOf("Last step of the film")];
  const start = element("button", "wide", "Record WebM");
  start.type = "button";
  const [left, said] = [element("span", "remarks"), element("span", "remarks")];
  const bar = element("progress", "");
  setAttribute(bar, "aria-label", "Progress of the film");
  setAttribute(said, "role", "status");
  setAttribute(form, "role", "group");
  setAttribute(form, "aria-label", "Film of the phases");
  form.append("steps", first, "to", last, start, bar, left, said);
  form.hidden = true;
  bar.hidden = true;
  let recording = false;
  let stopped = false;
  toggle.addEventListener("click", () => {
    form.hidden = !form.hidden;
    setAttribute(toggle, "aria-expanded", !form.hidden);
    if (recording) return;
    const step = String((figure.view()?.step ?? 0) + 1);
    [first.value, last.value] = [step, step];
    setText(said, recorderType() ? "" : UNABLE);
  });
  start.addEventListener("click", async () => {
    stopped = true;
    if (recording) return;
    const view = figure.view();
    const asked = view && checked(view, first.value, last.value, travels);
    if (!asked || typeof asked === "string") return setText(said, asked ?? "Nothing is drawn yet.");
    [recording, stopped] = [true, false];
    setText(start, "Stop and save");
    setText(said, "Recording.");
    bar.hidden = false;
    const progress = (/** @type {number} */ share, /** @type {string} */ words) => {
      bar.value = share;
      setText(left, words);
    };
    setText(
      said,
      await saved(figure, view, { range: asked, stopped: () => stopped || !place.isConnected, progress }),
    );
    recording = false;
    setText(left, "");
    setText(start, "Record WebM");
    bar.hidden = true;
  });
  setAttribute(toggle, "aria-expanded", false);
  find(place, ".tools").append(toggle);
  find(place, ".captions").after(form);
}

/** @type {(label: string) => HTMLInputElement} */
function fieldOf(label) {
  const field = element("input", "");
  field.type = "number";
  setAttribute(field, "aria-label", label);
  setAttribute(field, "min", 1);
  return field;
}

/**
 * The first kind of film that this browser records.
 * @type {() => string | undefined}
 */
function recorderType() {
  const able = typeof MediaRecorder !== "undefined" && "captureStream" in HTMLCanvasElement.prototype;
  return able ? TYPES.find((type) => MediaRecorder.isTypeSupported(type)) : undefined;
}

/**
 * The steps asked for, or why they cannot be had; they are counted from 1, as everywhere on the page.
 * @type {(view: View, first: string, last: string, travels: (view: View) => boolean) => Range | string}
 */
export function checked(view, first, last, travels) {
  if (!recorderType()) return UNABLE;
  const [from, to] = [Number(first), Number(last)];
  const { n_steps: steps } = view.run;
  if (![from, to].every(Number.isInteger) || from < 1 || to > steps || from > to)
    return `Expected whole steps from 1 to ${steps}, the first not after the last; got ${first || "none"} to ${last || "none"}.`;
  for (let step = from - 1; step < to; step += 1) {
    if (!travels({ ...view, step }))
      return `The vectors of step ${step + 1} did not travel: choose steps behind it.`;
  }
  return { first: from - 1, last: to - 1 };
}

/**
 * Record a film and hand it to the browser; what is said of it.
 * @type {(figure: Figure, view: View, take: Take) => Promise<string>}
 */
async function saved(figure, view, take) {
  try {
    const { blob, last } = await record(figure, view, take);
    const { first } = take.range;
    const name = fileName(figure, view, "webm").replace(
      /step-\d+/,
      first === last ? `step-${first}` : `steps-${first}-${last}`,
    );
    download(name, blob);
    return `Saved ${name}.`;
  } catch (error) {
    return `Not saved: ${error instanceof Error ? error.message : error}.`;
  }
}

/**
 * Seconds that one step takes.
 * @type {(view: Pick<View, "speedName">) => number}
 */
export function stepSeconds({ speedName }) {
  return COUNT / (PHASES_PER_SECOND * Number(speedName)) + HOLD_SECONDS;
}

/**
 * Where the film is after some seconds; nothing behind its end.
 * @type {(range: Range, each: number, seconds: number) => { step: number, at: number } | null}
 */
export function momentAt({ first, last }, each, seconds) {
  const step = first + Math.floor(seconds / each);
  const share = (seconds % each) / (each - HOLD_SECONDS);
  return step > last ? null : { step, at: Math.min(COUNT, COUNT * share) };
}

/**
 * Play the steps on a canvas of its own, at the pace of the page, while the browser records it. A recorder that is
 * slow to begin, or behind at the end, is waited for: what it has not taken by then it loses.
 * @type {(figure: Figure, view: View, take: Take) => Promise<{ blob: Blob, last: number }>}
 */
async function record(figure, view, { range, stopped, progress }) {
  const { width, height } = figure.surface;
  const paper = makePaper(figure, surfaceOf, Math.min(2, Math.sqrt(PIXELS / width / height)));
  const steps = Array.from({ length: range.last - range.first + 1 }, (_, index) => range.first + index);
  const rows = Math.max(...steps.map((step) => headingOf(figure, { ...view, step }, paper.drawn).length));
  let moment = { step: range.first, at: 0 };
  const draw = () => compose(figure, { ...view, ...moment, lit: null }, paper, rows);
  const { canvas } = draw();
  const stream = canvas.captureStream(FRAMES_PER_SECOND);
  const recorder = new MediaRecorder(stream, {
    mimeType: recorderType(),
    videoBitsPerSecond: BITS_PER_SECOND,
  });
  const { pieces, film } = recorded(recorder);
  const until = (/** @type {number} */ count) =>
    played(recorder, (seconds) => draw() && pieces.length < count && seconds < PATIENCE_SECONDS);
  const [each, whole] = [stepSeconds(view), steps.length * stepSeconds(view)];
  let length = await until(1);
  length += await played(recorder, (seconds) => {
    const next = stopped() ? null : momentAt(range, each, seconds);
    if (!next) return false;
    moment = next;
    draw();
    progress(
      seconds / whole,
      `Step ${moment.step + 1}, ${plural(Math.ceil(whole - seconds), "second")} left.`,
    );
    return true;
  });
  length += await until(pieces.length + 2);
  recorder.stop();
  for (const track of stream.getTracks()) track.stop();
  const bytes = new Uint8Array(await (await film).arrayBuffer());
  if (bytes.length < SMALLEST) throw new Error("the browser's recorder made nothing: it may be too busy");
  return { blob: new Blob([withDuration(bytes, 1000 * length)], { type: "video/webm" }), last: moment.step };
}

/**
 * What a recorder records, from now until it stops, piece by piece.
 * @type {(recorder: MediaRecorder) => { pieces: Blob[], film: Promise<Blob> }}
 */
function recorded(recorder) {
  /** @type {Blob[]} */
  const pieces = [];
  recorder.addEventListener("dataavailable", ({ data }) => data.size && pieces.push(data));
  recorder.start(PIECE_MS);
  const film = new Promise((resolve, reject) => {
    recorder.addEventListener("stop", () => resolve(new Blob(pieces)));
    recorder.addEventListener("error", () => reject(new Error("the browser's recorder failed")));
  });
  return { pieces, film };
}

/**
 * Show frame after frame until one says that it was the last; the seconds that this took. A tab out of sight draws
 * none: its recorder waits too.
 * @type {(recorder: MediaRecorder, show: (seconds: number) => boolean) => Promise<number>}
 */
function played(recorder, show) {
  let [seconds, before, shown] = [0, performance.now(), -1];
  const turned = () => (document.hidden ? recorder.pause() : recorder.resume());
  document.addEventListener("visibilitychange", turned);
  return new Promise((resolve, reject) => {
    const tick = () => {
      const now = performance.now();
      seconds += Math.min(now - before, LONGEST_MS) / 1000;
      before = now;
      try {
        const due = seconds - shown > 0.9 / FRAMES_PER_SECOND;
        if (due) shown = seconds;
        if (!due || show(seconds)) return requestAnimationFrame(tick);
        resolve(seconds);
      } catch (error) {
        reject(error);
      }
      document.removeEventListener("visibilitychange", turned);
    };
    requestAnimationFrame(tick);
  });
}

/**
 * A film that came in pieces does not say how long it is: write that into its head (EBML: Info, Duration), so that
 * players can show and seek it. Unchanged where the head says so already, or is made in another way.
 * @type {(film: Uint8Array<ArrayBuffer>, ms: number) => Uint8Array<ArrayBuffer>}
 */
export function withDuration(film, ms) {
  const at = film
    .subarray(0, 512)
    .findIndex((_, index) => INFO.every((byte, next) => film[index + next] === byte));
  const [start, size] = [at + INFO.length + 1, film[at + INFO.length] - 0x80];
  const known = film
    .subarray(start, start + size)
    .some((byte, index) => byte === 0x44 && film[start + index + 1] === 0x89);
  if (at < 0 || known || size < 0 || size + DURATION_BYTES > 0x7e) return film;
  const whole = new Uint8Array(film.length + DURATION_BYTES);
  whole.set(film.subarray(0, start));
  whole[start - 1] += DURATION_BYTES;
  whole.set([0x44, 0x89, 0x88], start);
  new DataView(whole.buffer).setFloat64(start + 3, ms);
  whole.set(film.subarray(start), start + DURATION_BYTES);
  return whole;
}
