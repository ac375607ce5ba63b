"""Every mechanism that runs these weights, side by side: a folded section under the player."""

import json

import streamlit as st

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.run.compare import REPEATS, compare_bill, compared
from mla_viz.run.costs import Costs, costs_from
from mla_viz.run.settings import Settings
from mla_viz.ui.chart import chart
from mla_viz.ui.decode.progress import Wanted, made

SHOWN_ABOVE = 2
WANTED = Wanted("costs", compare_bill, "comparison", "Compare", "Nothing is shown here")


def compare_section(settings: Settings) -> None:
    """Where there are more than the two above; nothing is run until the section is opened."""
    if len(compared(settings)) <= SHOWN_ABOVE:
        return
    section = st.expander(
        "Every mechanism side by side: bytes, FLOPs, time",
        key="compare",
        on_change="rerun",
        bind="query-params",
    )
    if not section.open:
        return
    with section:
        slot = st.container()
        try:
            content = made(WANTED, settings, slot.empty())
        except ValueError as error:
            slot.error(str(error))
            return
        if content is None:
            return
        costs = [costs_from(record) for record in json.loads(content)]
        _show(costs)
        if settings.cache_dtype:
            st.caption(f"All caches in {settings.dtype} here, none in {settings.cache_dtype}.")


def _show(costs: list[Costs]) -> None:
    # Plotly takes a second to load: only those who open the section wait for it.
    from mla_viz.figures.costs import costs_figure, costs_numbers

    dark = st.context.theme.type == "dark"
    chart(costs_figure(costs, dark), "costs", costs_numbers(costs), costs_words(costs))
    st.caption(costs_caption(costs))


def costs_caption(costs: list[Costs]) -> str:
    """How the numbers came about, and which of them are other models."""
    own = [MECHANISMS[each.mechanism].short for each in costs if each.own_weights]
    others = f" {', '.join(own)}: models with weights of their own." if own else ""
    return (
        "Attention of all layers, fed the same tokens; thin lines are the other mechanisms, all"
        " rows of a column have one scale (FLOPs and time: logarithmic). Bytes are those of the"
        f" tensors, FLOPs are counted, time is the median of {REPEATS} untraced repetitions in"
        " turn on this machine: at sizes as small as these it is the number of calls that takes"
        f" time, not FLOPs or bytes.{others}"
    )


def costs_words(costs: list[Costs]) -> str:
    """The chart in words: where each mechanism ends."""
    ends = "; ".join(
        f"{MECHANISMS[each.mechanism].short} {', '.join(each.last_step())}" for each in costs
    )
    return f"Cached bytes, FLOPs and time of step {len(costs[0].flops)} by mechanism: {ends}"
