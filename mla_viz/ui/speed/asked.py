"""The Speed page's sidebar: whose times, of which layer, how long; all of it in the address."""

from dataclasses import dataclass
from math import log

import streamlit as st

from mla_viz.config import MLAGeometry, check_int
from mla_viz.findings.measured import Bench, Point, QueryPoint, shipped_benches
from mla_viz.findings.served import mla_models
from mla_viz.findings.speed import ELEM_BYTES, MOST_BATCH, MOST_CONTEXT, Rates, measured_rates
from mla_viz.published.accelerators import accelerators
from mla_viz.ui.numbers import whole_number
from mla_viz.ui.server import benches

HERE = "this server, measured now"
DEMO = "the Decode page's first model"
CONTEXTS = {"1k": 1024, "4k": 4096, "16k": 16384, "128k": 131072}
ACCELERATOR = "H800 SXM"  # the one of the V2 paper and of FlashMLA's figures
_URL = "query-params"


@dataclass(frozen=True)
class SpeedAsked:
    """What the sidebar says, and the benches of that source which timed that layer so."""

    source: str
    model: str
    geometry: MLAGeometry
    dtype: str = "bfloat16"
    context: int = 16_384
    batch: int = 1
    accelerator: str = ACCELERATOR
    benches: tuple[Bench, ...] = ()

    @property
    def elem_bytes(self) -> int:
        """Bytes of a weight and of a cached value."""
        return ELEM_BYTES[self.dtype]

    @property
    def fullest(self) -> Bench | None:
        """The bench that timed the most mechanisms, of these the one with the most points.

        Of those measured here the newest, which somebody has just asked for.
        """
        timed = [bench for bench in self.benches if bench.points and bench.roofline]
        if self.source == HERE:
            timed = timed[:1]
        return max(timed, key=lambda b: (len(b.mechanisms), len(b.points)), default=None)

    @property
    def rates(self) -> Rates | None:
        """What the machine measured reads and multiplies; None where nothing was measured."""
        return measured_rates(self.fullest) if self.fullest else None


def all_benches() -> dict[str, tuple[Bench, ...]]:
    """Every bench by the machine that it ran on, those of this server last."""
    found: dict[str, tuple[Bench, ...]] = {}
    for bench in shipped_benches().values():
        found[bench.machine] = (*found.get(bench.machine, ()), bench)
    return {**found, HERE: benches().kept}


def layer_name(bench: Bench) -> str:
    """What the layer of a bench is called on the page."""
    names = [name for name, g in mla_models().items() if g == bench.layer]
    return names[0] if names else {"demo": DEMO}.get(bench.geometry, bench.geometry)


def layers(known: dict[str, tuple[Bench, ...]]) -> dict[str, MLAGeometry]:
    """Layers by their names: published models', and what else was timed."""
    timed = [bench for several in known.values() for bench in several]
    return mla_models() | {layer_name(bench): bench.layer for bench in timed}


def speed_asked() -> SpeedAsked:
    """The sidebar's widgets, and the last good numbers where one is refused."""
    if st.session_state.pop("speed_show_here", False):  # a bench has just ended
        st.session_state.speed_source = HERE
    known = all_benches()
    models = layers(known)
    with st.sidebar:
        source = st.selectbox("Times of", list(known), key="speed_source", bind=_URL)
        model = st.selectbox("Layer of", list(models), key="speed_model", bind=_URL)
        dtype = st.selectbox(
            "Weights and cache in",
            list(ELEM_BYTES),
            key="speed_dtype",
            bind=_URL,
            help="tf32 takes the room of float32 and is multiplied with fewer digits.",
        )
        context = _number("context", "Context, tokens of each sequence", MOST_CONTEXT)
        row = st.container(horizontal=True)
        for label, tokens in CONTEXTS.items():
            row.button(label, key=f"speed_{label}", on_click=_set_context, args=(tokens,))
        batch = _number("batch", "Batch, sequences", MOST_BATCH)
        names = list(accelerators())
        accelerator = st.selectbox(
            "Accelerator, for what is counted",
            names,
            names.index(ACCELERATOR),
            key="speed_accelerator",
            bind=_URL,
        )
    g = models[model]
    those = [b for b in known[source] if (b.layer, b.dtype, b.batch) == (g, dtype, batch)]
    return SpeedAsked(source, model, g, dtype, context, batch, accelerator, tuple(those))


def nearest(points: tuple[Point | QueryPoint, ...], context: int) -> int:
    """The measured context that is nearest to the chosen one, on a logarithmic scale."""
    return min({p.context for p in points}, key=lambda tokens: abs(log(tokens / context)))


def _number(field: str, label: str, high: int) -> int:
    """A whole number; where it is out of its bounds, the last good one, and why under it."""
    start, last = getattr(SpeedAsked, field), f"last_speed_{field}"
    value = whole_number(st.sidebar, label, f"speed_{field}", start)
    try:
        st.session_state[last] = check_int(field, value, 1, high)
    except ValueError as error:
        good = st.session_state.setdefault(last, start)
        st.sidebar.error(f"{error}. The page goes on with {good:,}.")
    return st.session_state[last]


def _set_context(tokens: int) -> None:
    st.session_state.speed_context = float(tokens)
