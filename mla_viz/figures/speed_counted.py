"""Counted speed-ups, training costs and a headline's ingredients: records to Plotly figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from mla_viz.figures.memory import DASHES, NEUTRAL
from mla_viz.figures.speed import SYMBOLS, label_of, layout, log_axis, token_axis
from mla_viz.findings.speed import Training
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.words import Number, flops_text, number_text

Pairs = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Gains:
    """Times as quick at some contexts: counted (`name` in the legend), or measured as marks."""

    name: str
    pairs: Pairs
    measured: bool = False


def _times(x: Number) -> str:
    return f"{number_text(x)}×"


def gains_figure(gains: Sequence[Gains], chosen: int, dark: bool) -> go.Figure:
    """How many times as quick absorbed is, against context; below 1 it loses."""
    figure, colour = go.Figure(), MECHANISMS["mla_absorbed"].colour.ink(dark)
    for place, each in enumerate(gains):
        x, y = zip(*each.pairs, strict=True)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                name=each.name,
                mode="markers" if each.measured else "lines",
                line={"color": colour, "width": 1.6, "dash": DASHES[place % len(DASHES)]},
                marker={"color": colour, "size": 10, "symbol": _SYMBOLS[place % len(_SYMBOLS)]},
                customdata=[_times(value) for value in y],
                hovertemplate=f"{each.name}: %{{customdata}}<extra></extra>",
            )
        )
    figure.add_hline(y=1, line={"color": NEUTRAL, "width": 1.5})
    figure.add_vline(x=chosen, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    figure.update_xaxes(**token_axis(x for each in gains for x, _ in each.pairs))
    every = [1, *(y for each in gains for _, y in each.pairs)]
    figure.update_yaxes(**log_axis(every, _times, "times as quick"))
    return figure.update_layout(**layout())


_SYMBOLS = ("diamond", "diamond-open", "circle", "circle-open")


def training_figure(
    rows: Mapping[str, Sequence[tuple[int, Training]]], chosen: int, dark: bool
) -> go.Figure:
    """FLOPs of training a layer on one token, against tokens of the sequence."""
    figure = go.Figure()
    for mechanism, line in rows.items():
        colour = MECHANISMS[mechanism].colour.ink(dark)
        name = "MLA" if mechanism == "mla_expanded" else label_of(mechanism)
        if mechanism == "mla_expanded":
            colour = MECHANISMS["mla_absorbed"].colour.ink(dark)
        figure.add_trace(
            go.Scatter(
                x=[tokens for tokens, _ in line],
                y=[each.flops for _, each in line],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={
                    "symbol": SYMBOLS[mechanism],
                    "size": [11 if tokens == chosen else 0 for tokens, _ in line],
                    "opacity": [float(tokens == chosen) for tokens, _ in line],
                },
                customdata=[flops_text(each.flops) for _, each in line],
                hovertemplate=f"{name}: %{{customdata}} a token<extra></extra>",
            )
        )
    figure.update_xaxes(
        **token_axis((t for line in rows.values() for t, _ in line), "tokens of the sequence")
    )
    every = [each.flops for line in rows.values() for _, each in line]
    figure.update_yaxes(**log_axis(every, flops_text, "FLOPs a token and layer"))
    return figure.update_layout(**layout())


def shares_figure(
    ratios: Mapping[str, float | None], mechanisms: Sequence[str], dark: bool
) -> go.Figure:
    """Tokens a second against the dense model's, a bar for each thing that changes.

    `mechanisms` are those whose cache each of them has.
    """
    labels = list(ratios)
    bars = go.Bar(
        x=[ratio or 0 for ratio in ratios.values()],
        y=labels,
        orientation="h",
        marker={"color": [MECHANISMS[name].colour.ink(dark) for name in mechanisms]},
        text=["does not fit" if ratio is None else _times(ratio) for ratio in ratios.values()],
        textposition=[
            "inside" if 0.3 < (ratio or 0) < 1 else "outside" for ratio in ratios.values()
        ],
        insidetextanchor="end",  # not across the line at 1
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure = go.Figure(bars)
    figure.add_vline(x=1, layer="below", line={"color": NEUTRAL, "width": 1.5, "dash": "dot"})
    top = max((ratio for ratio in ratios.values() if ratio), default=1)
    figure.update_xaxes(title="times the dense model's", range=[0, 1.2 * top])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(**layout(60 + 44 * len(labels)) | {"showlegend": False})
