// The picture of a step, laid out: strips, cached rows and bars of both sides, what leads from one to the
// next, and where both are equal. It knows sizes and places in CSS pixels; it draws nothing.

import { ABSORBING, EXPANDING, rowOf } from "./lane.js";
import { SATURATION } from "./theme.js";

/** @import { Lane, Matrix, Numbers } from "./lane.js" */
/** @import { Look } from "./looks.js" */
/** @import { Run, Side, SideName } from "./payload.js" */
/** @typedef {"x" | "made" | "moved" | "cache" | "mix" | "late" | "out"} Slot */
/**
 * @typedef {object} Item one strip, one block of rows, or one column of bars
 * @property {SideName} side
 * @property {string} id
 * @property {string} label
 * @property {string} [note] what becomes of it, in words, where its look is not enough
 * @property {Slot} slot
 * @property {Look} look
 * @property {string} scale items of one scale have one colour for one value
 * @property {number} phase
 * @property {number} from when in its phase it begins, 0 to 1
 * @property {number} to
 * @property {Matrix} matrix
 * @property {boolean} bars
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 * @property {number} rowHeight
 * @property {number} room its height at the last step
 */
/** @typedef {{ side: SideName, from: number, x: number, top: number, bottom: number, label: string, phase: number }} Arrow */
/** @typedef {{ name: string, label: string, y: number, phase: number }} Join */
/** @typedef {{ side: SideName, x: number, y: number, words: string }} Gap a place that one side leaves empty */
/** @typedef {{ lanes: Record<SideName, Lane>, items: Item[], arrows: Arrow[], joins: Join[], gaps: Gap[], scales: Map<string, number>, unit: number, text: number, height: number, middle: number, narrow: boolean }} Scene */
/** @typedef {Omit<Item, "side" | "x" | "y" | "width" | "height" | "rowHeight" | "room" | "bars" | "from" | "to"> & Partial<Pick<Item, "from" | "to" | "bars">> & { at: number | "right" }} Plan */
/** @typedef {{ from: string, to: string, label: string }} Lead */
/** @typedef {{ plans: Plan[], leads: Lead[] }} Drawing */

export const MIDDLE = 124;
const PAD = 14;
const BARS = 132;
const STRIP = 12;
const SLOT = 62;
const BLOCK = 236;
const TALLEST_ROW = 9;
const GAP = 2; // elements between two blocks
const FOOT = 22;
/** @type {Slot[]} */
const SLOTS = ["x", "made", "moved", "cache", "mix", "late", "out"];

/**
 * The scene of both lanes, `width` pixels wide; one under the other where that is narrow.
 * @type {(run: Run, lanes: Record<SideName, Lane>, head: number, width: number) => Scene}
 */
export function sceneOf(run, lanes, head, width) {
  const narrow = width < 760;
  const inner = (narrow ? width : (width - MIDDLE) / 2) - 2 * PAD;
  const drawings = {
    left: drawingOf(run.left, lanes.left, head),
    right: drawingOf(run.right, lanes.right, head),
  };
  const plans = [...drawings.left.plans, ...drawings.right.plans];
  const unit = Math.min(
    inner / Math.max(...Object.values(drawings).map(widest)),
    (inner - BARS) / Math.max(...Object.values(drawings).map(blockElems)),
  );
  const rowHeight = Math.min(TALLEST_ROW, BLOCK / run.n_steps);
  const used = SLOTS.filter((slot) => plans.some((plan) => plan.slot === slot));
  const room = run.n_steps * rowHeight;
  const tops = slotTops(used, room);
  const laneHeight = tops.end;
  /** @type {Scene} */
  const scene = {
    lanes,
    items: [],
    arrows: [],
    joins: [],
    gaps: [],
    scales: scalesOf(plans),
    unit,
    text: Math.max(1, Math.min(1.35, inner / 430)),
    height: narrow ? 2 * laneHeight + 20 : laneHeight,
    middle: inner + 2 * PAD + MIDDLE / 2,
    narrow,
  };
  for (const [side, drawing] of /** @type {[SideName, Drawing][]} */ (Object.entries(drawings))) {
    const left = PAD + (side === "right" && !narrow ? inner + 2 * PAD + MIDDLE : 0);
    const top = side === "right" && narrow ? laneHeight + 20 : 0;
    const items = drawing.plans.map((plan) =>
      place(plan, { side, left, top, inner, unit, rowHeight, room, tops }),
    );
    scene.items.push(...items);
    scene.arrows.push(...drawing.leads.flatMap((lead) => arrowOf(lead, items)));
    scene.gaps.push(...gapsOf(side, items, plans, top + tops.moved + 26));
  }
  scene.joins.push(...joinsOf(scene, run));
  return scene;
}

/**
 * Where a side's lane ends at the right.
 * @type {(scene: Pick<Scene, "middle" | "narrow">, side: SideName) => number}
 */
export function laneEnd({ middle, narrow }, side) {
  const width = middle - MIDDLE / 2;
  return side === "right" && !narrow ? 2 * width + MIDDLE : width;
}

/** @type {(slots: Slot[], block: number) => Record<string, number>} */
function slotTops(slots, block) {
  /** @type {Record<string, number>} */
  const tops = {};
  let y = 0;
  for (const slot of slots) {
    tops[slot] = y;
    y += slot === "cache" ? block + FOOT + SLOT - STRIP : SLOT;
  }
  tops.end = y - 26;
  return tops;
}

/** @type {(drawing: Drawing) => number} */
function widest({ plans }) {
  const widths = SLOTS.filter((slot) => slot !== "cache").map((slot) => {
    const here = plans.filter((plan) => plan.slot === slot);
    return here.reduce((sum, { matrix }) => sum + matrix.width, GAP * 4 * Math.max(0, here.length - 1));
  });
  return Math.max(...widths);
}

/** @type {(drawing: Drawing) => number} */
function blockElems({ plans }) {
  return Math.max(
    ...plans
      .filter(({ slot, bars }) => slot === "cache" && !bars)
      .map(({ at, matrix }) => Number(at) + matrix.width),
  );
}

/**
 * The value of the full colour of each scale: three times the root mean square, so that one large value does not
 * pale all others; of bars the largest.
 * @type {(plans: Plan[]) => Map<string, number>}
 */
function scalesOf(plans) {
  const scales = new Map();
  for (const scale of new Set(plans.map((plan) => plan.scale))) {
    const all = plans.filter((plan) => plan.scale === scale);
    let [largest, squares, count] = [0, 0, 0];
    for (const { matrix } of all) {
      for (const value of matrix.data) {
        largest = Math.max(largest, Math.abs(value));
        squares += value * value;
      }
      count += matrix.data.length;
    }
    scales.set(scale, all[0].bars ? largest : Math.min(largest, SATURATION * Math.sqrt(squares / count)));
  }
  return scales;
}

/**
 * @typedef {object} Room
 * @property {SideName} side
 * @property {number} left
 * @property {number} top
 * @property {number} inner
 * @property {number} unit
 * @property {number} rowHeight
 * @property {number} room
 * @property {Record<string, number>} tops
 */
/** @type {(plan: Plan, room: Room) => Item} */
function place(plan, { side, left, top, inner, unit, rowHeight, room, tops }) {
  const { at, matrix, bars = false, from = 0, to = 1, ...rest } = plan;
  const block = plan.slot === "cache";
  const width = bars ? BARS / 2 - 8 : matrix.width * unit;
  const x = at === "right" ? left + inner - width : bars ? left + inner - BARS + at : left + at * unit;
  return {
    ...rest,
    matrix,
    bars,
    from,
    to,
    side,
    x,
    y: top + tops[plan.slot] + 20,
    width,
    height: block ? matrix.rows * rowHeight : STRIP,
    rowHeight: block ? rowHeight : STRIP,
    room: block ? room : STRIP,
  };
}

/** @type {(lead: Lead, items: Item[]) => Arrow[]} */
function arrowOf({ from, to, label }, items) {
  const [source, target] = [from, to].map((id) => items.find((item) => item.id === id));
  if (!source || !target) return [];
  const inset = Math.min(10, target.width / 2, source.width / 2);
  const x = Math.max(source.x, target.x) + inset;
  return [
    {
      side: target.side,
      from: Math.min(x, source.x + source.width - inset),
      x,
      top: source.y + source.room + (source.slot === "cache" ? FOOT : 2),
      bottom: target.y - 17,
      label,
      phase: target.phase,
    },
  ];
}

/**
 * Where the other side makes a key and a value and this one makes nothing.
 * @type {(side: SideName, items: Item[], plans: Plan[], y: number) => Gap[]}
 */
function gapsOf(side, items, plans, y) {
  const makes = (/** @type {Pick<Item, "slot" | "id">} */ { slot, id }) => slot === "moved" && id === "k";
  const latent = items.find(({ id }) => id === "latent");
  if (!latent || !plans.some(makes) || items.some(makes)) return [];
  return [{ side, x: latent.x + 22, y, words: "nothing to expand" }];
}

/**
 * Where both lanes hold the same numbers.
 * @type {(scene: Scene, run: Run) => Join[]}
 */
function joinsOf({ items, narrow }, { gaps }) {
  if (!gaps) return [];
  const names = {
    x: "x",
    q: "q",
    latents: "latent",
    scores: "scores",
    probs: "probs",
    o_head: "o",
    out: "out",
  };
  return Object.entries(names).flatMap(([name, id]) => {
    const [one, other] = items.filter((item) => item.id === id);
    if (!one || !other || !gaps[/** @type {keyof typeof gaps} */ (name)]) return [];
    const offset = { latents: -12, q: 12, scores: 20, probs: 48 }[name] ?? 0;
    return [
      { name, label: LABELS[id] ?? id, y: (narrow ? other.y : one.y) + 6 + offset, phase: other.phase },
    ];
  });
}

/** @type {Record<string, string>} */
const LABELS = { latent: "c_KV", probs: "weights" };

/** @type {(data: Numbers | null) => Matrix} */
function strip(data) {
  const all = data ?? new Float32Array(0);
  return { data: all, rows: 1, width: all.length };
}

/** @type {(data: Numbers) => Matrix} */
function column(data) {
  return { data, rows: data.length, width: 1 };
}

/**
 * What a side draws, from top to bottom, and what leads where.
 * @type {(side: Side, lane: Lane, head: number) => Drawing}
 */
function drawingOf(side, lane, head) {
  const own = side.dims.latent === 0;
  const absorbs = ABSORBING.includes(side.mechanism);
  const made = own ? madeByOwnWeights(lane) : madeOfLatent(side, lane);
  const cache = absorbs ? latentCache(side, lane) : headCache(side, lane, head);
  const values = absorbs ? 0 : Number(cache.plans.at(-1)?.at);
  const parts = [
    made,
    absorbs ? movedQuery(side, lane) : none,
    cache,
    bars(side, lane),
    output(side, lane, values),
  ];
  const plans = parts.flatMap((part) => part.plans);
  return { plans, leads: parts.flatMap((part) => part.leads) };
}

/** @type {Drawing} */
const none = { plans: [], leads: [] };

/** @type {(lane: Lane) => Plan} */
function xOf({ x }) {
  return {
    id: "x",
    label: `x 1×${x.length}, the layer's input`,
    slot: "x",
    look: "passing",
    scale: "x",
    phase: 0,
    from: 0,
    to: 0.3,
    matrix: strip(x),
    at: 0,
  };
}

/** @type {(lane: Lane) => Drawing} */
function madeByOwnWeights(lane) {
  const { q, keys, values } = lane;
  const [k, v] = [keys, values].map((rows) => strip(rowOf(rows, rows.rows - 1)));
  return {
    plans: [
      xOf(lane),
      {
        id: "k",
        label: `k 1×${k.width}`,
        slot: "made",
        look: "cached",
        scale: "k",
        phase: 0,
        from: 0.35,
        matrix: k,
        at: 0,
      },
      {
        id: "v",
        label: `v 1×${v.width}`,
        slot: "made",
        look: "cached",
        scale: "v",
        phase: 0,
        from: 0.35,
        matrix: v,
        at: k.width + GAP,
      },
      queryPlan(q, "q"),
    ],
    leads: [
      { from: "x", to: "k", label: "W_K" },
      { from: "x", to: "v", label: "W_V" },
      { from: "x", to: "q", label: "W_Q" },
    ],
  };
}

/** @type {(q: Numbers | null, id: string) => Plan} */
function queryPlan(q, id) {
  const matrix = strip(q);
  return {
    id,
    label: `q 1×${matrix.width}`,
    slot: "made",
    look: "passing",
    scale: "q",
    phase: 0,
    from: 0.35,
    matrix,
    at: "right",
  };
}

/** @type {(side: Side, lane: Lane) => Drawing} */
function madeOfLatent({ mechanism, operations, dims }, lane) {
  const matrix = strip(lane.latent);
  const names = `c_KV | k_R 1×(${dims.latent}+${dims.rope})`;
  const compressed = operations.some(({ name }) => name === "compress query");
  const merged = mechanism === "mla_merged";
  const up = merged ? "W_UQ·W_UKᵀ, W_QR" : mechanism === "gqa_latent" ? "W_Q" : "W_UQ, W_QR";
  const query = merged
    ? { ...queryPlan(lane.query, "moved"), label: `q̃ | q_R 1×(${dims.latent}+${dims.rope})`, scale: "moved" }
    : queryPlan(lane.q, "q");
  return {
    plans: [
      xOf(lane),
      {
        id: "latent",
        label: dims.rope ? names : `c_KV 1×${dims.latent}`,
        slot: "made",
        look: mechanism === "mla_expanded" || mechanism === "recompute" ? "passing" : "cached",
        scale: "latent",
        phase: 0,
        from: 0.35,
        matrix,
        at: 0,
      },
      query,
    ],
    leads: [
      { from: "x", to: "latent", label: dims.rope ? "W_DKV, W_KR" : "W_DKV" },
      { from: "x", to: query.id, label: compressed ? `W_DQ, ${up}` : up },
    ],
  };
}

/** @type {(side: Side, lane: Lane) => Drawing} */
function movedQuery({ mechanism, dims }, { query }) {
  if (mechanism === "mla_merged") return { plans: [], leads: [{ from: "moved", to: "scores", label: "" }] };
  const label = `q̃ | q_R 1×(${dims.latent}+${dims.rope})`;
  return {
    plans: [
      {
        id: "moved",
        label,
        slot: "moved",
        look: "passing",
        scale: "moved",
        phase: 2,
        to: 0.35,
        matrix: strip(query),
        at: "right",
      },
    ],
    leads: [
      { from: "q", to: "moved", label: "W_UKᵀ" },
      { from: "moved", to: "scores", label: "" },
    ],
  };
}

/**
 * What the numbers of a cache in fewer bits are: those that are read back.
 * @type {(kept: Side["kept"]) => string}
 */
function readBack(kept) {
  return kept ? ` from ${kept.name}` : "";
}

/** @type {(side: Side, lane: Lane) => Drawing} */
function latentCache({ kept }, { keys }) {
  return {
    plans: [
      {
        id: "cache",
        label: kept ? `latents${readBack(kept)}` : "latents, for all heads",
        slot: "cache",
        look: "cached",
        scale: "latent",
        phase: 1,
        from: 0.6,
        matrix: keys,
        at: 0,
      },
    ],
    leads: [{ from: "latent", to: "cache", label: "" }],
  };
}

/**
 * Keys and values of a head: cached, or rebuilt from the cached latents, or made anew from nothing kept.
 * @type {(side: Side, lane: Lane, head: number) => Drawing}
 */
function headCache({ mechanism, dims, n_heads: nHeads, kept }, { latents, keys, values }, head) {
  const fromLatents = EXPANDING.includes(mechanism);
  const rebuilt = fromLatents || mechanism === "recompute";
  const of =
    dims.kv_heads && dims.kv_heads < nHeads
      ? `group ${Math.floor((head * dims.kv_heads) / nHeads) + 1}`
      : `head ${head + 1}`;
  const first = fromLatents && latents ? latents.width + 2 * GAP : 0;
  /** @type {Look} */
  const look = rebuilt ? "passing" : "cached";
  const from = fromLatents ? 0.4 : rebuilt ? 0 : 0.6;
  const [k, v] = [`K, ${of}`, rebuilt ? "V" : `V${readBack(kept)}`];
  /** @type {Plan[]} */
  const plans = [
    { id: "keys", label: k, slot: "cache", look, scale: "k", phase: 1, from, matrix: keys, at: first },
    {
      id: "values",
      label: v,
      slot: "cache",
      look,
      scale: "v",
      phase: 1,
      from,
      matrix: values,
      at: first + keys.width + GAP,
    },
  ];
  const queries = [{ from: "q", to: "scores", label: "" }];
  if (fromLatents && latents) {
    const cached = {
      id: "cache",
      label: `latents${readBack(kept)}`,
      slot: /** @type {Slot} */ ("cache"),
      look: /** @type {Look} */ ("cached"),
      scale: "latent",
      phase: 1,
      to: 0.4,
      matrix: latents,
      at: 0,
    };
    return { plans: [cached, ...plans], leads: [{ from: "latent", to: "cache", label: "" }, ...queries] };
  }
  if (mechanism !== "mla_expanded") {
    const ups =
      mechanism === "recompute"
        ? [{ from: "latent", to: "keys", label: "W_UK, W_UV, all tokens again" }]
        : [
            { from: "k", to: "keys", label: "" },
            { from: "v", to: "values", label: "" },
          ];
    return { plans, leads: [...ups, ...queries] };
  }
  const [newK, newV] = [keys, values].map((rows) => strip(rowOf(rows, rows.rows - 1)));
  return {
    plans: [
      {
        id: "k",
        label: `k 1×${newK.width}`,
        slot: "moved",
        look: "cached",
        scale: "k",
        phase: 1,
        to: 0.5,
        matrix: newK,
        at: 0,
      },
      {
        id: "v",
        label: `v 1×${newV.width}`,
        slot: "moved",
        look: "cached",
        scale: "v",
        phase: 1,
        to: 0.5,
        matrix: newV,
        at: keys.width + GAP,
      },
      ...plans,
    ],
    leads: [
      { from: "latent", to: "k", label: "W_UK" },
      { from: "latent", to: "v", label: "W_UV" },
      { from: "k", to: "keys", label: "" },
      { from: "v", to: "values", label: "" },
      ...queries,
    ],
  };
}

/** @type {(side: Side, lane: Lane) => Drawing} */
function bars(_, { scores, probs }) {
  return {
    plans: [
      {
        id: "scores",
        label: "score",
        slot: "cache",
        look: "passing",
        scale: "scores",
        phase: 2,
        from: 0.4,
        matrix: column(scores),
        at: 6,
        bars: true,
      },
      {
        id: "probs",
        label: "weight",
        slot: "cache",
        look: "passing",
        scale: "probs",
        phase: 3,
        matrix: column(probs),
        at: BARS / 2 + 8,
        bars: true,
      },
    ],
    leads: [],
  };
}

/** @type {(side: Side, lane: Lane, at: number) => Drawing} */
function output({ mechanism }, { mix, oHead, out }, at) {
  const absorbed = mechanism === "mla_absorbed";
  const merged = mechanism === "mla_merged";
  const last = merged ? "õ" : "o";
  const label = merged ? "W_UV·W_O, heads summed" : "W_O, heads summed";
  /** @type {Plan} */
  const mixPlan = {
    id: "o",
    label: `o 1×${mix.length}`,
    slot: "late",
    look: "passing",
    scale: "o",
    phase: 4,
    matrix: strip(mix),
    at,
  };
  /** @type {Plan} */
  const latentMix = { ...mixPlan, id: "õ", label: `õ 1×${mix.length}`, slot: "mix", scale: "õ", at: 0 };
  /** @type {Plan} */
  const late = {
    id: "o",
    label: `o 1×${oHead?.length}`,
    slot: "late",
    look: "passing",
    scale: "o",
    phase: 5,
    to: 0.45,
    matrix: strip(oHead),
    at: 0,
  };
  const mixes = absorbed ? [latentMix, late] : merged ? [latentMix] : [mixPlan];
  const source = mechanism === "mla_absorbed" || merged ? "cache" : "values";
  return {
    plans: [
      ...mixes,
      {
        id: "out",
        label: `out 1×${out.length}, all heads`,
        slot: "out",
        look: "passing",
        scale: "out",
        phase: 5,
        from: 0.5,
        matrix: strip(out),
        at: 0,
      },
    ],
    leads: [
      { from: source, to: mixes[0].id, label: "weights × rows" },
      ...(absorbed ? [{ from: "õ", to: "o", label: "W_UV" }] : []),
      { from: last, to: "out", label },
    ],
  };
}
