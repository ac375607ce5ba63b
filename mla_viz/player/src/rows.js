// Rows of attention weights, which grow with the step: the one place that knows how they lie.
// Behind one another, a kept step after the other, each n_layers x n_heads x (step + 1).

/** @import { Attention } from "./layout.d.ts" */
/** @typedef {Float32Array | Uint8Array} Stored weights as they are, or in 255ths */

export class AttentionRows {
  #data;
  #starts;
  #nHeads;

  /**
   * @param {Attention} attention
   * @param {number} nLayers
   * @param {number} nHeads
   */
  constructor({ exact, steps, data }, nLayers, nHeads) {
    this.exact = exact;
    this.steps = steps.data;
    this.#data = data.data;
    this.#nHeads = nHeads;
    this.#starts = new Float64Array(this.steps.length);
    let start = 0;
    this.steps.forEach((step, row) => {
      this.#starts[row] = start;
      start += nLayers * nHeads * (step + 1);
    });
  }

  /**
   * Index of the last kept row at or before `step`; -1 where none was kept so early.
   * @type {(step: number) => number}
   */
  before(step) {
    let low = -1;
    let high = this.steps.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.steps[middle] <= step) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * What one head of one layer stored at a kept row, for each key from the first on.
   * @type {(row: number, layer: number, head: number) => Stored}
   */
  stored(row, layer, head) {
    const keys = this.steps[row] + 1;
    const start = this.#starts[row] + (layer * this.#nHeads + head) * keys;
    return this.#data.subarray(start, start + keys);
  }

  /**
   * What a stored value is multiplied by for a weight between 0 and `full`.
   * @type {(full: number) => number}
   */
  scale(full) {
    return this.exact ? full : full / 255;
  }
}
