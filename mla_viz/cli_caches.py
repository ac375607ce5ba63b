"""The commands `memory`, `fits` and `audit`: their options, and what they print."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mla_viz.findings.audit import audit
from mla_viz.findings.fits import WEIGHT_BITS, fits
from mla_viz.findings.memory import DIVIDED, Memory, memory
from mla_viz.published.config_json import open_config
from mla_viz.published.layers import CACHE_DTYPES
from mla_viz.words import count_text


def memory_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `memory`."""
    parser.add_argument("--context", type=int, default=4096, help="tokens of each sequence")
    parser.add_argument("--mtp-layers", type=int, default=0, help="of multi-token prediction")
    parser.add_argument("--groups", type=int, default=8, help="heads of the GQA compared with")
    _strategy_argument(parser)
    _cache_arguments(parser, "sequences")


def _strategy_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strategy", default="tp", help=f"how ranks share: {', '.join(DIVIDED)}")


def fits_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `fits`."""
    parser.add_argument("model", help="a name of the catalog, or a config.json of Hugging Face")
    parser.add_argument("--accelerator", default="H200 SXM", help="a name of the catalog")
    parser.add_argument("--ranks", type=int, default=8, help="accelerators")
    parser.add_argument("--weights", default="fp8", help=", ".join(WEIGHT_BITS))
    parser.add_argument("--params", type=float, help="parameters, where they cannot be counted")
    parser.add_argument("--context", type=int, default=4096, help="tokens of each sequence")
    parser.add_argument("--cache-dtype", default="bfloat16", help=", ".join(CACHE_DTYPES))
    parser.add_argument("--page", type=int, default=1, help="tokens of a page")
    _strategy_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def audit_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `audit`."""
    said = "a line of an engine, or BYTES @ TOKENS; may be given twice"
    parser.add_argument("--reported", action="append", default=[], help=said)
    parser.add_argument("--log", metavar="FILE", help="such lines in a file; - is standard input")
    _cache_arguments(parser, "sequences of BYTES @ TOKENS")


def _cache_arguments(parser: argparse.ArgumentParser, sequences: str) -> None:
    parser.add_argument("model", help="a name of the catalog, or a config.json of Hugging Face")
    parser.add_argument("--batch", type=int, default=1, help=sequences)
    parser.add_argument("--cache-dtype", default="bfloat16", help=", ".join(CACHE_DTYPES))
    parser.add_argument("--tp", type=int, default=1, help="ranks that share it")
    parser.add_argument("--page", type=int, default=1, help="tokens of a page")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def run_memory(args: dict[str, Any]) -> None:
    """Print what a cache takes."""
    as_json, model = args.pop("json"), args.pop("model")
    found = memory(_opened(model), **args)
    if as_json:
        print(json.dumps(found.record(), allow_nan=False))
    else:
        _print_memory(found)


def _print_memory(m: Memory) -> None:
    print(
        f"{m.model}, {m.attention}: {m.total_bytes:,} bytes for {m.batch:,} x {m.context:,} tokens"
    )
    print(f"a further token adds {m.elems_per_token:,} values, {m.bytes_per_token:,} bytes")
    print(f"fixed, a sequence: {m.fixed_bytes:,} bytes; in windows: {m.window_bytes:,} bytes")
    for f in m.factors:
        print(
            f"{f.part:18s} {count_text(f.layers, 'layer')} x {count_text(f.sequences, 'sequence')}"
            f" x {f.rows:,} rows x {f.row_bytes:,} bytes ({f.vectors} x {f.width} values)"
            f" = {f.bytes:,} bytes"
        )
    for name, beside in m.baselines.items():
        times = "-" if beside.ratio is None else f"{beside.ratio:.4g}x"
        print(f"against {name}: {beside.elems_per_token:,} values a token, {times}")
    if m.tp > 1:
        print(f"each of {m.tp} ranks: {m.per_rank_bytes:,} bytes")
    for words in (*m.warnings, *m.given_up):
        print(words)


def run_fits(args: dict[str, Any]) -> None:
    """Print what fits beside the weights."""
    as_json, model = args.pop("json"), args.pop("model")
    found = fits(_opened(model), **args)
    if as_json:
        print(json.dumps(asdict(found), allow_nan=False))
        return
    for name, size in (
        ("memory", found.memory_bytes),
        ("weights", found.weight_bytes),
        ("left for caches", found.room_bytes),
        ("a sequence takes", found.sequence_bytes),
    ):
        print(f"{name}, on each of {found.ranks}: {size:,} bytes")
    print(f"{count_text(found.sequences, 'sequence')} fit in all")


def _opened(model: str) -> str | dict[str, Any]:
    """A model as it is asked for: the object in a file, or a name."""
    return open_config(model) if model.endswith(".json") else model


def run_audit(args: dict[str, Any]) -> None:
    """Print what an engine's report comes to."""
    as_json, model, log = args.pop("json"), args.pop("model"), args.pop("log")
    reported = "\n".join([*args.pop("reported"), *([_log(log)] if log else [])])
    found = audit(_opened(model), reported, **args)
    print(json.dumps(found.record(), allow_nan=False) if as_json else "\n".join(found.told()))


def _log(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read()
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"--log: expected a file, got {path}: {error.strerror}") from None
