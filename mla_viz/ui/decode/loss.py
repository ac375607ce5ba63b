"""What the current setting costs in quality: the loss map under the player."""

import streamlit as st

from mla_viz.findings.family import TOLD_APART
from mla_viz.findings.scores import load_grid
from mla_viz.model.sources import TRAINED
from mla_viz.run.settings import Settings
from mla_viz.ui.loss_map import loss_map
from mla_viz.words import NATS, count_text, loss_text


def loss_section(settings: Settings) -> None:
    """A folded section; Plotly and the figure are loaded only once it is opened."""
    if not any(settings.side(side).source == TRAINED for side in ("left", "right")):
        return
    section = st.expander(
        "What this setting costs in quality", key="quality", on_change="rerun", bind="query-params"
    )
    if not section.open:
        return
    grid = load_grid()
    here = grid.loss(settings.heads, settings.latent)
    full = grid.loss(grid.heads[-1], grid.latents[-1])
    heads = count_text(settings.heads, "head")
    with section:
        st.markdown(
            f"**{loss_text(here)} nats/token** at {heads} and latent dim {settings.latent};"
            f" {loss_text(full)} at the full size. Measured on {grid.stories} held-out stories"
            f" ({grid.tokens:,} tokens) with these very weights, one training run: differences"
            f" under {TOLD_APART} mean nothing. {NATS}"
        )
        loss_map(settings.heads, settings.latent)
