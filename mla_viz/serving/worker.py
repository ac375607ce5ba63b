"""A process that decodes for the server: one job after another, until the server is gone.

`python -m mla_viz.serving.worker FD` is the template that workers are forked from. It loads torch
and the first model once, so that a new worker is ready in milliseconds and shares their memory; it
computes nothing itself, and so may be forked. (multiprocessing would run `__main__` again in every
child, and while Streamlit runs a page that is the page.)
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

import torch

from mla_viz.pretrained.fetch import is_fetched
from mla_viz.pretrained.pins import PRETRAINED
from mla_viz.run.layer import AnySettings
from mla_viz.run.settings import Settings
from mla_viz.serving.tasks import do

STEP_SECONDS = 0.05


class Cancelled(Exception):
    """Nobody waits for this job any more."""


class Worker:
    """The worker's end of a connection.

    In come jobs, (number, task, settings), and a number alone, which cancels. Out go answers,
    (number, kind, content), of the kinds step, done, cancelled, refused and failed. `leave` is
    called once the server has gone, also in the middle of a step.
    """

    def __init__(self, connection: Connection, leave: Callable[[], object]) -> None:
        self._connection, self._leave = connection, leave
        self._jobs: SimpleQueue = SimpleQueue()
        self._cancelled = -1
        self._next_step = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self) -> None:
        """Do one job after another until the connection ends."""
        with suppress(OSError):
            while job := self._jobs.get():
                self._connection.send((job[0], *self._answer(*job)))

    def _answer(self, number: int, task: str, settings: AnySettings) -> tuple[str, object]:
        try:
            return "done", do(task, settings, lambda *step: self._step(number, step))
        except Cancelled:
            return "cancelled", None
        except ValueError as error:
            return "refused", str(error)
        except Exception as error:  # the next job must find a worker, whatever this one met
            return "failed", f"{type(error).__name__}: {error}"

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message = self._connection.recv()
                if isinstance(message, int):
                    self._cancelled = message
                else:
                    self._jobs.put(message)
        self._leave()
        self._jobs.put(None)

    def _step(self, number: int, step: tuple[int, int]) -> None:
        if self._cancelled == number:
            raise Cancelled
        if time.monotonic() >= self._next_step:
            self._next_step = time.monotonic() + STEP_SECONDS
            self._connection.send((number, "step", step))


def _serve(descriptor: int, niceness: int) -> NoReturn:
    """Be a worker; if memory runs out, the system is to end it and not the server."""
    os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="utf-8")
    connection = Connection(descriptor)
    with suppress(ValueError):  # of damaged files who asks for them is told
        do("run", Settings(max_new_tokens=1), lambda *_: None)  # wakes the kernels
    connection.send(os.getpid())
    Worker(connection, leave=lambda: os._exit(0)).serve()
    os._exit(0)


def main() -> None:
    """Be the template: fork a worker for every connection that is handed in."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's; the end of it is ours
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    torch.set_num_threads(1)
    with suppress(ValueError):
        Settings().side("left").load(0)
    gc.freeze()
    loaded: set[str] = set()
    while True:
        niceness, descriptors, *_ = socket.recv_fds(control, 1, 1)
        if not niceness:
            return
        if niceness[0]:
            _load_fetched(loaded)
        if os.fork() == 0:
            control.close()
            _serve(descriptors[0], niceness[0])
        os.close(descriptors[0])


def _load_fetched(loaded: set[str]) -> None:
    """Both sides of each pretrained model that was fetched: a worker for long jobs has them."""
    for name, model in PRETRAINED.items():
        if name not in loaded and is_fetched(model):
            loaded.add(name)
            with suppress(ValueError):
                settings = Settings(source=name)
                for side in ("left", "right"):
                    settings.side(side).load(0)
            gc.freeze()


if __name__ == "__main__":
    main()
