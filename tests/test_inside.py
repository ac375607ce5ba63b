"""The inside of a step: what is recorded adds up, and is what the mechanism really computed."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import mla_viz
from mla_viz.attention import implementation as room
from mla_viz.cli import main
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS
from mla_viz.run import recorder
from mla_viz.run.inside import Lane

SHAPES = [
    {"heads": 4, "latent": 6, "qk_rope_head_dim": 4, "v_head_dim": 6, "qk_nope_head_dim": 3},
    {"heads": 1, "latent": 3, "qk_rope_head_dim": 0},
    {"heads": 6, "latent": 40, "q_lora_rank": 9},
]
ABSORBING = ("mla_absorbed", "mla_merged")


def run_of(left, right, **more):
    base = {"source": "synthetic", "layers": 2, "max_new_tokens": 4, "dtype": "float64"}
    return mla_viz.decode("A fox", left=left, right=right, **(base | more))


def lanes(run):
    for step in range(run.n_steps):
        for layer in range(run.n_layers):
            for head in range(run.left.geometry.n_heads):
                inside = run.inside(step, layer, head)
                yield step, layer, head, inside.left, inside.right


def query(lane):
    return lane.q if lane.q_latent is None else lane.q_latent


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_number_follows_from_those_before_it(mechanism, shape):
    run = run_of(mechanism, mechanism, **shape)
    scale = run.left.geometry.softmax_scale
    for step, _, _, lane, _ in lanes(run):
        assert lane.keys.shape[0] == lane.values.shape[0] == step + 1
        assert np.allclose(lane.keys @ query(lane) * scale, lane.scores, atol=2e-6)
        exponents = np.exp(lane.scores - lane.scores.max())
        assert np.allclose(exponents / exponents.sum(), lane.probs, atol=1e-6)
        assert np.allclose(lane.probs @ lane.values, lane.mix, atol=2e-6)


def without_vectors(mechanism):
    """What a mechanism has no vector of."""
    if mechanism == "gqa_latent":
        return {"q_latent"}
    if mechanism not in MLA_MECHANISMS:
        return {"c_kv", "k_rope", "q_latent"}
    return {
        "mla_absorbed": set(),
        "mla_merged": {"q", "o_head"},
    }.get(mechanism, {"q_latent"})


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_a_mechanism_does_not_make_is_none(mechanism):
    lane = run_of(mechanism, mechanism, **SHAPES[0]).inside(2, 1, 0).left
    missing = {field.name for field in fields(Lane) if getattr(lane, field.name) is None}
    assert missing == without_vectors(mechanism)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mechanism", MLA_MECHANISMS)
def test_every_mla_mechanism_has_the_vectors_of_the_naive_one(mechanism, shape):
    run = run_of("mla_expanded", mechanism, **shape)
    rank = run.left.geometry.kv_lora_rank
    ups = run.left.vectors.W_UK, run.left.vectors.W_UV
    for _, layer, head, naive, other in lanes(run):
        for name in ("x", "q", "c_kv", "k_rope", "scores", "probs", "o_head", "out"):
            if getattr(other, name) is not None:
                assert np.allclose(getattr(naive, name), getattr(other, name), atol=2e-6), name
        if mechanism in ABSORBING:
            up, down = (w[layer, head] for w in ups)
            width = up.shape[1]
            assert np.allclose(other.q_latent[:rank], up @ naive.q[:width], atol=2e-6)
            assert np.allclose(other.q_latent[rank:], naive.q[width:], atol=2e-6)
            assert np.array_equal(other.keys[:, :rank], other.values)
            assert np.array_equal(other.keys[-1], np.append(other.c_kv, other.k_rope))
            assert np.allclose(other.mix @ down, naive.o_head, atol=2e-6)
        else:
            assert np.allclose(naive.keys, other.keys, atol=2e-6)
            assert np.allclose(naive.values, other.values, atol=2e-6)


@pytest.mark.parametrize("mechanism", ["mla_expanded", "mha", "gqa", "mqa"])
def test_keys_and_values_that_are_cached_are_the_cached_ones(mechanism, monkeypatch):
    caches = []
    real = room.implementation

    def watched(name):
        found = real(name)
        return replace(found, new_cache=lambda *a: caches.append(found.new_cache(*a)) or caches[-1])

    monkeypatch.setattr("mla_viz.model.decoder.implementation", watched)
    run = run_of(mechanism, mechanism, **SHAPES[0])
    last = [cache for cache in caches if cache.k.shape[-2] == run.n_steps][:2]
    for step, layer, head, lane, _ in lanes(run):
        k, v = (x.float().numpy() for x in (last[layer].k, last[layer].v))
        shared = head * len(k) // run.left.geometry.n_heads
        assert np.array_equal(lane.keys, k[shared, : step + 1])
        assert np.array_equal(lane.values, v[shared, : step + 1])


def test_gaps_are_the_largest_differences_of_what_was_recorded():
    run = run_of("mla_expanded", "mla_absorbed", dtype="float32", **SHAPES[0])
    assert run.gaps.scores.max() == pytest.approx(run.differences[:, 0].max())
    for step, layer, head, left, right in lanes(run):
        for name in ("x", "q", "scores", "probs", "o_head", "out"):
            gap = getattr(run.gaps, name)[step, layer]
            gap = gap if gap.ndim == 0 else gap[head]
            assert gap == np.abs(getattr(left, name) - getattr(right, name)).max(), name


def test_a_changed_weight_shows_in_the_gaps(change_weights):
    def once(weights, seen=[]):  # noqa: B006
        seen.append(weights)
        if len(seen) == 2:
            with torch.no_grad():
                weights.blocks[1].attention.W_UK[0, 0, 0] += 0.5
        return weights

    change_weights(once)
    run = run_of("mla_expanded", "mla_absorbed", dtype="float32", **SHAPES[0])
    assert run.gaps.scores[:, 0].max() < 1e-5
    assert run.gaps.scores[:, 1, 0].max() > 1e-3
    assert run.gaps.q[:, 1].max() < 1e-5
    assert run.gaps.scores[:, 1, 1:].max() < 1e-5


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((5, 0, 0), "step: expected a whole number from 0 to 4, got 5"),
        ((-1, 0, 0), "step: expected a whole number from 0 to 4, got -1"),
        ((0, 2, 0), "layer: expected a whole number from 0 to 1, got 2"),
        ((0, 0, 4), "head: expected a whole number from 0 to 3, got 4"),
        ((0.5, 0, 0), "step: expected a whole number from 0 to 4, got 0.5"),
        ((0, "1", 0), "layer: expected a whole number from 0 to 1, got '1'"),
    ],
)
def test_a_place_that_is_not_there_is_refused_by_its_field(place, message):
    run = run_of("mla_expanded", "mla_absorbed", **SHAPES[0])
    assert run.n_steps == 5
    with pytest.raises(ValueError, match=message):
        run.inside(*place)


def test_a_step_that_was_not_kept_is_refused(monkeypatch):
    monkeypatch.setattr(recorder, "kept_steps", lambda *_: [0, 2, 4])
    run = run_of("mla_expanded", "mla_absorbed", **SHAPES[0])
    run.inside(2, 1, 2)
    with pytest.raises(ValueError, match="step: expected one whose vectors were kept, got 3"):
        run.inside(3, 1, 2)


def test_vectors_are_read_only():
    run = run_of("mla_expanded", "mla_absorbed", **SHAPES[0])
    for side in run.sides():
        for array in (x for x in vars(side.vectors).values() if x is not None):
            assert not array.flags.writeable


def test_the_command_line_prints_the_same_numbers(capsys):
    options = ["--source", "synthetic", "--max-new-tokens", "3", "--json"]
    main(["decode", "A fox", *options, "--inside", "2", "--layer", "1", "--head", "3"])
    printed = json.loads(capsys.readouterr().out)["inside"]
    inside = mla_viz.decode("A fox", source="synthetic", max_new_tokens=3).inside(2, 1, 3)
    assert {name: printed[name] for name in ("step", "layer", "head")} == {
        "step": 2,
        "layer": 1,
        "head": 3,
    }
    for name in ("left", "right"):
        lane = vars(getattr(inside, name))
        assert list(printed[name]) == list(lane)
        for key, value in lane.items():
            assert printed[name][key] == (None if value is None else value.tolist()), key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--inside", "2"], "--inside: expected --json beside it"),
        (["--inside", "99", "--json"], "step: expected a whole number from 0 to"),
        (["--inside", "0", "--head", "8", "--json"], "head: expected a whole number from 0 to 7"),
        (["--inside", "x", "--json"], "argument --inside: invalid int value: 'x'"),
    ],
)
def test_a_wrong_inside_is_one_line(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["decode", "A fox", "--source", "synthetic", "--max-new-tokens", "2", *options])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err
