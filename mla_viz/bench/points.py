"""The bench: every mechanism's decode step, beside what was counted and what the machine allows.

Everything takes turns with the work that measures the machine's rates, so that both drift alike.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch

from mla_viz.bench.machine import machine_text, working_bytes
from mla_viz.bench.peers import peers
from mla_viz.bench.queries import query_works
from mla_viz.bench.roofline import roofline, roofline_works
from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.steps import steps
from mla_viz.bench.timing import Key, Times, Turns, Work
from mla_viz.cost import core_operations, moved_bytes, operations, query_flops, row_bytes
from mla_viz.findings.measured import Bench, Peer, Point, QueryPoint, Roofline
from mla_viz.model.device import parse_dtype, usable_bytes

SLOW_REPEATS = 5  # of peers and of many queries, whose work takes up to some hundred times as long

OnPart = Callable[[str, int, int], object]


def bench(settings: BenchSettings, on_part: OnPart = lambda *_: None) -> Bench:
    """Measure; Ctrl-C keeps the rounds that are whole.

    Args:
        settings: what is timed.
        on_part: called with (what is timed now, rounds done, rounds in all).

    Raises:
        ValueError: it does not fit in memory; nothing was allocated.
    """
    settings.check_room(usable_bytes(settings.device))
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    measuring = _Measuring(settings, on_part)
    try:
        with torch.inference_mode():
            measuring.measure()
    except KeyboardInterrupt:
        return measuring.found
    finally:
        torch.set_num_threads(threads)
    return replace(measuring.found, complete=True)


class _Measuring:
    """`found` is what is there so far."""

    def __init__(self, s: BenchSettings, on_part: OnPart) -> None:
        self._s, self._on_part = s, on_part
        machine, load = machine_text(s.threads, s.device), os.getloadavg()[0]
        self.found = Bench(
            **{name: getattr(s, name) for name in ("geometry", "contexts", "batch", "dtype")},
            **{name: getattr(s, name) for name in ("mechanisms", "query_tokens", "repeats")},
            **{"threads": s.threads, "layer": s.geometry_of("mla_absorbed")},
            **{"machine": machine, "torch": torch.__version__, "load": load},
            **{"roofline": None, "points": (), "queries": (), "peers": (), "complete": False},
        )

    def measure(self) -> None:
        """The roofline and the mechanisms in turn; then the peers; then many queries."""
        self._measure_points()
        for context in self._s.contexts:
            if self._s.with_peers:
                self._measure_peers(context)
            if self._s.query_tokens:
                self._measure_queries(context)

    def _turns(self, what: str, works: Mapping[Key, Work]) -> Turns[Key]:
        cuda = self._s.on_cuda
        wait = partial(torch.cuda.synchronize, self._s.device) if cuda else lambda: None
        return Turns(works, lambda *done: self._on_part(what, *done), wait)

    def _measure_points(self) -> None:
        with self._s.place():
            works = {tuple(key): work for *key, work in steps(self._s)}
            rates = roofline_works(self._s)
        working = {key: working_bytes(work, self._s.device) for key, work in works.items()}
        turns = self._turns("mechanisms", {**rates, **works})
        try:
            turns.run(self._s.repeats)
        finally:
            if times := turns.times:
                roof = roofline(self._s, times)
                order = sorted(works, key=lambda key: key[2])
                points = (self._point(*key, times[key], roof, working[key]) for key in order)
                self.found = replace(self.found, roofline=roof, points=tuple(points))

    def _point(
        self, mechanism: str, part: str, context: int, times: Times, roof: Roofline, working: int
    ) -> Point:
        s = self._s
        counted = operations if part == "layer" else core_operations
        elem_bytes = parse_dtype(s.dtype).itemsize
        ops = counted(mechanism, s.geometry_of(mechanism), context, elem_bytes)
        flops, moved = s.batch * sum(op.flops for op in ops), moved_bytes(ops, s.batch)
        limit, us = roof.limit_us(flops, moved), times.median
        return Point(
            *(mechanism, part, context, s.batch, s.dtype, *times.spread),
            *(flops, moved, flops / us / 1e3, moved / us / 1e3),
            *(limit, limit / us, working, times.busy),
        )

    def _measure_peers(self, context: int) -> None:
        with self._s.place():
            beside = list(peers(self._s, context))
        for name, part, work, ours in beside:
            turns = self._turns(f"{context:,} tokens, {name}", {name: work, "ours": ours})
            try:
                turns.run(min(SLOW_REPEATS, self._s.repeats))
            finally:
                if times := turns.times:
                    of, own = times[name], times["ours"]
                    ratio, busy = of.median / own.median, of.busy or own.busy
                    peer = Peer(name, part, context, *of.spread, own.median, ratio, busy)
                    self.found = replace(self.found, peers=(*self.found.peers, peer))

    def _measure_queries(self, context: int) -> None:
        with self._s.place():
            works = {tuple(key): work for *key, work in query_works(self._s, context)}
        turns = self._turns(f"{context:,} tokens, many queries", works)
        try:
            turns.run(min(SLOW_REPEATS, self._s.repeats))
        finally:
            points = (self._query_point(*key, context, of) for key, of in turns.times.items())
            self.found = replace(self.found, queries=(*self.found.queries, *points))

    def _query_point(self, form: str, tokens: int, context: int, times: Times) -> QueryPoint:
        g, elem_bytes = self.found.layer, parse_dtype(self._s.dtype).itemsize
        flops = query_flops(form, g, tokens, context)
        limit = self.found.roofline.limit_us(flops, row_bytes(form, g, elem_bytes) * context)
        shares = limit, limit / times.median, times.busy
        return QueryPoint(form, tokens, context, *times.spread, flops, *shares)
