"""A matrix as an HTML table: a heatmap whose cells can be read, by eyes and by screen readers.

Knows numbers and colours; knows neither where a matrix comes from nor who shows it.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from mla_viz.words import cell_text

ROLE_COLOURS = {
    "fixed at training": "#7d8799",
    "cached": "#1b87ab",
    "made and thrown away": "#c9702f",
}
STYLE = (
    "border-collapse:separate;border-spacing:2px;font-size:0.8rem;margin:0 0 0.75rem 0;"
    "font-variant-numeric:tabular-nums"
)


def matrix_html(
    name: str,
    values: Float[np.ndarray, "rows columns"],
    role: str,
    rows: Sequence[str] = (),
    mark_last: bool = False,
) -> str:
    """A table of the values to two digits; the stronger the colour, the larger the number.

    The role stands in the caption in words; `mark_last` frames the newest row.
    """
    largest = float(np.abs(values).max()) or 1.0
    colour = ROLE_COLOURS[role]
    body = "".join(
        _row(row, rows[i] if rows else "", colour, largest, mark_last and i == len(values) - 1)
        for i, row in enumerate(values)
    )
    shape = "×".join(map(str, values.shape))
    caption = (
        f"<caption style='text-align:left;caption-side:top;padding-bottom:2px;white-space:nowrap'>"
        f"<b>{escape(name)}</b> {shape} · <span style='border-bottom:3px solid {colour}'>"
        f"{escape(role)}</span></caption>"
    )
    return f"<div style='overflow-x:auto'><table style='{STYLE}'>{caption}{body}</table></div>"


def _row(
    row: Float[np.ndarray, " columns"], label: str, colour: str, largest: float, new: bool
) -> str:
    frame = "outline:2px solid currentColor;" if new else ""
    head = f"<th scope='row' style='text-align:right;padding:0 6px'>{escape(label)}</th>"
    cells = "".join(_cell(float(x), colour, largest) for x in row)
    return f"<tr style='{frame}'>{head if label else ''}{cells}</tr>"


def _cell(x: float, colour: str, largest: float) -> str:
    share = round(8 + 52 * abs(x) / largest)
    ground = f"color-mix(in srgb, {colour} {share}%, transparent)"
    return f"<td style='background:{ground};padding:2px 6px;text-align:right'>{cell_text(x)}</td>"
