"""Records as an HTML table of figures, quick to paint and read by screen readers, and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape

_CELL = "padding:4px 10px;border-bottom:1px solid color-mix(in srgb, currentColor 15%, transparent)"


def table_html(rows: Sequence[Mapping[str, str]]) -> str:
    """A row a record: the first field heads it, the others stand right; scrolls where too wide."""
    names, *_ = map(list, rows)
    head = "".join(_cell("th scope='col'", name, i) for i, name in enumerate(names))
    body = "".join(f"<tr>{_row(list(row.values()))}</tr>" for row in rows)
    style = "border-collapse:collapse;font-size:0.875rem;font-variant-numeric:tabular-nums"
    label = escape(f"Table: {', '.join(names)}", quote=True)
    return (
        f"<div style='overflow-x:auto' tabindex='0' role='group' aria-label='{label}'>"
        f"<table style='{style}'>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def table_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """A line a record below a line of names; numbers as Python writes them, None left blank."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _row(texts: Sequence[str]) -> str:
    return "".join(_cell("td" if i else "th scope='row'", text, i) for i, text in enumerate(texts))


def _cell(tag: str, text: str, place: int) -> str:
    # On a phone long names wrap and figures do not: a table is then scrolled, never torn apart.
    wrapping = "nowrap" if tag == "td" else "normal"
    side = "right" if place else "left;min-width:7rem"
    style = f"{_CELL};white-space:{wrapping};text-align:{side}"
    return f"<{tag} style='{style}'>{escape(text)}</{tag.split()[0]}>"
