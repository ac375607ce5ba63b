// What becomes of a thing, seen: kept for later steps, made and thrown away, or fixed at training. One look
// each in every picture, and the legend that says so. It knows frames; it does not know what stands in them.

import { element, find } from "./dom.js";

/** @import { Theme } from "./theme.js" */
/** @typedef {keyof typeof LOOKS} Look */

/** The frame of each, in CSS pixels; what is fixed has a plate of grey in its place. */
export const LOOKS = {
  cached: { words: "cached", width: 2, dash: [] },
  passing: { words: "made and thrown away", width: 1, dash: [3, 2] },
  fixed: { words: "weights, fixed at training", width: 0, dash: [] },
};

/**
 * The legend of all pictures under `root`, and each frame for its style sheet: `--cached: 2px solid`.
 * @type {(root: HTMLElement) => void}
 */
export function showLooks(root) {
  for (const [look, { width, dash }] of Object.entries(LOOKS)) {
    root.style.setProperty(`--${look}`, `${width}px ${dash.length ? "dashed" : "solid"}`);
  }
  find(root, ".looks").replaceChildren(
    ...Object.entries(LOOKS).map(([look, { words }]) => element("span", `look ${look}`, words)),
  );
}

/**
 * What is not equal and no rounding: red on either ground.
 * @type {(theme: Theme) => string}
 */
export function apartColour({ dark }) {
  return dark ? "#ff8a80" : "#c62828";
}
