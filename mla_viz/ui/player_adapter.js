// Shows the player inside Streamlit. The bundle before this text leaves it in `mlaVizPlayer`.

const shown = new WeakMap();

/** Streamlit calls this at mount and whenever data or theme change; what it returns ends the latest call. */
export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector(".player");
  let entry = shown.get(parentElement);
  if (entry?.root !== root) {
    entry?.player.destroy();
    entry = { root, player: mlaVizPlayer.mount(root) };
    shown.set(parentElement, entry);
  }
  if (data) entry.player.load(data);
  entry.player.recolour();
  entry.latest = component;
  return () => {
    if (entry.latest !== component || shown.get(parentElement) !== entry) return;
    entry.player.destroy();
    shown.delete(parentElement);
  };
}
