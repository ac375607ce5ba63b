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
    brackets,
    cache_elems,
    core_flops,
    crossover_query_tokens,
    flows,
    merge_growth,
    operations,
    query_flops,
)
from mla_viz.figures.matrix import matrix_html
from mla_viz.lesson import (
    CACHED,
    FIXED,
    GEOMETRY,
    GROWTH,
    PASSING,
    WORDS,
    Lesson,
    format_errors,
    make_lesson,
    rope_break,
    stage_matrices,
)

ROOT = Path(__file__).parents[2]
PROSE_FILE = ROOT / "mla_viz" / "data" / "absorption.toml"
TOY, OWN = "the lesson's own", "other dims"
DISTANCES = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]


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
        name: st.number_input(name, 0, value=getattr(GEOMETRY, name), key=name, bind="query-params")
        for name in (*names, "kv_lora_rank")
    }
    rank = st.number_input("q_lora_rank (0: none)", 0, key="q_lora_rank", bind="query-params")
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
    shown = stage_matrices(make_lesson())
    for column, name in zip(st.columns(len(stage["matrices"])), stage["matrices"], strict=True):
        matrix = shown[name]
        column.html(
            matrix_html(
                matrix.name, matrix.values, matrix.role, matrix.rows, name in ("C_KV", "K_R")
            )
        )
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
    if not stage["operation"]:
        st.caption("No matrix product: nothing is counted.")
        return
    for label, geometry, tokens in (
        ("here", GEOMETRY, len(WORDS)),
        ("at the dims chosen", g, 4096),
    ):
        line = next(
            op
            for op in operations("mla_absorbed", geometry, tokens, 1)
            if op.name == stage["operation"]
        )
        st.caption(
            f"{label}, {tokens:,} words cached: {line.formula}, {line.batch}×({line.rows:,}×"
            f"{line.inner:,})·({line.inner:,}×{line.columns:,}), {flops_text(line.flops)}"
        )


def three_flows(g: MLAGeometry) -> None:
    """Naive, the lecture's flow and the absorbed one, at the dims chosen."""
    tokens = st.slider("Cached tokens", 1, 131072, 4096, key="flow_tokens", bind="query-params")
    rows = [
        {
            "flow": flow.label,
            "cached a token": flow.cache_elems,
            "FLOPs of a step": flops_text(flow.flops),
            "made and thrown away": f"{flow.working_elems:,} elements",
        }
        for flow in flows(g, tokens)
    ]
    st.table(rows)
    lesson = make_lesson()
    gap = abs(lesson.o_head - lesson.o_from_values).max()
    st.caption(f"In the lesson both value sides give the same outputs, to {gap:.0e}.")


def bracket(g: MLAGeometry) -> None:
    """One product of three matrices, bracketed both ways, for scores and for values."""
    ask("bracket")
    lesson = make_lesson()
    both = (
        ("content part, from the latent", lesson.content),
        (
            "content part, from rebuilt keys",
            lesson.content_from_keys,
        ),
    )
    for column, (name, values) in zip(st.columns(2), both, strict=True):
        column.html(matrix_html(name, values[:, 0], PASSING, ("head 1", "head 2")))
    for side, words in (("scores", "Scores"), ("context", "Values")):
        rows = []
        for tokens in (1, 100, 100_000):
            absorbed, rebuilt = brackets(g, tokens)[side]
            rows.append(
                {
                    "cached": f"{tokens:,}",
                    absorbed.formula: flops_text(absorbed.flops),
                    "between": absorbed.between,
                    rebuilt.formula: flops_text(rebuilt.flops),
                    "in between": rebuilt.between,
                }
            )
        st.markdown(f"**{words}**, one head, at the dims chosen")
        st.table(rows)


def merging(g: MLAGeometry) -> None:
    """What multiplying the weights ahead costs, and when it would save."""
    outer = g.q_lora_rank or g.d_model
    name = "q_lora_rank" if g.q_lora_rank else "d_model"
    sides = (
        ("W_UQ·W_UKᵀ", name, outer, "qk_nope_head_dim", g.qk_nope_head_dim),
        ("W_UV·W_O", "d_model", g.d_model, "v_head_dim", g.v_head_dim),
    )
    rows = []
    for product, outer_name, r, dim_name, dim in sides:
        growth = merge_growth(r, g.kv_lora_rank, dim)
        apart = g.n_heads * dim * (r + g.kv_lora_rank)
        threshold = r * g.kv_lora_rank / (r + g.kv_lora_rank)
        rows.append(
            {
                "merged": product,
                "weights apart": f"{apart:,} ({apart * 2 / 1e6:,.3g} MB)",
                "merged weights": f"{round(apart * growth):,} ({apart * growth * 2 / 1e6:,.3g} MB)",
                "growth": f"{growth:.2f}x",
                "grows where": f"{dim_name} < {outer_name}·c / ({outer_name} + c) ="
                f" {threshold:.1f}",
                "here": f"{dim}: {'grows' if growth > 1 else 'shrinks'}",
            }
        )
        if growth <= 1:
            st.warning(
                f"At these dims merging {product} shrinks the weights: {dim_name} {dim} is above"
                f" {threshold:.1f}. These dims teach the opposite of DeepSeek-V3's."
            )
    st.table(rows)


def rope() -> None:
    """RoPE on the content path breaks the identity; a key of its own repairs it."""
    ask("rope")
    on_content = st.toggle("RoPE on the content path", key="rope_on_content", bind="query-params")
    if on_content:
        differences = rope_break(DISTANCES)
        st.markdown(
            "A rotation by the distance now stands between the query and W_UK, and the absorbed"
            " form has no place for it. So far apart are the two scores then: mean difference over"
            " mean score, of 256 seeded pairs of a query and a key of 64 dims, RoPE base 10,000."
        )
        st.table(
            [
                {"distance": d, "difference": f"{x:.0%}"}
                for d, x in zip(DISTANCES, differences, strict=True)
            ]
        )
        return
    st.markdown(
        "Position has a query and a key of its own, turned before they are cached; content is never"
        " turned. Each score is the sum of both parts, and the identity holds."
    )
    lesson: Lesson = make_lesson()
    shown = stage_matrices(lesson)
    for column, name in zip(
        st.columns(3), ("content part", "position part", "scores"), strict=True
    ):
        matrix = shown[name]
        column.html(matrix_html(matrix.name, matrix.values, matrix.role, matrix.rows))


@st.cache_data(show_spinner=False)
def _formats() -> list[dict[str, str]]:
    rows = []
    for record in format_errors():
        expanded, absorbed = (
            "never" if power is None else f"2^{power}" for power in record.overflows_from
        )
        rows.append(
            {
                "format": record.dtype,
                "expanded, from float64": f"{record.expanded:.1e}",
                "absorbed, from float64": f"{record.absorbed:.1e}",
                "expanded overflows at": expanded,
                "absorbed overflows at": absorbed,
            }
        )
    return rows


def formats() -> None:
    """How far both paths are from float64, and where float16 gives up."""
    st.table(_formats())
    st.markdown(
        "Neither path is the more accurate one: they round differently. The last two columns scale"
        " W_UK and W_UV up by a power of two and the latents down by the same, which leaves the"
        f" model as it is (tried to 2^{GROWTH}). In float16, which ends at 65,504, the absorbed"
        " query q·W_UKᵀ passes that end before the rest does: real engines compute it in bfloat16"
        " or float32."
    )


def prefill(g: MLAGeometry) -> None:
    """FLOPs of both forms as the number of query tokens grows, and where they cross."""
    tokens = st.slider("Tokens in the cache", 1, 131072, 32768, key="prefill", bind="query-params")
    endless, here = crossover_query_tokens(g), crossover_query_tokens(g, tokens)
    if endless is None:
        st.info(
            "At these dims there is no crossover: 2·kv_lora_rank ≤ qk_nope_head_dim + v_head_dim,"
            " so absorbing takes fewer FLOPs for any number of query tokens over a long context."
        )
    else:
        st.markdown(
            f"They cross at **{endless:.1f}** query tokens over an endless context,"
            f" c(n + v) / (2c − n − v), and at {here:.1f} over {tokens:,} tokens."
        )
    rows = []
    for queries in (1, 16, 64, 128, 171, 256, 1024, 4096):
        absorbed, rebuilt = (
            query_flops(form, g, queries, tokens) for form in ("mla_absorbed", "mla_reexpand")
        )
        fewer = "absorbed" if absorbed < rebuilt else "rebuilt"
        rows.append(
            {
                "query tokens": f"{queries:,}",
                "absorbed": flops_text(absorbed),
                "rebuilt": flops_text(rebuilt),
                "fewer": f"{fewer}, {max(absorbed, rebuilt) / min(absorbed, rebuilt):.1f}x",
            }
        )
    st.table(rows)
    st.caption(
        f"A cached token costs one query {flops_text(core_flops('mla_absorbed', g))} absorbed and"
        f" {flops_text(core_flops('mla_expanded', g))} from ready keys and values."
    )
