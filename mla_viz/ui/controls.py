"""The Decode page's sidebar: widgets to Settings, and a place beside each for what is wrong there.

Every widget is bound to the URL, so that a link restores the view.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.config import MECHANISM_NAMES, MLA_MECHANISMS, OWN_WEIGHTS, GQAGeometry
from mla_viz.family import load_family, shipped_members
from mla_viz.model.device import DTYPES, available_devices
from mla_viz.settings import OF_ITS_OWN, Settings, sources, start_values

SOURCE_LABELS = {"trained": "Trained on short stories", "synthetic": "Random, any geometry"}
DEFAULT = Settings()
MORE = ("left", "right", "temperature", "top_k", "seed", "dtype", "device")
_URL = "query-params"


def _label(option: str) -> str:
    mechanism = MECHANISM_NAMES.get(option)
    return mechanism.label if mechanism else SOURCE_LABELS.get(option, option)


def _source_label(source: str) -> str:
    if source in shipped_members():
        return f"Family of one budget: {load_family().member(source).label}"
    return SOURCE_LABELS[source]


def _mechanisms(source: str) -> list[str]:
    """What can stand left or right with these weights."""
    if source == "synthetic":
        return list(MECHANISM_NAMES)
    own = [name for name in OWN_WEIGHTS if OF_ITS_OWN[name] in shipped_members()]
    grouped = source in shipped_members() and isinstance(
        load_family().member(source).geometry.attention, GQAGeometry
    )
    return own if grouped else [*MLA_MECHANISMS, *own]


class Sidebar:
    """The widgets' values, and the slots under them, by field of Settings.

    What stands under "More" is made only once it is opened or not all default: each widget costs
    the first paint some 20 ms.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._slots: dict[str, DeltaGenerator] = {}
        with st.sidebar:
            self._main()
            self.progress = st.empty()
            more = st.expander("More", key="more", on_change="rerun")
            if more.open or self._source == "synthetic" or self._chosen_before():
                with more:
                    self._sides()
                    self._geometry()
                    self._sampling()
                starts = {name: self._start.get(name, getattr(DEFAULT, name)) for name in MORE}
                st.session_state.more_chosen = any(
                    self.values[name] != start for name, start in starts.items()
                )
            self._rest = st.empty()

    @staticmethod
    def _chosen_before() -> bool:
        """Whether anything under "More" was chosen: in the address, or before another page."""
        in_address = any(name in st.query_params for name in MORE)
        return in_address or st.session_state.get("more_chosen", False)

    def settings(self) -> Settings:
        """What the widgets say.

        Raises:
            ValueError: it is not legal.
        """
        return Settings(**self.values)

    def refuse(self, error: ValueError) -> None:
        """Show a message under the widget whose field it names."""
        field, _, _ = str(error).partition(":")
        field = {"n_heads": "heads", "kv_lora_rank": "latent", "n_layers": "layers"}.get(
            field, field
        )
        self._slots.get(field, self._rest).error(str(error))

    def _put(self, field: str, value: object) -> None:
        self.values[field] = value
        self._slots[field] = st.empty()

    def _main(self) -> None:
        self._put("prompt", st.text_area("Prompt", DEFAULT.prompt, key="prompt", bind=_URL))
        self._choice("source", "Weights", list(sources()), DEFAULT.source, _source_label)
        self._source = self.values["source"]
        self._start = start_values(self._source)
        if self._source in shipped_members():
            self._fixed_size()
        else:
            most_heads, least, most = (32, 1, 512) if self._source == "synthetic" else (8, 4, 64)
            self._slider("heads", "Heads", 1, most_heads)
            self._slider("latent", "Latent dim", least, most)
        self._slider("max_new_tokens", "New tokens", 1, 240)

    def _fixed_size(self) -> None:
        """A family member has one size; the values of the sliders wait for weights that follow."""
        for field in ("heads", "latent"):
            if field in st.session_state:
                st.session_state[field] = st.session_state[field]
        latent = self._start["latent"]
        dims = "" if latent is None else f", latent dim {latent}"
        st.caption(f"{self._start['heads']} heads{dims}: this model has one size.")

    def _sides(self) -> None:
        names = _mechanisms(self._source)
        self._choice("left", "Left", names, self._start["left"])
        self._choice("right", "Right", names, self._start["right"])

    def _geometry(self) -> None:
        if self._source != "synthetic":
            st.caption("Head dims, RoPE dim, q_lora_rank and layers belong to the trained model.")
            return
        self._slider("qk_nope_head_dim", "Content dims of a head (qk_nope)", 1, 128, 32)
        self._slider("qk_rope_head_dim", "RoPE dims (qk_rope)", 0, 64, 16, step=2)
        self._slider("v_head_dim", "Value dims of a head (v)", 2, 128, 32, step=2)
        self._slider("q_lora_rank", "Query latent (q_lora_rank, 0: none)", 0, 512, 0)
        self.values["q_lora_rank"] = self.values["q_lora_rank"] or None
        self._slider("layers", "Layers", 1, 12, 5)

    def _sampling(self) -> None:
        self._slider("temperature", "Temperature (0: always the likeliest)", 0.0, 2.0, step=0.1)
        self._slider("top_k", "Top-k (0: all)", 0, 200)
        self._slider("seed", "Seed", 0, 999)
        dtypes = ["float32", *(d for d in DTYPES if d != "float32")]
        self._choice("dtype", "Dtype", dtypes, DEFAULT.dtype)
        self._choice("device", "Device", available_devices(), DEFAULT.device)

    def _slider(
        self,
        field: str,
        label: str,
        low: float | int,
        high: float | int,
        start: float | int | None = None,
        step: float | int = 1,
    ) -> None:
        """A slider within the limits of the moment; a value outside them moves to the nearest."""
        start = getattr(DEFAULT, field) if start is None else start
        if field in st.session_state:
            st.session_state[field] = min(max(st.session_state[field], low), high)
        self._put(field, st.slider(label, low, high, start, step, key=field, bind=_URL))

    def _choice(
        self,
        field: str,
        label: str,
        options: list[str],
        default: str,
        show: Callable[[str], str] = _label,
    ) -> None:
        """A select box whose option's name, not its label, is in the URL (`bind` takes labels)."""
        chosen = st.session_state.get(field, st.query_params.get(field))
        st.session_state[field] = chosen if chosen in options else default
        value = st.selectbox(label, options, format_func=show, key=field, persist_state="session")
        if value != default:
            st.query_params[field] = value
        elif field in st.query_params:
            del st.query_params[field]
        self._put(field, value)
