"""The map of losses over both sliders, which Decode and Quality show."""

from mla_viz.findings.scores import load_grid
from mla_viz.ui.chart import chart


def loss_map(heads: int, latent: int) -> None:
    """Loss of the model that follows the sliders at every setting, one of them framed."""
    # Plotly takes a second to load: only those who open the map wait for it.
    from mla_viz.figures.quality import loss_grid_figure, loss_grid_numbers

    chart(
        loss_grid_figure(load_grid(), heads, latent),
        "loss_map",
        loss_grid_numbers(load_grid()),
        "Map of validation loss over heads and latent dim: it falls towards more of either",
    )
