"""Decode one layer over several processes, and hold the result against one process.

torch's launcher starts them; they meet in a file and talk over the loopback interface, so that no
network, name or fixed port is needed.
"""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    PContext,
    RunProcsResult,
    start_processes,
)

from mla_viz.cost import comm_bytes, rank_cache_elems
from mla_viz.model.device import parse_dtype, usable_bytes
from mla_viz.ranks.layer import Decoded, decode_alone
from mla_viz.ranks.settings import ParallelSettings, as_record
from mla_viz.words import bytes_text

POLL_SECONDS = 0.1


class RankLost(RuntimeError):  # noqa: N818
    """A rank ended before it was done; the others were ended too."""


@dataclass(frozen=True)
class ParallelRun:
    """What several ranks computed, kept and sent, beside what one process and the formulas say.

    `max_abs_diff` is the largest difference to one process in the output of any step on any rank,
    `max_abs_diff_last_step` that of the last step. `cache_bytes_per_rank` are summed over the real
    tensors, after the last token; `comm_bytes_per_token` are those of the tensors that a rank hands
    to collectives for a decoded token. Each has its formula's value beside it.
    """

    mechanism: str
    strategy: str
    ranks: int
    backend: str
    dtype: str
    tokens: int
    batch: int
    geometry: dict[str, Any]
    max_abs_diff: float
    max_abs_diff_last_step: float
    cache_bytes_one_process: int
    cache_bytes_per_rank: list[int]
    cache_bytes_formula: list[int]
    comm_bytes_per_token: float
    comm_bytes_formula: int


def parallel(ranks: int | ParallelSettings = 2, **settings: object) -> ParallelRun:
    """Decode one layer of random weights over several processes with torch.distributed.

    NCCL joins them where there is a CUDA device for each rank, gloo on the CPU otherwise.

    Args:
        ranks: how many processes; or ParallelSettings, which the keywords then change.
        **settings: fields of ParallelSettings.

    Raises:
        ValueError: a setting is not legal, or the processes do not fit in memory together.
        RankLost: a process ended before it was done.

    Example:
        >>> run = parallel(4, mechanism="mla_absorbed", strategy="cp")
        >>> run.cache_bytes_per_rank, run.max_abs_diff
    """
    if isinstance(ranks, ParallelSettings):
        return parallel_runs([replace(ranks, **settings)])[0]
    return parallel_runs([ParallelSettings(ranks, **settings)])[0]


def parallel_runs(jobs: Sequence[ParallelSettings]) -> list[ParallelRun]:
    """Several runs, one after another, by one group of processes.

    Raises:
        ValueError: they differ in ranks or device, or do not fit in memory.
        RankLost: a process ended before it was done.
    """
    first = jobs[0]
    if len({(job.ranks, job.device) for job in jobs}) > 1:
        raise ValueError("jobs: expected the same ranks and device in all, got several")
    backend = _backend(first)
    needed, there = max(job.memory_bytes for job in jobs), usable_bytes("cpu")
    if needed > there:
        raise ValueError(
            f"ranks: expected what fits in {bytes_text(there)}, got {first.ranks} processes that"
            f" may take {bytes_text(needed)}; choose fewer, or a smaller layer"
        )
    per_rank = _decode_by_ranks(jobs, backend)
    alone = [decode_alone(job, "cuda:0" if backend == "nccl" else "cpu") for job in jobs]
    return [
        _compared(job, backend, one, [of_rank[i] for of_rank in per_rank])
        for i, (job, one) in enumerate(zip(jobs, alone, strict=True))
    ]


def _backend(s: ParallelSettings) -> str:
    cuda = torch.cuda.device_count()
    if s.device == "cuda" and cuda < s.ranks:
        raise ValueError(
            f"device: expected a CUDA device for each of {s.ranks} ranks, got {cuda} (device cpu"
            " needs none)"
        )
    return "nccl" if s.device != "cpu" and cuda >= s.ranks else "gloo"


def _decode_by_ranks(jobs: Sequence[ParallelSettings], backend: str) -> list[list[Decoded]]:
    """By rank and job."""
    ranks = range(jobs[0].ranks)
    with TemporaryDirectory(prefix="mla_viz_ranks_") as name:
        folder = Path(name)
        task = {"backend": backend, "jobs": [as_record(job) for job in jobs]}
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        context = _started(folder, len(ranks))
        try:
            _check(context.wait(period=POLL_SECONDS), folder)
        finally:
            context.close(signal.SIGKILL)
        results = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in ranks]
    return [[Decoded(**each) for each in of_rank] for of_rank in results]


def _started(folder: Path, ranks: int) -> PContext:
    """The running processes. Ctrl-C does not reach them: they end with this one."""
    logging.getLogger("torch.distributed.elastic.multiprocessing").setLevel(logging.CRITICAL)
    module = ("-m", "mla_viz.ranks.rank", str(folder))
    with ThreadPoolExecutor(1) as thread:  # in which the launcher leaves signal handlers alone
        return thread.submit(
            start_processes,
            "rank",
            sys.executable,
            {rank: (*module, str(rank), str(os.getpid())) for rank in range(ranks)},
            {rank: _environment() for rank in range(ranks)},
            DefaultLogsSpecs(str(folder / "launcher")),
        ).result()


def _environment() -> dict[str, str]:
    """Where the package lies, and that all ranks are on this machine."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    network = {f"{who}_SOCKET_IFNAME": name for who in ("GLOO", "NCCL") for name in loopback}
    return {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | network


def _check(result: RunProcsResult, folder: Path) -> None:
    """Name the rank that ended first; the launcher has ended the others, by SIGTERM."""
    if not result.is_failed():
        return
    lost = min(result.failures.values(), key=lambda f: (f.exitcode == -signal.SIGTERM, f.exitcode))
    if lost.exitcode < 0:
        why = f"was ended by {lost.signal_name()}"
    else:
        log = folder / f"{lost.local_rank}.log"
        said = log.read_text(encoding="utf-8", errors="replace").split("\n")
        why = f"failed: {next((line for line in reversed(said) if line), 'it said nothing')}"
    raise RankLost(f"rank {lost.local_rank} {why}; the others were ended too")


def _compared(
    s: ParallelSettings, backend: str, alone: Decoded, by_rank: list[Decoded]
) -> ParallelRun:
    whole = alone.out.cpu()
    own = whole.tensor_split(s.ranks) if s.strategy == "dp" else [whole] * s.ranks
    gaps = torch.zeros(s.tokens, dtype=torch.float64)
    for rank, expected in zip(by_rank, own, strict=True):
        if len(expected):
            gaps = gaps.maximum((rank.out.double() - expected.double()).abs().amax((0, 2)))
    elem_bytes = parse_dtype(s.dtype).itemsize
    elems = rank_cache_elems(s.mechanism, s.geometry, s.strategy, s.ranks, s.tokens, s.batch)
    sent = max(rank.comm_bytes for rank in by_rank) / (s.batch * s.tokens)
    return ParallelRun(
        mechanism=s.mechanism,
        strategy=s.strategy,
        ranks=s.ranks,
        backend=backend,
        dtype=s.dtype,
        tokens=s.tokens,
        batch=s.batch,
        geometry=dict(vars(s.geometry)),
        max_abs_diff=float(gaps.max()),
        max_abs_diff_last_step=float(gaps[-1]),
        cache_bytes_one_process=alone.cache_bytes,
        cache_bytes_per_rank=[rank.cache_bytes for rank in by_rank],
        cache_bytes_formula=[each * elem_bytes for each in elems],
        comm_bytes_per_token=sent,
        comm_bytes_formula=comm_bytes(s.mechanism, s.geometry, s.strategy, s.ranks, elem_bytes),
    )
