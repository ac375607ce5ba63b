"""How loss depends on the settings: records to Plotly figures."""

import plotly.graph_objects as go

from mla_viz.scores import LossGrid


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
        height=320, margin={"l": 0, "r": 0, "t": 8, "b": 0}, showlegend=False, hovermode="closest"
    )
    return figure
