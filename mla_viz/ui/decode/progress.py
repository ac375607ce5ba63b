"""A run that the Decode page asks for: kept, or decoded now with progress and a way to stop it."""

import time

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.player.payload import pack_run
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from mla_viz.ui.server import run_store

QUIET_SECONDS = 0.3


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
