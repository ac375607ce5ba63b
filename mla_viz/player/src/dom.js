// The page's nodes: found, made, and changed only where something changes.
// It knows the DOM and nothing of what stands in it.

/** @typedef {keyof HTMLElementTagNameMap} Tag */

/**
 * The one node that the page must have under `root`.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => Kind} [kind]
 */
export function find(root, selector, kind = /** @type {new () => Kind} */ (HTMLElement)) {
  const node = root.querySelector(selector);
  if (!(node instanceof kind)) throw new Error(`the player's page has no ${kind.name} ${selector}`);
  return node;
}

/**
 * All nodes under `root` that answer the selector.
 * @type {(root: ParentNode, selector: string) => HTMLElement[]}
 */
export function findAll(root, selector) {
  return [...root.querySelectorAll(selector)].filter((node) => node instanceof HTMLElement);
}

/**
 * What a node of the page stands in.
 * @type {(node: HTMLElement) => HTMLElement}
 */
export function frameOf(node) {
  const frame = node.parentElement;
  if (!frame) throw new Error(`the player's ${node.className} stands in nothing`);
  return frame;
}

/**
 * A new node.
 * @template {Tag} Name
 * @param {Name} tag
 * @param {string} className
 */
export function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/**
 * Write text where it is new.
 * @type {(node: Node, text: string) => void}
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Write an attribute where it is new.
 * @type {(node: Element, name: string, value: string | number | boolean) => void}
 */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** @type {(canvas: HTMLCanvasElement) => CanvasRenderingContext2D} */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("the player needs a browser that draws on canvases");
  return context;
}
