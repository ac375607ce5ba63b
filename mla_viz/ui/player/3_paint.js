// Painting: the colours of the page's theme, canvases at the screen's own pixels, fields of colour, tooltips.
// It knows rectangles, pixels and colours; it does not know runs, steps or what a field means.

const GUTTER = 34;

const normaliser = document.createElement("canvas").getContext("2d");

/** Any CSS colour, laid over `under` where it is translucent -> [r, g, b]. */
function rgbOf(css, under = [255, 255, 255]) {
  normaliser.fillStyle = "#808080";
  normaliser.fillStyle = css.trim();
  const plain = normaliser.fillStyle;
  if (plain.startsWith("#")) return [1, 3, 5].map((at) => parseInt(plain.slice(at, at + 2), 16));
  const [red, green, blue, alpha = 1] = plain.match(/[\d.]+/g).map(Number);
  return mix(under, [red, green, blue], alpha);
}

function mix(from, to, share) {
  return from.map((channel, index) => channel + (to[index] - channel) * share);
}

function cssOf(rgb) {
  return `rgb(${rgb.map(Math.round).join(" ")})`;
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map((channel) => {
    const value = channel / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** `rgb` moved towards `ink` until text in it reads on `ground` (WCAG 4.5 : 1, with a little to spare). */
function readable(rgb, ground, ink) {
  let share = 0;
  while (share < 1 && contrast(mix(rgb, ink, share), ground) < 4.7) share += 0.05;
  return mix(rgb, ink, share);
}

/** 256 pixels from tint to full colour, linear in the value: the one scale of every map. */
function colourScale(tint, full) {
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const [red, green, blue] = mix(tint, full, level / 255).map(Math.round);
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

const THEME_VARIABLES = ["background-color", "secondary-background-color", "text-color", "border-color", "font"];

/** The page's theme as its variables say it now, with the run's own colours. */
function readTheme(root, run) {
  const style = getComputedStyle(root);
  const values = THEME_VARIABLES.map((name) => style.getPropertyValue(`--st-${name}`));
  return makeTheme([run.run, ...values].join("|"), run, ...values);
}

function makeTheme(key, run, background, secondary, text, border, font) {
  const ground = rgbOf(background || "#fff");
  const ink = rgbOf(text || "#1a1d29", ground);
  const shade = rgbOf(secondary || background || "#fff", ground);
  const dark = luminance(ground) < 0.2;
  return {
    key, dark, ink: cssOf(ink), ground: cssOf(ground), font: font || "sans-serif",
    muted: cssOf(readable(mix(ink, ground, 0.42), shade, ink)),
    line: cssOf(rgbOf(border || "#8884", ground)),
    left: sideColours(run.left.color, dark, ink),
    right: sideColours(run.right.color, dark, ink),
  };
}

function sideColours(color, dark, ink) {
  const full = rgbOf(dark ? color.dark : color.light);
  const tint = rgbOf(dark ? color.dark_tint : color.light_tint);
  const strong = mix(full, ink, 0.25);
  return {
    full: cssOf(full), tint: cssOf(tint), strong: cssOf(strong), low: cssOf(mix(tint, full, 0.05)),
    text: cssOf(readable(full, tint, ink)),
    scale: colourScale(mix(tint, full, 0.05), strong),
  };
}

/** Hand the theme to the style sheet: only what --st-* variables cannot say. */
function applyTheme(root, theme) {
  root.style.setProperty("--muted", theme.muted);
  for (const side of ["left", "right"]) {
    for (const shade of ["full", "tint", "text", "low", "strong"]) {
      root.style.setProperty(`--${side}-${shade}`, theme[side][shade]);
    }
  }
}

/** A canvas with its size in CSS pixels, its pixel ratio, and one remembered image. */
function makeSurface(canvas) {
  return { canvas, context: canvas.getContext("2d"), width: 0, height: 0, ratio: 1, image: null, imageKey: "" };
}

/** Clear the surface at this height, ready to draw in CSS pixels. */
function beginSurface(surface, height) {
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
function imageFor(surface, key, width, height, fill) {
  const fullKey = `${key}|${width}|${height}`;
  if (surface.imageKey !== fullKey) {
    surface.image = makeImage(surface.image, width, height, fill);
    surface.imageKey = fullKey;
  }
  return surface.image;
}

function makeImage(reused, width, height, fill) {
  const image = reused ?? document.createElement("canvas");
  image.width = Math.max(1, width);
  image.height = Math.max(1, height);
  const context = image.getContext("2d");
  const data = context.createImageData(image.width, image.height);
  fill(new Uint32Array(data.data.buffer), image.width, image.height);
  context.putImageData(data, 0, 0);
  return image;
}

/** Pixels [from, to) of cell `index` out of `cells` laid over `extent` pixels; wide cells leave a gap. */
function cellSpan(index, cells, extent) {
  const from = Math.floor((index * extent) / cells);
  const to = Math.floor(((index + 1) * extent) / cells);
  return [from, Math.max(from + 1, extent / cells >= 5 ? to - 1 : to)];
}

/** Lay one row of `slice.count` cells (of `cells` in all) into `levels`, largest wins; -1 stays blank. */
function poolRow(levels, slice, toLevel, cells) {
  const extent = levels.length;
  const perCell = extent / cells;
  const gap = perCell >= 5 ? 1 : 0;
  for (let cell = 0; cell < slice.count; cell += 1) {
    const level = Math.round(slice.data[slice.start + cell] * toLevel);
    const from = Math.floor(cell * perCell);
    const to = Math.max(from + 1, Math.floor((cell + 1) * perCell) - gap);
    for (let pixel = from; pixel < to; pixel += 1) if (level > levels[pixel]) levels[pixel] = level;
  }
}

/** Write one row of levels as colours into image rows [top, bottom). */
function writeRow(pixels, width, levels, scale, top, bottom) {
  for (let y = top; y < bottom; y += 1) {
    for (let x = 0; x < width; x += 1) if (levels[x] >= 0) pixels[y * width + x] = scale[levels[x]];
  }
}

function write(context, theme, text, x, y, { align = "left", size = 11, colour = theme.muted, bold = false } = {}) {
  context.font = `${bold ? 600 : 400} ${size}px ${theme.font}`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.direction = "ltr";
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** A hairline frame around the room that the whole run will take: why a part of it is still empty. */
function drawRoom(context, theme, width, height) {
  context.strokeStyle = theme.line;
  context.lineWidth = 1;
  context.strokeRect(GUTTER - 0.5, 0.5, Math.round(width) + 1, Math.round(height) - 1);
}

/** A small pointer in the gutter: what marks "now" and "chosen" where colour alone may not. */
function drawMarker(context, theme, y) {
  context.fillStyle = theme.ink;
  context.beginPath();
  context.moveTo(GUTTER - 7, y - 4);
  context.lineTo(GUTTER - 2, y);
  context.lineTo(GUTTER - 7, y + 4);
  context.fill();
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** Show what `describe(x, y)` says of the point under the pointer, while there is something to say. */
function attachTooltip(tooltip, canvas, describe) {
  const hide = () => { tooltip.hidden = true; };
  canvas.addEventListener("pointermove", (event) => {
    const words = describe(event.offsetX, event.offsetY);
    if (!words) return hide();
    setText(tooltip, words);
    tooltip.hidden = false;
    placeTooltip(tooltip, event);
  });
  canvas.addEventListener("pointerleave", hide);
}

function placeTooltip(tooltip, event) {
  const frame = tooltip.parentElement.getBoundingClientRect();
  const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
  const left = Math.max(0, Math.min(x + 14, frame.width - tooltip.offsetWidth));
  const fitsBelow = event.clientY + 26 + tooltip.offsetHeight < window.innerHeight;
  const top = fitsBelow ? y + 18 : y - 10 - tooltip.offsetHeight;
  tooltip.style.transform = `translate(${left}px, ${top}px)`;
}
