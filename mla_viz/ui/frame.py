"""The frame around every page, also where Streamlit starts a page without it."""

import runpy
from pathlib import Path

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

APP = Path(__file__).parents[2] / "app.py"


def ensure_frame() -> None:
    """Run app.py where this page runs by itself; it comes back to the page within the frame.

    Because there is a folder named pages, Streamlit runs a page alone when a link to it is the
    first visit of a fresh server; st.navigation ends that for all later ones.
    """
    if PagesManager.uses_pages_directory:
        runpy.run_path(str(APP))
        st.stop()
