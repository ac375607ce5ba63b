// The payload: one block of bytes in, one run out. It knows the byte layout (header, padding, arrays); it
// does not know what is drawn, nor which step is shown.

import { NDArray } from "./ndarray.js";
import { AttentionRows } from "./rows.js";

const DTYPES = { f64: Float64Array, f32: Float32Array, i32: Int32Array, u8: Uint8Array };

/** The run in these bytes: the header, each array in its place, attention by rows. */
export function readRun(bytes) {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const length = new DataView(aligned.buffer, aligned.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(aligned.subarray(4, 4 + length)));
  const start = aligned.byteOffset + Math.ceil((4 + length) / 8) * 8;
  const run = withArrays(header, aligned.buffer, start);
  return { ...run, left: withRows(run.left, run.n_layers), right: withRows(run.right, run.n_layers) };
}

/** The header with an array wherever it names one by offset, dtype and shape. */
function withArrays(node, buffer, start) {
  if (node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) return node.map((child) => withArrays(child, buffer, start));
  if ("offset" in node) {
    const size = node.shape.reduce((product, extent) => product * extent, 1);
    return new NDArray(new DTYPES[node.dtype](buffer, start + node.offset, size), node.shape);
  }
  const entries = Object.entries(node).map(([key, child]) => [key, withArrays(child, buffer, start)]);
  return Object.fromEntries(entries);
}

function withRows(side, nLayers) {
  return { ...side, attention: new AttentionRows(side.attention, nLayers, side.n_heads) };
}
