"""The Claims page's parts: what a reader may change, and a card for every claim."""

from itertools import groupby

import streamlit as st

from mla_viz.findings.claims.inputs import Inputs
from mla_viz.findings.claims.judge import CONDITIONAL, RIGHT, VERDICTS, WRONG, Claim, judge
from mla_viz.ui.numbers import Numbers
from mla_viz.words import amount_text

BADGES = {
    RIGHT: ("green", ":material/check:"),
    CONDITIONAL: ("orange", ":material/rule:"),
    WRONG: ("red", ":material/close:"),
}
LABELS = {
    "n_layers": "Layers",
    "d_model": "Width (d_model)",
    "n_heads": "Heads",
    "qk_nope_head_dim": "Content dims of a head (qk_nope)",
    "qk_rope_head_dim": "RoPE dims (qk_rope)",
    "v_head_dim": "Value dims of a head (v)",
    "kv_lora_rank": "Latent dim (kv_lora_rank)",
    "q_lora_rank": "Query latent (q_lora_rank, 0: none)",
    "cache_bits": "Bits of a cached element",
    "deployed_bits": "Bits of V2's quantised cache",
    "context": "Context, tokens",
    "gpus": "GPUs that share a layer",
}


def chosen_inputs() -> Inputs:
    """The sidebar's numbers; where they are not legal, the last ones that were."""
    st.sidebar.caption("The start is DeepSeek-V3. Change a number and see which claims survive.")
    numbers = Numbers(LABELS, Inputs(), "claim")
    try:
        st.session_state.claim_inputs = Inputs(**numbers.whole())
    except ValueError as error:
        numbers.refuse(error, st.session_state.setdefault("claim_inputs", Inputs()))
    return st.session_state.claim_inputs


def claim_cards(inputs: Inputs) -> None:
    """Every claim, by group, with what it comes to."""
    claims = judge(inputs)
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in VERDICTS}
    shown = st.pills(
        "Verdicts shown",
        VERDICTS,
        selection_mode="multi",
        default=VERDICTS,
        format_func=lambda verdict: f"{verdict} ({counts[verdict]})",
        key="verdicts",
    )
    visible = [claim for claim in claims if claim.verdict in shown]
    if not visible:
        st.info("No claim has a verdict that is picked above.")
    for group, members in groupby(visible, key=lambda claim: claim.group):
        st.header(group, anchor=False)
        for claim in members:
            with st.container(border=True, key=f"claim-{claim.id}"):
                _card(claim)


def value_text(claim: Claim) -> str:
    """The value with its unit: `56.9 times`; where there is none, that."""
    return "there is none" if claim.value is None else amount_text(claim.value, claim.unit)


def _card(claim: Claim) -> None:
    words, number = st.columns([3, 2])
    with words:
        colour, icon = BADGES[claim.verdict]
        st.badge(claim.verdict, color=colour, icon=icon)
        st.markdown(f"**“{claim.claim}”**")
        st.markdown(claim.say_instead)
    with number:
        st.markdown(f"### {value_text(claim)}")
        st.caption(f"Baseline: {claim.baseline}")
    used = ", ".join(f"{name} {value:,}" for name, value in claim.inputs.items())
    st.caption(f"{claim.formula}, with {used}  \nSource: {claim.source}. Id: {claim.id}")
