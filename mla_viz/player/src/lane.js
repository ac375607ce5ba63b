// One side's numbers inside a step: a head's vectors, keys, values, scores and weights.
// What travelled stands as it was; what follows from it (keys, values, moved queries, mixes) is multiplied here.

/** @import { Run, Side, SideName } from "./payload.js" */
/** @typedef {Float32Array | Float64Array | Uint8Array} Numbers */
/** @typedef {{ data: Numbers, rows: number, width: number }} Matrix rows behind one another */
/**
 * @typedef {object} Lane
 * @property {Numbers} x
 * @property {Numbers | null} q
 * @property {Numbers} query what meets the cache: q, or what W_UK has made of it
 * @property {Numbers | null} latent the newest [c_KV | k_R]
 * @property {Matrix | null} latents of every token so far
 * @property {Matrix} keys what this head's query meets
 * @property {Matrix} values what its weights mix
 * @property {Numbers} scores
 * @property {Numbers} probs
 * @property {Numbers} mix
 * @property {Numbers | null} oHead
 * @property {Numbers} out
 * @property {number} scale what a product is multiplied by to be a score
 */

export const ABSORBING = ["mla_absorbed", "mla_merged"];
/** They keep latents, and make keys and values of them at each step. */
export const EXPANDING = ["mla_reexpand", "gqa_latent"];

/**
 * Whether the vectors of a step and layer are here.
 * @type {(side: Side, place: { step: number, layer: number }) => boolean}
 */
export function hasVectors({ vectors: { first, n_layers: count, steps } }, { step, layer }) {
  return layer >= first && layer < first + count && steps.data.includes(step);
}

/**
 * Whether what a step made was kept at all.
 * @type {(run: Run, step: number) => boolean}
 */
export function keepsStep({ left: { attention } }, step) {
  return attention.steps[attention.before(step)] === step;
}

/**
 * The lane of a step, layer and head; null where its vectors are not here.
 * @type {(run: Run, name: SideName, place: { step: number, layer: number, head: number }) => Lane | null}
 */
export function laneAt(run, name, place) {
  const side = run[name];
  const { vectors, dims, attention, n_heads: nHeads } = side;
  if (!hasVectors(side, place)) return null;
  const { step } = place;
  const head = Math.min(place.head, nHeads - 1);
  const row = vectors.steps.data.indexOf(step);
  const layer = place.layer - vectors.first;
  const latents = latentsOf(side, step + 1, layer);
  const { keys, values } = keysAndValues(side, latents, { tokens: step + 1, layer, head });
  const q = vectors.q?.part(row, layer, head) ?? null;
  const query = vectors.q_latent?.part(row, layer, head) ?? movedQuery(side, q, layer, head);
  const stored = attention.stored(attention.before(step), place.layer, head);
  const probs = Float64Array.from(stored, (weight) => weight * attention.scale(1));
  const mix = mixed(probs, values, values.rows);
  return {
    x: vectors.x.part(row, layer),
    q,
    query,
    latent: latents && rowOf(latents, step),
    latents,
    keys,
    values,
    scores: vectors.scores.stored(row, layer, head),
    probs,
    mix,
    oHead: headOutput(side, mix, layer, head),
    out: vectors.out.part(row, layer),
    scale: dims.scale,
  };
}

/** @type {(matrix: Matrix, row: number) => Numbers} */
export function rowOf({ data, width }, row) {
  return data.subarray(row * width, (row + 1) * width);
}

/** @type {(one: Numbers, other: Numbers) => number} */
export function dot(one, other) {
  let sum = 0;
  for (let at = 0; at < one.length; at += 1) sum += one[at] * other[at];
  return sum;
}

/**
 * The first rows of a matrix, each times its weight, summed.
 * @type {(weights: Numbers, matrix: Matrix, rows: number) => Float64Array<ArrayBuffer>}
 */
export function mixed(weights, matrix, rows) {
  const sum = new Float64Array(matrix.width);
  for (let row = 0; row < rows; row += 1) {
    const values = rowOf(matrix, row);
    for (let at = 0; at < sum.length; at += 1) sum[at] += weights[row] * values[at];
  }
  return sum;
}

/**
 * What a layer's latents are, as wide as they are there.
 * @type {(side: Side, tokens: number, layer: number) => Matrix | null}
 */
function latentsOf({ vectors: { latents }, dims }, tokens, layer) {
  if (!latents) return null;
  const width = dims.latent + dims.rope;
  const data = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; token += 1) {
    data.set(latents.part(token, layer).subarray(0, width), token * width);
  }
  return { data, rows: tokens, width };
}

/**
 * Absorbed: the latents themselves. Otherwise a head's own, held or made from the latents by W_UK and W_UV.
 * @type {(side: Side, latents: Matrix | null, place: { tokens: number, layer: number, head: number }) =>
 *   { keys: Matrix, values: Matrix }}
 */
function keysAndValues(side, latents, { tokens, layer, head }) {
  const { vectors, dims, mechanism, n_heads: nHeads } = side;
  const { heads, W_UK: upK, W_UV: upV } = vectors;
  if (heads) {
    const group = Math.floor((head * dims.kv_heads) / nHeads);
    /** @type {(from: number, width: number) => Matrix} */
    const part = (from, width) =>
      filled(tokens, width, (token) => heads.part(layer, token, group).subarray(from, from + width));
    return { keys: part(0, dims.qk), values: part(dims.qk, dims.v) };
  }
  if (!latents || !upK || !upV) throw new Error(`payload: expected latents and weights of ${mechanism}`);
  /** @type {(token: number) => Numbers} */
  const latent = (token) => rowOf(latents, token).subarray(0, dims.latent);
  if (ABSORBING.includes(mechanism)) return { keys: latents, values: filled(tokens, dims.latent, latent) };
  const [k, v] = [upK, upV].map((up) => matrixOf(up.part(layer, head), dims.latent));
  const keys = filled(tokens, dims.qk, (token) => {
    const rope = rowOf(latents, token).subarray(dims.latent);
    return [...mixed(latent(token), k, k.rows), ...rope];
  });
  return { keys, values: filled(tokens, dims.v, (token) => mixed(latent(token), v, v.rows)) };
}

/** @type {(rows: number, width: number, row: (at: number) => ArrayLike<number>) => Matrix} */
function filled(rows, width, row) {
  const data = new Float64Array(rows * width);
  for (let at = 0; at < rows; at += 1) data.set(row(at), at * width);
  return { data, rows, width };
}

/** @type {(data: Numbers, rows: number) => Matrix} */
function matrixOf(data, rows) {
  return { data, rows, width: data.length / rows };
}

/**
 * q itself, or where the cache holds latents [W_UK q_nope | q_R].
 * @type {(side: Side, q: Numbers | null, layer: number, head: number) => Numbers}
 */
function movedQuery({ mechanism, vectors, dims }, q, layer, head) {
  if (!q) throw new Error(`payload: expected a query of ${mechanism}`);
  const { W_UK: up } = vectors;
  if (!ABSORBING.includes(mechanism) || !up) return q;
  const nope = q.subarray(0, dims.qk - dims.rope);
  const matrix = matrixOf(up.part(layer, head), dims.latent);
  const moved = Float64Array.from({ length: dims.latent }, (_, at) => dot(rowOf(matrix, at), nope));
  return Float64Array.of(...moved, ...q.subarray(nope.length));
}

/**
 * What a head gives to W_O; merged weights never make it.
 * @type {(side: Side, mix: Numbers, layer: number, head: number) => Numbers | null}
 */
function headOutput({ mechanism, vectors, dims }, mix, layer, head) {
  if (mechanism === "mla_merged") return null;
  if (mechanism !== "mla_absorbed" || !vectors.W_UV) return mix;
  const matrix = matrixOf(vectors.W_UV.part(layer, head), dims.latent);
  return mixed(mix, matrix, matrix.rows);
}
