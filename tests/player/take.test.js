// Pictures taken along: the context that writes SVG, numbers as CSV, names of files, and the menu that asks.

import assert from "node:assert/strict";
import { resolveObjectURL } from "node:buffer";
import { test } from "node:test";

import { beginSurface } from "../../mla_viz/player/src/canvas.js";
import { cellPaths, makeSvgSurface, svgText } from "../../mla_viz/player/src/svg.js";
import { csvText, fileName, wrapped } from "../../mla_viz/player/src/take.js";
import { openPage } from "./fake_page.js";
import { edited, SAME, show } from "./golden.js";

const SIDED = ["left", "right"].flatMap((side) =>
  ["cache", "heads", "triangle"].map((part) => `.panel.${side} .${part}`),
);
const PICTURES = [".inside", ".growth", ...SIDED];
const AT_THE_FOX = { search: "?step=3&layer=2&head=2&phase=3.5", width: 366 };

/** What a drawing becomes, without the lines around it. */
function written(draw) {
  openPage();
  const surface = makeSvgSurface(100, 2);
  draw(beginSurface(surface, 50));
  return svgText(surface, "a title").split("\n").slice(2, -2);
}

/** What a button of a picture's menu hands to the browser: the name of the file, and what is in it. */
async function taken(page, picture, format) {
  const button = page.root.querySelectorAll(`${picture} .formats button`);
  page.fire(
    button.find(({ textContent }) => textContent === format),
    "click",
  );
  await new Promise(setImmediate);
  const { download, href } = page.document.clicked.at(-1) ?? {};
  return { name: download, text: href && (await resolveObjectURL(href).text()) };
}

const drawn = (page, picture, ...names) =>
  page.drawn(`${picture} canvas`).filter(({ name }) => names.includes(name));
const count = (text, what) => text.split(what).length - 1;

test("every call becomes its shape, in the colours, lines and moves of that moment", () => {
  const shapes = written((context) => {
    Object.assign(context, { fillStyle: "rgb(27 135 171)", strokeStyle: "#c62828", lineWidth: 1.5 });
    context.fillRect(1, 2, 3.456, 4);
    context.setLineDash([4, 3]);
    context.strokeRect(10, 10, -4, 5);
    context.setLineDash([]);
    context.beginPath();
    context.lineTo(0, 1);
    context.lineTo(2, 3.5);
    context.stroke();
    context.beginPath();
    context.arc(20, 10, 5, 0, 2 * Math.PI);
    context.fill();
    context.save();
    context.translate(9, 8);
    context.rotate(-Math.PI / 2);
    Object.assign(context, {
      font: '600 10px "Source", sans-serif',
      textAlign: "center",
      textBaseline: "middle",
    });
    context.fillText('a<b & "c"\u0001', 0, 0);
    context.restore();
    context.fillRect(0, 0, 1, 1);
  });
  assert.deepEqual(shapes, [
    '<rect x="1" y="2" width="3.46" height="4" fill="#1b87ab"/>',
    '<rect x="6" y="10" width="4" height="5" fill="none" stroke="#c62828" stroke-width="1.5" stroke-dasharray="4 3"/>',
    '<path d="M0 1L2 3.5" fill="none" stroke="#c62828" stroke-width="1.5"/>',
    '<path d="M25 10A5 5 0 1 1 15 10A5 5 0 1 1 25 10" fill="#1b87ab"/>',
    '<text x="0" y="3.5" font-family="&quot;Source&quot;, sans-serif" font-size="10" font-weight="600"' +
      ' text-anchor="middle" textLength="60" lengthAdjust="spacingAndGlyphs" fill="#1b87ab"' +
      ' transform="translate(9 8) rotate(-90)">a&lt;b &amp; &quot;c&quot;\ufffd</text>',
    '<rect x="0" y="0" width="1" height="1" fill="#1b87ab"/>',
  ]);
});

test("a call or a setting that the context does not know is refused, not lost", () => {
  for (const [draw, words] of [
    [(context) => context.bezierCurveTo(1, 2, 3, 4, 5, 6), /got bezierCurveTo/],
    [(context) => Object.assign(context, { shadowBlur: 3 }), /got shadowBlur/],
    [(context) => context.arc(0, 0, 1, 0, 3), /expected a full circle, got 0 to 3/],
    [(context) => Object.assign(context, { font: "bold 10px x" }).fillText("a", 0, 0), /got "bold 10px x"/],
    [(context) => Object.assign(context, { textBaseline: "top" }).fillText("a", 0, 0), /on its top/],
  ]) {
    assert.throws(() => written(draw), words);
  }
});

test("pixels of one colour are one rectangle, as long and high as they go; blank ones are none", () => {
  const [blue, red] = [0xff000001, 0xff000002];
  const pixels = Uint32Array.of(blue, blue, red, blue, blue, red, blue, 0, red);
  const paths = cellPaths({ data: new Uint8ClampedArray(pixels.buffer), width: 3, height: 3 });
  assert.deepEqual(
    [...paths],
    [
      [blue, "M0 0h2v2h-2zM0 2h1v1h-1z"],
      [red, "M2 0h1v3h-1z"],
    ],
  );
});

test("a part of an image is laid where, and as large as, the canvas has it", () => {
  const [group] = written((context) => {
    const image = document.createElement("canvas");
    Object.assign(image, { width: 2, height: 3, pixels: Uint32Array.of(0, 0, 0, 0xffab871b, 0, 0) });
    context.drawImage(image, 0, 1, 2, 1, 34, 5, 8, 3);
  });
  assert.equal(
    group,
    '<g transform="translate(34 5) scale(4 3)" shape-rendering="crispEdges">' +
      '<path fill="#1b87ab" d="M1 0h1v1h-1z"/></g>',
  );
});

test("a picture as SVG holds every word, bar and frame that its canvas shows, and words to stand alone", async () => {
  for (const name of ["golden.bin", "golden_models.bin"]) {
    const page = show({ ...AT_THE_FOX, name });
    for (const picture of PICTURES) {
      const { text } = await taken(page, picture, "SVG");
      for (const { args } of drawn(page, picture, "fillText")) {
        assert.ok(text.includes(`>${args[0].replace("<", "&lt;").replace(">", "&gt;")}</text>`), args[0]);
      }
      const rects = drawn(page, picture, "fillRect", "strokeRect").length;
      assert.equal(count(text, "<rect"), rects + 1, picture);
      assert.equal(count(text, "crispEdges"), drawn(page, picture, "drawImage").length, picture);
      assert.equal(count(text, "<g"), count(text, "</g>"));
      const words = text.replace(/<\/text>\s*<text[^>]*>/g, " ");
      assert.match(words, /Step 3 of [34] feeds token 3/);
      assert.doesNotMatch(text, /<image|NaN|undefined/);
    }
  }
});

test("the heading names picture, layer, head, both mechanisms or the one, and how to read it", async () => {
  const page = show({ ...AT_THE_FOX, width: 1200 });
  const heading = async (picture) =>
    (await taken(page, picture, "SVG")).text.match(/(?<=>)[^<>]+(?=<\/text>)/g).slice(0, 4);
  const [triangle, mechanism, step, legend] = await heading(".panel.right .triangle");
  assert.equal(triangle, "Head 2, layer 2: queries down, keys across");
  assert.equal(mechanism, SAME.right.label);
  assert.match(step, /^Step 3 of 4 feeds token 3, &quot;🦊&quot;/);
  assert.match(legend, /from 0 \(faint\) to 1 \(strong\); masked keys are blank/);
  const [inside, both] = await heading(".inside");
  assert.deepEqual(
    [inside, both],
    ["Inside step 3 of 4, layer 2, head 2, score", `${SAME.left.label} | ${SAME.right.label}`],
  );
});

test("a picture as PNG is drawn again at twice the size, on the page's ground", async () => {
  const page = show({ ...AT_THE_FOX, colours: { "--st-background-color": "#102030" } });
  const make = page.document.createElement;
  const canvases = [];
  page.document.createElement = (tag) => {
    const node = make(tag);
    if (tag === "canvas") canvases.push(node);
    return node;
  };
  for (const picture of PICTURES) {
    canvases.length = 0;
    const { name, text } = await taken(page, picture, "PNG");
    assert.match(name, /\.png$/);
    const [first] = JSON.parse(text).filter((call) => call.name === "fillRect");
    assert.equal(first.fillStyle, "rgb(16 32 48)");
    const whole = canvases.find(({ width }) => width === 2 * (366 + 32));
    assert.deepEqual(first.args, [0, 0, whole.width / 2, whole.height / 2]);
    const { height } = page.find(`${picture} canvas`);
    assert.ok(whole.height >= 2 * (height + 4 * 18 + 32), picture);
  }
});

test("a picture that is too large for the browser is not saved, and that is said", async () => {
  const page = show({ ...AT_THE_FOX, width: 2000 });
  await taken(page, ".growth", "PNG");
  assert.equal(page.document.clicked.length, 0);
  assert.equal(page.text(".growth .save .spoken"), "Not saved: this browser cannot draw so large a picture.");
});

test("CSV has the numbers as they are, quotes what must be, and leaves blank what is not there", () => {
  const rows = [
    { name: 'say "a", b', values: [Math.fround(0.1), null, 396] },
    { name: "2 ␣⏎", values: [1e-9, -0, 0.5] },
  ];
  const sheet = { note: "", corner: "token", columns: ["1 a", "x,y", "z"], rows, text: () => "rounded" };
  assert.equal(csvText(sheet), 'token,1 a,"x,y",z\r\n"say ""a"", b",0.100000001,,396\r\n2 ␣⏎,1e-9,0,0.5\r\n');
  assert.match(csvText({ ...sheet, unit: "bytes" }), /^token,1 a \(bytes\),/);
});

test("a picture's CSV has the rows of its table, to the last digit", async () => {
  const page = show(AT_THE_FOX);
  const lines = async (picture) => (await taken(page, picture, "CSV")).text.trimEnd().split("\r\n");
  // 27 + 3 head + key 64ths.
  assert.deepEqual(await lines(".panel.left .heads"), [
    "head,1 Once,2 ␣⏎,3 🦊",
    ...[0, 3, 6].map((head, row) => [row + 1, ...[27, 28, 29].map((key) => (key + head) / 64)].join(",")),
  ]);
  assert.deepEqual((await lines(".panel.left .triangle")).slice(1, 3), [
    "3 🦊,0.46875,0.484375,0.5",
    "2 ␣⏎,0.21875,0.234375,",
  ]);
  assert.deepEqual((await lines(".growth")).slice(0, 2), [
    "token,naive (bytes),absorbed (bytes),MHA 3×5 (bytes),MQA 1×5 (bytes)",
    "3 🦊,396,108,360,120",
  ]);
  // Byte 7 (132 + 2 33 + 3) mod 256 = 127 of layer 2, from -2 to 2.5.
  assert.equal(
    (await lines(".panel.left .cache"))[1].split(",")[5],
    String(+(-2 + (4.5 * 127) / 255).toPrecision(9)),
  );
  const inside = await lines(".inside");
  assert.deepEqual(
    inside.filter((line) => line.startsWith('"naive: K')).map((line) => line.match(/token \d/)[0]),
    ["token 1", "token 2", "token 3"],
  );
  const weights = inside.find((line) => line.startsWith("naive: weight,"));
  assert.deepEqual(weights.split(",").slice(1), ["0.46875", "0.484375", "0.5"]);
});

test("a CSV leaves out nothing that a table has no room for", async () => {
  const large = edited("golden.bin", ({ left }) => {
    left.n_heads = 100;
    const segments = [{ label: "head 1", elems: 5001, parts: [] }];
    Object.assign(left.layers[0], { cache_elems: 5001, segments });
  });
  const page = show({ bytes: large, search: "?step=3", width: 366 });
  const cache = (await taken(page, ".panel.left .cache", "CSV")).text.trimEnd().split("\r\n");
  assert.deepEqual([cache.length, cache[1].split(",").length], [2, 5002]);
  const heads = (await taken(page, ".panel.left .heads", "CSV")).text.trimEnd().split("\r\n");
  assert.equal(heads.length, 101);
});

test("a file's name tells picture, side, step, layer and head, counted from 0", async () => {
  const page = show(AT_THE_FOX);
  const names = [];
  for (const picture of PICTURES) names.push((await taken(page, picture, "CSV")).name);
  assert.deepEqual(names.slice(0, 5), [
    "mla-viz-inside-step-2-layer-1-head-1.csv",
    "mla-viz-growth-step-2.csv",
    "mla-viz-cache-left-step-2-layer-1.csv",
    "mla-viz-heads-left-step-2-layer-1.csv",
    "mla-viz-triangle-left-step-2-layer-1-head-1.csv",
  ]);
  assert.equal(new Set(names).size, PICTURES.length);
  const run = { left: { n_heads: 2 }, right: { n_heads: 8 } };
  const picture = { name: "triangle", sides: ["left"], within: ["head"] };
  const name = fileName(picture, { run, step: 0, layer: 0, head: 7 }, "svg");
  assert.equal(name, "mla-viz-triangle-left-step-0-head-1.svg");
});

test("the menu opens, gives the focus back at Escape and at a choice, and closes when it goes elsewhere", async () => {
  for (const picture of PICTURES) {
    const page = show(AT_THE_FOX);
    const [toggle, list] = [page.find(`${picture} .save button`), page.find(`${picture} .formats`)];
    const state = () => [
      list.hidden,
      toggle.getAttribute("aria-expanded"),
      page.document.activeElement === toggle,
    ];
    const closed = [true, "false", true];
    assert.deepEqual(state().slice(0, 2), closed.slice(0, 2));
    page.fire(toggle, "click");
    assert.deepEqual(state(), [false, "true", true]);
    const [first] = list.children;
    first.focus();
    assert.deepEqual(state(), [false, "true", false], "the focus is still inside");
    page.fire(first, "keydown", { key: "Escape" });
    assert.deepEqual(state(), closed);
    page.fire(toggle, "click");
    page.find(".chip").focus();
    assert.deepEqual(state(), [true, "false", false]);
    page.fire(toggle, "click");
    await taken(page, picture, "CSV");
    assert.deepEqual(state(), closed);
    assert.match(page.text(`${picture} .save .spoken`), /^Saved mla-viz-.*csv\.$/);
  }
});

test("text is broken between words, and a word that is too long stands alone", () => {
  const fits = (text) => text.length <= 9;
  assert.deepEqual(wrapped("one two three extraordinary on", fits), [
    "one two",
    "three",
    "extraordinary",
    "on",
  ]);
});
