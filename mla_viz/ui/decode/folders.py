"""Checkpoints of the server's own disk, where its operator offers some: which, and what of one.

The address holds a name of the list and never a path.
"""

from importlib.util import find_spec
from pathlib import Path

import streamlit as st

from mla_viz.checkpoints.layer import described
from mla_viz.checkpoints.offered import offered
from mla_viz.run.layer import LayerSettings

LAYER, WHOLE = "one layer alone", "the whole model"
FIELDS = {"layer": "checkpoint_layer", "tokens": "hidden_states", "folder": "source"}
MOST_HIDDEN = 240
NO_PROMPT = "Decides nothing now: a layer alone reads random hidden states."


@st.cache_data(ttl=10, show_spinner=False)
def folders() -> dict[str, Path]:
    """The checkpoints that are offered, by the names that the page has for them."""
    return offered()


def parts() -> list[str]:
    """What of a checkpoint can be run here: a whole model wants the package transformers."""
    return [LAYER, WHOLE] if find_spec("transformers") else [LAYER]


def attentions(folder: str) -> int:
    """How many attentions a checkpoint has.

    Raises:
        ValueError: it can no longer be read.
    """
    fields, family = described(Path(folder))
    return fields.n_layers * family.attentions


def layer_settings(values: dict[str, object]) -> LayerSettings:
    """What the sidebar says of a layer alone.

    Raises:
        ValueError: it is not legal.
    """
    same = ("left", "right", "seed", "dtype", "device")
    return LayerSettings(
        folder=values["source"],
        layer=values["checkpoint_layer"],
        tokens=values["hidden_states"],
        **{name: values[name] for name in same},
    )
