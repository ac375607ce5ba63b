// An array with its shape: the one place that reckons where the value at some indices lies.
// It knows axes and extents; it does not know what they count.

/** @typedef {Float64Array | Float32Array | Int32Array | Uint8Array} Data */

/**
 * @template {Data} Values
 * @template {number[]} Axes
 */
export class NDArray {
  /**
   * @param {Values} data
   * @param {number[]} shape
   */
  constructor(data, shape) {
    this.data = data;
    this.shape = shape;
  }

  /**
   * The value at one index an axis.
   * @type {(...index: Axes) => number}
   */
  at(...index) {
    return this.data[this.#place(index)];
  }

  /**
   * Everything below some leading indices, one behind the other: no copy.
   * @type {(...leading: number[]) => Values}
   */
  part(...leading) {
    const size = this.shape.slice(leading.length).reduce((product, extent) => product * extent, 1);
    const start = this.#place(leading) * size;
    return /** @type {Values} */ (this.data.subarray(start, start + size));
  }

  /** @type {(index: number[]) => number} */
  #place(index) {
    return index.reduce((place, at, axis) => place * this.shape[axis] + at, 0);
  }
}
