"""What a bench ran on, and what a piece of work held there."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from mla_viz.bench.timing import Work
from mla_viz.words import count_text


def machine_text(threads: int, device: str = "cpu") -> str:
    """The processor as it names itself, and the threads: `AMD EPYC, 2 threads`; or the device."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {count_text(threads, 'thread')}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def working_bytes(work: Work, device: str = "cpu") -> int:
    """The most that tensors made by one call hold at a time, what it returns included.

    Worked: a sum of two vectors of 1,000 floats takes 4,000. What a library keeps in memory of its
    own while it multiplies is not seen.
    """
    if device.startswith("cuda"):
        work()  # the first call may try out kernels, in memory that no other call takes
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = seen.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


@contextmanager
def _silent() -> Iterator[None]:
    """Without the lines that the profiler's library writes to the process's standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
