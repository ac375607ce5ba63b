"""What is counted: where absorbed wins, one query or many, and any accelerator's roofline."""

from collections.abc import Callable
from dataclasses import asdict, replace

import streamlit as st

from mla_viz.cost import (
    attention_params,
    cache_elems,
    core_flops,
    crossover_query_tokens,
    geometry_beside,
    query_flops,
)
from mla_viz.figures.speed import Mark, label_of, queries_figure, roofline_figure, rows_of
from mla_viz.figures.speed_counted import Gains, gains_figure
from mla_viz.figures.table import table_html
from mla_viz.findings.served import Served, from_layers, served_model, throughput
from mla_viz.findings.speed import (
    COUNTED,
    PARTS,
    Rates,
    accelerator_rates,
    gain,
    measured_rates,
    needed_balance,
    step,
)
from mla_viz.published.accelerators import accelerators
from mla_viz.published.catalog import published_models
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.speed.asked import SpeedAsked, nearest
from mla_viz.ui.speed.words import (
    balance_words,
    bound_words,
    crossing_words,
    flops_words,
    measured_crossing,
    pace,
)
from mla_viz.words import (
    count_text,
    decimal_bytes_text,
    flops_text,
    micros_text,
    number_text,
)

AGAINST = {"its expanded cache": "mla_expanded", "plain MHA": "mha", "MQA": "mqa"}
OVER = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
QUERY_STEPS = tuple(sorted({round(2 ** (i / 2)) for i in range(25)} | {170, 4096}))
SPOTS = {1: "decode", 4: "draft verification", 256: "a warm turn", 4096: "prefill"}
_URL = "query-params"


def rates_of(asked: SpeedAsked, key: str) -> Rates | None:
    """The measured machine's or the accelerator's, as is chosen; None where there is none."""
    names = [*([asked.rates.name] if asked.rates else []), asked.accelerator]
    name = st.segmented_control("On", names, default=names[0], required=True, key=key)
    if asked.rates and name == asked.rates.name:
        return asked.rates
    try:
        return accelerator_rates(asked.accelerator, asked.dtype)
    except ValueError as error:
        st.error(str(error))
        return None


def wins_section(asked: SpeedAsked) -> None:
    """Against what, on which machine, from which context and batch on absorbed is the quicker."""
    left, right = st.columns(2)
    with left:
        name = st.segmented_control(
            "Against",
            list(AGAINST),
            default=next(iter(AGAINST)),
            required=True,
            key="speed_against",
            bind=_URL,
        )
    with right:
        rates = rates_of(asked, "speed_wins_on")
    if rates is None:
        return
    baseline, g = AGAINST[name], asked.geometry
    st.markdown(balance_words(needed_balance(g, baseline, asked.elem_bytes), rates, name))

    def over(part: str, batch: int) -> list[tuple[int, float]]:
        return [(t, gain_at(asked, baseline, rates, t, batch, part)) for t in OVER]

    gains = [Gains("attention over the cache", over("core", 1))]
    gains += [
        Gains(f"whole layer, batch {batch}", over("layer", batch))
        for batch in sorted({1, 32, asked.batch})
    ]
    if asked.rates == rates:
        gains += _measured_gains(asked, baseline)
    numbers = [
        {"curve": each.name, "measured": each.measured, "context": x, "times_as_quick": y}
        for each in gains
        for x, y in each.pairs
    ]
    here = gain_at(asked, baseline, rates, asked.context, 1, "core")
    alt = f"Absorbed against {name} on {rates.name} at {asked.context:,} tokens: {pace(here)}"
    chart(gains_figure(gains, asked.context, is_dark()), "speed_gains", numbers, alt)
    st.caption(
        "Lines are counted, marks measured. A short context leaves little to save: the layer's"
        " weights take the time, for both sides alike. A batch shares the weights and not the"
        " caches, so that the whole layer comes nearer to its core. A whole layer's limit lets it"
        " read weights while it multiplies."
    )
    _by_accelerator(asked, baseline, name)


def gain_at(
    asked: SpeedAsked, baseline: str, rates: Rates, context: int, batch: int, part: str
) -> float:
    """How many times as long the baseline must take."""
    shape = asked.geometry, context, batch, asked.elem_bytes, part
    return gain(step("mla_absorbed", *shape), step(baseline, *shape), rates)


def _measured_gains(asked: SpeedAsked, baseline: str) -> list[Gains]:
    points = asked.fullest.points if asked.fullest else ()
    times = {(p.mechanism, p.part, p.context): p.time_us for p in points}
    found = []
    for part, words in PARTS.items():
        pairs = [
            (tokens, us / times["mla_absorbed", part, tokens])
            for (mechanism, of, tokens), us in times.items()
            if mechanism == baseline and of == part and ("mla_absorbed", part, tokens) in times
        ]
        if pairs:
            found.append(Gains(f"measured, {words}", sorted(pairs), measured=True))
    return found


def _by_accelerator(asked: SpeedAsked, baseline: str, name: str) -> None:
    """The core's gain on every accelerator whose rate in that dtype is printed."""
    rows = []
    for machine, printed in accelerators().items():
        if asked.dtype in printed.flops:
            rates = accelerator_rates(machine, asked.dtype)
            far = gain_at(asked, baseline, rates, asked.context, 1, "core")
            rows.append(
                {
                    "accelerator": machine,
                    "FLOP a byte": number_text(rates.balance),
                    f"core against {name}, {asked.context:,} tokens": f"{number_text(far)}×",
                }
            )
    if rows:
        with st.expander(f"On every accelerator, in {asked.dtype}"):
            st.html(table_html(rows))


def queries_section(asked: SpeedAsked) -> None:
    """Several query tokens over one cache: absorbed, or every key and value rebuilt once."""
    tokens = st.select_slider(
        "Query tokens at once",
        QUERY_STEPS,
        1,
        key="speed_query_tokens",
        bind=_URL,
    )
    row = st.container(horizontal=True)
    for n, words in SPOTS.items():
        row.button(f"{words}: {n:,}", key=f"speed_spot_{n}", on_click=_set_queries, args=(n,))
    timed = max(asked.benches, key=lambda bench: len(bench.queries), default=None)
    points = timed.queries if timed else ()
    context = nearest(points, asked.context) if points else asked.context
    rates = measured_rates(timed) if points else rates_of(asked, "speed_queries_on")
    if rates is None:
        return
    g, here = asked.geometry, [p for p in points if p.context == context]
    endless, crossing = crossover_query_tokens(g), crossover_query_tokens(g, context)

    def limit(form: str, queries: int) -> float:
        moved = context * cache_elems(form, g) * asked.elem_bytes
        return rates.limit_us(query_flops(form, g, queries, context), moved)

    forms = "mla_absorbed", "mla_reexpand"
    limits = {form: [(n, limit(form, n)) for n in QUERY_STEPS] for form in forms}
    absorbed, rebuilt = (query_flops(form, g, tokens, context) for form in forms)
    st.markdown(
        f"{flops_words(absorbed, rebuilt, tokens)} ({flops_text(absorbed)} absorbed,"
        f" {flops_text(rebuilt)} rebuilt, {context:,} tokens of context, a layer.)  \n"
        f"{crossing_words(endless, crossing, context)}"
    )
    if here:
        st.markdown(measured_crossing(here))
    else:
        st.caption("Not timed for this layer: “Measure here” does it. What is drawn is counted.")
    figure = queries_figure(limits, here, crossing, tokens, is_dark())
    numbers = [
        {"form": form, "query_tokens": n, "context": context, "counted_limit_us": us}
        for form, line in limits.items()
        for n, us in line
    ]
    alt = f"Time against query tokens over {context:,} tokens of context on {rates.name}"
    chart(figure, "speed_queries", rows_of(here) or numbers, alt)
    st.caption(
        "The crossing is r·d / (2·r − d + r·d / t): a latent of r ="
        f" {g.kv_lora_rank:,} values, d = {g.qk_nope_head_dim + g.v_head_dim:,} of a head's key"
        f" without RoPE and value, t = {context:,} tokens of context. On {rates.name}. Lines:"
        " counted limits, marks: measured. Every query is counted over the"
        " whole cache, and the projections that both share are left out. So engines decode absorbed"
        " and prefill rebuilt; drafts of a few tokens are still decoding. By the clock the two may"
        " cross elsewhere than by FLOPs: where one of them comes nearer to its limit."
    )


def _set_queries(tokens: int) -> None:
    st.session_state.speed_query_tokens = tokens


def accelerator_section(asked: SpeedAsked) -> None:
    """Every mechanism's step on the chosen accelerator, and a whole model's tokens a second."""
    try:
        rates = accelerator_rates(asked.accelerator, asked.dtype)
    except ValueError as error:
        st.error(str(error))
        return
    steps = {
        (name, part): step(name, asked.geometry, asked.context, asked.batch, asked.elem_bytes, part)
        for name in COUNTED
        for part in PARTS
    }
    best = {part: steps["mla_absorbed", part] for part in PARTS}
    rows = []
    for name in COUNTED:
        core, whole = steps[name, "core"], steps[name, "layer"]
        rows.append(
            {
                "mechanism": label_of(name),
                "cache of a layer": decimal_bytes_text(core.cache_bytes),
                "FLOPs": flops_text(core.flops),
                "bytes moved": decimal_bytes_text(core.bytes),
                "FLOP a byte": number_text(core.intensity),
                "waits for": bound_words(rates.bound(core.flops, core.bytes)),
                "core": micros_text(rates.limit_us(core.flops, core.bytes)),
                "times absorbed's": number_text(gain(best["core"], core, rates)),
                "whole layer": micros_text(rates.limit_us(whole.flops, whole.bytes)),
                "layer, times absorbed's": number_text(gain(best["layer"], whole, rates)),
            }
        )
    st.html(table_html(rows))
    marks = [
        Mark(name, each.intensity, 1e6 * each.flops / rates.limit_us(each.flops, each.bytes))
        for name in COUNTED
        for each in [steps[name, "core"]]
    ]
    told = ", ".join(f"{row['mechanism']} {row['core']}" for row in rows)
    chart(
        roofline_figure(rates, marks, is_dark()),
        "speed_accelerator_roof",
        [asdict(s) | {"limit_us": rates.limit_us(s.flops, s.bytes)} for s in steps.values()],
        f"Roofline of {rates.name}, counted: {told}",
    )
    st.caption(
        f"Counted, not measured. {rates.name}: {decimal_bytes_text(rates.bytes_per_second)} and"
        f" {flops_text(rates.flops_per_second)} of dense {asked.dtype} products a second, as"
        f" printed ({rates.source}). A step takes the longer of the two, as if the other were free;"
        " every cached value is read once and scores stay on the chip. Real kernels take longer:"
        " DeepSeek prints up to 660 TFLOP a second for FlashMLA on an H800, two thirds of its"
        " printed rate."
    )
    _whole_model(asked, rates)


def _whole_model(asked: SpeedAsked, rates: Rates) -> None:
    """Tokens a second of the model that the layer is of, from counted parts."""
    bits, model = 8.0 * asked.elem_bytes, published_models().get(asked.model)
    served = model and served_model(model, bits, bits)
    st.subheader("A whole model: an estimate", anchor=False)
    if served is None:
        st.caption(f"The weights of {asked.model} cannot be counted from its fields: no estimate.")
        return
    ranks = st.select_slider("Accelerators", range(1, 65), 32, key="speed_ranks", bind=_URL)
    memory = ranks * accelerators()[asked.accelerator].memory_bytes
    rows = [
        _estimate(label, each, memory, asked, rates, ranks)
        for label, each in caches(asked, served).items()
    ]
    st.html(table_html(rows))
    st.caption(
        f"Estimated from parts, for {count_text(ranks, 'accelerator')} that divide everything"
        f" evenly: all weights at work read once a step ({asked.dtype}; experts by chance), every"
        " cached value once, two FLOPs for each weight and token. Nothing is sent between them,"
        " scheduled or prefilled: what is reached is less."
    )
    _on_measured(asked, served)


def _on_measured(asked: SpeedAsked, served: Served) -> None:
    """The same model from the absorbed layer's measured time, where there is one."""
    bench, rates = asked.fullest, asked.rates
    if bench is None or rates is None:
        return
    at = nearest(bench.points, asked.context)
    layer = [
        p for p in bench.points if (p.mechanism, p.part, p.context) == ("mla_absorbed", "layer", at)
    ]
    for p in layer:
        layers = served.cache_elems // cache_elems("mla_absorbed", asked.geometry)
        params = attention_params(asked.geometry)
        found = from_layers(served, layers, params, p.time_us, bench.batch, rates)
        size = decimal_bytes_text(served.params * served.weight_bits / 8)
        st.caption(
            f"On {bench.machine}: {count_text(layers, 'layer')} of {micros_text(p.time_us)} each as"
            f" measured at {at:,} tokens, and all other weights at work read and multiplied at the"
            f" measured rates: {number_text(float(f'{found:.2g}'))} tokens a second, if its {size}"
            " of weights were in that machine's memory."
        )


def caches(asked: SpeedAsked, served: Served) -> dict[str, Served]:
    """The model with its latent cache, and with those of other attention in every layer."""
    found = {"absorbed": served}
    layers = served.cache_elems // cache_elems("mla_absorbed", asked.geometry)
    for name in ("mla_expanded", "mha"):
        g = geometry_beside(name, asked.geometry)
        elems, flops = layers * cache_elems(name, g), layers * core_flops(name, g)
        found[label_of(name)] = replace(served, cache_elems=elems, core_flops=flops)
    return found


def _estimate(
    label: str, served: Served, memory: int, asked: SpeedAsked, rates: Rates, ranks: int
) -> dict[str, str]:
    most = served.fits(memory, asked.context)
    tokens: Callable[[int], str] = lambda batch: number_text(  # noqa: E731
        float(f"{throughput(served, batch, asked.context, rates, ranks).tokens_per_second:.3g}")
    )
    none = "do not fit"
    return {
        "cache": label,
        f"sequences of {asked.context:,} tokens that fit": f"{most:,}" if most else "none",
        f"tokens a second, batch {asked.batch:,}": tokens(asked.batch)
        if most >= asked.batch
        else none,
        "tokens a second, as many as fit": tokens(most) if most else none,
    }
