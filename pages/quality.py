"""Quality: what the small cache costs, with models trained at one budget."""

import streamlit as st

from mla_viz.family import load_family
from mla_viz.ui import family as sections
from mla_viz.ui.frame import ensure_frame

ensure_frame()
family = load_family()
st.header("What the small cache costs", anchor=False)
st.caption(
    f"{len(family.members)} small language models, trained alike but for their attention: same"
    " text, order of data, schedule and number of parameters."
)
if len(family.members) < family.planned:
    st.info(
        f"{len(family.members)} of {family.planned} models have finished training. The others join"
        " as they finish (`make family`)."
    )
sections.comparison(family)

st.subheader("One model at every size", anchor=False)
st.caption(
    "The model of the Decode page works at every setting of its sliders. This is its loss at each."
)
sections.slider_map()

st.subheader("Do the heads share content?", anchor=False)
st.markdown(
    "In MQA all heads read one key and one value. In MLA they read one latent, but each through"
    " its own matrix. Linear CKA ([Kornblith et al., 2019](https://arxiv.org/abs/1905.00414)) tells"
    " how alike two heads' keys or values are over real tokens: 1 is the same up to rotation and"
    " scale. Keys are taken as they are scored, after RoPE; MLA's RoPE key, which all heads share"
    " by design, is left out."
)
sections.likeness(family)

st.subheader("The same prompt, continued by each", anchor=False)
st.caption("One seed for all, temperature 0.7, top-k 40, 48 tokens.")
sections.continuations(family)

st.subheader("How far this reaches", anchor=False)
st.markdown(
    "These models have a million parameters and read five megabytes of children's stories. They"
    " show how the mechanisms trade cache for loss **here**, at this size and width of heads. They"
    " are no evidence about models a thousand times larger. For those there are the comparisons"
    " that DeepSeek published, in percent of benchmark questions answered: MLA is above MHA in"
    " seven of eight cells, and below it in one (C-Eval of the small models). The large MHA model"
    " even had more parameters at work for a token, 25.0 billion against 21.5."
)
sections.published()
how = st.expander("How these models were trained", key="protocol", on_change="rerun")
if how.open:
    with how:
        sections.protocol(family)
