// The keys: which of them asks for what, and where they belong to a control instead.

/** @typedef {"back" | "forward" | "play" | "first" | "last" | "phaseBack" | "phaseOn"} Action */

/** @type {Record<string, Action>} */
const ACTIONS = {
  ArrowLeft: "back",
  ArrowRight: "forward",
  " ": "play",
  Home: "first",
  End: "last",
  "[": "phaseBack",
  "]": "phaseOn",
};

/**
 * Call the action that a key pressed anywhere under `root` asks for, where nothing inside has taken it.
 * @type {(root: HTMLElement, actions: Record<Action, () => void>) => void}
 */
export function listenToKeys(root, actions) {
  root.addEventListener("keydown", (event) => {
    const action = event.defaultPrevented ? undefined : keyAction(event);
    if (!action) return;
    event.preventDefault();
    actions[action]();
  });
}

/**
 * The action of a key: none with a modifier, none in a menu or a number, space belongs to a button itself, and what
 * scrolls a table to that table.
 * @type {(event: KeyboardEvent) => Action | undefined}
 */
export function keyAction({ key, ctrlKey, metaKey, altKey, target }) {
  const within = (/** @type {string} */ tag) => target instanceof Element && target.closest(tag);
  if (ctrlKey || metaKey || altKey || within("select") || within("[type=number]")) return undefined;
  if (within(key === " " ? "button" : ".scroller")) return undefined;
  return ACTIONS[key];
}
