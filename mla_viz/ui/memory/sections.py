"""The Memory page's parts: a card a model, the chart, the formula, the baselines."""

import json
from collections.abc import Mapping

import streamlit as st

from mla_viz.figures.memory import (
    UNITS,
    Line,
    cache_colour,
    contexts,
    formula_html,
    memory_figure,
    memory_numbers,
)
from mla_viz.figures.table import table_html
from mla_viz.findings.alternatives import alternatives
from mla_viz.findings.memory import MHA, OWN_EXPANDED, Beside, Memory, memory
from mla_viz.published.layers import CachedModel
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.memory.asked import COMPARED, GQA, Asked
from mla_viz.words import bytes_text, count_text, decimal_bytes_text, number_text, short_count

Memories = Mapping[str, Memory]
MODELS_TOO, ATTENTIONS = "These models", "Other attention in the first model"
LOG, LINEAR = "logarithmic", "linear"


def cards(asked: Asked) -> Memories:
    """A card a model, in which it is refused where it cannot be counted; those that can."""
    if not asked.models:
        st.info("Pick a model in the sidebar, or paste a config.json.")
        return {}
    found = {}
    for place, (name, model) in zip(
        st.columns(len(asked.models)), asked.models.items(), strict=True
    ):
        with place.container(border=True, height="stretch"):
            st.markdown(f"**{name}**  \n{model.attention}{sized(model)}")
            try:
                found[name] = memory(model, **asked.counted)
            except ValueError as error:
                st.error(str(error))
                continue
            _card(found[name], asked)
    return found


def sized(model: CachedModel) -> str:
    """Its parameters, and those at work for a token where not all are."""
    if model.params is None:
        return ""
    words = f" · {short_count(model.params)} parameters"
    if model.active_params in (None, model.params):
        return words
    return f"{words}, {short_count(model.active_params)} at work"


def _card(m: Memory, asked: Asked) -> None:
    st.markdown(f"## {UNITS[asked.unit](m.total_bytes)}")
    sequences = "" if m.batch == 1 else f"{m.batch:,} sequences of "
    st.caption("  \n".join((f"for {sequences}{count_text(m.context, 'token')}", *grown(m, asked))))
    st.markdown(against(m, asked))
    for words in m.warnings:
        st.caption(f":material/warning: {words}")


def grown(m: Memory, asked: Asked) -> list[str]:
    """What a further token adds, and what is there whatever the context."""
    text = UNITS[asked.unit]
    each = m.elems_per_token_per_layer
    layers = f", {number_text(each)} a layer" if each else ""
    grows = f"{text(m.bytes_per_token)} a further token: {number_text(m.elems_per_token)} values"
    lines = [f"{grows}{layers}" if m.elems_per_token else "a further token adds nothing"]
    if m.fixed_bytes:
        lines.append(f"{text(m.fixed_bytes)} fixed, a sequence")
    if m.window_bytes:
        lines.append(f"{text(m.window_bytes)} in windows, a sequence")
    return lines


def beside(m: Memory, asked: Asked) -> tuple[str, Beside] | None:
    """The baseline that is chosen, with its name; None where the model has none such."""
    named = {GQA: f"GQA-{asked.groups}"}.get(asked.baseline, asked.baseline)
    if asked.baseline == COMPARED:
        own = [MHA, OWN_EXPANDED, "MQA", f"GQA-{asked.groups}"]
        named = next((name for name in m.baselines if name not in own), "")
    return (named, m.baselines[named]) if named in m.baselines else None


def against(m: Memory, asked: Asked) -> str:
    """The ratio to the chosen baseline in a sentence, and where it has one to its expanded form."""
    found = beside(m, asked)
    if found is None:
        return f"No baseline: it has none of the kind “{asked.baseline}”."
    words = ratio_words(*found)
    own = m.baselines.get(OWN_EXPANDED)
    if own and own.ratio and found[0] != OWN_EXPANDED:
        words += f" Its own expanded cache is {number_text(own.ratio)} times as large."
    return words


def ratio_words(name: str, other: Beside) -> str:
    """How many times smaller or larger a cache is than a baseline."""
    if other.ratio is None:
        return f"No ratio to {name}: nothing of it grows."
    if other.ratio == 1:
        return f"As much as {name}."
    more, times = ("smaller", other.ratio) if other.ratio > 1 else ("larger", 1 / other.ratio)
    return f"**{number_text(times)} times {more}** a token than {name}."


def curves(asked: Asked, memories: Memories) -> None:
    """Bytes against context, of the models or of the first model with other attention."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    what = left.segmented_control(
        "Drawn",
        (MODELS_TOO, ATTENTIONS),
        default=MODELS_TOO,
        required=True,
        key="drawn",
        bind="query-params",
    )
    scale = right.segmented_control(
        "Scale", (LOG, LINEAR), default=LOG, required=True, key="scale", bind="query-params"
    )
    models = {name: asked.models[name] for name in memories}
    if what == ATTENTIONS:
        models = alternatives(next(iter(models.values())), asked.groups)
    lines = [Line(name, model, i) for i, (name, model) in enumerate(models.items())]
    at = contexts(asked.context, scale == LOG)
    try:
        numbers = memory_numbers(lines, at, asked.batch, asked.cache_dtype, asked.page)
    except ValueError as error:
        st.error(str(error))
        return
    dark = is_dark()
    figure = memory_figure(lines, numbers, asked.context, scale == LOG, asked.unit, dark)
    here = [n for n in numbers if n["context"] == asked.context]
    told = ", ".join(f"{n['model']} {UNITS[asked.unit](n['bytes'])}" for n in here)
    chart(figure, "memory", numbers, f"Bytes of the cache at {asked.context:,} tokens: {told}")
    if what == ATTENTIONS:
        st.caption(
            "The same layers, heads and head width; only what the layers that grow keep is another."
            " What is smaller than its neighbour gives something up: see the last tab."
        )


def formulas(asked: Asked, memories: Memories) -> None:
    """Every part as a product with its numbers in it, all bars on one scale."""
    largest = max(f.bytes for m in memories.values() for f in m.factors)
    for name, m in memories.items():
        st.markdown(
            f"**{name}**: {bytes_text(m.total_bytes)} = {decimal_bytes_text(m.total_bytes)}"
        )
        colour = cache_colour(asked.models[name], is_dark())
        st.html(formula_html(m, largest, colour, asked.unit))
        if found := beside(m, asked):
            other, b = found
            st.caption(
                f"Against {other}: {b.formula}"
                f" = {number_text(b.elems_per_token)} values a token."
                f" Here: {number_text(m.elems_per_token)}."
            )
        st.caption(f"Source: {m.source}.")
    records = json.dumps([m.record() for m in memories.values()], indent=1)
    st.download_button("All of it as JSON", records, "mla-viz-memory.json", "application/json")


def baselines(_: Asked, memories: Memories) -> None:
    """Every baseline of every model."""
    rows = [
        {
            "model": name,
            "against": other,
            "its formula": b.formula,
            "its values a token": number_text(b.elems_per_token),
            "own values a token": number_text(m.elems_per_token),
            "times": "-" if b.ratio is None else number_text(b.ratio),
        }
        for name, m in memories.items()
        for other, b in m.baselines.items()
    ]
    st.html(table_html(rows))


def given_up(_: Asked, memories: Memories) -> None:
    """What every model's layers do not keep, for the size of their cache."""
    for name, m in memories.items():
        st.markdown(f"**{name}**")
        st.markdown(
            "\n".join(f"- {words}" for words in m.given_up) or "- Nothing: every token is kept."
        )
