"""The command `python -m mla_viz bench`: its options, its progress, its table."""

import argparse
import json
import signal
import sys
from typing import Any

from mla_viz.bench.points import bench
from mla_viz.bench.settings import TIMED, BenchSettings
from mla_viz.findings.measured import Bench, Peer, Point, QueryPoint
from mla_viz.words import bytes_text, count_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    start = BenchSettings  # its defaults, of which none reads a shipped file yet
    named = "deepseek-v3, v2-lite, demo, or a config.json of an MLA model"
    parser.add_argument("--geometry", default=start.geometry, help=named)
    parser.add_argument("--contexts", type=int, nargs="+", default=start.contexts, help="tokens")
    parser.add_argument("--batch", type=int, default=start.batch, help="sequences")
    parser.add_argument("--dtype", default=start.dtype)
    known = ", ".join(TIMED)
    parser.add_argument("--mechanisms", nargs="+", default=start.mechanisms, help=known)
    many = "query tokens at a time, absorbed and rebuilt; as many times"
    parser.add_argument("--query-tokens", type=int, nargs="*", default=(), help=many)
    parser.add_argument("--repeats", type=int, default=start.repeats, help="of each, in turn")
    parser.add_argument("--threads", type=int, help="default: all cores of this process")
    parser.add_argument("--device", default=start.device, help="cpu, cuda, cuda:1, auto")
    parser.add_argument("--no-peers", dest="with_peers", action="store_false", help="ours alone")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def run(args: dict[str, Any]) -> None:
    """Measure, and print what came of it."""
    as_json = args.pop("json")
    several = {name: tuple(args.pop(name)) for name in ("contexts", "mechanisms", "query_tokens")}
    settings = BenchSettings(**args, **several)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C keeps what is there
    found = bench(settings, _progress)
    print(json.dumps(found.record(), allow_nan=False)) if as_json else _print(found)


def _progress(what: str, done: int, rounds: int) -> None:
    end = "\n" if done == rounds else ""
    print(f"\r{what}: round {done} of {rounds}", end=end, file=sys.stderr, flush=True)


def _print(b: Bench) -> None:
    print(f"{b.machine}, torch {b.torch}, {b.dtype}")
    if b.roofline:
        r = b.roofline
        print(
            f"reads {r.gb_s:.3g} GB/s, products {r.gflops:.4g} GFLOP/s"
            f" (square {r.square_gflops:.4g}, skinny {r.skinny_gflops:.4g})"
        )
    for p in b.points:
        print(
            f"{p.mechanism:13s} {p.part:5s} {p.context:7,} tokens x {p.batch}: {_spread(p)},"
            f" {p.gflops:.4g} GFLOP/s, {p.gb_s:.3g} GB/s, {_share(p)},"
            f" {bytes_text(p.working_bytes)} beside the cache"
        )
    for peer in b.peers:
        print(
            f"{peer.peer}, {peer.part}, {peer.context:,} tokens: {_spread(peer)},"
            f" {peer.times_ours:.3g}x of mla_absorbed in turn with it"
        )
    for q in b.queries:
        tokens = f"{count_text(q.query_tokens, 'query token')} over {q.context:,}"
        print(f"{q.form:13s} {tokens}: {_spread(q)}, {_share(q)}")
    if b.busy:
        print(f"the machine was busy (load {b.load:.1f} before): its times are no measure of it")
    if not b.complete:
        print("stopped: what is missing was not measured")


def _spread(of: Point | Peer | QueryPoint) -> str:
    return f"{of.time_us:,.0f} us ({of.quickest_us:,.0f}-{of.slowest_us:,.0f}, n={of.repeats})"


def _share(of: Point | QueryPoint) -> str:
    return f"{of.fraction_of_limit:.0%} of the limit {of.limit_us:,.0f} us"
