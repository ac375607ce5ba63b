"""Where both sides take the same FLOPs: said, with one click to where absorbing costs some."""

import streamlit as st

from mla_viz.config import MLAGeometry
from mla_viz.cost import cache_elems, core_flops
from mla_viz.model.sources import find_source
from mla_viz.published.catalog import judged
from mla_viz.run.settings import Settings

PUBLISHED = "DeepSeek-V3"


def trade_words(g: MLAGeometry, left: str, right: str) -> str | None:
    """Why two mechanisms take the same FLOPs; None where they do not, or cache the same."""
    alike = core_flops(left, g) == core_flops(right, g)
    if not alike or cache_elems(left, g) == cache_elems(right, g):
        return None
    there = judged(PUBLISHED).attention
    return (
        f"Both sides take the same FLOPs for each cached token: a latent of {g.kv_lora_rank} is as"
        f" wide as a head. {PUBLISHED}'s is wider, {there.kv_lora_rank} beside heads of"
        f" {there.v_head_dim}: there absorbing costs FLOPs and saves bytes."
    )


def trade(settings: Settings) -> None:
    """A line and a button, where they apply; the button moves the slider of the latent dim."""
    model, other = (settings.side(name) for name in ("left", "right"))
    g = model.geometry.attention
    dial = find_source(settings.source).dials.get("latent")
    if model != other or not dial or not isinstance(g, MLAGeometry):
        return
    words, wider = trade_words(g, settings.left, settings.right), 2 * g.kv_lora_rank
    if not words or wider > dial.span[1]:
        return
    line, button = st.columns([4, 1], vertical_alignment="center")
    line.caption(words)
    button.button(f"Latent dim {wider}", on_click=_widen, args=(wider,), width="stretch")


def _widen(latent: int) -> None:
    st.session_state.latent = latent
