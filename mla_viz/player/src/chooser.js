// The menus of layers and heads, which count from one where the state counts from zero.

import { find } from "./dom.js";

/** @import { Run } from "./payload.js" */
/** @import { Choose, Loaded } from "./player.js" */

/**
 * @param {HTMLElement} root
 * @param {Choose} choose
 */
export function makeChooser(root, choose) {
  const layer = find(root, "select[name=layer]", HTMLSelectElement);
  const head = find(root, "select[name=head]", HTMLSelectElement);
  layer.addEventListener("change", () => choose({ layer: Number(layer.value) }));
  head.addEventListener("change", () => choose({ head: Number(head.value) }));
  return {
    load: (/** @type {Run} */ run) => {
      fillSelect(layer, run.n_layers);
      fillSelect(head, mostHeads(run));
    },
    show: (/** @type {Loaded} */ state) => {
      layer.value = String(state.layer);
      head.value = String(state.head);
    },
  };
}

/**
 * Heads of the side that has more of them.
 * @type {(run: Run) => number}
 */
export function mostHeads({ left, right }) {
  return Math.max(left.n_heads, right.n_heads);
}

/** @type {(select: HTMLSelectElement, count: number) => void} */
function fillSelect(select, count) {
  const options = Array.from({ length: count }, (_, index) => new Option(String(index + 1), String(index)));
  select.replaceChildren(...options);
}
