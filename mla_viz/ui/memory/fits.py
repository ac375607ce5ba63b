"""What fits: the weights on some accelerators, and sequences beside them."""

import streamlit as st

from mla_viz.figures.memory import UNITS, Line, fits_figure, fits_numbers
from mla_viz.figures.table import table_html
from mla_viz.findings.fits import SHARE, WEIGHT_BITS, Fit, fits
from mla_viz.findings.memory import memory
from mla_viz.published.accelerators import Accelerator, accelerators
from mla_viz.published.layers import CachedModel
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.memory.asked import Asked
from mla_viz.ui.memory.sections import Memories
from mla_viz.ui.numbers import short_label
from mla_viz.words import decimal_bytes_text, share_text

RANKS = (1, 2, 4, 8, 16, 32, 64)
DIVIDED = {
    "heads (tensor parallel)": "tp",
    "sequences (data-parallel attention)": "dp",
    "tokens (context parallel)": "cp",
    "layers (pipeline)": "pp",
}
_URL = "query-params"


def what_fits(asked: Asked, memories: Memories) -> None:
    """Sequences that fit beside the weights, on 1 to 64 accelerators."""
    machine, dtype, strategy, ranks = _chosen()
    known = _params({name: asked.models[name] for name in memories})
    if not known:
        return

    def found(name: str, ranks: int, strategy: str) -> Fit:
        counted = asked.context, asked.cache_dtype, asked.page, strategy
        return fits(asked.models[name], machine.name, ranks, dtype, known[name], *counted)

    here = {name: {key: found(name, ranks, key) for key in DIVIDED.values()} for name in known}
    st.html(table_html([_row(name, held, asked) for name, held in here.items()]))
    st.html(table_html([_shares(name, held, asked) for name, held in here.items()]))
    rows = {name: [found(name, n, strategy) for n in sorted({*RANKS, ranks})] for name in known}
    lines = [Line(name, asked.models[name], list(memories).index(name)) for name in known]
    figure = fits_figure(lines, list(rows.values()), ranks, is_dark())
    told = ", ".join(f"{name} {held[strategy].sequences:,}" for name, held in here.items())
    alt = f"Sequences of {asked.context:,} tokens that fit on {ranks}: {told}"
    chart(figure, "fits", fits_numbers(rows), alt)
    for name in known:
        _on_ranks(name, asked, ranks, strategy)
    st.caption(
        f"{machine.name}: {decimal_bytes_text(machine.memory_bytes)} each ({machine.source}), of"
        f" which {share_text(SHARE)} serve weights and cache, as engines leave it by default."
        " Weights are divided evenly; where sequences are divided, engines often copy those of"
        " attention, which is not counted. Activations, graphs and what an allocator wastes are not"
        " either: in practice somewhat fewer fit."
    )


def _chosen() -> tuple[Accelerator, str, str, int]:
    first, second, third, fourth = st.columns(4)
    machines = accelerators()
    name = first.selectbox("Accelerator", list(machines), 1, key="accelerator", bind=_URL)
    dtype = second.selectbox("Weights in", list(WEIGHT_BITS), 1, key="weights_in", bind=_URL)
    how = third.selectbox("The cache is divided by", list(DIVIDED), key="divided", bind=_URL)
    ranks = fourth.select_slider("Accelerators", range(1, 65), 8, key="ranks", bind=_URL)
    return machines[name], dtype, DIVIDED[how], ranks


def _params(models: dict[str, CachedModel]) -> dict[str, int]:
    """Parameters of the models; asked for where they cannot be counted."""
    params = {name: model.params for name, model in models.items()}
    unknown = [name for name in models if params[name] is None]
    for place, name in zip(st.columns(len(unknown) or 1), unknown, strict=False):
        billions = place.number_input(
            f"Parameters of {name}, billions",
            0.0,
            1e5,
            None,
            key=f"params_{name}",
            bind=_URL,
            help="They cannot be counted from the fields of its file.",
        )
        params[name] = None if billions is None else round(billions * 1e9)
    return {name: n for name, n in params.items() if n is not None}


def _row(name: str, held: dict[str, Fit], asked: Asked) -> dict[str, str]:
    """The shares of each accelerator, and what fits for every way of dividing the cache."""
    text, first = UNITS[asked.unit], next(iter(held.values()))
    return {
        "each holds": name,
        "weights": text(first.weight_bytes),
        "left for caches": text(max(0, first.room_bytes)),
        **{
            f"sequences, by {short_label(how)}": "no room for the weights"
            if held[key].room_bytes < 0
            else f"{held[key].sequences:,}"
            for how, key in DIVIDED.items()
        },
    }


def _shares(name: str, held: dict[str, Fit], asked: Asked) -> dict[str, str]:
    """What one sequence takes of each accelerator that holds any of it."""
    return {
        f"one sequence of {asked.context:,} tokens takes, on each": name,
        **{
            f"by {short_label(how)}": UNITS[asked.unit](held[key].sequence_bytes)
            for how, key in DIVIDED.items()
        },
    }


def _on_ranks(name: str, asked: Asked, ranks: int, strategy: str) -> None:
    """What dividing does to the cache of a model, where it is the larger one there."""
    alone = memory(asked.models[name], **asked.counted).warnings
    shared = memory(asked.models[name], **asked.counted, tp=ranks, strategy=strategy).warnings
    for words in shared:
        if words not in alone:
            st.warning(f"**{name}**: {words}")
