"""Many visitors at once, without browsers: `python -m tests.e2e.crowd [FOLDER]`.

Each visitor speaks Streamlit's protocol over a websocket of its own, moves two sliders to a setting
that nobody has asked for, waits for the answer, and goes on. A folder of another checkout is
measured in turn with this one.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from mla_viz.bench.engine import report, summary
from tests.e2e.conftest import ROOT, free_port, start_server

SECONDS = 10
HEAVY = "source=synthetic&layers=12&left=recompute&max_new_tokens=240"


class Visitor:
    """One session of the Decode page."""

    def __init__(self, port: int, query: str = "") -> None:
        url = f"ws://localhost:{port}/_stcore/stream"
        self._socket = connect(url, subprotocols=["streamlit"], max_size=None)
        self._query = query
        self._sliders: dict[str, str] = {}
        self._values: dict[str, float] = {}

    def ask(self, **sliders: int) -> None:
        """Run the page with sliders, by the beginning of their labels, at these values."""
        self._values |= {self._sliders[label]: value for label, value in sliders.items()}
        message = BackMsg()
        message.rerun_script.query_string = self._query
        for name, value in self._values.items():
            state = message.rerun_script.widget_states.widgets.add(id=name)
            state.double_array_value.data.append(value)
        self._socket.send(message.SerializeToString())

    def wait(self) -> bool:
        """Read until a script has ended; whether it ran to its end."""
        while True:
            message = ForwardMsg()
            message.ParseFromString(self._socket.recv())
            slider = message.delta.new_element.slider
            if slider.id:
                self._sliders[slider.label.split()[0]] = slider.id
            if message.WhichOneof("type") == "script_finished":
                return message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY

    def leave(self) -> None:
        """Close the page."""
        self._socket.close()


class Settings:
    """Settings that nobody has asked for yet, all of like cost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = product(range(20, 200), (5, 6, 7, 8))

    def __call__(self) -> dict[str, int]:
        with self._lock:
            latent, heads = next(self._left)
        return {"Heads": heads, "Latent": 4 + latent % 60, "New": 48 + latent // 60}


def crowd(port: int, visitors: int, settings: Settings, seconds: float) -> list[float]:
    """Seconds from each change to its answer, of visitors who change again at once."""
    answers: list[float] = []
    end = time.monotonic() + seconds

    def visit(visitor: Visitor) -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            visitor.ask(**settings())
            if visitor.wait() and time.monotonic() < end:
                answers.append(time.monotonic() - began)
        visitor.leave()

    there = [opened(port) for _ in range(visitors)]
    threads = [threading.Thread(target=visit, args=(visitor,)) for visitor in there]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def opened(port: int, query: str = "") -> Visitor:
    """A visitor who sees the first run."""
    visitor = Visitor(port, query)
    visitor.ask()
    visitor.wait()
    return visitor


@contextmanager
def heavy_run(port: int) -> Iterator[None]:
    """Meanwhile somebody's run takes its time."""
    visitor = Visitor(port, HEAVY + f"&seed={time.monotonic_ns() % 999}")
    visitor.ask()
    time.sleep(1)
    yield
    visitor.leave()
    time.sleep(1)


def measure(port: int, name: str, settings: Settings, seconds: float) -> None:
    """The table of one checkout."""

    def rate(visitors: int) -> tuple[float, list[float]]:
        answers = crowd(port, visitors, settings, seconds)
        return len(answers) / seconds, answers

    one, alone = rate(1)
    report(f"{name}: one visitor, runs a second", "", f"{one:.2f}; answer {summary(alone, 's')}")
    for visitors in (10, 40):
        many, answers = rate(visitors)
        report(
            f"{name}: {visitors} visitors, runs a second",
            "1.3x of one",
            f"{many:.2f} ({many / one:.2f}x)",
        )
        ideal = median(alone) * visitors / 2
        result = f"{summary(answers, 's')}, {median(answers) / ideal:.2f}x of {ideal:.3g} s"
        report(f"{name}: their answers, against two cores kept busy", "1.3x", result)
    with heavy_run(port):
        _, beside = rate(1)
    result = f"{summary(beside, 's')} ({median(beside) / median(alone):.2f}x)"
    report(f"{name}: one visitor beside a heavy run", "1.5x", result)


def main() -> None:
    """Measure this checkout, and another one where a folder is given."""
    folders = {"here": ROOT} | dict(zip(["other"], map(Path, sys.argv[1:]), strict=False))
    ports = {name: free_port() for name in folders}
    servers = [start_server(ports[name], folder) for name, folder in folders.items()]
    try:
        for name in folders:
            measure(ports[name], name, Settings(), SECONDS)
    finally:
        for server in servers:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
