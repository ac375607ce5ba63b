// The tour: ten stops, each a question about the run in sight, its answer computed from it.
// It knows runs and words; it does not know how a stop is shown, nor who has been there.

import { peakOf } from "./attention.js";
import { compare, timesText } from "./comparison.js";
import { ABSORBING, EXPANDING, laneAt } from "./lane.js";
import { shortNames, tokenWords } from "./narration.js";
import { chooses, SIDES } from "./payload.js";
import { PHASES } from "./phases.js";
import {
  bytesText,
  capitalised,
  differenceText,
  figureText,
  flopsText,
  isApart,
  plural,
  probabilityText,
} from "./words.js";

/** @import { Run, Side, SideName } from "./payload.js" */
/** @import { Phase } from "./phases.js" */
/** @import { Position } from "./player.js" */
/** @typedef {{ run: Run, step: number, layer: number, head: number }} Sight */
/** @typedef {{ side: Side, name: string, other: string }} Named a side and what both are called in a sentence */
/** @typedef {{ question: string, choices: string[], right: number, because: string }} Told */
/**
 * `place` is what the stop points at, `phase` the one that plays when its answer is told.
 * @typedef {{ title: string, place: string, phase?: Phase, tell: (sight: Sight) => Told }} Stop
 */

/** @type {Stop[]} */
export const STOPS = [
  { title: "What is a key?", place: ".inside", phase: "score", tell: whatIsAKey },
  { title: "Why keep it?", place: ".tokens", tell: whyKeepIt },
  { title: "What the left side keeps", place: ".panel.left .cache", tell: whatLeftKeeps },
  { title: "Where the latent comes from", place: ".inside", phase: "project", tell: whereFrom },
  { title: "The absorbed score", place: ".inside", phase: "score", tell: absorbedScore },
  { title: "The same number?", place: ".inside", phase: "softmax", tell: sameNumber },
  { title: "The price in FLOPs", place: ".panel.right .ledger", tell: priceInFlops },
  { title: "RoPE's own key", place: ".panel.right .cache", tell: ropeKey },
  { title: "The sliders", place: ".panel.right .head", tell: theSliders },
  { title: "What it costs in loss", place: ".next", tell: costInLoss },
];

/** A step with enough tokens to look back at, and few enough to tell apart. */
const GOOD_STEP = 9;
const LEAST_STEP = 2;

/**
 * Where a stop stands: at this step, layer and head, or at the nearest whose vectors there are.
 * @type {(sight: Sight, stop: number) => Partial<Position>}
 */
export function positionOf({ run, step, layer }, stop) {
  const { phase } = STOPS[stop];
  const { steps, first, n_layers: nLayers } = run.left.vectors;
  const kept = [...steps.data];
  const good = kept.filter((one) => one <= GOOD_STEP).at(-1) ?? kept[0];
  const inside = phase ? { inside: true, at: PHASES.indexOf(phase), phasing: false } : {};
  return {
    step: step >= LEAST_STEP && kept.includes(step) ? step : good,
    layer: layer >= first && layer < first + nLayers ? layer : first,
    playing: false,
    ...inside,
  };
}

/**
 * The question of a stop, its choices, which of them is right, and why.
 * @type {(sight: Sight, stop: number) => Told}
 */
export function tellStop(sight, stop) {
  return STOPS[stop].tell(sight);
}

/**
 * Three numbers at most, the right one among them, in their order.
 * @type {(right: number, others: number[]) => Pick<Told, "choices" | "right">}
 */
function among(right, others) {
  const numbers = [...new Set([right, ...others])].slice(0, 3);
  if (numbers.length === 1) numbers.push(2 * right || 1);
  numbers.sort((one, other) => one - other);
  return { choices: numbers.map(grouped), right: numbers.indexOf(right) };
}

/** @type {(number: number) => string} */
function grouped(number) {
  return number.toLocaleString("en");
}

/** @type {(run: Run, name: SideName) => Named} */
function named(run, name) {
  const [left, right] = shortNames(run);
  return name === "left"
    ? { side: run.left, name: left, other: right }
    : { side: run.right, name: right, other: left };
}

/**
 * The right side where it is of this kind, the left one where only that is.
 * @type {(run: Run, kind: (side: Side) => boolean) => Named | null}
 */
function findSide(run, kind) {
  const name = kind(run.right) ? "right" : kind(run.left) ? "left" : null;
  return name && named(run, name);
}

/** @type {(side: Side) => boolean} */
const hasLatent = ({ dims }) => dims.latent > 0;
/** @type {(side: Side) => boolean} */
const absorbs = ({ mechanism }) => ABSORBING.includes(mechanism);
/** @type {(side: Side) => boolean} */
const keepsLatents = ({ mechanism }) => [...EXPANDING, ...ABSORBING].includes(mechanism);
/** @type {(side: Side) => boolean} RoPE stands between the latent and its keys. */
const turnsAfter = ({ mechanism }) => mechanism === "gqa_latent";

/**
 * The left side's weights at a step, layer and head.
 * @type {(sight: Sight) => { weights: ArrayLike<number>, best: number, scale: number }}
 */
function weightsOf(sight) {
  const { run, step, layer } = sight;
  const { attention } = run.left;
  const head = Math.min(sight.head, run.left.n_heads - 1);
  const weights = attention.stored(attention.before(step), layer, head);
  return { weights, best: peakOf(weights, 0, weights.length), scale: attention.scale(1) };
}

/** @type {(sight: Sight) => Told} */
function whatIsAKey(sight) {
  const { run, step, layer, head } = sight;
  const { weights, best, scale } = weightsOf(sight);
  const least = Array.from(weights).reduce((low, weight, key) => (weight <= weights[low] ? key : low), 0);
  const keys = [...new Set([best, least])].sort((one, other) => one - other);
  return {
    question: `Step ${step + 1} feeds token ${tokenWords(run, step)}. Its query is multiplied with the key of every token so far, and the larger the product, the more of that token is mixed in. Which key fits best, in layer ${layer + 1}, head ${head + 1}?`,
    choices: [...keys.map((key) => `that of token ${tokenWords(run, key)}`), "that of a token still to come"],
    right: keys.indexOf(best),
    because: `Token ${tokenWords(run, best)} gets ${probabilityText(weights[best] * scale)} of the weight. A key is what a token can be found by: a vector made once, which the query of every later token meets. Tokens still to come have none yet.`,
  };
}

/** @type {(sight: Sight) => Told} */
function whyKeepIt({ run, step }) {
  const tokens = step + 1;
  const sum = (tokens * (tokens + 1)) / 2;
  const again = findSide(run, ({ mechanism }) => mechanism === "recompute");
  const costs = again
    ? ` ${capitalised(again.name)} does just that: ${flopsAt(again.side, step)} in this layer at this step, ${flopsAt(again.side, 0)} at the first.`
    : "";
  return {
    question: `The keys and values of earlier tokens never change. If none were kept, of how many tokens would step ${tokens} have to make them?`,
    ...among(tokens, [1, sum]),
    because: `Of all ${tokens}, and over all steps so far ${grouped(sum)} times instead of ${tokens}. So they are kept: memory is spent to save work.${costs}`,
  };
}

/** @type {(sight: Sight) => Told} */
function whatLeftKeeps({ run, step }) {
  const { side, name } = named(run, "left");
  const { segments, cache_elems: kept, elem_bytes: each, layers } = side;
  return {
    question: `How many numbers does ${name} keep of one token, in one layer?`,
    ...among(kept, [segments[0]?.elems ?? side.dims.d_model, side.dims.d_model, run.right.cache_elems]),
    because: kept
      ? `${capitalised(segmentWords(side))}: ${grouped(kept)} numbers of ${plural(each, "byte")}, in ${layers.length > 1 ? "this one" : "each"} of ${plural(run.n_layers, "layer")}. After ${plural(step + 1, "token")} all layers hold ${bytesText(side.cache_bytes.at(step))}.`
      : `None: ${name} keeps nothing, and makes every key and value anew at each step.`,
  };
}

/**
 * "8 heads, each with 48 of k and 32 of v"; "32 of latent c_KV and 16 of rope key k_R".
 * @type {(side: Side) => string}
 */
function segmentWords({ segments }) {
  const [first] = segments;
  /** @type {(parts: { label: string, elems: number }[]) => string} */
  const listed = (parts) => parts.map(({ label, elems }) => `${elems} of ${label}`).join(" and ");
  if (first.parts.length === 0) return listed(segments);
  return `${plural(segments.length, "head")}, each with ${listed(first.parts)}`;
}

/** @type {(sight: Sight) => Told} */
function whereFrom({ run }) {
  const found = findSide(run, keepsLatents) ?? findSide(run, hasLatent);
  if (!found) {
    const { side, name } = named(run, "right");
    const { d_model: width, kv_heads: heads, qk, v } = side.dims;
    return {
      question: `Neither model has a latent. ${capitalised(name)}'s x has ${width} numbers: how many do W_K and W_V make of it for the cache?`,
      ...among(heads * (qk + v), [width, qk + v]),
      because: `A key of ${qk} and a value of ${v} for each of ${plural(heads, "key/value head")}. MLA would make one narrow latent of x instead, from which all heads' keys and values follow.`,
    };
  }
  const { side } = found;
  const { d_model: width, latent, qk, v } = side.dims;
  const heads = side.n_heads === 1 ? "its one head" : `all ${side.n_heads} heads`;
  return {
    question: `x, the layer's input, has ${width} numbers. How many are left in the latent, of which the content of every key and value is made, for ${heads}?`,
    ...among(latent, [width, qk + v]),
    because: `W_DKV, fixed at training, makes ${latent} numbers of x: the latent c_KV. W_UK and W_UV can make the key and value of any head of it, so one latent serves ${heads}.`,
  };
}

/** @type {(sight: Sight) => Told} */
function absorbedScore({ run }) {
  const absorbing = findSide(run, absorbs);
  if (absorbing) {
    const { side, name } = absorbing;
    const { qk, rope, latent, d_model: width } = side.dims;
    const merged = side.mechanism === "mla_merged";
    return {
      question: `${capitalised(name)} makes no key from the latent: W_UK is multiplied with the query instead, and the query meets the cached row itself. How many numbers long must each head's query be?`,
      ...among(latent + rope, [qk, latent, width]),
      because: `${latent + rope}, as long as a cached row: ${latent} for the latent${rope ? `, ${rope} for the rope key` : ""}. It ${merged ? `comes from x in one product, since W_UQ·W_UKᵀ was multiplied ahead` : `was ${qk} before W_UK`}. Where the brackets stand changes nothing: (q·W_UKᵀ)·c = q·(W_UK·c). Not one key is rebuilt.`,
    };
  }
  const { side, name } = findSide(run, hasLatent) ?? named(run, "right");
  const { qk, rope, latent, d_model: width } = side.dims;
  return {
    question: `No side absorbs here. How many numbers long is each head's query in ${name}?`,
    ...among(qk, [latent ? latent + rope : 2 * qk, width]),
    because: turnsAfter(side)
      ? `${qk}, as long as a key, which must first be made of the latent and then turned. A rotation that differs from token to token stands between W_UK and the query, so W_UK cannot be absorbed.`
      : latent
        ? `${qk}, as long as a key, which must first be made of the latent. Absorbed, W_UK would go to the query, which would then have ${latent + rope} numbers and meet the cached rows themselves: choose it in the sidebar.`
        : `${qk}, as long as a key. There is no W_UK that could be absorbed: that takes a latent. Choose absorbed in the sidebar to see it.`,
  };
}

/** @type {(sight: Sight) => Told} */
function sameNumber(sight) {
  const { run, step, layer, head } = sight;
  const { best } = weightsOf(sight);
  const [leftName, rightName] = shortNames(run);
  const [left, right] = SIDES.map((name) => laneAt(run, name, { step, layer, head })?.scores ?? []);
  const largest = Math.max(...Array.from(left, Math.abs));
  const gap = run.cut
    ? Math.max(...Array.from(left, (score, key) => Math.abs(score - right[key])))
    : run.gaps?.scores.part(run.left.attention.before(step), layer).subarray(head)[0];
  const same = gap === undefined ? left[best] === right[best] : !isApart(gap, largest, run.dtype);
  const figures = `${capitalised(leftName)} ${figureText(left[best])}, ${rightName} ${figureText(right[best])}`;
  return {
    question: `This head's score of token ${tokenWords(run, best)} is ${figureText(left[best])} on the left, in ${leftName}. What is it in ${rightName}, on the right?`,
    choices: ["smaller", "the same, but for rounding", "larger"],
    right: same ? 1 : left[best] > right[best] ? 0 : 2,
    because:
      gap === undefined
        ? `${figures}: two models with weights of their own. Their scores have nothing to do with one another.`
        : `${figures}. Over all tokens so far this head's scores differ by ${differenceText(gap)} at most${whyApart(run, same)}.`,
  };
}

/** @type {(run: Run, same: boolean) => string} */
function whyApart({ left, right, cut, dtype }, same) {
  const { kept } = right;
  if (cut && !cut.whole) {
    const [least, most] = [left.cache_elems, right.cache_elems].sort((a, b) => a - b).map(grouped);
    return cut.decoupled
      ? ": one model, but with RoPE decoupled some of its keys know no position"
      : `: one model, but ${least} numbers of ${most} are kept, and keys are made of what is left`;
  }
  if (kept) return `, because the right cache is rounded to ${kept.name}: unrounded, both sides would agree`;
  return same
    ? `: the same products in another order, rounded in ${dtype}`
    : ", which is more than rounding makes";
}

/** @type {(side: Side, step: number) => string} */
function flopsAt(side, step) {
  return flopsText(sumOf(side, "flops", step));
}

/** @type {(side: Side, what: "flops" | "bytes_read", step: number) => number} */
function sumOf({ operations }, what, step) {
  return operations.reduce((sum, operation) => sum + operation[what].at(step), 0);
}

/** @type {(sight: Sight) => Told} */
function priceInFlops({ run, step, layer }) {
  const [leftName, rightName] = shortNames(run);
  const [left, right] = SIDES.map((name) => sumOf(run[name], "flops", step));
  const { relation, times } = compare(right, left);
  const held = {
    same: "the same",
    less: `${timesText(times)} times less`,
    more: `${timesText(times)} times more`,
    all: "all of it",
  };
  const last = run.n_steps - 1;
  /** @type {(side: Side) => string} */
  const growth = (side) => {
    const [flops, read] = /** @type {const} */ (["flops", "bytes_read"]).map(
      (what) => (sumOf(side, what, last) - sumOf(side, what, 0)) / last,
    );
    return `${flopsText(flops)} and ${bytesText(read)} to read`;
  };
  const grows = last
    ? ` On average each further token adds ${growth(run.left)} to every step of ${leftName}, ${growth(run.right)} to those of ${rightName}.`
    : "";
  return {
    question: `Which side takes more FLOPs in layer ${layer + 1} at this step?`,
    choices: [leftName, "both the same", rightName],
    right: left > right ? 0 : left === right ? 1 : 2,
    because: `${capitalised(leftName)} ${flopsText(left)}, ${rightName} ${flopsText(right)}: ${held[relation]}.${grows}`,
  };
}

/** @type {(sight: Sight) => Told} */
function ropeKey({ run }) {
  const { side, name } = named(run, "right");
  const { rope, latent, kv_heads: kvHeads } = side.dims;
  const own = "A rotation by place stands between W_UK and the query, so W_UK cannot be absorbed past it";
  const heads = latent ? side.n_heads : kvHeads;
  if (turnsAfter(side)) {
    return {
      question: `RoPE tells places apart by rotating numbers of queries and keys. How many rotated numbers does ${name} keep of one token, in one layer?`,
      ...among(0, [side.dims.qk, side.cache_elems]),
      because: `None: its ${latent} numbers are kept unrotated, and every key is rotated anew at each step. ${own}: MLA gives RoPE a key of its own for that.`,
    };
  }
  const kept = side.cache_elems === 0 ? 0 : keepsLatents(side) ? rope : rope * heads;
  const told = keepsLatents(side)
    ? `${capitalised(plural(rope, "number"))}, one rope key for all heads, beside the latent's ${latent}: ${side.cache_elems} in all.`
    : `${kept} in ${plural(heads, "head")}, ${rope} in each.`;
  const words = rope
    ? side.cache_elems
      ? told
      : `None: ${name} keeps nothing, and rotates ${rope} numbers of every key anew.`
    : "None: these weights rotate nothing.";
  return {
    question: `RoPE tells places apart by rotating numbers of queries and keys. How many rotated numbers does ${name} keep of one token, in one layer?`,
    ...among(kept, [rope, rope * heads, side.cache_elems]),
    because: latent
      ? `${words} ${own}: MLA leaves the latent unrotated and gives RoPE a key of its own.`
      : `${words} Without a latent there is nothing to absorb, and RoPE may rotate every key.`,
  };
}

/**
 * What a side would cache for a token and layer with twice its heads.
 * @type {(side: Side) => number}
 */
export function withTwiceTheHeads({ mechanism, dims, cache_elems: kept }) {
  return mechanism === "mla_expanded" || !dims.latent ? 2 * kept : kept;
}

/**
 * What a side would cache for a token and layer with twice its latent dim.
 * @type {(side: Side) => number}
 */
export function withTwiceTheLatent(side) {
  return keepsLatents(side) ? side.cache_elems + side.dims.latent : side.cache_elems;
}

/** @type {(sight: Sight) => Told} */
function theSliders({ run }) {
  const { side, name, other } = named(run, "right");
  const kept = side.cache_elems;
  const heads = hasLatent(side) ? "heads" : "key/value heads";
  /** @type {(name: string, side: Side, twice: (side: Side) => number) => string} */
  const turned = (name, side, twice) => {
    const to = twice(side);
    return `${name} ${side.cache_elems === to ? `stays at ${grouped(to)}` : `goes from ${grouped(side.cache_elems)} to ${grouped(to)}`}`;
  };
  /** @type {(twice: (side: Side) => number) => string} */
  const both = (twice) => `${turned(name, side, twice)}, ${turned(other, run.left, twice)}`;
  const latent = run.left.dims.latent || run.right.dims.latent;
  return {
    question: `With twice the ${heads}, how many numbers would ${name} keep of one token, in one layer? It keeps ${grouped(kept)} now.`,
    ...among(withTwiceTheHeads(side), [kept, 2 * kept, withTwiceTheLatent(side)]),
    because: `Twice the heads: ${both(withTwiceTheHeads)}.${latent ? ` Twice the latent dim: ${both(withTwiceTheLatent)}. Move the sliders and see.` : ""}`,
  };
}

/** @type {(sight: Sight) => Told} */
function costInLoss({ run, step }) {
  const { loss } = run;
  if (!loss) return surprise(run, step);
  const { here, full, apart, setting, full_setting: fullSetting } = loss;
  const more = here - full;
  const marks = [apart, 0.25, 1];
  const right = marks.findIndex((mark) => more < mark);
  return {
    question: `A smaller cache may cost quality. At its full size, ${fullSetting}, this model's loss is ${full.toFixed(3)} nats a token: on average it gives the right token e^−${full.toFixed(2)}, ${probabilityText(Math.exp(-full))}. How much larger is the loss at ${setting}?`,
    choices: [
      `no more than chance makes (${apart})`,
      `up to ${marks[1]} nats`,
      `up to ${marks[2]} nat`,
      "more than that",
    ],
    right: right < 0 ? marks.length : right,
    because: `${here.toFixed(3)} nats a token, ${figureText(more)} more, measured on ${grouped(loss.tokens)} tokens of ${grouped(loss.stories)} stories that the model had not read${run.right.kept ? `, with no cache in ${run.right.kept.name}` : ""}. The map below the player shows every setting, the Quality page other models.`,
  };
}

/**
 * Where no loss was measured: what a nat is, by the likeliest next token.
 * @type {(run: Run, step: number) => Told}
 */
function surprise(run, step) {
  const { left } = run;
  const best = chooses(run) ? left.top.probs.at(step, 0) : 0.1;
  const nats = -Math.log(best);
  const marks = [0.7, 2.3, 4.6];
  const right = marks.findIndex((mark) => nats < mark);
  return {
    question: `Loss is counted in nats: a token to which the model gave the share p costs −ln p. ${chooses(run) ? `What would the likeliest next token of ${left.short} cost at this step?` : `This layer alone chooses none: what does one cost that got ${probabilityText(best)}?`}`,
    choices: marks.map((mark) => `less than ${mark} nats`).concat("more than that"),
    right: right < 0 ? marks.length : right,
    because: `It got ${probabilityText(best)}, and so costs ${nats.toFixed(2)} nats. A loss is the mean of such costs over a text; the Quality page has those of a family of models, side by side.`,
  };
}
