"""Drawings of the worked example as a component of the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from mla_viz.figures.drawing import drawing
from mla_viz.findings.lanes import FROM_KEYS, LANES, joins, lane_matrices
from mla_viz.findings.lesson import Lesson, make_lesson
from mla_viz.player.bundle import FOLDER, bundle

_ADAPTER = Path(__file__).parents[1] / "player_adapter.js"
_component = st.components.v2.component(
    "mla_viz_lesson",
    html=(FOLDER / "lesson.html").read_text(encoding="utf-8"),
    css="".join(
        (FOLDER / name).read_text(encoding="utf-8") for name in ("player.css", "lesson.css")
    ),
    js=bundle("lesson") + _ADAPTER.read_text(encoding="utf-8"),
)


def show_drawing(
    bands: Sequence[Mapping[str, Any]], label: str, key: str, naive: Lesson | None = None
) -> None:
    """Bands of the lesson, every matrix in them with its numbers; the naive side may be another."""
    lesson = make_lesson()
    _component(data=lesson_drawing(bands, label, naive or lesson, lesson), key=key)


def lesson_drawing(
    bands: Sequence[Mapping[str, Any]], label: str, naive: Lesson, absorbed: Lesson
) -> dict[str, Any]:
    """The record of these bands, each lane's numbers from its own lesson."""
    lanes = {lane: lane_matrices(naive if lane in FROM_KEYS else absorbed, lane) for lane in LANES}
    equal = [name for band in bands for name in band.get("equal", ())]
    measured = joins(equal, naive, absorbed)
    return drawing(bands, label, lanes, {join.name: join for join in measured})
