"""The player as a component of the page: it gets a packed run once and steps by itself."""

from pathlib import Path

import streamlit as st

from mla_viz.player.bundle import FOLDER, bundle

_component = st.components.v2.component(
    "mla_viz_player",
    html=(FOLDER / "player.html").read_text(encoding="utf-8"),
    css=(FOLDER / "player.css").read_text(encoding="utf-8"),
    js=bundle() + Path(__file__).with_name("player_adapter.js").read_text(encoding="utf-8"),
)


def player(payload: bytes) -> None:
    """Show a packed run. The step lives in the browser and in its URL; nothing comes back."""
    _component(data=payload, key="player")
