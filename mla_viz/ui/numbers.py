"""Whole numbers in the sidebar: asked for, refused in sight, and what stands in their place."""

from collections.abc import Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.config import check_int

LARGEST = 2**53 - 1  # the largest whole number that a browser keeps exactly


def whole_number(
    place: DeltaGenerator, label: str, key: str, start: int, high: int = LARGEST
) -> int | float:
    """A number from 0, in the address too; a fraction stays one, for the caller to refuse.

    It is asked for as a float, because Streamlit ends in an OverflowError where the address holds
    `inf` or `1e999` for an int; of a float it takes the start then.
    """
    asked = place.number_input(
        label, 0.0, float(high), float(start), 1.0, "%g", key=key, bind="query-params"
    )
    return int(asked) if asked.is_integer() else asked


def short_label(label: str) -> str:
    """A label without what explains it in brackets: `Width` for `Width (d_model)`."""
    return label.partition(" (")[0]


class Numbers:
    """Numbers of a sidebar by field, each with a place under it for what is wrong there."""

    def __init__(self, labels: Mapping[str, str], starts: object, prefix: str) -> None:
        self._labels = labels
        self.values: dict[str, int | float] = {}
        self._slots: dict[str, DeltaGenerator] = {}
        for field, label in labels.items():
            start = getattr(starts, field) or 0
            self.values[field] = whole_number(st.sidebar, label, f"{prefix}_{field}", start)
            self._slots[field] = st.sidebar.empty()

    def whole(self) -> dict[str, int]:
        """The numbers, by field.

        Raises:
            ValueError: one of them is a fraction.
        """
        return {field: check_int(field, x, 0, LARGEST) for field, x in self.values.items()}

    def refuse(self, error: ValueError, shown: object) -> None:
        """Say it under the field that it names and on the page, with the numbers that stay."""
        field, _, _ = str(error).partition(":")
        if field in self._slots:
            self._slots[field].error(str(error))
        stays = "; ".join(
            f"{short_label(label)}: {there}"
            for field, label in self._labels.items()
            if (there := getattr(shown, field) or 0) != self.values[field]
        )
        st.error(f"{error}  \nThe page goes on with {stays}.")
