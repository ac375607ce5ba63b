"""Is a smaller latent safe, and fewer bits: what quantised caches lost when they were run."""

from collections.abc import Iterable, Sequence

import streamlit as st

from mla_viz.figures.quantised import (
    format_name,
    model_name,
    quantised_figure,
    quantised_numbers,
)
from mla_viz.findings.quantised import SIGMAS, Kept, load_quantised
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.ui.chart import chart
from mla_viz.ui.quality import is_dark
from mla_viz.words import count_text, loss_text, signed_text

FAMILY = "Eight models of one budget"
BOTH = "One model: its latent, or the keys and values made of it"


def safe_section() -> None:
    """The chart of all that was measured, and what it says."""
    found = load_quantised()
    drawn = st.segmented_control(
        "Caches", (FAMILY, BOTH), default=FAMILY, required=True, key="caches", bind="query-params"
    )
    rows = found.family() if drawn == FAMILY else found.both_ways()
    words = [format_words(rows, found.dtype), rope_words(rows), latent_words(rows, found.dtype)]
    st.markdown("\n".join(f"- {each}" for each in words if each))
    figure = quantised_figure(rows, found.dtype, is_dark())
    chart(
        figure, "quantised", quantised_numbers(rows, found.dtype), format_words(rows, found.dtype)
    )
    st.caption(
        f"Run, not estimated: {found.stories} held-out stories, {found.tokens:,} tokens, models in"
        f" {found.dtype}. Bytes are those of the tensors, scales included. Bars are one standard"
        f" error of the difference, story by story; less than {SIGMAS} of them is no measurable"
        " loss. Small models of short stories: no evidence about large ones."
        " `evaluate --dtype bfloat16 --cache-dtype int8` measures any of them again."
    )


def in_format(rows: Iterable[Kept], name: str | None) -> list[Kept]:
    """The rows of one format."""
    return [row for row in rows if row.format == name]


def format_words(rows: Sequence[Kept], dtype: str) -> str:
    """What each format costs at most, and in how many models it costs what can be measured."""
    told = []
    for name in FORMATS:
        kept = in_format(rows, name)
        if kept:
            worst = max(kept, key=lambda row: row.more)
            lose = sum(row.difference.measurable and row.more > 0 for row in kept)
            told.append(
                f"{format_name(name, dtype)}: {lose} of {len(kept)}, at most"
                f" {signed_text(worst.more, 4)} ({model_name(worst)})"
            )
    return f"Caches that lose measurably, in nats/token above {dtype}: {'; '.join(told)}."


def rope_words(rows: Sequence[Kept]) -> str | None:
    """Whether it is the RoPE key that must not be rounded; None where none has one of its own."""
    by_model = {(row.source, row.latent, row.mechanism, row.format): row for row in rows}
    pairs = [
        (by_model[(*model, "int4")], row)
        for (*model, name), row in by_model.items()
        if name == "int4_all"
    ]
    if not pairs:
        return None
    spared, rounded = max(pairs, key=lambda pair: pair[1].more - pair[0].more)
    worse = sum(other.more > 2 * one.more for one, other in pairs)
    return (
        f"Rounding the RoPE key too more than doubles what int4 loses in {worse} of"
        f" {count_text(len(pairs), 'cache')}: in {model_name(rounded)}"
        f" {signed_text(spared.more, 3)} with the key as it is,"
        f" {signed_text(rounded.more, 3)} with it rounded."
    )


def latent_words(rows: Sequence[Kept], dtype: str) -> str | None:
    """A wide latent in few bits against a narrow one in many: who loses less in no more bytes."""
    latents = [row for row in rows if row.latent and row.mechanism != "mla_expanded"]
    wide = max(in_format(latents, "int4"), key=_width, default=None)
    if wide is None:
        return None
    narrow = [
        row
        for row in in_format(latents, None)
        if row.heads == wide.heads and (row.latent or 0) < (wide.latent or 0)
    ]
    beside = min(narrow, key=lambda row: abs(_bytes(row) - _bytes(wide)), default=None)
    if beside is None:
        return None
    wins = wide.nats_per_token < beside.nats_per_token
    less = "the wide latent in few bits" if wins else "the smaller latent"
    return (
        f"Fewer bits or a smaller latent? {model_name(wide)} in int4 takes"
        f" {wide.cache_bytes_per_token:,} bytes a token and loses {loss_text(wide.nats_per_token)}"
        f" nats/token; {model_name(beside)} in {dtype} takes {beside.cache_bytes_per_token:,} and"
        f" loses {loss_text(beside.nats_per_token)}. Less is lost with {less}."
    )


def _width(row: Kept) -> int:
    return row.latent or 0


def _bytes(row: Kept) -> int:
    return row.cache_bytes_per_token
