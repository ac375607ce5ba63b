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

/** Cached values in bytes: low + (high - low) * byte / 255; row i is token i * every. */
export interface Cells {
  every: number;
  low_high: NDArray<Float32Array, [n_layers: number, ends: number]>;
  data: NDArray<Uint8Array, [n_layers: number, rows: number, elems: number]>;
}

/** The likeliest next tokens after each step, likeliest first, as `choice_logits` says. */
export interface Candidates {
  text: string[][];
  probs: NDArray<Float32Array, [steps: number, candidates: number]>;
}

/** One mechanism's decoding. Bytes are of all layers, elements of one token in one layer. `working_bytes` alone are of one layer, since the next one needs them no more. `sized` is `short` with what tells its cache from that of other heads; `cache_reads` are the cached elements that the ledger reads, each as often as it does. */
export interface Side {
  mechanism: string;
  label: string;
  short: string;
  sized: string;
  color: Colour;
  n_heads: number;
  elem_bytes: number;
  cache_elems: number;
  cache_reads: number;
  segments: Segment[];
  baselines: Baseline[];
  cache_bytes: NDArray<Float64Array, [steps: number]>;
  allocated_bytes: NDArray<Float64Array, [steps: number]>;
  working_bytes: NDArray<Float64Array, [steps: number]>;
  time_us: NDArray<Float32Array, [steps: number, n_layers: number]>;
  operations: Operation[];
  attention: Attention;
  cells: Cells;
  top: Candidates;
}

/** A prompt decoded by two mechanisms; `run` names its content, `prompt` its prompt alone. */
export interface Run {
  version: 2;
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
  left: Side;
  right: Side;
}
