"""The Decode page's sidebar: widgets to Settings, and a place beside each for what is wrong there.

Every widget is bound to the URL, so that a link restores the view.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.config import EACH, POOLED
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS
from mla_viz.model.device import DTYPES, available_devices
from mla_viz.model.sources import (
    IN_GEOMETRY,
    SYNTHETIC,
    TEMPERATURE,
    Source,
    find_source,
    follows,
    offered_mechanisms,
    pretrained_of,
    source_label,
    source_names,
)
from mla_viz.pretrained.pins import PRETRAINED
from mla_viz.run.layer import AnySettings, LayerSettings
from mla_viz.run.settings import Settings
from mla_viz.ui.decode.fetch import CHOSEN, fetch_offer
from mla_viz.ui.decode.folders import (
    FIELDS,
    LAYER,
    MOST_HIDDEN,
    NO_PROMPT,
    attentions,
    folders,
    layer_settings,
    parts,
)
from mla_viz.ui.numbers import short_label
from mla_viz.words import count_text

MORE = ("left", "right", "cache_dtype", "temperature", "top_k", "seed", "dtype", "device")
AS_IT_IS = "as it is"
CHAT = "It stands in the model's chat template: a question gets an answer."
DIALS = {
    "heads": "Heads",
    "latent": "Latent dim",
    "qk_nope_head_dim": "Content dims of a head (qk_nope)",
    "qk_rope_head_dim": "RoPE dims (qk_rope)",
    "v_head_dim": "Value dims of a head (v)",
    "q_lora_rank": "Query latent (q_lora_rank, 0: none)",
    "layers": "Layers",
}
RANKS = {EACH: "each the same", POOLED: "pooled over layers"}
POOLING = "More where more is lost, at the same bytes in all."
ALWAYS_SHOWN = ("heads", "latent")
_URL = "query-params"


def _mechanism_label(name: str) -> str:
    return MECHANISMS[name].label


SPELT = {name: field for field, name in IN_GEOMETRY.items()} | {"head_dim": "v_head_dim"}
IN_WORDS = {
    "prompt": lambda _: "the one below",
    "source": source_label,
    "left": _mechanism_label,
    "right": _mechanism_label,
    "ranks": RANKS.get,
}


def _shown_weights(shown: AnySettings) -> str:
    if isinstance(shown, LayerSettings):
        return shown.prompt
    return source_label(shown.source)


def _standing(settings: Settings, field: str) -> object:
    """A setting; where it is left to the source of weights, what its dial begins at."""
    value, dial = getattr(settings, field), settings.weights_source.dials.get(field)
    return dial.start if dial and value is None else value


def _chosen(field: str, options: list[str], default: str) -> str:
    """What a choice is: as chosen before, else as in the address, else as it begins."""
    chosen = st.session_state.get(field, st.query_params.get(field))
    return chosen if chosen in options else default


class Sidebar:
    """The widgets' values, and the slots under them, by field of Settings.

    What stands under "More" is made only once it is opened or not all default: each widget costs
    the first paint some 20 ms.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._folder, self._alone, self._refused = "", False, None
        self._labels: dict[str, str] = {}
        self._slots: dict[str, DeltaGenerator] = {}
        with st.sidebar:
            self._main()
            self.progress = st.empty()
            if self._alone:
                self._layer_alone()
                self._rest = st.empty()
                return
            if st.session_state.pop("unfold", False):
                st.session_state.more = True
            self._more = st.expander("More", key="more", on_change="rerun")
            if self._more.open or self._more_dials() or self._chosen_before():
                with self._more:
                    self._sides()
                    self._geometry()
                    self._sampling()
                start = {"temperature": TEMPERATURE, **self._source.start}
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

    def settings(self) -> AnySettings:
        """What the widgets say.

        Raises:
            ValueError: it is not legal.
        """
        if self._refused:
            raise self._refused
        if self._alone:
            return layer_settings(self.values)
        return Settings(**self.values)

    def refuse(self, error: ValueError) -> str:
        """Show a message under the widget whose field it names, and that widget if it is folded.

        The message names a folder as the list does, not by its place on the server.
        """
        message = str(error)
        if self._folder:
            message = message.replace(self.values["source"], self._folder)
        named, _, _ = message.partition(":")
        field = (SPELT | (FIELDS if self._alone else {})).get(named, named)
        folds = not self._alone and (field in MORE or field in self._more_dials())
        if folds and not self._more.open:
            st.session_state.unfold = True
            st.rerun()
        other = self._slots["source"] if self._folder else self._rest
        self._slots.get(field, other).error(message)
        return message

    def instead(self, shown: AnySettings) -> str:
        """What a view shows that the widgets do not say: `Heads: 8; Latent dim: 32`."""
        if self._alone or isinstance(shown, LayerSettings):
            return f"Weights: {_shown_weights(shown)}"
        there = {field: _standing(shown, field) for field in self.values}
        return "; ".join(
            f"{short_label(self._labels[field])}: {IN_WORDS.get(field, str)(there[field])}"
            for field, asked in self.values.items()
            if there[field] not in (None, asked or 0)
        )

    def _put(self, field: str, label: str, value: object, idle: str | None = None) -> None:
        self.values[field], self._labels[field] = value, label
        self._slots[field] = st.empty()
        if idle:
            self._slots[field].caption(idle)

    def _main(self) -> None:
        prompt = st.text_area("Prompt", Settings.prompt, key="prompt", bind=_URL)
        self._put("prompt", "Prompt", prompt)
        if CHOSEN in st.session_state:
            st.session_state.source = st.session_state.pop(CHOSEN)
        label = lambda name: name if name in folders() else source_label(name)  # noqa: E731
        self._choice("source", "Weights", [*source_names(), *folders()], Settings.source, label)
        fetch_offer()
        self._source = self._found()
        if self._alone:
            return
        if pretrained_of(self.values["source"]):
            self._slots["prompt"].caption(CHAT)
        if self._source.dials:
            for field in ALWAYS_SHOWN:
                if field in self._source.dials:
                    self._dial(field)
            if self._source.alone:
                self._slots["latent"].caption(self._whole_words())
            if len(self._source.ranks) > 1:
                self._choice("ranks", "Rank of a layer", [*self._source.ranks], EACH, RANKS.get)
                if self.values["ranks"] == POOLED:
                    self._slots["ranks"].caption(POOLING)
        else:
            self._fixed_size()
        self._slider("max_new_tokens", "New tokens", 1, 240)

    def _found(self) -> Source:
        """The source; where its files cannot be read, one whose dials stand in meanwhile.

        A folder's name gives way to its place.
        """
        if folder := folders().get(self.values["source"]):
            self._folder = self.values["source"]
            self._choice("checkpoint_part", "Of the checkpoint", parts(), LAYER)
            self._alone = self.values.pop("checkpoint_part") == LAYER
            self.values["source"] = str(folder)
            if self._alone:
                self._slots["prompt"].caption(NO_PROMPT)
                return find_source(Settings.source)
        try:
            return find_source(self.values["source"])
        except ValueError as error:
            if self.values["source"] == Settings.source:
                raise
            self._refused = error if folder else None  # else the settings say it
            return find_source(Settings.source)

    def _layer_alone(self) -> None:
        """What there is to choose of a layer."""
        try:
            most = attentions(self.values["source"])
        except ValueError as error:
            self._refused, most = error, 1
        if most > 1:
            self._slider("checkpoint_layer", "Layer, from 0 as in the checkpoint", 0, most - 1, 0)
        else:
            self._put("checkpoint_layer", "Layer", 0)
        start = LayerSettings.tokens
        self._slider("hidden_states", "Hidden states, random", 1, MOST_HIDDEN, start)
        for field, label in (("left", "Left"), ("right", "Right")):
            start = getattr(LayerSettings, field)
            self._choice(field, label, list(MLA_MECHANISMS), start, _mechanism_label)
        self._slider("seed", "Seed", 0, 999)
        self._machine()

    def _whole_words(self) -> str:
        """Where the slider of a pretrained model's rank cuts nothing."""
        whole = self._source.dials["latent"].high
        if self.values["source"] in PRETRAINED:
            return f"At {whole} nothing is cut off."
        half = whole // 2
        return (
            f"With {half} of RoPE, under “More”, and {half} here it is the model itself. With less"
            f" it is an approximation: beside GQA, under “More”, one sees of what kind."
        )

    def _fixed_size(self) -> None:
        """Weights of one size; the values of the sliders wait for weights that follow them."""
        for field in ALWAYS_SHOWN:
            if field in st.session_state:
                # Streamlit forgets what a run does not draw, unless the run itself sets it.
                st.session_state[field] = st.session_state[field]
        heads, latent = (self._source.start[field] for field in ALWAYS_SHOWN)
        dims = "" if latent is None else f", latent dim {latent}"
        st.caption(f"{count_text(heads, 'head')}{dims}: this model has one size.")

    def _sides(self) -> None:
        for field, label in (("left", "Left"), ("right", "Right")):
            self._choice(field, label, *self._offered(field), self._label)
        self._kept()

    def _label(self, mechanism: str) -> str:
        row = MECHANISMS[mechanism]
        return (row.same_weights() if self._source.alone else row).label

    def _kept(self) -> None:
        """The format of the right side's cache; the left one stays as it is, to hold it against."""
        self._choice("cache_dtype", "Right cache kept in", [AS_IT_IS, *FORMATS], AS_IT_IS)
        if self.values["cache_dtype"] == AS_IT_IS:
            self.values["cache_dtype"] = None
        elif self.values["right"] == "recompute":
            self._slots["cache_dtype"].caption(
                "Decides nothing now: the right side keeps no cache."
            )

    def _offered(self, side: str) -> tuple[list[str], str]:
        """The mechanisms that a side may have, and the one that it begins with."""
        return offered_mechanisms(self._source), self._source.start[side]

    def _idle(self, field: str) -> str | None:
        """Why a dial decides nothing at present, if it does not."""
        sides = [_chosen(side, *self._offered(side)) for side in ("left", "right")]
        if any(follows(self._source, side, field) for side in sides):
            return None
        own = not set(sides) & set(self._source.mechanisms)
        why = (
            "both sides have weights of their own, of one size." if own else "neither side is MLA."
        )
        return f"Decides nothing now: {why}"

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
        idle = self._idle(field)
        self._slider(field, DIALS[field], *dial.span, dial.start, dial.step, idle)
        if self.values[field] < dial.low:
            self.values[field] = None

    def _sampling(self) -> None:
        warm = self._source.start.get("temperature", TEMPERATURE)
        self._slider("temperature", "Temperature (0: always the likeliest)", 0.0, 2.0, warm, 0.1)
        drawn = self.values["temperature"] > 0
        idle = None if drawn else "Decides nothing at temperature 0."
        self._slider("top_k", "Top-k (0: all)", 0, 200, idle=idle)
        # The seed also makes random weights.
        seed_idle = None if self._source.name == SYNTHETIC else idle
        self._slider("seed", "Seed", 0, 999, idle=seed_idle)
        self._machine()

    def _machine(self) -> None:
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
        idle: str | None = None,
    ) -> None:
        """A slider within the limits of the moment; a value outside them moves to the nearest.

        A pretrained model's begins anew: its nearest rank may be one at which the text breaks.
        `idle` says why it decides nothing: it is then disabled.
        """
        start = getattr(Settings, field) if start is None else start
        if field in st.session_state:
            nearest = min(max(st.session_state[field], low), high)
            outside = nearest != st.session_state[field]
            st.session_state[field] = start if outside and self._source.alone else nearest
        off = idle is not None
        value = st.slider(label, low, high, start, step, key=field, bind=_URL, disabled=off)
        self._put(field, label, value, idle)

    def _choice(
        self,
        field: str,
        label: str,
        options: list[str],
        default: str,
        show: Callable[[str], str] = str,
    ) -> None:
        """A select box whose option's name, not its label, is in the URL (`bind` takes labels)."""
        st.session_state[field] = _chosen(field, options, default)
        value = st.selectbox(label, options, format_func=show, key=field, persist_state="session")
        if value != default:
            st.query_params[field] = value
        elif field in st.query_params:
            del st.query_params[field]
        self._put(field, label, value)
