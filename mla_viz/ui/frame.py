"""The frame around every page: page settings and the list of pages. Streamlit runs this file."""

import streamlit as st

from mla_viz.findings.family import FAMILY_FILE
from mla_viz.shipped import APP, belongs, shipped

st.set_page_config("mla-viz", shipped("icon.png"), layout="wide")
st.html("<style>.stMainBlockContainer { padding-top: 3rem; padding-bottom: 3rem; }</style>")
PAGES = [
    st.Page(APP / "pages/decode.py", title="Decode"),
    st.Page(APP / "pages/absorption.py", title="Absorption"),
]
if belongs(shipped(FAMILY_FILE)):
    PAGES.append(st.Page(APP / "pages/quality.py", title="Quality"))
PAGES.append(st.Page(APP / "pages/claims.py", title="Claims"))
st.navigation(PAGES, position="top").run()
