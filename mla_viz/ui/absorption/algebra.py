"""The Absorption page's later sections: flows, brackets, merging, RoPE, number formats, prefill."""

import streamlit as st

from mla_viz.config import MLAGeometry
from mla_viz.cost import (
    Flow,
    brackets,
    core_flops,
    crossover_query_tokens,
    flows,
    merge_growth,
    query_flops,
)
from mla_viz.figures.table import table_html
from mla_viz.findings.lesson import (
    FORMAT_GEOMETRY,
    FORMAT_TOKENS,
    GROWTH,
    Naive,
    converted,
    format_errors,
    make_lesson,
    rope_break,
)
from mla_viz.ui.absorption.parts import ask, meanings, prose
from mla_viz.ui.absorption.picture import show_drawing
from mla_viz.words import count_text, flops_text, gap_text, mb_text, share_text

DISTANCES = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]


def four_flows(g: MLAGeometry) -> None:
    """Naive, rebuilt, half absorbed and absorbed, and what absorbing saves against which."""
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
    st.markdown(saving_words(*flows(g, tokens)))
    lesson = make_lesson()
    gap = abs(lesson.o_head - converted(lesson, Naive).o_head).max()
    st.caption(
        "One layer and one new token, the same weights in all four. In the lesson both value sides"
        f" give the same outputs, to {gap:.0e}."
    )


def saving_words(naive: Flow, rebuilt: Flow, _: Flow, absorbed: Flow) -> str:
    """What absorbing both sides saves or costs, with the baseline of each figure."""
    return (
        "Against keys and values rebuilt from the same cache at each step, absorbing takes"
        f" **{_compared(absorbed.flops, rebuilt.flops)} FLOPs**. Against those that the naive form"
        f" keeps, it takes **{_compared(absorbed.flops, naive.flops)} FLOPs** and caches"
        f" {_compared(absorbed.cache_elems, naive.cache_elems)} elements."
    )


def _compared(one: int, other: int) -> str:
    if one == other:
        return "as many"
    return f"{max(one, other) / min(one, other):.1f}x {'fewer' if one < other else 'more'}"


def bracket(g: MLAGeometry) -> None:
    """One product of three matrices, bracketed both ways, for scores and for values."""
    ask("bracket")
    st.markdown("**Head 1 of the lesson**, its keys rebuilt of the latents, and from the latents")
    show_drawing(prose()["bracket"], "Drawing of both brackets", "bracket_drawing")
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
        st.markdown(f"**{words}**, one head, one new token, at the dims chosen")
        st.html(table_html(rows))
    st.caption(meanings(("q", "p", "C_KV", "W_UK", "W_UV")))


def merging(g: MLAGeometry) -> None:
    """What multiplying the weights ahead costs, and when it would save."""
    outer = g.q_lora_rank or g.d_model
    name = "d_q" if g.q_lora_rank else "d_model"
    sides = (
        ("W_UQ·W_UKᵀ", name, outer, "d_n", g.qk_nope_head_dim),
        ("W_UV·W_O", "d_model", g.d_model, "d_v", g.v_head_dim),
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
                "grows where": f"{dim_name} < {outer_name}·d_c / ({outer_name} + d_c) ="
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
    st.caption(f"All heads of one layer, 16 bits a weight. {meanings(('d_n', 'd_v', 'd_c', name))}")


def rope() -> None:
    """RoPE on the content path breaks the identity; a key of its own repairs it."""
    ask("rope")
    on_content = st.toggle("RoPE on the content path", key="rope_on_content", bind="query-params")
    if on_content:
        differences = rope_break(DISTANCES)
        st.markdown(
            "A rotation by the distance now stands between the query and W_UK, and the absorbed"
            " form has no place for it. So far is the absorbed score from the true one then: mean"
            " |true − absorbed| over mean |true|, of 256 seeded pairs of a query and a key of 64"
            " dims, RoPE base 10,000."
        )
        pairs = zip(DISTANCES, differences, strict=True)
        rows = [{"distance": f"{d}", "difference over true score": share_text(x)} for d, x in pairs]
        st.html(table_html(rows))
        return
    st.markdown(
        "Position has a query and a key of its own, turned before they are cached; content is never"
        " turned. Each score is the sum of both parts, and the identity holds."
    )
    show_drawing(prose()["rope"], "Drawing of both parts of the scores", "rope_drawing")


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
    shape, tokens = FORMAT_GEOMETRY, FORMAT_TOKENS
    st.caption(
        "Largest difference over the largest output, of one seeded layer on"
        f" {tokens} tokens: d_model {shape.d_model}, {shape.n_heads} heads of {shape.v_head_dim},"
        f" RoPE {shape.qk_rope_head_dim}, latent {shape.kv_lora_rank}."
    )
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
            " so absorbing takes fewer FLOPs than rebuilding, for any number of query tokens over a"
            " long context."
        )
    else:
        st.markdown(
            f"They cross at **{endless:.1f}** query tokens over an endless context,"
            " d_c·(d_n + d_v) / (2·d_c − d_n − d_v), and at"
            f" {here:.1f} over {count_text(tokens, 'token')}."
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
        "Attention FLOPs of one layer, projections left out. A cached token costs one query"
        f" {flops_text(core_flops('mla_absorbed', g))} absorbed and"
        f" {flops_text(core_flops('mla_expanded', g))} from ready keys and values."
        f" {meanings(('d_c', 'd_n', 'd_v'))}"
    )
