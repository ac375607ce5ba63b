"""Mistakes: what released projects got wrong about MLA, each switched on in the shipped model."""

import streamlit as st

from mla_viz.findings.museum import effect
from mla_viz.ui import mistakes as sections

asked = sections.museum_asked()
st.title("What went wrong elsewhere", anchor=False)
st.caption(
    "Errors that projects made in latent attention, each made here on purpose in the model of the"
    " Decode page, beside the same model without it. No other page runs this code."
)
sections.exhibit(asked)
found = effect(asked)
share = sections.noticed_past()
sections.cards(asked, found, share)

# Only the open tab is built.
SECTIONS = {
    "Scores": lambda: sections.scores_section(asked),
    "Prompt length": lambda: sections.length_section(found, share),
    "All mistakes": lambda: sections.all_section(asked, share),
}
tabs = st.tabs(list(SECTIONS), key="museum_tab", on_change="rerun", bind="query-params")
for tab, show in zip(tabs, SECTIONS.values(), strict=True):
    if tab.open:
        with tab:
            show()
