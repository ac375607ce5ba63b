"""What the Decode page asks for: kept, or made now with progress and a way to stop it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.run.bill import Bill
from mla_viz.run.layer import AnySettings, LayerSettings, bill_of_any
from mla_viz.serving.pool import Job, WorkerLost
from mla_viz.ui.player import add_rest
from mla_viz.ui.server import workers
from mla_viz.words import minutes_text

QUIET_SECONDS = 0.3
POLL_SECONDS = 0.1
LONG_SECONDS = 60


@dataclass(frozen=True)
class Wanted:
    """One kind of thing that may be asked for: its task, its bill, and how it is spoken of."""

    task: str
    bill: Callable[[AnySettings], Bill]
    noun: str
    verb: str
    stays: str

    def state(self, name: str) -> str:
        """Where the session keeps an answer about it."""
        return name if self.task == RUN else f"{self.task.replace(':', '_')}_{name}"


RUN = "run"
WANTED_RUN = Wanted(RUN, bill_of_any, "run", "Decode", "The last view stays")


def _answer(name: str, settings: AnySettings | None) -> None:
    st.session_state[name] = settings


class Progress:
    """A bar and a Stop button, shown once it takes longer than a blink."""

    def __init__(
        self, settings: AnySettings, slot: DeltaGenerator, stopped: str = "stopped"
    ) -> None:
        self._settings, self._slot, self._stopped, self._bar = settings, slot, stopped, None
        self._begin = time.monotonic() + QUIET_SECONDS

    def show(self, job: Job) -> None:
        """Move the bar; Streamlit ends the run here when a setting has changed or at Stop."""
        if time.monotonic() < self._begin:
            st.session_state.get(self._stopped)  # a look is enough for Streamlit to end the run
            return
        if self._bar is None:
            box = self._slot.container()
            self._bar = box.progress(0.0)
            answer = self._stopped, self._settings
            box.button("Stop", key=answer[0], on_click=_answer, args=answer, width="stretch")
        if job.steps is None:
            before = workers().place(job)
            self._bar.progress(
                0.0, f"Waiting: {before} before it" if before else "Waiting for a free core"
            )
            return
        done, total = job.steps
        self._bar.progress(done / total, f"Decoding: step {done} of {total}")


def packed_run(settings: AnySettings, slot: DeltaGenerator) -> bytes | None:
    """The run of these settings; as `made`."""
    return made(WANTED_RUN, settings, slot)


def made(wanted: Wanted, settings: AnySettings, slot: DeltaGenerator) -> bytes | None:
    """What is wanted, kept or made now; None where it was stopped, or has not begun.

    Raises:
        ValueError: the settings are not legal.
    """
    task, state = wanted.task, wanted.state
    if kept := workers().find(task, settings):
        return kept
    if st.session_state.get(state("stopped")) == settings:
        _offer(slot, wanted, f"Stopped. {wanted.stays}.", state("stopped"))
        return None
    bill = wanted.bill(settings)
    seconds = workers().seconds(task, bill)
    if seconds > LONG_SECONDS and st.session_state.get(state("agreed")) != settings:
        text = f"This {wanted.noun} will take {minutes_text(seconds)}. {wanted.stays} until then."
        _offer(slot, wanted, text, state("agreed"), settings)
        return None
    try:
        with workers().ask(task, settings, bill) as job:
            progress = Progress(settings, slot, state("stopped"))
            while not job.wait(POLL_SECONDS):
                progress.show(job)
            content = job.result()
    except WorkerLost as lost:
        text = f"Not made: {lost}. {wanted.stays}."
        _offer(slot, wanted, text, state("stopped"), label="Try again")
        return None
    slot.empty()
    return content


def rest_of(settings: AnySettings, layer: int | None) -> None:
    """Make the vectors of a layer, from 0, that the player lacks, and hand them over."""
    alone = isinstance(settings, LayerSettings)
    layers = 1 if alone else settings.side("left").geometry.n_layers
    if layer is None or not 0 <= layer < layers:
        return
    slot = st.empty()
    wanted = Wanted(f"rest:{layer}", bill_of_any, "layer", "Decode", "The view above stays")
    try:
        if rest := made(wanted, settings, slot):
            add_rest(rest)
    except ValueError as error:
        slot.error(str(error))


def _offer(
    slot: DeltaGenerator,
    wanted: Wanted,
    text: str,
    name: str,
    answer: AnySettings | None = None,
    label: str | None = None,
) -> None:
    """Say why nothing is made, and offer to do it."""
    box = slot.container()
    box.info(text)
    asked = label or wanted.verb
    box.button(asked, key=f"{name}_{asked}", on_click=_answer, args=(name, answer), width="stretch")
