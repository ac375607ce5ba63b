"""A pretrained model's attention cut to a latent: what it loses on held-out text."""

import streamlit as st

from mla_viz.cost import cache_elems
from mla_viz.figures.cuts import (
    cuts_figure,
    cuts_numbers,
    numbers_words,
    ranks_figure,
    ranks_numbers,
)
from mla_viz.figures.table import table_html
from mla_viz.findings.cuts import DECOUPLED, EACH, POOLED, Cut, bytes_per_token, load_cuts
from mla_viz.mechanisms.table import CUT_MECHANISMS, MLA_MECHANISMS
from mla_viz.model.sources import pretrained_of
from mla_viz.pretrained.fetch import is_fetched
from mla_viz.pretrained.pins import SMOLLM2
from mla_viz.ui.chart import chart, is_dark

WAYS = {EACH: "each the same", POOLED: "pooled", DECOUPLED: "each the same, RoPE decoupled"}
KINDS = {"chat": "Questions and answers", "prose": "Technical prose", "stories": "Short stories"}


def pretrained_section() -> None:
    """The curve of one kind of text, its table, and where the visitor's own rank lies."""
    st.markdown(
        f"A real model of 135 million parameters: {SMOLLM2.label}. It caches keys and values of"
        " three heads, 384 numbers a token and layer; cut, it caches a latent of so many numbers,"
        " from which keys and values are made again; with RoPE decoupled it is MLA, whose latent"
        " can be absorbed. No weight was trained anew."
    )
    kind = st.segmented_control(
        "Held-out text",
        KINDS,
        default="chat",
        required=True,
        format_func=KINDS.get,
        key="cut_text",
    )
    rows, rank = [row for row in load_cuts() if row.text == kind], rank_in_sight()
    chart(cuts_figure(rows, rank, is_dark()), "cuts", cuts_numbers(rows), cuts_words(rows))
    st.caption(caption(rows, rank))
    st.html(table_html([_table_row(row) for row in rows]))
    st.markdown("**What each layer keeps where ranks are pooled**")
    chart(ranks_figure(rows, is_dark()), "pooled_ranks", ranks_numbers(rows), ranks_words(rows))
    st.caption(ranks_words(rows))
    st.markdown(where_words(is_fetched(SMOLLM2)))


def where_words(there: bool) -> str:
    """Where a visitor can try it."""
    if there:
        return "[Decode a prompt with it](/?source=smollm2), cut to any rank, beside the original."
    return "Fetched on the [Decode page](/), it answers there, cut to any rank."


def rank_in_sight() -> int | None:
    """The rank that the Decode page showed last, if it showed this model."""
    settings, _ = st.session_state.get("shown", (None, None))
    if settings is None or pretrained_of(getattr(settings, "source", "")) != SMOLLM2.name:
        return None
    if settings.right in MLA_MECHANISMS:
        return cache_elems(settings.right, settings.side("right").geometry.attention)
    return settings.latent if settings.right in CUT_MECHANISMS else None


def caption(rows: list[Cut], rank: int | None) -> str:
    """Against what, over what, and what the marks are."""
    own = rows[0]
    mark = f" The upright line is your cut on the Decode page, {rank}." if rank else ""
    return (
        f"Against the same weights uncut, which are those of a 4-bit file, multiplied out; over"
        f" {own.tokens:,} tokens that the bases were not fitted to, though of the same kind of"
        f" text. ± is the standard error of KL over windows. The dotted line is the original's"
        f" perplexity, {own.own_perplexity:.2f}. Uncut, KL is {own.kl:.4f}, which the logarithmic"
        f" axis does not show. Pooled, a layer keeps more the more its numbers matter, at the same"
        f" bytes in all. Decoupled, some of the numbers are"
        f" a key that RoPE turns for all heads, as in MLA; the others know no position.{mark}"
    )


def ranks_words(rows: list[Cut]) -> str:
    """How far layers differ in what they keep, at the cut whose mean is in the middle."""
    pooled = [row for row in rows if row.ranks]
    row = pooled[len(pooled) // 2]
    few, many = min(row.ranks), max(row.ranks)
    return (
        f"At {row.rank} numbers on average layer {row.ranks.index(few) + 1} keeps {few}, layer"
        f" {row.ranks.index(many) + 1} {many}. Dotted: all layers the same, as many bytes in all."
    )


def cuts_words(rows: list[Cut]) -> str:
    """The chart in words."""
    points = "; ".join(
        f"{bytes_per_token(row.rank):,} bytes, {row.way}: KL {row.kl:.4f},"
        f" perplexity {row.perplexity:.2f}, {row.agreement:.0%} the same"
        for row in rows
    )
    return f"Loss of a cut against cached bytes a token: {points}"


def _table_row(row: Cut) -> dict[str, str]:
    return {
        "numbers a token and layer": numbers_words(row),
        "layers": WAYS[row.way],
        "bytes a token": f"{bytes_per_token(row.rank):,}",
        "KL, nats a token": f"{row.kl:.4f} ± {row.kl_error:.4f}",
        "perplexity": f"{row.perplexity:.2f}",
        "same likeliest token": f"{row.agreement:.1%}",
    }
