"""Mechanisms against each other, against PyTorch, and against a case worked by hand."""

from itertools import accumulate
from math import cos, log, log2, sin

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mla_viz.attention.cache import FIRST_CAPACITY, HeadCache, LatentCache, Rows
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import PASSING, Watch, causal_softmax, rms_norm, rope_angles, rotate
from mla_viz.attention.weights import GQAWeights, MLAWeights, cast, random_gqa, random_mla
from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.cost import cache_elems
from mla_viz.model.decoder import BlockWeights, Decoder, ModelWeights
from mla_viz.model.weights import random_weights

MLA = ("mla_expanded", "mla_reexpand", "mla_absorbed", "mla_merged", "recompute")
PLAIN = ("mha", "gqa", "mqa")
OTHER_MLA = MLA[1:]
LATENT = ("mla_reexpand", "mla_absorbed", "mla_merged")
BATCHES = [(), (2,), (2, 3)]
SMALL = MLAGeometry(12, 3, 4, 6, 5, 8, q_lora_rank=7)

mla_geometries = st.builds(
    MLAGeometry,
    d_model=st.integers(4, 40),
    n_heads=st.integers(1, 6),
    qk_nope_head_dim=st.integers(1, 12),
    qk_rope_head_dim=st.sampled_from([0, 2, 4, 8]),
    v_head_dim=st.integers(2, 12),
    kv_lora_rank=st.integers(4, 24),
    q_lora_rank=st.none() | st.integers(2, 16),
)
gqa_geometries = st.builds(
    lambda group, n_kv_heads, half, d_model: GQAGeometry(
        d_model, group * n_kv_heads, n_kv_heads, 2 * half
    ),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(4, 32),
)
wide_geometries = st.builds(
    MLAGeometry,
    d_model=st.just(64),
    n_heads=st.sampled_from([4, 6, 8]),
    qk_nope_head_dim=st.sampled_from([16, 24, 32]),
    qk_rope_head_dim=st.sampled_from([0, 8, 16]),
    v_head_dim=st.sampled_from([16, 20, 32]),
    kv_lora_rank=st.sampled_from([16, 32, 64]),
    q_lora_rank=st.sampled_from([None, 48]),
)
seeds = st.integers(0, 2**32)


def make(geometry, seed=0, dtype=torch.float64, batch=(), seq=9):
    generator = torch.Generator().manual_seed(seed)
    random = random_mla if isinstance(geometry, MLAGeometry) else random_gqa
    weights = cast(random(geometry, generator), dtype, "cpu")
    return weights, torch.randn(*batch, seq, geometry.d_model, generator=generator).to(dtype)


def angles(geometry, seq, dtype):
    mla = isinstance(geometry, MLAGeometry)
    width = geometry.qk_rope_head_dim if mla else geometry.head_dim
    return rope_angles(torch.arange(seq), width, geometry.rope_theta, dtype)


def start(mechanism, weights, batch=()):
    row = implementation(mechanism)
    prepared = row.prepare(weights)
    return row, prepared, row.new_cache(prepared, batch)


def at_once(mechanism, weights, x):
    row, prepared, cache = start(mechanism, weights, x.shape[:-2])
    rope = angles(weights.geometry, x.shape[-2], x.dtype)
    return row.attend(prepared, cache, x, rope, Watch(*PASSING))


def in_parts(mechanism, weights, x, stops):
    row, prepared, cache = start(mechanism, weights, x.shape[:-2])
    rope = angles(weights.geometry, x.shape[-2], x.dtype)
    outs = []
    for begin, stop in zip([0, *stops], stops, strict=False):
        first = 0 if row.whole_prefix else begin
        attended = row.attend(prepared, cache, x[..., first:stop, :], rope[first:stop], Watch())
        outs.append(attended.out[..., begin - first :, :])
    return torch.cat(outs, -2), cache


def gap(ours, reference):
    ours, reference = ours.double(), reference.double()
    return ((ours - reference).abs().max() / reference.abs().max()).item()


# Agreement


@pytest.mark.parametrize("mechanism", OTHER_MLA)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@given(mla_geometries, seeds, st.sampled_from(BATCHES), st.integers(2, 9))
def test_mla_paths_agree(mechanism, dtype, limit, geometry, seed, batch, seq):
    weights, x = make(geometry, seed, dtype, batch, seq)
    naive, other = at_once("mla_expanded", weights, x), at_once(mechanism, weights, x)
    assert gap(other.out, naive.out) < limit
    assert gap(other.seen["scores"], naive.seen["scores"]) < limit
    assert gap(other.seen["probs"], naive.seen["probs"]) < limit


@pytest.mark.parametrize("mechanism", ["mla_reexpand", "mla_absorbed", "mla_merged"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@settings(max_examples=15)
@given(wide_geometries, seeds, st.sampled_from(BATCHES[:2]))
def test_half_precision_paths_stay_as_near_to_float64_as_each_other(
    mechanism, dtype, geometry, seed, batch
):
    weights, x = make(geometry, seed, dtype, batch, seq=24)
    exact = at_once("mla_expanded", cast(weights, torch.float64, "cpu"), x.double()).out
    naive = gap(at_once("mla_expanded", weights, x).out, exact)
    other = gap(at_once(mechanism, weights, x).out, exact)
    assert max(naive, other) < 5e-2
    assert other < 2 * naive
    assert naive < 2 * other


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_normalised_in_float32(dtype):
    # The square of 300 is past float16, and no square of a bfloat16 is exact.
    x = (300 * torch.randn(64, 48, generator=torch.Generator().manual_seed(0))).to(dtype)
    exact = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    assert torch.equal(rms_norm(x, torch.ones(48, dtype=dtype), 0.0), exact.to(dtype))


class SoftmaxInputs(TorchDispatchMode):
    """The dtypes that softmax was given: PyTorch itself hides what it does in half precision."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        if func is torch.ops.aten._softmax.default:
            self.dtypes.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("seq", [1, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_softmax_is_taken_in_float32_at_least(dtype, seq):
    with SoftmaxInputs() as watch:
        probs = causal_softmax(torch.zeros(seq, 5, dtype=dtype))
    assert watch.dtypes == {torch.float64 if dtype == torch.float64 else torch.float32}
    assert probs.dtype == dtype


@pytest.mark.parametrize("mechanism", MLA)
@given(mla_geometries, seeds, st.sampled_from(BATCHES), st.sets(st.integers(1, 8)))
def test_mla_in_parts_equals_all_at_once(mechanism, geometry, seed, batch, cuts):
    weights, x = make(geometry, seed, batch=batch)
    parts, _ = in_parts(mechanism, weights, x, [*sorted(cuts), 9])
    assert gap(parts, at_once(mechanism, weights, x).out) < 1e-12


@given(gqa_geometries, seeds, st.sampled_from(BATCHES))
def test_gqa_token_by_token_equals_all_at_once(geometry, seed, batch):
    weights, x = make(geometry, seed, batch=batch)
    parts, _ = in_parts("gqa", weights, x, range(1, 10))
    assert gap(parts, at_once("gqa", weights, x).out) < 1e-12


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@given(gqa_geometries, seeds, st.sampled_from(BATCHES[1:]))
def test_gqa_equals_scaled_dot_product_attention(dtype, limit, geometry, seed, batch):
    w, x = make(geometry, seed, dtype, batch)
    rope = angles(geometry, 9, dtype)
    heads = x.unsqueeze(-3)
    q, k, v = rotate(heads @ w.W_Q, rope), rotate(heads @ w.W_K, rope), heads @ w.W_V
    o_head = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    expected = torch.einsum("...hsv,hvd->...sd", o_head, w.W_O)
    assert gap(at_once("gqa", w, x).out, expected) < limit


def test_mha_equals_scaled_dot_product_attention():
    w, x = make(GQAGeometry(16, 4, 4, 6), batch=(2,))
    rope = angles(w.geometry, 9, x.dtype)
    heads = x.unsqueeze(-3)
    q, k, v = rotate(heads @ w.W_Q, rope), rotate(heads @ w.W_K, rope), heads @ w.W_V
    o_head = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    expected = o_head.transpose(-3, -2).flatten(-2) @ w.W_O.flatten(0, 1)
    assert gap(at_once("mha", w, x).out, expected) < 1e-12


@pytest.mark.parametrize("mechanism", MLA)
def test_mla_equals_scaled_dot_product_attention(mechanism):
    w, x = make(SMALL, batch=(2,))
    rope = angles(SMALL, 9, x.dtype)
    c_q = rms_norm(x @ w.W_DQ, w.q_norm, SMALL.norm_eps).unsqueeze(-3)
    c_kv = rms_norm(x @ w.W_DKV, w.kv_norm, SMALL.norm_eps).unsqueeze(-3)
    k_rope = rotate(x @ w.W_KR, rope).unsqueeze(-3).expand(-1, SMALL.n_heads, -1, -1)
    q = torch.cat([c_q @ w.W_UQ, rotate(c_q @ w.W_QR, rope)], -1)
    k = torch.cat([c_kv @ w.W_UK, k_rope], -1)
    o_head = F.scaled_dot_product_attention(q, k, c_kv @ w.W_UV, is_causal=True)
    expected = torch.einsum("bhsv,hvd->bsd", o_head, w.W_O)
    assert gap(at_once(mechanism, w, x).out, expected) < 1e-12


@pytest.mark.parametrize("mechanism", MLA)
def test_two_heads_and_two_tokens_worked_by_hand(mechanism):
    # x0 = (7, 1) and x1 = (1, 7) have root mean square 5, so a gain of 5 gives c = x.
    # Keys are c's first number (7, 1), values its second (1, 7); the scale is 4^-1/2 = 1/2.
    # Head 0: q1 = ln(3)/3, scores ln(3)/6 (7, 1), probabilities 3/4, 1/4: o = 3/4 + 7/4 = 5/2.
    # Head 1: q = 0, probabilities 1/2, 1/2: o = 4.  W_O = (1, 2), (10, 0).
    # Token 1: 5/2 (1, 2) + 4 (10, 0) = (42.5, 5).  Token 0: 1 (1, 2) + 1 (10, 0) = (11, 2).
    padded = torch.zeros(2, 2, 4, dtype=torch.float64)
    W_UK, W_UQ = padded.clone(), padded.clone()  # noqa: N806
    W_UK[:, 0, 0] = 1
    W_UQ[0, 0, 0] = log(3) / 3
    weights = MLAWeights(
        geometry=MLAGeometry(2, 2, 4, 0, 1, 2, norm_eps=0.0),
        W_DQ=None,
        q_norm=None,
        W_UQ=W_UQ,
        W_QR=padded[..., :0],
        W_DKV=torch.eye(2, dtype=torch.float64),
        kv_norm=torch.full((2,), 5.0, dtype=torch.float64),
        W_KR=padded[0, :, :0],
        W_UK=W_UK,
        W_UV=torch.tensor([[[0.0], [1.0]]] * 2, dtype=torch.float64),
        W_O=torch.tensor([[[1.0, 2.0]], [[10.0, 0.0]]], dtype=torch.float64),
    )
    x = torch.tensor([[7.0, 1.0], [1.0, 7.0]], dtype=torch.float64)
    attended = at_once(mechanism, weights, x)
    probs = torch.tensor([[[1, 0], [0.75, 0.25]], [[1, 0], [0.5, 0.5]]], dtype=torch.float64)
    torch.testing.assert_close(attended.seen["probs"], probs)
    out = torch.tensor([[11.0, 2.0], [42.5, 5.0]], dtype=torch.float64)
    torch.testing.assert_close(attended.out, out)


# Probabilities and the mask


@pytest.mark.parametrize("mechanism", MLA)
@given(mla_geometries, seeds, st.sampled_from(BATCHES))
def test_probabilities_sum_to_one_and_look_back_only(mechanism, geometry, seed, batch):
    weights, x = make(geometry, seed, batch=batch)
    probs = at_once(mechanism, weights, x).seen["probs"]
    assert probs.shape == (*batch, geometry.n_heads, 9, 9)
    torch.testing.assert_close(probs.sum(-1), torch.ones_like(probs[..., 0]))
    assert (probs.triu(1) == 0).all()
    assert (probs >= 0).all()


def test_every_key_up_to_the_own_one_is_seen():
    probs = causal_softmax(torch.zeros(3, 5))
    expected = torch.tensor(
        [[1 / 3, 1 / 3, 1 / 3, 0, 0], [1 / 4, 1 / 4, 1 / 4, 1 / 4, 0], [1 / 5] * 5]
    )
    torch.testing.assert_close(probs, expected)


@pytest.mark.parametrize("mechanism", [*MLA, "gqa"])
def test_a_later_token_changes_nothing_before_it(mechanism):
    geometry = GQAGeometry(12, 4, 2, 6) if mechanism == "gqa" else SMALL
    weights, x = make(geometry)
    other = x.clone()
    other[5:] += 1
    before, after = (at_once(mechanism, weights, tokens).out for tokens in (x, other))
    assert torch.equal(before[:5], after[:5])
    assert not torch.allclose(before[5], after[5])


@pytest.mark.parametrize("mechanism", ["mla_expanded", *LATENT])
def test_past_tokens_may_be_cached_in_any_order_with_their_positions(mechanism):
    weights, x = make(SMALL)
    rope = angles(SMALL, 9, x.dtype)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    row, prepared, cache = start(mechanism, weights)
    row.attend(prepared, cache, x[order], rope[order], Watch(*PASSING))
    last = row.attend(prepared, cache, x[8:], rope[8:], Watch(*PASSING)).out
    assert gap(last, at_once(mechanism, weights, x).out[8:]) < 1e-12


def test_scale_of_deepseek_v3():
    v3 = MLAGeometry(7168, 128, 128, 64, 128, 512, 1536)
    assert v3.softmax_scale == pytest.approx(0.0721688, abs=5e-8)


@pytest.mark.parametrize("mechanism", MLA)
def test_published_scale_replaces_the_default(mechanism):
    weights, x = make(SMALL)
    doubled = cast(weights, x.dtype, "cpu")
    geometry = MLAGeometry(12, 3, 4, 6, 5, 8, 7, softmax_scale_override=2 * 10**-0.5)
    object.__setattr__(doubled, "geometry", geometry)
    plain, sharper = at_once(mechanism, weights, x), at_once(mechanism, doubled, x)
    torch.testing.assert_close(sharper.seen["scores"], 2 * plain.seen["scores"])


# RoPE


def test_rope_turns_each_pair_by_its_own_angle():
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    turned = rotate(x, rope_angles(torch.tensor([2]), 4, 10000.0, x.dtype))
    expected = [-0.4161468365, 0.9092974268, -0.0199986667, 0.9998000067]
    torch.testing.assert_close(turned[0], torch.tensor(expected, dtype=torch.float64))


def weights_that_show_positions(mechanism):
    """Every token is (1, 1, 1, 1) and stays so; keys are (1, 0, 1, 0) before they are turned.

    The first head asks with the same vector, the second with (0, 1, 0, 0).
    """
    key, ask = torch.zeros(2, 4, 4).double()
    key[0, 0] = key[2, 2] = ask[1, 1] = 1
    asked, one = torch.stack([key, ask]), torch.zeros(2, 4, 1).double()
    if mechanism in PLAIN:
        kv = 1 if mechanism == "mqa" else 2
        g = GQAGeometry(4, 2, kv, 4)
        keys = key.expand(kv, 4, 4)
        layer = GQAWeights(g, asked, keys, torch.zeros_like(keys), torch.zeros(2, 4, 4).double())
    else:
        g = MLAGeometry(4, 2, 1, 4, 1, 1)
        norm, up, down = torch.ones(1).double(), one[:, :1], one.mT
        layer = MLAWeights(g, None, None, one, asked, one[0], norm, key, up, up, down)
    ones = torch.ones(2, 4).double()
    block = BlockWeights(ones[0], layer, ones[0], *(one[0], one[0], one[0].T))
    return ModelWeights(ModelGeometry("", g, 2, 1, 2, 9, 0.0), ones, (block, block), ones[0])


@pytest.mark.parametrize("mechanism", [*MLA, *PLAIN])
def test_positions_begin_at_zero_and_count_every_token_by_hand(mechanism):
    # Position p turns a key to (cos p, sin p, cos p/100, sin p/100). Seen d positions later, the
    # same vector scores cos d + cos d/100, and (0, 1, 0, 0) scores -sin d.
    decoder = Decoder(weights_that_show_positions(mechanism), mechanism)
    scale = 4**-0.5 if mechanism in PLAIN else 5**-0.5
    for first, stop in ((0, 1), (1, 3), (3, 4)):
        begin = 0 if decoder.whole_prefix else first
        layers = decoder.feed(torch.zeros(stop - begin, dtype=torch.long), ["scores"]).layers
        last = [[cos(d) + cos(d / 100), -sin(d)] for d in range(stop - 1, -1, -1)]
        for layer in layers:
            expected = scale * torch.tensor(last, dtype=torch.float64).T
            torch.testing.assert_close(layer.seen["scores"][:, -1], expected)
    keys = [[cos(p), sin(p), cos(p / 100), sin(p / 100)] for p in range(4)]
    for cache in decoder.caches if mechanism != "recompute" else ():
        cached = cache.k[0, :, -4:] if isinstance(cache, HeadCache) else cache.k_rope
        torch.testing.assert_close(cached, torch.tensor(keys, dtype=torch.float64))


@given(st.integers(1, 16), seeds, st.integers(0, 8000))
def test_rope_is_a_complex_product_of_interleaved_pairs(half, seed, first):
    x = torch.randn(5, 2 * half, generator=torch.Generator().manual_seed(seed)).double()
    pos = torch.arange(first, first + 5)
    freqs = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    turn = torch.polar(torch.ones(5, half, dtype=torch.float64), pos[:, None] * freqs)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (half, 2))) * turn)
    ours = rotate(x, rope_angles(pos, 2 * half, 10000.0, x.dtype))
    torch.testing.assert_close(ours, expected.flatten(-2))


@given(st.integers(1, 16), seeds, st.integers(0, 8000))
def test_rope_keeps_norms(half, seed, first):
    x = torch.randn(5, 2 * half, generator=torch.Generator().manual_seed(seed)).double()
    turned = rotate(x, rope_angles(torch.arange(first, first + 5), 2 * half, 1e4, x.dtype))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


@given(st.integers(1, 16), seeds, st.integers(0, 4000))
def test_rope_scores_see_only_the_difference_of_positions(half, seed, shift):
    q, k = torch.randn(2, 6, 2 * half, generator=torch.Generator().manual_seed(seed)).double()
    near, far = (
        rope_angles(torch.arange(6) + first, 2 * half, 1e4, q.dtype) for first in (0, shift)
    )
    scores = rotate(q, near) @ rotate(k, near).mT
    torch.testing.assert_close(rotate(q, far) @ rotate(k, far).mT, scores, atol=1e-9, rtol=1e-9)


def test_half_split_rope_on_the_same_weights_is_another_model():
    q, k = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)).double()
    rope = rope_angles(torch.arange(6), 8, 1e4, q.dtype)

    def half_split(x):
        return rotate(x.unflatten(-1, (2, 4)).mT.flatten(-2), rope)

    ours = rotate(q, rope) @ rotate(k, rope).mT
    assert (half_split(q) @ half_split(k).mT - ours).abs().max() > 0.5


def test_rope_of_width_zero_is_nothing():
    assert (
        rotate(torch.empty(3, 0), rope_angles(torch.arange(3), 0, 1e4, torch.float32)).numel() == 0
    )


# Caches


def cached_tensors(cache):
    if isinstance(cache, HeadCache):
        return [cache.k, cache.v]
    return [cache.latent_and_rope]


@pytest.mark.parametrize("mechanism", ["mla_expanded", *LATENT, "gqa"])
@pytest.mark.parametrize("batch", BATCHES)
def test_a_step_adds_one_row_and_old_rows_stay_bit_equal(mechanism, batch):
    geometry = GQAGeometry(12, 4, 2, 6) if mechanism == "gqa" else SMALL
    weights, x = make(geometry, batch=batch, seq=40)
    row, prepared, cache = start(mechanism, weights, batch)
    rope = angles(geometry, 40, x.dtype)
    for pos in range(40):
        before = [tensor.clone() for tensor in cached_tensors(cache)]
        row.attend(prepared, cache, x[..., pos : pos + 1, :], rope[pos : pos + 1], Watch(*PASSING))
        for old, new in zip(before, cached_tensors(cache), strict=True):
            assert new.shape[-2] == pos + 1
            assert torch.equal(new[..., :pos, :], old)


ABSORBED = ("mla_absorbed", "mla_merged")


def capacity(seq):
    return next(rows for rows in (16, 32, 64) if rows >= seq)


@pytest.mark.parametrize("mechanism", ["mla_expanded", *LATENT, "recompute"])
@given(mla_geometries, st.sampled_from(BATCHES), st.integers(1, 40))
def test_closed_form_bytes_equal_the_real_cache(mechanism, geometry, batch, seq):
    weights, x = make(geometry, batch=batch, seq=seq, dtype=torch.float32)
    _, cache = in_parts(mechanism, weights, x, [seq])
    row_bytes = 4 * torch.Size(batch).numel() * cache_elems(mechanism, geometry)
    assert cache.filled_bytes == seq * row_bytes
    assert cache.allocated_bytes == capacity(seq) * row_bytes


@given(gqa_geometries, st.integers(1, 40), st.sampled_from([torch.float32, torch.bfloat16]))
def test_closed_form_bytes_equal_the_real_gqa_cache(geometry, seq, dtype):
    weights, x = make(geometry, seq=seq, dtype=dtype)
    _, cache = in_parts("gqa", weights, x, [seq])
    row_bytes = dtype.itemsize * cache_elems("gqa", geometry)
    assert cache.filled_bytes == cache.k.nbytes + cache.v.nbytes == seq * row_bytes
    assert cache.allocated_bytes >= capacity(seq) * row_bytes
    if dtype == torch.float32:
        assert cache.allocated_bytes == capacity(seq) * row_bytes


@given(mla_geometries, st.sampled_from(BATCHES), st.integers(1, 9), st.integers(1, 3))
def test_rebuilding_head_by_head_changes_no_number(geometry, batch, seq, new):
    weights, x = make(geometry, batch=batch, seq=seq + new)
    rope, outs, working = angles(geometry, seq + new, x.dtype), [], []
    for watch in (Watch(), Watch("k")):
        row, prepared, cache = start("mla_reexpand", weights, batch)
        for part in (slice(0, seq), slice(seq, seq + new)):
            attended = row.attend(prepared, cache, x[..., part, :], rope[part], watch)
        outs.append(attended.out)
        working.append(attended.working_bytes)
    torch.testing.assert_close(*outs)
    assert working[0] * geometry.n_heads == working[1]


@given(mla_geometries, st.sampled_from(ABSORBED), st.lists(st.integers(1, 40), min_size=1))
def test_how_rows_lie_changes_no_number(geometry, mechanism, sizes):
    # Half precision on a processor keeps latents column by column.
    weights, x = make(geometry, seq=sum(sizes), dtype=torch.bfloat16)
    _, cache = in_parts(mechanism, weights, x, [*accumulate(sizes)])
    rows = Rows((), cache.latent_and_rope.shape[-1], torch.bfloat16, "cpu")
    rows.append(cache.latent_and_rope)
    assert torch.equal(rows.filled, cache.latent_and_rope)
    assert cache.latent_and_rope.stride(-2) == 1
    assert cache.filled_bytes == rows.filled_bytes <= cache.allocated_bytes


@pytest.mark.parametrize("mechanism", LATENT)
def test_latent_bytes_do_not_depend_on_heads(mechanism):
    sizes = set()
    for n_heads in (1, 2, 5, 16):
        weights, x = make(MLAGeometry(12, n_heads, 4, 6, 5, 8))
        sizes.add(in_parts(mechanism, weights, x, [9])[1].filled_bytes)
    assert sizes == {9 * (8 + 6) * 8}


def test_latent_values_are_the_memory_of_the_keys():
    cache = LatentCache((2,), 8, 6, torch.float32, "cpu")
    cache.append(torch.randn(2, 5, 8), torch.randn(2, 5, 6))
    keys = cache.latent_and_rope
    assert cache.c_kv.data_ptr() == keys.data_ptr()
    assert cache.c_kv.untyped_storage().data_ptr() == keys.untyped_storage().data_ptr()
    assert cache.k_rope.untyped_storage().data_ptr() == keys.untyped_storage().data_ptr()
    assert torch.equal(torch.cat([cache.c_kv, cache.k_rope], -1), keys)


def test_buffers_double_and_move_a_logarithmic_number_of_times():
    rows = Rows((2,), 3, torch.float32, "cpu")
    capacities = []
    for _ in range(1000):
        rows.append(torch.ones(2, 1, 3))
        capacities.append(rows.allocated.shape[-2])
    assert sorted(set(capacities)) == [FIRST_CAPACITY << i for i in range(7)]
    assert len(set(capacities)) - 1 <= log2(1000)


def test_one_large_append_grows_to_the_next_doubling():
    rows = Rows((), 3, torch.float32, "cpu")
    rows.append(torch.ones(100, 3))
    assert rows.allocated.shape == (128, 3)
    assert rows.filled.shape == (100, 3)


def test_appending_within_the_capacity_moves_nothing():
    rows = Rows((2,), 3, torch.float32, "cpu")
    where = rows.allocated.data_ptr()
    for _ in range(FIRST_CAPACITY):
        rows.append(torch.ones(2, 1, 3))
        assert rows.filled.data_ptr() == where


class LargestNewTensor(TorchDispatchMode):
    """Elements of the largest tensor made by an operation in memory of its own."""

    elems = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        result = func(*args, **(kwargs or {}))
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in known:
            self.elems = max(self.elems, result.numel())
        return result


def largest_made_by_a_step(mechanism, geometry, batch, past):
    weights, x = make(geometry, batch=batch, seq=past + 1)
    row, prepared, cache = start(mechanism, weights, batch)
    rope = angles(geometry, past + 1, x.dtype)
    row.attend(prepared, cache, x[..., :past, :], rope[:past], Watch(*PASSING))
    with LargestNewTensor() as watch:
        row.attend(prepared, cache, x[..., past:, :], rope[past:], Watch(*PASSING))
    return watch.elems // torch.Size(batch).numel()


@pytest.mark.parametrize("mechanism", ["mla_expanded", "mla_absorbed", "mla_merged", "mha", "gqa"])
@pytest.mark.parametrize("batch", BATCHES)
def test_a_step_makes_nothing_larger_than_its_scores(mechanism, batch):
    kv_heads = {"mha": 4, "gqa": 2}.get(mechanism)
    mla = MLAGeometry(16, 4, 8, 4, 8, 16)
    geometry = GQAGeometry(16, 4, kv_heads, 8) if kv_heads else mla
    assert largest_made_by_a_step(mechanism, geometry, batch, past=600) == 4 * 601


def test_re_expansion_does_copy_the_past_so_the_watch_sees_copies():
    mla = MLAGeometry(16, 4, 8, 4, 8, 16)
    assert largest_made_by_a_step("mla_reexpand", mla, (), past=200) == 4 * 201 * 12


@pytest.mark.parametrize("mechanism", MLA)
def test_working_bytes_count_what_is_rebuilt_and_thrown_away(mechanism):
    weights, x = make(SMALL, dtype=torch.float32)
    rebuilt = 9 * SMALL.n_heads * (SMALL.qk_head_dim + SMALL.v_head_dim) * 4
    expected = rebuilt if mechanism in ("mla_reexpand", "recompute") else 0
    assert at_once(mechanism, weights, x).working_bytes == expected


def test_tables_show_one_row_a_token():
    weights, x = make(SMALL)
    _, heads = in_parts("mla_expanded", weights, x, [9])
    _, latent = in_parts("mla_absorbed", weights, x, [9])
    assert heads.table().shape == (9, cache_elems("mla_expanded", SMALL))
    assert torch.equal(latent.table(), torch.cat([latent.c_kv, latent.k_rope], -1))
    second_head = heads.table()[:, 15:30]
    assert torch.equal(second_head, torch.cat([heads.k[1], heads.v[1]], -1))


# Random weights


def assert_spread(record, fan_in):
    """Every matrix has standard deviation fan_in^-1/2, and no other matrix is there."""
    matrices = {name: x for name, x in vars(record).items() if getattr(x, "ndim", 0) > 1}
    assert set(matrices) == set(fan_in)
    for name, matrix in matrices.items():
        assert matrix.std().item() == pytest.approx(fan_in[name] ** -0.5, rel=0.03), name


@pytest.mark.parametrize("q_lora_rank", [None, 90])
def test_random_mla_keeps_a_normalised_input_normalised(q_lora_rank):
    g = MLAGeometry(320, 5, 60, 40, 70, 200, q_lora_rank)
    weights = random_mla(g, torch.Generator().manual_seed(0))
    q_in = q_lora_rank or 320
    fan_in = {"W_UQ": q_in, "W_QR": q_in, "W_DKV": 320, "W_KR": 320, "W_UK": 200, "W_UV": 200}
    compressed = {"W_DQ": 320} if q_lora_rank else {}
    assert_spread(weights, fan_in | compressed | {"W_O": 5 * 70})
    for gain in (weights.kv_norm, weights.q_norm)[: 1 + bool(q_lora_rank)]:
        assert gain.mean().item() == pytest.approx(1, abs=0.05)
        assert gain.std().item() == pytest.approx(0.2, rel=0.2)


def test_random_gqa_keeps_a_normalised_input_normalised():
    weights = random_gqa(GQAGeometry(320, 6, 2, 50), torch.Generator().manual_seed(0))
    assert_spread(weights, {"W_Q": 320, "W_K": 320, "W_V": 320, "W_O": 6 * 50})


@pytest.mark.parametrize("attention", [MLAGeometry(320, 5, 6, 4, 7, 20), GQAGeometry(320, 4, 2, 6)])
def test_a_random_model_keeps_a_normalised_input_normalised(attention):
    model = random_weights(ModelGeometry("", attention, 2, 90, 200, 16), seed=0)
    assert_spread(model, {"embedding": 320})
    for block in model.blocks:
        assert_spread(block, {"W_gate": 320, "W_up": 320, "W_down": 90})
    gains = [model.final_norm, *(b.attn_norm for b in model.blocks)]
    assert all((gain == 1).all() for gain in [*gains, *(b.mlp_norm for b in model.blocks)])


# What is watched on the way


@pytest.mark.parametrize("mechanism", MLA)
def test_what_is_watched_is_what_the_formulas_say(mechanism):
    w, x = make(SMALL)
    seen, rope = at_once(mechanism, w, x).seen, angles(SMALL, 9, x.dtype)
    c_q = rms_norm(x @ w.W_DQ, w.q_norm, SMALL.norm_eps)
    c_kv = rms_norm(x @ w.W_DKV, w.kv_norm, SMALL.norm_eps)
    q_nope = torch.einsum("sq,hqn->hsn", c_q, w.W_UQ)
    q_rope = rotate(torch.einsum("sq,hqr->hsr", c_q, w.W_QR), rope)
    k_nope = torch.einsum("sc,hcn->hsn", c_kv, w.W_UK)
    v = torch.einsum("sc,hcv->hsv", c_kv, w.W_UV)
    k_rope = rotate(x @ w.W_KR, rope)
    latent = mechanism in ("mla_absorbed", "mla_merged")
    expected = {
        "q": torch.cat([q_nope, q_rope], -1),
        "q_nope": q_nope,
        "q_rope": q_rope,
        "q_latent": torch.einsum("hsn,hcn->hsc", q_nope, w.W_UK),
        "c_kv": c_kv,
        "k_rope": k_rope,
        "k": torch.cat([c_kv, k_rope], -1)[None]
        if latent
        else torch.cat([k_nope, k_rope.expand(3, -1, -1)], -1),
        "v": c_kv[None] if latent else v,
        "o_head": seen["probs"] @ v,
        "o_latent": seen["probs"] @ c_kv,
    }
    for name in seen.keys() - {"scores", "probs"}:
        torch.testing.assert_close(seen[name], expected[name])
    names = {"scores", "probs", "k", "v", "c_kv", "k_rope"}
    names |= {"q_rope", "q_latent", "o_latent"} if latent else {"q", "o_head"}
    assert set(seen) == names | ({"q_nope", "o_head"} if mechanism == "mla_absorbed" else set())


def test_only_what_is_asked_for_is_kept():
    w, x = make(SMALL)
    row, prepared, cache = start("mla_absorbed", w)
    watch = Watch("q_latent", "k")
    row.attend(prepared, cache, x, angles(SMALL, 9, x.dtype), watch)
    assert set(watch.seen) == {"q_latent", "k"}
    with pytest.raises(ValueError, match="watch: expected names of q, .*, got 'query'"):
        Watch("probs", "query")
