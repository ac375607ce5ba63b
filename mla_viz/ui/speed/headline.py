"""The 5.76 of the V2 paper taken apart by counting; parameters and training of MLA against MHA."""

from dataclasses import asdict

import streamlit as st

from mla_viz.figures.speed import label_of
from mla_viz.figures.speed_counted import shares_figure, training_figure
from mla_viz.figures.table import table_html
from mla_viz.findings.served import DENSE, V2, Share, ingredients
from mla_viz.findings.speed import Training, training, training_crossing
from mla_viz.mechanisms.table import OWN_WEIGHTS
from mla_viz.published.catalog import V2_PAPER, V2_THROUGHPUT_RATIO
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.speed.asked import SpeedAsked
from mla_viz.ui.speed.words import bound_words
from mla_viz.words import decimal_bytes_text, flops_text, mega_text, micros_text, number_text

OVER = tuple(2**i for i in range(9, 21))


def headline_section(asked: SpeedAsked) -> None:
    """What fits times what a step takes, of both models and with each change by itself."""
    ranks = st.select_slider(
        "Accelerators", (1, 2, 4, 8, 16, 32), 8, key="speed_node", bind="query-params"
    )
    try:
        shares = ingredients(asked.accelerator, ranks, asked.context)
    except ValueError as error:
        st.error(str(error))
        return
    st.markdown(headline_words(shares, asked, ranks))
    ratios = {share.label: share.ratio for share in shares}
    numbers = [
        {k: v for k, v in asdict(share).items() if k != "found"}
        | (asdict(share.found) if share.found else dict.fromkeys(_FOUND))
        for share in shares
    ]
    alt = ", ".join(f"{n}: {'none' if r is None else number_text(r)}" for n, r in ratios.items())
    figure = shares_figure(ratios, [share.mechanism for share in shares], is_dark())
    chart(figure, "speed_headline", numbers, f"Tokens a second: {alt}")
    st.html(table_html([_share_row(share) for share in shares]))
    st.caption(
        f"Source of the ratio: {V2_PAPER}, abstract: maximum generation throughput of one node of"
        f" eight H800, {V2} against {DENSE}; weights in fp8 and a cache of 6 bits on average:"
        " section 3.2.3. The paper takes nothing apart; this is counted, the same way for both:"
        " caches fill nine tenths of the memory beside the weights, a step reads weights at work"
        " and caches once and multiplies in bfloat16, whichever takes longer. In it: cache size,"
        " cache bits, weights at work, weight bits. Not in it: what is sent between accelerators,"
        " kernels, scheduling, prefill, lengths that differ. Each alone is on top of the dense"
        " model, blue bars with MLA's cache; they do not multiply up, since what fits and what"
        " bounds a step change together."
    )


_FOUND = ("sequences", "step_us", "tokens_per_second", "bound")


def headline_words(shares: list[Share], asked: SpeedAsked, ranks: int) -> str:
    """The counted ratio beside the printed one, or what does not fit."""
    dense, whole = (next(s for s in shares if s.label.startswith(name)) for name in (DENSE, V2))
    where = f"{ranks} × {asked.accelerator}, sequences of {asked.context:,} tokens"
    if dense.found is None:
        return f"{where}: no sequence fits beside the weights of {DENSE}, so there is no ratio."
    if whole.ratio is None:
        return f"{where}: no sequence fits beside the weights of {V2}."
    slower = "" if whole.found.step_us <= dense.found.step_us else "longer "
    return (
        f"**{number_text(whole.ratio)} times** the tokens a second, counted ({where}); the paper"
        f" prints **{V2_THROUGHPUT_RATIO}**, measured. {number_text(_more(whole, dense))} times as"
        f" many sequences fit; a {slower}step of all takes {micros_text(whole.found.step_us)}"
        f" against {micros_text(dense.found.step_us)}."
    )


def _more(one: Share, other: Share) -> float:
    return one.found.sequences / other.found.sequences


def _share_row(share: Share) -> dict[str, str]:
    found = share.found
    return {
        "what is changed": share.label,
        "weights": decimal_bytes_text(share.weight_bytes),
        "cache of a sequence": decimal_bytes_text(share.sequence_bytes),
        "sequences that fit": f"{found.sequences:,}" if found else "none",
        "step": micros_text(found.step_us) if found else "-",
        "waits for": bound_words(found.bound) if found else "-",
        "tokens a second": f"{found.tokens_per_second:,.0f}" if found else "-",
        "times": number_text(share.ratio) if share.ratio is not None else "-",
    }


def training_section(asked: SpeedAsked) -> None:
    """Weights of a layer, and the FLOPs of training it on a token, beside plain attention."""
    g = asked.geometry
    kinds = {"mla_expanded": "MLA"} | {name: label_of(name) for name in OWN_WEIGHTS}
    rows = {name: training(name, g, asked.context) for name in kinds}
    st.html(table_html([_training_row(kinds[name], each) for name, each in rows.items()]))
    st.markdown(training_words(rows["mla_expanded"], rows["mha"], training_crossing(g), asked))
    over = sorted({*OVER, asked.context})
    lines = {name: [(t, training(name, g, t)) for t in over] for name in kinds}
    numbers = [
        {"tokens": tokens, **asdict(each), "flops": each.flops}
        for line in lines.values()
        for tokens, each in line
    ]
    told = ", ".join(f"{kinds[name]} {flops_text(each.flops)}" for name, each in rows.items())
    alt = f"FLOPs of training a layer on a token of {asked.context:,}: {told}"
    chart(training_figure(lines, asked.context, is_dark()), "speed_training", numbers, alt)
    st.caption(
        "Counted: six FLOPs for each weight and token, and three times the forward pass of scores"
        " and values over half of the sequence. MLA is trained with keys and values expanded;"
        " compressing the query saves what is kept for the backward pass, not cache. Plain MHA, GQA"
        " and MQA have the same number and width of heads: other models, with weights of their own."
    )


def training_words(mla: Training, mha: Training, crossing: float | None, asked: SpeedAsked) -> str:
    """Weights and FLOPs of MLA beside plain MHA's at the chosen length, and where they are even."""
    weights = _fewer(mla.params, mha.params, "weights")
    flops = _fewer(mla.flops, mha.flops, f"FLOPs a token at {asked.context:,} tokens")
    even = (
        "; both take as many at no length"
        if crossing is None or crossing < 1
        else f"; both take as many at {crossing:,.0f} tokens"
    )
    return f"Of plain MHA's, MLA has {weights} and takes {flops}{even}."


def _fewer(ours: int, theirs: int, what: str) -> str:
    return f"{number_text(ours / theirs)} times the {what}"


def _training_row(label: str, each: Training) -> dict[str, str]:
    return {
        "layer": label,
        "weights, millions": mega_text(each.params),
        "FLOPs of its weights": flops_text(each.weight_flops),
        "FLOPs of scores and values": flops_text(each.core_flops),
        "FLOPs a token": flops_text(each.flops),
    }
