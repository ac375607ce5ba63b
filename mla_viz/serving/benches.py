"""Benches run for visitors: each in a process of its own, one at a time, ended when nobody looks.

A process apart, because neither a stop nor a lack of memory may hurt the server, and because a
server's threads would be measured along. Knows neither torch nor screens: it runs the command.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mla_viz.findings.measured import Bench

STARTING = "starting"
PATIENCE = 90.0  # seconds that a run goes on unseen; a hidden tab may look once a minute
LONGEST = 600.0  # seconds after which it is stopped with what it has
GRACE = 30.0  # seconds between asking it to end and ending it: a round may take long
MOST_KEPT = 8
_ROUND = re.compile(r"(.+): round (\d+) of (\d+)")


@dataclass(frozen=True)
class BenchAsked:
    """What `python -m mla_viz bench` is asked for; `config` are the layer's fields as JSON."""

    label: str
    config: str
    contexts: tuple[int, ...]
    batch: int
    dtype: str
    mechanisms: tuple[str, ...]
    repeats: int
    query_tokens: tuple[int, ...] = ()
    with_peers: bool = False

    def command(self, file: Path) -> list[str]:
        """The command line, once `config` stands in a file."""
        several = {
            "--contexts": self.contexts,
            "--mechanisms": self.mechanisms,
            "--query-tokens": self.query_tokens,
        }
        lists = [word for name, values in several.items() if values for word in (name, *values)]
        alone = ["--batch", self.batch, "--dtype", self.dtype, "--repeats", self.repeats]
        peers = [] if self.with_peers else ["--no-peers"]
        return [*map(str, ["bench", "--json", "--geometry", file, *lists, *alone, *peers])]


class BenchRun:
    """A bench in progress; `progress` is what is timed now, rounds done, rounds in all."""

    def __init__(self, asked: BenchAsked) -> None:
        self.asked = asked
        self.progress: tuple[str, int, int] = (STARTING, 0, 1)
        self.found: Bench | None = None
        self.error: str | None = None
        self._ended, self._stopped = threading.Event(), threading.Event()
        self._folder = TemporaryDirectory()
        self._said = ""
        file = Path(self._folder.name) / "config.json"
        file.write_text(asked.config, encoding="utf-8")
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._printed = file.with_name("printed.json")
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mla_viz", *asked.command(file)],
                stdout=printed,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # the server's own Ctrl-C is not for it
            )
        with suppress(OSError):  # where memory runs out it is to be ended, not the server
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000", encoding="utf-8")
        self._began = self._seen = time.monotonic()
        self._reader = threading.Thread(target=self._read, daemon=True)
        for thread in (self._reader, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether `found` or `error` are there."""
        return self._ended.is_set()

    def look(self) -> None:
        """Say that somebody still waits for it."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Ask it to end with the rounds that are whole."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._interrupt()

    def _interrupt(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        return self._ended.wait(seconds)

    def end(self) -> None:
        """End it now."""
        self._stopped.set()
        self._process.kill()
        self._ended.wait(GRACE)

    def _read(self) -> None:
        """Progress as it is printed, and the last line that is none."""
        line = ""
        while chunk := self._process.stderr.read1():
            *lines, line = re.split(r"[\r\n]", line + chunk.decode("utf-8", "replace"))
            for each in [*lines, line]:
                if told := _ROUND.fullmatch(each):
                    self.progress = told[1], int(told[2]), int(told[3])
                elif each.strip() and each in lines:
                    self._said = each.strip()
        self._process.stderr.close()

    def _watch(self) -> None:
        """Wait for the end, and bring it about where it takes too long or nobody looks."""
        asked_at = None
        while self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
            now = time.monotonic()
            if now - self._seen > PATIENCE or now - self._began > LONGEST:
                self.stop()
            if self._stopped.is_set():
                asked_at = asked_at or now
                if self.progress[0] == STARTING:  # a process just begun may not have heard it
                    self._interrupt()
                if now - asked_at > GRACE:
                    self._process.kill()
        self._reader.join()
        self._conclude()
        self._folder.cleanup()
        self._ended.set()

    def _conclude(self) -> None:
        try:
            found = Bench.of(json.loads(self._printed.read_text(encoding="utf-8")))
            self.found = replace(found, geometry=self.asked.label) if found.points else None
        except (ValueError, KeyError, TypeError):
            self.found = None
        if self.found is None:
            self.error = (
                "Stopped before a round was whole: nothing was measured"
                if self._stopped.is_set()
                else self._said.removeprefix("mla_viz: ") or "The bench ended without a result"
            )


class Benches:
    """The one bench of a server, and the last ones that were measured on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: BenchRun | None = None
        self._kept: OrderedDict[BenchAsked, Bench] = OrderedDict()

    @property
    def running(self) -> BenchRun | None:
        """The run in progress; what has ended is kept."""
        with self._lock:
            return self._current()

    @property
    def kept(self) -> tuple[Bench, ...]:
        """What was measured here, the newest first."""
        with self._lock:
            self._current()
            return tuple(reversed(self._kept.values()))

    def start(self, asked: BenchAsked) -> BenchRun:
        """Begin one.

        Raises:
            ValueError: another one is running.
        """
        with self._lock:
            if self._current():
                raise ValueError("Another visitor's bench is running here: two would disturb both")
            self._run = BenchRun(asked)
            return self._run

    def close(self) -> None:
        """End what is running."""
        with self._lock:
            if self._run:
                self._run.end()

    def _current(self) -> BenchRun | None:
        if self._run and self._run.ended:
            if self._run.found:
                self._kept[self._run.asked] = self._run.found
                self._kept.move_to_end(self._run.asked)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            self._run = None
        return self._run
