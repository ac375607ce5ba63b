// The colours: the page's own, read from its variables, and the two mechanisms' from the run.
// It knows colours and contrast; it does not know what they are laid on.

/** @import { Colour } from "./layout.d.ts" */
/** @typedef {number[]} RGB red, green, blue: 0 to 255 */
/** @typedef {{ run: string, left: { color: Colour }, right: { color: Colour } }} Coloured what brings two mechanisms */
/**
 * @typedef {object} SideColours
 * @property {string} full the mechanism's ink
 * @property {string} tint its ground
 * @property {string} strong the colour of 1 in a map
 * @property {string} low the colour of 0 in a map
 * @property {string} text its ink, where text must read on the ground
 * @property {Uint32Array} scale 256 pixels from low to strong
 * @property {Uint32Array} signed 511 pixels, of -1 to 1: grey below zero, low at it, strong above
 */
/**
 * @typedef {object} Theme
 * @property {string} key names the theme and the run
 * @property {boolean} dark
 * @property {string} ink
 * @property {string} ground
 * @property {string} font
 * @property {string} muted
 * @property {string} line
 * @property {SideColours} left
 * @property {SideColours} right
 */
/** @typedef {Record<"background" | "secondary" | "text" | "border" | "font", string>} PageColours */

import { contextOf } from "./dom.js";
import { SIDES } from "./payload.js";

/** Root mean squares of the value that has the full colour. */
export const SATURATION = 3;

const SHADES = /** @type {const} */ (["full", "tint", "text", "low", "strong"]);
const VARIABLES = ["background-color", "secondary-background-color", "text-color", "border-color", "font"];

/** @type {CanvasRenderingContext2D | undefined} */
let normaliser;

/**
 * Any CSS colour as the browser writes it: "#rrggbb" or "rgba(...)"; grey where it is none.
 * @type {(css: string) => string}
 */
function normalised(css) {
  normaliser ??= contextOf(document.createElement("canvas"));
  normaliser.fillStyle = "#808080";
  normaliser.fillStyle = css.trim();
  return String(normaliser.fillStyle);
}

/**
 * Any CSS colour, laid over `under` where it is translucent -> [r, g, b].
 * @type {(css: string, under?: RGB) => RGB}
 */
function rgbOf(css, under = [255, 255, 255]) {
  const plain = normalised(css);
  if (plain.startsWith("#")) return [1, 3, 5].map((at) => Number.parseInt(plain.slice(at, at + 2), 16));
  const [red, green, blue, alpha = 1] = (plain.match(/[\d.]+/g) ?? []).map(Number);
  return mix(under, [red, green, blue], alpha);
}

/**
 * The colour `share` of the way from one to another.
 * @type {(from: RGB, to: RGB, share: number) => RGB}
 */
export function mix(from, to, share) {
  return from.map((channel, index) => channel + (to[index] - channel) * share);
}

/** @type {(rgb: RGB) => string} */
export function cssOf(rgb) {
  return `rgb(${rgb.map(Math.round).join(" ")})`;
}

/** @type {(rgb: RGB) => number} */
function luminance(rgb) {
  const [red, green, blue] = rgb.map((channel) => {
    const value = channel / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/**
 * Contrast of two colours as WCAG reckons it: 1 to 21.
 * @type {(one: RGB, other: RGB) => number}
 */
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/**
 * `rgb` moved towards `ink` until text in it reads on `ground` (WCAG 4.5 : 1, with a little to spare).
 * @type {(rgb: RGB, ground: RGB, ink: RGB) => RGB}
 */
export function readable(rgb, ground, ink) {
  let share = 0;
  while (share < 1 && contrast(mix(rgb, ink, share), ground) < 4.7) share += 0.05;
  return mix(rgb, ink, share);
}

/**
 * 256 pixels from tint to full colour, linear in the value: the one scale of every map.
 * @type {(tint: RGB, full: RGB) => Uint32Array}
 */
export function colourScale(tint, full) {
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const [red, green, blue] = mix(tint, full, level / 255).map(Math.round);
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

/**
 * The pixel of a share of the full colour, -1 to 1; what is beyond is cut.
 * @type {(signed: Uint32Array, share: number) => number}
 */
export function shadeAt(signed, share) {
  return signed[Math.max(0, Math.min(510, 255 + Math.round(255 * share)))];
}

/** @type {(pixel: number) => RGB} */
export function rgbOfPixel(pixel) {
  return [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
}

/**
 * The page's theme as its variables say it now, with the run's own colours.
 * @type {(root: HTMLElement, run: Coloured) => Theme}
 */
export function readTheme(root, run) {
  const style = getComputedStyle(root);
  const [background, secondary, text, border, font] = VARIABLES.map((name) =>
    style.getPropertyValue(`--st-${name}`),
  );
  const key = [run.run, background, secondary, text, border, font].join("|");
  return makeTheme(key, run, { background, secondary, text, border, font });
}

/**
 * Every colour that the parts use, from the page's five words; `key` names this theme of this run.
 * @type {(key: string, run: Omit<Coloured, "run">, page: PageColours) => Theme}
 */
export function makeTheme(key, run, { background, secondary, text, border, font }) {
  const ground = rgbOf(background || "#fff");
  const ink = rgbOf(text || "#1a1d29", ground);
  const shade = rgbOf(secondary || background || "#fff", ground);
  const dark = luminance(ground) < 0.2;
  return {
    key,
    dark,
    ink: cssOf(ink),
    ground: cssOf(ground),
    font: font || "sans-serif",
    muted: cssOf(readable(mix(ink, ground, 0.42), shade, ink)),
    line: cssOf(rgbOf(border || "#8884", ground)),
    left: sideColours(run.left.color, dark, ink),
    right: sideColours(run.right.color, dark, ink),
  };
}

/** @type {(color: Colour, dark: boolean, ink: RGB) => SideColours} */
function sideColours(color, dark, ink) {
  const full = rgbOf(dark ? color.dark : color.light);
  const tint = rgbOf(dark ? color.dark_tint : color.light_tint);
  const strong = mix(full, ink, 0.25);
  const low = mix(tint, full, 0.05);
  const scale = colourScale(low, strong);
  const below = colourScale(low, mix(ink, tint, 0.3));
  return {
    full: cssOf(full),
    tint: cssOf(tint),
    strong: cssOf(strong),
    low: cssOf(low),
    text: cssOf(readable(full, tint, ink)),
    scale,
    signed: Uint32Array.of(...below.slice(1).reverse(), ...scale),
  };
}

/**
 * Hand the theme to the style sheet: only what --st-* variables cannot say.
 * @type {(root: HTMLElement, theme: Theme) => void}
 */
export function applyTheme(root, theme) {
  root.style.setProperty("--muted", theme.muted);
  for (const name of SIDES) {
    for (const shade of SHADES) root.style.setProperty(`--${name}-${shade}`, theme[name][shade]);
  }
}
