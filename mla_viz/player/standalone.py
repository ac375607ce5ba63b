"""A packed run as one HTML file with the whole player: no server, no network, no other file."""

import base64
import gzip
import json
from html import escape

import numpy as np

from mla_viz.player.bundle import FOLDER, bundle

# The page's colours, as .streamlit/config.toml has them for the app.
THEMES = {
    "light": ("#0b6e8f", "#ffffff", "#f3f5f8", "#161b26", "#dde1e8"),
    "dark": ("#5ec3e0", "#0e131a", "#181e27", "#e8ebf0", "#2a313d"),
}
COLOURS = ("primary", "background", "secondary-background", "text", "border")
PLANES = 4  # bytes of a float32: like bytes beside like bytes take a tenth less


def standalone(payload: bytes, prompt: str) -> str:
    """The file's text, with the packed run in it; `prompt` names it."""
    parts = {
        "title": escape(f"mla-viz: {prompt[:60]}"),
        "theme": _theme(),
        "style": _read("standalone.css") + _read("player.css"),
        "player": _read("player.html"),
        "data": base64.b64encode(_squeezed(payload)).decode(),
        "script": f"{bundle()}const SIZE = {json.dumps(len(payload))};\n{_read('standalone.js')}",
    }
    text = _read("standalone.html")
    for name, part in parts.items():
        text = text.replace(f"<!--{name}-->", part)
    return text


def framed(page: str) -> str:
    """The file in a frame of its own, as a notebook shows it."""
    style = "width:100%;height:900px;border:1px solid #8884"
    return f'<iframe srcdoc="{escape(page)}" style="{style}" title="mla-viz"></iframe>'


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _theme() -> str:
    """The variables that Streamlit sets for the player on its own pages."""
    light, dark = (
        "".join(f"--st-{name}-color: {x};" for name, x in zip(COLOURS, THEMES[kind], strict=True))
        for kind in ("light", "dark")
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _squeezed(payload: bytes) -> bytes:
    whole = np.frombuffer(payload + bytes(-len(payload) % PLANES), dtype=np.uint8)
    return gzip.compress(whole.reshape(-1, PLANES).T.tobytes(), 9, mtime=0)
