"""The core of a decoded token against float64, in every order that it may multiply in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.attention import core, ops
from mla_viz.attention.cache import Columns, KeyPages, Rows
from mla_viz.attention.core import attend_one, mix
from mla_viz.attention.ops import Watch, attend_grouped

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
V3, V2_LITE, EXPANDED = (1, 128, 576, 512), (1, 16, 576, 512), (16, 1, 192, 128)
GROUPED, SHARED = (8, 4, 128, 128), (2, 64, 128, 128)


def rows(n, total, width, dtype, seed, capacity=None):
    """Cached rows as a cache gives them: a view of a buffer, garbage behind what is filled."""
    buffer = torch.full((n, capacity or total + 3, width), torch.nan, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    buffer[:, :total] = torch.randn(n, total, width, generator=generator).to(dtype)
    return buffer[:, :total]


def case(n, queries, total, qk, v, dtype, seed=0):
    """Queries, keys and values; those of one key head share memory, as a latent's do."""
    q = rows(n, queries, qk, dtype, seed + 1, queries)
    k = rows(n, total, qk, dtype, seed)
    values = k[..., :v] if n == 1 and v < qk else rows(n, total, v, dtype, seed + 2)
    return q, k, values


def exact(q, k, v, scale):
    scores = q.double() @ k.double().mT * scale
    return scores.softmax(-1) @ v.double(), scores


@pytest.mark.parametrize("shape", [V3, V2_LITE, EXPANDED, GROUPED, SHARED])
@pytest.mark.parametrize("total", [65, 1024, 4097])
def test_bfloat16_is_as_near_to_float64_as_kernels_are_held_to(shape, total):
    # The bounds are those of FlashMLA's tests: 8e-4 or 2.01/128 of it, and 5e-6 of the direction;
    # scores are kept in bfloat16 here, so that they must stay below 1 for it.
    n, queries, qk, v = shape
    given_ = [0.3 * x for x in case(n, queries, total, qk, v, torch.bfloat16)]
    out, scores, _ = attend_one(*given_, qk**-0.5)
    expected, true_scores = exact(*given_, qk**-0.5)
    gap = (out.double() - expected).abs()
    assert ((gap < 8e-4) | (gap < 2.01 / 128 * expected.abs())).all()
    energy = out.double().square().sum() + expected.square().sum()
    assert 1 - 2 * (out.double() * expected).sum() / energy < 5e-6
    lse = scores.double().logsumexp(-1)
    torch.testing.assert_close(lse, true_scores.logsumexp(-1), atol=1e-6, rtol=8.01 / 65536)


@pytest.mark.parametrize("total", [65, 1024, 4097])
def test_pages_are_held_to_the_same_bounds(total):
    q, k, v = (0.3 * x for x in case(16, 1, total, 192, 128, torch.bfloat16))
    out, scores, probs = attend_one(q, paged(k), v, 192**-0.5)
    expected, true_scores = exact(q, k, v, 192**-0.5)
    gap = (out.double() - expected).abs()
    assert ((gap < 8e-4) | (gap < 2.01 / 128 * expected.abs())).all()
    lse = scores.double().logsumexp(-1)
    torch.testing.assert_close(lse, true_scores.logsumexp(-1), atol=1e-6, rtol=8.01 / 65536)
    assert scores.shape == probs.shape == (16, 1, total)


def paged(k):
    """Rows in pages, garbage behind the last."""
    *lead, total, width = k.shape
    pages = KeyPages(lead, width, k.dtype, "cpu")
    pages._buffer.fill_(torch.nan)
    pages.append(k)
    return pages.pages


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
    st.integers(0, 200),
    st.sampled_from([(), (3,), (2, 3)]),
    st.sampled_from(DTYPES),
)
def test_pages_give_back_the_rows_that_were_written(sizes, forgotten, lead, dtype):
    pages, rows_ = (kind(lead, 5, dtype, "cpu") for kind in (KeyPages, Rows))
    for size in sizes:
        new = torch.randn(*lead, size, 5).to(dtype)
        for kept in (pages, rows_):
            kept.append(new)
            kept.forget(min(forgotten, kept.seq_len - 1))
        assert torch.equal(pages.filled, rows_.filled)
        assert torch.equal(pages.pages.rows(), rows_.filled)
        assert pages.filled_bytes == rows_.filled_bytes
    before = pages.allocated_bytes
    pages.reserve(pages.seq_len + 1000)
    assert torch.equal(pages.filled, rows_.filled)
    assert pages.allocated_bytes > before
    assert pages.allocated.shape[-2] >= pages.seq_len + 1000


@given(
    st.integers(1, 3),
    st.integers(1, 300),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.integers(0, 99),
)
def test_keys_in_pages_are_scored_as_keys_in_rows(n, total, qk, v, dtype, seed):
    q, k, values = case(n, 1, total, qk, v, dtype, seed)
    ours = attend_one(q, paged(k), values, qk**-0.5)
    theirs = attend_one(q, k, values, qk**-0.5)
    limit = 3e-6 if dtype == torch.float32 else 4e-2
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=limit, rtol=limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("watched", [(), ("k",)])
@pytest.mark.parametrize("seq", [1, 3])
def test_a_cache_of_pages_is_attended_as_one_of_rows(dtype, watched, seq):
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, 4, n, 10, generator=generator).to(dtype) for n in (seq, 140))
    v = torch.randn(2, 4, 140, 6, generator=generator).to(dtype)
    watch = Watch("probs", *watched)
    out = attend_grouped(q, paged(k), v, 10**-0.5, watch)
    expected = attend_grouped(q, k, v, 10**-0.5, Watch())
    limit = 2e-6 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(out, expected, atol=limit, rtol=limit)
    assert {*watch.seen} == {"probs", *watched}
    assert all(torch.equal(watch.seen[name], k) for name in watched)


@given(
    st.one_of(st.integers(1, 700), st.sampled_from([256, 512])),
    st.integers(1, 40),
    st.sampled_from(DTYPES[1:]),
    st.integers(0, 99),
)
def test_a_row_times_a_large_matrix(inner, width, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, inner, generator=generator).to(dtype)
    W = (torch.randn(inner, width, generator=generator) / inner**0.5).to(dtype)  # noqa: N806
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "LARGE", 1)
        ours = ops.times(x, W)
        assert torch.equal(ops.times(x[None], W), ours[None])
    limit = {torch.float32: 3e-6}.get(dtype, 1.5e-2)
    torch.testing.assert_close(ours.double(), x.double() @ W.double(), atol=limit, rtol=limit)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
@pytest.mark.parametrize("large", [1, 1 << 40])
@pytest.mark.parametrize("at_home", [True, False])
@given(
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([1, 2, 15, 16, 17]),
    st.integers(1, 70),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 99),
)
def test_every_order_of_products_gives_the_same(
    dtype, limit, large, at_home, columns, n, queries, total, qk, v, seed
):
    q, k, values = case(n, queries, total, qk, v, dtype, seed)
    given_ = (q, *(x.mT.contiguous().mT for x in (k, values))) if columns else (q, k, values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "LARGE", large)
        patch.setattr(core, "BLOCK", 16)
        patch.setattr(core, "_mkl_at_home", lambda: at_home)
        out, scores, probs = attend_one(*given_, qk**-0.5)
        out_alone, none, probs_alone = attend_one(*given_, qk**-0.5, keep_scores=False)
    assert none is None
    expected, true_scores = exact(*given_, qk**-0.5)
    true_probs = true_scores.softmax(-1)
    pairs = ((out, expected), (scores, true_scores), (probs, true_probs))
    for ours, true in (*pairs, (out_alone, expected), (probs_alone, true_probs)):
        assert ours.dtype == dtype
        assert (ours.double() - true).abs().max() < limit * max(1, true.abs().max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("queries", [1, 16])
def test_half_precision_is_soft_maxed_in_float32(dtype, queries):
    given_ = case(3, queries, 700, 16, 16, dtype)
    _, scores, probs = attend_one(*given_, 1.0)
    assert torch.equal(probs, scores.float().softmax(-1).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("lead", [(1,), (4,), (1, 4), (2, 1), (2, 4), (2, 3, 1)])
@pytest.mark.parametrize("seq", [1, 3])
def test_large_weights_of_heads_are_multiplied_as_small_ones(dtype, turned, lead, seq, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(*lead, seq, 10, generator=generator).to(dtype)
    weights = torch.randn(4, *((6, 10) if turned else (10, 6)), generator=generator).to(dtype)
    weights = weights.mT if turned else weights
    monkeypatch.setattr(core, "LARGE", 1)
    monkeypatch.setattr(ops, "LARGE", 1)
    ours, expected = ops.per_head(x, weights), x.double() @ weights.double()
    limit = {torch.float64: 1e-14, torch.float32: 1e-6}.get(dtype, 1e-2)
    torch.testing.assert_close(ours.double(), expected, atol=5 * limit, rtol=limit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (32, 2), (4, 1)])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_one_query_is_the_last_of_many(dtype, heads, kv_heads, batch):
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        torch.randn(*batch, n, 9, width, generator=generator).to(dtype)
        for n, width in ((heads, 10), (kv_heads, 10), (kv_heads, 6))
    )
    watches = Watch("scores", "probs"), Watch("scores", "probs", newest=True)
    one = attend_grouped(q[..., -1:, :], k, v, 10**-0.5, watches[0])
    many = attend_grouped(q, k, v, 10**-0.5, watches[1])[..., -1:, :]
    limit = {torch.float64: 1e-14, torch.float32: 2e-6}.get(dtype, 4e-2)
    torch.testing.assert_close(one, many, atol=limit, rtol=0)
    for name in ("scores", "probs"):
        ours, theirs = (watch.seen[name] for watch in watches)
        torch.testing.assert_close(ours, theirs, atol=limit, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_not_written_spoils_no_product(monkeypatch, dtype):
    """A library reads past an odd number of tokens, where memory may hold anything."""

    def anything(like, *shape, **_):
        return like.new_full(shape, torch.nan)

    monkeypatch.setattr(torch.Tensor, "new_empty", anything)
    cached = Columns((2,), 64, dtype, "cpu")
    for new in (1, 2, 16, 14):
        cached.append(torch.ones(2, new, 64, dtype=dtype))
        mixed = mix(torch.ones(2, 3, cached.seq_len, dtype=dtype), cached.filled)
        assert (mixed == cached.seq_len).all()
        assert torch.isfinite(cached.allocated).all()
