"""Is a smaller latent safe? What the shipped models lose with their caches in fewer bits."""

from collections.abc import Iterator

import streamlit as st

from mla_viz.figures.quantised import format_name, quantised_figure, quantised_numbers
from mla_viz.findings.memory import Memory
from mla_viz.findings.quantised import Kept, Quantised, load_quantised
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.memory.asked import Asked
from mla_viz.words import count_text, loss_text, signed_text

SLIDERS, FAMILY = "The sliders' model", "The family"


def safe_section(_: Asked, __: dict[str, Memory]) -> None:
    """Loss against bytes a token, and what it shows."""
    found = load_quantised()
    which = st.segmented_control(
        "Models",
        (FAMILY, SLIDERS),
        default=FAMILY,
        required=True,
        key="rounded",
        bind="query-params",
    )
    rows = [row for row in found.rows if (row.source == "trained") == (which == SLIDERS)]
    shown = [row for row in rows if row.mechanism != "mla_expanded"]
    st.markdown("\n".join(f"- {sentence}" for sentence in findings(rows)))
    numbers = quantised_numbers(shown)
    told = ", ".join(
        f"{n['model']} {n['format']} {n['cache_bytes_per_token']}: {n['nats_per_token']:.3f}"
        for n in numbers
    )
    alt = f"Bytes cached a token, and loss in nats per token: {told}"
    chart(quantised_figure(shown, is_dark()), "quantised", numbers, alt)
    st.caption(protocol(found))


def protocol(found: Quantised) -> str:
    """What was run, and what the names mean."""
    ways = "; ".join(kept.about for kept in FORMATS.values() if kept.keep_rope)
    return (
        f"Run, not estimated: every model in {found.dtype} on {found.stories} stories"
        f" that none had read ({found.tokens:,} tokens), its cache written and read in each"
        f" format; bytes are the tensors' own, scales included. {ways}. MLA's RoPE key stays as it"
        " is, unless “with the RoPE key” is said. Small models of children's stories: no evidence"
        " about models a thousand times larger. `evaluate --cache-dtype` scores one, and the Decode"
        " page has it under More."
    )


def findings(rows: list[Kept]) -> Iterator[str]:
    """What the rows show, each a sentence of Markdown with its numbers."""
    for name, kept in FORMATS.items():
        those = [row for row in rows if row.format == name]
        if those and kept.keep_rope:
            yield f"**{name}**: {_losses(those)}"
    for name, kept in FORMATS.items():
        if kept.keep_rope:
            pairs = [(row, _beside(row, f"{name}_all", rows)) for row in rows if row.format == name]
            both = [(row, other) for row, other in pairs if other is not None]
            if both and all(other.more > row.more for row, other in both):
                low, high = _span([other.more - row.more for row, other in both])
                yield f"**{name} for the RoPE key too** costs {low} to {high} nats/token more."
    yield from _larger_and_rounded(rows)


def _losses(rows: list[Kept]) -> str:
    """How many lose something that can be told, and how much."""
    lost = [row for row in rows if row.difference.measurable and row.more > 0]
    if not lost:
        return f"none of {count_text(len(rows), 'cache')} loses anything that can be told."
    low, high = _span([row.more for row in lost])
    spread = f"{high} nats/token" if low == high else f"{low} to {high} nats/token"
    some = "loses" if len(lost) == 1 else "lose"
    of = f"{len(lost)} of {count_text(len(rows), 'cache')}"
    return f"{of} {some} something that can be told, {spread}."


def _span(values: list[float]) -> tuple[str, str]:
    return signed_text(min(values), 4), signed_text(max(values), 4)


def _beside(row: Kept, name: str, rows: list[Kept]) -> Kept | None:
    """The same model and mechanism in another format."""
    key = (row.source, row.latent, row.mechanism)
    return next(
        (r for r in rows if r.format == name and key == (r.source, r.latent, r.mechanism)), None
    )


def _larger_and_rounded(rows: list[Kept]) -> Iterator[str]:
    """Where a larger latent in fewer bits loses less than a smaller one in 16, at no more bytes.

    Of the smaller ones that the same cache beats, the best one is named.
    """
    latents = [row for row in rows if row.mechanism == "mla_absorbed"]
    beaten: dict[Kept, Kept] = {}
    for plain in sorted((r for r in latents if r.format is None), key=lambda r: -r.nats_per_token):
        within = [
            row
            for row in latents
            if row.latent > plain.latent
            and row.cache_bytes_per_token <= plain.cache_bytes_per_token
            and row.nats_per_token < plain.nats_per_token
        ]
        if within:
            beaten[min(within, key=lambda row: row.nats_per_token)] = plain
    for best, plain in beaten.items():
        yield (
            f"**A latent of {best.latent} in {format_name(best)}** takes"
            f" {best.cache_bytes_per_token} bytes a token and loses"
            f" {loss_text(best.nats_per_token)} nats; one of {plain.latent} in 16 bits takes"
            f" {plain.cache_bytes_per_token} and loses {loss_text(plain.nats_per_token)}."
        )
