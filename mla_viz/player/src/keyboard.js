// The keys: which of them asks for what, and where they belong to a control instead.

const ACTIONS = {
  ArrowLeft: "back",
  ArrowRight: "forward",
  " ": "play",
  Home: "first",
  End: "last",
};

/** Call the action that a key pressed anywhere under `root` asks for. */
export function listenToKeys(root, actions) {
  root.addEventListener("keydown", (event) => {
    const action = keyAction(event);
    if (!action) return;
    event.preventDefault();
    actions[action]();
  });
}

/** The action of a key: none with a modifier, none in a menu, and space belongs to a button itself. */
export function keyAction({ key, ctrlKey, metaKey, altKey, target }) {
  if (ctrlKey || metaKey || altKey || target.closest("select")) return undefined;
  if (key === " " && target.closest("button")) return undefined;
  return ACTIONS[key];
}
