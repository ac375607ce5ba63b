"""The dims that the Absorption page counts with: a published model's, the lesson's, or others."""

import streamlit as st

from mla_viz.config import MLAGeometry
from mla_viz.findings.lesson import GEOMETRY
from mla_viz.published.catalog import judged_models
from mla_viz.ui.numbers import Numbers

TOY, OWN = "the lesson's own", "other dims"
OWN_LABELS = {
    name: name
    for name in (
        "d_model",
        "n_heads",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "kv_lora_rank",
    )
} | {"q_lora_rank": "q_lora_rank (0: none)"}


def chosen_dims() -> tuple[str, MLAGeometry]:
    """The sidebar's choice of dims that the counts are made with, by name; own ones where legal."""
    models = {
        name: m for name, m in judged_models().items() if isinstance(m.attention, MLAGeometry)
    }
    with st.sidebar:
        name = st.selectbox("Count with the dims of", [*models, TOY, OWN], key="dims")
        st.caption("The matrices are always the lesson's own; the counts follow this choice.")
    if name in models:
        return name, models[name].attention
    return name, GEOMETRY if name == TOY else _own_dims()


def _own_dims() -> MLAGeometry:
    """Numbers for every dim, begun at the lesson's; what is not legal is said beside them."""
    numbers = Numbers(OWN_LABELS, GEOMETRY, "own")
    try:
        values = numbers.whole()
        rank = values.pop("q_lora_rank") or None
        st.session_state.own_dims = MLAGeometry(**values, q_lora_rank=rank)
    except ValueError as error:
        numbers.refuse(error, st.session_state.setdefault("own_dims", GEOMETRY))
    return st.session_state.own_dims
