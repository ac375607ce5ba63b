"""The Absorption page's two walks: nine stages before the latent, eight of one absorbed step."""

from pathlib import Path
from typing import Any

import streamlit as st

from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.cost import baselines, cache_elems, operations
from mla_viz.figures.table import table_html
from mla_viz.findings.lesson import CACHED, FIXED, GEOMETRY, PASSING, WORDS
from mla_viz.mechanisms.ledger import Operation
from mla_viz.mechanisms.table import group_kv_heads
from mla_viz.ui.absorption.parts import ask, prose, show_matrices
from mla_viz.words import flops_text, gb_text, product_text

ROOT = Path(__file__).parents[3]
CONTEXT = 4096  # tokens that the stages count with


def _stage_picker(kind: str, label: str, titles: list[str]) -> int:
    """A stage by slider, with Back and Next beside it."""
    key = f"{kind}_stage"

    def move(by: int) -> None:
        st.session_state[key] = min(len(titles), max(1, st.session_state[key] + by))

    back, slider, forward = st.columns([1, 4, 1], vertical_alignment="bottom")
    with slider:
        number = st.slider(label, 1, len(titles), 1, key=key, bind="query-params")
    back.button(
        "Back", key=f"{key}_back", on_click=move, args=(-1,), width="stretch", disabled=number == 1
    )
    forward.button(
        "Next",
        key=f"{key}_next",
        on_click=move,
        args=(1,),
        width="stretch",
        disabled=number == len(titles),
    )
    st.markdown(f"#### {number}. {titles[number - 1]}")
    return number - 1


def before_the_latent(g: MLAGeometry) -> None:
    """The nine stages that lead to the latent."""
    stages = prose()["before"]
    stage = stages[
        _stage_picker("before", "Stage before the latent", [stage["title"] for stage in stages])
    ]
    st.markdown(stage["text"].format(**_before_figures(g, CONTEXT)))
    st.latex(stage["formula"])
    if stage.get("sliders"):
        cache_factors()
    st.caption(f"In this project: {stage['code']}")


def _before_figures(g: MLAGeometry, context: int) -> dict[str, Any]:
    plain = GQAGeometry(g.d_model, g.n_heads, g.n_heads, g.v_head_dim)
    elems = {b.label.partition("-")[0].lower(): b.elems for b in baselines(g.n_heads, g.v_head_dim)}
    cached = sum(op.flops for op in operations("mha", plain, context, 1))
    again = sum(op.flops for op in operations("recompute", g, context, 1))
    return {
        "context": context,
        "fed": context * (context + 1) // 2,
        "recompute": flops_text(again),
        "cached": flops_text(cached),
        "n_heads": g.n_heads,
        "v_head_dim": g.v_head_dim,
        "kv_lora_rank": g.kv_lora_rank,
        "qk_rope_head_dim": g.qk_rope_head_dim,
        "groups": group_kv_heads(g.n_heads),
        "mha": elems["mha"],
        "mqa": elems.get("mqa", elems["mha"]),
        "gqa": elems.get("gqa", elems["mha"]),
        "mla": cache_elems("mla_absorbed", g),
    }


def cache_factors() -> None:
    """L B n h S 2 2 bytes, with a slider for each factor."""
    columns = st.columns(5)
    starts = (
        ("Layers L", 1, 128, 61, 1),
        ("Sequences B", 1, 64, 1, 1),
        ("Heads n", 1, 128, 128, 1),
        ("Head dims h", 2, 256, 128, 2),
        ("Tokens S", 1, 131072, 100000, 1),
    )
    values = [
        column.slider(label, low, high, start, step, key=f"factor_{label[-1]}", bind="query-params")
        for column, (label, low, high, start, step) in zip(columns, starts, strict=True)
    ]
    layers, sequences, heads, dims, tokens = values
    total = layers * sequences * tokens * 2 * cache_elems("mha", GQAGeometry(1, heads, heads, dims))
    st.markdown(
        f"{layers} · {sequences} · {heads} · {dims} · {tokens:,} · 2 · 2 ="
        f" **{total:,} bytes = {gb_text(total)}**"
    )


def steps(g: MLAGeometry) -> None:
    """The eight stages of one absorbed step, every number in sight."""
    stages = prose()["step"]
    st.caption(
        f"Words: {', '.join(WORDS)}. Colours and words tell how long a matrix lives: {FIXED},"
        f" {CACHED}, or {PASSING}. d_model 8, 2 heads of 2, latent 4, RoPE 2; the norm of the"
        " latent is left out, so that cells can be checked by hand."
    )
    stage = stages[_stage_picker("step", "Stage of the step", [stage["title"] for stage in stages])]
    ask(stage["key"])
    st.markdown(stage["text"])
    st.latex(stage["formula"])
    show_matrices(stage["matrices"])
    _ledger(stage, g)
    st.code(stage["code"], language="python")
    st.caption(f"{stage['file']}, line {code_line(stage['file'], stage['code'])}")


def code_line(file: str, code: str) -> int:
    """Where a line stands in this project, from 1.

    Raises:
        ValueError: it stands there no more.
    """
    lines = [line.strip() for line in (ROOT / file).read_text().splitlines()]
    return lines.index(code) + 1


def _ledger(stage: dict[str, Any], g: MLAGeometry) -> None:
    """The stage's products, with shapes and FLOPs, in the lesson and at the dims chosen."""
    if not stage["operations"]:
        st.caption("No matrix product: nothing is counted.")
        return
    dims = (("in the lesson", GEOMETRY, len(WORDS)), ("chosen", g, CONTEXT))
    rows = [
        _ledger_row(f"{label}, {tokens:,} words cached", line)
        for label, geometry, tokens in dims
        for line in operations("mla_absorbed", geometry, tokens, 1)
        if line.name in stage["operations"]
    ]
    st.html(table_html(rows))


def _ledger_row(dims: str, line: Operation) -> dict[str, str]:
    shapes = (line.rows, line.inner), (line.inner, line.columns)
    return {
        "dims": dims,
        "product": line.formula,
        "shapes": product_text(line.batch, *shapes),
        "FLOPs": flops_text(line.flops),
    }
