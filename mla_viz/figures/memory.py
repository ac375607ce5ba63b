"""A cache's bytes: records to Plotly figures and to the formula's lines in HTML.

Colour is the mechanism's, as everywhere; dashes and marks tell models of one mechanism apart.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from math import ceil, log

import plotly.graph_objects as go

from mla_viz.findings.fits import Fit
from mla_viz.findings.memory import OWN_EXPANDED, Factors, Memory
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.published.layers import COMPRESSED, KEYS, LATENT, CachedModel, cache_bytes
from mla_viz.words import Number, bytes_text, count_text, decimal_bytes_text

HEIGHT = 460
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = (
    "circle",
    "square-open",
    "diamond",
    "triangle-up-open",
    "star",
    "cross-open",
    "x",
    "pentagon",
    "hexagon-open",
)
NEUTRAL = "#8a93a3"  # of what is no mechanism of the table: a state
DECIMAL, BINARY = "kB, MB, GB", "KiB, MiB, GiB"
UNITS: dict[str, Callable[[Number], str]] = {DECIMAL: decimal_bytes_text, BINARY: bytes_text}
TICKS = 7  # at most so many on the axis of bytes


@dataclass(frozen=True)
class Line:
    """A model as a line of the chart; `place` is its place among those beside it."""

    label: str
    model: CachedModel
    place: int

    def colour(self, dark: bool) -> str:
        """The colour of what it caches."""
        if self.label == OWN_EXPANDED:
            return MECHANISMS["mla_expanded"].colour.ink(dark)
        return cache_colour(self.model, dark)

    @property
    def dash(self) -> str:
        """The first of a chart is solid."""
        return DASHES[self.place % len(DASHES)]

    @property
    def symbol(self) -> str:
        """The mark at the chosen place."""
        return SYMBOLS[self.place % len(SYMBOLS)]


def cache_colour(model: CachedModel, dark: bool) -> str:
    """The colour of the mechanism whose cache a model has; grey where it has a state alone."""
    mechanism = _mechanism(model)
    return NEUTRAL if mechanism is None else MECHANISMS[mechanism].colour.ink(dark)


def _mechanism(model: CachedModel) -> str | None:
    parts = {part.part for part in model.kept}
    if LATENT in parts:
        return "mla_absorbed"
    heads = max((part.vectors for part in model.kept if part.part == KEYS), default=0)
    if heads:
        return {model.n_heads: "mha", 1: "mqa"}.get(heads, "gqa")
    return "mqa" if COMPRESSED in parts else None


def contexts(chosen: int, log_scale: bool) -> list[int]:
    """Where the curves are counted: four to a doubling, or evenly up to twice what is chosen."""
    if not log_scale:
        return sorted({max(1, round(chosen * i / 32)) for i in range(65)} | {chosen})
    last = max(20, ceil(log(chosen, 2)) + 1)
    return sorted({round(2 ** (i / 4)) for i in range(4 * 6, 4 * last + 1)} | {chosen})


def memory_numbers(
    lines: Sequence[Line], at: Sequence[int], batch: int, cache_dtype: str, page: int
) -> list[dict[str, object]]:
    """The chart's numbers: a row a model and context. Equal parts of layers are counted once."""
    parts = {line.label: Counter(line.model.kept) for line in lines}
    return [
        {
            "model": label,
            "context": context,
            "batch": batch,
            "cache_dtype": cache_dtype,
            "bytes": batch
            * sum(
                count * cache_bytes([part], context, cache_dtype, page)
                for part, count in kept.items()
            ),
        }
        for label, kept in parts.items()
        for context in at
    ]


def memory_figure(
    lines: Sequence[Line],
    numbers: Sequence[dict[str, object]],
    chosen: int,
    log_scale: bool,
    unit: str,
    dark: bool,
) -> go.Figure:
    """Bytes of all sequences against the tokens of each, a mark at the chosen context."""
    figure = go.Figure()
    for line in lines:
        points = {n["context"]: n["bytes"] for n in numbers if n["model"] == line.label}
        figure.add_trace(_curve(line, points, chosen, unit, dark))
    figure.add_vline(x=chosen, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    kind = "log" if log_scale else "linear"
    figure.update_xaxes(
        title="tokens of each sequence", type=kind, **_token_ticks(numbers, log_scale)
    )
    values = [n["bytes"] for n in numbers if n["bytes"]]
    ticks = byte_ticks(min(values, default=1), max(values, default=1), log_scale, unit)
    figure.update_yaxes(
        title="bytes of all sequences",
        type=kind,
        tickvals=ticks,
        ticktext=[UNITS[unit](tick) for tick in ticks],
        rangemode="tozero" if not log_scale else "normal",
    )
    return figure.update_layout(**_layout())


def _layout() -> dict[str, object]:
    return {
        "height": HEIGHT,
        "margin": {"l": 0, "r": 8, "t": 48, "b": 0},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": True,
    }


def _curve(line: Line, points: dict[int, int], chosen: int, unit: str, dark: bool) -> go.Scatter:
    text = UNITS[unit]
    return go.Scatter(
        x=list(points),
        y=[size or None for size in points.values()],
        name=line.label,
        mode="lines+markers",
        line={"color": line.colour(dark), "width": 4 - line.place % 4 * 0.6, "dash": line.dash},
        marker={
            "symbol": line.symbol,
            "size": [12 if context == chosen else 0 for context in points],
            "opacity": [float(context == chosen) for context in points],
            "line": {"width": 2, "color": line.colour(dark)},
        },
        customdata=[f"{text(size)} at {count_text(c, 'token')}" for c, size in points.items()],
        hovertemplate=f"{escape(line.label)}: %{{customdata}}<extra></extra>",
    )


def _token_ticks(numbers: Sequence[dict[str, object]], log_scale: bool) -> dict[str, object]:
    if not log_scale:
        return {"rangemode": "tozero", "tickformat": ","}
    ticks = [2**i for i in range(6, 31, 2) if 2**i <= max(n["context"] for n in numbers)]
    return {"tickvals": ticks, "ticktext": [short_tokens(tick) for tick in ticks]}


def short_tokens(tokens: int) -> str:
    """`256`, `4k`, `1M`: k is 1,024 here, as contexts are named."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "k")):
        if tokens >= size:
            return f"{tokens // size}{unit}"
    return f"{tokens}"


def byte_ticks(low: Number, high: Number, log_scale: bool, unit: str) -> list[Number]:
    """Round amounts between the two: powers of ten, or of two, or even steps of such."""
    base, steps = (2, (1, 2)) if unit == BINARY else (10, (1, 2, 5))
    if not log_scale:
        size = next(
            step * base**power
            for power in range(80)
            for step in steps
            if high <= TICKS * step * base**power
        )
        return [size * i for i in range(int(high // size) + 1)]
    first, last = (round(log(x, base), 9) for x in (low, high))
    stride = max(1, ceil((last - first) / TICKS))
    return [base**power for power in range(ceil(first), int(last) + 1) if power % stride == 0]


def fits_figure(
    lines: Sequence[Line], fits: Sequence[Sequence[Fit]], chosen: int, dark: bool
) -> go.Figure:
    """Sequences that fit against accelerators; nothing is drawn where the weights do not."""
    figure = go.Figure()
    for line, row in zip(lines, fits, strict=True):
        figure.add_trace(
            go.Scatter(
                x=[fit.ranks for fit in row],
                y=[fit.sequences or None for fit in row],
                name=line.label,
                mode="lines+markers",
                line={"color": line.colour(dark), "width": 2.5, "dash": line.dash},
                marker={"symbol": line.symbol, "size": 9},
                hovertemplate=f"{escape(line.label)}: %{{y:,}} sequences on %{{x}}<extra></extra>",
            )
        )
    figure.add_vline(x=chosen, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    ranks = sorted({fit.ranks for row in fits for fit in row})
    figure.update_xaxes(
        title="accelerators", type="log", tickvals=ranks, ticktext=[*map(str, ranks)]
    )
    figure.update_yaxes(title="sequences that fit", type="log", tickformat=",", dtick="D2")
    return figure.update_layout(**_layout())


def fits_numbers(found: Mapping[str, Sequence[Fit]]) -> list[dict[str, object]]:
    """The chart's numbers: a row a model and number of accelerators."""
    return [{"model": name} | asdict(fit) for name, row in found.items() for fit in row]


def formula_html(memory: Memory, largest: int, colour: str, unit: str) -> str:
    """The product behind each part, factor by factor, its bytes as a bar on one scale."""
    rows = "".join(_product(factors, memory, largest, colour, unit) for factors in memory.factors)
    return f"<div class='mla-formula'>{rows}</div>"


def product_text(factors: Factors, context: int) -> str:
    """`61 layers × 1 sequence × 100,000 tokens × 512 values × 2 bytes`."""
    rows = count_text(factors.rows, "token" if factors.rows <= context else "row")
    values = f"{factors.width:,} values"
    if factors.vectors > 1:
        values = f"{count_text(factors.vectors, 'head')} × {values}"
    size, rest = divmod(factors.row_bytes, factors.vectors * factors.width)
    sized = f"{values} in {factors.row_bytes:,} bytes with scales"
    return " × ".join(
        (
            count_text(factors.layers, "layer"),
            count_text(factors.sequences, "sequence"),
            *([] if factors.rows == 1 and not factors.grows else [rows]),
            *([sized] if rest else [values, count_text(size, "byte")]),
        )
    )


def _product(factors: Factors, memory: Memory, largest: int, colour: str, unit: str) -> str:
    width = 100 * factors.bytes / largest if largest else 0
    return (
        f"<div style='margin:0.35rem 0'><div><b>{escape(factors.part)}</b> "
        f"{product_text(factors, memory.context)} = <b>{UNITS[unit](factors.bytes)}</b></div>"
        f"<div style='height:10px;width:max(2px,{width:.4f}%);background:{colour}'></div></div>"
    )
