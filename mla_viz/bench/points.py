"""The bench: every mechanism's decode step, beside what was counted and what the machine allows.

Times are medians of repetitions that take turns, with the quickest and the slowest.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mla_viz.bench.peers import peers
from mla_viz.bench.roofline import Roofline, roofline
from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.steps import steps
from mla_viz.bench.timing import Times, in_turn
from mla_viz.cost import core_operations, moved_bytes, operations
from mla_viz.model.device import parse_dtype, usable_bytes

PEER_REPEATS = 5  # a peer's step takes up to some hundred times as long

QUIET = 0.5  # processes that want a core on a machine that does nothing else

OnPart = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Point:
    """One mechanism at one context: `core` is attention over the cache, `layer` all of a layer.

    Bytes are those that must move: weights once, and for each sequence all operands and results.
    """

    mechanism: str
    part: str
    context: int
    batch: int
    dtype: str
    time_us: float
    quickest_us: float
    slowest_us: float
    repeats: int
    flops: int
    bytes: int
    gflops: float
    gb_s: float
    limit_us: float
    fraction_of_limit: float
    busy: bool


@dataclass(frozen=True)
class Peer:
    """What another implementation took, and `mla_absorbed` in turn with it."""

    peer: str
    part: str
    context: int
    time_us: float
    quickest_us: float
    slowest_us: float
    repeats: int
    ours_us: float
    times_ours: float
    busy: bool


@dataclass(frozen=True)
class Bench:
    """All that was measured; not `complete` where it was stopped.

    `load` is how many processes wanted a core before it began, over a minute.
    """

    settings: BenchSettings
    torch: str
    load: float
    roofline: Roofline | None
    points: tuple[Point, ...]
    peers: tuple[Peer, ...]
    complete: bool

    @property
    def busy(self) -> bool:
        """Whether the machine had other work: at the start, or because times lie far apart."""
        measured = (*self.points, *self.peers, *((self.roofline,) if self.roofline else ()))
        return self.load > QUIET or any(each.busy for each in measured)

    def record(self) -> dict[str, Any]:
        """As plain data: what `bench --json` prints."""
        roof = self.roofline and asdict(self.roofline) | {"gflops": self.roofline.gflops}
        return {
            **asdict(self.settings),
            "layer": asdict(self.settings.geometry_of("mla_absorbed")),
            "torch": self.torch,
            "load": self.load,
            "roofline": roof,
            "points": [asdict(point) for point in self.points],
            "peers": [asdict(peer) for peer in self.peers],
            "complete": self.complete,
            "busy": self.busy,
        }


def bench(settings: BenchSettings, on_part: OnPart = lambda *_: None) -> Bench:
    """Measure; Ctrl-C keeps what is there.

    Args:
        settings: what is timed.
        on_part: called with (what is timed now, rounds done, rounds in all).

    Raises:
        ValueError: it does not fit in memory; nothing was allocated.
    """
    settings.check_room(usable_bytes("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    found = _Found(settings, on_part)
    try:
        with torch.inference_mode():
            found.measure()
    except KeyboardInterrupt:
        return found.bench(complete=False)
    finally:
        torch.set_num_threads(threads)
    return found.bench(complete=True)


class _Found:
    """What is there so far."""

    def __init__(self, s: BenchSettings, on_part: OnPart) -> None:
        self._s, self._on_part = s, on_part
        self._load, self._roofline = os.getloadavg()[0], None
        self._points: list[Point] = []
        self._peers: list[Peer] = []

    def bench(self, *, complete: bool) -> Bench:
        """As a record."""
        parts = self._roofline, tuple(self._points), tuple(self._peers)
        return Bench(self._s, torch.__version__, self._load, *parts, complete)

    def measure(self) -> None:
        """The roofline, then context by context the mechanisms and the peers."""
        self._roofline = roof = roofline(self._s, self._told("roofline"))
        for context in self._s.contexts:
            self._measure_points(context, roof)
            if self._s.with_peers:
                self._measure_peers(context)

    def _told(self, what: str) -> Callable[[int, int], object]:
        return lambda done, rounds: self._on_part(what, done, rounds)

    def _measure_points(self, context: int, roof: Roofline) -> None:
        works = {(mechanism, part): work for mechanism, part, work in steps(self._s, context)}
        told = self._told(f"{context:,} tokens")
        for (mechanism, part), times in in_turn(works, self._s.repeats, told).items():
            self._points.append(self._point(mechanism, part, context, times, roof))

    def _point(
        self, mechanism: str, part: str, context: int, times: Times, roof: Roofline
    ) -> Point:
        s = self._s
        counted = core_operations if part == "core" else operations
        elem_bytes = parse_dtype(s.dtype).itemsize
        ops = counted(mechanism, s.geometry_of(mechanism), context, elem_bytes)
        flops, moved = s.batch * sum(op.flops for op in ops), moved_bytes(ops, s.batch)
        limit, us = roof.limit_us(flops, moved), times.median
        rates = flops / us / 1e3, moved / us / 1e3
        return Point(
            mechanism,
            part,
            context,
            s.batch,
            s.dtype,
            *(us, min(times.us), max(times.us), len(times.us)),
            *(flops, moved, *rates),
            *(limit, limit / us, times.busy),
        )

    def _measure_peers(self, context: int) -> None:
        for name, part, work, ours in peers(self._s, context):
            told = self._told(f"{context:,} tokens, {name}")
            times = in_turn({name: work, "ours": ours}, min(PEER_REPEATS, self._s.repeats), told)
            of, own = times[name], times["ours"].median
            spread = (of.median, min(of.us), max(of.us), len(of.us))
            busy = of.busy or times["ours"].busy
            self._peers.append(Peer(name, part, context, *spread, own, of.median / own, busy))
