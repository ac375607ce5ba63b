"""What a cache in fewer bits loses and saves: records to a Plotly figure.

Colour is the mechanism's, a line a model, with a gap before the caches whose RoPE key is rounded
too; the mark tells the format, and is open there.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from mla_viz.findings.family import load_family
from mla_viz.findings.quantised import TRAINED, Kept
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.words import signed_text

SYMBOLS = {None: "circle", "int8": "square", "fp8": "diamond", "int4": "triangle-up"}
SYMBOLS |= {f"{name}_all": f"{symbol}-open" for name, symbol in SYMBOLS.items() if name}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
NEUTRAL = "#8a93a3"
TICKS = (50, 100, 200, 400, 800, 1600, 3200, 6400, 12800)


def model_name(kept: Kept) -> str:
    """`MLA-32`; `latent 32, absorbed` of the model that the sliders cut."""
    if kept.source == TRAINED:
        return f"latent {kept.latent}, {MECHANISMS[kept.mechanism].short}"
    return load_family().member(kept.source).label


def format_name(name: str | None, dtype: str) -> str:
    """`int8`, `int4, RoPE key too`; the dtype of the model where a cache is in no format."""
    if name is None:
        return dtype
    return name.removesuffix("_all") + ("" if FORMATS[name].keep_rope else ", RoPE key too")


def quantised_figure(rows: Sequence[Kept], dtype: str, dark: bool) -> go.Figure:
    """Loss above the same model's unrounded cache, against its bytes a token; bars are errors."""
    models: dict[str, list[Kept]] = {}
    for row in rows:
        models.setdefault(model_name(row), []).append(row)
    figure = go.Figure()
    places = dict.fromkeys(MECHANISMS, 0)
    for name, kept in models.items():
        mechanism = kept[0].mechanism
        figure.add_trace(_series(name, kept, places[mechanism], dtype, dark))
        places[mechanism] += 1
    formats = [name for name in SYMBOLS if any(row.format == name for row in rows)]
    for name in formats:
        figure.add_trace(_key(format_name(name, dtype), SYMBOLS[name]))
    figure.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="bytes cached for a token, all layers", type="log", tickvals=TICKS)
    figure.update_yaxes(title="more loss than unrounded, nats/token")
    return figure.update_layout(
        height=460,
        margin={"l": 0, "r": 8, "t": 8, "b": 0},
        hovermode="closest",
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
    )


def _series(name: str, kept: list[Kept], place: int, dtype: str, dark: bool) -> go.Scatter:
    colour = MECHANISMS[kept[0].mechanism].colour
    ink = colour.dark if dark else colour.light
    spared = [row for row in kept if row.format is None or FORMATS[row.format].keep_rope]
    rounded = [row for row in kept if row not in spared]
    points: list[Kept | None] = [
        *_by_bytes(spared),
        *([None] if rounded else []),
        *_by_bytes(rounded),
    ]
    error = [row and row.error for row in points]
    return go.Scatter(
        x=[row and row.cache_bytes_per_token for row in points],
        y=[row and row.more for row in points],
        error_y={"type": "data", "array": error, "thickness": 1, "width": 3},
        mode="lines+markers",
        name=name,
        line={"color": ink, "width": 1.2, "dash": DASHES[place % len(DASHES)]},
        marker={
            "size": 10,
            "color": ink,
            "symbol": [SYMBOLS[row and row.format] for row in points],
        },
        text=[row and _hover(name, row, dtype) for row in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _by_bytes(rows: list[Kept]) -> list[Kept]:
    return sorted(rows, key=lambda row: -row.cache_bytes_per_token)


def _hover(name: str, row: Kept, dtype: str) -> str:
    return (
        f"<b>{name}</b>, {format_name(row.format, dtype)}<br>"
        f"{row.cache_bytes_per_token:,} bytes a token, {row.nats_per_token:.4f} nats/token<br>"
        f"{signed_text(row.more, 4)} ± {row.error:.4f}"
    )


def _key(name: str, symbol: str) -> go.Scatter:
    """A line of the legend that tells a mark."""
    marker = {"size": 10, "color": NEUTRAL, "symbol": symbol}
    return go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)


def quantised_numbers(rows: Sequence[Kept], dtype: str) -> list[dict[str, object]]:
    """The chart's numbers, a row a point."""
    return [
        {
            "model": model_name(row),
            "mechanism": row.mechanism,
            "cache_dtype": row.format or dtype,
            "cache_bytes_per_token": row.cache_bytes_per_token,
            "nats_per_token": row.nats_per_token,
            "bits_per_byte": row.bits_per_byte,
            "more_nats_per_token": row.more,
            "standard_error": row.error,
        }
        for row in rows
    ]
