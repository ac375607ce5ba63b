"""What rounding a cache costs: records to a Plotly figure."""

from collections.abc import Sequence
from itertools import groupby

import plotly.graph_objects as go

from mla_viz.findings.quantised import Kept
from mla_viz.mechanisms.table import MECHANISMS

PLAIN = "16 bits"
TICKS = [100, 200, 500, 1000, 2000, 5000]
SYMBOLS = {
    PLAIN: "circle",
    "int8": "square",
    "int8_all": "square-open",
    "fp8": "diamond",
    "fp8_all": "diamond-open",
    "int4": "triangle-up",
    "int4_all": "triangle-up-open",
}


def model_name(row: Kept) -> str:
    """`MHA`, `MLA 32`, `MLA 32 wide`."""
    if row.latent is None:
        return MECHANISMS[row.mechanism].short
    return f"MLA {row.latent}" + (" wide" if row.source.endswith("wide") else "")


def format_name(row: Kept) -> str:
    """`int8`, `int8 with the RoPE key`, `16 bits`."""
    if row.format is None:
        return PLAIN
    return row.format.replace("_all", " with the RoPE key")


def quantised_numbers(rows: Sequence[Kept]) -> list[dict[str, object]]:
    """The chart's numbers: a row a model and format."""
    return [
        {
            "model": model_name(row),
            "mechanism": row.mechanism,
            "format": format_name(row),
            "cache_bytes_per_token": row.cache_bytes_per_token,
            "nats_per_token": row.nats_per_token,
            "more": row.more,
            "standard_error": row.error,
        }
        for row in rows
    ]


def quantised_figure(rows: Sequence[Kept], dark: bool) -> go.Figure:
    """Loss against bytes a token: a line a model, a mark a format, hollow with the RoPE key."""
    figure = go.Figure()
    for _, group in groupby(rows, key=lambda row: (row.source, row.latent, row.mechanism)):
        figure.add_trace(_line(sorted(group, key=lambda row: -row.cache_bytes_per_token), dark))
    for name, symbol in SYMBOLS.items():
        figure.add_trace(_key(name, symbol))
    figure.update_xaxes(title="bytes cached for a token, all layers", type="log", tickvals=TICKS)
    figure.update_yaxes(title="loss on held-out stories, nats/token")
    return figure.update_layout(
        height=480,
        margin={"l": 0, "r": 40, "t": 60, "b": 0},
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )


def _line(rows: Sequence[Kept], dark: bool) -> go.Scatter:
    colour = MECHANISMS[rows[0].mechanism].colour
    ink = colour.dark if dark else colour.light
    name, wide = model_name(rows[0]), rows[0].source.endswith("wide")
    labelled = rows[-1] if wide else rows[0]  # its right end lies on that of the same latent
    return go.Scatter(
        x=[row.cache_bytes_per_token for row in rows],
        y=[row.nats_per_token for row in rows],
        mode="lines+markers+text",
        line={"color": ink, "width": 1, "dash": "dot"},
        marker={
            "symbol": [SYMBOLS[row.format or PLAIN] for row in rows],
            "size": 11,
            "color": ink,
            "line": {"width": 2, "color": ink},
        },
        text=[name if row is labelled else "" for row in rows],
        textposition="middle left" if wide else "middle right",
        textfont={"size": 13, "color": ink},
        cliponaxis=False,
        name=name,
        showlegend=False,
        customdata=[[format_name(row), row.more, row.error] for row in rows],
        hovertemplate=(
            f"{name}, %{{customdata[0]}}<br>%{{x}} bytes a token, %{{y:.4f}} nats/token"
            "<br>%{customdata[1]:+.4f} ± %{customdata[2]:.4f}<extra></extra>"
        ),
    )


def _key(name: str, symbol: str) -> go.Scatter:
    """A mark's entry in the legend."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"symbol": symbol, "size": 10, "color": "#8a93a3", "line": {"width": 2}},
        name=name.replace("_all", " with the RoPE key"),
    )
