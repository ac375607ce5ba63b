// Canvases at the screen's own pixels, the images laid on them, and the marks that all of them share.
// It knows pixels and text; it does not know runs, steps or what a picture means.

/** Pixels left of a plot, for the words and pointers that name its rows. */
export const GUTTER = 34;

/** A canvas with its size in CSS pixels, its pixel ratio, and one remembered image. */
export function makeSurface(canvas) {
  return { canvas, context: canvas.getContext("2d"), width: 0, height: 0, ratio: 1, image: null, imageKey: "" };
}

/** CSS pixels of a surface that a plot takes, right of the gutter. */
export function plotWidth(surface) {
  return surface.width - GUTTER - 2;
}

/** Clear the surface at this height, ready to draw in CSS pixels. */
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

/** The surface's image for `key`, made by `fill(pixels, width, height)` when the key is new. */
export function imageFor(surface, key, width, height, fill) {
  const fullKey = `${key}|${width}|${height}`;
  if (surface.image === null || surface.imageKey !== fullKey) {
    surface.image = makeImage(surface.image, width, height, fill);
    surface.imageKey = fullKey;
  }
  return surface.image;
}

/** An image of this size, made by `fill(pixels, width, height)` on the canvas of an earlier one. */
export function makeImage(reused, width, height, fill) {
  const image = reused ?? document.createElement("canvas");
  image.width = Math.max(1, width);
  image.height = Math.max(1, height);
  const context = image.getContext("2d");
  const data = context.createImageData(image.width, image.height);
  fill(new Uint32Array(data.data.buffer), image.width, image.height);
  context.putImageData(data, 0, 0);
  return image;
}

/** Text centred on the height y. */
export function write(context, theme, text, x, y, { align = "left", size = 11, colour = theme.muted, bold = false } = {}) {
  context.font = `${bold ? 600 : 400} ${size}px ${theme.font}`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.direction = "ltr";
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** Width of text in CSS pixels, and the font set to it. */
export function textWidth(context, theme, text, size) {
  context.font = `400 ${size}px ${theme.font}`;
  return context.measureText(text).width;
}

/** A hairline frame around the room that the whole run will take: why a part of it is still empty. */
export function drawRoom(context, theme, width, height) {
  context.strokeStyle = theme.line;
  context.lineWidth = 1;
  context.strokeRect(GUTTER - 0.5, 0.5, Math.round(width) + 1, Math.round(height) - 1);
}

/** A small pointer in the gutter: what marks "now" and "chosen" where colour alone may not. */
export function drawMarker(context, theme, y) {
  context.fillStyle = theme.ink;
  context.beginPath();
  context.moveTo(GUTTER - 7, y - 4);
  context.lineTo(GUTTER - 2, y);
  context.lineTo(GUTTER - 7, y + 4);
  context.fill();
}
