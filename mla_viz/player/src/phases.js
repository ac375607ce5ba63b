// The phases of a step: what they are called, what each side does in them, and what the ledger counts.
// It knows words and sums; it draws nothing.

import { bytesText, flopsText } from "./words.js";

/** @import { Operation } from "./layout.d.ts" */
/** @import { Side } from "./payload.js" */
/** @typedef {Operation["phase"]} Phase */

/** @type {Phase[]} */
export const PHASES = ["project", "cache", "score", "softmax", "mix", "output"];
export const COUNT = PHASES.length;
/** At speed 1. */
export const PHASES_PER_SECOND = 0.5;

/**
 * The phase of a moment in a step; a moment at which one ends is still its own.
 * @type {(at: number) => number}
 */
export function phaseAt(at) {
  return Math.min(COUNT - 1, Math.max(0, Math.ceil(at) - 1));
}

/**
 * What a side does in a phase, one sentence; `heads` are all of its heads.
 * @type {(side: Side, phase: Phase, tokens: number) => string}
 */
export function phaseWords({ mechanism, n_heads: n, dims, kept }, phase, tokens) {
  const all = n === 1 ? "its one head" : `all ${n} heads`;
  const own = !dims.latent;
  const shared = own && dims.kv_heads < n;
  const rows = tokens === 1 ? "the one row" : `${tokens} rows`;
  const words = {
    project: own
      ? `x becomes a query for each head, and a key and a value for each of ${dims.kv_heads}.`
      : `x becomes a query for each head, and one latent and one RoPE key for ${all}.`,
    cache: shared
      ? `The new key and value are cached; ${n / dims.kv_heads} heads share them.`
      : "The new key and value of every head are cached.",
    score: "The query meets every cached key.",
    softmax: "Scores become weights that sum to 1.",
    mix: "The weights mix the cached values.",
    output: "W_O takes the outputs of all heads, and they are summed.",
  };
  const rounded = kept && phase === "cache" ? ` Kept rounded to ${kept.name}, multiplied out when read.` : "";
  return { ...words, ...special(mechanism, { all, rows }) }[phase] + rounded;
}

/** @type {(mechanism: string, names: { all: string, rows: string }) => Partial<Record<Phase, string>>} */
function special(mechanism, { all, rows }) {
  /** @type {Record<string, Partial<Record<Phase, string>>>} */
  const table = {
    mla_expanded: { cache: `W_UK and W_UV make a key and a value for ${all}; all of them are cached.` },
    mla_reexpand: {
      cache: `The latent is cached. Then keys and values of ${rows} are rebuilt for ${all}, for this step alone.`,
      score: "The query meets every rebuilt key.",
      mix: "The weights mix the rebuilt values, which are then thrown away.",
    },
    recompute: {
      project: "Nothing was kept: the whole prefix is projected again.",
      cache: `Nothing is cached: keys and values of ${rows} are made anew for ${all}.`,
      score: "The query meets every key made anew.",
      mix: "The weights mix the values, which are then thrown away.",
    },
    gqa_latent: {
      project: `x becomes a query for each head, and one latent for ${all}.`,
      cache: `The latent is cached as it is. Then keys and values of ${rows} are rebuilt, and the keys turned, for this step alone.`,
      score: "The query meets every rebuilt key.",
      mix: "The weights mix the rebuilt values, which are then thrown away.",
    },
    mla_absorbed: {
      cache: `The latent and its RoPE key are cached, once for ${all}. Nothing to rebuild.`,
      score: "W_UK moves to the query, which then meets the latents themselves.",
      mix: "The weights mix the latents themselves.",
      output: "W_UV comes last, on one mixed latent; then W_O.",
    },
    mla_merged: {
      project: "W_UQ·W_UKᵀ, multiplied ahead, makes a query that meets latents.",
      cache: `The latent and its RoPE key are cached, once for ${all}. Nothing to rebuild.`,
      score: "The query meets the latents themselves.",
      mix: "The weights mix the latents themselves.",
      output: "W_UV·W_O, multiplied ahead, takes the mixed latents of all heads.",
    },
  };
  return table[mechanism] ?? {};
}

/**
 * What the ledger counts for a phase, of one layer: "43.8 k FLOP, 87.0 KiB read"; nothing where it counts nothing.
 * @type {(side: Side, phase: Phase, step: number) => string}
 */
export function phaseCounts({ operations }, phase, step) {
  const lines = operations.filter((operation) => operation.phase === phase);
  if (lines.length === 0) return phase === "softmax" ? "not counted" : "no products";
  const sum = (/** @type {"flops" | "bytes_read"} */ name) =>
    lines.reduce((total, line) => total + line[name].at(step), 0);
  return `${flopsText(sum("flops"))}, ${bytesText(sum("bytes_read"))} read`;
}
