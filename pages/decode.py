"""Decode: a prompt, two mechanisms side by side, step by step."""

import streamlit as st

from mla_viz.settings import side_geometry
from mla_viz.ui.controls import Sidebar
from mla_viz.ui.frame import ensure_frame
from mla_viz.ui.player import player
from mla_viz.ui.quality import quality_section
from mla_viz.ui.runs import packed_run

ensure_frame()
ONE_MODEL = (
    "One model, decoded two ways",
    "Same weights, same tokens, same attention: only what is cached differs, and how it is used.",
)
TWO_MODELS = (
    "Two models, one prompt",
    "These mechanisms have weights of their own. The left one chooses, both are fed its tokens.",
)

sidebar = Sidebar()
title = st.container()
try:
    settings = sidebar.settings()
    if payload := packed_run(settings, sidebar.progress):
        st.session_state.shown = settings, payload
except ValueError as error:
    sidebar.refuse(error)

if "shown" in st.session_state:
    settings, payload = st.session_state.shown
    same = side_geometry(settings, settings.left) == side_geometry(settings, settings.right)
    headline, explanation = ONE_MODEL if same else TWO_MODELS
    title.header(headline, anchor=False)
    title.caption(explanation)
    player(payload)
    quality_section(settings)
