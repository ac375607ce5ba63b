"""How loss depends on the settings: records to Plotly figures."""

import plotly.graph_objects as go

from mla_viz.findings.family import LOSS, Family, Member
from mla_viz.findings.prompts import CHANCE
from mla_viz.findings.scores import LossGrid
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.words import count_text, kib_text, loss_text, mega_text, share_text


def loss_grid_figure(grid: LossGrid, heads: int, latent: int) -> go.Figure:
    """Map of loss over heads and latent dim, the current setting marked."""
    heatmap = go.Heatmap(
        x=grid.latents,
        y=grid.heads,
        z=grid.nats_per_token,
        colorscale="Cividis_r",
        colorbar={"title": {"text": "nats/token"}, "thickness": 12},
        hovertemplate="heads %{y}, latent dim %{x}: %{z:.3f} nats/token<extra></extra>",
    )
    here = go.Scatter(
        x=[latent],
        y=[heads],
        mode="markers",
        marker={"symbol": "square-open", "size": 16, "color": "#ffffff", "line": {"width": 3}},
        hoverinfo="skip",
    )
    figure = go.Figure([heatmap, here])
    figure.update_xaxes(title="latent dim (kv_lora_rank)", showgrid=False, dtick=8)
    figure.update_yaxes(title="heads", dtick=1, showgrid=False)
    figure.update_layout(
        height=342, margin={"l": 0, "r": 0, "t": 30, "b": 0}, showlegend=False, hovermode="closest"
    )
    return figure


def loss_grid_numbers(grid: LossGrid) -> list[dict[str, object]]:
    """The map's numbers, a row a setting."""
    return [
        {"heads": heads, "latent_dim": latent, "nats_per_token": grid.loss(heads, latent)}
        for heads in grid.heads
        for latent in grid.latents
    ]


def family_figure(family: Family, dark: bool) -> go.Figure:
    """Loss against cached elements, a point a member, its spread as error bars, the Pareto edge."""
    edge = family.pareto_edge()
    line = go.Scatter(
        x=[member.cache_elems for member in edge],
        y=[member.mean(LOSS) for member in edge],
        mode="lines",
        line={"color": "#8a93a3", "width": 1.5, "dash": "dot"},
        name="Pareto edge",
        hoverinfo="skip",
    )
    points = [_point(member, dark, _label_place(member, family)) for member in family.members]
    figure = go.Figure([line, *points])
    ticks = sorted({member.cache_elems for member in family.members})
    figure.update_xaxes(title="elements cached for a token in a layer", type="log", tickvals=ticks)
    figure.update_yaxes(title="loss on held-out stories, nats/token")
    figure.update_layout(
        height=440, margin={"l": 0, "r": 0, "t": 8, "b": 0}, showlegend=False, hovermode="closest"
    )
    return figure


def family_numbers(family: Family) -> list[dict[str, object]]:
    """The chart's numbers, a row a member; `half_width` is that of its bar."""
    edge = family.pareto_edge()
    return [
        {
            "model": member.label,
            "mechanism": member.mechanism,
            "cache_elems": member.cache_elems,
            "nats_per_token": member.mean(LOSS),
            "half_width": member.half_width,
            "seeds": len(member.runs),
            "on_pareto_edge": member in edge,
        }
        for member in family.members
    ]


def _label_place(member: Member, family: Family) -> str:
    """Above the falling edge; under it at the right end, and for the better of two with one cache.

    Left of a point the edge runs above it, right of it below: both corners are free.
    """
    others = [m for m in family.members if m is not member]
    above = any(
        m.cache_elems == member.cache_elems and m.mean(LOSS) > member.mean(LOSS) for m in others
    )
    last = all(m.cache_elems < member.cache_elems for m in others)
    return "bottom left" if above or last else "top right"


def _colour(member: Member, dark: bool) -> str:
    colour = MECHANISMS[member.mechanism].colour
    return colour.dark if dark else colour.light


def _point(member: Member, dark: bool, label_place: str) -> go.Scatter:
    colour = _colour(member, dark)
    return go.Scatter(
        x=[member.cache_elems],
        y=[member.mean(LOSS)],
        error_y={"type": "data", "array": [member.half_width], "thickness": 1.5, "width": 4},
        mode="markers+text",
        text=[member.label],
        textposition=label_place,
        textfont={"size": 14, "color": colour},
        cliponaxis=False,
        marker={"size": 11, "color": colour},
        name=member.label,
        hovertemplate=_hover(member),
    )


def _hover(member: Member) -> str:
    lines = [
        f"<b>{member.label}</b>, {count_text(len(member.runs), 'seed')}",
        f"{loss_text(member.mean(LOSS))}{_spread(member.std(LOSS))} nats/token",
        f"{loss_text(member.mean('bits_per_byte'))} bits/byte",
        f"repeated pairs {loss_text(member.mean('repeated'))},"
        f" new ones {loss_text(member.mean('novel'))}",
        f"name recall {share_text(member.mean('name_recall'), member.recall_error)},"
        f" chance {share_text(CHANCE)}",
        f"{member.cache_elems} elements cached a token and layer,"
        f" {kib_text(member.cache_bytes(256))} KiB at 256 tokens in float16",
        f"{member.params:,} parameters",
        f"{mega_text(member.flops(member.geometry.context))} MFLOP for the last token",
    ]
    return "<br>".join(lines) + "<extra></extra>"


def _spread(std: float | None) -> str:
    return "" if std is None else f" ± {loss_text(std)}"


def likeness_figure(family: Family, dark: bool) -> go.Figure:
    """How alike the heads' keys and values are: two dots a member, 1 where all heads share them."""
    labels = [member.label for member in family.members]
    kinds = (
        ("keys before RoPE", "circle", [member.content_keys for member in family.members]),
        ("values", "diamond-open", [member.mean("values") for member in family.members]),
    )
    colours = [_colour(member, dark) for member in family.members]
    dots = [
        go.Scatter(
            x=likeness,
            y=labels,
            name=name,
            mode="markers",
            marker={"symbol": symbol, "size": 12, "color": colours, "line": {"width": 2}},
            hovertemplate=f"%{{y}}: {name} %{{x:.2f}}<extra></extra>",
        )
        for name, symbol, likeness in kinds
    ]
    figure = go.Figure(dots)
    figure.update_xaxes(title="mean linear CKA between heads", range=[0, 1.04])
    figure.update_yaxes(range=[len(labels) - 0.4, -0.6])
    figure.update_layout(
        height=60 + 34 * len(labels),
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def likeness_numbers(family: Family) -> list[dict[str, object]]:
    """The chart's numbers, a row a member; None where the keys were not compared."""
    return [
        {
            "model": member.label,
            "keys_before_rope_cka": member.content_keys,
            "values_cka": member.mean("values"),
        }
        for member in family.members
    ]
