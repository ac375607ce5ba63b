"""What the one server process is set up to: its threads, its collector, the runs that it keeps."""

import gc

import streamlit as st
import torch

from mla_viz.run.store import Store

KEPT_BYTES = 256 << 20


@st.cache_resource(show_spinner=False)
def run_store() -> Store:
    """The one store of this server.

    Torch keeps to one thread, since steps are small and sessions many; what the imports made is
    taken out of the collector's sight, which would go through it after every rerun.
    """
    torch.set_num_threads(1)
    gc.freeze()
    return Store(KEPT_BYTES)
