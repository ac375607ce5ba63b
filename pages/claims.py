"""Claims: what is true of what one reads about MLA."""

import streamlit as st

from mla_viz.ui.claims import chosen_inputs, claim_cards

st.title("What is true of what one reads", anchor=False)
st.caption(
    "Popular claims about multi-head latent attention, reckoned here from the dims of the models."
    " A ratio means nothing without its baseline, so each ratio names its own."
)
claim_cards(chosen_inputs())
