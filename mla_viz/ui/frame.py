"""The frame around every page: page settings and the list of pages. Streamlit runs this file."""

from pathlib import Path

import streamlit as st

from mla_viz.findings.family import FAMILY_FILE
from mla_viz.shipped import APP, belongs, shipped

PAGES = [
    st.Page(APP / "pages/decode.py", title="Decode"),
    st.Page(APP / "pages/absorption.py", title="Absorption"),
    st.Page(APP / "pages/memory.py", title="Memory"),
]
if belongs(shipped(FAMILY_FILE)):
    PAGES.append(st.Page(APP / "pages/quality.py", title="Quality"))
PAGES.append(st.Page(APP / "pages/speed.py", title="Speed"))
PAGES.append(st.Page(APP / "pages/claims.py", title="Claims"))
PAGES.append(st.Page(APP / "pages/mistakes.py", title="Mistakes"))
page = st.navigation(PAGES, position="top")
st.set_page_config(f"{page.title} · mla-viz", shipped("icon.png"), layout="wide")
st.html(Path(__file__).with_name("frame.css"))
page.run()
