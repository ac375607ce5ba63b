"""What a cut of SmolLM2 loses: the committed results against one another, known ones, the docs."""

from itertools import groupby, pairwise
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from mla_viz.config import GQAGeometry
from mla_viz.cost import cache_elems
from mla_viz.figures.cuts import NAMES, cuts_figure, ranks_figure, ranks_numbers
from mla_viz.findings.cuts import load_cuts
from mla_viz.ui import cuts as ui_cuts
from mla_viz.ui.cuts import caption, pretrained_section, ranks_words, where_words
from tests.screens import ROOT, said, section, tables

FOUND = load_cuts()
PLAIN = {
    text: [row for row in rows if not row.pooled and row.rope is None]
    for text, rows in groupby(FOUND, lambda row: row.text)
}
DECOUPLED = {
    text: [row for row in rows if row.rope is not None]
    for text, rows in groupby(FOUND, lambda row: row.text)
}
SMOLLM2 = GQAGeometry(576, 9, 3, 64, 100_000.0)
LAYERS = 30


@pytest.mark.parametrize("text", PLAIN)
def test_at_full_width_nothing_is_lost_and_less_loses_more(text):
    whole, *cuts = PLAIN[text]
    assert whole.rank == cache_elems("gqa", SMOLLM2)
    assert (whole.kl, whole.agreement) == (0, 1)
    assert whole.perplexity == whole.own_perplexity
    for wider, narrower in pairwise([whole, *cuts]):
        assert wider.rank > narrower.rank
        assert wider.kl < narrower.kl
        assert wider.agreement > narrower.agreement
        assert wider.own_perplexity == narrower.own_perplexity


def test_pooled_ranks_take_the_same_bytes_and_lose_less():
    for row in FOUND:
        assert (row.ranks is not None) == row.pooled
        if row.pooled:
            (same,) = (each for each in PLAIN[row.text] if each.rank == row.rank)
            assert row.kl < same.kl
            assert len(row.ranks) == LAYERS
            assert sum(row.ranks) == LAYERS * row.rank


# KL, perplexity over the original's, and agreement of an earlier fit to other prose of the kind.
KNOWN = {320: (0.005, 1.0, 0.96), 256: (0.017, 1.01, 0.92), 192: (0.079, 1.06, 0.86)}


@pytest.mark.parametrize("rank", KNOWN)
def test_prose_loses_no_more_than_an_earlier_fit(rank):
    (row,) = (each for each in PLAIN["prose"] if each.rank == rank)
    kl, perplexity, agreement = KNOWN[rank]
    assert row.kl < kl + 2 * row.kl_error
    assert row.perplexity / row.own_perplexity < perplexity + 0.01
    assert row.agreement > agreement


@pytest.mark.parametrize("text", DECOUPLED)
def test_decoupled_it_is_exact_where_all_is_turned_and_loses_more_with_every_cut(text):
    whole, *cuts = DECOUPLED[text]
    keys = cache_elems("gqa", SMOLLM2) // 2
    assert (whole.rank, whole.rope) == (2 * keys, keys)
    assert (whole.kl, whole.agreement) == (0, 1)
    for wider, narrower in pairwise([whole, *cuts]):
        assert wider.rank >= narrower.rank
        assert wider.kl < narrower.kl
        assert wider.agreement > narrower.agreement
    for row in cuts:
        for same in PLAIN[text]:
            if same.rank == row.rank:
                assert row.kl > same.kl  # what can be absorbed costs more


# An earlier fit, by numbers cached a token; its 384 are what the turns alone cost.
KNOWN_DECOUPLED = {
    384: (0.096, 1.10, 0.86),
    320: (0.040, 1.03, 0.90),
    256: (0.202, 1.15, 0.79),
    192: (0.601, 1.73, 0.62),
    128: (1.53, 4.4, 0.41),
}


@pytest.mark.parametrize("rank", KNOWN_DECOUPLED)
def test_decoupled_prose_loses_less_than_an_earlier_fit(rank):
    row = next(row for row in DECOUPLED["prose"] if row.rank == rank and row.kl)
    kl, perplexity, agreement = KNOWN_DECOUPLED[rank]
    assert row.kl + 2 * row.kl_error < kl
    assert row.perplexity / row.own_perplexity < perplexity
    assert row.agreement > agreement


def test_the_table_of_the_docs_is_that_of_the_results():
    told = (ROOT / "docs" / "smollm2.md").read_text(encoding="utf-8").splitlines()
    for row in FOUND:
        kept = f"{row.rank} | {'pooled' if row.pooled else 'each'}"
        if row.rope is not None:
            kept = f"{row.rank - row.rope} | {row.rope} | {row.rank}"
        losses = f"{row.kl:.4f} ± {row.kl_error:.4f} | {row.perplexity:.2f} | {row.agreement:.1%}"
        assert f"| {row.text} | {kept} | {losses} |" in told


# On the Quality page.


def rows_of(text):
    return [row for row in FOUND if row.text == text]


@pytest.mark.parametrize("text", PLAIN)
@pytest.mark.parametrize("rank", [None, 200])
def test_the_figure_has_every_cut_against_its_bytes(text, rank):
    rows = rows_of(text)
    figure = cuts_figure(rows, rank, dark=False)
    names = [trace.name for trace in figure.data]
    assert names == [name for name in NAMES.values() for _ in range(3)]
    drawn = {
        (trace.name, int(x), float(y))
        for trace in figure.data
        for x, y in zip(trace.x, trace.y, strict=True)
    }
    for row in rows:
        at = NAMES[row.way], LAYERS * row.rank * 2
        assert {(*at, row.perplexity), (*at, row.agreement)} <= drawn
        assert ((*at, row.kl) in drawn) == (row.kl > 0)  # 0 is not on a logarithmic axis
    upright = [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1]
    assert set(upright) == ({LAYERS * 200 * 2} if rank else set())
    assert figure.data[0].error_y.array[-1] == PLAIN[text][-1].kl_error


def test_the_figure_of_ranks_has_each_layers_beside_what_all_keep_alike():
    pooled = [row for row in rows_of("prose") if row.pooled]
    figure = ranks_figure(rows_of("prose"), dark=False)
    assert [trace.y for trace in figure.data] == [row.ranks for row in pooled]
    assert all(trace.x == tuple(range(1, LAYERS + 1)) for trace in figure.data)
    assert [shape.y0 for shape in figure.layout.shapes] == [row.rank for row in pooled]
    numbers = ranks_numbers(rows_of("prose"))
    assert len(numbers) == LAYERS * len(pooled)
    row = pooled[len(pooled) // 2]
    layer = row.ranks.index(max(row.ranks)) + 1
    line = {"numbers_on_average": row.rank, "layer": layer, "numbers": max(row.ranks)}
    assert line in numbers
    assert f"layer {layer} {max(row.ranks)}." in ranks_words(rows_of("prose"))


def test_the_section_shows_chart_table_and_against_what(monkeypatch):
    monkeypatch.setenv("MLA_VIZ_CACHE", "/none")
    app = section(pretrained_section)
    assert not app.exception
    rows = rows_of("chat")
    (table,) = tables(app)
    assert [line["KL, nats a token"] for line in table] == [
        f"{row.kl:.4f} ± {row.kl_error:.4f}" for row in rows
    ]
    assert [line["bytes a token"] for line in table][:2] == ["23,040", "19,200"]
    assert "4-bit file" in app.caption[0].value
    assert "Fetched on the" in said(app)[-1]
    app.segmented_control(key="cut_text").set_value("prose").run()
    assert f"{rows_of('prose')[0].tokens:,} tokens" in app.caption[0].value


@pytest.mark.parametrize(
    ("source", "right", "rank"),
    [("smollm2", "gqa_latent", 200), ("smollm2", "gqa", None), ("trained", "mla_absorbed", None)],
)
def test_the_visitors_own_rank_is_marked_where_it_is_known(source, right, rank):
    shown = SimpleNamespace(source=source, right=right, latent=200)
    with patch.object(ui_cuts.st, "session_state", {"shown": (shown, b"")}):
        assert ui_cuts.rank_in_sight() == rank
    with patch.object(ui_cuts.st, "session_state", {}):
        assert ui_cuts.rank_in_sight() is None
    assert ("your cut on the Decode page, 200" in caption(rows_of("chat"), rank)) == bool(rank)


@pytest.mark.parametrize("there", [True, False])
def test_where_to_try_it(there):
    assert ("?source=smollm2" in where_words(there)) == there
