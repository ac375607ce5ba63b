"""What quantised caches lose: the committed results, the chart and the sentences made of them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.cost import row_bytes
from mla_viz.figures.quantised import SYMBOLS, model_name, quantised_figure, quantised_numbers
from mla_viz.findings.family import load_family
from mla_viz.findings.quantised import SIGMAS, TRAINED, Kept, load_quantised, paired
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.model.sources import Shape, find_source
from mla_viz.ui.memory.quantised import (
    BOTH,
    FAMILY,
    format_words,
    latent_words,
    rope_words,
    safe_section,
)
from tests.screens import ROOT, section

FOUND = load_quantised()
losses = st.floats(-50, 50)


@given(st.lists(st.tuples(losses, losses), min_size=2, max_size=30), st.integers(1, 300))
def test_the_error_over_equal_stories_is_that_of_a_mean(pairs, tokens):
    one, other = zip(*pairs, strict=True)
    found = paired(one, other, [tokens] * len(pairs))
    each = (np.array(one) - np.array(other)) / tokens
    assert found.mean == pytest.approx(each.mean(), abs=1e-9)
    assert found.error == pytest.approx(each.std(ddof=1) / len(each) ** 0.5, abs=1e-9)


def test_a_difference_worked_by_hand():
    found = paired([2.0, 6.0], [1.0, 3.0], [1, 3])  # 1 and 3 more over 1 and 3 tokens
    assert (found.mean, found.error) == (1.0, 0.0)
    assert found.measurable
    assert not paired([1.0, 1.0], [1.0, 1.0], [5, 5]).measurable


@pytest.mark.parametrize("row", FOUND.rows, ids=lambda r: f"{r.source}-{r.latent}-{r.format}")
def test_bytes_of_every_row_are_those_counted(row):
    shape = Shape(latent=row.latent) if row.source == TRAINED else Shape()
    model = find_source(row.source).geometry(shape, row.mechanism)
    kept = FORMATS[row.format] if row.format else None
    each = row_bytes(row.mechanism, model.attention, 2, kept)
    assert row.cache_bytes_per_token == model.n_layers * each
    assert row.heads == model.attention.n_heads


def test_losses_are_those_of_the_family_and_differences_are_to_them():
    plain = {(r.source, r.latent, r.mechanism): r for r in FOUND.rows if r.format is None}
    assert (FOUND.stories, FOUND.tokens) == (250, load_family().scored_tokens)
    for row in FOUND.rows:
        own = plain[row.source, row.latent, row.mechanism]
        assert row.more == pytest.approx(row.nats_per_token - own.nats_per_token, abs=2e-5)
        assert (row.error > 0) == (row.format is not None)
    for row in plain.values():
        if row.source != TRAINED:
            scored = load_family().member(row.source).runs[0]
            assert row.nats_per_token == pytest.approx(scored.nats_per_token, abs=1e-3)
            assert row.bits_per_byte == pytest.approx(scored.bits_per_byte, abs=1e-3)


def made(source, latent, name, nats, more, error=0.001, size=100):
    return Kept(source, 4, latent, "mla_absorbed", name, size, nats, nats / 2.5, more, error)


@given(st.lists(st.tuples(st.sampled_from(sorted(FORMATS)), st.floats(-0.1, 0.1)), min_size=1))
def test_it_is_counted_how_many_lose_and_the_worst_is_named(asked):
    rows = [made(TRAINED, i, name, 2.0, more) for i, (name, more) in enumerate(asked)]
    words = format_words(rows, "bfloat16")
    for name in {name for name, _ in asked}:
        mine = [more for kept, more in asked if kept == name]
        lose = sum(more > SIGMAS * 0.001 for more in mine)
        told = f"{name.removesuffix('_all')}{', RoPE key too' * name.endswith('_all')}"
        assert f" {told}: {lose} of {len(mine)}, at most " in words
        worst = f"{max(mine):+.4f}".replace("-", "−")
        assert f"{lose} of {len(mine)}, at most {worst} (latent " in words


@pytest.mark.parametrize(("spared", "rounded"), [*product((0.001, 0.02), (0.001, 0.01, 0.06))])
def test_the_rope_key_is_blamed_where_it_more_than_doubles_the_loss(spared, rounded):
    rows = [made(TRAINED, 8, "int4", 2.0, spared), made(TRAINED, 8, "int4_all", 2.0, rounded)]
    words = rope_words(rows)
    assert f"in {int(rounded > 2 * spared)} of 1 cache:" in words
    assert f"+{spared:.3f} with the key as it is, +{rounded:.3f} with it rounded" in words
    assert rope_words(rows[:1]) is None


@pytest.mark.parametrize(("wide", "narrow"), [*product((2.0, 2.1, 2.2), repeat=2)])
def test_bits_are_held_against_a_smaller_latent(wide, narrow):
    rows = [
        made(TRAINED, 64, "int4", wide, 0.01, size=340),
        made(TRAINED, 64, None, 1.9, 0.0, size=800),
        made(TRAINED, 32, None, narrow - 0.2, 0.0, size=480),
        made(TRAINED, 16, None, narrow, 0.0, size=320),
    ]
    words = latent_words(rows, "bfloat16")
    assert "latent 64, absorbed in int4 takes 340 bytes" in words
    assert f"latent 16, absorbed in bfloat16 takes 320 and loses {narrow:.3f}" in words
    assert ("wide latent in few bits." in words) == (wide < narrow)
    assert latent_words(rows[:2], "bfloat16") is None
    assert latent_words(rows[2:], "bfloat16") is None


@pytest.mark.parametrize("rows", [FOUND.family(), FOUND.both_ways()], ids=["family", "both"])
@pytest.mark.parametrize("dark", [False, True])
def test_the_figure_has_every_row_once_and_a_mark_for_its_format(rows, dark):
    figure = quantised_figure(rows, FOUND.dtype, dark)
    series = [trace for trace in figure.data if trace.x[0] is not None]
    keys = [trace for trace in figure.data if trace.x[0] is None]
    points = {
        (trace.name, x, y, error, symbol)
        for trace in series
        for x, y, error, symbol in zip(
            trace.x, trace.y, trace.error_y.array, trace.marker.symbol, strict=True
        )
        if x is not None
    }
    assert points == {
        (model_name(r), r.cache_bytes_per_token, r.more, r.error, SYMBOLS[r.format]) for r in rows
    }
    assert [key.marker.symbol for key in keys] == [*SYMBOLS.values()]
    looks = [(trace.line.color, trace.line.dash) for trace in series]
    assert len(set(looks)) == len(looks) == len({trace.name for trace in series})
    assert figure.layout.yaxis.title.text.endswith("nats/token")
    numbers = quantised_numbers(rows, FOUND.dtype)
    assert [n["more_nats_per_token"] for n in numbers] == [r.more for r in rows]


@pytest.mark.parametrize("drawn", [FAMILY, BOTH])
def test_the_section_says_what_its_rows_say(drawn):
    app = section(safe_section, caches=drawn)
    assert not app.exception
    rows = FOUND.family() if drawn == FAMILY else FOUND.both_ways()
    said = app.markdown[0].value
    for words in (format_words, latent_words):
        assert f"- {words(rows, FOUND.dtype)}" in said
    assert f"{FOUND.tokens:,} tokens" in app.caption[0].value


def test_the_table_of_the_docs_is_that_of_the_results():
    told = (ROOT / "docs/family.md").read_text(encoding="utf-8").splitlines()
    for row in FOUND.family():
        [line] = [x for x in told if x.startswith(f"| {model_name(row)} | ") and ": +" in x]
        more = f"{row.more:+.4f}".replace("-", "−")
        cell = f"{row.cache_bytes_per_token:,}: {more} ± {row.error:.4f}"
        if row.format is None:
            cell = f"{row.cache_bytes_per_token:,}"
        assert f"| {cell} |" in line or row.format in ("int8_all", "fp8_all")
