"""Caches kept in fewer bits: bytes against closed forms, values against their bounds, loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mla_viz.attention.cache import HeadCache, LatentCache
from mla_viz.attention.quantised import CODES, QuantisedRows, keep_in
from mla_viz.config import MLAGeometry
from mla_viz.findings.evaluate import evaluate, score_stories
from mla_viz.mechanisms.formats import FORMATS, find_format
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS
from mla_viz.model.decoder import Decoder
from mla_viz.model.sources import Shape, find_source

KEPT = ("int8", "fp8", "int4")
CPU = torch.float32, "cpu"
# The worst of a group, as a share of its largest value: half a code, and the rounding of the scale.
WORST = {"int8": 0.5 / 127 + 2**-10, "fp8": 2**-4, "int4": 0.5 / 7 + 2**-10}


def rows_of(kept, *lead, width, dtype=torch.float32):
    return QuantisedRows(lead, width, dtype, "cpu", FORMATS[kept])


@pytest.mark.parametrize("kept", KEPT)
@settings(deadline=None, max_examples=40)
@given(
    width=st.integers(1, 300),
    tokens=st.integers(1, 40),
    heads=st.integers(1, 3),
    scale=st.sampled_from([1e-3, 1.0, 300.0]),
)
def test_rows_take_the_bytes_they_should_and_come_back_within_half_a_code(
    kept, width, tokens, heads, scale
):
    values = scale * torch.randn(heads, tokens, width, generator=torch.Generator().manual_seed(1))
    rows = rows_of(kept, heads, width=width)
    for first in range(0, tokens, 7):
        rows.append(values[:, first : first + 7])
    form = FORMATS[kept]
    assert rows.filled_bytes == heads * tokens * form.row_bytes(width)
    assert rows.allocated_bytes >= rows.filled_bytes
    groups = -(-width // form.group)
    bits = {"int8": 8, "fp8": 8, "int4": 4}[kept]
    scales = {"int8": 2, "fp8": 4, "int4": 2}[kept] * groups
    assert form.row_bytes(width) == (width * bits + 7) // 8 + scales
    padded = torch.nn.functional.pad(values, (0, groups * form.group - width))
    largest = padded.unflatten(-1, (-1, form.group)).abs().amax(-1)
    bound = largest.repeat_interleave(form.group, -1)[..., :width] * WORST[kept]
    # a float16 scale of tiny numbers has steps of its own
    assert ((rows.filled - values).abs() <= bound + CODES[kept].largest * 2**-25).all()


@pytest.mark.parametrize("kept", KEPT)
def test_all_at_once_and_token_by_token_are_the_same(kept):
    values = torch.randn(9, 50, generator=torch.Generator().manual_seed(2))
    once, slowly = rows_of(kept, width=50), rows_of(kept, width=50)
    once.append(values)
    for row in values:
        slowly.append(row.unsqueeze(0))
    assert torch.equal(once.filled, slowly.filled)


@pytest.mark.parametrize("kept", KEPT)
def test_extremes_and_nothing_come_back(kept):
    row = torch.zeros(1, 64)
    row[0, 0], row[0, 40] = 5.0, -5.0
    rows = rows_of(kept, width=64)
    rows.append(torch.cat([row, torch.zeros(1, 64)]))
    assert torch.allclose(rows.filled[0], row, rtol=2e-3)
    assert not rows.filled[1].any()


def test_four_bits_worked_by_hand():
    rows = rows_of("int4", width=3)
    rows.append(torch.tensor([[7.0, -7.0, 3.2]]))  # scale 1: codes 7, -7, 3
    assert rows.filled.tolist() == [[7.0, -7.0, 3.0]]
    assert rows.filled_bytes == 2 + 2
    assert rows._codes.filled.tolist() == [[7 | (-7 << 4), 3]]


@pytest.mark.parametrize("kept", FORMATS)
def test_the_rope_key_is_kept_as_it_is_unless_the_name_says_all(kept):
    c_kv, k_rope = torch.randn(1, 5, 12), torch.randn(1, 5, 4)
    cache = LatentCache((1,), 12, 4, *CPU)
    keep_in(cache, FORMATS[kept], 4)
    cache.append(c_kv, k_rope)
    assert torch.equal(cache.k_rope, k_rope) == (not kept.endswith("_all"))
    assert not torch.equal(cache.c_kv, c_kv)
    assert torch.allclose(cache.c_kv, c_kv, atol=0.5)
    assert torch.equal(cache.latent_and_rope, torch.cat([cache.c_kv, cache.k_rope], -1))
    heads = HeadCache((1, 2), (16, 6), *CPU)
    keep_in(heads, FORMATS[kept], 4)
    k, v = torch.randn(1, 2, 5, 16), torch.randn(1, 2, 5, 6)
    heads.append(k, v)
    assert torch.equal(heads.k[..., 12:], k[..., 12:]) == (not kept.endswith("_all"))
    assert not torch.equal(heads.v, v)


def closed_form(mechanism, g, kept):
    """Bytes of a token in a layer, counted from widths and the format alone."""
    form = FORMATS[kept]
    if mechanism == "recompute":
        return 0
    if not isinstance(g, MLAGeometry):
        return 2 * g.n_kv_heads * form.row_bytes(g.head_dim)
    rope = g.qk_rope_head_dim
    turned = 4 * rope if form.keep_rope else form.row_bytes(rope) if rope else 0
    if mechanism == "mla_expanded":
        rows = form.row_bytes(g.qk_nope_head_dim) + turned + form.row_bytes(g.v_head_dim)
        return g.n_heads * rows
    return form.row_bytes(g.kv_lora_rank) + turned


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kept", FORMATS)
@pytest.mark.parametrize("rope", [0, 6])
def test_every_mechanism_decodes_from_a_quantised_cache_and_its_bytes_are_counted(
    mechanism, kept, rope
):
    shape = Shape(heads=4, latent=40, qk_rope_head_dim=rope, layers=2)
    source = find_source("synthetic")
    weights = source.load(source.geometry(shape, mechanism), 0)
    tokens = torch.arange(7)
    exact = Decoder(weights, mechanism).feed(tokens).logits
    decoder = Decoder(weights, mechanism, kept=FORMATS[kept])
    logits = decoder.feed(tokens).logits
    each = closed_form(mechanism, weights.geometry.attention, kept)
    assert [cache.filled_bytes for cache in decoder.caches] == [7 * each] * 2
    gap = (logits - exact).abs().max() / exact.abs().max()
    assert gap < {"int8": 0.02, "fp8": 0.1, "int4": 0.4}[kept.removesuffix("_all")]
    assert (gap > 0) == (mechanism != "recompute")


@pytest.mark.parametrize("mechanism", MLA_MECHANISMS)
def test_fewer_bits_lose_more(mechanism):
    source = find_source("trained")
    weights = source.load(source.geometry(Shape(heads=8, latent=16), mechanism), 0)
    stories = ["Once upon a time there was a little fox who lived in a big forest with his mom."]
    scores = {
        kept: score_stories(
            weights, mechanism, stories, source.tokenizer(), kept=kept and FORMATS[kept]
        )
        for kept in (None, "int8", "int4_all")
    }
    loss = {kept: score.nats_per_token for kept, score in scores.items()}
    if mechanism == "recompute":
        assert len(set(loss.values())) == 1
        assert scores["int8"].cache_bytes_per_token == 0
        return
    assert abs(loss["int8"] - loss[None]) < 0.01 < abs(loss["int4_all"] - loss[None])
    taken = [score.cache_bytes_per_token for score in scores.values()]
    assert taken == sorted(taken, reverse=True)
    g = weights.geometry
    assert taken[1] == g.n_layers * closed_form(mechanism, g.attention, "int8")


def test_what_is_no_format_is_one_line(tmp_path):
    file = tmp_path / "stories.txt"
    file.write_text("A fox ran.", encoding="utf-8")
    expected = "cache_dtype: expected one of int8, fp8, int4, int8_all, fp8_all, int4_all, got"
    for name in ("bf8", "", "int8 "):
        with pytest.raises(ValueError, match=expected):
            find_format(name)
    with pytest.raises(ValueError, match=expected):
        evaluate(file, cache_dtype="q8")
    score = evaluate(file, latent=8, cache_dtype="int8")
    assert score.cache_bytes_per_token == 5 * (8 + 2 + 16 * 4)
