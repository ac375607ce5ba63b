// The address: `step`, `layer`, `head` and `speed` in the page's URL, counted from one as on the page.
// It knows the query string and leaves every other parameter, and the history's state, as they are. The
// tab remembers the last place and its prompt too, since another page of the app drops these parameters
// from the URL, and since a step means nothing under another prompt.

import { recall, remember } from "./memory.js";

/** @import { State } from "./player.js" */
/** @typedef {{ step?: number, layer?: number, head?: number, speedName: string, phase?: number, tour?: number }} Place */

const PAUSE_MS = 260;
const MEMORY = "mla-viz-place";
const OWN = ["step", "layer", "head", "speed", "phase", "tour"];
const SPEEDS = ["0.5", "1", "2", "4", "8"];

/**
 * Step, layer and head from zero (undefined where absent or no number), and the speed's name. A step that
 * is left over from another prompt is the first one.
 * @type {(prompt: string) => Place}
 */
export function readAddress(prompt) {
  const here = new URLSearchParams(window.location.search);
  const last = new URLSearchParams(recall("sessionStorage", MEMORY) ?? "");
  const query = here.has("step") || here.has("tour") ? here : last;
  const elsewhere = last.has("step") && last.get("prompt") !== prompt;
  const leftOver = elsewhere && query.get("step") === last.get("step");
  /** @type {(name: string) => number | undefined} */
  const index = (name) => {
    const value = Number.parseInt(query.get(name) ?? "", 10);
    return Number.isNaN(value) ? undefined : value - 1;
  };
  const speed = query.get("speed") ?? "";
  return {
    step: leftOver ? 0 : index("step"),
    layer: index("layer"),
    head: index("head"),
    speedName: SPEEDS.includes(speed) ? speed : "1",
    phase: index("phase"),
    tour: index("tour"),
  };
}

/** @type {(state: State) => void} */
function writeAddress({ run, step, layer, head, speedName, inside, at, tour }) {
  const phase = inside ? { phase: Math.max(1, Math.ceil(at)) } : {};
  const stop = tour === null ? {} : { tour: tour + 1 };
  const values = { step: step + 1, layer: layer + 1, head: head + 1, speed: speedName, ...phase, ...stop };
  const { search, pathname, hash } = window.location;
  const others = search
    .slice(1)
    .split("&")
    .filter((pair) => pair && !OWN.includes(pair.split("=")[0]));
  const own = Object.entries(values).map(([name, value]) => `${name}=${value}`);
  remember("sessionStorage", MEMORY, [...own, `prompt=${run?.prompt}`].join("&"));
  const wanted = `?${[...others, ...own].join("&")}`;
  if (wanted === search) return;
  try {
    window.history.replaceState(window.history.state, "", pathname + wanted + hash);
  } catch {
    // a frame without an address of its own keeps none
  }
}

/**
 * Writes once stepping rests for PAUSE_MS: browsers limit such writes, and each costs a frame.
 * @type {(state: State) => { schedule: () => void, stop: () => void }}
 */
export function makeAddressWriter(state) {
  let timer = 0;
  return {
    schedule: () => {
      clearTimeout(timer);
      timer = setTimeout(() => writeAddress(state), PAUSE_MS);
    },
    stop: () => clearTimeout(timer),
  };
}
