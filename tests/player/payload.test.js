import assert from "node:assert/strict";
import { test } from "node:test";

import { NDArray } from "../../mla_viz/player/src/ndarray.js";
import { atLayer, readRun } from "../../mla_viz/player/src/payload.js";
import { AttentionRows } from "../../mla_viz/player/src/rows.js";
import { CUT, edited, packed, SAME, written } from "./golden.js";

/** What was read, as plain values: arrays nested by their shape, attention in a row again. */
function plain(value, path = "") {
  if (value instanceof NDArray) return nested(value.data, value.shape);
  if (value instanceof AttentionRows) return { exact: value.exact, steps: [...value.steps] };
  if (Array.isArray(value)) return value.map((child) => plain(child, path));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, plain(child)]));
}

function nested(data, [extent, ...inner]) {
  if (inner.length === 0) return [...data];
  const size = data.length / extent;
  return Array.from({ length: extent }, (_, at) => nested(data.subarray(at * size, (at + 1) * size), inner));
}

for (const [name, expected] of Object.entries(written)) {
  test(`every field of ${name} is read as it was worked out by hand`, () => {
    const { run, prompt, ...read } = plain(readRun(packed(name)));
    for (const hash of [run, prompt]) assert.match(hash, /^[0-9a-f]{16}$/);
    for (const side of [expected.left, expected.right]) {
      Object.assign(side, side.layers[0]);
      side.attention = { exact: side.attention.exact, steps: side.attention.steps };
      side.vectors.scores = { exact: true, steps: side.vectors.steps };
    }
    assert.deepEqual(read, expected);
  });
}

test("a run is as one of its layers has it", () => {
  assert.equal(atLayer(SAME, 1), SAME);
  for (const [layer, rank] of [3, 7].entries()) {
    const { left, right } = atLayer(atLayer(CUT, 1 - layer), layer);
    assert.deepEqual([left.cache_elems, left.dims.latent, left.layers.length], [16, 0, 1]);
    assert.deepEqual([right.cache_elems, right.row_bytes, right.dims.latent], [rank, 4 * rank, rank]);
    assert.deepEqual(right.segments, [{ label: "latent c_KV", elems: rank, parts: [] }]);
    const expand = right.operations.find(({ name }) => name === "expand all");
    // Two tokens' latents times a matrix of rank x (2 key/value heads, keys and values of 4).
    assert.equal(expand.flops.at(1), 2 * 2 * rank * 16);
    assert.equal(expand.shape.inner, rank);
  }
});

test("attention rows are found by step, layer and head", () => {
  // Of 2 layers and 3 heads: step 2 lies behind 6 + 12 weights, layer 1 three heads of 3 further.
  const { left, right } = readRun(packed());
  assert.deepEqual([...left.attention.stored(0, 0, 0)], [0]);
  assert.deepEqual([...left.attention.stored(2, 1, 2)], [33 / 64, 34 / 64, 35 / 64]);
  assert.deepEqual([...right.attention.stored(3, 0, 1)], [41 / 64, 42 / 64, 43 / 64, 44 / 64]);
  const { left: rounded } = readRun(packed("golden_models.bin"));
  assert.deepEqual([...rounded.attention.stored(1, 0, 3)], [207, 223, 239]);
});

test("the kept row of a step is the last at or before it", () => {
  const rows = (steps) =>
    new AttentionRows({ exact: true, steps: { data: steps }, data: { data: [] } }, 1, 1);
  const some = rows(Int32Array.of(2, 4, 8, 9));
  assert.deepEqual(
    [0, 1, 2, 3, 4, 7, 8, 9, 12].map((step) => some.before(step)),
    [-1, -1, 0, 0, 1, 1, 2, 3, 3],
  );
  assert.equal(rows(new Int32Array(0)).before(5), -1);
});

test("a stored weight is scaled by what it was stored in", () => {
  const rows = (exact) => new AttentionRows({ exact, steps: { data: [] }, data: { data: [] } }, 1, 1);
  assert.deepEqual([rows(true).scale(1), rows(true).scale(255)], [1, 255]);
  assert.deepEqual([rows(false).scale(1), rows(false).scale(255)], [1 / 255, 1]);
});

test("an array is read by its indices, the last one running fastest", () => {
  const array = new NDArray(
    Float64Array.from({ length: 24 }, (_, at) => at),
    [2, 3, 4],
  );
  assert.equal(array.at(1, 2, 3), 23);
  assert.equal(array.at(1, 0, 2), 14);
  assert.deepEqual([...array.part(1, 1)], [16, 17, 18, 19]);
  assert.deepEqual([...array.part(1)], [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]);
  assert.equal(array.part().length, 24);
});

test("another version is refused in one line", () => {
  const later = edited("golden.bin", (header) => {
    header.version = 9;
  });
  assert.throws(() => readRun(later), { message: "payload: expected version 8, got 9; load the page anew" });
});

test("bytes that start anywhere in a buffer are read", () => {
  const bytes = packed();
  for (const start of [3, 4, 8]) {
    const larger = new Uint8Array(bytes.length + 16);
    larger.set(bytes, start);
    assert.deepEqual(plain(readRun(larger.subarray(start))), plain(readRun(bytes)));
  }
});
