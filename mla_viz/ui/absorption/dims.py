"""The dims that the Absorption page counts with: a published model's, the lesson's, or others."""

import streamlit as st

from mla_viz.config import MLAGeometry
from mla_viz.findings.lesson import GEOMETRY
from mla_viz.published.catalog import MODELS

TOY, OWN = "the lesson's own", "other dims"


def chosen_dims() -> tuple[str, MLAGeometry]:
    """The sidebar's choice of dims that the counts are made with, by name; own ones where legal."""
    models = {name: m for name, m in MODELS.items() if isinstance(m.attention, MLAGeometry)}
    with st.sidebar:
        name = st.selectbox("Count with the dims of", [*models, TOY, OWN], key="dims")
        st.caption("The matrices are always the lesson's own; the counts follow this choice.")
        if name in models:
            return name, models[name].attention
        return name, GEOMETRY if name == TOY else _own_dims()


def _own_dims() -> MLAGeometry:
    """Numbers for every dim, begun at the lesson's; what is not legal is said beside them."""
    names = ("d_model", "n_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    values = {
        name: st.number_input(
            name, 0, value=getattr(GEOMETRY, name), key=f"own_{name}", bind="query-params"
        )
        for name in (*names, "kv_lora_rank")
    }
    rank = st.number_input("q_lora_rank (0: none)", 0, key="own_q_lora_rank", bind="query-params")
    try:
        st.session_state.own_dims = MLAGeometry(**values, q_lora_rank=rank or None)
    except ValueError as error:
        st.error(str(error))
    return st.session_state.get("own_dims", GEOMETRY)
