"""Speed: what absorption saves in time, measured and counted, and where it loses."""

import streamlit as st

from mla_viz.ui.speed import counted, headline, sections
from mla_viz.ui.speed.asked import speed_asked
from mla_viz.ui.speed.here import measure_here

asked = speed_asked()
st.title("What absorption saves in time", anchor=False)
st.caption(
    "A decode step of one attention layer, timed, beside the least that it must take: its products"
    " and bytes are counted, the machine's own rates measured. A ratio names its baseline."
)
sections.cards(asked)
measure_here(asked)
sections.time_chart(asked)

# Only the open tab is built.
SECTIONS = {
    "Roofline": sections.roofline_section,
    "Where it wins and loses": counted.wins_section,
    "One query or many": counted.queries_section,
    "On an accelerator": counted.accelerator_section,
    "The 5.76×": headline.headline_section,
    "Weights and training": headline.training_section,
    "Growth": sections.growth_section,
    "Beside others": sections.peers_section,
}
tabs = st.tabs(list(SECTIONS), key="speed_tab", on_change="rerun", bind="query-params")
for tab, show in zip(tabs, SECTIONS.values(), strict=True):
    if tab.open:
        with tab:
            show(asked)
