"""The store of runs, the progress shown while one is made, and what Stop leaves."""

from unittest.mock import Mock, call

import pytest
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.run.settings import Settings
from mla_viz.run.store import Store
from mla_viz.ui.decode import progress
from mla_viz.ui.decode.progress import Progress, packed_run
from mla_viz.ui.server import KEPT_BYTES, run_store
from tests.screens import section

THIRD = bytes(KEPT_BYTES // 3)


def settings(seed):
    return Settings(seed=seed, source="synthetic")


def kept(store, seeds):
    """Which runs are there, without using them."""
    return [seed for seed in seeds if settings(seed) in store._kept]


def test_the_run_that_goes_is_the_one_that_was_not_used_for_longest():
    store = Store(KEPT_BYTES)
    for seed in range(3):
        store.keep(settings(seed), THIRD)
    assert store.find(settings(0)) is THIRD
    store.keep(settings(3), THIRD)
    assert kept(store, range(4)) == [0, 2, 3]
    assert store.find(settings(2)) is THIRD
    store.keep(settings(4), THIRD)
    assert kept(store, range(5)) == [2, 3, 4]
    assert store.find(settings(0)) is None
    store.keep(settings(5), bytes(2 * len(THIRD)))  # takes the place of two
    assert kept(store, range(6)) == [4, 5]


def test_a_run_past_the_bound_is_kept_alone():
    store, large = Store(KEPT_BYTES), bytes(KEPT_BYTES + 1)
    store.keep(settings(0), b"small")
    store.keep(settings(1), large)
    assert kept(store, range(2)) == [1]
    assert store.find(settings(1)) is large
    assert store.find(settings(0)) is None


def test_runs_that_fill_the_bound_exactly_are_all_kept():
    store = Store(KEPT_BYTES)
    half = bytes(KEPT_BYTES // 2)
    store.keep(settings(0), half)
    store.keep(settings(1), half)
    assert kept(store, range(2)) == [0, 1]
    store.keep(settings(2), b"1")
    assert kept(store, range(3)) == [1, 2]


def test_progress_is_shown_past_a_blink_and_ten_times_a_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    slot = Mock(spec=DeltaGenerator)
    slot.container.return_value = slot.progress.return_value = slot
    show = Progress(settings(0), slot)
    for at, done in ((100.29, 1), (100.31, 2), (100.4, 3), (100.42, 4)):
        now[0] = at
        show(done, 8)
    assert slot.mock_calls == [
        call.container(),
        call.progress(0.0),
        call.button("Stop", on_click=progress._set_stopped, args=(settings(0),), width="stretch"),
        call.progress(0.25, "Decoding: step 2 of 8"),
        call.progress(0.5, "Decoding: step 4 of 8"),
    ]


def show_run(chosen, found, stopped=None):
    if stopped is not None and "stopped" not in st.session_state:
        st.session_state.stopped = stopped
    found.append(packed_run(chosen, st.empty()))


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded, in place of the engine; a store of its own."""
    made = []

    def decode(chosen, on_step):
        on_step(1, 2)
        made.append(chosen)
        return chosen

    store = Store(KEPT_BYTES)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    monkeypatch.setattr(progress, "run_store", lambda: store)
    monkeypatch.setattr(progress, "decode", decode)
    monkeypatch.setattr(progress, "pack_run", lambda run: f"packed {run.seed}".encode())
    return made


def test_a_run_is_decoded_once_and_then_found(decoded):
    found = []
    for seed in (1, 1, 2, 1):
        app = section(show_run, settings(seed), found)
        assert not app.get("progress")  # gone once the run is there
    assert found == [b"packed 1", b"packed 1", b"packed 2", b"packed 1"]
    assert decoded == [settings(1), settings(2)]


def test_a_stopped_run_is_not_made_until_asked_for(decoded):
    found = []
    app = section(show_run, settings(1), found, settings(1))
    assert (found, decoded) == ([None], [])
    assert app.info[0].value == "Stopped. The last view stays."
    assert [button.label for button in app.button] == ["Decode"]
    app.button[0].click().run()
    assert (found[-1], decoded) == (b"packed 1", [settings(1)])
    assert not app.info
    section(show_run, settings(2), found, settings(1))
    assert found[-1] == b"packed 2"


def test_stop_is_remembered_for_these_settings(decoded):
    app = section(progress._set_stopped, settings(1))
    assert app.session_state.stopped == settings(1)
    assert not decoded


def test_the_server_has_one_store():
    assert run_store() is run_store()
