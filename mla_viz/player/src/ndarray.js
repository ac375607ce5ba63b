// An array with its shape: the one place that reckons where the value at some indices lies.
// It knows axes and extents; it does not know what they count.

export class NDArray {
  constructor(data, shape) {
    this.data = data;
    this.shape = shape;
  }

  /** The value at one index an axis. */
  at(...index) {
    return this.data[this.#place(index)];
  }

  /** Everything below some leading indices, one behind the other: no copy. */
  part(...leading) {
    const size = this.shape.slice(leading.length).reduce((product, extent) => product * extent, 1);
    const start = this.#place(leading) * size;
    return this.data.subarray(start, start + size);
  }

  #place(index) {
    return index.reduce((place, at, axis) => place * this.shape[axis] + at, 0);
  }
}
