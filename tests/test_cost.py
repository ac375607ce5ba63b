"""Closed forms against published and hand-computed numbers, and against real tensors."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Watch, rope_angles
from mla_viz.attention.weights import random_gqa, random_mla
from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.cost import (
    attention_params,
    baselines,
    brackets,
    cache_elems,
    cache_reads,
    core_flops,
    crossover_query_tokens,
    flows,
    merge_growth,
    model_flops,
    model_params,
    operations,
    query_flops,
    whole_prefix_flops,
)
from mla_viz.findings.claims.inputs import Inputs
from mla_viz.mechanisms.table import (
    MECHANISMS,
    MLA_MECHANISMS,
    group_kv_heads,
    mechanism_of,
)
from mla_viz.model.decoder import Decoder
from mla_viz.model.latent import latent_geometry
from mla_viz.model.weights import random_weights

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


# The whole ledger by hand

# Every dim and every sum of dims is another number: 3 heads, qk_nope 5, qk_rope 2, their sum 7,
# kv_lora_rank 11, the cached row 11 + 2 = 13, v 17, q_lora_rank 19, d_model 23, the 29th token.
# Side by side they make 3 (5 + 2) = 21, 3 (11 + 2) = 39, 3 (5 + 17) = 66, 3 17 = 51, 3 11 = 33.
PRIMES = MLAGeometry(23, 3, 5, 2, 17, 11, 19)
COMPRESS = ("compress query", "(1×23)·(23×19)", 2 * 23 * 19, 23 + 23 * 19, 19)
QUERY = ("query", "(1×19)·(19×21)", 2 * 19 * 21, 19 + 19 * 21, 21)
LATENT = ("latent", "(1×23)·(23×13)", 2 * 23 * 13, 23 + 23 * 13, 13)
OUTPUT = ("output", "(1×51)·(51×23)", 2 * 51 * 23, 51 + 51 * 23, 23)
HEADS = [
    ("score", "3×(1×7)·(7×t)", 2 * 3 * 7 * 29, 3 * (7 + 7 * 29), 3 * 29),
    ("context", "3×(1×t)·(t×17)", 2 * 3 * 29 * 17, 3 * (29 + 29 * 17), 3 * 17),
]
SHARED = [
    ("score", "(3×13)·(13×t)", 2 * 3 * 13 * 29, 3 * 13 + 13 * 29, 3 * 29),
    ("context", "(3×t)·(t×11)", 2 * 3 * 29 * 11, 3 * 29 + 29 * 11, 3 * 11),
]
# Expanding also reads a token's shared key (2 numbers) once, and writes it to all 3 heads.
NEW = ("expand new", "(1×11)·(11×66)", 2 * 11 * 66, 11 + 11 * 66 + 2, 66 + 3 * 2)
EXPANDED_BYTES = (29 * 11 + 11 * 66 + 29 * 2, 29 * 66 + 29 * 3 * 2)
ALL = ("expand all", "(t×11)·(11×66)", 2 * 29 * 11 * 66, *EXPANDED_BYTES)
MOVED_UK = ("absorb query", "3×(1×5)·(5×11)", 2 * 3 * 5 * 11, 3 * (5 + 5 * 11), 3 * 11)
MOVED_UV = ("absorb output", "3×(1×11)·(11×17)", 2 * 3 * 11 * 17, 3 * (11 + 11 * 17), 3 * 17)
MLA_LEDGERS = {
    "mla_expanded": [COMPRESS, QUERY, LATENT, NEW, *HEADS, OUTPUT],
    "mla_reexpand": [COMPRESS, QUERY, LATENT, ALL, *HEADS, OUTPUT],
    "mla_absorbed": [COMPRESS, QUERY, LATENT, MOVED_UK, *SHARED, MOVED_UV, OUTPUT],
    "mla_merged": [
        COMPRESS,
        ("query", "(1×19)·(19×39)", 2 * 19 * 39, 19 + 19 * 39, 39),
        LATENT,
        *SHARED,
        ("output", "(1×33)·(33×23)", 2 * 33 * 23, 33 + 33 * 23, 23),
    ],
    "recompute": [
        ("compress query", "(t×23)·(23×19)", 2 * 29 * 23 * 19, 29 * 23 + 23 * 19, 29 * 19),
        ("query", "(t×19)·(19×21)", 2 * 29 * 19 * 21, 29 * 19 + 19 * 21, 29 * 21),
        ("latent", "(t×23)·(23×13)", 2 * 29 * 23 * 13, 29 * 23 + 23 * 13, 29 * 13),
        ALL,
        ("score", "3×(t×7)·(7×t)", 2 * 3 * 29 * 7 * 29, 3 * (29 * 7 + 7 * 29), 3 * 29 * 29),
        ("context", "3×(t×t)·(t×17)", 2 * 3 * 29 * 29 * 17, 3 * (29 * 29 + 29 * 17), 3 * 29 * 17),
        ("output", "(t×51)·(51×23)", 2 * 29 * 51 * 23, 29 * 51 + 51 * 23, 29 * 23),
    ],
}
# 6 heads of 10 numbers over 6, 2 or 1 key/value heads, which serve 1, 3 or 6 heads each.
Q60 = ("query", "(1×23)·(23×60)", 2 * 23 * 60, 23 + 23 * 60, 60)
O60 = ("output", "(1×60)·(60×23)", 2 * 60 * 23, 60 + 60 * 23, 23)
GQA_LEDGERS = {
    "mha": [
        Q60,
        ("key, value", "(1×23)·(23×120)", 2 * 23 * 2 * 60, 23 + 23 * 120, 120),
        ("score", "6×(1×10)·(10×t)", 2 * 6 * 10 * 29, 6 * (10 + 10 * 29), 6 * 29),
        ("context", "6×(1×t)·(t×10)", 2 * 6 * 29 * 10, 6 * (29 + 29 * 10), 6 * 10),
        O60,
    ],
    "gqa": [
        Q60,
        ("key, value", "(1×23)·(23×40)", 2 * 23 * 2 * 20, 23 + 23 * 40, 40),
        ("score", "2×(3×10)·(10×t)", 2 * 6 * 10 * 29, 2 * (3 * 10 + 10 * 29), 6 * 29),
        ("context", "2×(3×t)·(t×10)", 2 * 6 * 29 * 10, 2 * (3 * 29 + 29 * 10), 6 * 10),
        O60,
    ],
    "mqa": [
        Q60,
        ("key, value", "(1×23)·(23×20)", 2 * 23 * 2 * 10, 23 + 23 * 20, 20),
        ("score", "(6×10)·(10×t)", 2 * 6 * 10 * 29, 6 * 10 + 10 * 29, 6 * 29),
        ("context", "(6×t)·(t×10)", 2 * 6 * 29 * 10, 6 * 29 + 29 * 10, 6 * 10),
        O60,
    ],
}
LEDGERS = MLA_LEDGERS | GQA_LEDGERS


def prime_geometry(mechanism):
    kv = {"mha": 6, "gqa": 2, "mqa": 1}.get(mechanism)
    return GQAGeometry(23, 6, kv, 10) if kv else PRIMES


def shape_text(first, last):
    """Shapes of a product at two lengths, t for what grew."""
    names = ("batch", "rows", "inner", "columns")
    pairs = [(getattr(first, name), getattr(last, name)) for name in names]
    batch, rows, inner, columns = (str(a) if a == b else "t" for a, b in pairs)
    times = "" if batch == "1" else f"{batch}×"
    return f"{times}({rows}×{inner})·({inner}×{columns})"


@pytest.mark.parametrize("elem_bytes", [2, 4])
@pytest.mark.parametrize("mechanism", LEDGERS)
def test_every_line_of_the_ledger_by_hand(mechanism, elem_bytes):
    first, last = (operations(mechanism, prime_geometry(mechanism), t, elem_bytes) for t in (1, 29))
    lines = [
        (op.name, shape_text(before, op), op.flops, op.bytes_read, op.bytes_written)
        for before, op in zip(first, last, strict=True)
    ]
    assert lines == [
        (name, shape, flops, read * elem_bytes, written * elem_bytes)
        for name, shape, flops, read, written in LEDGERS[mechanism]
    ]


def test_formulas_name_the_matrices_and_the_scale():
    formulas = {m: [op.formula for op in operations(m, PRIMES, 1, 2)] for m in MLA_LEDGERS}
    query, latent = ["c_Q = norm(x·W_DQ)", "q = c_Q·[W_UQ | W_QR]"], "c_KV, k_R = x·[W_DKV | W_KR]"
    expand, heads = "k, v = c_KV·[W_UK | W_UV]", ["q·kᵀ / √7", "o = p·v", "out = o·W_O"]
    shared = ["[q̃ | q_R]·[c_KV | k_R]ᵀ / √7", "õ = p·c_KV"]
    for mechanism in ("mla_expanded", "mla_reexpand", "recompute"):
        assert formulas[mechanism] == [*query, latent, expand, *heads]
    moved = ["o = õ·W_UV", "out = o·W_O"]
    assert formulas["mla_absorbed"] == [*query, latent, "q̃ = q·W_UKᵀ", *shared, *moved]
    merged = [query[0], "q = c_Q·[W_UQ·W_UKᵀ | W_QR]", latent, *shared, "out = õ·(W_UV·W_O)"]
    assert formulas["mla_merged"] == merged
    plain = operations("mla_expanded", replace(PRIMES, q_lora_rank=None), 1, 2)
    assert [op.formula for op in plain] == ["q = x·[W_UQ | W_QR]", latent, expand, *heads]
    scaled = operations("mla_absorbed", replace(PRIMES, softmax_scale_override=0.13523378), 1, 2)
    assert scaled[4].formula == "[q̃ | q_R]·[c_KV | k_R]ᵀ · 0.1352"
    own = ["q = x·W_Q", "k, v = x·[W_K | W_V]", "q·kᵀ / √10", "o = p·v", "out = o·W_O"]
    assert [op.formula for op in operations("gqa", prime_geometry("gqa"), 1, 2)] == own


# Against real tensors


def prepared(mechanism, geometry):
    random = random_gqa if isinstance(geometry, GQAGeometry) else random_mla
    return implementation(mechanism).prepare(random(geometry, torch.Generator().manual_seed(0)))


def counted_flops(mechanism, geometry, seq_len, new=1):
    """What PyTorch counts while the last tokens of seq_len go through one layer."""
    row, weights = implementation(mechanism), prepared(mechanism, geometry)
    cache, x = row.new_cache(weights, ()), torch.randn(seq_len, geometry.d_model)
    rope = rope_angles(torch.arange(seq_len), geometry.rope_width, 1e4, x.dtype)
    if row.whole_prefix:
        new = seq_len
    elif seq_len > new:
        row.attend(weights, cache, x[:-new], rope[:-new], Watch())
    with FlopCounterMode(display=False) as counter:
        row.attend(weights, cache, x[-new:], rope[-new:], Watch())
    return counter.get_total_flops()


@pytest.mark.parametrize("mechanism", MLA_LEDGERS)
@given(mla_geometries, st.integers(1, 20))
def test_mla_flops_are_those_that_pytorch_counts(mechanism, geometry, seq_len):
    assert flops(mechanism, geometry, seq_len) == counted_flops(mechanism, geometry, seq_len)


@given(gqa_geometries, st.integers(1, 20))
def test_gqa_flops_are_those_that_pytorch_counts(geometry, seq_len):
    assert flops("gqa", geometry, seq_len) == counted_flops("gqa", geometry, seq_len)
    again = counted_flops("gqa", geometry, seq_len, new=seq_len)
    assert (
        whole_prefix_flops(geometry, seq_len) == again == seq_len * flops("gqa", geometry, seq_len)
    )


@pytest.mark.parametrize("mechanism", [m for m in LEDGERS if m != "recompute"])
def test_model_flops_are_those_that_pytorch_counts(mechanism):
    model = ModelGeometry("", prime_geometry(mechanism), 3, 31, 37, 64)
    decoder = Decoder(random_weights(model, 0), mechanism)
    decoder.feed(torch.zeros(28, dtype=torch.long))
    with FlopCounterMode(display=False) as counter:
        decoder.feed(torch.zeros(1, dtype=torch.long))
    assert model_flops(mechanism, model, 29) == counter.get_total_flops()


def matrix_elems(record, without=()):
    values = [getattr(record, field.name) for field in fields(record) if field.name not in without]
    return sum(x.numel() for x in values if isinstance(x, Tensor) and x.ndim > 1)


def fixed_flops(mechanism, geometry):
    """What a step takes however many tokens are cached."""
    return 2 * flops(mechanism, geometry, 1) - flops(mechanism, geometry, 2)


@given(mla_geometries)
def test_the_constant_part_is_two_flops_a_weight(geometry):
    weights = prepared("mla_expanded", geometry)
    whole = 2 * matrix_elems(weights)
    assert fixed_flops("mla_expanded", geometry) == whole
    assert fixed_flops("mla_absorbed", geometry) == whole
    kept = 2 * matrix_elems(weights, without=("W_UK", "W_UV"))
    assert fixed_flops("mla_reexpand", geometry) == kept
    assert core_flops("mla_reexpand", geometry) - core_flops("mla_expanded", geometry) == (
        whole - kept
    )
    one, two = (flops("recompute", geometry, t) for t in (1, 2))
    assert 4 * one - two == 2 * whole  # linear and square part: 4 (a + b) - (2 a + 4 b) = 2 a


@given(mla_geometries)
def test_the_constant_part_of_merged_is_two_flops_a_merged_weight(geometry):
    w = prepared("mla_merged", geometry)
    taken_in = ("W_UQ", "W_UK", "W_UV", "W_O")
    left = matrix_elems(w) + matrix_elems(w.base, without=taken_in)
    assert fixed_flops("mla_merged", geometry) == 2 * left
    keys = w.W_UQ_UK.numel() / (w.base.W_UQ.numel() + w.base.W_UK.numel())
    values = w.W_UV_O.numel() / (w.base.W_UV.numel() + w.base.W_O.numel())
    g, q_in = geometry, geometry.q_lora_rank or geometry.d_model
    assert merge_growth(q_in, g.kv_lora_rank, g.qk_nope_head_dim) == pytest.approx(keys)
    assert merge_growth(g.d_model, g.kv_lora_rank, g.v_head_dim) == pytest.approx(values)


@given(gqa_geometries)
def test_the_constant_part_of_gqa_is_two_flops_a_weight(geometry):
    assert fixed_flops("gqa", geometry) == 2 * matrix_elems(prepared("gqa", geometry))


# Published models


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
        (8, [("MHA", "MHA 8×32", 512), ("GQA-2", "GQA 2×32", 128), ("MQA", "MQA 1×32", 64)]),
        (7, [("MHA", "MHA 7×32", 448), ("MQA", "MQA 1×32", 64)]),
        (1, [("MHA", "MHA 1×32", 64)]),
    ],
)
def test_baselines(n_heads, expected):
    assert [(b.label, b.sized, b.elems) for b in baselines(n_heads, 32)] == expected


def test_a_baseline_says_what_it_is_and_what_it_counts():
    assert [(b.what, b.counted) for b in baselines(6, 32)] == [
        (f"plain {label} of 6 heads, head dim 32", f"2·{kv}·32 values a token and layer")
        for label, kv in (("MHA", 6), ("GQA-2", 2), ("MQA", 1))
    ]
    assert baselines(1, 2)[0].what == "plain MHA of 1 head, head dim 2"


@pytest.mark.parametrize(
    ("n_heads", "groups"), [(1, 1), (2, 2), (6, 2), (7, 7), (8, 2), (9, 3), (128, 2), (143, 11)]
)
def test_key_value_heads_beside_so_many_heads(n_heads, groups):
    assert group_kv_heads(n_heads) == groups
    kinds = {name: MECHANISMS[name].kv_heads(n_heads) for name in ("mha", "gqa", "mqa")}
    assert kinds == {"mha": n_heads, "gqa": groups, "mqa": 1}


def test_a_geometry_is_decoded_with_the_least_cache():
    assert mechanism_of(PRIMES) == "mla_absorbed"
    for name, n_kv_heads in (("mha", 4), ("gqa", 2), ("mqa", 1)):
        assert mechanism_of(GQAGeometry(8, 4, n_kv_heads, 2)) == name


@pytest.mark.parametrize("mechanism", CACHED_MLA)
@given(mla_geometries, st.integers(1, 5000), st.integers(1, 5000))
def test_ledger_is_linear_in_seq_len(mechanism, geometry, t, more):
    def moved(seq_len):
        ledger = operations(mechanism, geometry, seq_len, 4)
        totals = [(op.flops, op.bytes_read, op.bytes_written) for op in ledger]
        return torch.tensor(totals).sum(0)

    assert torch.equal(moved(t + more) - moved(t), more * (moved(2) - moved(1)))


def cached_by_line(mechanism, geometry, seq_len):
    ledger = operations(mechanism, geometry, seq_len, 4)
    assert all(0 <= op.elems_cached <= op.elems_read for op in ledger)
    return {op.name: op.elems_cached for op in ledger if op.elems_cached}


@given(mla_geometries, gqa_geometries, st.integers(1, 5000))
def test_the_ledger_reads_a_cache_once_and_a_shared_latent_twice(mla, gqa, t):
    for mechanism in MECHANISMS:
        geometry = mla if mechanism in MLA_MECHANISMS else gqa
        if mechanism == "gqa_latent":
            geometry = latent_geometry(gqa, 5)
        lines = cached_by_line(mechanism, geometry, t)
        cached = cache_elems(mechanism, geometry)
        again = mla.kv_lora_rank if mechanism in ("mla_absorbed", "mla_merged") else 0
        assert sum(lines.values()) == t * (cached + again)
        assert cache_reads(mechanism, geometry) == cached + again


def test_absorbed_deepseek_v3_reads_1088_values_of_the_576_that_a_token_caches():
    lines = cached_by_line("mla_absorbed", V3, 10)
    assert lines == {"score": 5_760, "context": 5_120}
    assert cache_reads("mla_absorbed", V3) == 1_088


@given(gqa_geometries, st.integers(1, 5000), st.integers(1, 5000))
def test_gqa_ledger_is_linear_in_seq_len(geometry, t, more):
    grown = flops("gqa", geometry, t + more) - flops("gqa", geometry, t)
    assert grown == more * 4 * geometry.n_heads * geometry.head_dim


@given(mla_geometries, st.integers(2, 300))
def test_recompute_grows_with_the_square(geometry, t):
    second = [flops("recompute", geometry, t + i) for i in (-1, 0, 1)]
    curvature = second[0] - 2 * second[1] + second[2]
    assert curvature == 4 * geometry.n_heads * (geometry.qk_head_dim + geometry.v_head_dim)


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
    weights = random_weights(model, 0)
    total = numel(weights) + sum(numel(b) + numel(b.attention) for b in weights.blocks)
    assert model_params(model) == total


# Products of three, and several queries


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
    assert crossover_query_tokens(MLAGeometry(64, 4, 16, 8, 16, 16), 100) == 100


@given(mla_geometries, st.integers(1, 50))
def test_the_crossover_is_where_the_lines_of_both_counts_cross(geometry, seq_len):
    lead = [
        query_flops("mla_reexpand", geometry, queries, seq_len)
        - query_flops("mla_absorbed", geometry, queries, seq_len)
        for queries in (0, 1)
    ]
    found, gain = crossover_query_tokens(geometry, seq_len), lead[0] - lead[1]
    assert found == (pytest.approx(lead[0] / gain) if gain > 0 else None)


@pytest.mark.parametrize("form", ["mla_reexpand", "mla_absorbed"])
@given(mla_geometries, st.integers(1, 6), st.integers(0, 6))
def test_query_flops_are_those_that_pytorch_counts(form, geometry, queries, past):
    counted = counted_flops(form, geometry, past + queries, queries)
    weights = prepared(form, geometry)
    projections = 2 * queries * matrix_elems(weights, without=("W_UK", "W_UV"))
    assert query_flops(form, geometry, queries, past + queries) == counted - projections


def bracketed(a, b, c):
    """FLOPs, and elements of the product between, of (a b) c and a (b c)."""
    for first_left in (True, False):
        with FlopCounterMode(display=False) as counter:
            between = a @ b if first_left else b @ c
            between @ c if first_left else a @ between
        yield counter.get_total_flops(), between.numel()


@given(mla_geometries, st.integers(1, 50))
def test_brackets_are_what_pytorch_counts(g, t):
    n, v, c = g.qk_nope_head_dim, g.v_head_dim, g.kv_lora_rank
    q, p, latents, W_UK, W_UV = (  # noqa: N806
        torch.ones(*shape) for shape in ((1, n), (1, t), (t, c), (c, n), (c, v))
    )
    products = {"scores": (q, W_UK.T, latents.T), "context": (p, latents, W_UV)}
    found = brackets(g, t)
    assert list(found) == list(products)
    for name, factors in products.items():
        for bracket, (counted, between) in zip(found[name], bracketed(*factors), strict=True):
            assert (bracket.flops, bracket.between_elems) == (counted, between)


def test_brackets_say_what_lies_between():
    between = {
        (b.formula, b.between, b.between_elems)
        for pair in brackets(V3, 4096).values()
        for b in pair
    }
    assert between == {
        ("(q·W_UKᵀ)·C_KVᵀ", "1×512", 512),
        ("q·(C_KV·W_UK)ᵀ", "4,096×128", 524_288),
        ("(p·C_KV)·W_UV", "1×512", 512),
        ("p·(C_KV·W_UV)", "4,096×128", 524_288),
    }


def test_the_flows_by_hand():
    found = flows(PRIMES, 29)
    naive, rebuilt, half, absorbed = found
    whole = {name: sum(line[2] for line in MLA_LEDGERS[name]) for name in MLA_LEDGERS}
    for flow, name in ((naive, "expanded"), (rebuilt, "reexpand"), (absorbed, "absorbed")):
        assert flow.flops == whole[f"mla_{name}"]
    # C W_UV and p V for each of 3 heads, in place of p C and (p C) W_UV.
    built, moved = 29 * 11 * 17 + 29 * 17, 29 * 11 + 11 * 17
    assert half.flops - absorbed.flops == 2 * 3 * (built - moved)
    assert [flow.cache_elems for flow in found] == [3 * (7 + 17), 13, 13, 13]
    working = [0, 3 * (7 + 17) * 29, 3 * 17 * 29, 0]
    assert [flow.working_elems for flow in found] == working


def test_absorbing_one_side_lies_between_none_and_both():
    _, rebuilt, half, absorbed = flows(V3, 4096)
    assert absorbed.flops < half.flops < rebuilt.flops


# Limits

LIMITS = [
    *((PRIMES, name, 1, 65536) for name in ("d_model", "kv_lora_rank", "q_lora_rank")),
    *((PRIMES, name, 1, 4096) for name in ("qk_nope_head_dim", "v_head_dim")),
    (PRIMES, "n_heads", 1, 1024),
    (PRIMES, "qk_rope_head_dim", 0, 4096),
    (GQAGeometry(8, 8, 1, 2), "d_model", 1, 65536),
    (GQAGeometry(8, 8, 1, 2), "n_heads", 1, 1024),
    (GQAGeometry(8, 8, 1, 2), "n_kv_heads", 1, 8),
    (GQAGeometry(8, 8, 1, 2), "head_dim", 2, 4096),
    *((ModelGeometry("", PRIMES, 1, 1, 1, 2), name, 1, 1 << 20) for name in ("d_ff", "vocab_size")),
    (ModelGeometry("", PRIMES, 1, 1, 1, 2), "n_layers", 1, 256),
    (ModelGeometry("", PRIMES, 1, 1, 1, 2), "context", 2, 1 << 24),
]


@pytest.mark.parametrize(("geometry", "name", "low", "high"), LIMITS)
def test_a_geometry_takes_its_limits_and_nothing_past_them(geometry, name, low, high):
    for value in (low, high):
        assert getattr(replace(geometry, **{name: value}), name) == value
    for value in (low - 1, high + 1, True):
        with pytest.raises(ValueError, match=f"{name}: expected "):
            replace(geometry, **{name: value})


MODEL = ModelGeometry("", PRIMES, 1, 1, 1, 2)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("record", [PRIMES, GQAGeometry(8, 8, 1, 2), MODEL, Inputs()])
def test_a_field_of_a_wrong_type_is_named_and_numpys_numbers_are_kept_plain(record):
    for field in fields(record):
        wrong = [[8], object(), 5 if field.type is str else "8", 10**5000]
        for value in wrong[:3] if field.type is str else wrong:
            with pytest.raises(ValueError, match=f"^{field.name}: expected .*, got"):
                replace(record, **{field.name: value})
        own = getattr(record, field.name)
        if isinstance(own, int):
            kept = getattr(replace(record, **{field.name: np.int64(own)}), field.name)
            assert (kept, type(kept)) == (own, int)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf"), 10**400, "1", True])
@pytest.mark.parametrize(
    ("record", "name", "least"),
    [
        (PRIMES, "rope_theta", "a positive number"),
        (PRIMES, "softmax_scale_override", "a positive number"),
        (GQAGeometry(8, 8, 1, 2), "rope_theta", "a positive number"),
        (PRIMES, "norm_eps", "a number from 0"),
        (MODEL, "norm_eps", "a number from 0"),
    ],
)
def test_a_base_of_rope_a_norm_and_a_scale_are_in_their_range(record, name, least, number):
    if (name, number) == ("norm_eps", 0.0):
        assert replace(record, norm_eps=0).norm_eps == 0
        return
    with pytest.raises(ValueError, match=f"^{name}: expected {least}, got "):
        replace(record, **{name: number})
