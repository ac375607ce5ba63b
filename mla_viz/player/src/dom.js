// The page's nodes: found, made, and changed only where something changes.
// It knows the DOM and nothing of what stands in it.

/** The one node that the page must have under `root`. */
export function find(root, selector, kind = HTMLElement) {
  const node = root.querySelector(selector);
  if (!(node instanceof kind)) throw new Error(`the player's page has no ${kind.name} ${selector}`);
  return node;
}

/** All nodes under `root` that answer the selector. */
export function findAll(root, selector, kind = HTMLElement) {
  return [...root.querySelectorAll(selector)].filter((node) => node instanceof kind);
}

/** A new node. */
export function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** Write text where it is new. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Write an attribute where it is new. */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}
