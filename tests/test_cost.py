"""Closed forms against published and hand-computed numbers, and against real tensors."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mla_viz.attention.weights import random_gqa, random_mla
from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry, group_kv_heads, kv_heads
from mla_viz.cost import (
    attention_params,
    baselines,
    brackets,
    cache_elems,
    core_flops,
    crossover_query_tokens,
    flows,
    merge_growth,
    model_params,
    operations,
    query_flops,
)
from mla_viz.model.weights import synthetic

V3 = MLAGeometry(7168, 128, 128, 64, 128, 512, 1536)
CACHED_MLA = ("mla_expanded", "mla_reexpand", "mla_absorbed", "mla_merged")

mla_geometries = st.builds(
    MLAGeometry,
    d_model=st.integers(1, 64),
    n_heads=st.integers(1, 16),
    qk_nope_head_dim=st.integers(1, 32),
    qk_rope_head_dim=st.integers(0, 8).map(lambda half: 2 * half),
    v_head_dim=st.integers(1, 32),
    kv_lora_rank=st.integers(1, 64),
    q_lora_rank=st.none() | st.integers(1, 32),
)
gqa_geometries = st.builds(
    lambda group, n_kv_heads, half: GQAGeometry(24, group * n_kv_heads, n_kv_heads, 2 * half),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 8),
)


def flops(mechanism, geometry, seq_len):
    return sum(op.flops for op in operations(mechanism, geometry, seq_len, 2))


def slope(mechanism, geometry=V3):
    return flops(mechanism, geometry, 1001) - flops(mechanism, geometry, 1000)


def named(mechanism, name, seq_len=1):
    return next(op for op in operations(mechanism, V3, seq_len, 2) if op.name == name)


def numel(record):
    values = (getattr(record, field.name) for field in fields(record))
    return sum(value.numel() for value in values if isinstance(value, Tensor))


@pytest.mark.parametrize(
    ("mechanism", "elems"),
    [
        ("mla_expanded", 40_960),
        ("mla_reexpand", 576),
        ("mla_absorbed", 576),
        ("mla_merged", 576),
        ("recompute", 0),
    ],
)
def test_v3_cache_elems(mechanism, elems):
    assert cache_elems(mechanism, V3) == elems


@pytest.mark.parametrize(
    ("mechanism", "per_token"),
    [
        ("mla_expanded", 81_920),
        ("mla_reexpand", 33_636_352),
        ("mla_absorbed", 278_528),
        ("mla_merged", 278_528),
    ],
)
def test_v3_flops_per_cached_token(mechanism, per_token):
    assert slope(mechanism) == per_token


@pytest.mark.parametrize(("n_kv_heads", "elems"), [(128, 32_768), (8, 2_048), (1, 256)])
def test_v3_sized_plain_attention(n_kv_heads, elems):
    plain = GQAGeometry(7168, 128, n_kv_heads, 128)
    assert slope("gqa", plain) == 65_536
    assert cache_elems("gqa", plain) == elems


def test_absorbing_costs_what_expanding_one_token_costs():
    absorb = [named("mla_absorbed", f"absorb {end}").flops for end in ("query", "output")]
    assert sum(absorb) == named("mla_expanded", "expand new").flops == 33_554_432


def test_v3_constant_part_is_two_flops_a_weight():
    for mechanism in ("mla_expanded", "mla_absorbed"):
        assert flops(mechanism, V3, 0) == 2 * 187_105_280


def test_v3_params_with_the_gains_of_both_norms():
    assert attention_params(V3) == 187_105_280 + 1536 + 512


def test_merging_v3_costs_weights():
    # FACTS 4.1: W_UQ_UK 100.66M for 33.55M, W_UV_O 469.76M for 125.83M; 598.1M a layer in all.
    merged = flops("mla_merged", V3, 0) / 2
    assert merged == 187_105_280 - 33_554_432 - 125_829_120 + 100_663_296 + 469_762_048


def test_v3_score_and_context_operations_at_bf16():
    score = named("mla_absorbed", "score", 4096)
    assert score.flops == 2 * 128 * 576 * 4096
    assert score.bytes_read == 2 * (128 * 576 + 576 * 4096)
    assert score.bytes_written == 2 * 128 * 4096
    context = named("mla_expanded", "context", 4096)
    assert context.flops == 2 * 128 * 4096 * 128
    assert context.bytes_read == 2 * 128 * (4096 + 4096 * 128)


def test_ratios_of_the_headline():
    mha = baselines(128, 128)[0].elems
    assert round(mha / cache_elems("mla_absorbed", V3), 2) == 56.89
    assert round(cache_elems("mla_expanded", V3) / cache_elems("mla_absorbed", V3), 2) == 71.11


@pytest.mark.parametrize(
    ("n_heads", "expected"),
    [
        (8, [("MHA", 512), ("GQA-2", 128), ("MQA", 64)]),
        (7, [("MHA", 448), ("MQA", 64)]),
        (1, [("MHA", 64)]),
    ],
)
def test_baselines(n_heads, expected):
    assert [(b.label, b.elems) for b in baselines(n_heads, 32)] == expected
    for b in baselines(n_heads, 32):
        assert b.what == f"plain {b.label} of the same heads"
        two, heads, width = (int(n) for n in b.counted.split()[0].split("·"))
        assert two * heads * width == b.elems


@given(st.integers(1, 512))
def test_a_group_divides_the_heads(n_heads):
    assert n_heads % group_kv_heads(n_heads) == 0
    assert kv_heads("mha", n_heads) == n_heads
    assert kv_heads("mqa", n_heads) == 1


@pytest.mark.parametrize("mechanism", CACHED_MLA)
@given(mla_geometries, st.integers(1, 5000), st.integers(1, 5000))
def test_ledger_is_linear_in_seq_len(mechanism, geometry, t, more):
    def moved(seq_len):
        ledger = operations(mechanism, geometry, seq_len, 4)
        totals = [(op.flops, op.bytes_read, op.bytes_written) for op in ledger]
        return torch.tensor(totals).sum(0)

    assert torch.equal(moved(t + more) - moved(t), more * (moved(2) - moved(1)))


@given(gqa_geometries, st.integers(1, 5000), st.integers(1, 5000))
def test_gqa_ledger_is_linear_in_seq_len(geometry, t, more):
    grown = flops("gqa", geometry, t + more) - flops("gqa", geometry, t)
    assert grown == more * 4 * geometry.n_heads * geometry.head_dim


@given(mla_geometries, st.integers(2, 300))
def test_recompute_grows_with_the_square(geometry, t):
    second = [flops("recompute", geometry, t + i) for i in (-1, 0, 1)]
    curvature = second[0] - 2 * second[1] + second[2]
    assert curvature == 4 * geometry.n_heads * (geometry.qk_head_dim + geometry.v_head_dim)


@given(mla_geometries, st.integers(1, 100))
def test_bytes_scale_with_the_element(geometry, t):
    for two, four in zip(
        operations("mla_absorbed", geometry, t, 2),
        operations("mla_absorbed", geometry, t, 4),
        strict=True,
    ):
        assert (2 * two.bytes_read, 2 * two.bytes_written) == (four.bytes_read, four.bytes_written)
        assert two.flops == four.flops


@given(mla_geometries)
def test_mla_params_equal_real_tensors(geometry):
    weights = random_mla(geometry, torch.Generator())
    assert attention_params(geometry) == numel(weights)


@given(gqa_geometries)
def test_gqa_params_equal_real_tensors(geometry):
    assert attention_params(geometry) == numel(random_gqa(geometry, torch.Generator()))


@pytest.mark.parametrize("attention", [MLAGeometry(12, 3, 4, 6, 5, 8, 7), GQAGeometry(12, 4, 2, 6)])
def test_model_params_equal_real_tensors(attention):
    model = ModelGeometry("tiny", attention, 3, 20, 50, 16)
    weights = synthetic(model, 0)
    total = numel(weights) + sum(numel(b) + numel(b.attention) for b in weights.blocks)
    assert model_params(model) == total


V3 = MLAGeometry(7168, 128, 128, 64, 128, 512, 1536)


def test_core_flops_of_deepseek_v3():
    assert core_flops("mla_absorbed", V3) == 278_528
    assert core_flops("mla_expanded", V3) == 81_920
    assert core_flops("mha", GQAGeometry(7168, 128, 128, 128)) == 65_536


def test_merging_grows_below_the_threshold_only():
    assert merge_growth(1536, 512, 128) == 3
    assert merge_growth(7168, 512, 128) == pytest.approx(3.7333, rel=1e-4)
    assert merge_growth(64, 16, 16) == pytest.approx(0.8)


@pytest.mark.parametrize(("seq_len", "value"), [(None, 170.667), (171, 85.417), (1024, 146.286)])
def test_crossover_is_where_the_counts_cross(seq_len, value):
    assert crossover_query_tokens(V3, seq_len) == pytest.approx(value, rel=1e-4)
    t = seq_len or 10**9
    for queries, fewer in ((int(value), "mla_absorbed"), (int(value) + 1, "mla_reexpand")):
        counts = {f: query_flops(f, V3, queries, t) for f in ("mla_absorbed", "mla_reexpand")}
        assert min(counts, key=counts.get) == fewer


def test_without_a_crossover_there_is_none():
    assert crossover_query_tokens(MLAGeometry(64, 4, 16, 8, 16, 16)) is None
    assert crossover_query_tokens(MLAGeometry(64, 4, 16, 8, 16, 16), 4) is not None


def test_brackets_by_hand():
    absorbed, rebuilt = brackets(V3, 100)["scores"]
    assert absorbed.flops == 2 * (128 * 512 + 512 * 100)
    assert rebuilt.flops == 2 * (128 * 512 * 100 + 128 * 100)
    assert (absorbed.between_elems, rebuilt.between_elems) == (512, 12_800)


def test_the_lectures_flow_lies_between():
    naive, lecture, absorbed = flows(V3, 4096)
    assert lecture.cache_elems == absorbed.cache_elems == 576 < naive.cache_elems == 40_960
    reexpanded = sum(op.flops for op in operations("mla_reexpand", V3, 4096, 1))
    assert absorbed.flops < lecture.flops < reexpanded
    assert lecture.working_elems == 128 * 128 * 4096
    assert naive.working_elems == absorbed.working_elems == 0
    values = 2 * 128 * (512 * 128 * 4096 + 128 * 4096) - 2 * 128 * (512 * 4096 + 512 * 128)
    assert lecture.flops - absorbed.flops == values
