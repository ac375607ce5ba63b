"""Pages and parts of pages, run without a browser."""

import json
import re
from html import unescape
from pathlib import Path
from unittest.mock import patch

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parent.parent
CELL = r"<t[hd][^>]*>([^<]*)<"


def page(file, **query):
    """A page that was opened with these values in its address."""
    return _opened(AppTest.from_file(ROOT / file, default_timeout=60), query)


def section(show, *arguments, **query):
    """A page that holds one part alone."""
    return _opened(AppTest.from_function(_shown, args=(show, *arguments)), query)


def _shown(show, *arguments):
    show(*arguments)


def _opened(app, query):
    app.default_timeout = 60
    for name, value in query.items():
        app.query_params[name] = str(value)
    # A first run would read the metadata of every installed package in search of components.
    with patch.object(manifest_scanner, "scan_component_manifests", list):
        return app.run()


def elements(block):
    """All elements of a page or container, from the top."""
    for child in block.children.values():
        if hasattr(child, "children"):
            yield from elements(child)
        else:
            yield child


def said(app):
    """Every text of Markdown, from the top."""
    return [text.value for text in app.markdown]


def bodies(app):
    """The HTML of every part that is written in it."""
    return [part.proto.body for part in app.get("html")]


def tables(app):
    """Every table with a head, as records."""
    found = []
    for body in bodies(app):
        if "<thead" in body:
            rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body)
            head, *lines = (re.findall(CELL, row) for row in rows)
            found.append(
                [dict(zip(map(unescape, head), map(unescape, x), strict=True)) for x in lines]
            )
    return found


def drawings(app):
    """The record of every drawing of the worked example."""
    return [json.loads(part.proto.json) for part in app.get("bidi_component")]
