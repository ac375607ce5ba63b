// Two cards below the panels: cache bytes against tokens, and the next-token candidates of both sides.
// They know whole series and one marked step; they do not know attention, operations or controls.

const CHART_HEIGHT = 236;
const CHART = { left: 64, right: 92, top: 10, bottom: 40 };

function makeChart(card) {
  const surface = makeSurface(card.querySelector("canvas"));
  const state = { surface, log: false, view: null };
  const toggle = card.querySelector("[data-action=scale]");
  toggle.addEventListener("click", () => {
    state.log = !state.log;
    setAttribute(toggle, "aria-pressed", state.log);
    setText(toggle, state.log ? "log scale" : "linear scale");
    if (state.view) paintChart(state, state.view);
  });
  return { surface, paint: (view) => paintChart(state, view) };
}

function paintChart(state, view) {
  state.view = view;
  const { surface } = state;
  const { run, step, theme } = view;
  const context = beginSurface(surface, CHART_HEIGHT);
  const series = chartSeries(run, theme);
  const axes = chartAxes(state, run, series);
  drawGrid(context, theme, axes, run, surface);
  for (const line of series) drawSeries(context, line, axes, step, run.n_steps);
  drawNow(context, theme, axes, series, step);
  labelSeries(context, theme, axes, series, run.n_steps);
  const words = shortNames(run).map((name, index) => `${name} ${bytesText([run.left, run.right][index].cache_bytes[step])}`);
  setAttribute(surface.canvas, "aria-label", `Cached bytes against tokens: after ${plural(step + 1, "token")} ${words.join(", ")}`);
}

function chartSeries(run, theme) {
  const plain = run.baselines.map(({ label, bytes_per_token: each }) => (
    { label, colour: theme.muted, text: theme.muted, thick: false, at: (index) => each * (index + 1) }
  ));
  const names = shortNames(run);
  const own = ["left", "right"].map((name, index) => ({
    label: names[index], colour: theme[name].full, text: theme[name].text, thick: true,
    dash: index === 1 ? [7, 3] : [], at: (at) => run[name].cache_bytes[at],
  }));
  const alike = own.every((line) => line.at(run.n_steps - 1) === own[0].at(run.n_steps - 1));
  if (!alike) own[1].dash = [];
  return [...plain, ...own];
}

function chartAxes({ surface, log }, run, series) {
  const [width, height] = [surface.width - CHART.left - CHART.right, CHART_HEIGHT - CHART.top - CHART.bottom];
  const last = Math.max(1, run.n_steps - 1);
  const highest = Math.max(...series.map((line) => line.at(run.n_steps - 1)), 1);
  const lowest = Math.min(...series.map((line) => line.at(0)).filter((bytes) => bytes > 0), highest);
  const share = log
    ? (bytes) => Math.log(Math.max(bytes, lowest) / lowest) / Math.log(Math.max(highest / lowest, 2))
    : (bytes) => bytes / highest;
  return {
    width, height, highest, lowest, log,
    x: (index) => CHART.left + (index / last) * width,
    y: (bytes) => CHART.top + height * (1 - share(bytes)),
  };
}

/** Round byte amounts for the axis: powers of four on a log scale, 1-2-4 steps of it on a linear one. */
function byteTicks({ highest, lowest, log }) {
  if (log) {
    const every = 2 ** Math.max(1, Math.ceil(Math.log2(highest / lowest) / 5));
    const ticks = [2 ** Math.ceil(Math.log2(lowest))];
    while (ticks.at(-1) * every <= highest) ticks.push(ticks.at(-1) * every);
    return ticks;
  }
  const unit = 1024 ** Math.floor(Math.log(highest) / Math.log(1024));
  const rough = highest / unit / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough);
  return Array.from({ length: Math.floor(highest / unit / size) + 1 }, (_, index) => index * size * unit);
}

function tokenTicks(nSteps, width) {
  const rough = (nSteps * 70) / width;
  const power = 10 ** Math.floor(Math.log10(Math.max(1, rough)));
  const every = [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough);
  const ticks = [];
  for (let tokens = every; tokens <= nSteps; tokens += every) ticks.push(tokens);
  return ticks;
}

function drawGrid(context, theme, axes, run, surface) {
  for (const bytes of byteTicks(axes)) {
    const y = Math.round(axes.y(bytes)) + 0.5;
    context.fillStyle = theme.line;
    context.fillRect(CHART.left, y - 0.5, axes.width, 1);
    const words = bytesText(bytes).replace(".0", "");
    write(context, theme, words, CHART.left - 6, y, { align: "right", size: 10.5 });
  }
  const bottom = CHART.top + axes.height;
  for (const tokens of tokenTicks(run.n_steps, axes.width)) {
    write(context, theme, String(tokens), axes.x(tokens - 1), bottom + 11, { align: "center", size: 10.5 });
  }
  write(context, theme, "tokens cached", CHART.left + axes.width / 2, bottom + 28, { align: "center" });
  context.save();
  context.translate(9, CHART.top + axes.height / 2);
  context.rotate(-Math.PI / 2);
  write(context, theme, "cache, bytes", 0, 0, { align: "center" });
  context.restore();
}

/** The whole run thin, what has been decoded so far thick; baselines thin throughout. */
function drawSeries(context, line, axes, step, nSteps) {
  context.strokeStyle = line.colour;
  context.setLineDash(line.dash ?? []);
  traceSeries(context, line, axes, nSteps - 1, line.thick ? 1.5 : 1);
  if (line.thick) traceSeries(context, line, axes, step, 3.5);
  context.setLineDash([]);
}

function traceSeries(context, line, axes, last, lineWidth) {
  const stride = Math.max(1, Math.floor(last / axes.width));
  context.lineWidth = lineWidth;
  context.beginPath();
  for (let index = 0; index < last; index += stride) context.lineTo(axes.x(index), axes.y(line.at(index)));
  context.lineTo(axes.x(last), axes.y(line.at(last)));
  context.stroke();
}

function drawNow(context, theme, axes, series, step) {
  const x = axes.x(step);
  context.strokeStyle = theme.ink;
  context.lineWidth = 1;
  context.setLineDash([2, 3]);
  context.beginPath();
  context.moveTo(x, CHART.top);
  context.lineTo(x, CHART.top + axes.height);
  context.stroke();
  context.setLineDash([]);
  for (const line of series.filter(({ thick }) => thick)) {
    context.fillStyle = line.colour;
    context.strokeStyle = theme.ground;
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, axes.y(line.at(step)), 5, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}

/** Names at the right end, pushed apart until none touches another, each tied to its line's end. */
function labelSeries(context, theme, axes, series, nSteps) {
  const labels = series.map((line) => ({ line, end: axes.y(line.at(nSteps - 1)), y: 0 })).sort((a, b) => a.end - b.end);
  spread(labels, CHART.top, CHART.top + axes.height, 14);
  const x = CHART.left + axes.width;
  for (const { line, end, y } of labels) {
    context.strokeStyle = line.colour;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x + 3, end);
    context.lineTo(x + 13, y);
    context.stroke();
    write(context, theme, line.label, x + 17, y, { size: 11.5, colour: line.text, bold: line.thick });
  }
}

function spread(labels, top, bottom, apart) {
  labels.forEach((label, index) => {
    label.y = Math.max(label.end, index ? labels[index - 1].y + apart : top);
  });
  for (let index = labels.length - 1; index >= 0; index -= 1) {
    const limit = index === labels.length - 1 ? bottom : labels[index + 1].y - apart;
    labels[index].y = Math.min(labels[index].y, limit);
  }
}

const CANDIDATES = 8;

function makeCandidates(card) {
  const rows = Array.from({ length: CANDIDATES }, makeCandidate);
  card.querySelector(".candidates").replaceChildren(...rows.map(({ row }) => row));
  const parts = { rows, title: card.querySelector(".aside"), keys: [...card.querySelectorAll(".key")] };
  return { place: card, paint: (view) => paintCandidates(parts, view) };
}

function makeCandidate() {
  const row = element("li", "candidate");
  const name = element("span", "name");
  const bars = ["left", "right"].map((side) => {
    const bar = element("span", `bar ${side}`);
    const figure = element("span", "probability");
    const line = element("span", "line");
    line.append(bar, figure);
    return { line, bar, figure };
  });
  const pair = element("span", "pair");
  pair.append(...bars.map(({ line }) => line));
  row.append(name, pair);
  return { row, name, bars };
}

function paintCandidates({ rows, title, keys }, { run, step }) {
  setText(title, `temperature ${run.temperature}`);
  shortNames(run).forEach((name, index) => setText(keys[index], name));
  const candidates = unionOfTop(run, step);
  rows.forEach(({ row, name, bars }, index) => {
    const candidate = candidates[index];
    row.hidden = !candidate;
    if (!candidate) return;
    setText(name, shortened(visibleText(candidate.text), 16));
    bars.forEach((bar, side) => showBar(bar, candidate.probs[side], candidate.floors[side]));
  });
}

function showBar({ bar, figure }, probability, floor) {
  bar.style.width = `${(100 * (probability ?? 0)).toFixed(2)}%`;
  setText(figure, probability === undefined ? `below ${Math.max(floor, 0.001).toFixed(3)}` : probability.toFixed(3));
}

/** Candidates of either side, most likely first; a side that does not list one has it below its floor. */
function unionOfTop(run, step) {
  const found = new Map();
  const floors = [run.left, run.right].map(({ top }) => top.probs[step * CANDIDATES + CANDIDATES - 1]);
  [run.left, run.right].forEach(({ top }, side) => {
    top.text[step].forEach((text, rank) => {
      const candidate = found.get(text) ?? { text, probs: [], floors };
      candidate.probs[side] ??= top.probs[step * CANDIDATES + rank];
      found.set(text, candidate);
    });
  });
  const best = ({ probs }) => Math.max(probs[0] ?? 0, probs[1] ?? 0);
  return [...found.values()].sort((a, b) => best(b) - best(a)).slice(0, CANDIDATES);
}
