"""The server: one Streamlit app whose script is the frame around every page."""

from pathlib import Path

import streamlit as st

from mla_viz.ui.server import lifespan

# The script lies away from pages/: beside that folder Streamlit would run a page alone, without
# its frame, where a link to it is a fresh server's first visit, and show a menu of its own.
app = st.App(Path(__file__).parent / "mla_viz" / "ui" / "frame.py", lifespan=lifespan)
