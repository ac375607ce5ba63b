"""The server: one Streamlit app whose script is the frame around every page."""

import streamlit as st

from mla_viz.shipped import PACKAGE
from mla_viz.ui.server import lifespan

# The script lies away from pages/: beside that folder Streamlit would run a page alone, without
# its frame, where a link to it is a fresh server's first visit, and show a menu of its own.
app = st.App(PACKAGE / "ui" / "frame.py", lifespan=lifespan)
