// The payload: one Uint8Array in, one run out. It knows the byte layout (header, padding, blobs) and
// how attention rows lie in their blob. It does not know what is drawn, nor which step is shown.

const ARRAYS = { f64: Float64Array, f32: Float32Array, i32: Int32Array, u8: Uint8Array };

/** Return the run: the header with every blob reference replaced by a typed array. */
function decodeRun(bytes) {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const length = new DataView(aligned.buffer, aligned.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(aligned.subarray(4, 4 + length)));
  const blobs = aligned.byteOffset + Math.ceil((4 + length) / 8) * 8;
  const run = withArrays(header, aligned.buffer, blobs);
  for (const side of [run.left, run.right]) indexAttention(side, run.n_layers);
  return run;
}

function withArrays(node, buffer, blobs) {
  if (node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) return node.map((child) => withArrays(child, buffer, blobs));
  if (node.dtype in ARRAYS && node.shape) {
    const size = node.shape.reduce((product, extent) => product * extent, 1);
    return new ARRAYS[node.dtype](buffer, blobs + node.offset, size);
  }
  const entries = Object.entries(node).map(([key, child]) => [key, withArrays(child, buffer, blobs)]);
  return Object.fromEntries(entries);
}

/** Note where each kept row's block (n_layers x n_heads x keys) starts: rows grow with the step. */
function indexAttention(side, nLayers) {
  const { attention } = side;
  attention.starts = new Float64Array(attention.rows.length);
  let start = 0;
  attention.rows.forEach((step, row) => {
    attention.starts[row] = start;
    start += nLayers * side.n_heads * (step + 1);
  });
  attention.toLevel = attention.data instanceof Uint8Array ? 1 : 255;
}

/** Index of the nearest kept row at or before `step`; -1 when none was kept so early. */
function keptRow(attention, step) {
  let low = -1;
  let high = attention.rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (attention.rows[middle] <= step) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Where the weights of one head at one kept row lie: `count` keys of `data` from `start`. */
function attentionSlice(side, row, layer, head) {
  const { attention, n_heads: nHeads } = side;
  const count = attention.rows[row] + 1;
  const start = attention.starts[row] + (layer * nHeads + head) * count;
  return { data: attention.data, start, count };
}

/** The cached value at (layer, row, column) of the kept cells, and the range it was rounded over. */
function cellValue(cells, layer, row, column) {
  const [low, high] = [cells.layers[2 * layer], cells.layers[2 * layer + 1]];
  const level = cells.data[(layer * cells.tokens + row) * cells.elems + column];
  return { value: low + ((high - low) * level) / 255, low, high };
}

/** What one element of a cached row is, in words: "head 2, k, value 7". */
function elementWords(side, index) {
  let rest = index;
  for (const segment of side.segments) {
    if (rest < segment.elems) return `${segment.label}, ${partWords(segment, rest)}`;
    rest -= segment.elems;
  }
  return `value ${index}`;
}

function partWords(segment, index) {
  let rest = index;
  for (const part of segment.parts) {
    if (rest < part.elems) return `${part.label}, value ${rest}`;
    rest -= part.elems;
  }
  return `value ${index}`;
}

