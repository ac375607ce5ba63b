"""The map of losses over both sliders, which Decode and Quality show."""

import streamlit as st

from mla_viz.findings.scores import load_grid

PLAIN = {"displayModeBar": False}


def loss_map(heads: int, latent: int) -> None:
    """Loss of the model that follows the sliders at every setting, one of them framed."""
    # Plotly takes a second to load: only those who open the map wait for it.
    from mla_viz.figures.quality import loss_grid_figure

    st.plotly_chart(
        loss_grid_figure(load_grid(), heads, latent),
        key="loss_map",
        config=PLAIN,
        alt="Map of validation loss over heads and latent dim: it falls towards more of either",
    )
