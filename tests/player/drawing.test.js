// What is drawn of a step: places, sizes and colours on the canvases.

import assert from "node:assert/strict";
import { test } from "node:test";

import { edited, SAME, show, themeOf } from "./golden.js";

const GUTTER = 34;
// 200 pixels of plot: 50 for each of four tokens, 200 / 33 for each cached element.
const WIDTH = 236;

const canvas = (side, part) => `.panel.${side} .${part} canvas`;
const named = (calls, name) => calls.filter((call) => call.name === name);
const image = (page, selector) => named(page.drawn(selector), "drawImage")[0].args;
const texts = (page, selector) => named(page.drawn(selector), "fillText").map(({ args }) => args[0]);
const close = (one, other) => assert.ok(Math.abs(one - other) < 1e-9, `${one} is not ${other}`);

test("area is memory: both caches have one height and the widths of their bytes", () => {
  const page = show({ search: "?step=3", width: WIDTH });
  const [, , , , , x, y, width, height] = image(page, canvas("left", "cache"));
  const [, , , , , otherX, otherY, otherWidth, otherHeight] = image(page, canvas("right", "cache"));
  assert.deepEqual([x, y, otherX, otherY], [GUTTER, 0, GUTTER, 0]);
  close(width, 200);
  close(otherWidth / width, 108 / 396);
  assert.deepEqual([height, otherHeight], [15, 15]);
});

test("a cache shows the rows so far, and a line below the newest", () => {
  for (const step of [0, 3]) {
    const page = show({ search: `?step=${step + 1}`, width: WIDTH });
    const [picture, , , wide, high, , , , height] = image(page, canvas("left", "cache"));
    assert.deepEqual([wide, high, height], [picture.width, 5 * (step + 1), 5 * (step + 1)]);
    const [x, y, width] = named(page.drawn(canvas("left", "cache")), "fillRect").at(-1).args;
    assert.deepEqual([x, y, width], [GUTTER, 5 * (step + 1), 200]);
    assert.ok(texts(page, canvas("left", "cache")).includes(String(step + 1)));
  }
});

test("a cache's pixels are its bytes in its side's colours", () => {
  const theme = themeOf(SAME);
  const page = show({ search: "?step=4&layer=2", width: GUTTER + 2 + 33 });
  for (const [side, elems] of [
    ["left", 33],
    ["right", 9],
  ]) {
    const [picture] = image(page, canvas(side, "cache"));
    const bytes = SAME[side].cells.data;
    assert.deepEqual([picture.width, picture.height], [elems, 20]);
    assert.equal(picture.pixels[0], theme[side].scale[bytes.at(1, 0, 0)]);
    assert.equal(picture.pixels[picture.pixels.length - 1], theme[side].scale[bytes.at(1, 3, elems - 1)]);
  }
});

test("what the other side caches more is outlined beside the smaller cache, and named", () => {
  const page = show({ search: "?step=3", width: 436 });
  const dashed = (side) => {
    const calls = page.drawn(canvas(side, "cache"));
    const from = calls.findIndex(({ name, args }) => name === "setLineDash" && args[0].length);
    return from < 0 ? null : calls[from + 1].args;
  };
  const [x, y, width, height] = dashed("right");
  const own = (9 * 400) / 33;
  close(x, GUTTER + own + 1.5);
  close(width, 400 - own - 2);
  assert.deepEqual([y, height], [0.5, 15]);
  assert.equal(dashed("left"), null);
  assert.ok(texts(page, canvas("right", "cache")).includes("what naive caches more"));
});

test("the segments of a cache are bracketed at their own widths", () => {
  const page = show({ width: 366 });
  const brackets = (side) =>
    named(page.drawn(canvas(side, "cache")), "fillRect")
      .filter(({ args }) => args[3] === 1.5 && args[0] % 1 === 0.5)
      .map(({ args }) => [args[0], args[2]]);
  assert.deepEqual(brackets("left"), [
    [34.5, 108.5],
    [144.5, 108.5],
    [254.5, 108.5],
  ]);
  assert.deepEqual(brackets("right"), [
    [34.5, 68.5],
    [104.5, 18.5],
  ]);
  const words = texts(page, canvas("left", "cache"));
  assert.deepEqual(words.slice(0, 3), ["head 1", "head 2", "head 3"]);
  assert.deepEqual(texts(page, canvas("right", "cache")).slice(0, 2), ["latent c_KV", "rope key k_R"]);
});

test("labels that do not fit their brackets go to a line of their own", () => {
  const page = show({ width: 366 });
  const [latent, rope] = named(page.drawn(canvas("right", "cache")), "fillText").map(({ args }) => args[2]);
  assert.equal(rope - latent, 12);
});

test("of many heads those are named that have room for it, on one line", () => {
  const bytes = edited("golden.bin", ({ left }) => {
    const parts = [
      { label: "k", elems: 2 },
      { label: "v", elems: 1 },
    ];
    left.layers[0].segments = Array.from({ length: 11 }, (_, at) => ({
      label: `head ${at + 1}`,
      elems: 3,
      parts,
    }));
  });
  for (const [width, expected] of [
    [280, []],
    [480, ["head 1", "head 3", "head 5", "head 7", "head 9"]],
    [700, Array.from({ length: 11 }, (_, at) => `head ${at + 1}`)],
  ]) {
    const page = show({ bytes, width });
    const labels = named(page.drawn(canvas("left", "cache")), "fillText").filter(({ args }) =>
      args[0].startsWith("head"),
    );
    assert.deepEqual([width, labels.map(({ args }) => args[0])], [width, expected]);
    assert.ok(new Set(labels.map(({ args }) => args[2])).size <= 1);
  }
});

test("what is pooled for display is said, and only where it is", () => {
  const said = (options) =>
    texts(show(options), canvas("left", "cache")).filter((words) => words.startsWith("pooled"));
  assert.deepEqual(said({ width: 60 }), ["pooled for display: mean under each pixel"]);
  assert.deepEqual(said({ width: WIDTH }), []);
  assert.deepEqual(said({ name: "golden_models.bin", width: WIDTH }), ["pooled"]);
});

test("the empty rest of a cache is framed, and named where there is room", () => {
  const words = ({ side = "left", ...options }) =>
    texts(show({ search: "?step=1", ...options }), canvas(side, "cache")).filter((text) =>
      text.endsWith("to come"),
    );
  const longer = thirtySteps();
  assert.deepEqual(words({ bytes: longer }), ["29 tokens to come"]);
  assert.deepEqual(words({ bytes: longer, side: "right" }), []);
  assert.deepEqual(words({}), []);
  const [frame] = named(show({ width: WIDTH }).drawn(canvas("left", "cache")), "strokeRect");
  assert.deepEqual(frame.args, [GUTTER - 0.5, 0.5, 201, 23]);
});

/** A golden run said to have thirty steps: enough for what follows from their number alone. */
function thirtySteps() {
  return edited("golden.bin", (header) => {
    header.n_steps = 30;
  });
}

test("where the left cache is the smaller one it says what the right one caches more", () => {
  const bytes = edited("golden.bin", (header) => {
    [header.left, header.right] = [header.right, header.left];
  });
  const page = show({ bytes, width: 436 });
  assert.ok(texts(page, canvas("left", "cache")).includes("what naive caches more"));
  assert.ok(!texts(page, canvas("right", "cache")).some((words) => words.startsWith("what")));
});

test("every head has a row of weights over the tokens so far, and nothing after them", () => {
  const theme = themeOf(SAME);
  for (const side of ["left", "right"]) {
    const page = show({ search: "?step=2&layer=2", width: WIDTH });
    const [picture, ...place] = image(page, canvas(side, "heads"));
    assert.deepEqual([picture.width, picture.height, place], [200, 42, [GUTTER, 0, 200, 42]]);
    const pixel = (x, y) => picture.pixels[y * 200 + x];
    for (const head of [0, 1, 2]) {
      for (const key of [0, 1]) {
        const [weight] = SAME[side].attention.stored(1, 1, head).subarray(key);
        assert.equal(pixel(50 * key + 1, 14 * head + 1), theme[side].scale[Math.round(255 * weight)]);
      }
      assert.deepEqual([pixel(49, 14 * head), pixel(100, 14 * head), pixel(199, 14 * head)], [0, 0, 0]);
    }
  }
});

test("heads are numbered from one, the chosen one bold, and the tokens named below", () => {
  const page = show({ search: "?step=2&head=2", width: WIDTH });
  const calls = named(page.drawn(canvas("left", "heads")), "fillText");
  assert.deepEqual(calls.map(({ args, font }) => [args[0], font.startsWith("600")]).slice(0, 3), [
    ["1", false],
    ["2", true],
    ["3", false],
  ]);
  assert.deepEqual(named(page.drawn(canvas("left", "heads")), "lineTo")[0].args, [GUTTER - 2, 21]);
  assert.deepEqual(calls.map(({ args }) => args[0]).slice(3), ["␣⏎", "Once"]);
  assert.deepEqual(calls.map(({ args }) => args[1]).slice(3), [GUTTER + 75, GUTTER + 25]);
});

test("the triangle shows the queries so far and outlines the newest", () => {
  const page = show({ search: "?step=3&layer=2&head=1", width: WIDTH });
  const theme = themeOf(SAME);
  for (const side of ["left", "right"]) {
    const [picture, , , wide, high, x, y, width, height] = image(page, canvas(side, "triangle"));
    assert.deepEqual([picture.width, picture.height], [200, 230]);
    assert.deepEqual([wide, high, x, y, width, height], [200, 172, GUTTER, 0, 200, 172]);
    const outline = named(page.drawn(canvas(side, "triangle")), "strokeRect").at(-1).args;
    assert.deepEqual(outline, [GUTTER - 0.5, 114.5, 151, 57.5]);
    assert.deepEqual(texts(page, canvas(side, "triangle")), ["3"]);
    const [weight] = SAME[side].attention.stored(2, 1, 0).subarray(1);
    assert.equal(picture.pixels[120 * 200 + 51], theme[side].scale[Math.round(255 * weight)]);
  }
});

test("a map is drawn anew for another layer or head, and kept for another step", () => {
  const page = show({ search: "?step=1", width: WIDTH });
  const pixels = (part) => image(page, canvas("left", part))[0].pixels;
  const pick = (name, value) => {
    page.find(`select[name=${name}]`).value = value;
    page.fire(page.find(`select[name=${name}]`), "change");
    page.frame();
  };
  const [cache, triangle] = [pixels("cache"), pixels("triangle")];
  page.press("End");
  page.frame();
  assert.deepEqual([pixels("cache") === cache, pixels("triangle") === triangle], [true, true]);
  pick("head", "2");
  assert.deepEqual([pixels("cache") === cache, pixels("triangle") === triangle], [true, false]);
  pick("layer", "1");
  assert.equal(pixels("cache") === cache, false);
  pick("head", "0");
  pick("layer", "0");
  assert.deepEqual([pixels("cache"), pixels("triangle")], [cache, triangle]);
});

test("the current query is named by its token, not by its row", () => {
  const page = show({ name: "golden_models.bin", search: "?step=3" });
  assert.deepEqual(texts(page, canvas("left", "triangle")), ["3"]);
});

test("before the first kept row there are words in place of the maps", () => {
  const page = show({ search: "?step=1", bytes: lateRows() });
  for (const part of ["heads", "triangle"]) {
    assert.deepEqual(texts(page, canvas("left", part)), [
      "No weights kept this early: the first are of step 3.",
    ]);
    assert.deepEqual(named(page.drawn(canvas("left", part)), "drawImage"), []);
  }
  assert.equal(
    page.text(".panel.left .heads .caption"),
    "Attention now, layer 1: every head over 0 tokens · rounded",
  );
  page.press("End");
  page.frame();
  assert.equal(named(page.drawn(canvas("left", "triangle")), "drawImage").length, 1);
});

/** The second golden run, without the row of its first step. */
function lateRows() {
  return edited("golden_models.bin", ({ left }) => {
    left.attention.steps.offset += 4;
    left.attention.steps.shape = [1];
  });
}

test("canvases are as wide as their places, and wait until those have a width", () => {
  const page = show({ width: 0 });
  assert.deepEqual(page.drawn(".growth canvas"), []);
  page.resize(WIDTH);
  page.resize(356, ".growth .plot");
  page.frame();
  assert.deepEqual(
    [".growth canvas", canvas("right", "heads")].map((one) => page.find(one).width),
    [356, WIDTH],
  );
});

test("canvases are as sharp as the screen", () => {
  const page = show({ width: WIDTH });
  page.window.devicePixelRatio = 2;
  page.resize(WIDTH);
  page.frame();
  const heads = page.find(canvas("left", "heads"));
  assert.deepEqual([heads.width, heads.height, heads.style.height], [472, 120, "60px"]);
  assert.deepEqual(named(page.drawn(canvas("left", "heads")), "setTransform")[0].args, [2, 0, 0, 2, 0, 0]);
  assert.deepEqual([image(page, canvas("left", "heads"))[0].width], [400]);
});

test("the chart draws the run so far thick and marks where it stands", () => {
  const page = show({ search: "?step=2", width: 368 });
  const calls = page.drawn(".growth canvas");
  const dots = named(calls, "arc").map(({ args }) => args.slice(0, 2));
  const theme = themeOf(SAME);
  const share = (bytes) => 10 + 186 * (1 - bytes / 528);
  assert.deepEqual(dots, [
    [64 + (1 / 3) * 200, share(264)],
    [64 + (1 / 3) * 200, share(72)],
  ]);
  const thick = named(calls, "stroke").filter(({ lineWidth }) => lineWidth === 3.5);
  assert.deepEqual(
    thick.map(({ strokeStyle }) => strokeStyle),
    [theme.left.full, theme.right.full],
  );
  const ends = thick.map((stroke) => calls[calls.indexOf(stroke) - 1].args);
  assert.deepEqual(ends, dots);
  const tick = named(calls, "fillText").find(({ args }) => args[0] === "2");
  assert.equal(tick.args[1], 64 + (1 / 3) * 200);
  assert.deepEqual(texts(page, ".growth canvas"), [
    "0 B",
    "200 B",
    "400 B",
    "2",
    "4",
    "tokens cached",
    "cache, bytes",
    "naive",
    "MHA 3×5",
    "MQA 1×5",
    "absorbed",
  ]);
  const filled = named(calls, "fill").map(({ fillStyle }) => fillStyle);
  assert.deepEqual(filled, [theme.left.full, theme.right.full]);
});

test("the chart's button switches between a linear scale and a logarithmic one", () => {
  const page = show({ width: 356 });
  const button = page.find("[data-action=scale]");
  page.fire(button, "click");
  assert.deepEqual([button.textContent, button.getAttribute("aria-pressed")], ["log scale", "true"]);
  assert.deepEqual(texts(page, ".growth canvas").slice(0, 4), ["64 B", "128 B", "256 B", "512 B"]);
  page.fire(button, "click");
  assert.deepEqual([button.textContent, button.getAttribute("aria-pressed")], ["linear scale", "false"]);
  assert.equal(texts(page, ".growth canvas")[0], "0 B");
});

test("a line of the chart has a point a step, and no more than pixels", () => {
  const points = (width) => {
    const calls = show({ bytes: thirtySteps(), search: "?step=1", width }).drawn(".growth canvas");
    const [first] = named(calls, "stroke");
    return named(calls.slice(0, calls.indexOf(first)), "lineTo").length;
  };
  assert.deepEqual([points(368), points(168 + 10)], [30, 16]);
});

test("whole amounts of bytes are written without a point", () => {
  const bytes = edited("golden.bin", (header) => {
    for (const { baselines } of [header.left, header.right]) baselines[0].bytes_per_token = 1024;
  });
  const written = texts(show({ bytes, width: 356 }), ".growth canvas").slice(0, 5);
  assert.deepEqual(written, ["0 B", "1 KiB", "2 KiB", "3 KiB", "4 KiB"]);
});
