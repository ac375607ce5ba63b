"""The tour's answers against the engine, over runs of every mechanism."""

from dataclasses import replace

import numpy as np
import pytest

from mla_viz.config import MLAGeometry
from mla_viz.cost import cache_elems
from mla_viz.findings.scores import load_grid
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS
from mla_viz.run.decode import decode
from tests.fetched import place_tiny
from tests.node import answer

TELL = """
const told = (at) => {
  const { question, choices, right, because } = tellStop({ run, ...at }, at.stop);
  return { question, right: choices[right], choices, because };
};
console.log(JSON.stringify({
  told: asked.map(told),
  twice: ["left", "right"].map((side) =>
    [withTwiceTheHeads(run[side]), withTwiceTheLatent(run[side])]),
}));
"""
SHAPE = {"source": "synthetic", "layers": 2, "heads": 4, "latent": 6, "q_lora_rank": 9}
STEP, LAYER, HEAD = 6, 1, 2
PAIRS = [(name, "mla_absorbed") for name in MECHANISMS]
PAIRS += [("mla_expanded", name) for name in MECHANISMS]
PAIRS += [("gqa", "mqa"), ("mha", "gqa"), ("recompute", "recompute")]


def tour_of(folder, run, step=STEP, layer=LAYER, head=HEAD):
    """What is told at the ten stops, and what a side would cache with twice its heads or latent."""
    asked = [{"stop": stop, "step": step, "layer": layer, "head": head} for stop in range(10)]
    imports = {"stops": "tellStop, withTwiceTheHeads, withTwiceTheLatent"}
    told = answer(folder, run, imports, TELL, asked)
    return told["told"], told["twice"]


def number(told):
    """The right choice as a whole number."""
    return int(told["right"].replace(",", ""))


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_every_answer_is_the_engines(left, right, tmp_path):
    run = decode("A fox ran", left=left, right=right, max_new_tokens=6, **SHAPE)
    told, twice = tour_of(tmp_path, run)
    tokens, g = STEP + 1, run.right.geometry
    inside = run.inside(STEP, LAYER, HEAD)
    best = int(inside.left.probs.argmax())
    assert told[0]["right"].startswith(f"that of token {best + 1} ")
    assert f"{inside.left.probs[best]:.3f}" in told[0]["because"]
    assert number(told[1]) == tokens
    assert number(told[2]) == cache_elems(left, run.left.geometry)
    mla = [side.geometry for side in run.sides() if isinstance(side.geometry, MLAGeometry)]
    if right == "gqa_latent":
        assert (number(told[3]), number(told[4])) == (g.kv_lora_rank, g.head_dim)
    elif mla:
        assert number(told[3]) == mla[0].kv_lora_rank
        absorbing = {left, right} & {"mla_absorbed", "mla_merged"}
        width = mla[0].qk_rope_head_dim + mla[0].kv_lora_rank
        assert number(told[4]) == (width if absorbing else mla[0].qk_head_dim)
    else:
        assert number(told[3]) == cache_elems(right, g)
        assert number(told[4]) == g.head_dim
    scores = [lane.scores[best] for lane in (inside.left, inside.right)]
    same = run.gaps is not None or scores[0] == scores[1]
    other = "smaller" if scores[1] < scores[0] else "larger"
    assert told[5]["right"] == ("the same, but for rounding" if same else other)
    sums = [sum(op.flops for op in side.operations(STEP)) for side in run.sides()]
    sign = int(np.sign(sums[0] - sums[1]))
    assert told[6]["choices"].index(told[6]["right"]) == 1 - sign
    columns = [part for segment in MECHANISMS[right].segments(g) for part in segment.parts]
    if right in ("mla_absorbed", "mla_merged", "mla_reexpand"):
        assert number(told[7]) == g.qk_rope_head_dim
    else:
        assert number(told[7]) == g.rope_width * sum(part.label == "k" for part in columns)
    for side, (heads, latent) in zip(run.sides(), twice, strict=True):
        own = {"n_heads": 2 * side.geometry.n_heads}
        if not isinstance(side.geometry, MLAGeometry):
            own["n_kv_heads"] = 2 * side.geometry.n_kv_heads
        if not hasattr(side.geometry, "kv_lora_rank"):
            assert latent == side.cache_elems
        else:
            wider = replace(side.geometry, kv_lora_rank=2 * side.geometry.kv_lora_rank)
            assert latent == cache_elems(side.mechanism, wider)
        assert heads == cache_elems(side.mechanism, replace(side.geometry, **own))
    assert number(told[8]) == twice[1][0]


@pytest.mark.parametrize("latent", [20, 64])
def test_a_cut_is_no_other_model(latent, tmp_path, data_folder, monkeypatch):
    place_tiny(tmp_path, data_folder, monkeypatch)
    run = decode("the", source="smollm2", latent=latent, max_new_tokens=6)
    told, _ = tour_of(tmp_path, run)
    inside = run.inside(STEP, LAYER, HEAD)
    gap = np.abs(inside.left.scores - inside.right.scores).max()
    assert not any("weights of their own" in one["because"] for one in told)
    assert f"{gap:.1e}".split("e")[0][:2] in told[5]["because"]
    assert ("20 numbers of 64 are kept" in told[5]["because"]) == (latent == 20)
    if latent == 64:
        assert told[5]["right"] == "the same, but for rounding"


@pytest.mark.parametrize("mechanism", MLA_MECHANISMS)
def test_a_run_of_one_token_is_asked_about_too(mechanism, tmp_path):
    run = decode("A", left=mechanism, right=mechanism, max_new_tokens=1, **SHAPE)
    assert run.n_steps == 1
    told, _ = tour_of(tmp_path, run, step=0)
    assert all(len(set(one["choices"])) > 1 for one in told)
    assert not any("NaN" in str(one) for one in told)


@pytest.mark.parametrize(("heads", "latent"), [(8, 64), (8, 32), (8, 8), (4, 16), (2, 4), (1, 4)])
def test_the_loss_of_the_setting_is_that_of_the_grid(heads, latent, tmp_path):
    run = decode("A fox", heads=heads, latent=latent, max_new_tokens=1)
    told = tour_of(tmp_path, run, step=0)[0][9]
    grid = load_grid()
    here, full = grid.loss(heads, latent), grid.loss(grid.heads[-1], grid.latents[-1])
    assert f"{here:.3f} nats" in told["because"]
    assert f"{full:.3f} nats" in told["question"]
    least = [0.04, 0.25, 1, float("inf")][told["choices"].index(told["right"])]
    below = [-float("inf"), 0.04, 0.25, 1][told["choices"].index(told["right"])]
    assert below <= here - full < least


def test_where_no_loss_was_measured_a_nat_is_explained(tmp_path):
    run = decode("A fox", max_new_tokens=2, **SHAPE)
    told = tour_of(tmp_path, run, step=1)[0][9]
    assert f"{-np.log(run.left.top_probs[1, 0]):.2f} nats" in told["because"]


@pytest.mark.parametrize("kept", ["int8", "int4_all"])
@pytest.mark.parametrize("right", ["mla_absorbed", "mla_expanded", "mqa", "recompute"])
def test_a_rounded_cache_is_never_said_to_hold_the_same(right, kept, tmp_path):
    run = decode("A fox ran", right=right, cache_dtype=kept, max_new_tokens=6, **SHAPE)
    told = tour_of(tmp_path, run)[0]
    inside, because = run.inside(STEP, LAYER, HEAD), told[5]["because"]
    rounded = right in ("mla_absorbed", "mla_expanded")
    assert (f"because the right cache is rounded to {kept}" in because) == rounded
    assert ("the same products in another order" in because) == (right == "recompute")
    if rounded:
        best = int(inside.left.probs.argmax())
        left, other = (lane.scores[best] for lane in (inside.left, inside.right))
        wrong = "larger" if other < left else "smaller"
        assert told[5]["right"] != wrong
        gap = np.abs(inside.left.scores - inside.right.scores).max()
        assert f"{gap:.1e}".replace("e-0", "e-") in because
    assert number(told[2]) == run.left.cache_elems
