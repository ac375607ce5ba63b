"""A run that the Decode page asks for: kept, or made now with progress and a way to stop it."""

import time

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.run.decode import bill_of
from mla_viz.run.settings import Settings
from mla_viz.serving.pool import Job, WorkerLost
from mla_viz.ui.server import workers
from mla_viz.words import minutes_text

QUIET_SECONDS = 0.3
POLL_SECONDS = 0.1
LONG_SECONDS = 60


def _answer(name: str, settings: Settings | None) -> None:
    st.session_state[name] = settings


class Progress:
    """A bar and a Stop button, shown once a run takes longer than a blink."""

    def __init__(self, settings: Settings, slot: DeltaGenerator) -> None:
        self._settings, self._slot, self._bar = settings, slot, None
        self._begin = time.monotonic() + QUIET_SECONDS

    def show(self, job: Job) -> None:
        """Move the bar; Streamlit ends the run here when a setting has changed or at Stop."""
        if time.monotonic() < self._begin:
            st.session_state.get("stopped")  # a look is enough for Streamlit to end the run
            return
        if self._bar is None:
            box = self._slot.container()
            self._bar = box.progress(0.0)
            box.button("Stop", on_click=_answer, args=("stopped", self._settings), width="stretch")
        if job.steps is None:
            before = workers().place(job)
            self._bar.progress(
                0.0, f"Waiting: {before} before it" if before else "Waiting for a free core"
            )
            return
        done, total = job.steps
        self._bar.progress(done / total, f"Decoding: step {done} of {total}")


def packed_run(settings: Settings, slot: DeltaGenerator) -> bytes | None:
    """The run of these settings, kept or made now; None where it was stopped, or has not begun.

    Raises:
        ValueError: the settings are not legal.
    """
    if kept := workers().find("run", settings):
        return kept
    if st.session_state.get("stopped") == settings:
        _offer(slot, "Stopped. The last view stays.", "stopped")
        return None
    bill = bill_of(settings)
    seconds = workers().seconds("run", bill)
    if seconds > LONG_SECONDS and st.session_state.get("agreed") != settings:
        text = f"This run will take {minutes_text(seconds)}. The last view stays until then."
        _offer(slot, text, "agreed", settings)
        return None
    try:
        with workers().ask("run", settings, bill) as job:
            progress = Progress(settings, slot)
            while not job.wait(POLL_SECONDS):
                progress.show(job)
            payload = job.result()
    except WorkerLost as lost:
        _offer(slot, f"Not decoded: {lost}. The last view stays.", "stopped", label="Try again")
        return None
    slot.empty()
    return payload


def _offer(
    slot: DeltaGenerator,
    text: str,
    name: str,
    answer: Settings | None = None,
    label: str = "Decode",
) -> None:
    """Say why nothing is decoded, and offer to do it."""
    box = slot.container()
    box.info(text)
    box.button(label, on_click=_answer, args=(name, answer), width="stretch")
