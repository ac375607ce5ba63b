"""What quantised caches lose, as the Memory page tells it: chart and sentences from any rows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.figures.quantised import SYMBOLS, quantised_figure, quantised_numbers
from mla_viz.findings.quantised import Kept, load_quantised
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.ui.memory import quantised
from mla_viz.ui.memory.asked import Asked
from tests.screens import said, section

pytestmark = pytest.mark.filterwarnings("default")


def kept(fmt, size=100, nats=2.0, more=0.0, error=0.001, latent=32, source="mla-32"):
    mechanism = "mha" if latent is None else "mla_absorbed"
    return Kept(source, 8, latent, mechanism, fmt, size, nats, 1.0, more, error)


@given(st.lists(st.tuples(st.floats(-0.01, 0.1), st.floats(1e-5, 0.01)), min_size=1, max_size=6))
def test_what_is_said_to_lose_loses_more_than_two_standard_errors(pairs):
    rows = [kept("int8", more=more, error=error) for more, error in pairs]
    (words,) = quantised.findings(rows)
    lost = [more for more, error in pairs if more > 2 * error]
    if not lost:
        assert "loses anything that can be told" in words
        return
    assert words.startswith(f"**int8**: {len(lost)} of {len(rows)} cache")
    assert f"{min(lost):+.4f}" in words
    assert f"{max(lost):+.4f}" in words


@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.floats(1.5, 3),
    st.floats(1.5, 3),
    st.sampled_from([*FORMATS]),
    st.sampled_from([8, 32]),
)
def test_a_larger_latent_in_fewer_bits_is_named_exactly_where_it_wins(
    size, rounded_size, nats, rounded_nats, fmt, latent
):
    rows = [
        kept(None, size, nats, latent=16, source="mla-16"),
        kept(None, 10_000, 1.0, latent=latent),
        kept(fmt, rounded_size, rounded_nats, latent=latent),
    ]
    told = [words for words in quantised.findings(rows) if "A latent of" in words]
    wins = latent > 16 and rounded_size <= size and rounded_nats < nats
    assert bool(told) == wins
    if wins:
        assert f"{rounded_size} bytes a token and loses {rounded_nats:.3f} nats" in told[0]
        assert f"one of 16 in 16 bits takes {size} and loses {nats:.3f}" in told[0]


def test_the_rope_key_is_priced_by_itself_only_where_it_always_costs():
    rows = [kept("int4", more=0.01), kept("int4_all", more=0.05)]
    told = list(quantised.findings(rows))
    assert "**int4 for the RoPE key too** costs +0.0400 to +0.0400 nats/token more." in told
    rows = [kept("int4", more=0.06), kept("int4_all", more=0.05)]
    assert not any("RoPE key too" in words for words in quantised.findings(rows))


def test_the_chart_has_a_line_a_model_and_a_mark_a_format():
    rows = [
        kept(None, 480, 2.276),
        kept("int8", 330, 2.276),
        kept("int4_all", 140, 2.318),
        kept(None, 2560, 2.17, latent=None, source="mha"),
    ]
    figure = quantised_figure(rows, dark=True)
    mla, mha = figure.data[:2]
    assert list(mla.x) == [480, 330, 140]
    assert list(mla.marker.symbol) == ["circle", "square", "triangle-up-open"]
    assert mla.text == ("MLA 32", "", "")
    assert mha.name == "MHA"
    assert mla.line.color == MECHANISMS["mla_absorbed"].colour.dark
    assert {trace.marker.symbol for trace in figure.data[2:]} == {*SYMBOLS.values()}
    assert quantised_numbers(rows)[2]["format"] == "int4 with the RoPE key"


@pytest.mark.parametrize("models", [quantised.FAMILY, quantised.SLIDERS])
def test_the_section_shows_every_committed_score_of_its_models(models):
    app = section(quantised.safe_section, Asked({}), {}, rounded=models)
    assert not app.exception
    (chart,) = app.get("plotly_chart")
    lines = [line for line in json.loads(chart.spec)["data"] if line.get("showlegend") is False]
    rows = [
        row
        for row in load_quantised().rows
        if (row.source == "trained") == (models == quantised.SLIDERS)
        and row.mechanism != "mla_expanded"
    ]
    assert sum(len(line["y"]) for line in lines) == len(rows)
    assert said(app)[0].startswith("- **int8**: ")


def test_committed_scores_are_of_every_format_and_compare_like_with_like():
    rows = load_quantised().rows
    groups = {(row.source, row.latent, row.mechanism) for row in rows}
    for group in groups:
        own = [row for row in rows if (row.source, row.latent, row.mechanism) == group]
        plain = next(row for row in own if row.format is None)
        assert plain.more == 0
        assert {row.format for row in own} >= {None, "int8", "fp8", "int4"}
        for row in own:
            assert row.nats_per_token - plain.nats_per_token == pytest.approx(row.more, abs=2e-5)
            assert row.cache_bytes_per_token <= plain.cache_bytes_per_token
