"""What quantised caches lose: the committed results against counts, the family and the docs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.cost import row_bytes
from mla_viz.findings.family import load_family
from mla_viz.findings.quantised import load_quantised, paired
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.model.sources import TRAINED, Shape, find_source
from tests.screens import ROOT

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


def test_the_table_of_the_docs_is_that_of_the_results():
    told = (ROOT / "docs/family.md").read_text(encoding="utf-8").splitlines()
    for row in FOUND.rows:
        drawn = row.source != TRAINED and row.mechanism != "mla_expanded"
        if not drawn or row.format in ("int8_all", "fp8_all"):
            continue
        label = load_family().member(row.source).label
        [line] = [x for x in told if x.startswith(f"| {label} | ") and ": +" in x]
        more = f"{row.more:+.4f} ± {row.error:.4f}".replace("-", "−")
        each = f"{row.cache_bytes_per_token:,}"
        assert f"| {each if row.format is None else f'{each}: {more}'} |" in line
