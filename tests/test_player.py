"""The player's JavaScript by node's own test runner, and how its modules become one script."""

from base64 import b64encode
from unittest.mock import patch

import numpy as np
import pytest

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.player import payload
from mla_viz.player.bundle import FOLDER, bundle
from mla_viz.run.decode import decode
from tests import golden
from tests.node import answer, node


def test_the_javascript_passes_its_own_tests():
    result = node("--test", "--test-reporter=dot", str(golden.FOLDER / "*.test.js"))
    assert result.returncode == 0, result.stdout + result.stderr


def written(tmp_path, **modules):
    for name, text in modules.items():
        (tmp_path / f"{name}.js").write_text(text, encoding="utf-8")
    return tmp_path


TOP = """// The top, which must import nothing else.
import { one } from "./left.js";
import {
  one as other,
  Kind,
} from "./right.js";

/** @import { Kind } from "./left.js" */
const hidden = 3;
const strict = (function () {
  return this === undefined;
})();

/**
 * All that the modules export.
 */
export const all = [one(), other(), new Kind().n, typeof secret, hidden, strict];
"""
LEFT = """import { base } from "./base.js";

const hidden = 1;

export function one() {
  return base + hidden;
}
"""
RIGHT = """import { base } from "./base.js";

const secret = 2;

export function one() {
  return base + secret;
}

export class Kind {
  n = base;
}
"""


def test_modules_see_their_imports_and_nothing_else_of_one_another(tmp_path):
    base = "export const base = 10;\n"
    folder = written(tmp_path, top=TOP, left=LEFT, right=RIGHT, base=base)
    script = bundle("top", folder) + "console.log(JSON.stringify(mlaVizPlayer.all))"
    assert script.count("const base = 10") == 1
    result = node("--input-type=commonjs", "-", text=script)
    assert result.stdout.strip() == '[11,12,10,"undefined",3,true]', result.stderr


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            {"a": 'import { b } from "./b.js";\n', "b": 'import { c } from "./c.js";\n'}
            | {"c": 'import { a } from "./a.js";\n'},
            "circle: a -> b -> c -> a",
        ),
        ({"a": 'import { b } from "./b.js";\n'}, "a -> b: expected a file b.js"),
        (
            {"a": 'import { b, c } from "./b.js";\n', "b": "export const b = 1;\n"},
            "a.js: expected b.js to export c",
        ),
        ({"a": 'import b from "./b.js";\n'}, "a.js: .* got 'import b from"),
        ({"a": 'import * as b from "./b.js";\n'}, "a.js: .* got 'import "),
        ({"a": 'import { b } from "b";\n'}, "a.js: .* got 'import "),
        ({"a": 'const b = await import("./b.js");\n'}, "a.js: .* got 'const b = await import"),
        ({"a": "export default function b() {}\n"}, "a.js: .* got 'export default"),
        ({"a": "export let b = 1;\n"}, "a.js: .* got 'export let"),
        ({"a": "const b = 1;\nexport { b };\n"}, "a.js: .* got 'export {"),
    ],
)
def test_what_the_bundle_does_not_know_is_refused_by_name(tmp_path, modules, message):
    with pytest.raises(ValueError, match=message):
        bundle("a", written(tmp_path, **modules))


@pytest.mark.parametrize("entry", ["player", "lesson"])
def test_the_bundle_mounts_a_player_in_any_script(entry):
    script = bundle(entry) + "console.log(Object.keys(mlaVizPlayer).join())"
    result = node("--input-type=commonjs", "-", text=script)
    assert result.stdout.strip() == "mount", result.stderr


def test_no_module_is_left_out_of_both_bundles():
    both = bundle() + bundle("lesson")
    names = {path.stem for path in (FOLDER / "src").glob("*.js")}
    assert {name for name in names if f"const ${name} = " not in both} == set()


LANES = """
const plain = (matrix) =>
  Array.from({ length: matrix.rows }, (_, row) =>
    [...matrix.data.subarray(row * matrix.width, (row + 1) * matrix.width)]);
const lanes = asked.map(([name, step, layer, head]) => {
  const { x, q, query, keys, values, scores, probs, mix, oHead, out } =
    laneAt(run, name, { step, layer, head });
  const vectors = { x, q, query, scores, probs, mix, o_head: oHead, out };
  const list = Object.entries(vectors).map(([key, value]) => [key, value && [...value]]);
  return { ...Object.fromEntries(list), keys: plain(keys), values: plain(values) };
});
console.log(JSON.stringify(lanes));
"""


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_browser_multiplies_what_the_engine_did(mechanism, tmp_path):
    shape = {"source": "synthetic", "layers": 2, "heads": 4, "latent": 6, "q_lora_rank": 9}
    run = decode("A fox", left=mechanism, right=mechanism, max_new_tokens=4, **shape)
    places = [(side, *at) for side in ("left", "right") for at in ((0, 0, 0), (3, 1, 2), (4, 0, 3))]
    lanes = answer(tmp_path, run, {"lane": "laneAt"}, LANES, places)
    for (side, *place), found in zip(places, lanes, strict=True):
        lane = vars(getattr(run.inside(*place), side))
        lane["query"] = lane["q"] if lane["q_latent"] is None else lane["q_latent"]
        for name, value in found.items():
            if value is None:
                assert lane[name] is None, name
            else:
                assert np.allclose(value, lane[name], atol=1e-5), name


RESTS = """
const [place, rests] = asked;
const plain = (lane) =>
  lane && { q: [...lane.query], out: [...lane.out], scores: [...lane.scores] };
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const lanes = rests.map((rest) => plain(laneAt(withRest(run, bytes(rest)), "right", place)));
console.log(JSON.stringify([plain(laneAt(run, "right", place)), ...lanes]));
"""


def test_a_layer_that_did_not_travel_is_asked_for_and_comes_from_another_decoding(tmp_path):
    shape = {"source": "synthetic", "layers": 3, "heads": 2, "latent": 6, "max_new_tokens": 4}
    run, again = (decode("A fox", **shape) for _ in range(2))
    other = decode("A cat", **shape)
    step, layer, head = 3, 2, 1
    with patch.object(payload, "VECTOR_BYTES", 1000):
        rests = [b64encode(payload.pack_rest(each, layer)).decode() for each in (run, again, other)]
        asked = [{"step": step, "layer": layer, "head": head}, rests]
        imports = {"lane": "laneAt", "payload": "readRun, withRest"}
        without, *found = answer(tmp_path, run, imports, RESTS, asked)
    assert without is None
    expected = run.inside(step, layer, head).right
    for lane in found[:2]:
        assert np.allclose(lane["q"], expected.q_latent, atol=1e-5)
        assert np.allclose(lane["scores"], expected.scores, atol=1e-5)
        assert np.allclose(lane["out"], expected.out, atol=1e-5)
    assert found[2] is None, "the vectors of another run"
