// Canvases at the screen's own pixels, the images laid on them, and the marks that all of them share.
// It knows pixels and text; it does not know runs, steps or what a picture means.

import { contextOf } from "./dom.js";

/** @import { Theme } from "./theme.js" */
/** @typedef {CanvasRenderingContext2D} Context */
/**
 * @typedef {object} Surface
 * @property {HTMLCanvasElement} canvas
 * @property {Context} context
 * @property {number} width in CSS pixels, as is the height
 * @property {number} height
 * @property {number} ratio
 * @property {HTMLCanvasElement | null} image
 * @property {string} imageKey
 */
/** @typedef {{ pixels: Uint32Array, width: number, height: number }} Picture */
/** @typedef {(picture: Picture) => void} Fill */
/** @typedef {{ align?: CanvasTextAlign, size?: number, colour?: string, bold?: boolean }} TextStyle */

/** Pixels left of a plot, for the words and pointers that name its rows. */
export const GUTTER = 34;

/**
 * A canvas with its size in CSS pixels, its pixel ratio, and one remembered image.
 * @type {(canvas: HTMLCanvasElement) => Surface}
 */
export function makeSurface(canvas) {
  return {
    canvas,
    context: contextOf(canvas),
    width: 0,
    height: 0,
    ratio: 1,
    image: null,
    imageKey: "",
  };
}

/**
 * CSS pixels of a surface that a plot takes, right of the gutter.
 * @type {(surface: Surface) => number}
 */
export function plotWidth(surface) {
  return surface.width - GUTTER - 2;
}

/**
 * Clear the surface at this height, ready to draw in CSS pixels.
 * @type {(surface: Surface, height: number) => Context}
 */
export function beginSurface(surface, height) {
  const { canvas, context, ratio } = surface;
  const [wide, high] = [Math.round(surface.width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
    canvas.style.height = `${height}px`;
  }
  surface.height = height;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, surface.width, height);
  return context;
}

/**
 * The surface's image for `key`, made by `fill(picture)` when the key is new.
 * @type {(surface: Surface, key: string, width: number, height: number, fill: Fill) => HTMLCanvasElement}
 */
export function imageFor(surface, key, width, height, fill) {
  const fullKey = `${key}|${width}|${height}`;
  if (surface.image === null || surface.imageKey !== fullKey) {
    surface.image = makeImage(surface.image, width, height, fill);
    surface.imageKey = fullKey;
  }
  return surface.image;
}

/**
 * An image of this size, made by `fill(picture)` on the canvas of an earlier one.
 * @type {(reused: HTMLCanvasElement | null, width: number, height: number, fill: Fill) => HTMLCanvasElement}
 */
export function makeImage(reused, width, height, fill) {
  const image = reused ?? document.createElement("canvas");
  image.width = Math.max(1, width);
  image.height = Math.max(1, height);
  const context = contextOf(image);
  const data = context.createImageData(image.width, image.height);
  fill({ pixels: new Uint32Array(data.data.buffer), width: image.width, height: image.height });
  context.putImageData(data, 0, 0);
  return image;
}

/**
 * Text centred on the height y.
 * @type {(context: Context, theme: Theme, text: string, x: number, y: number, style?: TextStyle) => void}
 */
export function write(
  context,
  theme,
  text,
  x,
  y,
  { align = "left", size = 11, colour = theme.muted, bold = false } = {},
) {
  context.font = `${bold ? 600 : 400} ${size}px ${theme.font}`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.direction = "ltr";
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/**
 * Width of text in CSS pixels, and the font set to it.
 * @type {(context: Context, theme: Theme, text: string, size: number) => number}
 */
export function textWidth(context, theme, text, size) {
  context.font = `400 ${size}px ${theme.font}`;
  return context.measureText(text).width;
}

/**
 * A hairline frame around the room that the whole run will take: why a part of it is still empty.
 * @type {(context: Context, theme: Theme, width: number, height: number) => void}
 */
export function drawRoom(context, theme, width, height) {
  context.strokeStyle = theme.line;
  context.lineWidth = 1;
  context.strokeRect(GUTTER - 0.5, 0.5, Math.round(width) + 1, Math.round(height) - 1);
}

/**
 * A small pointer in the gutter: what marks "now" and "chosen" where colour alone may not.
 * @type {(context: Context, theme: Theme, y: number) => void}
 */
export function drawMarker(context, theme, y) {
  context.fillStyle = theme.ink;
  context.beginPath();
  context.moveTo(GUTTER - 7, y - 4);
  context.lineTo(GUTTER - 2, y);
  context.lineTo(GUTTER - 7, y + 4);
  context.fill();
}
