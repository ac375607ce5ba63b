"""What the current setting costs in quality: the loss map under the player."""

import streamlit as st

from mla_viz.family import ONE_SEED_NOISE
from mla_viz.scores import load_grid
from mla_viz.settings import Settings

PLAIN = {"displayModeBar": False}


def quality_section(settings: Settings) -> None:
    """A folded section; Plotly and the figure are loaded only once it is opened."""
    if settings.source != "trained":
        return
    section = st.expander(
        "What this setting costs in quality", key="quality", on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    grid = load_grid()
    here = grid.loss(settings.heads, settings.latent)
    full = grid.loss(grid.heads[-1], grid.latents[-1])
    with section:
        st.markdown(
            f"**{here:.3f} nats/token** at {settings.heads} heads and latent dim"
            f" {settings.latent}; {full:.3f} at the full size. Measured on {grid.stories} held-out"
            f" stories ({grid.tokens:,} tokens) with these very weights, one training run:"
            f" differences under {ONE_SEED_NOISE} mean nothing."
        )
        loss_map(settings.heads, settings.latent)


def loss_map(heads: int, latent: int) -> None:
    """Loss of the model that follows the sliders at every setting, one of them framed."""
    from mla_viz.figures.quality import loss_grid_figure

    st.plotly_chart(
        loss_grid_figure(load_grid(), heads, latent),
        key="loss_map",
        config=PLAIN,
        alt="Map of validation loss over heads and latent dim: it falls towards more of either",
    )
