"""What was measured: cards, time against context, roofline, growth, and others' code beside it."""

from collections.abc import Sequence

import streamlit as st

from mla_viz.figures.speed import (
    Mark,
    growth_figure,
    label_of,
    roofline_figure,
    rows_of,
    time_figure,
)
from mla_viz.figures.table import table_html
from mla_viz.findings.measured import Bench, Point
from mla_viz.findings.speed import PARTS, Rates, accelerator_rates, gain, step
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.server import may_bench
from mla_viz.ui.speed.asked import SpeedAsked, all_benches, layer_name, nearest
from mla_viz.ui.speed.here import DTYPES
from mla_viz.ui.speed.words import (
    beside_limits,
    bound_words,
    busy_words,
    fair_words,
    growth_words,
    pace,
    shares_words,
)
from mla_viz.words import (
    decimal_bytes_text,
    flops_text,
    micros_text,
    number_text,
    share_text,
)

CORE = PARTS["core"]
PAIRS = (
    ("mha", "core", "plain MHA"),
    ("mla_expanded", "core", "naive, its expanded cache"),
    ("mla_expanded", "layer", "naive, its expanded cache"),
)
PART_OF = {words: part for part, words in PARTS.items()}
NOT_TIMED = "Not timed for this layer; what is counted of it is in “On an accelerator”."
ON_CUDA = ("nvidia", "cuda", "instinct")  # what such a machine's name holds
HOW_ON_CUDA = "python -m mla_viz bench --device cuda --mechanisms mla_absorbed --no-peers"


def cards(asked: SpeedAsked) -> None:
    """What absorption saves in time at the chosen context, and how near both sides are to limits.

    Where nothing was measured, that, what there is, and what is counted for the accelerator.
    """
    bench = asked.fullest
    if bench is None:
        st.info(missing_words(asked))
        _counted_cards(asked)
        return
    at = nearest(bench.points, asked.context)
    found = {(p.mechanism, p.part): p for p in bench.points if p.context == at}
    places = st.columns(len(PAIRS) + 1)
    for place, (baseline, part, name) in zip(places, PAIRS, strict=False):
        both = found.get((baseline, part)), found.get(("mla_absorbed", part))
        with place.container(border=True, height="stretch"):
            _ratio_card(*both, name, part)
    with places[-1].container(border=True, height="stretch"):
        _limit_card(found)
    _told(bench, asked, at)


def _counted_cards(asked: SpeedAsked) -> None:
    """The same ratios as the accelerator's limits have them; nothing where its rate is unknown."""
    try:
        rates = accelerator_rates(asked.accelerator, asked.dtype)
    except ValueError:
        return
    for place, (baseline, part, name) in zip(st.columns(len(PAIRS)), PAIRS, strict=True):
        shape = asked.geometry, asked.context, asked.batch, asked.elem_bytes, part
        ratio = gain(step("mla_absorbed", *shape), step(baseline, *shape), rates)
        with place.container(border=True, height="stretch"):
            st.markdown(f"**Absorbed against {name}**  \n{PARTS[part]}")
            st.markdown(f"## {number_text(ratio)}×")
            st.caption(f"counted for {rates.name}, not measured: {pace(ratio)}")


def _ratio_card(baseline: Point | None, absorbed: Point | None, name: str, part: str) -> None:
    st.markdown(f"**Absorbed against {name}**  \n{PARTS[part]}")
    if baseline is None or absorbed is None:
        st.caption("Not timed in this run.")
        return
    measured = baseline.time_us / absorbed.time_us
    predicted = baseline.limit_us / absorbed.limit_us
    st.markdown(f"## {number_text(measured)}×")
    st.caption(
        f"{pace(measured)}: {micros_text(absorbed.time_us)} against"
        f" {micros_text(baseline.time_us)}, {beside_limits(predicted, measured)}"
    )


def _limit_card(found: dict[tuple[str, str], Point]) -> None:
    st.markdown(f"**Share of its own limit**  \n{CORE}")
    shares = {
        label_of(name): found[name, "core"].fraction_of_limit
        for name in ("mla_absorbed", "mha", "mla_expanded")
        if (name, "core") in found
    }
    if not shares:
        st.caption("Not timed in this run.")
        return
    st.markdown(f"## {share_text(next(iter(shares.values())))}")
    st.caption(shares_words(shares))
    baseline, absorbed = (found.get((name, "core")) for name in ("mha", "mla_absorbed"))
    if baseline and absorbed:
        st.caption(fair_words(baseline, absorbed))


def _told(bench: Bench, asked: SpeedAsked, at: int) -> None:
    """What was measured, and where."""
    where = "" if at == asked.context else f", the measured context nearest to {asked.context:,}"
    sequences = "" if bench.batch == 1 else f", {bench.batch} sequences"
    st.caption(
        f"Measured: one layer of {asked.model} in {bench.dtype}, {at:,} tokens{sequences}{where},"
        f" on {bench.machine} with torch {bench.torch}. A ratio against a slow baseline is worth"
        " nothing: the other side was tuned too, and its share of its own limit"
        " says how far that went."
    )
    if words := busy_words(bench):
        st.warning(words, icon=":material/warning:")
    if not bench.complete:
        st.caption(":material/warning: This run was stopped: what is missing was not measured.")


def _notes(bench: Bench) -> None:
    """What the limits are made of, and what is missing."""
    roof = bench.roofline
    st.caption(
        "Marks are measured: medians, with bars from the quickest to the slowest repetition. Dotted"
        " lines are counted: the longer of reading and multiplying, at the"
        f" {number_text(roof.gb_s)} GB and {flops_text(roof.gflops * 1e9)} a second that this"
        " machine reached in the same run."
    )
    if not any(word in bench.machine.lower() for bench in _shown() for word in ON_CUDA):
        st.caption(
            ":material/info: No CUDA device is among the machines measured: figures of one are"
            " missing here, and none is made up. Where there is one,"
            f" `{HOW_ON_CUDA}` makes them; what is counted for accelerators is in the tabs."
        )


def _shown() -> list[Bench]:
    return [bench for several in all_benches().values() for bench in several]


def missing_words(asked: SpeedAsked) -> str:
    """That a source did not time this layer so, and what it did time."""
    batch = "" if asked.batch == 1 else f", batch {asked.batch:,}"
    text = f"{asked.source}: {asked.model} in {asked.dtype}{batch} was not timed there."
    names = [
        f"{layer_name(bench)} in {bench.dtype}, batch {bench.batch}"
        for bench in all_benches()[asked.source]
    ]
    has = f" It has {'; '.join(dict.fromkeys(names))}." if names else ""
    here = " “Measure here” times it on this server."
    return f"{text}{has}{here if asked.dtype in DTYPES and may_bench() else ''}"


def time_chart(asked: SpeedAsked) -> None:
    """Time of a step against context, of all mechanisms that were timed."""
    bench = asked.fullest
    if bench is None:
        return
    words = _part("Timed", "speed_timed")
    points = [point for point in bench.points if point.part == PART_OF[words]]
    at = nearest(bench.points, asked.context)
    here = {label_of(p.mechanism): micros_text(p.time_us) for p in points if p.context == at}
    told = ", ".join(f"{name} {text}" for name, text in here.items())
    alt = f"Time of {words} at {at:,} tokens: {told}"
    chart(time_figure(points, at, is_dark()), "speed_time", rows_of(points), alt)
    _notes(bench)


def _part(label: str, key: str) -> str:
    """Which part of a step is shown; the address holds it."""
    return st.segmented_control(
        label, list(PART_OF), default=CORE, required=True, key=key, bind="query-params"
    )


def roofline_section(asked: SpeedAsked) -> None:
    """Every mechanism on the measured machine's roofline, and the same in numbers."""
    bench, rates = asked.fullest, asked.rates
    if bench is None or rates is None:
        st.caption(NOT_TIMED)
        return
    words = _part("Part", "speed_part")
    at = nearest(bench.points, asked.context)
    points = [p for p in bench.points if p.context == at and p.part == PART_OF[words]]
    marks = [
        Mark(
            p.mechanism,
            p.flops / p.bytes,
            1e6 * p.flops / p.limit_us,
            p.gflops * 1e9,
        )
        for p in points
    ]
    told = ", ".join(f"{label_of(p.mechanism)} {share_text(p.fraction_of_limit)}" for p in points)
    alt = f"Roofline of {rates.name}: share of its limit that each reaches: {told}"
    chart(roofline_figure(rates, marks, is_dark()), "speed_roofline", rows_of(points), alt)
    st.caption(
        f"{at:,} tokens. Left of the ridge at {number_text(rates.balance)} FLOP a byte a step waits"
        " for reading, right of it for multiplying. Open marks: what the machine allows. Filled:"
        " what was measured."
    )
    best = next((p for p in points if p.mechanism == "mla_absorbed"), None)
    st.html(table_html([_point_row(p, rates, best) for p in points]))


def _point_row(p: Point, rates: Rates, absorbed: Point | None) -> dict[str, str]:
    return {
        "mechanism": label_of(p.mechanism),
        "FLOPs": flops_text(p.flops),
        "bytes": decimal_bytes_text(p.bytes),
        "FLOP a byte": number_text(p.flops / p.bytes),
        "waits for": bound_words(rates.bound(p.flops, p.bytes)),
        "limit": micros_text(p.limit_us),
        "measured": micros_text(p.time_us),
        "share of limit": share_text(p.fraction_of_limit),
        **(
            {
                "times absorbed's, limits": number_text(p.limit_us / absorbed.limit_us),
                "times absorbed's, measured": number_text(p.time_us / absorbed.time_us),
            }
            if absorbed
            else {}
        ),
    }


def growth_section(asked: SpeedAsked) -> None:
    """Time and working memory of a step against context, as far as each mechanism was timed."""
    longest = _longest(asked.benches)
    if not longest:
        st.caption(NOT_TIMED)
        return
    words = _part("Part", "speed_grown")
    lines = {
        name: [p for p in points if p.part == PART_OF[words]] for name, points in longest.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    ends = ", ".join(f"{label_of(n)} {micros_text(ps[-1].time_us)}" for n, ps in lines.items())
    alt = f"Time of {words} and what it holds beside its cache, up to the longest contexts: {ends}"
    every = [point for points in lines.values() for point in points]
    chart(growth_figure(lines, is_dark()), "speed_growth", rows_of(every), alt)
    st.markdown(
        "\n".join(
            f"- **{label_of(name)}**: {growth_words(points, _cache_bytes(points[-1], asked))}"
            for name, points in lines.items()
            if len(points) > 1
        )
    )
    st.caption(
        "What a step holds beside its cache are scores and what its operations keep in between, as"
        " torch's profiler saw them."
    )


def _longest(benches: Sequence[Bench]) -> dict[str, list[Point]]:
    """The points of each mechanism from the bench that timed it at the most contexts."""
    found: dict[str, list[Point]] = {}
    for bench in benches:
        for name in bench.mechanisms:
            points = [p for p in bench.points if p.mechanism == name]
            if len(points) > len(found.get(name, [])):
                found[name] = sorted(points, key=lambda p: p.context)
    return {name: points for name, points in found.items() if name in GROWN}


GROWN = ("mha", "mla_expanded", "mla_absorbed")


def _cache_bytes(p: Point, asked: SpeedAsked) -> int:
    return step(p.mechanism, asked.geometry, p.context, p.batch, asked.elem_bytes).cache_bytes


def peers_section(asked: SpeedAsked) -> None:
    """What others' code takes for the same work, in turn with this one."""
    rows = [
        {
            "code": peer.peer,
            "part": PARTS[peer.part],
            "tokens": f"{peer.context:,}",
            "its time": micros_text(peer.time_us),
            "quickest to slowest": f"{micros_text(peer.quickest_us)} to"
            f" {micros_text(peer.slowest_us)}, n={peer.repeats}",
            "absorbed here": micros_text(peer.ours_us),
            "times as long": number_text(peer.times_ours),
        }
        for bench in _most_peers(asked.benches)
        for peer in bench.peers
    ]
    if not rows:
        st.info("No other code was timed in this run.")
        return
    st.html(table_html(rows))
    st.caption(
        "Each took turns with the absorbed step of the same shapes. transformers keeps the latent"
        " and rebuilds every key and value at each step; the einsums are the published formula over"
        " two caches. Kernels stand here where they are installed and run: vLLM's for processors,"
        " FlashInfer's for CUDA devices."
    )


def _most_peers(benches: Sequence[Bench]) -> list[Bench]:
    most = max(benches, key=lambda bench: len(bench.peers), default=None)
    return [most] if most else []
