"""A GQA layer as MLA: itself where nothing is left out, else what its components say; its fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import (
    PASSING,
    Watch,
    causal_softmax,
    merge_heads,
    rope_angles,
    rotate,
    turns,
)
from mla_viz.attention.weights import cast, random_gqa
from mla_viz.config import GQAGeometry, ModelGeometry
from mla_viz.cost import cache_elems
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.decoder import Decoder
from mla_viz.model.decoupled import (
    Components,
    as_complex,
    as_real,
    components,
    decoupled_attention,
    decoupled_geometry,
    to_decoupled,
)
from mla_viz.model.weights import random_weights
from train import conversion
from train import decoupled as fit

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(4, 24))
seeds = st.integers(0, 2**32)
SEQ = 7


def layer(shape, seed):
    group, kv, half, d_model = shape
    geometry = GQAGeometry(d_model, group * kv, kv, 2 * half)
    generator = torch.Generator().manual_seed(seed)
    weights = cast(random_gqa(geometry, generator), torch.float64, "cpu")
    return weights, torch.randn(SEQ, d_model, generator=generator, dtype=torch.float64)


def random_components(g, seed):
    generator = torch.Generator().manual_seed(seed)
    heads, half, both = g.n_kv_heads, g.head_dim // 2, 2 * g.n_kv_heads * g.head_dim

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def root():
        return torch.tril(0.3 * drawn(both, both), -1) + torch.diag(1 + drawn(both).abs())

    encoder, _ = torch.linalg.qr(
        torch.complex(drawn(half, heads, heads), drawn(half, heads, heads))
    )
    average = torch.complex(drawn(g.n_heads, half, heads), drawn(g.n_heads, half, heads))
    order = torch.randperm(half * heads, generator=generator)
    return Components(encoder * 1.5, average, order, root(), root())


def attended(mechanism, w, x, stops=(SEQ,)):
    """Output of a layer and what was seen at its last call, with the turns that its weights ask."""
    row, g, outs = implementation(mechanism), w.geometry, []
    prepared = row.prepare(w)
    cache, pos = row.new_cache(prepared, ()), torch.arange(len(x))
    own = getattr(w, "frequencies", None)
    rope = rope_angles(pos, g.rope_width, g.rope_theta, x.dtype)
    if own is not None:
        rope = turns(pos, torch.tensor(own, dtype=torch.float64), x.dtype)
    for begin, stop in zip([0, *stops], stops, strict=False):
        first = 0 if row.whole_prefix else begin
        made = row.attend(prepared, cache, x[first:stop], rope[first:stop], Watch(*PASSING))
        outs.append(made.out[begin - first :])
    return torch.cat(outs), cache, made.seen


def same(one, other, within=1e-9):
    torch.testing.assert_close(one, other, atol=within, rtol=within)


# The layer.


@given(shapes, seeds, st.sampled_from([[7], [1, 2, 3, 4, 5, 6, 7], [4, 7]]))
def test_all_turned_and_nothing_cut_it_is_the_layer_itself(shape, seed, stops):
    w, x = layer(shape, seed)
    plain, _, _ = attended("gqa", w, x)
    keys = w.geometry.n_kv_heads * w.geometry.head_dim
    g = decoupled_geometry(w.geometry, keys, keys)
    mla = decoupled_attention(w, random_components(w.geometry, seed), g)
    for mechanism in MLA_MECHANISMS:
        out, cache, _ = attended(mechanism, mla, x, stops)
        same(out, plain, 1e-7)
        assert cache.filled_bytes == SEQ * cache_elems(mechanism, g) * 8
    assert cache_elems("mla_absorbed", g) == cache_elems("gqa", w.geometry)


@given(shapes, seeds, st.data())
def test_every_mechanism_says_the_same_at_any_cut(shape, seed, data):
    w, x = layer(shape, seed)
    keys = w.geometry.n_kv_heads * w.geometry.head_dim
    rope = 2 * data.draw(st.integers(0, keys // 2))
    g = decoupled_geometry(w.geometry, data.draw(st.integers(1, 2 * keys - rope)), rope)
    mla = decoupled_attention(w, random_components(w.geometry, seed), g)
    naive, _, _ = attended("mla_expanded", mla, x)
    for mechanism in MLA_MECHANISMS:
        same(attended(mechanism, mla, x, [3, 7])[0], naive, 1e-7)


@given(shapes, seeds, st.data())
def test_scores_are_those_of_components_turned_or_standing(shape, seed, data):
    """Against the definition, pair by pair of tokens, in complex numbers."""
    w, x = layer(shape, seed)
    plain, parts = w.geometry, random_components(w.geometry, seed)
    heads, pairs = plain.n_kv_heads, len(parts.order)
    kept = data.draw(st.integers(0, pairs))
    width = 2 * heads * plain.head_dim - 2 * kept
    rank = data.draw(st.integers(1, width))
    mla = decoupled_attention(w, parts, decoupled_geometry(plain, rank, 2 * kept))
    _, _, seen = attended("mla_expanded", mla, x)

    values = torch.cat(list(x @ w.W_V), -1)
    c = torch.einsum("fmg,gtf->tfm", parts.encoder, as_complex(x @ w.W_K))
    still = parts.order[: pairs - kept]
    encoder, decoder = parts.latent(width, rank)
    made = torch.cat([values, as_real(c.flatten(1)[:, still])], -1) @ encoder @ decoder
    standing = torch.zeros_like(c.flatten(1))
    standing[:, still] = as_complex(made[:, values.shape[1] :])
    turned = c.flatten(1).clone()
    turned[:, still] = 0
    standing, turned = (each.view(c.shape) for each in (standing, turned))

    rope = rope_angles(torch.arange(SEQ), plain.head_dim, plain.rope_theta, x.dtype)
    apart = (rope[None] * rope[:, None].conj()).unsqueeze(-1)  # of key j as query i sees it
    q, reading = as_complex(x @ w.W_Q), parts.encoder.inverse()
    for head in range(plain.n_heads):
        group = head // (plain.n_heads // heads)
        met = apart * turned + parts.turns[head] * standing
        met = (reading[:, group] * met).sum(-1)
        scores = (q[head][:, None].conj() * met).sum(-1).real * plain.softmax_scale
        same(seen["probs"][head], causal_softmax(scores), 1e-8)
        own = made[:, : values.shape[1]].unflatten(-1, (heads, -1))[:, group]
        same(seen["v"][head], own, 1e-8)


@given(shapes, seeds)
def test_components_are_turned_as_the_keys_are(shape, seed):
    w, x = layer(shape, seed)
    g, encoder = w.geometry, random_components(w.geometry, seed).encoder
    rope = rope_angles(torch.arange(SEQ), g.head_dim, g.rope_theta, x.dtype)
    k = x @ w.W_K
    first = torch.einsum("fmg,gtf->mtf", encoder, as_complex(rotate(k, rope)))
    last = rotate(as_real(torch.einsum("fmg,gtf->mtf", encoder, as_complex(k))), rope)
    same(as_real(first), last)


@given(seeds, st.integers(1, 16))
def test_a_latent_holds_what_costs_most(seed, rank):
    parts = random_components(GQAGeometry(8, 2, 1, 8), seed)
    S, F = (x @ x.mT for x in (parts.spread, parts.loss))  # noqa: N806
    encoder, decoder = parts.latent(16, 16)
    same(encoder @ decoder, torch.eye(16, dtype=torch.float64), 1e-6)
    same(encoder.mT @ S @ encoder, torch.eye(16, dtype=torch.float64), 1e-6)
    encoder, decoder = parts.latent(16, rank)
    lost = torch.eye(16, dtype=torch.float64) - encoder @ decoder
    cost = torch.trace(lost.mT @ S @ lost @ F)
    least = torch.linalg.eigvals(F @ S).real.sort().values[: 16 - rank].sum()
    same(cost, least, 1e-6)


MODEL = ModelGeometry("tiny", GQAGeometry(16, 4, 2, 4), 3, 24, 50, 64)
IDS = torch.tensor([1, 7, 3, 3, 40, 12, 9, 9, 2])


def test_a_whole_model_turns_each_layer_by_its_own_frequencies():
    weights = random_weights(MODEL, 0).to(torch.float64, "cpu")
    parts = [random_components(MODEL.attention, seed) for seed in range(3)]
    whole = to_decoupled(weights, parts, decoupled_geometry(MODEL.attention, 8, 8))
    assert len({each.frequencies for each in whole.attention}) > 1
    own = Decoder(weights, "gqa").feed(IDS).logits
    for mechanism in ("mla_expanded", "mla_absorbed", "recompute"):
        same(Decoder(whole, mechanism).feed(IDS).logits, own, 1e-7)
    decoder = Decoder(whole, "mla_absorbed")
    same(torch.cat([decoder.feed(IDS[i : i + 1]).logits for i in range(len(IDS))]), own, 1e-7)
    assert whole.blocks[1].W_down is weights.blocks[1].W_down
    assert (
        whole.to(torch.bfloat16, "cpu").attention[0].frequencies == whole.attention[0].frequencies
    )


# The fit.


@pytest.fixture(scope="module")
def moments():
    weights = random_weights(MODEL, 0)
    drawn = torch.Generator().manual_seed(0)
    windows = [torch.randint(50, (40,), generator=drawn) for _ in range(6)]
    each = [fit.captured(weights, ids, seed) for seed, ids in enumerate(windows)]
    return weights, windows, sum(each[1:], each[0])


def test_what_is_captured_is_what_the_other_fit_captures(moments):
    weights, windows, sums = moments
    each = [conversion.captured(weights, ids, seed) for seed, ids in enumerate(windows)]
    other = sum(each[1:], each[0])
    assert sums.tokens == other.tokens == 240
    assert sums.zz == pytest.approx(other.zz, rel=1e-4, abs=1e-4)
    values = slice(8, 16)  # 2 heads of 4, behind 2 of keys there and 4 of queries here
    largest = other.gg[:, values, values].max()
    found = sums.gg[:, 16:, 16:]
    assert found == pytest.approx(other.gg[:, values, values], abs=1e-4 * largest)


def test_the_shares_of_a_score_add_up_to_it():
    """Where one query alone chooses, they are what the loss changes by as its scores are scaled."""
    weights, g, ids, head = random_weights(MODEL, 1), MODEL.attention, torch.tensor([4, 9]), 3
    shares = np.zeros((2, g.n_kv_heads, g.head_dim // 2, 2))
    shares[0, head // 2, :, 0] = 1  # turned, of the keys that the head meets, the real part
    ss = fit.captured(weights, ids, 5).ss[:, head]
    found = np.einsum("a,lab,b->l", shares.ravel(), ss, shares.ravel())

    gains = torch.ones(MODEL.n_layers, g.n_heads, 1, 1, requires_grad=True)
    blocks = tuple(
        replace(block, attention=replace(block.attention, W_Q=block.attention.W_Q * gain))
        for block, gain in zip(weights.blocks, gains, strict=True)
    )
    scaled = replace(weights, blocks=blocks)
    conversion.to_drawn(conversion.logits_with(scaled, ids, lambda _, z: z).log_softmax(-1), 5)
    slopes = gains.grad[:, head].flatten().numpy()
    assert np.abs(slopes).min() > 1e-6
    assert found == pytest.approx(slopes**2, rel=1e-3)


@given(seeds)
def test_a_component_that_stands_at_one_turn_is_found_there(seed):
    rng = np.random.default_rng(seed % 2**32)
    turn = rng.normal(size=3) + 1j * rng.normal(size=3)
    still = rng.normal(size=(200, 3)) + 1j * rng.normal(size=(200, 3))
    noise = rng.normal(size=(200, 3)) + 1j * rng.normal(size=(200, 3))

    def fitted(turned):
        parts = [np.stack([x.real, x.imag], -1).reshape(200, -1) for x in (turned, still)]
        rows = np.concatenate(parts, 1)
        return fit.average_turns(rows.T @ rows)

    found, lost = fitted(turn * still)
    assert found == pytest.approx(turn, rel=1e-4)
    assert np.abs(lost).max() < 1e-2
    mixed = turn * still + noise
    found, lost = fitted(mixed)
    rest = (mixed - found * still).real
    assert lost == pytest.approx(rest.T @ rest, rel=1e-6, abs=1e-6)
    for away in (0.1, -0.1, 0.1j, -0.1j):
        other = (mixed - (found + away) * still).real
        assert ((other**2).sum(0) > (rest**2).sum(0)).all()


@given(seeds)
def test_what_is_needed_least_is_left_out_first(seed):
    changes = np.random.default_rng(seed % 2**32).normal(size=(30, 5))
    order, costs = fit.least_needed(changes.T @ changes)
    assert sorted(order) == list(range(5))
    for i, cost in enumerate(costs):
        assert cost == pytest.approx((changes[:, order[: i + 1]].sum(1) ** 2).sum())
        for other in order[i + 1 :]:
            assert cost <= (changes[:, [*order[:i], other]].sum(1) ** 2).sum() + 1e-9


def seen_by_hand(weights, ids, seed):
    """Each layer's queries, keys, values, and the gradients of its scores and values."""
    g, seen = weights.geometry.attention, []
    rope = rope_angles(torch.arange(len(ids)), g.head_dim, g.rope_theta, torch.float32)

    def attend(layer, h):
        w = weights.blocks[layer].attention
        q, k, v = h @ w.W_Q, h @ w.W_K, (h @ w.W_V).requires_grad_()
        copies = g.n_heads // g.n_kv_heads
        keys = rotate(k, rope).repeat_interleave(copies, 0)
        scores = (rotate(q, rope) @ keys.mT * g.softmax_scale).requires_grad_()
        v.retain_grad(), scores.retain_grad()
        seen.append((q.detach(), k.detach(), v, scores))
        return merge_heads(causal_softmax(scores) @ v.repeat_interleave(copies, 0), w.W_O)

    conversion.to_drawn(conversion.logits_by(weights, ids, attend).log_softmax(-1), seed)
    return seen


def test_roots_are_those_of_what_stands_and_of_what_a_change_of_it_costs(moments):
    weights, windows, sums = moments
    g, layer = MODEL.attention, 1
    one = fit.fitted(sums, layer, g).tensors
    encoder, average = (torch.from_numpy(one[x]).float().contiguous() for x in ("encoder", "turns"))
    encoder, average = torch.view_as_complex(encoder), torch.view_as_complex(average)
    order = torch.from_numpy(one["order"])
    spread, loss = torch.zeros(2, 16, 16, dtype=torch.float64)
    for seed, ids in enumerate(windows):
        q, k, v, scores = seen_by_hand(weights, ids, seed)[layer]
        c = as_real(torch.einsum("fmg,gtf->tfm", encoder, as_complex(k)).flatten(1)[:, order])
        c.requires_grad_()
        standing = torch.zeros(len(ids), 4, dtype=torch.complex64)
        standing[:, order] = as_complex(c)
        reading = encoder.conj().permute(2, 0, 1).repeat_interleave(2, 0) * average
        keys = torch.einsum("hfm,tfm->htf", reading, standing.unflatten(-1, (2, 2)))
        again = q @ as_real(keys).mT * g.softmax_scale
        (again * scores.grad).sum().backward()
        values = v.detach().transpose(0, 1).flatten(1)
        z = torch.cat([values, c.detach()], -1).double()
        gz = torch.cat([v.grad.transpose(0, 1).flatten(1), c.grad], -1).double()
        spread += z.mT @ z / sums.tokens
        loss += gz.mT @ gz
    roots = torch.from_numpy(one["roots"])
    found = roots[:, 1:].triu()
    same(found.mT @ found, spread, 1e-4)
    found = roots[:, :-1].tril()
    found = found @ found.mT
    same(found / found.trace(), loss / loss.trace(), 1e-5)


def test_components_hold_keys_apart(moments):
    """At each frequency their second moments are diagonal, the largest first."""
    _, _, sums = moments
    for layer in range(3):
        one = fit.fitted(sums, layer, MODEL.attention).tensors
        spread, order = np.triu(one["roots"][:, 1:]).T, list(one["order"])
        moment = (spread @ spread.T)[8:, 8:]
        for f in range(2):
            first, second = (2 * order.index(2 * f + m) for m in range(2))
            across = moment[first : first + 2, second : second + 2]
            assert across[0, 0] + across[1, 1] == pytest.approx(0, abs=1e-5)
            assert across[0, 1] - across[1, 0] == pytest.approx(0, abs=1e-5)
            assert moment[first, first] + moment[first + 1, first + 1] > (
                moment[second, second] + moment[second + 1, second + 1]
            )


def kept_in(folder, tensors, monkeypatch):
    monkeypatch.setattr("mla_viz.model.decoupled.intact", lambda file: file)
    monkeypatch.setattr("mla_viz.model.decoupled.shipped", lambda name: folder / name)
    save_file(tensors, folder / "tiny-decoupled.safetensors")
    return components.__wrapped__("tiny", 3, MODEL.attention)


def test_fitted_components_lose_less_than_others(moments, tmp_path, monkeypatch):
    weights, windows, sums = moments
    each = [fit.fitted(sums, layer, MODEL.attention) for layer in range(3)]
    parts = kept_in(tmp_path, fit.written(each), monkeypatch)
    own = Decoder(weights, "gqa").feed(windows[0]).logits

    def gap(parts, rank, rope):
        whole = to_decoupled(weights, parts, decoupled_geometry(MODEL.attention, rank, rope))
        return (Decoder(whole, "mla_absorbed").feed(windows[0]).logits - own).square().mean().item()

    assert gap(parts, 8, 8) < 1e-8
    found = gap(parts, 12, 4)
    assert found > 0
    assert found < gap([replace(one, order=one.order.flip(0)) for one in parts], 12, 4)
    assert found < gap([replace(one, turns=torch.ones_like(one.turns)) for one in parts], 12, 4)
    cut = gap(parts, 8, 4)
    assert found < cut < gap(parts, 4, 4)
