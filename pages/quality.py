"""Quality: what the small cache costs, with models trained at one budget."""

import streamlit as st

from mla_viz.findings.family import load_family
from mla_viz.ui import quality as sections
from mla_viz.ui.cuts import pretrained_section

family = load_family()
st.title("What the small cache costs", anchor=False)
st.caption(
    f"{len(family.members)} small language models, trained alike but for their attention: same"
    " text, order of data, schedule and number of parameters. A million parameters and five"
    " megabytes of children's stories: no evidence about models a thousand times larger."
)
if len(family.members) < family.planned:
    st.info(
        f"{len(family.members)} of {family.planned} models have finished training. The others join"
        " as they finish (`make family`)."
    )
sections.comparison(family)

# Only the open tab is built: all of them at once would hold up the chart above by a second.
SECTIONS = {
    "All figures": sections.figures,
    "Every setting": sections.slider_map,
    "Likeness of heads": sections.likeness,
    "A pretrained model": lambda _: pretrained_section(),
    "One prompt": sections.continuations,
    "How far this reaches": sections.published,
    "How they were trained": sections.protocol,
}
tabs = st.tabs(list(SECTIONS), key="section", on_change="rerun", bind="query-params")
for tab, show in zip(tabs, SECTIONS.values(), strict=True):
    if tab.open:
        with tab:
            show(family)
