"""Absorption: the algebra of MLA, small enough to see every number."""

import streamlit as st

from mla_viz.ui.absorption import algebra, stages
from mla_viz.ui.absorption.dims import chosen_dims

dims = chosen_dims()
st.header("Absorption: the algebra with every number in sight", anchor=False)
st.caption(
    "What is cached, what is absorbed into what, and why RoPE stands apart. Counts are made with"
    " the dims of DeepSeek-V3, or of another model chosen in the sidebar."
)

st.subheader("Before the latent", anchor="before", divider="gray")
stages.before_the_latent(dims)

st.subheader("One step of MLA, absorbed", anchor="step", divider="gray")
stages.steps(dims)

st.subheader("Three ways to the same output", anchor="flows", divider="gray")
algebra.three_flows(dims)

st.subheader("The bracket", anchor="bracket", divider="gray")
st.markdown(
    "A product of three matrices may be bracketed either way. That is all that absorption is: the"
    " same score, by another order of multiplying."
)
algebra.bracket(dims)

st.subheader("Merged ahead, or absorbed on the way", anchor="merged", divider="gray")
st.markdown(
    "If W_UK moves to the query, why not multiply W_UQ and W_UK once and for all? Because a narrow"
    " pair becomes one wide matrix. Below, c is kv_lora_rank."
)
algebra.merging(dims)

st.subheader("Why RoPE stands apart", anchor="rope", divider="gray")
algebra.rope()

st.subheader("In every number format", anchor="formats", divider="gray")
algebra.formats()

st.subheader("One word or many: decode and prefill", anchor="prefill", divider="gray")
st.markdown(
    "With many query tokens at once, keys and values rebuilt once serve all of them, while the"
    " absorbed form pays its wider scores for each."
)
algebra.prefill(dims)
