"""The frame: page settings and the list of pages."""

from pathlib import Path

import streamlit as st

ROOT = Path(__file__).parent

st.set_page_config("mla-viz", ROOT / "mla_viz" / "data" / "icon.png", layout="wide")
st.html("<style>.stMainBlockContainer { padding-top: 3rem; padding-bottom: 3rem; }</style>")
st.navigation([st.Page("pages/decode.py", title="Decode")]).run()
