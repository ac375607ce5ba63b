"""Latents pooled over layers: each layer's own rank, from its cache to what is drawn of it."""

from unittest.mock import patch

import numpy as np
import pytest

from mla_viz import load_run
from mla_viz.model import decoder
from mla_viz.player import payload
from mla_viz.player.payload import pack_run
from mla_viz.run.decode import bill_of, decode
from mla_viz.run.settings import Settings
from tests.fetched import place_tiny
from tests.test_fetch import write_components

POOLED = {"source": "smollm2", "latent": 20, "ranks": "pooled", "max_new_tokens": 4}


@pytest.fixture(autouse=True)
def tiny(tmp_path, data_folder, monkeypatch):
    place_tiny(tmp_path, data_folder, monkeypatch)
    write_components(data_folder, 2, 4, 2, 16)


def pooled_run(**changes):
    return decode("Hello the", **(POOLED | changes))


def test_pooled_each_layer_caches_and_counts_what_it_keeps(tmp_path):
    run = pooled_run()
    side = run.right
    ranks = side.ranks.tolist()
    assert (sum(ranks), ranks[0] < ranks[1], side.cache_elems) == (40, True, 20)
    assert side.widest == max(ranks)
    for step in (0, run.n_steps - 1):
        assert side.cache_bytes[step] == sum(map(side.layer_bytes, (0, 1))) * (step + 1)
        flops = [sum(op.flops for op in side.operations(step, layer)) for layer in (0, 1)]
        assert (sum(flops), flops[0] != flops[1]) == (side.flops(step), True)
    for layer, rank in enumerate(ranks):
        inside = run.inside(2, layer, 1).right
        assert (inside.c_kv.shape, inside.k_rope.shape) == ((rank,), (0,))
        np.testing.assert_array_equal(inside.c_kv, side.vectors.latents[2, layer, :rank])
        assert not side.vectors.latents[:, layer, rank:].any()
        assert not side.cells.data[layer, :, rank:].any()
        cells = side.cells.low_high[layer], side.cells.data[layer, 2, :rank]
        back = cells[0][0] + (cells[0][1] - cells[0][0]) * cells[1] / 255
        np.testing.assert_allclose(back, inside.c_kv, atol=np.ptp(cells[0]) / 500)
    header = payload._read(pack_run(run))
    kept = [layer["cache_elems"] for layer in header["right"]["layers"]]
    assert (kept, len(header["left"]["layers"])) == (ranks, 1)
    run.save(tmp_path / "run.safetensors")
    assert load_run(tmp_path / "run.safetensors") == run
    uniform = decode("Hello the", **(POOLED | {"ranks": "each"}))
    assert uniform.right.ranks is None
    assert uniform.right.cache_bytes.tolist() == side.cache_bytes.tolist()
    assert [op.flops for op in uniform.left.operations(1)] == [
        op.flops for op in run.left.operations(1)
    ]
    assert uniform.right.flops(3) == side.flops(3)


@pytest.mark.parametrize(
    "changes",
    [
        {"latent": 64},
        {"latent": 1},
        {"left": "gqa_latent"},
        {"left": "gqa_latent", "right": "gqa"},
        {"cache_dtype": "int8"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_pooled_with_all_else_that_may_be_asked(changes):
    run = pooled_run(**changes)
    latent = (POOLED | changes)["latent"]
    for side in run.sides():
        if side.mechanism == "gqa_latent":
            assert side.ranks.mean() == latent
            each = [side.layer_bytes(layer) for layer in range(2)]
            assert side.cache_bytes[-1] == run.n_steps * sum(each)
    assert (run.kl is None) == (run.left.mechanism == run.right.mechanism)
    if latent == 64:
        assert run.mean_kl < 1e-6
    if latent == 1:
        assert run.right.ranks.tolist() == [1, 1]
    if changes.get("left") == run.right.mechanism:
        assert run.max_abs_diff == 0
    assert bill_of(Settings("Hello the", **(POOLED | changes))).bytes > 0
    pack_run(run)


def test_a_left_side_that_is_not_cut_is_kept_for_other_ranks():
    with patch.object(decoder, "LARGE_BYTES", 0):
        first, second = (pooled_run(ranks=ranks) for ranks in ("each", "pooled"))
    assert second.left is first.left
    assert second.right != first.right


@pytest.mark.parametrize("source", ["trained", "synthetic", "smollm2-decoupled"])
def test_ranks_are_pooled_of_a_pretrained_model_alone(source):
    with pytest.raises(ValueError, match=f"ranks: expected each with source {source}, got 'poo"):
        decode("a", source=source, ranks="pooled")
    with pytest.raises(ValueError, match="ranks: expected each or pooled with source smollm2, got"):
        decode("a", source="smollm2", ranks="some")
