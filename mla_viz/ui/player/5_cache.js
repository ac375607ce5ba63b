// The cache map: one row a token, one column a cached element, both sides to one scale, so area is memory.
// It knows cached cells and their segments; it does not know attention, time or other mechanisms' weights.

const CACHE_HEIGHT = 160;
const TALLEST_ROW = 5;
const BRACKET_HEIGHT = 34;

function makeCacheView(panel, name, tooltip) {
  const surface = makeSurface(panel.querySelector(".cache canvas"));
  const state = { name, surface, view: null };
  const captions = [panel.querySelector(".cache .caption"), panel.querySelector(".cache .aside")];
  attachTooltip(tooltip, surface.canvas, (x, y) => state.view && cacheWords(state, x, y));
  return { surface, paint: (view) => paintCache(state, captions, view) };
}

/** Sizes that both sides share: CSS pixels of one element, and of one token's row. */
function cacheScale({ run }, surface) {
  const widest = Math.max(run.left.cache_elems, run.right.cache_elems, 1);
  const elementWidth = (surface.width - GUTTER - 2) / widest;
  const rowHeight = Math.min(TALLEST_ROW, CACHE_HEIGHT / run.n_steps);
  return { elementWidth, rowHeight, plotHeight: Math.max(24, run.n_steps * rowHeight) };
}

function paintCache(state, captions, view) {
  state.view = view;
  const { surface, name } = state;
  const side = view.run[name];
  const scale = cacheScale(view, surface);
  const context = beginSurface(surface, scale.plotHeight + BRACKET_HEIGHT);
  const width = side.cache_elems * scale.elementWidth;
  if (side.cache_elems > 0) {
    drawRoom(context, view.theme, width, scale.plotHeight);
    drawCells(context, state, side, scale, width);
    drawBrackets(context, view.theme, side, scale);
  }
  drawMissing(context, state, scale, width);
  drawNewRow(context, view, scale, width);
  drawToCome(context, view, scale, width);
  writePooled(context, state, side, scale);
  captionCache(state, captions, side);
}

function drawCells(context, { surface, view, name }, side, { rowHeight }, width) {
  const { run, step, layer, theme } = view;
  const rows = run.n_steps * rowHeight;
  const key = `${theme.key}|${layer}`;
  const [wide, high] = [Math.round(width * surface.ratio), Math.round(rows * surface.ratio)];
  const image = imageFor(surface, key, wide, high, (pixels, imageWidth, imageHeight) => {
    poolCells(pixels, imageWidth, imageHeight, side.cells, layer, run.n_steps, theme[name].scale);
  });
  const shown = Math.max(1, Math.round((image.height * (step + 1)) / run.n_steps));
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, image.width, shown, GUTTER, 0, width, (rows * shown) / image.height);
}

/** Fill the image with the mean of the cells under each pixel, or the cell itself where it is wider. */
function poolCells(pixels, width, height, cells, layer, nSteps, scale) {
  const { elems, every, tokens } = cells;
  const first = Array.from({ length: width }, (_, x) => Math.floor((x * elems) / width));
  const end = first.map((from, x) => Math.max(from + 1, Math.floor(((x + 1) * elems) / width)));
  const sums = new Float64Array(width);
  for (let y = 0; y < height; y += 1) {
    const from = Math.min(tokens - 1, Math.floor((y * nSteps) / height / every));
    const to = Math.min(tokens, Math.max(from + 1, Math.floor(((y + 1) * nSteps) / height / every)));
    sums.fill(0);
    for (let row = from; row < to; row += 1) addRow(sums, cells.data, (layer * tokens + row) * elems, first, end);
    for (let x = 0; x < width; x += 1) {
      pixels[y * width + x] = scale[Math.round(sums[x] / ((to - from) * (end[x] - first[x])))];
    }
  }
}

function addRow(sums, data, start, first, end) {
  for (let x = 0; x < sums.length; x += 1) {
    for (let column = first[x]; column < end[x]; column += 1) sums[x] += data[start + column];
  }
}

/** The dashed outline: what the other side holds in its cache and this one does not. */
function drawMissing(context, { name, view }, { elementWidth, rowHeight }, width) {
  const { run, step, theme } = view;
  const other = name === "left" ? run.right : run.left;
  const missing = (other.cache_elems - run[name].cache_elems) * elementWidth;
  if (missing <= 0) return;
  const height = Math.max(2, (step + 1) * rowHeight);
  context.strokeStyle = theme.muted;
  context.lineWidth = 1;
  context.setLineDash([4, 3]);
  context.strokeRect(GUTTER + width + 1.5, 0.5, missing - 2, height);
  context.setLineDash([]);
  const words = `what ${otherName(run, name)} caches more`;
  context.font = `400 11.5px ${theme.font}`;
  if (context.measureText(words).width + 8 > missing) return;
  const y = height >= 20 ? height / 2 : height + 10;
  write(context, theme, words, GUTTER + width + missing / 2, y, { align: "center", size: 11.5 });
}

function otherName(run, name) {
  const [left, right] = shortNames(run);
  return name === "left" ? right : left;
}

function drawNewRow(context, { step, theme }, { rowHeight }, width) {
  const bottom = (step + 1) * rowHeight;
  const middle = Math.max(6, bottom - rowHeight / 2);
  write(context, theme, String(step), GUTTER - 10, middle, { align: "right", size: 10.5, colour: theme.ink });
  drawMarker(context, theme, middle);
  context.fillStyle = theme.ink;
  context.fillRect(GUTTER, bottom, Math.max(width, 2), 1.5);
}

/** Name the empty rest of the room, where there is room for words. */
function drawToCome(context, { run, step, theme }, { rowHeight, plotHeight }, width) {
  const filled = (step + 1) * rowHeight;
  const words = `${plural(run.n_steps - step - 1, "token")} to come`;
  context.font = `400 11px ${theme.font}`;
  if (plotHeight - filled < 22 || context.measureText(words).width + 12 > width) return;
  write(context, theme, words, GUTTER + width / 2, (plotHeight + filled) / 2 + 1, { align: "center" });
}

/** Say where a pixel stands for more than one value, at the right below the brackets. */
function writePooled(context, { surface, view }, side, { elementWidth, rowHeight, plotHeight }) {
  const { cells, cache_elems: elems } = side;
  const reduced = cells.elems !== elems || cells.every > 1;
  const subPixel = Math.min(elementWidth, rowHeight) * surface.ratio < 1;
  if (!elems || !(reduced || subPixel)) return;
  const words = reduced ? "pooled" : "pooled for display: mean under each pixel";
  write(context, view.theme, words, surface.width - 2, plotHeight + 29, { align: "right", size: 10.5 });
}

function drawBrackets(context, theme, side, { elementWidth, plotHeight }) {
  const y = plotHeight + 8;
  let from = GUTTER;
  let free = [0, 0];
  for (const segment of side.segments) {
    const width = segment.elems * elementWidth;
    context.fillStyle = theme.muted;
    context.fillRect(from + 0.5, y, Math.max(1, width - 1.5), 1.5);
    context.fillRect(from + 0.5, y - 3, 1, 4);
    free = labelBracket(context, theme, segment.label, { from, width, y, free, few: side.segments.length < 4 });
    from += width;
  }
}

/** Write the label centred where it fits; where segments are few it may overhang, on the first free line. */
function labelBracket(context, theme, label, { from, width, y, free, few }) {
  context.font = `400 10.5px ${theme.font}`;
  const needed = context.measureText(label).width;
  const fits = needed + 4 <= width;
  if (!fits && !few) return free;
  const x = fits ? from + (width - needed) / 2 : from;
  const line = free[0] <= x ? 0 : 1;
  write(context, theme, label, x, y + 9 + 12 * line, { size: 10.5 });
  return free.map((right, index) => (index === line ? x + needed + 6 : right));
}

function captionCache({ surface, view, name }, [caption, aside], side) {
  const { run, step, layer } = view;
  const added = side.cache_bytes[step] - (step ? side.cache_bytes[step - 1] : 0);
  const tokens = plural(step + 1, "token");
  const size = `${tokens} × ${plural(side.cache_elems, "value")}`;
  setText(caption, side.cache_elems ? `Cache, layer ${layer + 1}: ${size}` : `No cache, layer ${layer + 1}`);
  setText(aside, added ? `+${bytesText(added)} this token, all layers` : "nothing kept");
  const words = `Cache of ${run[name].short}, layer ${layer + 1}: ${size}; ${bytesText(side.cache_bytes[step])} over all layers`;
  setAttribute(surface.canvas, "aria-label", words);
}

function cacheWords({ surface, view, name }, x, y) {
  const { run, step, layer } = view;
  const side = run[name];
  const { elementWidth, rowHeight } = cacheScale(view, surface);
  const pos = Math.floor(y / rowHeight);
  const index = Math.floor((x - GUTTER) / elementWidth);
  if (pos < 0 || pos > step || index < 0 || index >= side.cache_elems) return null;
  const { cells } = side;
  const row = Math.min(cells.tokens - 1, Math.floor(pos / cells.every));
  const column = Math.floor((index * cells.elems) / side.cache_elems);
  const { value, low, high } = cellValue(cells, layer, row, column);
  const pooled = cells.elems === side.cache_elems && cells.every === 1 ? "one byte" : "pooled, one byte";
  return `token ${pos} ${tokenText(run, pos, 20)}\n${elementWords(side, index)}\n`
    + `≈ ${signedText(value)} (${pooled}, range ${signedText(low)} … ${signedText(high)})`;
}
