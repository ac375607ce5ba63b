"""What a cut of SmolLM2 loses: the committed results against one another, known ones, the docs."""

from itertools import groupby, pairwise

import pytest

from mla_viz.config import GQAGeometry
from mla_viz.cost import cache_elems
from mla_viz.findings.cuts import load_cuts
from tests.screens import ROOT

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
