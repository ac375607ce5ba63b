"""Absorption: the algebra of MLA, small enough to see every number."""

import streamlit as st

from mla_viz.ui.absorption import algebra, stages
from mla_viz.ui.absorption.dims import chosen_dims

title = st.container()
name, dims = chosen_dims()
title.title("Absorption: the algebra with every number in sight", anchor=False)
title.caption(
    "What is cached, what is absorbed into what, and why RoPE stands apart. Matrices are those of a"
    f" lesson of five words; counts are made with the dims chosen in the sidebar, here {name}."
)

st.header("Before the latent", anchor="before", divider="gray")
stages.before_the_latent(dims)

st.header("One step of MLA, absorbed", anchor="step", divider="gray")
stages.steps(dims)

st.header("Four ways to the same output", anchor="flows", divider="gray")
algebra.four_flows(dims)

st.header("The bracket", anchor="bracket", divider="gray")
st.markdown(
    "A product of three matrices may be bracketed either way. That is all that absorption is: the"
    " same score, by another order of multiplying. It saves work where the other order would"
    " rebuild every key or value at each step."
)
algebra.bracket(dims)

st.header("Merged ahead, or absorbed on the way", anchor="merged", divider="gray")
st.markdown(
    "If W_UK moves to the query, why not multiply W_UQ and W_UK once and for all? Because a narrow"
    " pair becomes one wide matrix."
)
algebra.merging(dims)

st.header("Why RoPE stands apart", anchor="rope", divider="gray")
algebra.rope()

st.header("In every number format", anchor="formats", divider="gray")
algebra.formats()

st.header("One word or many: decode and prefill", anchor="prefill", divider="gray")
st.markdown(
    "With many query tokens at once, keys and values rebuilt once serve all of them, while the"
    " absorbed form pays its wider scores for each."
)
algebra.prefill(dims)
