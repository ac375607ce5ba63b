"""Measured times and counted limits: records to Plotly figures, each with its sheet of numbers.

What was measured is a mark with its spread, what was counted a thin dotted line or an open mark.
Colour and mark are the mechanism's.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor, log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mla_viz.figures.memory import NEUTRAL, short_tokens
from mla_viz.findings.measured import Peer, Point, QueryPoint
from mla_viz.findings.speed import COUNTED, Rates
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.words import Number, decimal_bytes_text, flops_text, micros_text, number_text

HEIGHT = 440
SYMBOLS = dict(
    zip(
        COUNTED,
        ("circle", "triangle-up", "diamond", "star", "square", "pentagon", "x"),
        strict=True,
    )
)
# Below, since on a phone it takes several lines, which the camera would cover at the top.
LEGEND = {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}
Text = Callable[[Number], str]


def layout(height: int = HEIGHT) -> dict[str, object]:
    """What all charts of the page share."""
    return {
        "height": height,
        "margin": {"l": 0, "r": 8, "t": 32, "b": 0},
        "hovermode": "closest",
        "legend": LEGEND,
        "showlegend": True,
    }


def log_axis(values: Iterable[Number], text: Text, title: str) -> dict[str, object]:
    """A logarithmic axis that holds these values, with round amounts as ticks."""
    drawn = [value for value in values if value] or [1, 10]
    low, high = log10(min(drawn)), log10(max(drawn))
    steps = (1,) if high - low > 2.5 else (1, 2, 5)
    ticks = [step * 10.0**p for p in range(floor(low) - 1, ceil(high) + 1) for step in steps]
    room = 0.04 * (high - low) + 0.08
    return {
        "title": title,
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": ticks,
        "ticktext": [_WHOLE.sub("", text(tick)) for tick in ticks],
    }


_WHOLE = re.compile(r"\.0+(?!\d)")  # `10.0 ms` is `10 ms` on an axis


def token_axis(tokens: Iterable[int], title: str = "tokens of context") -> dict[str, object]:
    """A logarithmic axis of tokens with powers of two as ticks: `1k` is 1,024."""
    drawn = list(tokens)
    ticks = [2**i for i in range(31) if min(drawn) <= 2**i <= max(drawn)]
    ticks = ticks[:: max(1, round(len(ticks) / 8))] or drawn[:1]
    return {
        "title": title,
        "type": "log",
        "tickvals": ticks,
        "ticktext": [short_tokens(tick) for tick in ticks],
    }


def label_of(mechanism: str) -> str:
    """What a mechanism is called in a legend."""
    return MECHANISMS[mechanism].short


def _spread(rows: Sequence[Point | QueryPoint | Peer], colour: str) -> dict[str, object]:
    """Bars from the quickest to the slowest repetition."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [row.slowest_us - row.time_us for row in rows],
        "arrayminus": [row.time_us - row.quickest_us for row in rows],
        "color": colour,
        "thickness": 1.2,
        "width": 4,
    }


def measured_trace(
    x: Sequence[int], rows: Sequence[Point | QueryPoint], mechanism: str, dark: bool
) -> go.Scatter:
    """Medians as marks joined by a line, with their spread."""
    colour, name = MECHANISMS[mechanism].colour.ink(dark), label_of(mechanism)
    return go.Scatter(
        x=list(x),
        y=[row.time_us for row in rows],
        error_y=_spread(rows, colour),
        name=name,
        legendgroup=mechanism,
        mode="lines+markers",
        line={"color": colour, "width": 1.6},
        marker={"symbol": SYMBOLS[mechanism], "size": 9},
        customdata=[
            f"{micros_text(row.time_us)} ({micros_text(row.quickest_us)} to"
            f" {micros_text(row.slowest_us)}, n={row.repeats}),"
            f" limit {micros_text(row.limit_us)}"
            for row in rows
        ],
        hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
    )


def limit_trace(
    x: Sequence[int], y: Sequence[Number], mechanism: str, dark: bool, text: Text = micros_text
) -> go.Scatter:
    """A counted limit: thin, dotted, not in the legend."""
    return go.Scatter(
        x=list(x),
        y=list(y),
        name=f"{label_of(mechanism)}: counted",
        legendgroup=mechanism,
        showlegend=False,
        mode="lines",
        line={"color": MECHANISMS[mechanism].colour.ink(dark), "width": 1.2, "dash": "dot"},
        customdata=[text(value) for value in y],
        hovertemplate=f"{label_of(mechanism)}, counted: %{{customdata}}<extra></extra>",
    )


def time_figure(points: Sequence[Point], chosen: int, dark: bool) -> go.Figure:
    """Time of a step against context, every mechanism with its limit; a line at what is chosen."""
    figure = go.Figure()
    for mechanism in dict.fromkeys(point.mechanism for point in points):
        rows = [point for point in points if point.mechanism == mechanism]
        at = [row.context for row in rows]
        figure.add_trace(limit_trace(at, [row.limit_us for row in rows], mechanism, dark))
        figure.add_trace(measured_trace(at, rows, mechanism, dark))
    figure.add_vline(x=chosen, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    figure.update_xaxes(**token_axis(point.context for point in points))
    every = [y for p in points for y in (p.quickest_us, p.slowest_us, p.limit_us)]
    figure.update_yaxes(**log_axis(every, micros_text, "time of a step"))
    return figure.update_layout(**layout())


def rows_of(points: Sequence[Point | QueryPoint | Peer]) -> list[dict[str, object]]:
    """The measured numbers as they stand in the record."""
    return [asdict(point) for point in points]


@dataclass(frozen=True)
class Mark:
    """A mechanism on a roofline: FLOPs a byte, and FLOPs a second if the limit were reached.

    `measured` are those that were; None where nothing was timed.
    """

    mechanism: str
    intensity: float
    limit: float
    measured: float | None = None


def roofline_figure(rates: Rates, marks: Sequence[Mark], dark: bool) -> go.Figure:
    """FLOPs a second against FLOPs a byte: the roof, its ridge, and where each mechanism stands."""
    figure = go.Figure()
    wide = [rates.balance, *(mark.intensity for mark in marks)]
    left, right = min(wide) / 3, max(wide) * 3
    roof = [left * rates.bytes_per_second, rates.flops_per_second, rates.flops_per_second]
    figure.add_trace(
        go.Scatter(
            x=[left, rates.balance, right],
            y=roof,
            name="what the machine allows",
            mode="lines",
            line={"color": NEUTRAL, "width": 2.5},
            hoverinfo="skip",
        )
    )
    for mark in marks:
        for trace in _on_roof(mark, dark):
            figure.add_trace(trace)
    figure.add_vline(x=rates.balance, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    text = f"ridge: {number_text(rates.balance)} FLOP a byte"
    figure.add_annotation(_beside_line(rates.balance, text))
    figure.update_xaxes(**log_axis([left, right], number_text, "FLOP for each byte that moves"))
    reached = [y for mark in marks for y in (mark.limit, mark.measured) if y]
    rate = lambda flops: f"{flops_text(flops)}/s"  # noqa: E731
    figure.update_yaxes(**log_axis([*roof[1:], *reached], rate, "products a second"))
    return figure.update_layout(**layout())


def _beside_line(x: float, text: str) -> dict[str, object]:
    """What stands at the top of a line, left of it, where these charts are empty."""
    place = {"x": log10(x), "y": 1, "yref": "paper", "xanchor": "right", "xshift": -6}
    return place | {"yanchor": "top", "text": text, "showarrow": False}


def _on_roof(mark: Mark, dark: bool) -> Iterable[go.Scatter]:
    """An open mark on the roof, and where it was timed a filled one below it, joined to it."""
    colour, name = MECHANISMS[mark.mechanism].colour.ink(dark), label_of(mark.mechanism)
    symbol = SYMBOLS[mark.mechanism]
    said = f"{name}: {number_text(mark.intensity)} FLOP a byte"
    shared = {"legendgroup": mark.mechanism, "mode": "markers"}
    counted = f"{said}, counted limit {flops_text(mark.limit)}/s<extra></extra>"
    open_mark = {"symbol": f"{symbol}-open", "size": 12, "color": colour, "line": {"width": 2}}
    alone = mark.measured is None
    yield go.Scatter(
        x=[mark.intensity],
        y=[mark.limit],
        name=name,
        showlegend=alone,
        marker=open_mark,
        hovertemplate=counted,
        **shared,
    )
    if not alone:
        share = f"{mark.measured / mark.limit:.0%} of its limit"
        yield go.Scatter(
            x=[mark.intensity] * 2,
            y=[mark.limit, mark.measured],
            name=name,
            legendgroup=mark.mechanism,
            mode="lines+markers",
            line={"color": colour, "width": 1},
            marker={"symbol": symbol, "size": [0, 11], "opacity": [0, 1]},
            hovertemplate=f"{said}, measured {flops_text(mark.measured)}/s, {share}<extra></extra>",
        )


def queries_figure(
    limits: Mapping[str, Sequence[tuple[int, Number]]],
    points: Sequence[QueryPoint],
    crossing: float | None,
    chosen: int,
    dark: bool,
) -> go.Figure:
    """Time of several query tokens, absorbed and rebuilt: lines counted, marks measured.

    `limits` are (query tokens, microseconds) of each form.
    """
    figure = go.Figure()
    for form, line in limits.items():
        x, y = zip(*line, strict=True)
        trace = limit_trace(x, y, form, dark)
        rows = [point for point in points if point.form == form]
        figure.add_trace(trace.update(showlegend=not rows, line={"width": 2}))
        if rows:
            shown = measured_trace([row.query_tokens for row in rows], rows, form, dark)
            figure.add_trace(shown.update(mode="markers"))
    if crossing is not None:
        figure.add_vline(x=crossing, line={"color": NEUTRAL, "width": 1.5, "dash": "dash"})
        text = f"as many FLOPs: {number_text(crossing)}"
        figure.add_annotation(_beside_line(crossing, text))
    figure.add_vline(x=chosen, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    every = [y for line in limits.values() for _, y in line] + [p.time_us for p in points]
    tokens = [x for line in limits.values() for x, _ in line]
    figure.update_xaxes(**token_axis(tokens, "query tokens at once"))
    figure.update_yaxes(**log_axis(every, micros_text, "time"))
    return figure.update_layout(**layout())


def growth_figure(lines: Mapping[str, Sequence[Point]], dark: bool) -> go.Figure:
    """Time of a step, and the most that it holds beside its cache, against context."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for mechanism, rows in lines.items():
        at, colour = [row.context for row in rows], MECHANISMS[mechanism].colour.ink(dark)
        limits = limit_trace(at, [row.limit_us for row in rows], mechanism, dark)
        figure.add_trace(limits, row=1, col=1)
        figure.add_trace(measured_trace(at, rows, mechanism, dark), row=1, col=1)
        held = go.Scatter(
            x=at,
            y=[row.working_bytes for row in rows],
            legendgroup=mechanism,
            showlegend=False,
            mode="lines+markers",
            line={"color": colour, "width": 1.6},
            marker={"symbol": SYMBOLS[mechanism], "size": 9},
            customdata=[decimal_bytes_text(row.working_bytes) for row in rows],
            hovertemplate=f"{label_of(mechanism)}: %{{customdata}}<extra></extra>",
        )
        figure.add_trace(held, row=2, col=1)
    every = [point for rows in lines.values() for point in rows]
    times = [y for point in every for y in (point.time_us, point.limit_us)]
    held_bytes = [point.working_bytes for point in every]
    axis = token_axis(point.context for point in every)
    figure.update_xaxes(**axis | {"title": ""}, row=1, col=1).update_xaxes(**axis, row=2, col=1)
    figure.update_yaxes(**log_axis(times, micros_text, "time of a step"), row=1, col=1)
    held_axis = log_axis(held_bytes, decimal_bytes_text, "held beside the cache")
    figure.update_yaxes(**held_axis, row=2, col=1)
    below = {"legend": LEGEND | {"y": -0.12}}
    return figure.update_layout(**layout(HEIGHT + 220) | below)
