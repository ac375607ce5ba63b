// The golden runs: their bytes, what was worked out for them by hand, and the player that shows one.

import { readFileSync } from "node:fs";

import { readRun } from "../../mla_viz/player/src/payload.js";
import { mount } from "../../mla_viz/player/src/player.js";
import { makeTheme } from "../../mla_viz/player/src/theme.js";
import { openPage } from "./fake_page.js";

const file = (name) => readFileSync(new URL(name, import.meta.url));

export const packed = (name = "golden.bin") => new Uint8Array(file(name));
export const written = JSON.parse(file("golden.json"));
export const SAME = readRun(packed());
export const MODELS = readRun(packed("golden_models.bin"));
export const CUT = readRun(packed("golden_cut.bin"));

/** A golden run with its header edited, and with another name. */
export function edited(name, edit) {
  const bytes = packed(name);
  const end = 4 + new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, end)));
  edit(header);
  header.run += "edited";
  const text = new TextEncoder().encode(JSON.stringify(header));
  const body = bytes.subarray(Math.ceil(end / 8) * 8);
  const start = Math.ceil((4 + text.length) / 8) * 8;
  const whole = new Uint8Array(start + body.length);
  new DataView(whole.buffer).setUint32(0, text.length, true);
  whole.set(text, 4);
  whole.set(body, start);
  return whole;
}

/** The golden run as that of a layer alone, which chooses no token. */
export const alone = () =>
  edited("golden.bin", (header) => {
    for (const { top } of [header.left, header.right]) {
      top.text = top.text.map(() => []);
      top.probs.shape[1] = 0;
    }
  });

/** A page that shows a golden run, each plot `width` pixels wide; the address says where it stands, or its end. */
export function show({
  name = "golden.bin",
  bytes = packed(name),
  width = 236,
  search = "?step=9",
  host = {},
  ...options
} = {}) {
  const page = openPage({ search, ...options });
  page.player = mount(page.root, host);
  page.resize(width);
  page.player.load(bytes);
  page.player.recolour();
  page.frame();
  return page;
}

/** The colours of a run on a light page, or on a dark one. */
export function themeOf(run, dark = false) {
  openPage();
  const page = dark ? { background: "#101010", text: "#fafafa" } : { background: "", text: "" };
  return makeTheme("key", run, { ...page, secondary: "", border: "", font: "" });
}
