"""The Memory page's sidebar: which models, how long, in what; all of it in the address."""

from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.config import check_int
from mla_viz.figures.memory import DECIMAL, UNITS
from mla_viz.findings.memory import (
    LARGEST_BATCH,
    LONGEST_CONTEXT,
    MHA,
    MOST_GROUPS,
    MQA,
    OWN_EXPANDED,
)
from mla_viz.published.catalog import cached_model, model_names
from mla_viz.published.config_json import LONGEST, parse_config, read_config
from mla_viz.published.layers import CACHE_DTYPES, CachedModel
from mla_viz.ui.memory.link import essence, pack_config, unpack_config
from mla_viz.ui.numbers import whole_number

MOST_MODELS = 4
START = ["DeepSeek-V3", "Llama-3.1-405B", "Kimi-Linear-48B-A3B", "Gemma-3-27B"]
CONTEXTS = {"4k": 4096, "32k": 32768, "128k": 131072, "1M": 1 << 20}
GQA, COMPARED = "GQA of so many key/value heads", "the model that its paper compares with"
BASELINES = (MHA, OWN_EXPANDED, GQA, MQA, COMPARED)
DTYPES = (
    "bfloat16 and float16 take 2 bytes a value, float32 4. fp8: 1, without scales but for an"
    " indexer's keys. fp8_ds_mla: DeepSeek's latent of 656 bytes, its RoPE key in 16 bits. int8: 1,"
    " and a float32 scale for each vector. q8_0 and q4_0: 8 and 4 bits, and a float16 scale for"
    " every 32 values, as the Decode page's int8 and int4."
)
_URL = "query-params"


@dataclass(frozen=True)
class Asked:
    """What the sidebar says: models by their names on the page, and how they are counted."""

    models: dict[str, CachedModel]
    context: int = 131_072
    batch: int = 1
    cache_dtype: str = "bfloat16"
    page: int = 1
    mtp_layers: int = 0
    groups: int = 8
    baseline: str = MHA
    unit: str = DECIMAL

    @property
    def counted(self) -> dict[str, Any]:
        """The arguments of `memory` that are the same for every model."""
        names = ("context", "batch", "cache_dtype", "page", "mtp_layers", "groups")
        return {name: getattr(self, name) for name in names}


def asked() -> Asked:
    """The sidebar's widgets, and the last good numbers where one is refused."""
    with st.sidebar:
        models = _models()
        context = _number(
            st.sidebar, "context", "Context, tokens of each sequence", 1, LONGEST_CONTEXT
        )
        _quick_contexts()
        batch = _number(st.sidebar, "batch", "Batch, sequences", 1, LARGEST_BATCH)
        cache_dtype = st.selectbox(
            "Cache dtype", CACHE_DTYPES, key="memory_dtype", bind=_URL, help=DTYPES
        )
        baseline = st.selectbox("Compared with", BASELINES, key="baseline", bind=_URL)
        groups = Asked.groups
        if baseline == GQA:
            groups = _number(st.sidebar, "groups", "Its key/value heads", 2, MOST_GROUPS)
        unit = st.radio("Bytes in", list(UNITS), key="unit", bind=_URL, horizontal=True)
        more = st.expander("More")
        page = _number(more, "page", "Page of the cache, tokens", 1, 1 << 16)
        mtp = _number(more, "mtp_layers", "Layers of multi-token prediction", 0, 64)
    return Asked(models, context, batch, cache_dtype, page, mtp, groups, baseline, unit)


def _models() -> dict[str, CachedModel]:
    names = st.multiselect(
        "Models",
        model_names(),
        START,
        key="models",
        bind=_URL,
        max_selections=MOST_MODELS,
        placeholder="Up to four",
    )
    models = {name: cached_model(name) for name in names}
    with st.expander("A config.json of your own", key="own", on_change="rerun") as place:
        own = _own_model(place)
    if own is None:
        return models
    if len(models) == MOST_MODELS:
        st.caption(f"Your own takes the place of {names[-1]}: up to {MOST_MODELS} are compared.")
        models.pop(names[-1])
    return {f"{own.label} (yours)": own, **models}


def _own_model(place: Any) -> CachedModel | None:
    """What is pasted or opened, else what the address holds; the last good one where it is bad."""
    text = ""
    if place.open:
        text = st.text_area("Paste it", key="pasted", height=160, placeholder='{"model_type": ...}')
        file = st.file_uploader("or open it", "json", key="opened", max_upload_size=8)
        if file is not None:
            text = file.getvalue()[: LONGEST + 1].decode("utf-8", "replace")
    kept = st.session_state
    try:
        if text.strip() and text != kept.get("own_text"):
            kept.own_config, kept.own_text = essence(parse_config(text)), text
        elif "own_config" not in kept and "config" in st.query_params:
            linked = unpack_config(st.query_params["config"])
            read_config(linked)
            kept.own_config = linked
    except ValueError as error:
        stays = ". The last one that could be read stays" if "own_config" in kept else ""
        st.error(f"{error}{stays}.")
    if "own_config" not in kept:
        return None
    st.query_params["config"] = pack_config(kept.own_config)
    if place.open:
        _own_fields(kept.own_config)
    return read_config(kept.own_config)


def _own_fields(config: dict[str, Any]) -> None:
    st.caption("These fields decide; the link holds them.")
    st.json(config, expanded=False)
    st.button("Forget it", on_click=_forget)


def _forget() -> None:
    for name in ("own_config", "own_text", "pasted", "opened"):
        st.session_state.pop(name, None)
    st.query_params.pop("config", None)


def _number(place: DeltaGenerator, field: str, label: str, low: int, high: int) -> int:
    """A whole number; where it is out of its bounds, the last good one, and why under it."""
    start = getattr(Asked, field)
    last, value = f"last_{field}", whole_number(place, label, field, start)
    try:
        st.session_state[last] = check_int(field, value, low, high)
    except ValueError as error:
        good = st.session_state.setdefault(last, start)
        place.error(f"{error}. The page goes on with {good:,}.")
    return st.session_state[last]


def _quick_contexts() -> None:
    row = st.container(horizontal=True)
    for label, tokens in CONTEXTS.items():
        row.button(label, key=f"context_{label}", on_click=_set_context, args=(tokens,))


def _set_context(tokens: int) -> None:
    st.session_state.context = float(tokens)
