"""What a mistake does to a layer: plain numbers to Plotly figures, each with its sheet of numbers.

Right is grey and filled, wrong is red with open marks.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

import plotly.graph_objects as go

from mla_viz.figures.memory import NEUTRAL
from mla_viz.figures.speed import LEGEND, layout
from mla_viz.words import share_text

HEIGHT = 380
WRONG = ("#b3261e", "#ff8a80")  # on a light and on a dark page
LEAST = 1e-4  # a share below it is drawn as none
SHARES = {
    "scores": ("scores", "circle", "dot"),
    "attention": ("attention that goes elsewhere", "diamond-open", "dash"),
    "output": ("output", "square-open", "solid"),
}
TICKS = (1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100)


def _wrong(dark: bool) -> str:
    return WRONG[dark]


def attention_figure(
    tokens: Sequence[str], right: Sequence[float], wrong: Sequence[float], dark: bool
) -> go.Figure:
    """How one query's attention is spread over the tokens before it and itself."""
    at = list(range(1, len(right) + 1))
    texts = [repr(token) for token in tokens[: len(at)]]
    figure = go.Figure(
        [
            go.Bar(x=at, y=list(right), name="right", marker={"color": NEUTRAL}),
            go.Scatter(
                x=at,
                y=list(wrong),
                name="wrong",
                mode="lines+markers",
                line={"color": _wrong(dark), "width": 1.2},
                marker={"symbol": "circle-open", "size": 7},
            ),
        ]
    )
    for trace in figure.data:
        trace.customdata = texts
        trace.hovertemplate = f"{trace.name}: %{{y:.3f}} on %{{customdata}}<extra></extra>"
    figure.update_xaxes(title="token, from the first")
    figure.update_yaxes(title="share of its attention", tickformat=".0%", rangemode="tozero")
    return figure.update_layout(**layout(HEIGHT))


def scores_figure(right: Sequence[float], wrong: Sequence[float], dark: bool) -> go.Figure:
    """Each score wrong against right: on the line nothing has changed."""
    ends = [min(*right, *wrong), max(*right, *wrong)]
    figure = go.Figure(
        [
            go.Scatter(
                x=ends,
                y=ends,
                name="as it should be",
                mode="lines",
                line={"color": NEUTRAL, "width": 1.6},
                hoverinfo="skip",
            ),
            go.Scatter(
                x=list(right),
                y=list(wrong),
                name="a score",
                mode="markers",
                marker={"symbol": "circle-open", "size": 6, "color": _wrong(dark)},
                hovertemplate="right %{x:.3f}, wrong %{y:.3f}<extra></extra>",
            ),
        ]
    )
    figure.update_xaxes(title="score, right").update_yaxes(title="score, wrong")
    return figure.update_layout(**layout(HEIGHT))


def length_figure(
    off: Mapping[str, Sequence[float]], share: float, noticed: int | None, dark: bool
) -> go.Figure:
    """How far scores, attention and output are off for prompts of every length."""
    figure = go.Figure()
    for name, (label, symbol, dash) in SHARES.items():
        values = off[name]
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(values) + 1)),
                y=[value if value >= LEAST else None for value in values],
                name=label,
                mode="lines+markers",
                line={"color": _wrong(dark) if name == "output" else NEUTRAL, "dash": dash},
                marker={"symbol": symbol, "size": 6},
                hovertemplate=f"{label}, %{{x}} tokens: %{{y:.3g}}<extra></extra>",
            )
        )
    figure.add_hline(y=share, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    if noticed is not None:
        figure.add_vline(x=noticed, line={"color": _wrong(dark), "width": 1, "dash": "dot"})
    figure.update_xaxes(title="tokens of the prompt")
    drawn = [share, *(value for values in off.values() for value in values if value >= LEAST)]
    figure.update_yaxes(
        title="off, as a share of the largest",
        type="log",
        range=[log10(min(drawn)) - 0.2, log10(max(drawn)) + 0.2],
        tickvals=TICKS,
        ticktext=[share_text(tick) for tick in TICKS],
    )
    return figure.update_layout(**layout(HEIGHT) | {"legend": LEGEND | {"y": -0.25}})


def text_html(texts: Sequence[str], differs_at: int | None) -> str:
    """A text of tokens as HTML, the first token that differs marked."""
    said = [escape(text) for text in texts]
    if differs_at is not None and differs_at < len(said):
        mark = "background:none;color:inherit;outline:2px solid;outline-offset:1px;margin:0 3px"
        said[differs_at] = f"<mark style='{mark}'>{said[differs_at]}</mark>"
    return f"<p style='white-space:pre-wrap;overflow-wrap:anywhere'>{''.join(said)}</p>"
