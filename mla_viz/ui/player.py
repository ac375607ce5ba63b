"""The player as a component of the page: it gets a packed run once and steps by itself."""

from pathlib import Path

import streamlit as st

from mla_viz.player.bundle import FOLDER, bundle
from mla_viz.player.payload import run_name
from mla_viz.player.standalone import standalone
from mla_viz.run.layer import AnySettings

_component = st.components.v2.component(
    "mla_viz_player",
    html=(FOLDER / "player.html").read_text(encoding="utf-8"),
    css=(FOLDER / "player.css").read_text(encoding="utf-8"),
    js=bundle() + Path(__file__).with_name("player_adapter.js").read_text(encoding="utf-8"),
)


_rest = st.components.v2.component(
    "mla_viz_rest",
    html="<span></span>",
    js="""export default function ({ data }) {
  if (data) window.dispatchEvent(new CustomEvent("mla-rest", { detail: data }));
}""",
)


def player(payload: bytes) -> int | None:
    """Show a packed run. The step lives in the browser and in its URL.

    What may come back is the layer, from 0, whose vectors the open step lacks (`add_rest`).
    """
    wanted = _component(data=payload, key="player", on_wanted_change=lambda: None).wanted
    if not isinstance(wanted, dict) or wanted.get("run") != run_name(payload):
        return None
    layer = wanted.get("layer")
    return layer if isinstance(layer, int) else None


def add_rest(packed: bytes) -> None:
    """Hand the player the vectors that it lacked."""
    _rest(data=packed, key="rest", height=1)


def take_along(payload: bytes, settings: AnySettings) -> None:
    """A button that downloads the run with its player; the file is made when it is asked for."""
    st.download_button(
        "Take it along: one HTML file",
        lambda: standalone(payload, settings.prompt),
        "mla-viz.html",
        "text/html",
        on_click="ignore",
        help="The whole player with this run. It opens in any browser, without a network.",
    )
