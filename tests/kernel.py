"""The kernel of absorbed decode against float64; `test_triton.py` runs this file by itself.

With TRITON_INTERPRET=1 under Triton's interpreter on the CPU, without it on a CUDA device.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mla_viz.attention import absorbed_triton, mla
from mla_viz.attention.absorbed_triton import INTERPRETED, TILES, decode
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Watch, rope_angles
from mla_viz.attention.weights import cast, random_mla
from mla_viz.config import MLAGeometry

DEVICE = "cpu" if INTERPRETED else "cuda"
HALVES = (torch.bfloat16, torch.float16)
DTYPES = (*HALVES, torch.float32)
SHAPES = [(1, 32, 16), (3, 24, 0), (6, 40, 6), (16, 16, 8), (20, 7, 4), (70, 64, 2)]


@pytest.fixture(autouse=True)
def one_tile(monkeypatch):
    """A tile for all: to time each would take a compilation of each for each shape."""
    use(monkeypatch, TILES[3])


def use(patch, tile):
    patch.setattr(absorbed_triton, "_tuned", absorbed_triton.attend_split)
    patch.setattr(absorbed_triton, "TILE", tile.all_kwargs())


def case(heads, rank, rope, dtype, total, lengths, seed=0):
    """Queries, and rows as a cache gives them: of a larger buffer, garbage behind each sequence."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (len(lengths), heads, rank + rope), (len(lengths), total + 5, rank + rope)
    q, buffer = (0.3 * torch.randn(shape, generator=generator) for shape in shapes)
    for sequence, length in zip(buffer, lengths, strict=True):
        sequence[length:] = torch.nan
    return q.to(DEVICE, dtype), buffer.to(DEVICE, dtype)[:, :total]


def exact(q, rows, rank, scale, lengths):
    outs, sums = [], []
    for query, sequence, length in zip(q.double(), rows.double(), lengths, strict=True):
        scores = query @ sequence[:length].mT * scale
        outs.append(scores.softmax(-1) @ sequence[:length, :rank])
        sums.append(scores.logsumexp(-1))
    return torch.stack(outs), torch.stack(sums)


def check(heads, rank, rope, dtype, total, lengths, seed=0):
    """Within the bounds of FlashMLA's tests in half precision; float32 is held closer."""
    q, rows = case(heads, rank, rope, dtype, total, lengths, seed)
    scale = (rank + rope) ** -0.5
    kept = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    out, lse = decode(q, rows, rank, scale, None if set(lengths) == {total} else kept)
    expected, sums = exact(q, rows, rank, scale, lengths)
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
    gap = (out.double() - expected).abs()
    near, share = (8e-4, 2.01 / 128) if dtype in HALVES else (1e-6, 1e-5)
    assert ((gap < near) | (gap < share * expected.abs())).all()
    energy = out.double().square().sum() + expected.square().sum()
    assert 1 - 2 * (out.double() * expected).sum() / energy < (5e-6 if dtype in HALVES else 1e-10)
    torch.testing.assert_close(lse.double(), sums, atol=1e-6, rtol=8.01 / 65536)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=12)
@given(
    st.sampled_from(SHAPES),
    st.lists(st.integers(1, 400), min_size=1, max_size=3),
    st.integers(0, 40),
    st.sampled_from([1, 3, 8, 132]),
    st.integers(0, 99),
)
def test_any_shape_length_and_number_of_splits(dtype, shape, lengths, more, slots, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(absorbed_triton, "slots", lambda _: slots)
        check(*shape, dtype, max(lengths) + more, lengths, seed)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("heads", [16, 128])
@pytest.mark.parametrize("lengths", [(64,), (1, 63, 65), (300, 128, 7)])
def test_published_shapes(dtype, heads, lengths):
    check(heads, 512, 64, dtype, max(lengths), lengths)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile_gives_the_same(tile, monkeypatch):
    use(monkeypatch, tile)
    check(64, 128, 64, torch.bfloat16, 150, [150, 65])
    check(5, 20, 4, torch.float32 if INTERPRETED else torch.float16, 150, [150, 65])


def test_many_splits_of_a_long_context(monkeypatch):
    monkeypatch.setattr(absorbed_triton, "slots", lambda _: 40)
    check(16, 64, 16, torch.bfloat16, 4000, [4000, 1])


def test_a_sequence_without_tokens_leaves_nothing():
    q, rows = case(4, 16, 8, torch.float32, 300, [0, 300])
    with np.errstate(divide="ignore"):
        out, lse = decode(q, rows, 16, 1.0, torch.tensor([0, 300], dtype=torch.int32).to(DEVICE))
    assert (out[0] == 0).all()
    assert (lse[0] == -torch.inf).all()
    assert out[1].isfinite().all()


@pytest.mark.parametrize("total", [1, 200])
def test_rows_and_queries_may_lie_in_any_order(total):
    q, rows = case(6, 20, 4, torch.float32, total, [total] * 2)
    turned = (x.permute(2, 1, 0).contiguous().permute(2, 1, 0) for x in (q, rows))
    for ours, theirs in zip(decode(q, rows, 20, 1.0), decode(*turned, 20, 1.0), strict=True):
        assert torch.equal(ours, theirs)


# Inside a layer

LAYER = MLAGeometry(24, 5, 12, 4, 10, 20)


def layer(mechanism, dtype, device, batch, watch, seq=70):
    """The output of a layer for the newest of `seq` tokens."""
    generator = torch.Generator().manual_seed(0)
    weights = cast(random_mla(LAYER, generator), dtype, device)
    x = torch.randn(*batch, seq, LAYER.d_model, generator=generator).to(device, dtype)
    pos = torch.arange(seq, device=device)
    rope = rope_angles(pos, LAYER.rope_width, LAYER.rope_theta, dtype)
    row = implementation(mechanism)
    prepared = row.prepare(weights)
    cache = row.new_cache(prepared, batch)
    row.attend(prepared, cache, x[..., :-1, :], rope[:-1], Watch())
    return row.attend(prepared, cache, x[..., -1:, :], rope[-1:], watch).out.double().cpu()


@pytest.fixture
def calls(monkeypatch):
    """The kernel serves everything; what it was called with."""
    made = []

    def counted(*args):
        made.append(args)
        return decode(*args)

    monkeypatch.setattr(mla, "served", lambda *_: True)
    monkeypatch.setattr(absorbed_triton, "decode", counted)
    return made


@pytest.mark.parametrize("mechanism", ["mla_absorbed", "mla_merged"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_a_layer_is_that_of_float64(calls, mechanism, dtype, limit, batch):
    ours = layer(mechanism, dtype, DEVICE, batch, Watch())
    assert len(calls) == 1
    expected = layer("mla_expanded", torch.float64, "cpu", batch, Watch())
    assert (ours - expected).abs().max() < limit * expected.abs().max()


def test_what_is_watched_decides_whether_it_is_the_kernel(calls):
    results = []
    for names in (("k", "v", "o_latent"), ("k", "v", "o_latent", "probs")):
        watch = Watch(*names)
        layer("mla_absorbed", torch.float32, DEVICE, (2,), watch)
        assert set(watch.seen) == set(names)
        results.append(watch.seen)
    assert len(calls) == 1
    for name in ("k", "v", "o_latent"):
        torch.testing.assert_close(*(seen[name] for seen in results), atol=1e-6, rtol=1e-5)
