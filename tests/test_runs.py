"""The store of runs, the progress shown while one is made, and what Stop leaves."""

import os
from functools import partial
from unittest.mock import Mock, call

import pytest
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.run.bill import Bill
from mla_viz.run.decode import bill_of
from mla_viz.run.settings import Settings
from mla_viz.serving.pool import Job
from mla_viz.serving.store import Store
from mla_viz.ui import server
from mla_viz.ui.decode import progress
from mla_viz.ui.decode.progress import Progress, packed_run
from mla_viz.ui.server import KEPT_BYTES
from tests.instant import InstantPool
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


@pytest.fixture
def pool(monkeypatch):
    pool = InstantPool(lambda chosen: f"packed {chosen.seed}")
    monkeypatch.setattr(progress, "workers", lambda: pool)
    return pool


def test_progress_is_shown_past_a_blink(monkeypatch, pool):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    slot = Mock(spec=DeltaGenerator)
    slot.container.return_value = slot.progress.return_value = slot
    job, show = Job(0, "run", settings(0), Bill(1, 1.0)), Progress(settings(0), slot)
    stop = call.button(
        "Stop",
        key="stopped",
        on_click=progress._answer,
        args=("stopped", settings(0)),
        width="stretch",
    )
    seen = []
    for at, before, steps in (
        (100.29, 2, None),
        (100.31, 2, None),
        (100.4, 0, None),
        (100.5, 0, (2, 8)),
    ):
        now[0], pool.before, job.steps = at, before, steps
        slot.reset_mock()
        show.show(job)
        seen.append(slot.mock_calls)
    assert seen == [
        [],
        [call.container(), call.progress(0.0), stop, call.progress(0.0, "Waiting: 2 before it")],
        [call.progress(0.0, "Waiting for a free core")],
        [call.progress(0.25, "Decoding: step 2 of 8")],
    ]


def show_run(chosen, found, **state):
    for name, value in state.items():
        if name not in st.session_state:
            st.session_state[name] = value
    found.append(packed_run(chosen, st.empty()))


def test_a_run_is_made_once_and_then_found(pool):
    found = []
    for seed in (1, 1, 2, 1):
        app = section(show_run, settings(seed), found)
        assert not app.get("progress")  # gone once the run is there
    assert found == [b"packed 1", b"packed 1", b"packed 2", b"packed 1"]
    assert pool.made == [settings(1), settings(2)]


def offered(app):
    return app.info[0].value, [button.label for button in app.button]


def test_a_stopped_run_is_not_made_until_asked_for(pool):
    found = []
    app = section(partial(show_run, stopped=settings(1)), settings(1), found)
    assert (found, pool.made) == ([None], [])
    assert offered(app) == ("Stopped. The last view stays.", ["Decode"])
    app.button[0].click().run()
    assert (found[-1], pool.made) == (b"packed 1", [settings(1)])
    assert not app.info
    section(partial(show_run, stopped=settings(1)), settings(2), found)
    assert found[-1] == b"packed 2"


def test_a_run_of_over_a_minute_is_told_beforehand_and_asked_about_once(pool):
    seconds, found = bill_of(settings(1)).seconds, []
    pool.pace = 60.1 / seconds
    app = section(show_run, settings(1), found)
    assert (found, pool.made) == ([None], [])
    text = "This run will take about 60 seconds. The last view stays until then."
    assert offered(app) == (text, ["Decode"])
    app.button[0].click().run()
    assert (found[-1], pool.made) == (b"packed 1", [settings(1)])
    assert section(show_run, settings(1), found).info.len == 0  # it is kept: no wait, no question
    pool.pace = 59.9 / seconds
    section(show_run, settings(2), found)
    assert found[-1] == b"packed 2"


def test_a_run_whose_process_ended_is_one_line_and_may_be_asked_for_again(pool):
    pool.error, found = "the process that worked on it has ended", []
    app = section(show_run, settings(1), found)
    assert found == [None]
    assert offered(app) == (f"Not made: {pool.error}. The last view stays.", ["Try again"])
    pool.error = None
    app.button[0].click().run()
    assert found[-1] == b"packed 1"


def show_rest(chosen, layer):
    progress.rest_of(chosen, layer)


@pytest.mark.parametrize("layer", [None, -1, 5, 10**9])
def test_no_layer_that_is_not_there_is_made(pool, layer):
    assert not section(show_rest, settings(1), layer).exception
    assert pool.made == []


def test_the_rest_of_a_run_is_made_when_it_is_asked_for(pool, monkeypatch):
    handed = []
    monkeypatch.setattr(progress, "add_rest", handed.append)
    for layer in (4, 4, 0):
        assert not section(show_rest, settings(1), layer).exception
    assert handed == [b"packed 1"] * 3
    assert pool.made == [settings(1)] * 2  # each layer once
    assert pool.find("rest:4", settings(1))
    pool.error = "the process that worked on it has ended"
    app = section(show_rest, settings(1), 2)
    assert offered(app)[0] == f"Not made: {pool.error}. The view above stays."
    assert len(handed) == 3


def test_stop_is_remembered_for_these_settings():
    app = section(progress._answer, "stopped", settings(1))
    assert app.session_state.stopped == settings(1)


def test_the_server_has_one_pool_with_a_worker_for_each_core(monkeypatch):
    assert server.workers() is server.workers()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 9})
    assert server.cores() == 3
