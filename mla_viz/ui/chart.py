"""A Plotly chart that can be taken along: PNG or SVG by its own camera button, numbers as CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from mla_viz.figures.table import table_csv

FORMATS = ("PNG", "SVG")
SCALE = 2  # pixels of a PNG for each of the screen's


def chart(figure: Any, name: str, numbers: Sequence[Mapping[str, object]], alt: str) -> None:
    """Show a figure, and under it what saves it as `mla-viz-NAME`; `numbers` is a row a point.

    A Plotly figure is not named as a type: it takes a second to load, and who folds it never does.
    """
    place, stem = st.container(), f"mla-viz-{name.replace('_', '-')}"
    with st.container(horizontal=True, horizontal_alignment="right"), st.popover("Save"):
        picture = st.segmented_control(
            "Picture: the camera in the chart's corner saves it as",
            FORMATS,
            default=FORMATS[0],
            required=True,
            key=f"{name}_format",
        )
        st.download_button(
            "Numbers as CSV",
            lambda: table_csv(numbers),
            f"{stem}.csv",
            "text/csv",
            key=f"{name}_csv",
            on_click="ignore",
        )
    config = {
        "displayModeBar": True,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": picture.lower(), "filename": stem, "scale": SCALE},
    }
    place.plotly_chart(figure, key=name, config=config, alt=alt)


def is_dark() -> bool:
    """Whether the reader's page is dark now."""
    return st.context.theme.type == "dark"
