"""Many visitors at once, without browsers: `python -m tests.e2e.crowd [FOLDER]`.

Each visitor speaks Streamlit's protocol over a websocket of its own, moves two sliders to a setting
that nobody has asked for, waits for the answer, and goes on. A folder of another checkout is
measured in turn with this one.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from statistics import median

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from mla_viz.bench.engine import report, summary
from tests.e2e.conftest import ROOT, free_port, start_server

SECONDS = 15
HEAVY = f"source=synthetic&layers=12&left=recompute&max_new_tokens=240&prompt={'+a' * 100}"


class Visitor:
    """One session of the Decode page."""

    def __init__(self, socket: ClientConnection, query: str) -> None:
        self._socket, self._query = socket, query
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

    def answer(self, **sliders: int) -> float:
        """Seconds from a change to its answer."""
        began = time.monotonic()
        self.ask(**sliders)
        while not self.wait():
            pass
        return time.monotonic() - began


@contextmanager
def opened(port: int, query: str = "") -> Iterator[Visitor]:
    """A visitor who has asked for the page."""
    url = f"ws://localhost:{port}/_stcore/stream"
    with connect(url, subprotocols=["streamlit"], max_size=None) as socket:
        visitor = Visitor(socket, query)
        visitor.ask()
        yield visitor


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

    def visit(visitor: Visitor) -> None:
        while time.monotonic() < end:
            answer = visitor.answer(**settings())
            if time.monotonic() < end:
                answers.append(answer)

    with ExitStack() as stack:
        there = [stack.enter_context(opened(port)) for _ in range(visitors)]
        for visitor in there:
            visitor.wait()
        end = time.monotonic() + seconds
        together(visit, there)
    return answers


def together(do: Callable[[Visitor], object], visitors: list[Visitor]) -> None:
    """All at once; until the last is done."""
    threads = [threading.Thread(target=do, args=(visitor,)) for visitor in visitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def equal_runs(port: int, setting: dict[str, int]) -> float:
    """Seconds until ten who ask for the same all have it."""
    with ExitStack() as stack:
        there = [stack.enter_context(opened(port)) for _ in range(10)]
        for visitor in there:
            visitor.wait()
        began = time.monotonic()
        together(lambda visitor: visitor.answer(**setting), there)
        return time.monotonic() - began


def behind_another(port: int, settings: Settings) -> float:
    """Seconds to the answer of a change made while a run four times as long is in progress."""
    with opened(port) as visitor:
        visitor.wait()
        visitor.ask(**settings() | {"New": 230})
        time.sleep(0.5)
        return visitor.answer(**settings())


def measure(port: int, name: str, settings: Settings, seconds: float) -> None:
    """The table of one checkout."""
    alone = crowd(port, 1, settings, seconds)
    one = len(alone) / seconds
    report(f"{name}: one visitor, runs a second", "", f"{one:.2f}; answer {summary(alone, 's')}")
    found = {1: alone}
    for visitors in (10, 40):
        answers = found[visitors] = crowd(port, visitors, settings, seconds)
        many = len(answers) / seconds
        if not answers:
            report(f"{name}: {visitors} visitors", "1.3x of one", f"no answer in {seconds} s")
            continue
        ideal = median(alone) * visitors / 2
        rate = f"{many:.2f} ({many / one:.2f}x)"
        report(f"{name}: {visitors} visitors, runs a second", "1.3x of one", rate)
        result = f"{summary(answers, 's')}, {median(answers) / ideal:.2f}x of {ideal:.3g} s"
        report(f"{name}: their answers, against two busy cores", "1.3x", result)
    equal = [equal_runs(port, settings()) for _ in range(5)]
    report(f"{name}: ten who ask for the same", "", summary(equal, "s"))
    behind = [behind_another(port, settings) for _ in range(5)]
    report(f"{name}: instead of a run in progress", "", summary(behind, "s"))
    for visitors in (1, 10):
        with opened(port, HEAVY):
            time.sleep(1)
            beside = crowd(port, visitors, settings, seconds / 2)
        result = "none"
        if beside and found[visitors]:
            result = f"{summary(beside, 's')} ({median(beside) / median(found[visitors]):.2f}x)"
        report(f"{name}: answers to {visitors} beside a heavy run", "1.5x", result)
        time.sleep(1)


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
