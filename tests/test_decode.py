"""The token loop: how many steps, what each records, and what is refused in which words."""

import time
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import count
from math import log

import numpy as np
import pytest
import torch
from torch import einsum

from mla_viz.config import GQAGeometry, LatentGQAGeometry
from mla_viz.cost import cache_elems
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS, OWN_WEIGHTS
from mla_viz.model import sources
from mla_viz.model.tokenizer import END_OF_TEXT, stories_tokenizer
from mla_viz.run import recorder
from mla_viz.run.decode import decode, generate
from mla_viz.run.inside import step_bytes
from mla_viz.run.recorder import CANDIDATES
from mla_viz.run.settings import Settings
from mla_viz.run.trace import DIFFERENCES, kept_steps

PROMPT = "The little fox ran home."
MLA = list(MLA_MECHANISMS)
LAYERS = 2
PROMPT_IDS = stories_tokenizer().encode(PROMPT)


def small(prompt=PROMPT, **settings):
    base = {
        "source": "synthetic",
        "heads": 3,
        "latent": 12,
        "layers": LAYERS,
        "max_new_tokens": 4,
        "device": "cpu",
    }
    return decode(prompt, **(base | settings))


def tiny(**settings):
    base = {"prompt": PROMPT, "source": "trained", "max_new_tokens": 5, "device": "cpu"}
    return decode(Settings(**(base | settings)))


def texts(run):
    return [token.text for token in run.tokens]


def ids(run):
    return [token.id for token in run.tokens]


# What a run is


def test_steps_are_prompt_plus_generated_minus_one():
    run = small()
    assert run.prompt_len == len(PROMPT_IDS)
    assert len(run.tokens) == run.prompt_len + 4
    assert run.n_steps == run.prompt_len + 4 - 1
    for side in run.sides():
        assert len(side.cache_bytes) == len(side.top_text) == len(side.time_us) == run.n_steps
    assert len(run.differences) == run.n_steps


def test_prompt_tokens_come_first_and_are_marked():
    run = small()
    assert [token.id for token in run.tokens[: run.prompt_len]] == PROMPT_IDS
    assert [token.pos for token in run.tokens] == list(range(len(run.tokens)))
    expected = ["prompt"] * run.prompt_len + ["generated"] * 4
    assert [token.source for token in run.tokens] == expected
    assert "".join(texts(run)[: run.prompt_len]) == PROMPT
    generated = [token.id for token in run.tokens[run.prompt_len :]]
    assert run.text == stories_tokenizer().decode(generated)


def test_one_prompt_token_and_one_new_token_make_one_step():
    run = small("a", max_new_tokens=1)
    assert (run.prompt_len, run.n_steps, len(run.tokens)) == (1, 1, 2)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_cache_bytes_equal_the_closed_form_at_every_step(mechanism, dtype):
    run = small(right=mechanism, dtype=dtype, heads=4)
    side = run.right
    elems = cache_elems(mechanism, side.geometry)
    size = getattr(torch, dtype).itemsize
    row_bytes = elems * size * LAYERS
    assert np.array_equal(side.cache_bytes, np.arange(1, run.n_steps + 1) * row_bytes)
    assert run.n_steps < 16
    if size > 2:  # on a processor, keys in half precision have a page of tokens at once
        assert set(side.allocated_bytes) == {16 * row_bytes}
    assert min(side.allocated_bytes) >= 16 * row_bytes
    assert side.cache_elems == elems
    assert side.elem_bytes == size


def test_allocated_rows_double_when_they_are_full():
    run = small("a", max_new_tokens=40, layers=3)
    rows = np.array([16] * 16 + [32] * 16 + [64] * 8)
    for side, elems in zip(run.sides(), (3 * (32 + 16 + 32), 12 + 16), strict=True):
        assert np.array_equal(side.allocated_bytes, rows * elems * 4 * 3)


def test_recompute_keeps_nothing_and_rebuilds_everything():
    run = small(left="recompute", right="mla_expanded")
    g = run.left.geometry
    per_token = g.n_heads * (g.qk_head_dim + g.v_head_dim) * 4
    assert not run.left.cache_bytes.any()
    assert not run.left.allocated_bytes.any()
    assert run.left.cells.data.size == 0
    rebuilt = np.arange(1, run.n_steps + 1) * per_token
    assert np.array_equal(run.left.working_bytes, rebuilt)
    assert not run.right.working_bytes.any()
    assert np.array_equal(small(right="mla_reexpand").right.working_bytes, rebuilt)


@pytest.mark.parametrize("mechanism", MLA)
def test_mla_sides_are_one_model_in_float64(mechanism):
    run = small(right=mechanism, dtype="float64")
    assert run.differences.shape == (run.n_steps, len(DIFFERENCES))
    assert run.max_abs_diff < 1e-10
    assert run.same_tokens


@pytest.mark.parametrize("mechanism", MLA)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_mla_sides_choose_the_same_tokens_in_float32(mechanism, temperature):
    run = small(right=mechanism, temperature=temperature)
    assert run.same_tokens
    assert 0 <= run.max_abs_diff < 1e-3


@pytest.mark.parametrize("mechanism", [*OWN_WEIGHTS, "gqa_latent"])
def test_other_models_have_no_differences(mechanism):
    run = small(right=mechanism, heads=4, max_new_tokens=8)
    assert run.differences is None
    assert run.max_abs_diff is None
    assert not run.same_tokens


def test_both_sides_are_fed_what_the_left_one_chose():
    alone = small(left="mla_absorbed", right="mla_absorbed", heads=4)
    led = small(left="mla_absorbed", right="mqa", heads=4)
    following = small(left="mqa", right="mla_absorbed", heads=4)
    assert texts(led) == texts(alone)
    assert texts(following) != texts(alone)


# A run against a plain model: the whole text at once, no cache, no absorption


def turned(x, theta):
    """RoPE pair by pair."""
    out, pos = x.clone(), torch.arange(x.shape[-2], dtype=x.dtype)
    for i in range(0, x.shape[-1], 2):
        angle = pos * theta ** (-i / x.shape[-1])
        out[..., i] = x[..., i] * angle.cos() - x[..., i + 1] * angle.sin()
        out[..., i + 1] = x[..., i] * angle.sin() + x[..., i + 1] * angle.cos()
    return out


def normed(x, gain, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * gain


def heads_of(w, x):
    """Every query head's own queries, keys and values."""
    g = w.geometry
    if isinstance(g, GQAGeometry):
        q = einsum("sd,hdn->hsn", x, w.W_Q)
        if isinstance(g, LatentGQAGeometry):
            ups = (w.W_UK, w.b_K), (w.W_UV, w.b_V)
            k, v = (einsum("sd,dc,hcn->hsn", x, w.W_DKV, W) + b[:, None] for W, b in ups)
        else:
            k, v = (einsum("sd,hdn->hsn", x, W) for W in (w.W_K, w.W_V))
        k, v = (y.repeat_interleave(g.n_heads // g.n_kv_heads, 0) for y in (turned(k, 1e4), v))
        return turned(q, 1e4), k, v
    c_q = x if w.W_DQ is None else normed(x @ w.W_DQ, w.q_norm, g.norm_eps)
    c_kv = normed(x @ w.W_DKV, w.kv_norm, g.norm_eps)
    k_rope = turned(x @ w.W_KR, g.rope_theta).expand(g.n_heads, -1, -1)
    q_rope = turned(einsum("sd,hdr->hsr", c_q, w.W_QR), g.rope_theta)
    q = torch.cat([einsum("sd,hdn->hsn", c_q, w.W_UQ), q_rope], -1)
    k = torch.cat([einsum("sc,hcn->hsn", c_kv, w.W_UK), k_rope], -1)
    return q, k, einsum("sc,hcv->hsv", c_kv, w.W_UV)


def plain_model(weights, token_ids):
    """Scores, probabilities and outputs of every layer, and logits, at every token."""
    x, eps, layers = weights.embedding[token_ids], weights.geometry.norm_eps, []
    future = torch.ones(len(token_ids), len(token_ids), dtype=torch.bool).triu(1)
    for block in weights.blocks:
        q, k, v = heads_of(block.attention, normed(x, block.attn_norm, eps))
        scores = einsum("hqn,hkn->hqk", q, k) / q.shape[-1] ** 0.5
        probs = scores.masked_fill(future, -torch.inf).softmax(-1)
        out = einsum("hqk,hkv,hvd->qd", probs, v, block.attention.W_O)
        layers.append((scores, probs, out))
        x = x + out
        h = normed(x, block.mlp_norm, eps)
        gate = h @ block.W_gate
        x = x + (gate * gate.sigmoid() * (h @ block.W_up)) @ block.W_down
    scores, probs, outs = (torch.stack(parts) for parts in zip(*layers, strict=True))
    return scores, probs, outs, normed(x, weights.final_norm, eps) @ weights.embedding.T


def uneven(weights):
    """Gains and eps that matter, each another."""
    generator = torch.Generator().manual_seed(1)

    def gain():
        return 1 + 0.5 * torch.rand(weights.embedding.shape[1], generator=generator)

    geometry = replace(weights.geometry, norm_eps=0.2)
    blocks = []
    for block in weights.blocks:
        g = block.attention.geometry
        if not isinstance(g, GQAGeometry):
            g = replace(g, norm_eps=0.3, rope_theta=50.0)
            geometry = replace(geometry, attention=g)
        attention = replace(block.attention, geometry=g)
        blocks.append(replace(block, attn_norm=gain(), mlp_norm=gain(), attention=attention))
    return replace(weights, geometry=geometry, blocks=tuple(blocks), final_norm=gain())


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    "shape",
    [
        {"heads": 4, "qk_rope_head_dim": 0, "q_lora_rank": 20},
        {"v_head_dim": 6, "qk_nope_head_dim": 5, "qk_rope_head_dim": 2},
        {"heads": 1, "latent": 1, "layers": 1},
    ],
)
def test_a_run_records_what_a_plain_model_computes(change_weights, mechanism, shape):
    used = []
    change_weights(lambda weights: used.append(uneven(weights)) or used[-1])
    shape = {"max_new_tokens": 3, "temperature": 0.5, "top_k": 0, "dtype": "float64"} | shape
    run = small("The little fox", left=mechanism, right=mechanism, **shape)
    scores, probs, _, logits = plain_model(used[0].to(torch.float64, "cpu"), ids(run)[:-1])
    top = (logits / 0.5).softmax(-1).topk(CANDIDATES)
    for side in run.sides():
        for step in range(run.n_steps):
            seen = step + 1
            rows = (side.scores.row(step), scores), (side.probs.row(step), probs)
            for ours, theirs in rows:
                assert ours == pytest.approx(theirs[:, :, step, :seen].numpy(), abs=1e-5)
            words, shares = zip(*side.candidates(step), strict=True)
            assert list(words) == [stories_tokenizer().texts[i] for i in top.indices[step]]
            assert shares == pytest.approx(top.values[step].tolist(), abs=1e-6)
    assert run.max_abs_diff == 0
    assert run.same_tokens


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_differences_are_the_largest_over_all_layers_and_heads(change_weights, layer, factor):
    used = []

    def one_head_asks_otherwise(weights):
        blocks = list(weights.blocks)
        asked = blocks[layer].attention.W_UQ.clone()
        asked[1] *= factor
        attention = replace(blocks[layer].attention, W_UQ=asked)
        blocks[layer] = replace(blocks[layer], attention=attention)
        used.extend([weights, replace(weights, blocks=tuple(blocks))])
        return used[-1]

    change_weights(lambda weights: weights, one_head_asks_otherwise)
    run = small(dtype="float64")
    sides = [plain_model(w.to(torch.float64, "cpu"), ids(run)[:-1]) for w in used]
    scores, probs, outs, logits = (a - b for a, b in zip(*sides, strict=True))
    for step, found in enumerate(run.differences):
        seen = slice(step + 1)
        gaps = scores[:, :, step, seen], probs[:, :, step, seen], outs[:, step], logits[step]
        assert found == pytest.approx([gap.abs().max().item() for gap in gaps])
    assert run.max_abs_diff == run.differences.max() > 0.01
    by_hand = replace(run, differences=np.array([[0.0, 3.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.0]]))
    assert by_hand.max_abs_diff == 3


@pytest.mark.parametrize("top_k", [0, 40])
@pytest.mark.parametrize("temperature", [1e-3, 1e-308, 1e-320, 5e-324])
def test_near_temperature_zero_the_likeliest_token_is_taken(temperature, top_k):
    run = small(temperature=temperature, top_k=top_k, max_new_tokens=5)
    assert texts(run) == texts(small(temperature=0.0, max_new_tokens=5))
    for side in run.sides():
        assert side.top_probs.sum(-1) == pytest.approx(np.ones(run.n_steps))
        assert (side.top_probs[-1, 0], side.top_probs[-1, 1]) == pytest.approx((1, 0))


def test_temperature_zero_takes_the_likeliest_token():
    run = small(temperature=0.0)
    likeliest = [candidates[0] for candidates in run.left.top_text[run.prompt_len - 1 :]]
    assert texts(run)[run.prompt_len :] == likeliest
    assert run.temperature == 0
    assert texts(small(temperature=0.0, max_new_tokens=2)) == texts(run)[:-2]


# A model that says what a table says: the logits of the next token by the last one alone


def says(table):
    """Weights under which token `b` follows `a` with logit table[a][b]; all other logits are 0."""
    known = sorted({*table, *(b for row in table.values() for b in row)})
    ids, n = [stories_tokenizer().texts.index(text) for text in known], len(known)
    logits = torch.tensor([[table.get(a, {}).get(b, 0.0) for b in known] for a in known])
    squares = logits.square().sum(1)

    def change(weights):
        embedding, (block,) = torch.zeros_like(weights.embedding), weights.blocks
        enter, leave = torch.zeros_like(block.W_up), torch.zeros_like(block.W_down)
        embedding[ids, range(n)] = 1
        enter[range(n), range(n)] = 1e4  # beside this the token itself no longer counts
        leave[:n, :n], leave[:n, -1] = logits, (squares.max() - squares).sqrt()  # equally long
        silent = replace(block.attention, W_O=torch.zeros_like(block.attention.W_O))
        block = replace(block, attention=silent, W_gate=enter, W_up=enter, W_down=leave)
        norm = (
            torch.ones_like(weights.final_norm) * (squares.max() / len(weights.final_norm)) ** 0.5
        )
        return replace(weights, embedding=embedding, blocks=(block,), final_norm=norm)

    return change


def always(**shares):
    """A table that gives every token these shares, whichever of them came last."""
    logits = {text: 100 + log(share) for text, share in shares.items()}
    return dict.fromkeys(["a", *shares], logits)


ONE_LAYER = {"source": "synthetic", "heads": 1, "latent": 1, "layers": 1, "device": "cpu"}
ONE_LAYER |= {"dtype": "float64"}


def written(table, change_weights, **settings):
    change_weights(says(table))
    return generate(Settings("a", **(ONE_LAYER | settings)))


@pytest.mark.parametrize(
    ("temperature", "share"), [(1.0, 0.5), (2.0, 0.5**0.5 / (0.5**0.5 + 10 * 0.05**0.5))]
)
def test_sampling_follows_the_probabilities(change_weights, temperature, share):
    # One of eleven, for with two outcomes noise of the other sign gives the same shares.
    table = always(b=0.5, **dict.fromkeys("cdefghijkl", 0.05))
    asked = {"temperature": temperature, "top_k": 0, "max_new_tokens": 100}
    text = "".join(written(table, change_weights, seed=seed, **asked) for seed in range(4))
    assert set(text) == set("bcdefghijkl")
    assert text.count("b") / 400 == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("temperature", "top_k", "shares"),
    [
        (1.0, 0, (0.6, 0.3, 0.1)),
        (0.5, 3, (0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46)),
        (1.0, 2, (0.6 / 0.9, 0.3 / 0.9, 0)),
        (0.5, 2, (0.36 / 0.45, 0.09 / 0.45, 0)),
        (2.0, 1, (1, 0, 0)),
        (0.0, 2, (0.6, 0.3, 0.1)),
    ],
)
def test_candidates_are_as_likely_as_they_are_drawn(change_weights, temperature, top_k, shares):
    change_weights(says(always(b=0.6, c=0.3, d=0.1)))
    asked = {"temperature": temperature, "top_k": top_k}
    run = decode("a", max_new_tokens=2, **asked, **ONE_LAYER)
    assert (run.temperature, run.top_k) == (temperature, top_k)
    for side in run.sides():
        for step in range(run.n_steps):
            assert len(side.candidates(step)) == 8
            first = side.candidates(step)[:3]
            assert [text for text, share in first if share] == ["b", "c", "d"][
                : sum(map(bool, shares))
            ]
            assert [share for _, share in first] == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 8])
def test_every_token_drawn_is_among_what_is_drawn_from(top_k):
    run = small(temperature=5.0, top_k=top_k, max_new_tokens=12)
    for step in range(run.prompt_len - 1, run.n_steps):
        shares = dict(run.left.candidates(step))
        assert sum(shares.values()) == pytest.approx(1)
        assert sum(share > 0 for share in shares.values()) == top_k
        assert shares[texts(run)[step + 1]] > 0


@pytest.mark.parametrize(
    ("top_k", "letters"), [(1, "b"), (2, "bc"), (3, "bcd"), (4, "bcdef"), (5, "bcdef")]
)
def test_top_k_keeps_so_many_tokens_and_those_that_tie_with_the_last(
    change_weights, top_k, letters
):
    table = always(b=0.3, c=0.25, d=0.2, e=0.125, f=0.125)
    text = written(table, change_weights, temperature=5.0, top_k=top_k, max_new_tokens=40)
    assert set(text) == set(letters)


LINE = {"a": {"b": 9.0}, "b": {"c": 9.0}, "c": {"d": 9.0}, "d": {"e": 9.0}}


def test_end_of_text_ends_the_run(change_weights):
    table = LINE | {"c": {END_OF_TEXT: 9.0}, END_OF_TEXT: {"e": 9.0}}
    assert written(table, change_weights, temperature=0.0, max_new_tokens=6) == "bc"
    run = decode("a", temperature=0.0, max_new_tokens=6, **ONE_LAYER)
    assert texts(run) == ["a", "b", "c", END_OF_TEXT]
    assert run.text == "bc"
    assert run.n_steps == len(run.differences) == 3
    for side in run.sides():
        lengths = {len(x) for x in (side.cache_bytes, side.time_us, side.top_text, side.top_probs)}
        assert lengths == {3}
        assert side.cache_bytes.tolist() == [8 * side.cache_elems * rows for rows in (1, 2, 3)]
        assert side.cells.data.shape[1] == 3
        assert list(side.probs.steps) == list(side.scores.steps) == [0, 1, 2]


def test_the_left_side_alone_ends_a_run(change_weights):
    ends = LINE | {"b": {END_OF_TEXT: 9.0}}
    for left, right, text in ((ends, LINE, "b"), (LINE, ends, "bcde")):
        change_weights(says(left), says(right))
        run = decode("a", temperature=0.0, max_new_tokens=4, **ONE_LAYER)
        assert (run.text, run.same_tokens) == (text, False)


@pytest.mark.parametrize("after", ["a", "b", "c", "d", None])
def test_tokens_are_the_same_where_every_choice_is(change_weights, after):
    change_weights(says(LINE), says(LINE | ({after: {"x": 9.0}} if after else {})))
    run = decode("a", temperature=0.0, max_new_tokens=4, **ONE_LAYER)
    assert run.text == "bcde"
    assert run.same_tokens == (after is None)


@pytest.mark.parametrize("mechanism", ["mla_expanded", "recompute", "mqa"])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_text_by_itself_is_that_of_a_whole_run(mechanism, temperature):
    asked = {"layers": 2, "temperature": temperature, "max_new_tokens": 12, "seed": 4}
    s = Settings(PROMPT, left=mechanism, **(ONE_LAYER | asked))
    assert generate(s) == decode(s).text


def test_a_seed_gives_one_run_and_another_seed_another():
    first, again, other = small(seed=3), small(seed=3), small(seed=4)
    assert texts(first) == texts(again) != texts(other)
    assert np.array_equal(first.left.probs.data, again.left.probs.data)
    assert np.array_equal(first.right.cells.data, again.right.cells.data)


def test_progress_is_told_and_may_stop_the_run():
    seen = []
    run = small(on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, run.n_steps) for i in range(run.n_steps)]

    def stop(done, total):  # noqa: ARG001
        raise InterruptedError

    with pytest.raises(InterruptedError):
        small(on_step=stop)


def test_a_run_that_fits_has_no_notes():
    assert small().notes == ()


def test_dropped_attention_is_said(monkeypatch):
    monkeypatch.setattr(recorder, "kept_steps", partial(kept_steps, limit=100_000))
    run = small(max_new_tokens=30)
    kept = run.left.probs.steps
    vectors = 2 * step_bytes(run.left.geometry, LAYERS)
    assert list(kept) == kept_steps(run.n_steps, LAYERS, 3, vectors, 100_000)
    assert list(kept) == list(run.left.vectors.steps) == list(run.right.vectors.steps)
    assert len(kept) < run.n_steps
    assert run.notes == (
        f"To bound memory, attention is kept at {len(kept)} of {run.n_steps} steps:"
        f" at every {kept[1] - kept[0]}th, and at all of the last ones.",
    )
    assert run.left.probs.keeps(run.n_steps - 1)


def numpy_arrays(record):
    if isinstance(record, np.ndarray):
        return [record]
    if hasattr(record, "data") and hasattr(record, "n_heads"):
        return [record.data, record.steps]
    if is_dataclass(record):
        return [a for f in fields(record) for a in numpy_arrays(getattr(record, f.name))]
    return []


@pytest.mark.parametrize("right", ["mla_absorbed", "mqa", "recompute"])
def test_a_run_is_read_only(right):
    arrays = numpy_arrays(small(right=right))
    assert len(arrays) >= 20
    assert all(not array.flags.writeable for array in arrays)


def test_operations_are_those_of_a_step_by_hand():
    run = small(dtype="bfloat16", heads=3, latent=12)
    for side in run.sides():
        score, context = (op for op in side.operations(4) if op.name in ("score", "context"))
        assert score.columns == context.inner == side.probs.row(4).shape[-1] == 5
    # Query 128 to 3 48, latent 128 to 12 + 16, expansion 12 to 3 64, scores and context over five
    # tokens, output 3 32 to 128.
    weights = 128 * 3 * 48 + 128 * 28 + 12 * 3 * 64 + 3 * 32 * 128
    assert run.left.flops(4) == LAYERS * 2 * (weights + 5 * 3 * (48 + 32))
    assert run.right.flops(4) == LAYERS * 2 * (weights + 5 * 3 * (28 + 12))
    score = next(op for op in run.left.operations(4) if op.name == "score")
    assert score.bytes_read == 2 * 3 * (48 + 48 * 5)


def test_times_are_those_of_attention_in_each_layer(monkeypatch):
    # The k-th look at the clock sees k^2 microseconds, so the i-th attention lasts
    # (2 i + 1)^2 - (2 i)^2 = 4 i + 1. Each side warms up over all layers before the first step.
    ticks = count()
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks) ** 2 * 1000)
    run = small(layers=3, max_new_tokens=2)
    first = 2 * 3 + 6 * np.arange(run.n_steps)[:, None] + np.arange(3)
    assert np.array_equal(run.left.time_us, 4 * first + 1)
    assert np.array_equal(run.right.time_us, 4 * (first + 3) + 1)


def test_a_run_says_what_was_asked():
    asked = {"left": "mqa", "right": "mla_merged", "dtype": "bfloat16", "temperature": 0.25}
    run = small(**asked)
    assert (run.left.mechanism, run.right.mechanism) == ("mqa", "mla_merged")
    assert (run.dtype, run.temperature) == ("bfloat16", 0.25)
    assert (run.prompt, run.source, run.device) == (PROMPT, "synthetic", "cpu")
    assert (run.n_layers, run.model["n_kv_heads"], run.model["head_dim"]) == (2, 1, 32)


def test_a_random_model_that_is_not_asked_otherwise():
    run = decode("a", source="synthetic", max_new_tokens=1, device="cpu")
    assert run.model == {
        "name": "synthetic",
        "n_layers": 5,
        "d_ff": 256,
        "vocab_size": 2048,
        "context": 8192,
        "d_model": 128,
        "n_heads": 8,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "kv_lora_rank": 32,
        "q_lora_rank": None,
        "rope_theta": 10000.0,
        "norm_eps": 1e-6,
        "softmax_scale_override": None,
    }
    own = (
        Settings(source="synthetic", heads=6, v_head_dim=20, left="gqa")
        .side("left")
        .geometry.attention
    )
    assert own == GQAGeometry(128, 6, 2, 20)


def test_a_settings_record_decodes_as_its_keywords_do():
    keywords = {"source": "synthetic", "layers": 1, "max_new_tokens": 3, "device": "cpu"}
    assert texts(decode(Settings(PROMPT, **keywords))) == texts(decode(PROMPT, **keywords))


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "\u202eשלום", "🦊\x00", "<|endoftext|>", " x"]
)
def test_hostile_prompts_decode(text):
    run = small(text, max_new_tokens=2, layers=1)
    assert run.prompt == text
    assert run.prompt_len >= 1


# What is refused

REFUSED = [
    ({"prompt": ""}, "prompt: expected some text, got nothing"),
    ({"prompt": " \n"}, "prompt: expected some text, got nothing"),
    ({"prompt": "a b " * 5000}, r"prompt: expected at most 8191 tokens .*, got \d+"),
    ({"source": "stolen"}, "source: expected one of trained, .*synthetic, got 'stolen'"),
    ({"latent": 0}, "latent: expected a whole number from 1 to .*, got 0"),
    ({"latent": -3}, "latent: expected a whole number from 1 to .*, got -3"),
    ({"heads": 0}, "heads: expected a whole number from 1 to .*, got 0"),
    ({"qk_rope_head_dim": 7}, "qk_rope_head_dim: expected an even number .*, got 7"),
    ({"qk_nope_head_dim": 0}, "qk_nope_head_dim: expected a whole number from 1 .*, got 0"),
    ({"v_head_dim": 0}, "v_head_dim: expected a whole number from 1 .*, got 0"),
    ({"v_head_dim": 0, "right": "mha"}, "v_head_dim: expected a whole number from 1 .*, got 0"),
    ({"v_head_dim": 5, "right": "mha"}, "head_dim: expected an even number .*, got 5"),
    ({"q_lora_rank": 0}, "q_lora_rank: expected a whole number from 1 .*, got 0"),
    ({"layers": 0}, "layers: expected a whole number from 1 .*, got 0"),
    ({"left": "flash"}, "left: expected one of mla_expanded, .*, got 'flash'"),
    ({"right": ""}, "right: expected one of mla_expanded, .*, got ''"),
    ({"dtype": "float8"}, "dtype: expected one of float64, .*, got 'float8'"),
    ({"device": "tpu"}, "device: expected one of auto, cpu.*, got 'tpu'"),
    ({"temperature": float("nan")}, "temperature: expected a number from 0 to 100, got nan"),
    ({"temperature": float("inf")}, "temperature: expected a number from 0 to 100, got inf"),
    ({"temperature": -0.1}, "temperature: expected a number from 0 to 100, got -0.1"),
    ({"temperature": 100.1}, "temperature: expected a number from 0 to 100, got 100.1"),
    ({"top_k": -1}, "top_k: expected a whole number from 0 to 2048, got -1"),
    ({"top_k": 2049}, "top_k: expected a whole number from 0 to 2048, got 2049"),
    ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number from 1 to 8192, got 0"),
    ({"max_new_tokens": 8193}, "max_new_tokens: expected a whole number from 1 to 8192, got 8193"),
    ({"seed": -1}, "seed: expected a whole number from 0 .*, got -1"),
    ({"seed": 2**63}, "seed: expected a whole number from 0 .*, got 9223372036854775808"),
    ({"latent": 65536, "heads": 1024, "layers": 256}, r"geometry: expected one that fits .* GiB"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_bad_settings_are_refused_in_words(settings, words):
    with pytest.raises(ValueError, match=words):
        small(**settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_it_is_absent():
    with pytest.raises(ValueError, match="expected one of auto, cpu, got 'cuda'"):
        small(device="cuda")


def overflowing_at(token_id):
    """In float16, logits past 65504 once this token is fed."""

    def change(weights):
        embedding = torch.zeros_like(weights.embedding)
        embedding[token_id, 0] = 6e4
        return replace(weights, embedding=embedding)

    return change


@pytest.mark.parametrize("side", [0, 1])
def test_overflow_in_half_precision_is_said_with_its_token(change_weights, side):
    changes = [overflowing_at(PROMPT_IDS[3]), lambda weights: weights]
    change_weights(changes[side], changes[1 - side])
    words = (
        "dtype: expected one that holds this model's numbers, got float16,"
        " which overflowed at token 4 .try bfloat16 or float32."
    )
    with pytest.raises(ValueError, match=words):
        small(dtype="float16")
    assert small(dtype="bfloat16").n_steps > 0


def test_a_text_by_itself_says_where_it_overflows(change_weights):
    change_weights(overflowing_at(PROMPT_IDS[-1]))
    asked = {"dtype": "float16", "max_new_tokens": 3}
    last = len(PROMPT_IDS) - 1
    with pytest.raises(ValueError, match=f"got float16, which overflowed at token {last + 1} "):
        generate(Settings(PROMPT, **(ONE_LAYER | asked)))


# The trained source, by a tiny file of the same form


def test_trained_source_follows_the_sliders(tiny_trained):  # noqa: ARG001
    for heads, latent in [(8, 64), (3, 17), (1, 4)]:
        run = tiny(heads=heads, latent=latent, dtype="float64")
        assert run.right.cache_elems == latent + 4
        assert run.left.cache_elems == heads * (10 + 5)
        assert run.max_abs_diff < 1e-10
        assert run.model["n_heads"] == heads
        assert run.source == "trained"


TRAINED_REFUSED = [
    ({"prompt": "a b " * 300}, r"prompt: expected at most 23 tokens \(context 24\), got \d+"),
    ({"heads": 9}, "heads: expected a whole number from 1 to 8, got 9"),
    ({"latent": 3}, "latent: expected a whole number from 4 to 64, got 3"),
    ({"latent": 65}, "latent: expected a whole number from 4 to 64, got 65"),
    ({"qk_nope_head_dim": 8}, "qk_nope_head_dim: expected 6 for the trained model, got 8"),
    ({"qk_rope_head_dim": 2}, "qk_rope_head_dim: expected 4 for the trained model, got 2"),
    ({"v_head_dim": 6}, "v_head_dim: expected 5 for the trained model, got 6"),
    ({"q_lora_rank": 8}, "q_lora_rank: expected none for the trained model, got 8"),
    ({"layers": 7}, "layers: expected 2 for the trained model, got 7"),
]


@pytest.mark.parametrize(("settings", "words"), TRAINED_REFUSED)
def test_trained_source_refuses_in_words(tiny_trained, settings, words):  # noqa: ARG001
    with pytest.raises(ValueError, match=words):
        tiny(**settings)


def test_weights_of_its_own_must_be_there(tiny_trained, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(sources, "is_shipped", lambda _: False)
    with pytest.raises(ValueError, match="right: expected a mechanism whose trained .*, got 'mha'"):
        tiny(right="mha")


def test_trained_source_takes_its_own_dims(tiny_trained):  # noqa: ARG001
    run = tiny(qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, layers=2)
    assert run.n_layers == 2


@pytest.mark.parametrize(
    ("prompt_len", "asked", "got"), [(23, 5, 1), (23, 1, 1), (22, 3, 2), (22, 2, 2), (1, 24, 23)]
)
def test_new_tokens_fill_the_context_and_no_more(tiny_trained, prompt_len, asked, got):  # noqa: ARG001
    prompt = "a" + " a" * (prompt_len - 1)
    run = tiny(prompt=prompt, max_new_tokens=asked)
    assert (run.prompt_len, len(run.tokens)) == (prompt_len, prompt_len + got)
    note = f"{asked} new tokens asked, {got} fit the context of 24."
    assert run.notes == ((note,) if got < asked else ())


def test_a_prompt_as_long_as_the_context_leaves_no_room(tiny_trained):  # noqa: ARG001
    with pytest.raises(ValueError, match=r"expected at most 23 tokens \(context 24\), got 24"):
        tiny(prompt="a" + " a" * 23)


# The shipped model


def test_shipped_model_tells_a_story(shipped):  # noqa: ARG001
    run = decode("Once upon a time there was a little fox who", max_new_tokens=16, device="cpu")
    assert run.same_tokens
    assert run.max_abs_diff < 1e-3
    assert run.left.top_probs[run.prompt_len - 1 :, 0].mean() > 0.1


def test_shipped_model_refuses_a_prompt_that_fills_its_context(shipped):  # noqa: ARG001
    with pytest.raises(ValueError, match=r"at most 255 tokens \(context 256\), got \d+"):
        decode("a b " * 300, device="cpu")


def test_shipped_model_runs_at_the_corners_of_its_sliders(shipped):  # noqa: ARG001
    for heads, latent in [(1, 4), (8, 4), (1, 64), (8, 64)]:
        geometry = Settings(PROMPT, heads=heads, latent=latent).side("right").geometry
        assert geometry.context == 256
        run = decode(PROMPT, heads=heads, latent=latent, max_new_tokens=3, device="cpu")
        assert run.right.cache_elems == latent + geometry.attention.qk_rope_head_dim
