"""Pretrained models fetched for visitors: by the command, in a process of its own, one at a time.

A process apart, because a stop must find it wherever it is. Knows no screen.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_BYTES = re.compile(r"(\d+) of (\d+) MB")


class FetchRun:
    """A fetch in progress; `progress` is megabytes taken, and in all (0 before it is known)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.progress = 0, 0
        self.error: str | None = None
        self.stopped = False
        self._ended = threading.Event()
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mla_viz", "fetch", name, "--progress"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # the server's own Ctrl-C is not for it
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it is over: the model is there, or `error` or `stopped` say why not."""
        return self._ended.is_set()

    def stop(self) -> None:
        """Ask it to end; what came so far is gone on with the next time, where that can be."""
        self.stopped = True
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        return self._ended.wait(seconds)

    def _read(self) -> None:
        """Progress as it is printed, and the last line that is none."""
        line, said = "", ""
        while chunk := self._process.stderr.read1():
            *lines, line = re.split(r"[\r\n]", line + chunk.decode("utf-8", "replace"))
            for each in [*lines, line]:
                if told := _BYTES.fullmatch(each):
                    self.progress = int(told[1]), int(told[2])
                elif each.strip():
                    said = each.strip()
        self._process.stderr.close()
        if self._process.wait() and not self.stopped:
            self.error = said.removeprefix("mla_viz: ") or "fetch: it ended without a word"
        self._ended.set()


class Fetches:
    """The one fetch of a server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: FetchRun | None = None

    @property
    def running(self) -> FetchRun | None:
        """The fetch in progress."""
        run = self._run
        return None if run is None or run.ended else run

    def start(self, name: str) -> FetchRun:
        """Begin one; where one is in progress, that."""
        with self._lock:
            if self.running is None:
                self._run = FetchRun(name)
            return self._run

    def close(self) -> None:
        """End what is running."""
        if run := self.running:
            run.stop()
            run.wait(5.0)
