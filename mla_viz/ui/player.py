"""The player: one browser component that gets a whole run and steps through it by itself."""

from pathlib import Path

import streamlit as st

_FOLDER = Path(__file__).parent / "player"

_component = st.components.v2.component(
    "mla_viz_player",
    html=(_FOLDER / "player.html").read_text(),
    css=(_FOLDER / "player.css").read_text(),
    js="\n".join(part.read_text() for part in sorted(_FOLDER.glob("*.js"))),
)


def player(payload: bytes) -> None:
    """Show a packed run. The step lives in the browser and in its URL; nothing comes back."""
    _component(data=payload, key="player")
