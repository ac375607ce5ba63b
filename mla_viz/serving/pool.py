"""Worker processes and the queue before them: first come, first served, each run made once.

As many workers as cores do what takes seconds; one more, which gives way to them, does what takes
longer. A job that nobody waits for any more ends at its next step, or with its process.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from statistics import median

from mla_viz.run.bill import Bill
from mla_viz.run.layer import AnySettings
from mla_viz.serving.store import Store
from mla_viz.serving.worker import Worker

HEAVY_SECONDS = 5.0
POLL_SECONDS = 0.05
GRACE_SECONDS = 0.15
SWOLLEN_BYTES = 256 << 20
URGENT, PATIENT = 0, 19  # niceness
LOST = "failed", "the process that worked on it has ended"


class WorkerLost(RuntimeError):  # noqa: N818
    """The process that worked on this ended before it was done."""


class Job:
    """One thing to be made, for all who asked for it at the same time."""

    def __init__(self, number: int, task: str, settings: AnySettings, bill: Bill) -> None:
        self.number, self.task, self.settings, self.bill = number, task, settings, bill
        self.heavy = bill.seconds > HEAVY_SECONDS
        self.waiting = 0
        self.steps: tuple[int, int] | None = None
        self._answer: tuple[str, object] | None = None
        self._finished = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Whether it is finished, now or within some seconds."""
        return self._finished.wait(seconds)

    def finish(self, kind: str, content: object) -> None:
        """Tell all who wait."""
        self._answer = kind, content
        self._finished.set()

    def result(self) -> bytes:
        """What was made.

        Raises:
            ValueError: what was asked for is not legal.
            WorkerLost: its process ended before it was done, or met an error of its own.
        """
        kind, content = self._answer
        if kind == "refused":
            raise ValueError(content)
        if kind == "failed":
            raise WorkerLost(content)
        return content


class Process:
    """The server's end of a worker; one that is a thread of the server has no `pid`.

    Raises:
        OSError, EOFError: from any method: the worker is gone.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.pid = connection.recv()
        self._rested_bytes = self._resident_bytes()

    def do(self, job: Job) -> tuple[str, object]:
        """Have a job done: the kind of its answer, and the answer."""
        self._connection.send((job.number, job.task, job.settings))
        told = None
        while True:
            while not self._connection.poll(POLL_SECONDS):
                told = self._tell(job, told)
            number, kind, content = self._connection.recv()
            if number == job.number and kind != "step":
                return kind, content
            job.steps = content
            told = self._tell(job, told)

    def _tell(self, job: Job, told: float | None) -> float | None:
        """Where nobody waits any more: say so, and after a while end the process."""
        if job.waiting:
            return told
        if told is None:
            self._connection.send(job.number)
            return time.monotonic()
        if self.pid and time.monotonic() - told > GRACE_SECONDS:
            os.kill(self.pid, signal.SIGKILL)
        return told

    def swollen(self) -> bool:
        """Whether it keeps much more memory than at its start."""
        return self._resident_bytes() - self._rested_bytes > SWOLLEN_BYTES

    def _resident_bytes(self) -> int:
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1]
        except OSError:
            return 0  # no such file system here
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        """Let it go: it ends when its connection does."""
        self._connection.close()


class Template:
    """The process that workers are forked from; a new one where it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def fork(self, niceness: int) -> Process:
        """A new worker, ready to work."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._hand_over(niceness, theirs)
            except OSError:
                self._start()
                self._hand_over(niceness, theirs)
        connection = Connection(ours.detach())
        try:
            return Process(connection)
        except (OSError, EOFError):
            connection.close()
            raise

    def _hand_over(self, niceness: int, theirs: socket.socket) -> None:
        if self._control is None:
            raise OSError
        socket.send_fds(self._control, [bytes([niceness])], [theirs.fileno()])

    def _start(self) -> None:
        self._end()
        self._control, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            command = [sys.executable, "-m", "mla_viz.serving.worker", str(descriptor)]
            paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
            env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
            self._process = subprocess.Popen(command, pass_fds=[descriptor], env=env)

    def end(self) -> None:
        """End it; workers end with their connections."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._process.terminate()
            self._process.wait()


class Threads:
    """Workers where no process can be forked: they share the server's one interpreter."""

    def fork(self, _: int) -> Process:
        """A new worker, ready to work."""
        ours, theirs = Pipe()
        theirs.send(None)
        threading.Thread(target=Worker(theirs, leave=theirs.close).serve, daemon=True).start()
        return Process(ours)

    def end(self) -> None:
        """Nothing: each ends with its connection."""


class Pool:
    """The workers of a server, their queue, and the store of what they made.

    `budget_bytes` bounds what the jobs in progress may take together, by their bills.
    """

    def __init__(self, store: Store, workers: int, budget_bytes: int) -> None:
        self._store, self._budget_bytes = store, budget_bytes
        self._numbers = count()
        self._changed = threading.Condition()
        self._wanted: dict[tuple[str, AnySettings], Job] = {}
        self._queue: list[Job] = []
        self._running: set[Job] = set()
        self._closed = False
        self._paces = defaultdict(lambda: deque([1.0], maxlen=9))
        self._template = Template() if hasattr(os, "fork") else Threads()
        self._threads = [
            threading.Thread(target=self._work, args=(heavy,), daemon=True)
            for heavy in [*[False] * workers, True]
        ]
        for thread in self._threads:
            thread.start()

    def find(self, task: str, settings: AnySettings) -> bytes | None:
        """What was made before and is kept."""
        return self._store.find((task, settings))

    @contextmanager
    def ask(self, task: str, settings: AnySettings, bill: Bill) -> Iterator[Job]:
        """A job that is kept, in progress, or new at the end of the queue; left at the end.

        Raises:
            ValueError: it takes more memory than the server has.
        """
        bill.check(self._budget_bytes)
        with self._changed:
            job = self._find(task, settings, bill)
            job.waiting += 1
        try:
            yield job
        finally:
            with self._changed:
                job.waiting -= 1
                if not job.waiting:
                    self._drop(job)

    def _find(self, task: str, settings: AnySettings, bill: Bill) -> Job:
        key = task, settings
        if key not in self._wanted:
            job = self._wanted[key] = Job(next(self._numbers), task, settings, bill)
            kept = self._store.find(key)
            if kept is not None:
                job.finish("done", kept)
            else:
                self._queue.append(job)
                self._changed.notify_all()
        return self._wanted[key]

    def _drop(self, job: Job) -> None:
        """Nobody waits any more: out of the queue; whoever works on it will see it."""
        del self._wanted[job.task, job.settings]
        if job in self._queue:
            self._queue.remove(job)

    def place(self, job: Job) -> int:
        """How many jobs are before this one in its queue; 0 too once it is worked on."""
        with self._changed:
            queue = [each for each in self._queue if each.heavy == job.heavy]
            return queue.index(job) if job in queue else 0

    def seconds(self, task: str, bill: Bill) -> float:
        """What a job will take at the pace of the last ones of its kind."""
        return bill.seconds * median(self._paces[task])

    def close(self) -> None:
        """End every worker."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._template.end()

    def _work(self, heavy: bool) -> None:
        """One worker's thread: the next job, for as long as there is a server."""
        worker = self._forked(heavy)
        while job := self._next(heavy):
            worker = worker or self._forked(heavy)
            if not self._do(worker, job):
                if worker:
                    worker.end()
                worker = self._forked(heavy)
        if worker:
            worker.end()

    def _forked(self, heavy: bool) -> Process | None:
        """A new worker, or None where there can be none."""
        with suppress(OSError, EOFError):
            return self._template.fork(PATIENT if heavy else URGENT)
        return None

    def _next(self, heavy: bool) -> Job | None:
        """The first of this queue, once its memory is free; None when the pool is closed."""
        with self._changed:
            while not self._closed:
                first = next((job for job in self._queue if job.heavy == heavy), None)
                if first and self._fits(first):
                    self._queue.remove(first)
                    self._running.add(first)
                    return first
                self._changed.wait()
            return None

    def _fits(self, job: Job) -> bool:
        return sum(each.bill.bytes for each in (*self._running, job)) <= self._budget_bytes

    def _do(self, worker: Process | None, job: Job) -> bool:
        """Have a job done; whether its worker may go on."""
        answer, began = LOST, time.monotonic()
        with suppress(Exception):  # whatever it met, this thread serves the next job
            answer = worker.do(job) if worker else LOST
        with self._changed:
            self._running.remove(job)
            if answer[0] == "done":
                self._paces[job.task].append((time.monotonic() - began) / job.bill.seconds)
                self._store.keep((job.task, job.settings), answer[1])
            job.finish(*answer)
            self._changed.notify_all()
        return answer is not LOST and not worker.swollen()
