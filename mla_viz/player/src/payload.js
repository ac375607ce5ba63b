// The payload: one block of bytes in, one run out. It knows the byte layout (header, padding, arrays); it
// does not know what is drawn, nor which step is shown.

import { NDArray } from "./ndarray.js";
import { AttentionRows } from "./rows.js";

/** @import * as Layout from "./layout.d.ts" */
/** @import { Data } from "./ndarray.js" */
/** @typedef {Omit<Layout.Vectors, "scores"> & { scores: AttentionRows }} Vectors */
/** @typedef {Omit<Layout.Side, "attention" | "vectors"> & { attention: AttentionRows, vectors: Vectors }} AnySide */
/** @typedef {AnySide & Layout.Layer} Side as one of its layers has it */
/** @typedef {Omit<Layout.Run, "left" | "right"> & { left: Side, right: Side }} Run */
/** @typedef {"left" | "right"} SideName */
/** @typedef {Uint8Array<ArrayBuffer>} Packed */

/** @type {SideName[]} */
export const SIDES = ["left", "right"];

/** @type {Layout.Run["version"]} */
const VERSION = 8;
const DTYPES = { f64: Float64Array, f32: Float32Array, i32: Int32Array, u8: Uint8Array };

/** @typedef {{ offset: number, dtype: keyof typeof DTYPES, shape: number[] }} Entry */

/**
 * The run in these bytes, as its first layer has it: the header, each array in its place, attention by rows.
 * @type {(bytes: Packed) => Run}
 */
export function readRun(bytes) {
  const run = /** @type {Layout.Run} */ (read(bytes));
  return { ...run, left: withRows(run.left, run.n_layers), right: withRows(run.right, run.n_layers) };
}

/**
 * Whether a token follows a step: none does where a layer runs alone.
 * @type {(run: Run) => boolean}
 */
export const chooses = (run) => run.left.top.probs.shape[1] > 0;

/**
 * A run with the vectors in these bytes in place of its own, where they are of this run.
 * @type {(run: Run, bytes: Packed) => Run}
 */
export function withRest(run, bytes) {
  const rest = /** @type {Layout.Rest} */ (read(bytes));
  if (rest.run !== run.run) return run;
  const [left, right] = SIDES.map((name) => ({
    ...run[name],
    vectors: vectorsOf(rest[name], run[name].n_heads),
  }));
  return { ...run, left, right };
}

/** @type {(bytes: Packed) => unknown} */
function read(bytes) {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const length = new DataView(aligned.buffer, aligned.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(aligned.subarray(4, 4 + length)));
  if (header.version !== VERSION) {
    throw new Error(`payload: expected version ${VERSION}, got ${header.version}; load the page anew`);
  }
  const blobs = aligned.subarray(Math.ceil((4 + length) / 8) * 8);
  return withArrays(header, blobs);
}

/**
 * The header with an array wherever it names one.
 * @type {(node: unknown, blobs: Packed) => unknown}
 */
function withArrays(node, blobs) {
  if (node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) return node.map((child) => withArrays(child, blobs));
  if ("offset" in node) return arrayOf(/** @type {Entry} */ (node), blobs);
  return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, withArrays(child, blobs)]));
}

/** @type {(entry: Entry, blobs: Packed) => NDArray<Data, number[]>} */
function arrayOf({ offset, dtype, shape }, blobs) {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return new NDArray(new DTYPES[dtype](blobs.buffer, blobs.byteOffset + offset, size), shape);
}

/**
 * A run as one of its layers has it: what that caches and counts.
 * @type {(run: Run, layer: number) => Run}
 */
export function atLayer(run, layer) {
  if (SIDES.every((name) => run[name].layers.length === 1)) return run;
  const [left, right] = SIDES.map((name) => {
    const { layers } = run[name];
    return { ...run[name], ...layers[Math.min(layer, layers.length - 1)] };
  });
  return { ...run, left, right };
}

/** @type {(side: Layout.Side, nLayers: number) => Side} */
function withRows(side, nLayers) {
  const { attention, vectors, layers, n_heads: nHeads } = side;
  return {
    ...side,
    ...layers[0],
    attention: new AttentionRows(attention, nLayers, nHeads),
    vectors: vectorsOf(vectors, nHeads),
  };
}

/** @type {(vectors: Layout.Vectors, nHeads: number) => Vectors} */
function vectorsOf(vectors, nHeads) {
  const scores = { exact: true, steps: vectors.steps, data: vectors.scores };
  return { ...vectors, scores: new AttentionRows(scores, vectors.n_layers, nHeads) };
}
