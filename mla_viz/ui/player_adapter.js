// Shows the player inside Streamlit. The bundle before this text leaves it in `mlaVizPlayer`.

/** @typedef {ReturnType<typeof mlaVizPlayer.mount>} Player */
/** @typedef {{ root: HTMLElement, player: Player, end: () => void, latest?: Component }} Shown */
/**
 * @typedef {object} Component
 * @property {Uint8Array<ArrayBuffer>} [data]
 * @property {HTMLElement | ShadowRoot} parentElement
 * @property {(name: string, value: unknown) => void} setStateValue
 */

/** Streamlit drops what a component says while it is mounted. */
const MOUNTED_MS = 300;

/** @type {WeakMap<HTMLElement | ShadowRoot, Shown>} */
const shown = new WeakMap();

/**
 * Streamlit calls this at mount and whenever data or theme change; what it returns ends the latest call.
 * @param {Component} component
 */
export default function (component) {
  const { data, parentElement } = component;
  const entry = shownIn(parentElement);
  entry.latest = component;
  if (data) entry.player.load(data);
  entry.player.recolour();
  return () => {
    if (entry.latest !== component || shown.get(parentElement) !== entry) return;
    entry.end();
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
  known?.end();
  const player = mlaVizPlayer.mount(root, {
    want: (rest) => setTimeout(() => entry.latest?.setStateValue("wanted", rest), MOUNTED_MS),
  });
  /** The rest of a run comes by a component of its own, so that the run need not travel again. */
  const add = (/** @type {Event} */ event) => player.addRest(/** @type {CustomEvent} */ (event).detail);
  window.addEventListener("mla-rest", add);
  /** @type {Shown} */
  const entry = {
    root,
    player,
    end: () => {
      window.removeEventListener("mla-rest", add);
      player.destroy();
    },
  };
  shown.set(place, entry);
  return entry;
}
