"""Workers, their queue, and what happens to what nobody waits for: with processes and without."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from mla_viz.player.payload import pack_run
from mla_viz.run.bill import Bill
from mla_viz.run.decode import bill_of, decode, generate
from mla_viz.run.settings import Settings
from mla_viz.serving import pool as room
from mla_viz.serving.pool import HEAVY_SECONDS, Pool, WorkerLost
from mla_viz.serving.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="most workers here are forked")
LIGHT, HEAVY = Bill(40, 1.0), Bill(40, HEAVY_SECONDS + 1)


def asked(seed, **more):
    return Settings(source="synthetic", seed=seed, max_new_tokens=2, **more)


def eventually(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    assert holds()


# The queue, with workers that do what the test says


class Stage(room.Process):
    """Workers that hold each job until it is let go, in the order in which they began."""

    def __init__(self):
        self.began, self.forked, self.ended = [], [], 0
        self.answers, self._go = {}, {}

    def fork(self, niceness):
        self.forked.append(niceness)
        return self

    def do(self, job):
        self._go[job.settings.seed] = threading.Event()
        self.began.append(job.settings.seed)
        assert self._go[job.settings.seed].wait(20)
        return self.answers.get(job.settings.seed, ("done", b"made %d" % job.settings.seed))

    def let_go(self, seed):
        eventually(lambda: seed in self._go)
        self._go[seed].set()

    def swollen(self):
        return False

    def end(self):
        self.ended += 1


@pytest.fixture
def stage(monkeypatch):
    stage = Stage()
    monkeypatch.setattr(room, "Template", lambda: stage)
    return stage


@contextmanager
def opened(workers=1, budget=100):
    pool = Pool(Store(1000), workers, budget)
    yield pool
    pool.close()


def test_first_come_first_served_and_the_place_in_the_queue_is_told(stage):
    with opened() as pool, ExitStack() as stack:
        jobs = [stack.enter_context(pool.ask("run", asked(seed), LIGHT)) for seed in range(4)]
        eventually(lambda: stage.began == [0])
        assert [pool.place(job) for job in jobs] == [0, 0, 1, 2]
        for seed in range(4):
            stage.let_go(seed)
            assert jobs[seed].wait(20.0)
            assert jobs[seed].result() == b"made %d" % seed
        assert stage.began == [0, 1, 2, 3]


def test_as_many_at_once_as_there_are_workers(stage):
    with opened(workers=2) as pool, ExitStack() as stack:
        for seed in range(3):
            stack.enter_context(pool.ask("run", asked(seed), LIGHT))
        eventually(lambda: len(stage.began) == 2)
        time.sleep(0.05)
        assert sorted(stage.began) == [0, 1]
        for seed in range(3):
            stage.let_go(seed)


def test_what_is_asked_for_twice_is_made_once_and_then_kept(stage):
    with opened() as pool:
        with pool.ask("run", asked(1), LIGHT) as one, pool.ask("run", asked(1), LIGHT) as two:
            assert one is two
            stage.let_go(1)
            assert one.wait(20.0)
        with pool.ask("run", asked(1), LIGHT) as again:
            assert again.wait(0.0)
            assert again.result() == pool.find("run", asked(1)) == b"made 1"
        assert pool.find("text", asked(1)) is None
        assert stage.began == [1]


def test_what_one_of_two_leaves_goes_on_and_what_both_leave_is_never_begun(stage):
    with opened() as pool, pool.ask("run", asked(0), LIGHT):
        eventually(lambda: stage.began == [0])
        with pool.ask("run", asked(1), LIGHT) as job:
            with pool.ask("run", asked(1), LIGHT):
                pass
            assert job.waiting == 1
        assert pool._queue == []
        stage.let_go(0)
        with pool.ask("run", asked(2), LIGHT):
            stage.let_go(2)
        assert 1 not in stage.began


def test_heavy_work_has_a_worker_of_its_own_that_gives_way(stage):
    with opened() as pool, ExitStack() as stack:
        for seed, bill in ((0, HEAVY), (1, HEAVY), (2, LIGHT)):
            stack.enter_context(pool.ask("run", asked(seed), bill))
        eventually(lambda: sorted(stage.began) == [0, 2])
        assert sorted(stage.forked) == [room.URGENT, room.PATIENT]
        for seed in (2, 0, 1):
            stage.let_go(seed)


def test_jobs_wait_for_memory_in_turn_and_what_never_fits_is_refused(stage):
    with opened(workers=3) as pool, ExitStack() as stack:
        for seed, size in ((0, 60), (1, 50), (2, 10)):
            stack.enter_context(pool.ask("run", asked(seed), Bill(size, 1.0)))
        eventually(lambda: stage.began == [0])
        time.sleep(0.05)
        assert stage.began == [0]  # the small one does not overtake
        stage.let_go(0)
        eventually(lambda: sorted(stage.began) == [0, 1, 2])
        for seed in (1, 2):
            stage.let_go(seed)
        with (
            pytest.raises(ValueError, match="geometry: expected one that fits"),
            pool.ask("run", asked(3), Bill(101, 1.0)),
        ):
            pass


def test_answers_of_every_kind_reach_who_waits_and_only_what_was_made_is_kept(stage):
    stage.answers = {1: ("refused", "heads: no"), 2: ("failed", "KeyError: 'x'")}
    with opened() as pool:
        for seed, error in ((1, ValueError), (2, WorkerLost)):
            with pool.ask("run", asked(seed), LIGHT) as job:
                stage.let_go(seed)
                assert job.wait(20.0)
                with pytest.raises(error, match=stage.answers[seed][1]):
                    job.result()
            assert pool.find("run", asked(seed)) is None


def test_a_worker_that_keeps_much_memory_is_replaced(stage):
    with opened() as pool:
        stage.swollen = lambda: True
        with pool.ask("run", asked(1), LIGHT) as job:
            stage.let_go(1)
            assert job.wait(20.0)
        eventually(lambda: stage.forked.count(room.URGENT) == 2)
        assert stage.ended == 1


def test_without_a_process_who_asks_is_told_and_the_next_one_tries_again(stage):
    def fails(_):
        stage.forked.append(None)
        raise EOFError

    works, stage.fork = stage.fork, fails
    with opened() as pool:
        eventually(lambda: len(stage.forked) == 2)
        with pool.ask("run", asked(1), LIGHT) as job:
            assert job.wait(20.0)
            with pytest.raises(WorkerLost):
                job.result()
        stage.fork = works
        with pool.ask("run", asked(2), LIGHT) as job:
            stage.let_go(2)
            assert job.wait(20.0)
        assert stage.forked.count(None) <= 4  # at the start, for the job, and behind it


@pytest.mark.usefixtures("stage")
def test_time_is_told_at_the_pace_of_the_last_runs():
    with opened() as pool:
        assert pool.seconds("run", Bill(1, 90.0)) == 90
        pool._paces["run"].extend([3.0, 2.0, 40.0])
        assert pool.seconds("run", Bill(1, 90.0)) == 90 * 2.5
        assert pool.seconds("text", Bill(1, 90.0)) == 90


def test_a_text_without_a_word_is_kept_too(stage):
    stage.answers = {1: ("done", b"")}
    with opened() as pool:
        for _ in range(2):
            with pool.ask("text", asked(1), LIGHT) as job:
                if not stage.began:
                    stage.let_go(1)
                assert job.wait(20.0)
                assert job.result() == b""
        assert stage.began == [1]


# With processes


@pytest.fixture(scope="module")
def pool():
    pool = Pool(Store(1 << 24), 1, 1 << 32)
    yield pool
    pool.close()


def made(pool, settings, task="run"):
    with pool.ask(task, settings, bill_of(settings)) as job:
        assert job.wait(60.0)
        return job.result()


def header(payload):
    end = 4 + int.from_bytes(payload[:4], "little")
    return json.loads(payload[4:end])


def test_what_a_worker_makes_is_what_is_made_here(pool):
    settings = asked(1)
    here, there = (header(x) for x in (pack_run(decode(settings)), made(pool, settings)))
    assert {**here, "run": 0} == {**there, "run": 0}  # a run's name tells its times too
    assert made(pool, settings, "text").decode() == generate(settings)


def test_what_is_not_legal_is_refused_with_its_line(pool):
    long = Settings(" a" * 9000, "synthetic")
    with (
        pytest.raises(ValueError, match="prompt: expected at most 8191 tokens"),
        pool.ask("run", long, LIGHT) as job,
    ):
        assert job.wait(60.0)
        job.result()


LONG = {"max_new_tokens": 4000, "prompt": "x"}


@contextmanager
def in_progress(pool, seed):
    settings = Settings(source="synthetic", seed=seed, **LONG)
    with pool.ask("run", settings, LIGHT) as job:
        eventually(lambda: job.steps)
        yield job


def idle(pool):
    return not pool._running


def test_a_run_that_nobody_waits_for_ends_at_its_next_step_and_its_worker_goes_on(pool):
    made(pool, asked(2))
    before = worker_of(pool)
    with in_progress(pool, 1) as job:
        pass
    eventually(lambda: idle(pool))
    assert not job.wait(0.0) or job._answer[0] == "cancelled"
    made(pool, asked(3))
    assert worker_of(pool) == before


def test_a_step_without_end_ends_with_its_process(pool):
    with in_progress(pool, 2):
        stopped = worker_of(pool)
        os.kill(stopped, signal.SIGSTOP)
    eventually(lambda: idle(pool))
    eventually(lambda: not alive(stopped))
    made(pool, asked(4))


def test_who_waits_is_told_that_the_process_has_ended_and_may_ask_again(pool):
    with in_progress(pool, 3) as job:
        os.kill(worker_of(pool), signal.SIGKILL)
        assert job.wait(20.0)
        with pytest.raises(WorkerLost, match="the process that worked on it has ended"):
            job.result()
    made(pool, asked(5))


def test_a_new_template_takes_the_place_of_one_that_died(pool):
    made(pool, asked(6))
    old, worker = pool._template._process, worker_of(pool)
    old.kill()
    old.wait()
    with in_progress(pool, 4) as job:
        os.kill(worker, signal.SIGKILL)
        assert job.wait(20.0)
    made(pool, asked(7))
    assert pool._template._process.pid != old.pid


# With threads, where nothing can be forked


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.delattr(os, "fork")
    pool = Pool(Store(1 << 24), 1, 1 << 32)
    yield pool
    pool.close()


def test_where_nothing_can_be_forked_threads_make_the_same(threads):
    settings = asked(1)
    assert made(threads, settings, "text").decode() == generate(settings)
    with (
        pytest.raises(ValueError, match="prompt: expected at most 8191 tokens"),
        threads.ask("run", Settings(" a" * 9000, "synthetic"), LIGHT) as job,
    ):
        assert job.wait(60.0)
        job.result()


def test_a_thread_gives_a_run_up_that_nobody_waits_for_and_ends_with_the_pool(threads):
    made(threads, asked(1))
    working = {thread for thread in threading.enumerate() if "serve" in thread.name}
    assert len(working) == 2
    with in_progress(threads, 1):
        pass
    eventually(lambda: idle(threads))
    made(threads, asked(2))
    threads.close()
    eventually(lambda: not any(thread.is_alive() for thread in working))


SERVER = """
import sys, time
from mla_viz.run.decode import bill_of
from mla_viz.run.settings import Settings
from mla_viz.serving.pool import Pool
from mla_viz.serving.store import Store
pool = Pool(Store(1), 1, 1 << 32)
settings = Settings(source="synthetic", max_new_tokens=4000)
with pool.ask("run", settings, bill_of(settings)) as job:
    while not job.steps: job.wait(0.1)
    print(pool._template._process.pid, flush=True)
    time.sleep(60)
"""


def test_no_process_outlives_a_server_that_is_killed():
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    template = int(server.stdout.readline())
    family = [template, *children(template)]
    assert len(family) == 3  # a worker for what is light, one for what is heavy
    server.kill()
    server.communicate()
    eventually(lambda: not any(map(alive, family)))


def children(parent):
    """The processes that another one has forked."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if file.read_text(encoding="utf-8").rpartition(")")[2].split()[1] == str(parent):
                found.append(int(file.parent.name))
    return found


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def worker_of(pool):
    """The worker for what is light."""
    workers = children(pool._template._process.pid)
    return next(x for x in workers if os.getpriority(os.PRIO_PROCESS, x) == room.URGENT)
