"""Decoded runs that the server keeps, packed, and the progress shown while one is made."""

import gc
import threading
import time
from collections import OrderedDict

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator

from mla_viz.decode import decode
from mla_viz.player.payload import pack_run
from mla_viz.settings import Settings

KEPT_BYTES = 256 << 20
QUIET_SECONDS = 0.3


class RunStore:
    """Packed runs by their settings; the least recently used go when KEPT_BYTES is passed."""

    def __init__(self) -> None:
        self._runs: OrderedDict[Settings, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, settings: Settings) -> bytes | None:
        """A kept run, or None."""
        with self._lock:
            if settings in self._runs:
                self._runs.move_to_end(settings)
            return self._runs.get(settings)

    def keep(self, settings: Settings, payload: bytes) -> None:
        """Keep a run, dropping old ones for it."""
        with self._lock:
            self._runs[settings] = payload
            while len(self._runs) > 1 and sum(map(len, self._runs.values())) > KEPT_BYTES:
                self._runs.popitem(last=False)


@st.cache_resource(show_spinner=False)
def run_store() -> RunStore:
    """The one store of this server.

    Torch keeps to one thread, since steps are small and sessions many; what the imports made is
    taken out of the collector's sight, which would go through it after every rerun.
    """
    torch.set_num_threads(1)
    gc.freeze()
    return RunStore()


def _set_stopped(settings: Settings | None) -> None:
    st.session_state.stopped = settings


class Progress:
    """A bar and a Stop button, shown once a run takes longer than a blink."""

    def __init__(self, settings: Settings, slot: DeltaGenerator) -> None:
        self._settings, self._slot, self._bar = settings, slot, None
        self._next = time.monotonic() + QUIET_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Move the bar; Streamlit ends the run here when a setting has changed or at Stop."""
        if time.monotonic() < self._next:
            return
        if self._bar is None:
            box = self._slot.container()
            self._bar = box.progress(0.0)
            box.button("Stop", on_click=_set_stopped, args=(self._settings,), width="stretch")
        self._bar.progress(done / total, f"Decoding: step {done} of {total}")
        self._next = time.monotonic() + 0.1


def packed_run(settings: Settings, slot: DeltaGenerator) -> bytes | None:
    """The run of these settings, from the store or decoded now; None where it was stopped.

    Raises:
        ValueError: the settings are not legal.
    """
    store = run_store()
    payload = store.find(settings)
    if payload is None and st.session_state.get("stopped") == settings:
        box = slot.container()
        box.info("Stopped. The last view stays.")
        box.button("Decode", on_click=_set_stopped, args=(None,), width="stretch")
        return None
    if payload is None:
        payload = pack_run(decode(settings, on_step=Progress(settings, slot)))
        store.keep(settings, payload)
    slot.empty()
    return payload
