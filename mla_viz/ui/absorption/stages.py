"""The Absorption page's two walks: nine stages before the latent, eight of one absorbed step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.cost import baselines, cache_elems, operations, whole_prefix_flops
from mla_viz.figures.table import table_html
from mla_viz.findings.lesson import GEOMETRY, WORDS, Lesson, make_lesson
from mla_viz.mechanisms.ledger import Operation
from mla_viz.mechanisms.table import group_kv_heads
from mla_viz.ui.absorption.parts import ask, prose, show_formula
from mla_viz.ui.absorption.picture import show_drawing
from mla_viz.words import count_text, flops_text, gb_text, product_text

ROOT = Path(__file__).parents[3]
CONTEXT = 4096  # tokens that the stages count with


def _stage_picker(kind: str, label: str, titles: list[str]) -> int:
    """A stage by slider, with Back and Next beside it."""
    key, last = f"{kind}_stage", len(titles)

    def move(by: int) -> None:
        st.session_state[key] = min(last, max(1, st.session_state[key] + by))

    back, slider, forward = st.columns([1, 4, 1], vertical_alignment="bottom")
    with slider:
        number = st.slider(label, 1, last, 1, key=key, bind="query-params")
    # Both stay enabled, since a button that is disabled while it has the focus loses it.
    at_start, at_end = number == 1, number == last
    for column, label, name, by in (
        (back, "To the end" if at_start else "Back", "back", last - 1 if at_start else -1),
        (forward, "To the start" if at_end else "Next", "next", 1 - last if at_end else 1),
    ):
        column.button(label, key=f"{key}_{name}", on_click=move, args=(by,), width="stretch")
    st.markdown(f"### {number}. {titles[number - 1]}")
    return number - 1


def before_the_latent(g: MLAGeometry) -> None:
    """The nine stages that lead to the latent."""
    stages = prose()["before"]
    stage = stages[
        _stage_picker("before", "Stage before the latent", [stage["title"] for stage in stages])
    ]
    st.markdown(stage["text"].format(**_before_figures(g, CONTEXT)))
    show_formula(stage["formula"])
    if stage.get("sliders"):
        cache_factors()
    st.caption(f"In this project: {stage['code']}")


def _before_figures(g: MLAGeometry, context: int) -> dict[str, Any]:
    plain = GQAGeometry(g.d_model, g.n_heads, g.n_heads, g.v_head_dim)
    elems = {b.label.partition("-")[0].lower(): b.elems for b in baselines(g.n_heads, g.v_head_dim)}
    cached = sum(op.flops for op in operations("mha", plain, context, 1))
    return {
        "context": context,
        "fed": context * (context + 1) // 2,
        "recompute": flops_text(whole_prefix_flops(plain, context)),
        "cached": flops_text(cached),
        "heads": count_text(g.n_heads, "head"),
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
    """L B n d_h S 2 2 bytes, with a slider for each factor."""
    columns = st.columns(5)
    starts = (
        ("Layers L", 1, 128, 61, 1),
        ("Sequences B", 1, 64, 1, 1),
        ("Heads n", 1, 128, 128, 1),
        ("Dims of a head d_h", 2, 256, 128, 2),
        ("Tokens S", 1, 131072, 100000, 1),
    )
    values = [
        column.slider(label, low, high, start, step, key=f"factor_{label[-1]}", bind="query-params")
        for column, (label, low, high, start, step) in zip(columns, starts, strict=True)
    ]
    layers, sequences, heads, dims, tokens = values
    try:
        elems = cache_elems("mha", GQAGeometry(1, heads, heads, dims))
    except ValueError as error:  # an odd number in the address
        st.error(str(error))
        return
    total = layers * sequences * tokens * 2 * elems
    st.markdown(
        f"{layers} · {sequences} · {heads} · {dims} · {tokens:,} · 2 · 2 ="
        f" **{total:,} bytes = {gb_text(total)}**"
    )


def steps(g: MLAGeometry) -> None:
    """The eight stages of one absorbed step, every number in sight."""
    stages, toy = prose()["step"], GEOMETRY
    st.caption(
        f"Words: {', '.join(WORDS)}. d_model {toy.d_model}, {toy.n_heads} heads of"
        f" {toy.v_head_dim}, latent {toy.kv_lora_rank}, RoPE {toy.qk_rope_head_dim}. Every matrix"
        " that is multiplied is drawn, its numbers to two digits. The norm of the latent is left"
        " out."
    )
    number = _stage_picker("step", "Stage of the step", [stage["title"] for stage in stages])
    stage = stages[number]
    ask(stage["key"])
    st.markdown(stage["text"])
    show_formula(stage["formula"])
    picture, naive = st.container(), _naive_side()
    with picture:
        bands, label = _counted(stage["band"]), f"Drawing of stage {number + 1}"
        show_drawing(bands, label, "step_drawing", naive)
    _ledger(stage, g)
    st.code(stage["code"], language="python", wrap_lines=True)
    st.caption(f"{stage['file']}, line {code_line(stage['file'], stage['code'])}")


def _naive_side() -> Lesson:
    """The lesson of the naive side: the same weights, or by a switch one of them another."""
    lesson = make_lesson()
    words = "Change one weight on the naive side, and see which equals signs break"
    if not st.toggle(words, key="changed_weight", bind="query-params"):
        return lesson
    changed = lesson.W_UK.copy()
    changed[0, 0, 0] += 1
    st.caption(
        f"W_UK head 1, row 1, column 1: {changed[0, 0, 0]:g} on the naive side,"
        f" {lesson.W_UK[0, 0, 0]:g} on the absorbed one."
    )
    return replace(lesson, W_UK=changed)


def _counted(bands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bands whose sentences say how many numbers each side has cached of the lesson's words."""
    sides = {"naive": "mla_expanded", "absorbed": "mla_absorbed"}
    counts = {side: len(WORDS) * cache_elems(name, GEOMETRY) for side, name in sides.items()}
    return [
        band | {key: text.format(**counts) for key, text in band.items() if key.endswith("_says")}
        for band in bands
    ]


def code_line(file: str, code: str) -> int:
    """Where a line stands in this project, from 1.

    Raises:
        ValueError: it stands there no more.
    """
    lines = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    return lines.index(code) + 1


def _ledger(stage: dict[str, Any], g: MLAGeometry) -> None:
    """The stage's products in a layer, in the lesson and at the dims chosen."""
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
        "FLOPs of a layer": flops_text(line.flops),
    }
