"""Caches kept in fewer bits: bytes against closed forms, values against their bounds, loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mla_viz.attention.cache import HeadCache, LatentCache
from mla_viz.attention.quantised import CODES, QuantisedRows, keep_in
from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry
from mla_viz.cost import operations, row_bytes
from mla_viz.findings.evaluate import evaluate, score_stories
from mla_viz.mechanisms.formats import FORMATS, Format, find_format
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS, OWN_WEIGHTS
from mla_viz.model.decoder import Decoder
from mla_viz.model.latent import latent_geometry
from mla_viz.model.sources import Shape, find_source
from mla_viz.published.layers import KEYS, LATENT, Kept
from mla_viz.run.decode import bill_of, decode
from mla_viz.run.settings import Settings
from mla_viz.run.trace import DIFFERENCES

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


@pytest.mark.parametrize(
    ("engine", "kept", "part"),
    [("q8_0", "int8", KEYS), ("q4_0", "int4", LATENT), ("fp8_ds_mla", "fp8", LATENT)],
)
@given(width=st.integers(1, 40).map(lambda n: 32 * n), vectors=st.integers(1, 5))
def test_what_engines_call_otherwise_takes_the_bytes_that_are_kept_here(
    engine, kept, part, width, vectors
):
    rows = rows_of(kept, vectors, width=width)
    rows.append(torch.ones(vectors, 1, width))
    assert Kept(part, width, vectors).row_bytes(engine) == rows.filled_bytes


@given(width=st.integers(1, 2000), vectors=st.integers(1, 5))
def test_an_engines_int8_has_a_scale_a_vector_and_its_fp8_none(width, vectors):
    kept = Kept(KEYS, width, vectors)
    assert kept.row_bytes("int8") == vectors * (width + 4)
    assert kept.row_bytes("fp8") == vectors * width


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
    if isinstance(g, LatentGQAGeometry):
        return form.row_bytes(g.kv_lora_rank)
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

    assert row_bytes(mechanism, weights.geometry.attention, 4, FORMATS[kept]) == each


mla_geometries = st.builds(
    MLAGeometry,
    d_model=st.integers(1, 300),
    n_heads=st.integers(1, 40),
    qk_nope_head_dim=st.integers(1, 300),
    qk_rope_head_dim=st.integers(0, 40).map(lambda half: 2 * half),
    v_head_dim=st.integers(1, 300),
    kv_lora_rank=st.integers(1, 700),
)
gqa_geometries = st.builds(
    lambda d_model, kv, group, half: GQAGeometry(d_model, kv * group, kv, 2 * half),
    st.integers(1, 300),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(1, 90),
)
latent_gqa_geometries = st.tuples(gqa_geometries, st.integers(1, 700))
DECODED_BY = dict.fromkeys(OWN_WEIGHTS, gqa_geometries)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@given(data=st.data(), elem=st.sampled_from([2, 4, 8]), tokens=st.integers(1, 5000))
def test_the_ledger_reads_each_cached_row_as_the_format_keeps_it(mechanism, data, elem, tokens):
    g = data.draw(DECODED_BY.get(mechanism, mla_geometries))
    if mechanism == "gqa_latent":
        plain, rank = data.draw(latent_gqa_geometries)
        g = latent_geometry(plain, rank)
    plain = operations(mechanism, g, tokens, elem)
    unchanged = Format("as it is", 8 * elem, 10**9, 0, keep_rope=data.draw(st.booleans()))
    for before, after in zip(plain, operations(mechanism, g, tokens, elem, unchanged), strict=True):
        assert (before.bytes_read, before.flops) == (after.bytes_read, after.flops)
    kept = FORMATS[data.draw(st.sampled_from(sorted(FORMATS)))]
    saved = sum(op.bytes_read for op in plain)
    saved -= sum(op.bytes_read for op in operations(mechanism, g, tokens, elem, kept))
    row = row_bytes(mechanism, g, elem) - row_bytes(mechanism, g, elem, kept)
    twice = 0
    if mechanism in ("mla_absorbed", "mla_merged"):  # context reads the latent once more
        twice = g.kv_lora_rank * elem - kept.row_bytes(g.kv_lora_rank)
    assert saved == tokens * (row + twice)


def made(mechanism, kept, **more):
    """A run whose right side keeps its cache in a format."""
    shape = {"source": "synthetic", "heads": 4, "latent": 40, "layers": 2, "max_new_tokens": 4}
    return decode("A fox ran", right=mechanism, cache_dtype=kept, **(shape | more))


@pytest.mark.parametrize("kept", FORMATS)
@pytest.mark.parametrize("mechanism", [*MLA_MECHANISMS, "gqa"])
def test_a_run_with_a_quantised_cache_is_told_as_what_it_is(mechanism, kept):
    run, plain = made(mechanism, kept), made(mechanism, None)
    right, steps = run.right, np.arange(1, run.n_steps + 1)
    assert (right.cache_bytes == 2 * right.row_bytes * steps).all()
    assert (right.allocated_bytes >= right.cache_bytes).all()
    assert run.left == plain.left
    assert (run.left.cache_dtype, run.text) == (None, plain.text)
    if mechanism == "recompute":
        assert right == plain.right
        return
    assert right.cache_dtype == kept
    assert right.row_bytes < plain.right.row_bytes
    if mechanism == "gqa":
        assert run.max_abs_diff is None
        return
    assert run.max_abs_diff > 100 * plain.max_abs_diff
    named = dict(zip(DIFFERENCES, run.differences.max(0), strict=True))
    assert all(gap > 0 for gap in named.values())
    assert run.gaps.out.max() == named["out"]
    assert (run.gaps.x[:, 0] == 0).all()  # the first layer's input is an embedding


@pytest.mark.parametrize("kept", FORMATS)
@pytest.mark.parametrize(
    "mechanism", ["mla_absorbed", "mla_merged", "mla_reexpand", "mla_expanded"]
)
def test_the_inside_of_a_step_is_of_what_is_read_back(mechanism, kept):
    run = made(mechanism, kept)
    step, layer, head = run.n_steps - 1, 1, 2
    lane = run.inside(step, layer, head).right
    query = lane.q if lane.q_latent is None else lane.q_latent
    scale = run.right.geometry.softmax_scale
    assert lane.keys @ query * scale == pytest.approx(lane.scores, abs=1e-5)
    assert lane.probs @ lane.values == pytest.approx(lane.mix, abs=1e-5)
    if mechanism != "mla_expanded":
        seen = [run.right.vectors.latents, run.left.vectors.latents]
        gap = np.abs(seen[0] - seen[1]).max(-1)
        assert gap == pytest.approx(run.gaps.latents, abs=1e-6)
        assert (gap[:, 0] > 0).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_run_in_any_dtype_may_have_its_cache_in_int8(dtype):
    run = made("mla_absorbed", "int8", dtype=dtype)
    elem = {"float64": 8}.get(dtype, 2)
    assert run.right.row_bytes == 40 + 2 * 2 + 16 * elem
    assert (run.right.cache_bytes[0], run.left.elem_bytes) == (2 * run.right.row_bytes, elem)


@pytest.mark.parametrize("field", ["bytes", "seconds"])
def test_multiplying_out_is_in_the_bill(field):
    plain, kept = (
        getattr(bill_of(Settings("A fox " * 600, "synthetic", cache_dtype=x)), field)
        for x in (None, "int8")
    )
    assert kept != plain
    if field == "seconds":
        assert kept > plain


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
