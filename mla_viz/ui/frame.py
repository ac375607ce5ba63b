"""The frame around every page: page settings and the list of pages. Streamlit runs this file."""

from pathlib import Path

import streamlit as st

from mla_viz.findings.family import FAMILY_FILE
from mla_viz.shipped import shipped

ROOT = Path(__file__).parents[2]

st.set_page_config("mla-viz", ROOT / "mla_viz" / "data" / "icon.png", layout="wide")
st.html("<style>.stMainBlockContainer { padding-top: 3rem; padding-bottom: 3rem; }</style>")
PAGES = [
    st.Page(ROOT / "pages/decode.py", title="Decode"),
    st.Page(ROOT / "pages/absorption.py", title="Absorption"),
]
if shipped(FAMILY_FILE).exists():
    PAGES.append(st.Page(ROOT / "pages/quality.py", title="Quality"))
PAGES.append(st.Page(ROOT / "pages/claims.py", title="Claims"))
st.navigation(PAGES, position="top").run()
