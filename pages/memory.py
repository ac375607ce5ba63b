"""Memory: how many bytes a cache takes, for which model, on which machine."""

import streamlit as st

from mla_viz.ui.memory import sections
from mla_viz.ui.memory.asked import asked
from mla_viz.ui.memory.audit import audit_section
from mla_viz.ui.memory.fits import what_fits
from mla_viz.ui.memory.quantised import safe_section

asked_for = asked()
st.title("What the cache takes", anchor=False)
st.caption(
    "Counted from what every layer keeps, fixed parts and scales included, and held against the"
    " bytes of real tensors. A ratio names its baseline."
)
memories = sections.cards(asked_for)
if memories:
    sections.curves(asked_for, memories)

# Only the open tab is built.
SECTIONS = {
    "The formula": sections.formulas,
    "Against others": sections.baselines,
    "What fits": what_fits,
    "What is given up": sections.given_up,
    "Are fewer bits safe?": safe_section,
    "Why is mine larger?": audit_section,
}
tabs = st.tabs(list(SECTIONS), key="part", on_change="rerun", bind="query-params")
for tab, show in zip(tabs, SECTIONS.values(), strict=True):
    if tab.open and memories:
        with tab:
            show(asked_for, memories)
