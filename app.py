"""The server: one Streamlit app whose script is the frame around every page."""

import streamlit as st
from streamlit import net_util

from mla_viz.shipped import PACKAGE
from mla_viz.ui.server import lifespan

# Streamlit would ask an outside host what the world calls this machine whenever a page of a foreign
# origin knocks, and answer nobody meanwhile. Origins are allowed by configuration alone.
net_util.get_external_ip = lambda: None

# The script lies away from pages/: beside that folder Streamlit would run a page alone, without
# its frame, where a link to it is a fresh server's first visit, and show a menu of its own.
app = st.App(PACKAGE / "ui" / "frame.py", lifespan=lifespan)
