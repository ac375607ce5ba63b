"""What the one server process is set up to: its threads, its collector, its workers."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from mla_viz.model.device import free_bytes
from mla_viz.serving.benches import Benches
from mla_viz.serving.fetches import Fetches
from mla_viz.serving.pool import Pool
from mla_viz.serving.store import Store

KEPT_BYTES = 256 << 20
MOST_WORKERS = 8


@cache
def workers() -> Pool:
    """The one pool of this server, a worker a core.

    Torch keeps to one thread here; what the imports made is taken out of the collector's sight,
    which would go through it after every rerun.
    """
    torch.set_num_threads(1)
    gc.freeze()
    budget = free_bytes() * 4 // 5 - KEPT_BYTES
    return Pool(Store(KEPT_BYTES), min(cores(), MOST_WORKERS), budget)


@cache
def benches() -> Benches:
    """The one bench of this server, and what was measured here."""
    return Benches()


def may_bench() -> bool:
    """Whether visitors may run the bench here: not where MLA_VIZ_BENCH is `off`."""
    return os.environ.get("MLA_VIZ_BENCH", "on").strip().lower() != "off"


@cache
def fetches() -> Fetches:
    """The one fetch of this server."""
    return Fetches()


def may_fetch() -> bool:
    """Whether visitors may fetch pretrained models: not where MLA_VIZ_FETCH is `off`."""
    return os.environ.get("MLA_VIZ_FETCH", "on").strip().lower() != "off"


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, by its mask and a container's quota; at least one."""
    masked = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if masked else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such file, or "max": no quota
        text = (root / "sys/fs/cgroup/cpu.max").read_text(encoding="utf-8")
        quota, period = map(int, text.split())
        count = min(count, -(-quota // period))
    return max(1, count)


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Workers from the first moment on, before anyone asks; none when the server has gone."""
    pool = workers()
    try:
        yield
    finally:
        benches().close()
        fetches().close()
        pool.close()
