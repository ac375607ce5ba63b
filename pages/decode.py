"""Decode: a prompt, two mechanisms side by side, step by step."""

from contextlib import ExitStack

import streamlit as st

from mla_viz.run.layer import LayerSettings
from mla_viz.run.settings import Settings
from mla_viz.ui.decode.compare import compare_section
from mla_viz.ui.decode.cut import approximate_words, cut_section, cut_words, has_cut, text_begun
from mla_viz.ui.decode.loss import loss_section
from mla_viz.ui.decode.progress import packed_run, rest_of
from mla_viz.ui.decode.sidebar import Sidebar
from mla_viz.ui.decode.trade import trade
from mla_viz.ui.player import player, take_along

ONE_MODEL = (
    "One model, decoded two ways",
    "Same weights, same tokens, same attention: only what is cached differs, and how it is used.",
)
TWO_MODELS = (
    "Two models, one prompt",
    "These mechanisms have weights of their own. The left one chooses, both are fed its tokens.",
)

QUANTISED = (
    "One model, one cache rounded",
    "Same weights, same tokens. The right cache is kept in fewer bits, so its attention differs:"
    " the badge says by how much.",
)

ONE_LAYER = (
    "One layer, decoded two ways",
    "Attention of one layer of a checkpoint, alone, on random hidden states: no token is chosen.",
)


def words_of(settings: Settings) -> tuple[str, str]:
    """Title and caption of a run of whole models."""
    if settings.side("left") == settings.side("right"):
        rounded = settings.cache_dtype and settings.right != "recompute"
        headline, explanation = QUANTISED if rounded else ONE_MODEL
        return headline, explanation + approximate_words(settings)
    return cut_words(settings) if has_cut(settings) else TWO_MODELS


try:
    sidebar = Sidebar()
except ValueError as error:
    st.error(str(error))
    st.stop()
title = st.container()
beside = st.container()
with ExitStack() as begun:  # what two texts beside each other take goes on meanwhile
    refused = ""
    try:
        settings = sidebar.settings()
        begun.enter_context(text_begun(settings))
        if payload := packed_run(settings, sidebar.progress):
            st.session_state.shown = settings, payload
        else:
            refused = "This run is not made: the sidebar says why."
    except ValueError as error:
        refused = sidebar.refuse(error)

    stays = "the last good view"
    if "shown" not in st.session_state and (payload := packed_run(Settings(), title.empty())):
        st.session_state.shown = Settings(), payload
        stays = "the example"
    if "shown" in st.session_state:
        settings, payload = st.session_state.shown
        alone = isinstance(settings, LayerSettings)
        headline, explanation = ONE_LAYER if alone else words_of(settings)
        title.title(headline, anchor=False)
        title.caption(explanation)
        if refused:
            title.warning(f"{refused}  \nShown is {stays}. It has {sidebar.instead(settings)}.")
        rest_of(settings, player(payload))
        take_along(payload, settings)
        if not alone:
            cut_section(settings, payload, beside)
            trade(settings)
            compare_section(settings)
            loss_section(settings)
