"""What every mechanism costs at each step: small multiples, a row each, one scale a column."""

from collections.abc import Callable, Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.run.costs import Costs
from mla_viz.words import Number, bytes_text, flops_text, micros_text

ROW_PX = 104
LABEL_PX = 36
CAMERA_PX = 24  # free above the titles, which it would cover on a phone
Text = Callable[[Number], str]
OTHERS = "rgba(138, 147, 163, 0.45)"
COLUMNS: dict[str, tuple[Callable[[Costs], list[Number]], Text]] = {
    "cached": (lambda costs: costs.cache_bytes.tolist(), bytes_text),
    "FLOPs a step": (lambda costs: costs.flops.tolist(), flops_text),
    "time a step": (lambda costs: costs.median_us.tolist(), micros_text),
}


def costs_figure(costs: Sequence[Costs], dark: bool) -> go.Figure:
    """Bytes, FLOPs and time of attention against tokens, the other mechanisms thin behind each.

    FLOPs and time are drawn on logarithmic scales, bytes on a linear one, since nothing is cached
    by some.
    """
    figure = make_subplots(
        rows=len(costs),
        cols=len(COLUMNS),
        shared_xaxes="all",
        column_titles=[f"<b>{title}</b>" for title in COLUMNS],
        horizontal_spacing=0.05,
        vertical_spacing=LABEL_PX / (ROW_PX * len(costs)),
    )
    figure.update_annotations(yshift=LABEL_PX, font={"size": 13})
    for column, (quantity, text) in enumerate(COLUMNS.values(), start=1):
        values = [quantity(each) for each in costs]
        for row, shown in enumerate(costs, start=1):
            others = [line for line in values if line is not values[row - 1]]
            for line in (_behind(others), _line(shown, values[row - 1], text, dark)):
                figure.add_trace(line, row=row, col=column)
            name = f"<b>{MECHANISMS[shown.mechanism].short}</b>" if column == 1 else ""
            label = f"{name}<br>{text(values[row - 1][-1])}"
            figure.add_annotation(_label(label, row, column, _colour(shown, dark)))
        _scale(figure, column, values)
    figure.update_xaxes(title_text="tokens", row=len(costs))
    figure.update_layout(
        height=90 + CAMERA_PX + ROW_PX * len(costs),
        margin={"l": 0, "r": 0, "t": 24 + CAMERA_PX + LABEL_PX, "b": 0},
        showlegend=False,
        hovermode="x",
    )
    return figure


def costs_numbers(costs: Sequence[Costs]) -> list[dict[str, Number | str]]:
    """The figure's numbers: a row a mechanism and step."""
    return [
        {
            "mechanism": each.mechanism,
            "tokens": step + 1,
            "cache_bytes": each.cache_bytes[step].item(),
            "flops": each.flops[step].item(),
            "median_us": each.median_us[step].item(),
        }
        for each in costs
        for step in range(len(each.flops))
    ]


def _label(text: str, row: int, column: int, colour: str) -> dict[str, Any]:
    """Above a panel, from its left edge."""
    number = (row - 1) * len(COLUMNS) + column
    x, y = ("x domain", "y domain") if number == 1 else (f"x{number} domain", f"y{number} domain")
    place = {"x": 0, "y": 1, "xref": x, "yref": y, "xanchor": "left", "yanchor": "bottom"}
    return place | {
        "text": text,
        "align": "left",
        "showarrow": False,
        "font": {"color": colour, "size": 13},
    }


def _colour(costs: Costs, dark: bool) -> str:
    return MECHANISMS[costs.mechanism].colour.ink(dark)


def _behind(others: list[list[Number]]) -> go.Scatter:
    """All other mechanisms in one trace, a gap between two."""
    return go.Scatter(
        x=[x for values in others for x in (*range(1, len(values) + 1), None)],
        y=[y for values in others for y in (*values, None)],
        mode="lines",
        line={"color": OTHERS, "width": 1},
        hoverinfo="skip",
    )


def _line(costs: Costs, values: list[Number], text: Text, dark: bool) -> go.Scatter:
    name = MECHANISMS[costs.mechanism].short
    return go.Scatter(
        x=[*range(1, len(values) + 1)],
        y=values,
        name=name,
        mode="lines",
        line={"color": _colour(costs, dark), "width": 3},
        customdata=[text(value) for value in values],
        hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
    )


def _scale(figure: go.Figure, column: int, quantities: list[list[Number]]) -> None:
    """One scale for a column: from nothing where something is nothing, otherwise logarithmic."""
    low, high = min(map(min, quantities)), max(map(max, quantities))
    linear = low <= 0
    span = [0, 1.08 * high or 1] if linear else [log10(low) - 0.1, log10(high) + 0.1]
    figure.update_yaxes(
        type="linear" if linear else "log", range=span, nticks=3, showticklabels=False, col=column
    )
