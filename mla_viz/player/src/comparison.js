// How one number of bytes compares with another. It knows numbers; it does not know where they are shown.

/** @typedef {{ relation: "same" | "all" | "less" | "more", times: number }} Comparison */

/**
 * {relation: "less", times: 8}; `bytes` is above zero, the baseline may be nothing at all.
 * @type {(bytes: number, baseline: number) => Comparison}
 */
export function compare(bytes, baseline) {
  if (bytes === baseline) return { relation: "same", times: 1 };
  if (baseline === 0) return { relation: "all", times: Infinity };
  return bytes < baseline
    ? { relation: "less", times: baseline / bytes }
    : { relation: "more", times: bytes / baseline };
}

/**
 * "1.05", "8.0", "133": as many digits as tell it from 1 and no more.
 * @type {(times: number) => string}
 */
export function timesText(times) {
  return times.toFixed(times < 1.095 ? 2 : times < 99.95 ? 1 : 0);
}

/**
 * ", 8.0 times less", for a sentence; nothing where one side has no cache to compare.
 * @type {(bytes: number, baseline: number) => string}
 */
export function comparedWords(bytes, baseline) {
  if (bytes === 0 || baseline === 0) return "";
  const { relation, times } = compare(bytes, baseline);
  return relation === "same" ? ", the same" : `, ${timesText(times)} times ${relation}`;
}
