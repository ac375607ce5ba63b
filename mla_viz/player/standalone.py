"""A packed run as one HTML file with the whole player: no server, no network, no other file.

The payload travels as gzip in base64, at the end of the file, so that the page is there before it.
Two things make it a third smaller, and lose nothing: the bytes of every four lie beside their like,
and where both sides run one model an array of the right one is written as what its bits differ by
from the left one's, which differ by their rounding alone.
"""

import base64
import gzip
import json
import math
import re
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Any

import numpy as np

from mla_viz.player.bundle import FOLDER, bundle
from mla_viz.shipped import APP

Twin = tuple[int, int, int]  # where an array begins, where its like does, how many values


def standalone(payload: bytes, prompt: str) -> str:
    """The file's text, with the packed run in it; `prompt` names it."""
    data, twins = _squeezed(payload)
    style = _theme() + _read("standalone.css") + _read("player.css")
    script = f"{bundle()}const TWINS = {json.dumps(twins)};\n{_read('standalone.js')}"
    parts = {
        "policy": f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}",
        "title": escape(f"mla-viz: {prompt[:60]}"),
        "style": style,
        "player": _read("player.html"),
        "script": script,
        "data": base64.b64encode(data).decode(),
    }
    text = _read("standalone.html")
    for name, part in parts.items():
        text = text.replace(f"<!--{name}-->", part)
    return text


def framed(page: str) -> str:
    """The file in a frame of its own, as a notebook shows it: it may run and save, nothing else."""
    style = "width:100%;height:900px;border:1px solid #8884"
    rights = "allow-scripts allow-downloads"
    frame = f'sandbox="{rights}" style="{style}" title="mla-viz"'
    return f'<iframe srcdoc="{escape(page)}" {frame}></iframe>'


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """By which a policy lets this very text in, and no other."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _theme() -> str:
    """The app's colours, in the variables that Streamlit sets for the player on its own pages."""
    config = (APP / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    light, dark = (_variables(tomllib.loads(config)["theme"][kind]) for kind in ("light", "dark"))
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _variables(theme: dict[str, Any]) -> str:
    """`primaryColor` is `--st-primary-color`."""
    names = {name: re.sub("([A-Z])", r"-\1", name).lower() for name in theme}
    return " ".join(f"--st-{names[name]}: {colour};" for name, colour in theme.items())


def _squeezed(payload: bytes) -> tuple[bytes, list[Twin]]:
    """The payload in gzip, and which of its arrays are written as differences."""
    given = np.frombuffer(payload, dtype="<i4")
    words, twins = given.copy(), _twins(payload)
    for at, like, count in twins:
        gap = given[at : at + count] - given[like : like + count]
        words[at : at + count] = (gap << 1) ^ (gap >> 31)  # small ones of both signs become small
    planes = words.view(np.uint8).reshape(-1, given.itemsize).T
    return gzip.compress(planes.tobytes(), 6, mtime=0), twins


def _twins(payload: bytes) -> list[Twin]:
    """In the order of their places, since an array may be the like of another."""
    length = int.from_bytes(payload[:4], "little")
    header = json.loads(payload[4 : 4 + length])
    if not header["same_model"]:
        return []
    body = -(-(4 + length) // 8) * 8
    twins = {twin[0]: twin for twin in _pairs(header["left"], header["right"])}
    places = sorted(twins.values())
    return [((body + at) // 4, (body + like) // 4, count) for at, like, count in places]


def _pairs(left: Any, right: Any) -> Iterator[Twin]:
    """Where each float32 array of the right side lies, where the left one's does, and its size."""
    if not isinstance(left, dict) or not isinstance(right, dict):
        return
    about = [(x.get("dtype"), x.get("shape")) for x in (left, right)]
    if about[0] == about[1] and left.get("dtype") == "f32" and left["offset"] < right["offset"]:
        yield right["offset"], left["offset"], math.prod(left["shape"])
    for name in left:
        yield from _pairs(left[name], right.get(name))
