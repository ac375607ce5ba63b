"""Matrices as HTML tables, and equations of them: heatmaps whose cells can be read by all.

Knows numbers and colours; knows neither how a matrix is made nor who shows it.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from mla_viz.findings.matrix import CACHED, FIXED, PASSING, Matrix
from mla_viz.words import cell_text

ROLE_COLOURS = {FIXED: "#7d8799", CACHED: "#1b87ab", PASSING: "#c9702f"}
STYLE = (
    "border-collapse:separate;border-spacing:2px;font-size:0.8rem;margin:0;"
    "font-variant-numeric:tabular-nums"
)
PAIR = "display:flex;align-items:center;gap:0.5rem"
FLOW = "display:flex;flex-wrap:wrap;align-items:center;gap:"


def equations_html(
    equations: Sequence[Sequence[str]], matrices: Mapping[str, Matrix], label: str
) -> str:
    """Equations side by side, in one region that scrolls where a matrix is too wide.

    A part that names a matrix is that matrix where it is first named and its name from then on;
    every other part is a sign or a word.
    """
    drawn: set[str] = set()
    body = "".join(_equation(parts, matrices, drawn) for parts in equations)
    return (
        f"<div role='region' aria-label='{escape(label)}' tabindex='0' style='overflow-x:auto'>"
        f"<div style='{FLOW}1rem 3rem'>{body}</div></div>"
    )


def _equation(parts: Sequence[str], matrices: Mapping[str, Matrix], drawn: set[str]) -> str:
    """Signs stay beside the matrix that they stand before, so that lines break before a sign."""
    body, signs = "", ""
    for part in parts:
        if part not in matrices:
            signs += f"<span>{escape(part)}</span>"
            continue
        name = f"<b style='font-size:0.8rem'>{escape(part)}</b>"
        shown = name if part in drawn else matrix_html(matrices[part])
        body += f"<div style='{PAIR}'>{signs}<div>{shown}</div></div>"
        drawn.add(part)
        signs = ""
    return f"<div style='{FLOW}0.5rem'>{body}</div>"


def matrix_html(matrix: Matrix) -> str:
    """A table of the values to two decimals; the stronger the colour, the larger the number.

    Name, shape and role stand in the caption; the newest row is framed.
    """
    values, colour = matrix.values, ROLE_COLOURS[matrix.role]
    largest = float(np.abs(values).max()) or 1.0
    labels = matrix.rows or [""] * len(values)
    new = [False] * (len(values) - 1) + [matrix.newest]
    body = _head(matrix.columns, bool(matrix.rows)) if matrix.columns else ""
    body += "".join(
        _row(row, label, colour, largest, frame)
        for row, label, frame in zip(values, labels, new, strict=True)
    )
    shape = "×".join(map(str, values.shape))
    caption = (
        "<caption style='text-align:left;caption-side:top;padding-bottom:2px;white-space:nowrap'>"
        f"<b>{escape(matrix.name)}</b> {shape}<br/>"
        f"<span style='border-bottom:3px solid {colour}'>{escape(matrix.role)}</span></caption>"
    )
    return f"<table style='{STYLE}'>{caption}{body}</table>"


def _head(columns: Sequence[str], indented: bool) -> str:
    style = "font-weight:normal;text-align:right;padding:0 5px"
    heads = "".join(f"<th scope='col' style='{style}'>{escape(name)}</th>" for name in columns)
    return f"<tr>{'<td></td>' if indented else ''}{heads}</tr>"


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
    return f"<td style='background:{ground};padding:2px 5px;text-align:right'>{cell_text(x)}</td>"
