// Places on a page and the keys that go from one to the next. It knows corners; it does not know what is there.

/** @typedef {Pick<DOMRect, "left" | "top">} Corner */
/** @type {Record<string, (dx: number, dy: number) => [along: number, aside: number]>} */
const WAYS = {
  ArrowLeft: (dx, dy) => [-dx, Math.abs(dy)],
  ArrowRight: (dx, dy) => [dx, Math.abs(dy)],
  ArrowUp: (dx, dy) => [-dy, Math.abs(dx)],
  ArrowDown: (dx, dy) => [dy, Math.abs(dx)],
};
const ASIDE = 4; // a pixel aside counts as much as these along: what is in line comes first

/**
 * Which of these lies nearest, the way that a key says; itself where there is none; null for other keys.
 * @type {(places: Corner[], from: number, key: string) => number | null}
 */
export function nearestThatWay(places, from, key) {
  const { left, top } = places[from];
  if (key === "Home" || key === "End") {
    const line = places.flatMap((place, at) =>
      Math.abs(place.top - top) < 2 ? { at, left: place.left } : [],
    );
    line.sort((one, other) => one.left - other.left);
    return line.at(key === "Home" ? 0 : -1)?.at ?? from;
  }
  const way = WAYS[key];
  if (!way) return null;
  let [best, least] = [from, Number.POSITIVE_INFINITY];
  places.forEach((place, at) => {
    const [along, aside] = way(place.left - left, place.top - top);
    const far = along + ASIDE * aside;
    if (along > 1 && aside < 2 * along + 40 && far < least) [best, least] = [at, far];
  });
  return best;
}
