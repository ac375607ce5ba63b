"""The Absorption page's sections: stages, brackets, merging, RoPE, number formats, prefill."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from mla_viz.catalog import MODELS
from mla_viz.config import GQAGeometry, MLAGeometry, group_kv_heads
from mla_viz.cost import (
    baselines,
    cache_elems,
    operations,
)
from mla_viz.figures.matrix import matrix_html
from mla_viz.lesson import (
    CACHED,
    FIXED,
    GEOMETRY,
    PASSING,
    WORDS,
    make_lesson,
    stage_matrices,
)

ROOT = Path(__file__).parents[2]
PROSE_FILE = ROOT / "mla_viz" / "data" / "absorption.toml"
TOY, OWN = "the lesson's own", "other dims"


@cache
def prose() -> dict[str, list[dict[str, Any]]]:
    """The page's texts, read once."""
    return tomllib.loads(PROSE_FILE.read_text())


def chosen_dims() -> MLAGeometry:
    """The sidebar's choice of dims that the counts are made with; own ones where they are legal."""
    models = {name: m for name, m in MODELS.items() if isinstance(m.attention, MLAGeometry)}
    with st.sidebar:
        name = st.selectbox("Count with the dims of", [*models, TOY, OWN], key="dims")
        st.caption("The matrices are always the lesson's own; the counts follow this choice.")
        if name in models:
            return models[name].attention
        return GEOMETRY if name == TOY else _own_dims()


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


def ask(before: str) -> None:
    """Predict, then reveal: the question that stands before a stage, if there is one."""
    for entry in prose()["question"]:
        if entry["before"] != before:
            continue
        with st.container(border=True):
            key = f"guess_{before}"
            guess = st.radio(
                f"Predict first, or read on: {entry['question']}",
                entry["options"],
                index=None,
                key=key,
                horizontal=True,
            )
            if guess is not None:
                right = guess == entry["answer"]
                words = "Right." if right else f"No: {entry['answer']}."
                (st.success if right else st.info)(f"{words} {entry['reason']}")


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
    context = 4096
    st.markdown(stage["text"].format(**_before_figures(g, context)))
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
        ("Layers L", 1, 128, 61),
        ("Sequences B", 1, 64, 1),
        ("Heads n", 1, 128, 128),
        ("Head dims h", 1, 256, 128),
        ("Tokens S", 1, 131072, 100000),
    )
    values = [
        column.slider(label, low, high, start, key=f"factor_{label[-1]}", bind="query-params")
        for column, (label, low, high, start) in zip(columns, starts, strict=True)
    ]
    layers, sequences, heads, dims, tokens = values
    elems = (
        cache_elems("mha", GQAGeometry(1, heads, heads, dims + dims % 2))
        * dims
        // (dims + dims % 2)
    )
    total = layers * sequences * tokens * elems * 2
    st.markdown(
        f"{layers} · {sequences} · {heads} · {dims} · {tokens:,} · 2 · 2 ="
        f" **{total:,} bytes = {total / 1e9:,.2f} GB**"
    )


def flops_text(flops: int) -> str:
    """`1.52 GFLOP`, `282 kFLOP`: three digits."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if flops >= size:
            return f"{flops / size:.3g} {unit}FLOP"
    return f"{flops:.0f} FLOP"


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


def show_matrices(names: list[str]) -> None:
    """Matrices of the lesson side by side; the caches with their newest row framed."""
    shown = stage_matrices(make_lesson())
    for column, name in zip(st.columns(len(names)), names, strict=True):
        matrix = shown[name]
        new_row = name in ("C_KV", "K_R")
        column.html(matrix_html(name, matrix.values, matrix.role, matrix.rows, new_row))


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
    rows = []
    for label, geometry, tokens in (("in the lesson", GEOMETRY, len(WORDS)), ("chosen", g, 4096)):
        for line in operations("mla_absorbed", geometry, tokens, 1):
            if line.name in stage["operations"]:
                heads = f"{line.batch}×" if line.batch > 1 else ""
                shapes = f"({line.rows:,}×{line.inner:,})·({line.inner:,}×{line.columns:,})"
                rows.append(
                    {
                        "dims": f"{label}, {tokens:,} words cached",
                        "product": line.formula,
                        "shapes": heads + shapes,
                        "FLOPs": flops_text(line.flops),
                    }
                )
    st.table(rows)
