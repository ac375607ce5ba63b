"""The Absorption page's later sections: flows, brackets, merging, RoPE, number formats, prefill."""

import streamlit as st

from mla_viz.config import MLAGeometry
from mla_viz.cost import (
    brackets,
    core_flops,
    crossover_query_tokens,
    flows,
    merge_growth,
    query_flops,
)
from mla_viz.figures.matrix import matrix_html
from mla_viz.figures.table import table_html
from mla_viz.findings.lesson import GROWTH, PASSING, format_errors, make_lesson, rope_break
from mla_viz.ui.absorption.parts import ask, show_matrices
from mla_viz.words import flops_text, gap_text, mb_text, share_text

DISTANCES = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]


def three_flows(g: MLAGeometry) -> None:
    """Naive, the lecture's flow and the absorbed one, at the dims chosen."""
    tokens = st.slider("Cached tokens", 1, 131072, 4096, key="flow_tokens", bind="query-params")
    rows = [
        {
            "flow": flow.label,
            "cached a token": f"{flow.cache_elems:,}",
            "FLOPs of a step": flops_text(flow.flops),
            "made and thrown away, 16 bits": mb_text(flow.working_elems * 2),
        }
        for flow in flows(g, tokens)
    ]
    st.html(table_html(rows))
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
        st.html(table_html(rows))


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
                "weights apart": f"{apart:,} ({mb_text(apart * 2)})",
                "merged weights": f"{round(apart * growth):,} ({mb_text(apart * growth * 2)})",
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
    st.html(table_html(rows))


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
        pairs = zip(DISTANCES, differences, strict=True)
        rows = [{"distance": f"{d}", "difference": share_text(x)} for d, x in pairs]
        st.html(table_html(rows))
        return
    st.markdown(
        "Position has a query and a key of its own, turned before they are cached; content is never"
        " turned. Each score is the sum of both parts, and the identity holds."
    )
    show_matrices(["content part", "position part", "scores"])


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
                "expanded, from float64": gap_text(record.expanded),
                "absorbed, from float64": gap_text(record.absorbed),
                "expanded overflows at": expanded,
                "absorbed overflows at": absorbed,
            }
        )
    return rows


def formats() -> None:
    """How far both paths are from float64, and where float16 gives up."""
    st.html(table_html(_formats()))
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
    st.html(table_html(rows))
    st.caption(
        f"A cached token costs one query {flops_text(core_flops('mla_absorbed', g))} absorbed and"
        f" {flops_text(core_flops('mla_expanded', g))} from ready keys and values."
    )
