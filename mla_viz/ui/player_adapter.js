// Shows the player inside Streamlit. The bundle before this text leaves it in `mlaVizPlayer`.

/** @typedef {ReturnType<typeof mlaVizPlayer.mount>} Player */
/** @typedef {{ root: HTMLElement, player: Player, latest?: Component }} Shown */
/** @typedef {{ data?: Uint8Array<ArrayBuffer>, parentElement: HTMLElement | ShadowRoot }} Component */

/** @type {WeakMap<HTMLElement | ShadowRoot, Shown>} */
const shown = new WeakMap();

/**
 * Streamlit calls this at mount and whenever data or theme change; what it returns ends the latest call.
 * @param {Component} component
 */
export default function (component) {
  const { data, parentElement } = component;
  const entry = shownIn(parentElement);
  if (data) entry.player.load(data);
  entry.player.recolour();
  entry.latest = component;
  return () => {
    if (entry.latest !== component || shown.get(parentElement) !== entry) return;
    entry.player.destroy();
    shown.delete(parentElement);
  };
}

/**
 * The player of a place on the page, mounted anew where Streamlit has put another page there.
 * @type {(place: HTMLElement | ShadowRoot) => Shown}
 */
function shownIn(place) {
  const root = place.querySelector(".player");
  if (!(root instanceof HTMLElement)) throw new Error("the player's page is not there");
  const known = shown.get(place);
  if (known?.root === root) return known;
  known?.player.destroy();
  const entry = { root, player: mlaVizPlayer.mount(root) };
  shown.set(place, entry);
  return entry;
}
