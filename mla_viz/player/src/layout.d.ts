// Made by `python -m mla_viz.player.layout`.
import type { NDArray } from "./ndarray.js";

/** A token of the run. */
export interface Token {
  id: number;
  text: string;
  pos: number;
  source: "prompt" | "generated";
}

/** Largest difference between the sides after each step, over all layers and heads. */
export interface Differences {
  scores: NDArray<Float64Array, [steps: number]>;
  probs: NDArray<Float64Array, [steps: number]>;
  out: NDArray<Float64Array, [steps: number]>;
  logits: NDArray<Float64Array, [steps: number]>;
}

/** Plain attention of a side's own heads: what it is, what it counts, bytes of all layers. */
export interface Baseline {
  label: string;
  what: string;
  counted: string;
  bytes_per_token: number;
}

/** Ink and tinted ground of a mechanism, on a light page and on a dark one. */
export interface Colour {
  light: string;
  light_tint: string;
  dark: string;
  dark_tint: string;
}

/** A stretch of a segment's elements. */
export interface Part {
  label: string;
  elems: number;
}

/** A stretch of a cached row, in the order of its elements; parts where it has more than one. */
export interface Segment {
  label: string;
  elems: number;
  parts: Part[];
}

/** `batch` products of (rows x inner)·(inner x columns); null is the number of tokens so far. */
export interface Product {
  batch: number | null;
  rows: number | null;
  inner: number | null;
  columns: number | null;
}

/** A line of the ledger of one layer; `shared` where the other side counts the same. */
export interface Operation {
  name: string;
  phase: "project" | "cache" | "score" | "softmax" | "mix" | "output";
  formula: string;
  shape: Product;
  shared: boolean;
  flops: NDArray<Float64Array, [steps: number]>;
  bytes_read: NDArray<Float64Array, [steps: number]>;
  bytes_written: NDArray<Float64Array, [steps: number]>;
}

/** Weights of the kept steps, n_layers x n_heads x (step + 1) each, one step behind another. Exact as they are, otherwise in 255ths. */
export interface Attention {
  exact: boolean;
  steps: NDArray<Int32Array, [kept: number]>;
  data: NDArray<Float32Array | Uint8Array, [values: number]>;
}

/** Cached values in bytes: low + (high - low) * byte / 255; row i is token i * every. A layer that caches fewer elements than another has nothing behind them. */
export interface Cells {
  every: number;
  low_high: NDArray<Float32Array, [n_layers: number, ends: number]>;
  data: NDArray<Uint8Array, [n_layers: number, rows: number, elems: number]>;
}

/** Widths of one side's vectors; `latent` is 0 where there is none, `qk` has the RoPE dims. `scale` is what a product is multiplied by to be a score. `rope` are those that RoPE has turned where a row is cached: 0 where it turns them afterwards. */
export interface Dims {
  d_model: number;
  qk: number;
  rope: number;
  v: number;
  latent: number;
  kv_heads: number;
  scale: number;
}

/** What attention made on its way at some steps, of `n_layers` layers from `first` on. `scores` are rows like those of Attention. `latents` and `heads` are those of every token; latents narrower than another layer's have nothing behind them. Where a mechanism has no such vector stands null. */
export interface Vectors {
  first: number;
  n_layers: number;
  steps: NDArray<Int32Array, [kept: number]>;
  x: NDArray<Float32Array, [kept: number, layers: number, d_model: number]>;
  q: NDArray<Float32Array, [kept: number, layers: number, n_heads: number, qk: number]> | null;
  q_latent: NDArray<Float32Array, [kept: number, layers: number, n_heads: number, both: number]> | null;
  out: NDArray<Float32Array, [kept: number, layers: number, d_model: number]>;
  scores: NDArray<Float32Array, [values: number]>;
  latents: NDArray<Float32Array, [steps: number, layers: number, both: number]> | null;
  heads: NDArray<Float32Array, [layers: number, steps: number, kv_heads: number, k_and_v: number]> | null;
  W_UK: NDArray<Float32Array, [layers: number, n_heads: number, latent: number, nope: number]> | null;
  W_UV: NDArray<Float32Array, [layers: number, n_heads: number, latent: number, v: number]> | null;
}

/** The largest difference of each vector between the sides, at the kept steps of Attention. */
export interface Gaps {
  x: NDArray<Float32Array, [kept: number, n_layers: number]>;
  latents: NDArray<Float32Array, [kept: number, n_layers: number]> | null;
  q: NDArray<Float32Array, [kept: number, n_layers: number, n_heads: number]> | null;
  scores: NDArray<Float32Array, [kept: number, n_layers: number, n_heads: number]>;
  probs: NDArray<Float32Array, [kept: number, n_layers: number, n_heads: number]>;
  o_head: NDArray<Float32Array, [kept: number, n_layers: number, n_heads: number]> | null;
  out: NDArray<Float32Array, [kept: number, n_layers: number]>;
}

/** The likeliest next tokens after each step, likeliest first, as `choice_logits` says. */
export interface Candidates {
  text: string[][];
  probs: NDArray<Float32Array, [steps: number, candidates: number]>;
}

/** The format that a cache is kept in: its name, and what it takes in words. */
export interface Kept {
  name: string;
  about: string;
}

/** What one layer caches of a token, and counts. `cache_reads` are the cached elements that the ledger reads, each as often as it does. */
export interface Layer {
  dims: Dims;
  cache_elems: number;
  row_bytes: number;
  cache_reads: number;
  segments: Segment[];
  operations: Operation[];
}

/** One mechanism's decoding. Bytes are of all layers. `working_bytes` alone are of one layer, since the next one needs them no more. `sized` is `short` with what tells its cache from that of other heads. `layers` is one for all where they are alike. `kept` is null where a cache keeps its elements as they are. */
export interface Side {
  mechanism: string;
  label: string;
  short: string;
  about: string;
  sized: string;
  color: Colour;
  n_heads: number;
  elem_bytes: number;
  kept: Kept | null;
  layers: Layer[];
  baselines: Baseline[];
  cache_bytes: NDArray<Float64Array, [steps: number]>;
  allocated_bytes: NDArray<Float64Array, [steps: number]>;
  working_bytes: NDArray<Float64Array, [steps: number]>;
  time_us: NDArray<Float32Array, [steps: number, n_layers: number]>;
  attention: Attention;
  cells: Cells;
  vectors: Vectors;
  top: Candidates;
}

/** Vectors of a run that did not travel with it: those of one more layer. */
export interface Rest {
  version: 8;
  run: string;
  left: Vectors;
  right: Vectors;
}

/** Validation loss of the run's model at its setting and at its full size, in nats per token. Losses less than `apart` from one another tell nothing; `stories` and `tokens` were scored. */
export interface Loss {
  here: number;
  full: number;
  setting: string;
  full_setting: string;
  apart: number;
  stories: number;
  tokens: number;
}

/** A pretrained model beside a cut of it: the right side against the left, over `tokens`. `kl` is KL(left || right) in nats a token, `agreement` the share of tokens at which both find one likeliest; `text` is the left side's, and `whole` whether nothing was left out. `elems` are the fewest values that a side caches of a token, a layer on average; `pooled` is whether layers differ in it, `decoupled` whether keys differ and not their number. */
export interface Cut {
  kl: number;
  agreement: number;
  tokens: number;
  text: string;
  whole: boolean;
  elems: number;
  pooled: boolean;
  decoupled: boolean;
}

/** A prompt decoded by two mechanisms. `run` names its content, but for what the clock measured, `prompt` its prompt alone. */
export interface Run {
  version: 8;
  run: string;
  prompt: string;
  dtype: string;
  device: string;
  temperature: number;
  top_k: number;
  same_model: boolean;
  same_tokens: boolean;
  n_layers: number;
  prompt_len: number;
  n_steps: number;
  notes: string[];
  tokens: Token[];
  differences: Differences | null;
  gaps: Gaps | null;
  loss: Loss | null;
  cut: Cut | null;
  left: Side;
  right: Side;
}
