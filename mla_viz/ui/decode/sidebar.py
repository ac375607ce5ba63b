"""The Decode page's sidebar: widgets to Settings, and a place beside each for what is wrong there.

Every widget is bound to the URL, so that a link restores the view.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.model.device import DTYPES, available_devices
from mla_viz.model.sources import IN_GEOMETRY, find_source, offered_mechanisms, source_names
from mla_viz.run.settings import Settings

MORE = ("left", "right", "temperature", "top_k", "seed", "dtype", "device")
DIALS = {
    "heads": "Heads",
    "latent": "Latent dim",
    "qk_nope_head_dim": "Content dims of a head (qk_nope)",
    "qk_rope_head_dim": "RoPE dims (qk_rope)",
    "v_head_dim": "Value dims of a head (v)",
    "q_lora_rank": "Query latent (q_lora_rank, 0: none)",
    "layers": "Layers",
}
ALWAYS_SHOWN = ("heads", "latent")
_URL = "query-params"


def _mechanism_label(name: str) -> str:
    return MECHANISMS[name].label


def _source_label(name: str) -> str:
    return find_source(name).label


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
            if more.open or self._more_dials() or self._chosen_before():
                with more:
                    self._sides()
                    self._geometry()
                    self._sampling()
                start = self._source.start
                starts = {name: start.get(name, getattr(Settings, name)) for name in MORE}
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
        named, _, _ = str(error).partition(":")
        field = next((f for f, name in IN_GEOMETRY.items() if name == named), named)
        self._slots.get(field, self._rest).error(str(error))

    def _put(self, field: str, value: object) -> None:
        self.values[field] = value
        self._slots[field] = st.empty()

    def _main(self) -> None:
        self._put("prompt", st.text_area("Prompt", Settings.prompt, key="prompt", bind=_URL))
        self._choice("source", "Weights", list(source_names()), Settings.source, _source_label)
        self._source = find_source(self.values["source"])
        if self._source.dials:
            for field in ALWAYS_SHOWN:
                self._dial(field)
        else:
            self._fixed_size()
        self._slider("max_new_tokens", "New tokens", 1, 240)

    def _fixed_size(self) -> None:
        """Weights of one size; the values of the sliders wait for weights that follow them."""
        for field in ALWAYS_SHOWN:
            if field in st.session_state:
                # Streamlit forgets what a run does not draw, unless the run itself sets it.
                st.session_state[field] = st.session_state[field]
        heads, latent = (self._source.start[field] for field in ALWAYS_SHOWN)
        dims = "" if latent is None else f", latent dim {latent}"
        st.caption(f"{heads} heads{dims}: this model has one size.")

    def _sides(self) -> None:
        names = offered_mechanisms(self._source)
        for field, label in (("left", "Left"), ("right", "Right")):
            self._choice(field, label, names, self._source.start[field], _mechanism_label)

    def _more_dials(self) -> list[str]:
        """Dials of the source that stand under "More"."""
        return [field for field in self._source.dials if field not in ALWAYS_SHOWN]

    def _geometry(self) -> None:
        if not self._more_dials():
            st.caption("Head dims, RoPE dim, q_lora_rank and layers belong to the trained model.")
        for field in self._more_dials():
            self._dial(field)

    def _dial(self, field: str) -> None:
        dial = self._source.dials[field]
        self._slider(field, DIALS[field], *dial.span, dial.start, dial.step)
        if self.values[field] < dial.low:
            self.values[field] = None

    def _sampling(self) -> None:
        self._slider("temperature", "Temperature (0: always the likeliest)", 0.0, 2.0, step=0.1)
        self._slider("top_k", "Top-k (0: all)", 0, 200)
        self._slider("seed", "Seed", 0, 999)
        dtypes = [Settings.dtype, *(d for d in DTYPES if d != Settings.dtype)]
        self._choice("dtype", "Dtype", dtypes, Settings.dtype)
        self._choice("device", "Device", available_devices(), Settings.device)

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
        start = getattr(Settings, field) if start is None else start
        if field in st.session_state:
            st.session_state[field] = min(max(st.session_state[field], low), high)
        self._put(field, st.slider(label, low, high, start, step, key=field, bind=_URL))

    def _choice(
        self,
        field: str,
        label: str,
        options: list[str],
        default: str,
        show: Callable[[str], str] = str,
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
