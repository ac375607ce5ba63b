// Attention maps: every head over the tokens so far, and the triangle of one head over all its queries.
// Both share their columns, one a token of the whole run, and one linear scale from 0 to 1.
// They know kept rows of weights; they do not know how a mechanism came by them.

const TRIANGLE_HEIGHT = 230;
const LABEL_HEIGHT = 18;

function makeHeadsView(panel, name, tooltip, chooseHead) {
  const surface = makeSurface(panel.querySelector(".heads canvas"));
  const state = { name, surface, view: null, caption: panel.querySelector(".heads .caption") };
  attachTooltip(tooltip, surface.canvas, (x, y) => state.view && headsWords(state, x, y));
  surface.canvas.addEventListener("click", (event) => {
    const head = state.view ? headAt(state, event.offsetY) : -1;
    if (head >= 0) chooseHead(head);
  });
  return { surface, paint: (view) => paintHeads(state, view) };
}

function headHeight(nHeads) {
  return Math.max(2, Math.min(14, 128 / nHeads));
}

function plotWidth(surface) {
  return surface.width - GUTTER - 2;
}

function paintHeads(state, view) {
  state.view = view;
  const { surface, name } = state;
  const side = view.run[name];
  const row = keptRow(side.attention, view.step);
  const height = side.n_heads * headHeight(side.n_heads);
  const context = beginSurface(surface, height + LABEL_HEIGHT);
  captionHeads(state, side, row);
  if (row < 0) return write(context, view.theme, keptFromWords(side), GUTTER, height / 2);
  drawRoom(context, view.theme, plotWidth(surface), height);
  drawHeads(context, state, side, row, height);
  drawHeadLabels(context, view, side);
  labelTokens(context, view, plotWidth(surface), height + 10, side.attention.rows[row]);
}

function drawHeads(context, { surface, view, name }, side, row, height) {
  const { run, layer, theme } = view;
  const [wide, high] = [Math.round(plotWidth(surface) * surface.ratio), Math.round(height * surface.ratio)];
  const levels = new Int16Array(wide);
  const image = makeImage(surface.image, wide, high, (pixels) => {
    for (let head = 0; head < side.n_heads; head += 1) {
      poolRow(levels.fill(-1), attentionSlice(side, row, layer, head), side.attention.toLevel, run.n_steps);
      writeRow(pixels, wide, levels, theme[name].scale, ...cellSpan(head, side.n_heads, high));
    }
  });
  surface.image = image;
  context.drawImage(image, GUTTER, 0, plotWidth(surface), height);
}

function drawHeadLabels(context, { head, theme }, side) {
  const height = headHeight(side.n_heads);
  const every = Math.ceil(11 / height);
  for (let index = 0; index < side.n_heads; index += 1) {
    const chosen = index === Math.min(head, side.n_heads - 1);
    const y = (index + 0.5) * height;
    if (chosen) drawMarker(context, theme, y);
    const crowded = Math.abs(index - head) < every;
    if (!chosen && (index % every || crowded)) continue;
    const colour = chosen ? theme.ink : theme.muted;
    write(context, theme, String(index + 1), GUTTER - 10, y, { align: "right", size: 10.5, colour, bold: chosen });
  }
}

/** Token text under some columns: first and current always, others where they do not touch. */
function labelTokens(context, { run, theme }, width, y, current) {
  const column = width / run.n_steps;
  const taken = [];
  const place = (pos, colour) => {
    const text = tokenText(run, pos, 12);
    context.font = `400 10.5px ${theme.font}`;
    const half = context.measureText(text).width / 2;
    const middle = Math.min(Math.max(GUTTER + (pos + 0.5) * column, GUTTER + half), GUTTER + width - half);
    if (taken.some(([from, to]) => middle + half + 8 > from && middle - half - 8 < to)) return;
    taken.push([middle - half, middle + half]);
    write(context, theme, text, middle, y, { align: "center", size: 10.5, colour });
  };
  place(current, theme.ink);
  const stride = Math.max(1, Math.round(56 / column));
  for (let pos = 0; pos < current; pos += stride) place(pos, theme.muted);
}

function captionHeads({ view, name, surface, caption }, side, row) {
  const { run, step, layer } = view;
  const notes = attentionNotes(side, run, surface, row, step);
  const over = plural(row < 0 ? 0 : side.attention.rows[row] + 1, "token");
  setText(caption, `Attention now, layer ${layer + 1}: every head over ${over}${notes}`);
  const peak = row < 0 ? "" : `; head ${headOf(view, side) + 1} looks most at ${peakWords(view, side, row)}`;
  const words = `Attention of ${plural(side.n_heads, "head")} of ${run[name].short}, layer ${layer + 1}, over ${over}${peak}`;
  setAttribute(surface.canvas, "aria-label", words);
}

function attentionNotes(side, run, surface, row, step) {
  const notes = [];
  if (row >= 0 && side.attention.rows[row] !== step) notes.push(`step ${side.attention.rows[row] + 1}, the nearest kept`);
  if (plotWidth(surface) * surface.ratio < run.n_steps) notes.push("pooled by maximum");
  if (!side.attention.exact) notes.push("rounded");
  return notes.map((note) => ` · ${note}`).join("");
}

function keptFromWords(side) {
  const { rows } = side.attention;
  return rows.length ? `No weights kept this early: the first are of step ${rows[0] + 1}.` : "No weights kept in this run.";
}

function headOf({ head }, side) {
  return Math.min(head, side.n_heads - 1);
}

function peakWords(view, side, row) {
  const { data, start, count } = attentionSlice(side, row, view.layer, headOf(view, side));
  let best = 0;
  for (let key = 1; key < count; key += 1) if (data[start + key] > data[start + best]) best = key;
  return `token ${best} ${tokenText(view.run, best, 20)}`;
}

function headAt({ surface, view, name }, y) {
  const side = view.run[name];
  const head = Math.floor(y / headHeight(side.n_heads));
  return head < side.n_heads && surface.width > 0 ? head : -1;
}

function headsWords(state, x, y) {
  const { view, name, surface } = state;
  const side = view.run[name];
  const row = keptRow(side.attention, view.step);
  const head = headAt(state, y);
  if (row < 0 || head < 0) return null;
  return weightWords(view, side, surface, attentionSlice(side, row, view.layer, head), x, `head ${head + 1}`);
}

/** Weight under x, in words: exact where each column is one token, the largest of its tokens otherwise. */
function weightWords({ run }, side, surface, slice, x, where) {
  const share = (x - GUTTER) / plotWidth(surface);
  const from = Math.floor(share * run.n_steps);
  if (share < 0 || from >= slice.count) return null;
  const perPixel = run.n_steps / (plotWidth(surface) * surface.ratio);
  const to = Math.min(slice.count, from + Math.max(1, Math.ceil(perPixel)));
  let best = from;
  for (let key = from; key < to; key += 1) if (slice.data[slice.start + key] > slice.data[slice.start + best]) best = key;
  const weight = slice.data[slice.start + best];
  const figure = side.attention.exact ? weight.toPrecision(9) : `≈ ${(weight / (side.attention.toLevel === 1 ? 255 : 1)).toFixed(3)} (rounded)`;
  const pooled = to - from > 1 ? `, max of ${to - from} tokens` : "";
  return `${where}\ntoken ${best} ${tokenText(run, best, 20)}\n${figure}${pooled}`;
}

function makeTriangleView(panel, name, tooltip) {
  const surface = makeSurface(panel.querySelector(".triangle canvas"));
  const state = { name, surface, view: null, caption: panel.querySelector(".triangle .caption") };
  attachTooltip(tooltip, surface.canvas, (x, y) => state.view && triangleWords(state, x, y));
  return { surface, paint: (view) => paintTriangle(state, view) };
}

/** Draw the whole triangle once for (run, layer, head); a step only shows more of it. */
function paintTriangle(state, view) {
  state.view = view;
  const { surface, name } = state;
  const side = view.run[name];
  const context = beginSurface(surface, TRIANGLE_HEIGHT + 4);
  const row = keptRow(side.attention, view.step);
  captionTriangle(state, side, row);
  if (row < 0) return write(context, view.theme, keptFromWords(side), GUTTER, 20);
  const kept = side.attention.rows.length;
  const [wide, high] = [plotWidth(surface), TRIANGLE_HEIGHT].map((size) => Math.round(size * surface.ratio));
  const key = `${view.theme.key}|${view.layer}|${headOf(view, side)}`;
  const image = imageFor(surface, key, wide, high, (pixels) => fillTriangle(pixels, wide, high, view, side, name));
  const shown = Math.max(1, Math.floor(((row + 1) * high) / kept));
  drawRoom(context, view.theme, plotWidth(surface), TRIANGLE_HEIGHT);
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, wide, shown, GUTTER, 0, plotWidth(surface), shown / surface.ratio);
  drawQuery(context, view, side, row, plotWidth(surface));
}

function fillTriangle(pixels, wide, high, view, side, name) {
  const { attention } = side;
  const kept = attention.rows.length;
  const levels = new Int16Array(wide).fill(-1);
  for (let row = 0; row < kept; row += 1) {
    const [top, bottom] = cellSpan(row, kept, high);
    poolRow(levels, attentionSlice(side, row, view.layer, headOf(view, side)), attention.toLevel, view.run.n_steps);
    writeRow(pixels, wide, levels, view.theme[name].scale, top, bottom);
    const nextTop = Math.floor(((row + 1) * high) / kept);
    if (nextTop > top) levels.fill(-1);
  }
}

/** Outline the current query's row, and name it in the gutter. */
function drawQuery(context, { run, theme }, side, row, width) {
  const { rows } = side.attention;
  const height = TRIANGLE_HEIGHT / rows.length;
  const [top, right] = [row * height, ((rows[row] + 1) * width) / run.n_steps];
  const y = Math.min(Math.max(7, top + height / 2), TRIANGLE_HEIGHT - 5);
  context.strokeStyle = theme.ink;
  context.lineWidth = 1.25;
  context.strokeRect(GUTTER - 0.5, top - 0.5, right + 1, Math.max(2, height));
  drawMarker(context, theme, y);
  write(context, theme, String(rows[row]), GUTTER - 10, y, { align: "right", size: 10.5, colour: theme.ink });
}

function captionTriangle({ view, name, surface, caption }, side, row) {
  const { run, layer } = view;
  const head = headOf(view, side) + 1;
  const kept = side.attention.rows.length;
  const notes = kept < run.n_steps ? ` · ${kept} of ${run.n_steps} rows kept` : "";
  const pooled = plotWidth(surface) * surface.ratio < run.n_steps ? " · pooled by maximum" : "";
  setText(caption, `Head ${head}, layer ${layer + 1}: queries down, keys across${notes}${pooled}`);
  const words = `Attention map of head ${head}, layer ${layer + 1}, ${run[name].short}: ${plural(row + 1, "query row")}, masked keys blank`;
  setAttribute(surface.canvas, "aria-label", words);
}

function triangleWords({ surface, view, name }, x, y) {
  const side = view.run[name];
  const { rows } = side.attention;
  const row = Math.floor((y * rows.length) / TRIANGLE_HEIGHT);
  if (row < 0 || row > keptRow(side.attention, view.step)) return null;
  const head = headOf(view, side);
  const where = `head ${head + 1}, query ${rows[row]} ${tokenText(view.run, rows[row], 20)}`;
  return weightWords(view, side, surface, attentionSlice(side, row, view.layer, head), x, where);
}
