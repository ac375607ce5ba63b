import assert from "node:assert/strict";
import { test } from "node:test";

import * as theme from "../../mla_viz/player/src/theme.js";
import { openPage } from "./fake_page.js";
import { MODELS, SAME, show, themeOf } from "./golden.js";

const BLACK = [0, 0, 0];
const WHITE = [255, 255, 255];

/** "rgb(1 2 3)" -> [1, 2, 3] */
const channels = (css) => css.match(/\d+/g).map(Number);

test("each side bears the colours of its own mechanism, on light pages and on dark ones", () => {
  const light = themeOf(SAME);
  assert.deepEqual([light.left.full, light.left.tint], ["rgb(180 77 18)", "rgb(253 243 236)"]);
  assert.deepEqual([light.right.full, light.right.tint], ["rgb(11 110 143)", "rgb(234 245 249)"]);
  const dark = themeOf(SAME, true);
  assert.deepEqual([dark.left.full, dark.left.tint], ["rgb(240 147 90)", "rgb(37 26 20)"]);
  assert.deepEqual([dark.right.full, dark.right.tint], ["rgb(94 195 224)", "rgb(15 34 42)"]);
  assert.deepEqual([light.dark, dark.dark], [false, true]);
});

test("a map's scale runs evenly from its low colour to its strong one, opaque", () => {
  const { left } = themeOf(SAME);
  const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  assert.equal(left.scale[0], pixel(channels(left.low)));
  assert.equal(left.scale[255], pixel(channels(left.strong)));
  assert.deepEqual(channels(left.low), [249, 235, 225]);
  assert.deepEqual(channels(left.strong), [142, 65, 24]);
  assert.deepEqual(
    [...theme.colourScale([0, 0, 0], [255, 0, 0]).subarray(0, 3)].map((p) => p & 255),
    [0, 1, 2],
  );
});

test("contrast is that of WCAG", () => {
  assert.equal(theme.contrast(BLACK, WHITE), 21);
  assert.equal(theme.contrast(WHITE, WHITE), 1);
  assert.ok(Math.abs(theme.contrast([255, 0, 0], WHITE) - 3.998) < 1e-3);
  assert.ok(Math.abs(theme.contrast([119, 119, 119], WHITE) - 4.478) < 1e-3);
  assert.equal(theme.contrast([0, 128, 0], [0, 0, 200]), theme.contrast([0, 0, 200], [0, 128, 0]));
});

test("text is moved towards the ink until it can be read, and no further", () => {
  assert.deepEqual(theme.readable(BLACK, WHITE, BLACK), BLACK);
  const moved = theme.readable([200, 200, 200], WHITE, BLACK);
  assert.ok(theme.contrast(moved, WHITE) >= 4.7);
  assert.ok(theme.contrast(theme.mix([200, 200, 200], BLACK, 1 - moved[0] / 200 - 0.05), WHITE) < 4.7);
});

for (const run of [SAME, MODELS]) {
  for (const dark of [false, true]) {
    test(`what is written of ${run.left.short} can be read on a ${dark ? "dark" : "light"} page`, () => {
      const { left, right, muted, ground } = themeOf(run, dark);
      for (const side of [left, right]) {
        assert.ok(theme.contrast(channels(side.text), channels(side.tint)) >= 4.5);
      }
      assert.ok(theme.contrast(channels(muted), channels(ground)) >= 4.5);
    });
  }
}

test("a translucent colour of the page is laid over its ground", () => {
  openPage();
  const page = { background: "#000000", text: "#ffffff", secondary: "", font: "", border: "#ff000080" };
  assert.equal(theme.makeTheme("key", SAME, page).line, "rgb(128 0 0)");
});

test("a page that says no colours is light", () => {
  openPage();
  const page = { background: "", text: "", secondary: "", font: "", border: "" };
  const { ground, ink, font, dark } = theme.makeTheme("key", SAME, page);
  assert.deepEqual([ground, ink, font, dark], ["rgb(255 255 255)", "rgb(26 29 41)", "sans-serif", false]);
});

test("the page's variables become the player's, and the key that pictures are kept by", () => {
  const colours = { "--st-background-color": "#101010", "--st-text-color": "#eeeeee", "--st-font": "Some" };
  const page = show({ colours });
  const style = page.root.style;
  assert.equal(style["--left-full"], "rgb(240 147 90)");
  assert.equal(style["--right-tint"], "rgb(15 34 42)");
  assert.match(style["--muted"], /^rgb/);
  const { key, font } = theme.readTheme(page.root, SAME);
  assert.equal(font, "Some");
  assert.notEqual(key, theme.readTheme(page.root, MODELS).key);
  page.colours["--st-text-color"] = "#ffffff";
  assert.notEqual(key, theme.readTheme(page.root, SAME).key);
  assert.deepEqual(
    Object.keys(style)
      .filter((name) => name.startsWith("--left"))
      .sort(),
    ["--left-full", "--left-low", "--left-strong", "--left-text", "--left-tint"],
  );
});

test("a page that changes its colours is painted anew", () => {
  const page = show();
  const before = page.root.style["--left-full"];
  page.colours["--st-background-color"] = "#101010";
  page.frame();
  assert.equal(page.root.style["--left-full"], before);
  page.player.recolour();
  page.frame();
  assert.equal(page.root.style["--left-full"], "rgb(240 147 90)");
  page.colours["--st-background-color"] = "#ffffff";
  page.darken();
  page.frame();
  assert.equal(page.root.style["--left-full"], before);
});
