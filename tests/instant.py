"""Pools without processes: what they are asked for is made at once, by the test."""

from contextlib import contextmanager

from mla_viz.serving.pool import Job
from mla_viz.serving.store import Store
from mla_viz.serving.tasks import do


class HerePool:
    """Does each task at once, in the test's own process; keeps nothing."""

    def find(self, *_):
        return None

    def seconds(self, *_):
        return 0.0

    @contextmanager
    def ask(self, task, settings, bill):
        job = Job(0, task, settings, bill)
        try:
            job.finish("done", do(task, settings, lambda *_: None))
        except ValueError as error:
            job.finish("refused", str(error))
        yield job


class InstantPool:
    """Makes what `make(settings)` says, or fails with `error`; `made` tells what was asked."""

    def __init__(self, make):
        self.make, self.made, self.error = make, [], None
        self.pace, self.before = 1.0, 0
        self._store = Store(1 << 28)

    def find(self, task, settings):
        return self._store.find((task, settings))

    def seconds(self, _, bill):
        return bill.seconds * self.pace

    def place(self, _):
        return self.before

    @contextmanager
    def ask(self, task, settings, bill):
        job = Job(0, task, settings, bill)
        self.made.append(settings)
        if self.error:
            job.finish("failed", self.error)
        else:
            content = self.make(settings).encode()
            self._store.keep((task, settings), content)
            job.finish("done", content)
        yield job
