// A drawing context that writes SVG: the calls that the player's pictures make, and no other.
// It knows shapes and text; it does not know what a picture shows.

import { contextOf } from "./dom.js";

/** @import { Context, Surface } from "./canvas.js" */
/** @typedef {Record<string, string | number | undefined>} Attributes */
/** @typedef {{ left: number, right: number, colour: number, top: number }} Stretch pixels of one colour */

/** What stands for the canvas of a drawing -> its elements. @type {WeakMap<object, string[]>} */
const drawings = new WeakMap();
const FONT = /^(\d+) ([\d.]+)px (.+)$/s;
/** @type {Record<string, string>} */
const ANCHORS = { left: "start", center: "middle", right: "end" };
/** Of a letter's height: what lies between its middle and the line it stands on. */
const RISE = 0.35;

/**
 * A surface, `width` CSS pixels wide, whose context writes SVG; images laid on it are read at `ratio`.
 * @type {(width: number, ratio: number) => Surface}
 */
export function makeSvgSurface(width, ratio) {
  const canvas = { width: 0, height: 0, style: {} };
  /** @type {string[]} */
  const elements = [];
  drawings.set(canvas, elements);
  const context = strict(makeContext(elements, contextOf(document.createElement("canvas"))));
  const surface = { canvas, context, width, height: 0, ratio, image: null, imageKey: "" };
  return /** @type {Surface} */ (/** @type {unknown} */ (surface));
}

/**
 * What was drawn on such a surface, as a file; `title` is read aloud in its place.
 * @type {(surface: Surface, title: string) => string}
 */
export function svgText({ canvas, width, height }, title) {
  const box = { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` };
  const body = [tag("title", {}, escaped(title)), ...(drawings.get(canvas) ?? [])];
  return `${tag("svg", { ...box, role: "img" }, `\n${body.join("\n")}\n`)}\n`;
}

/**
 * A context that refuses what it does not know, so that no part of a picture is lost in silence.
 * @type {(known: object) => Context}
 */
function strict(known) {
  const check = (/** @type {string | symbol} */ name) => {
    if (!(name in known)) throw new Error(`svg: expected a known call or setting, got ${String(name)}`);
    return true;
  };
  const proxy = new Proxy(known, {
    get: (own, name) => check(name) && Reflect.get(own, name),
    set: (own, name, value) => check(name) && Reflect.set(own, name, value),
  });
  return /** @type {Context} */ (proxy);
}

/** @type {(elements: string[], ruler: Context) => object} */
function makeContext(elements, ruler) {
  /** @type {string[]} */
  let moves = [];
  /** @type {string[][]} */
  const saved = [];
  /** @type {number[]} */
  let dash = [];
  let path = "";
  const put = (/** @type {string} */ name, /** @type {Attributes} */ attributes, text = "") => {
    elements.push(tag(name, { ...attributes, transform: moves.join(" ") || undefined }, text));
  };
  const stroked = () => ({
    fill: "none",
    stroke: hex(own.strokeStyle),
    "stroke-width": own.lineWidth,
    "stroke-dasharray": dash.join(" ") || undefined,
  });
  const own = {
    fillStyle: "#000000",
    strokeStyle: "#000000",
    lineWidth: 1,
    font: "400 10px sans-serif",
    textAlign: "left",
    textBaseline: "middle",
    direction: "ltr",
    imageSmoothingEnabled: false,
    /** A new picture, in CSS pixels whatever the screen's ratio. */
    setTransform: () => {
      elements.length = 0;
      moves = [];
    },
    clearRect: () => {},
    save: () => saved.push([...moves]),
    restore: () => {
      moves = saved.pop() ?? [];
    },
    translate: (/** @type {number} */ x, /** @type {number} */ y) =>
      moves.push(`translate(${short(x)} ${short(y)})`),
    rotate: (/** @type {number} */ angle) => moves.push(`rotate(${short((angle * 180) / Math.PI)})`),
    setLineDash: (/** @type {number[]} */ lengths) => {
      dash = lengths;
    },
    beginPath: () => {
      path = "";
    },
    moveTo: (/** @type {number} */ x, /** @type {number} */ y) => {
      path += `M${short(x)} ${short(y)}`;
    },
    lineTo: (/** @type {number} */ x, /** @type {number} */ y) => {
      path += `${path ? "L" : "M"}${short(x)} ${short(y)}`;
    },
    arc: (/** @type {number[]} */ ...[x, y, radius, from, to]) => {
      if (to - from !== 2 * Math.PI) throw new Error(`svg: expected a full circle, got ${from} to ${to}`);
      const half = (/** @type {number} */ end) => `A${radius} ${radius} 0 1 1 ${short(end)} ${short(y)}`;
      path += `M${short(x + radius)} ${short(y)}${half(x - radius)}${half(x + radius)}`;
    },
    fill: () => put("path", { d: path, fill: hex(own.fillStyle) }),
    stroke: () => put("path", { d: path, ...stroked() }),
    fillRect: (/** @type {number[]} */ ...box) => put("rect", { ...boxOf(box), fill: hex(own.fillStyle) }),
    strokeRect: (/** @type {number[]} */ ...box) => put("rect", { ...boxOf(box), ...stroked() }),
    measureText: (/** @type {string} */ text) => {
      ruler.font = own.font;
      return ruler.measureText(text);
    },
    fillText: (/** @type {string} */ text, /** @type {number} */ x, /** @type {number} */ y) => {
      // A reader without the font keeps the width that the words were laid out for.
      const length = { textLength: own.measureText(text).width, lengthAdjust: "spacingAndGlyphs" };
      put("text", { x, ...textAttributes(own, y), ...length, fill: hex(own.fillStyle) }, escaped(text));
    },
    drawImage: (/** @type {HTMLCanvasElement} */ image, /** @type {number[]} */ ...place) => {
      elements.push(imageElement(image, place));
    },
  };
  return own;
}

/** @type {(style: { font: string, textAlign: string, textBaseline: string }, y: number) => Attributes} */
function textAttributes({ font, textAlign, textBaseline }, y) {
  const [, weight, size, family] = FONT.exec(font) ?? [];
  if (!family || textBaseline !== "middle")
    throw new Error(
      `svg: expected "WEIGHT SIZEpx FAMILY" on its middle, got "${font}" on its ${textBaseline}`,
    );
  return {
    y: y + RISE * Number(size),
    "font-family": family,
    "font-size": size,
    "font-weight": weight,
    "text-anchor": ANCHORS[textAlign],
  };
}

/**
 * Another drawing at its own size; or the pixels of an image as rectangles, stretched as on a canvas.
 * @type {(image: HTMLCanvasElement, place: number[]) => string}
 */
function imageElement(image, place) {
  const whole = place.length === 4 ? [0, 0, image.width, image.height] : [];
  const [left, top, wide, high, x, y, width, height] = [...whole, ...place];
  const moved = `translate(${short(x)} ${short(y)})`;
  const drawing = drawings.get(image);
  if (drawing) return tag("g", { transform: moved }, `\n${drawing.join("\n")}\n`);
  const paths = cellPaths(contextOf(image).getImageData(left, top, wide, high));
  const cells = [...paths].map(([colour, d]) => tag("path", { fill: pixelHex(colour), d }));
  const transform = `${moved} scale(${width / wide} ${height / high})`;
  return tag("g", { transform, "shape-rendering": "crispEdges" }, cells.join(""));
}

/**
 * The pixels of an image as rectangles, each as long and then as high as its colour goes: a path a colour.
 * @type {(image: ImageData) => Map<number, string>}
 */
export function cellPaths({ data, width, height }) {
  const pixels = new Uint32Array(data.buffer, data.byteOffset, width * height);
  /** @type {Map<number, string>} */
  const paths = new Map();
  /** @type {Map<string, Stretch>} */
  let above = new Map();
  for (let y = 0; y <= height; y += 1) {
    /** @type {Map<string, Stretch>} */
    const here = new Map();
    for (const stretch of y < height ? stretchesOf(pixels, width, y) : []) {
      const key = `${stretch.left} ${stretch.right} ${stretch.colour}`;
      here.set(key, above.get(key) ?? stretch);
    }
    for (const [key, { left, right, colour, top }] of above) {
      if (here.has(key)) continue;
      const cell = `M${left} ${top}h${right - left}v${y - top}h${left - right}z`;
      paths.set(colour, (paths.get(colour) ?? "") + cell);
    }
    above = here;
  }
  return paths;
}

/**
 * The stretches of one colour in a row; what is blank is none.
 * @type {(pixels: Uint32Array, width: number, y: number) => Stretch[]}
 */
function stretchesOf(pixels, width, y) {
  const stretches = [];
  let left = 0;
  for (let right = 1; right <= width; right += 1) {
    const colour = pixels[y * width + left];
    if (right < width && pixels[y * width + right] === colour) continue;
    if (colour) stretches.push({ left, right, colour, top: y });
    left = right;
  }
  return stretches;
}

/** @type {(box: number[]) => Attributes} */
function boxOf([x, y, width, height]) {
  const [left, top] = [x + Math.min(0, width), y + Math.min(0, height)];
  return { x: left, y: top, width: Math.abs(width), height: Math.abs(height) };
}

/** @type {(name: string, attributes: Attributes, content?: string) => string} */
function tag(name, attributes, content = "") {
  const words = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${typeof value === "number" ? short(value) : escaped(String(value))}"`);
  return `<${name}${words.join("")}${content ? `>${content}</${name}>` : "/>"}`;
}

/** @type {(value: number) => string} */
function short(value) {
  return String(Number(value.toFixed(2)));
}

/**
 * "rgb(27 135 171)" -> "#1b87ab", which every program reads; other words of colours as they are.
 * @type {(css: string) => string}
 */
function hex(css) {
  const [, ...channels] = /^rgb\((\d+) (\d+) (\d+)\)$/.exec(css) ?? [];
  return channels.length ? `#${channels.map((channel) => pair(Number(channel))).join("")}` : css;
}

/** @type {(pixel: number) => string} */
function pixelHex(pixel) {
  return `#${[0, 8, 16].map((shift) => pair((pixel >>> shift) & 255)).join("")}`;
}

/** @type {(channel: number) => string} */
function pair(channel) {
  return channel.toString(16).padStart(2, "0");
}

/**
 * Text as XML has it, which knows no control characters.
 * @type {(text: string) => string}
 */
function escaped(text) {
  const signs = text
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;");
  return signs.replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "\ufffd");
}
