"""A GQA layer as a latent one: the same at full width, cut along what costs least below it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import PASSING, Watch, rope_angles
from mla_viz.attention.weights import GQAWeights, cast, random_gqa
from mla_viz.config import GQAGeometry, ModelGeometry
from mla_viz.cost import attention_params, cache_elems
from mla_viz.model.decoder import Decoder
from mla_viz.model.latent import Basis, joined, latent_attention, latent_geometry, pooled, to_latent
from mla_viz.model.weights import random_weights
from train.conversion import Sums, basis
from train.cuts import compared, cut_logits

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(4, 24))
seeds = st.integers(0, 2**32)


def layer(shape, seed):
    group, kv, half, d_model = shape
    geometry = GQAGeometry(d_model, group * kv, kv, 2 * half)
    generator = torch.Generator().manual_seed(seed)
    weights = cast(random_gqa(geometry, generator), torch.float64, "cpu")
    return weights, torch.randn(7, d_model, generator=generator, dtype=torch.float64)


def random_basis(width, seed):
    generator = torch.Generator().manual_seed(seed)
    encoder, _ = torch.linalg.qr(torch.randn(width, width, generator=generator).double())
    encoder = encoder * (0.5 + torch.rand(width, generator=generator).double())
    mean = torch.randn(width, generator=generator).double()
    return Basis(encoder, encoder.inverse(), mean)


def attended(mechanism, w, x, stops):
    row, g = implementation(mechanism), w.geometry
    cache, outs = row.new_cache(w, ()), []
    rope = rope_angles(torch.arange(len(x)), g.head_dim, g.rope_theta, x.dtype)
    for begin, stop in zip([0, *stops], stops, strict=False):
        turned = rope[:stop] if row.every_position else rope[begin:stop]
        made = row.attend(w, cache, x[begin:stop], turned, Watch(*PASSING))
        outs.append(made.out)
    return torch.cat(outs), cache, made


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@given(shapes, seeds, st.sampled_from([[7], [1, 2, 3, 4, 5, 6, 7], [4, 7]]))
def test_at_full_width_it_is_the_layer_itself(shape, seed, stops):
    w, x = layer(shape, seed)
    both = 2 * w.geometry.n_kv_heads * w.geometry.head_dim
    cut = latent_attention(w, random_basis(both, seed), both)
    out, cache, made = attended("gqa_latent", cut, x, stops)
    plain, heads, _ = attended("gqa", w, x, [7])
    same(out, plain)
    same(made.seen["k"], heads.k)
    same(made.seen["v"], heads.v)
    assert cache.table().shape == (7, both)


@given(shapes, seeds, st.data())
def test_cut_it_is_the_layer_whose_keys_and_values_are_projected(shape, seed, data):
    w, x = layer(shape, seed)
    g = w.geometry
    both = 2 * g.n_kv_heads * g.head_dim
    rank = data.draw(st.integers(1, both))
    b = random_basis(both, seed)
    cut = latent_attention(w, b, rank)
    _, cache, made = attended("gqa_latent", cut, x, [3, 7])
    z = b.mean + (x @ joined(w) - b.mean) @ b.encoder[:, :rank] @ b.decoder[:rank]
    values = z[:, both // 2 :].unflatten(-1, (g.n_kv_heads, -1)).transpose(0, 1)
    same(made.seen["v"], values)
    keys = z[:, : both // 2].unflatten(-1, (g.n_kv_heads, -1)).transpose(0, 1)
    same(made.seen["k"].square().sum(-1), keys.square().sum(-1))  # turning keeps lengths
    assert cache.filled_bytes == 7 * cache_elems("gqa_latent", cut.geometry) * 8 == 7 * rank * 8
    counted = sum(t.numel() for t in vars(cut).values() if isinstance(t, torch.Tensor))
    assert attention_params(cut.geometry) == counted


def test_joined_keys_and_values_stand_head_by_head():
    w, x = layer((2, 2, 3, 8), 1)
    z = x @ joined(w)
    same(z[:, 6:12], x @ w.W_K[1])
    same(z[:, 12:18], x @ w.W_V[0])
    assert isinstance(w, GQAWeights)


MODEL = ModelGeometry("tiny", GQAGeometry(16, 4, 2, 4), 3, 24, 50, 64)
IDS = torch.tensor([1, 7, 3, 3, 40, 12])


def latent_model(rank, ranks=None):
    return replace(MODEL, attention=latent_geometry(MODEL.attention, rank), ranks=ranks)


def test_a_whole_model_at_full_width_says_the_same():
    weights = random_weights(MODEL, 0).to(torch.float64, "cpu")
    bases = [random_basis(16, i) for i in range(3)]
    whole = Decoder(to_latent(weights, bases, latent_model(16)), "gqa_latent").feed(IDS).logits
    same(whole, Decoder(weights, "gqa").feed(IDS).logits)
    shared = to_latent(weights, bases, latent_model(4)).blocks[1]
    assert shared.W_down is weights.blocks[1].W_down


@pytest.mark.parametrize("ranks", [None, (1, 9, 5)])
def test_what_is_scored_is_what_is_decoded(ranks):
    weights = random_weights(MODEL, 0)
    bases = [random_basis(16, i) for i in range(3)]
    with torch.inference_mode():
        scored = cut_logits(weights, bases, ranks or [5, 5, 5], IDS)
    decoder = Decoder(to_latent(weights, bases, latent_model(5, ranks)), "gqa_latent")
    torch.testing.assert_close(scored, decoder.feed(IDS).logits, atol=1e-4, rtol=1e-4)
    kept = [cache.filled_bytes for cache in decoder.caches]
    assert kept == [4 * len(IDS) * rank for rank in ranks or (5, 5, 5)]


def sums(seed, width=6, layers=1):
    rng = np.random.default_rng(seed)
    z, g = (rng.normal(size=(layers, 200, width)) @ rng.normal(size=(width, width)) for _ in "zg")
    z = z + rng.normal(size=width)
    return z, g, Sums(200, z.sum(1), z.swapaxes(1, 2) @ z, g.swapaxes(1, 2) @ g)


@given(st.integers(0, 2**20), st.integers(1, 5))
def test_what_a_cut_costs_is_the_eigenvalues_of_what_is_left_out(seed, rank):
    z, g, each = sums(seed)
    b, costs = basis(each, 0)
    assert list(costs) == sorted(costs, reverse=True)
    torch.testing.assert_close(b.encoder @ b.decoder, torch.eye(6).double(), atol=1e-6, rtol=0)
    centred = torch.from_numpy(z[0] - z[0].mean(0))
    lost = centred - centred @ b.encoder[:, :rank] @ b.decoder[:rank]
    F = torch.from_numpy(g[0].T @ g[0] / 200)  # noqa: N806
    cost = ((lost @ F) * lost).sum(-1).mean().item()
    assert cost == pytest.approx(costs[rank:].sum(), rel=0.02)
    assert (centred @ b.encoder).var(0).numpy() == pytest.approx(np.ones(6), rel=0.02)


@given(st.integers(0, 2**20), st.integers(1, 5))
def test_ranks_are_pooled_at_equal_bytes(seed, rank):
    costs = np.random.default_rng(seed).exponential(size=(4, 6)) ** 4
    costs[seed % 4] *= 1e-3  # a layer that hardly matters keeps something all the same
    costs = -np.sort(-costs)
    ranks = pooled(torch.from_numpy(costs), rank)
    assert (len(ranks), sum(ranks)) == (4, 4 * rank)

    def left_out(ranks):
        return sum(row[r:].sum() for row, r in zip(costs, ranks, strict=True))

    legal = [each for each in product(range(1, 7), repeat=4) if sum(each) == 4 * rank]
    assert ranks in legal
    assert left_out(ranks) <= min(map(left_out, legal)) + 1e-12


@pytest.mark.parametrize("ranks", [(5, 5), (0, 9, 6), (4, 5, 5), (6, 5, 5)])
def test_ranks_that_are_not_those_of_the_layers_are_refused(ranks):
    with pytest.raises(ValueError, match="ranks: expected 3 from 1, 5 on average, got "):
        latent_model(5, ranks)
    with pytest.raises(ValueError, match="ranks: expected 3 from 1, 0 on average"):
        replace(MODEL, ranks=ranks)


def test_a_comparison_worked_by_hand():
    own = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    cut = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    found = compared(own, cut, torch.tensor([0, 1]))
    low, high = 1 / (1 + np.e**2), np.e**2 / (1 + np.e**2)
    assert found["kl"] == pytest.approx(2 * (high - low), rel=1e-6)
    assert found["agreed"] == 1
    assert found["own_nats"] == found["cut_nats"] == pytest.approx(np.log(2))
