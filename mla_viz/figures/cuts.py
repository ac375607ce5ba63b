"""What a cut of a pretrained model's caches loses: records to a Plotly figure."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mla_viz.findings.cuts import DECOUPLED, EACH, POOLED, Cut, bytes_per_token
from mla_viz.mechanisms.table import MECHANISMS

NAMES = {
    EACH: "each layer the same rank",
    POOLED: "ranks pooled over layers",
    DECOUPLED: "RoPE decoupled, absorbable",
}
MARKS = {EACH: ("circle", "solid"), POOLED: ("diamond-open", "dot"), DECOUPLED: ("square", "solid")}
PANELS = (
    "KL(original || cut), nats a token",
    "perplexity of the text",
    "same likeliest token",
)
MUTED = "#8a93a3"
LEAST_KL = 1e-4  # where the axis ends: the whole model loses less


def cuts_numbers(rows: Sequence[Cut]) -> list[dict[str, object]]:
    """The chart's numbers: a row a cut."""
    return [
        {
            "text": row.text,
            "numbers_a_token_and_layer": row.rank,
            "way": row.way,
            "of_these_rotated": row.rope,
            "cache_bytes_per_token": bytes_per_token(row.rank),
            "kl": row.kl,
            "kl_standard_error": row.kl_error,
            "perplexity": row.perplexity,
            "original_perplexity": row.own_perplexity,
            "agreement": row.agreement,
            "tokens": row.tokens,
        }
        for row in rows
    ]


def cuts_figure(rows: Sequence[Cut], rank: int | None, dark: bool) -> go.Figure:
    """Three losses on one kind of text against bytes a token; `rank` is marked where known."""
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=PANELS
    )
    for way in NAMES:
        each = [row for row in rows if row.way == way]
        mechanism = "mla_absorbed" if way == DECOUPLED else "gqa_latent"
        ink = MECHANISMS[mechanism].colour.ink(dark)
        for panel in range(1, 4):
            figure.add_trace(_line(each, panel, ink), row=panel, col=1)
    figure.add_hline(
        rows[0].own_perplexity, row=2, col=1, line={"color": MUTED, "dash": "dot", "width": 1}
    )
    if rank is not None:
        figure.add_vline(bytes_per_token(rank), line={"color": MUTED, "width": 1.5})
    figure.update_annotations(font={"size": 13}, x=0, xanchor="left")
    figure.update_yaxes(type="log", tickformat="~g", dtick=1, row=1, col=1)
    figure.update_yaxes(type="log", tickvals=[5, 10, 20, 40, 80], row=2, col=1)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.04], row=3, col=1)
    ticks = sorted({row.rank for row in rows})
    figure.update_xaxes(
        tickvals=[bytes_per_token(each) for each in ticks],
        ticktext=[f"{bytes_per_token(each):,}<br>{each}" for each in ticks],
    )
    figure.update_xaxes(
        title="bytes a token, all layers, in 16 bits,<br>and numbers a token and layer",
        row=3,
        col=1,
    )
    return figure.update_layout(
        height=640,
        margin={"l": 0, "r": 10, "t": 70, "b": 0},
        hovermode="closest",
        legend={"orientation": "h", "y": 1.06, "yanchor": "bottom", "x": 0},
    )


def ranks_numbers(rows: Sequence[Cut]) -> list[dict[str, object]]:
    """What each layer keeps where ranks are pooled: a row a layer and cut."""
    return [
        {"numbers_on_average": row.rank, "layer": layer, "numbers": rank}
        for row in rows
        if row.ranks
        for layer, rank in enumerate(row.ranks, 1)
    ]


def ranks_figure(rows: Sequence[Cut], dark: bool) -> go.Figure:
    """What each layer keeps where ranks are pooled, a line a cut, beside what all keep alike."""
    figure, ink = go.Figure(), MECHANISMS["gqa_latent"].colour.ink(dark)
    for row in rows:
        if not row.ranks:
            continue
        layers = [*range(1, len(row.ranks) + 1)]
        figure.add_hline(row.rank, line={"color": MUTED, "dash": "dot", "width": 1})
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=row.ranks,
                mode="lines",
                line={"color": ink, "width": 2, "shape": "hvh"},
                name=f"{row.rank} on average",
                hovertemplate=f"layer %{{x}}: %{{y}} numbers, {row.rank} on average<extra></extra>",
            )
        )
    ticks = [row.rank for row in rows if row.ranks]
    figure.update_yaxes(title="numbers a token", tickvals=[0, *ticks], range=[0, None])
    figure.update_xaxes(title="layer", range=[0.5, layers[-1] + 0.5])
    return figure.update_layout(
        height=320, margin={"l": 0, "r": 10, "t": 10, "b": 0}, showlegend=False
    )


def numbers_words(row: Cut) -> str:
    """What a cut caches of a token in a layer: `192`, or `128 + 64 turned`."""
    return f"{row.rank}" if row.rope is None else f"{row.rank - row.rope} + {row.rope} turned"


def _line(rows: Sequence[Cut], panel: int, ink: str) -> go.Scatter:
    name, (symbol, dash) = NAMES[rows[0].way], MARKS[rows[0].way]
    shown = rows if panel > 1 else [row for row in rows if row.kl > LEAST_KL]
    values = [(row.kl, row.perplexity, row.agreement)[panel - 1] for row in shown]
    told = ("%{y:.4f} nats", "perplexity %{y:.2f}", "%{y:.1%} the same")[panel - 1]
    errors = [row.kl_error for row in shown]
    return go.Scatter(
        x=[bytes_per_token(row.rank) for row in shown],
        y=values,
        error_y={"type": "data", "array": errors, "thickness": 1.5} if panel == 1 else None,
        mode="lines+markers",
        line={"color": ink, "width": 1.5, "dash": dash},
        marker={"symbol": symbol, "size": 9, "line": {"width": 2, "color": ink}},
        name=name,
        legendgroup=name,
        showlegend=panel == 1,
        customdata=[numbers_words(row) for row in shown],
        hovertemplate=f"{name}, %{{customdata}} numbers<br>{told}<extra></extra>",
    )
