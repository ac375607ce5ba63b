// Round numbers for the axes of a chart, and names beside lines pushed apart. It knows numbers only.

/**
 * Round byte amounts up to the highest: powers of two, at most six, on a log scale, 1-2-5 steps else.
 * @type {(axis: { highest: number, lowest: number, log: boolean }) => number[]}
 */
export function byteTicks({ highest, lowest, log }) {
  if (log) {
    const every = 2 ** Math.max(1, Math.ceil(Math.log2(highest / lowest) / 5));
    const ticks = [2 ** Math.ceil(Math.log2(lowest))];
    while (ticks[ticks.length - 1] * every <= highest) ticks.push(ticks[ticks.length - 1] * every);
    return ticks;
  }
  const unit = 1024 ** Math.floor(Math.log(highest) / Math.log(1024));
  const size = roundStep(highest / unit / 4);
  return Array.from({ length: Math.floor(highest / unit / size) + 1 }, (_, index) => index * size * unit);
}

/**
 * Round numbers of tokens up to the last, at least 70 pixels apart.
 * @type {(nSteps: number, width: number) => number[]}
 */
export function tokenTicks(nSteps, width) {
  const every = roundStep(Math.max(1, (nSteps * 70) / width));
  return Array.from({ length: Math.floor(nSteps / every) }, (_, index) => (index + 1) * every);
}

/**
 * The next of 1, 2, 5, 10, 20, 50 ...
 * @type {(rough: number) => number}
 */
function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough) ?? 10 * power;
}

/**
 * Heights for names that would stand at `ends`, in order: `apart` from one another, within the bounds.
 * @type {(ends: number[], top: number, bottom: number, apart: number) => number[]}
 */
export function spread(ends, top, bottom, apart) {
  /** @type {number[]} */
  const heights = [];
  for (const end of ends)
    heights.push(Math.max(end, heights.length ? heights[heights.length - 1] + apart : top));
  for (let index = heights.length - 1; index >= 0; index -= 1) {
    const limit = index === heights.length - 1 ? bottom : heights[index + 1] - apart;
    heights[index] = Math.min(heights[index], limit);
  }
  return heights;
}
