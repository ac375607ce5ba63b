// A page for the player where there is no browser: the nodes of player.html, canvases that write down what
// is drawn on them, and a clock, frames and sizes that a test turns by hand. As little as the player asks for.

import { readFileSync } from "node:fs";

const HTML = readFileSync(new URL("../../mla_viz/player/player.html", import.meta.url), "utf8");
const VOID = ["input", "path"];

class Node {
  parentElement = null;
  childNodes = [];

  append(...nodes) {
    for (const node of nodes) {
      this.childNodes.push(node);
      if (node instanceof Node) node.parentElement = this;
    }
  }

  replaceChildren(...nodes) {
    this.childNodes = [];
    this.append(...nodes);
  }

  get children() {
    return this.childNodes.filter((node) => node instanceof Node);
  }

  get textContent() {
    return this.childNodes.map((node) => (node instanceof Node ? node.textContent : node)).join("");
  }

  set textContent(text) {
    this.childNodes = text === "" ? [] : [text];
  }

  *below() {
    for (const child of this.children) {
      yield child;
      yield* child.below();
    }
  }

  querySelectorAll(selector) {
    return [...this.below()].filter((node) => node.matches(selector));
  }

  querySelector(selector) {
    return this.querySelectorAll(selector)[0] ?? null;
  }
}

/** Nodes without one above them: they move to whatever this is appended to. */
class Fragment extends Node {
  cloneNode() {
    const copy = new Fragment();
    copy.append(...this.childNodes.map((node) => node.cloneNode?.() ?? node));
    return copy;
  }
}

class Element extends Node {
  attributes = new Map();
  listeners = [];
  style = {
    setProperty(name, value) {
      this[name] = value;
    },
  };
  box = { left: 0, top: 0, width: 0, height: 0 };
  focusVisible = true;
  scrollTop = 0;
  offsetWidth = 0;
  offsetHeight = 0;
  clientWidth = 0;

  constructor(tag) {
    super();
    this.localName = tag;
    this.dataset = new Proxy(this, {
      get: (node, name) => node.getAttribute(dataName(name)) ?? undefined,
      set: (node, name, value) => node.setAttribute(dataName(name), value),
    });
    this.classList = {
      contains: (name) => this.className.split(" ").includes(name),
      toggle: (name, on) => {
        const others = this.className.split(" ").filter((each) => each !== name);
        this.className = [...others, ...(on ? [name] : [])].join(" ");
      },
    };
  }

  append(...nodes) {
    super.append(...nodes.flatMap((node) => (node instanceof Fragment ? node.childNodes : [node])));
  }

  cloneNode() {
    const copy = createElement(this.localName);
    for (const [name, value] of this.attributes) copy.setAttribute(name, value);
    copy.append(...this.childNodes.map((node) => node.cloneNode?.() ?? node));
    return copy;
  }

  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  setAttribute(name, value) {
    this.attributes.set(name, String(value));
    return true;
  }

  removeAttribute(name) {
    this.attributes.delete(name);
  }

  /** Whether this node answers a selector of tags, classes and attributes, each below the one before. */
  matches(selector) {
    if (selector === ":focus-visible") return this.focusVisible;
    const parts = selector.split(" ");
    const [, tag, marks] = parts.at(-1).match(/^([\w*]*)(.*)$/);
    const own = [...marks.matchAll(/\.(\w+)|\[([\w-]+)(?:=([\w-]+))?\]/g)];
    const fits =
      ["", "*", this.localName].includes(tag) &&
      own.every(([, name, attribute, value]) => {
        if (name) return this.classList.contains(name);
        return value === undefined ? this.attributes.has(attribute) : this.getAttribute(attribute) === value;
      });
    return fits && (parts.length === 1 || this.parentElement?.closest(parts.slice(0, -1).join(" ")) != null);
  }

  closest(selector) {
    return this.matches(selector) ? this : (this.parentElement?.closest?.(selector) ?? null);
  }

  addEventListener(type, listener) {
    this.listeners.push({ type, listener });
  }

  removeEventListener(type, listener) {
    this.listeners = this.listeners.filter((one) => one.type !== type || one.listener !== listener);
  }

  dispatchEvent(event) {
    for (const { type, listener } of this.listeners) if (type === event.type) listener(event);
    this.parentElement?.dispatchEvent?.(event);
  }

  getBoundingClientRect() {
    return this.box;
  }

  remove() {
    if (this.parentElement)
      this.parentElement.childNodes = this.parentElement.childNodes.filter((node) => node !== this);
    this.parentElement = null;
  }

  scrollIntoView() {}

  get isConnected() {
    return pathOf(this).at(-1).localName === "html";
  }

  after(node) {
    const { childNodes } = this.parentElement;
    childNodes.splice(childNodes.indexOf(this) + 1, 0, node);
    node.parentElement = this.parentElement;
  }

  contains(node) {
    return node === this || [...this.below()].includes(node);
  }

  click() {
    document.clicked.push(this);
  }

  focus() {
    document.activeElement?.dispatchEvent({ type: "focusout", target: this, relatedTarget: this });
    document.activeElement = this;
    this.dispatchEvent({ type: "focusin", target: this });
  }
}

const dataName = (name) => `data-${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

for (const [property, attribute] of [
  ["className", "class"],
  ["id", "id"],
  ["title", "title"],
  ["scope", "scope"],
  ["type", "type"],
]) {
  Object.defineProperty(Element.prototype, property, {
    get() {
      return this.getAttribute(attribute) ?? "";
    },
    set(value) {
      this.setAttribute(attribute, value);
    },
  });
}
Object.defineProperty(Element.prototype, "tabIndex", {
  get() {
    return Number(this.getAttribute("tabindex") ?? -1);
  },
  set(tabIndex) {
    this.setAttribute("tabindex", tabIndex);
  },
});
Object.defineProperty(Element.prototype, "hidden", {
  get() {
    return this.attributes.has("hidden");
  },
  set(hidden) {
    if (hidden) this.setAttribute("hidden", "");
    else this.removeAttribute("hidden");
  },
});

class HTMLElement extends Element {}
class HTMLInputElement extends HTMLElement {}
class HTMLSelectElement extends HTMLElement {}
class HTMLTemplateElement extends HTMLElement {
  content = new Fragment();
}
class HTMLCanvasElement extends HTMLElement {
  width = 0;
  height = 0;
  #context = makeContext(this);

  getContext() {
    return this.#context;
  }

  captureStream(rate) {
    return { canvas: this, rate, getTracks: () => [{ stop: () => {} }] };
  }

  toBlob(take, type) {
    take(this.width > 4000 ? null : new Blob([JSON.stringify(this.#context.calls)], { type }));
  }
}
const KINDS = {
  canvas: HTMLCanvasElement,
  input: HTMLInputElement,
  select: HTMLSelectElement,
  template: HTMLTemplateElement,
};

function createElement(tag) {
  return new (KINDS[tag] ?? HTMLElement)(tag);
}

/** The nodes of some HTML that is as regular as player.html. */
function parse(html) {
  const top = new Fragment();
  const open = [top];
  for (const [, closing, tag, marks, alone, text] of html.matchAll(/<(\/?)(\w+)([^>]*?)(\/?)>|([^<]+)/g)) {
    if (text !== undefined) {
      if (text.trim()) open.at(-1).append(text);
    } else if (closing) {
      open.pop();
    } else {
      const node = createElement(tag);
      for (const [, name, value] of marks.matchAll(/([\w-]+)(?:="([^"]*)")?/g)) {
        node.setAttribute(name, value ?? "");
      }
      open.at(-1).append(node);
      if (!alone && !VOID.includes(tag)) open.push(node.content ?? node);
    }
  }
  return top.childNodes;
}

const DRAWING =
  "arc beginPath clearRect drawImage fill fillRect fillText lineTo moveTo restore rotate save setLineDash" +
  " setTransform stroke strokeRect translate";

/** What is drawn, in order: {name, args, fillStyle, strokeStyle, font}. Six pixels are as wide as a character. */
function makeContext(canvas) {
  const context = {
    calls: [],
    measureText: (text) => ({ width: 6 * text.length }),
    createImageData: (width, height) => ({ data: new Uint8ClampedArray(width * height * 4) }),
    putImageData: (image) => {
      canvas.pixels = new Uint32Array(image.data.buffer);
    },
    getImageData: (left, top, width, height) => {
      const rows = Array.from({ length: height }, (_, y) => (top + y) * canvas.width + left);
      const pixels = Uint32Array.from(
        rows.flatMap((from) => [...canvas.pixels.subarray(from, from + width)]),
      );
      return { data: new Uint8ClampedArray(pixels.buffer), width, height };
    },
  };
  for (const name of DRAWING.split(" ")) {
    context[name] = (...args) => {
      if (name === "setTransform") context.calls = [];
      const { fillStyle, strokeStyle, font, lineWidth } = context;
      context.calls.push({ name, args, fillStyle, strokeStyle, font, lineWidth });
    };
  }
  let fillStyle = "#000000";
  Object.defineProperty(context, "fillStyle", {
    get: () => fillStyle,
    set: (css) => {
      fillStyle = colour(css) ?? fillStyle;
    },
  });
  return context;
}

/** A colour as canvases give it back: #rrggbb, or rgba() where it is translucent. */
function colour(css) {
  if (!css.startsWith("#")) return css.startsWith("rgb") ? css : undefined;
  const digits = css.length < 6 ? css.replace(/[0-9a-f]/gi, "$&$&") : css;
  const channels = [1, 3, 5, 7].map((at) => Number.parseInt(digits.slice(at, at + 2), 16));
  return digits.length === 7 ? digits : `rgba(${channels.slice(0, 3).join(", ")}, ${channels[3] / 255})`;
}

/** A fresh page, with what a test turns by hand. */
export function openPage({
  search = "",
  hash = "",
  stored = null,
  kept = null,
  colours = {},
  html = HTML,
} = {}) {
  const page = {
    now: 1000,
    frames: new Map(),
    timers: new Map(),
    events: [],
    observers: [],
    colours,
    stored,
    kept,
  };
  page.root = parse(html).find((node) => node instanceof Element);
  page.window = {
    location: { search, pathname: "/app", hash },
    history: {
      state: "kept",
      replaceState: (state, _, url) => {
        page.written = { state, url };
      },
    },
    sessionStorage: {
      getItem: () => page.stored,
      setItem: (_, words) => {
        page.stored = words;
      },
    },
    localStorage: {
      getItem: () => page.kept,
      setItem: (_, words) => {
        page.kept = words;
      },
    },
    devicePixelRatio: 1,
    innerHeight: 1000,
  };
  page.document = Object.assign(new Element("html"), { createElement, clicked: [] });
  page.document.append(page.root);
  page.root.addEventListener("mla-paint", ({ detail }) => page.events.push(detail));
  setGlobals(page);
  Object.assign(page, {
    find: (selector) => page.root.querySelector(selector),
    text: (selector) => page.root.querySelector(selector).textContent,
    texts: (selector) => page.root.querySelectorAll(selector).map((node) => node.textContent),
    drawn: (selector) => page.root.querySelector(selector).getContext("2d").calls,
    fire: (node, type, more = {}) => {
      const composedPath = () => pathOf(node);
      const preventDefault = () => {
        event.defaultPrevented = true;
      };
      const event = { type, target: node, composedPath, preventDefault, ...more };
      node.dispatchEvent(event);
    },
    press: (key, more = {}) => page.fire(page.root, "keydown", { key, ...more }),
    frame: (ms = 16) => turn(page, "frames", ms),
    rest: (ms) => turn(page, "timers", ms),
    resize: (to, plots = ".plot") => {
      for (const plot of page.root.querySelectorAll(plots)) plot.clientWidth = to;
      for (const { kind, call } of page.observers) if (kind === "size") call([]);
    },
    darken: () => {
      for (const { kind, call } of page.observers) if (kind === "dark") call();
    },
    see: (entries) => {
      for (const { kind, call } of page.observers) if (kind === "sight") call(entries);
    },
  });
  return page;
}

/** A node and all that it stands in. */
const pathOf = (node) => (node ? [node, ...pathOf(node.parentElement)] : []);

/** Let time pass, and call what waited for a frame, or for so long. */
function turn(page, waiting, ms) {
  page.now += ms;
  const due = [...page[waiting]].filter(([, { at }]) => at <= page.now);
  for (const [id, { call }] of due) {
    page[waiting].delete(id);
    call();
  }
}

function setGlobals(page) {
  let last = 0;
  const wait =
    (waiting) =>
    (call, ms = 0) => {
      last += 1;
      page[waiting].set(last, { call, at: page.now + (waiting === "timers" ? ms : 0) });
      return last;
    };
  const observer = (kind) =>
    class {
      constructor(call) {
        this.watched = [];
        page.observers.push(Object.assign(this, { kind, call }));
      }
      observe(node) {
        this.watched.push(node);
      }
      disconnect() {
        page.observers.splice(page.observers.indexOf(this), 1);
      }
    };
  Object.assign(globalThis, {
    Node,
    Element,
    HTMLElement,
    HTMLCanvasElement,
    HTMLInputElement,
    HTMLSelectElement,
    HTMLTemplateElement,
    window: page.window,
    document: page.document,
    getComputedStyle: () => ({ getPropertyValue: (name) => page.colours[name] ?? "" }),
    requestAnimationFrame: wait("frames"),
    cancelAnimationFrame: (id) => page.frames.delete(id),
    setTimeout: wait("timers"),
    clearTimeout: (id) => page.timers.delete(id),
    ResizeObserver: observer("size"),
    IntersectionObserver: observer("sight"),
    matchMedia: () => ({
      addEventListener: (_, call) => page.observers.push({ kind: "dark", call }),
      removeEventListener: (_, call) => {
        page.observers = page.observers.filter((one) => one.call !== call);
      },
    }),
    Option: class extends HTMLElement {
      constructor(text, value) {
        super("option");
        this.textContent = text;
        this.value = value;
      }
    },
  });
  performance.now = () => page.now;
}
