"""Every number the pages show, without a browser. Without a command: the app itself."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn, TextIO, get_args

import torch

from mla_viz import cli_caches as caches
from mla_viz import cli_mistakes as mistakes
from mla_viz import cli_speed as speed
from mla_viz.bench import command
from mla_viz.cli_run import (
    give,
    inside_record,
    layer_arguments,
    output_arguments,
    print_run,
    run_layer,
    run_record,
)
from mla_viz.findings.claims.inputs import parse_inputs
from mla_viz.findings.claims.judge import judge
from mla_viz.findings.evaluate import evaluate
from mla_viz.findings.family import LOSS, Family, Member, load_family
from mla_viz.findings.prompts import CHANCE
from mla_viz.mechanisms.table import CUT_MECHANISMS
from mla_viz.model.sources import TEMPERATURE
from mla_viz.pretrained.fetch import fetch
from mla_viz.pretrained.pins import PRETRAINED
from mla_viz.ranks.parallel import ParallelRun, RankLost, parallel
from mla_viz.ranks.settings import ParallelSettings
from mla_viz.run.compare import REPEATS, compare
from mla_viz.run.costs import Costs
from mla_viz.run.decode import decode, generate
from mla_viz.run.settings import Settings
from mla_viz.run.trace import Run
from mla_viz.words import count_text, gap_text, loss_text

LONGEST = 800  # characters of a message


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        _refuse(f"{message} (see {self.prog} --help)")

    def print_help(self, file: TextIO | None = None) -> None:
        """Unlike argparse's own, it does not hide that nothing could be written."""
        (file or sys.stdout).write(self.format_help())


def _refuse(message: object) -> NoReturn:
    _leave(message, 2)


def _leave(message: object, status: int) -> NoReturn:
    print(f"mla_viz: {shorten(str(message), LONGEST, placeholder=' ...')}", file=sys.stderr)
    raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    prog = "mla-viz" if Path(sys.argv[0]).stem == "mla-viz" else "python -m mla_viz"
    parser = _Parser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    _decode_arguments(commands.add_parser("decode", help="decode a prompt by two mechanisms"))
    layer_arguments(commands.add_parser("layer", help="one layer of a checkpoint, alone"))
    _evaluate_arguments(commands.add_parser("evaluate", help="loss of shipped weights on a text"))
    get = commands.add_parser("fetch", help="take a pretrained model from the network")
    get.add_argument("model", choices=[*PRETRAINED], metavar="MODEL", help=", ".join(PRETRAINED))
    get.add_argument("--progress", action="store_true", help="also to no terminal")
    quality = commands.add_parser("quality", help="scores of the family of trained models")
    quality.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    claims = commands.add_parser("claims", help="popular claims, recomputed")
    claims.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    claims.add_argument("--json", action="store_true", help="one JSON list, nothing else")
    caches.memory_arguments(commands.add_parser("memory", help="bytes of a model's cache"))
    caches.fits_arguments(commands.add_parser("fits", help="sequences that fit beside the weights"))
    speed.arguments(commands.add_parser("speed", help="the least that a decode step takes"))
    caches.audit_arguments(commands.add_parser("audit", help="why a cache is larger than that"))
    ranks = commands.add_parser("parallel", help="one layer decoded by several processes")
    _field_arguments(ranks, ParallelSettings, "the mechanism's own", {})
    ranks.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    mistakes.arguments(
        commands.add_parser("mistakes", help="what others got wrong, and its effect")
    )
    command.arguments(commands.add_parser("bench", help="decode steps measured on this machine"))
    return parser


TOLD = {
    "ranks": "'each' (pooled: a pretrained model's layers keep unlike many, at equal bytes)",
    "cache_dtype": "the dtype (the right side's cache: int8, fp8, int4; _all: RoPE key too)",
    "temperature": f"{TEMPERATURE} (0 with a pretrained model)",
}


def _field_arguments(
    parser: argparse.ArgumentParser, settings: type, unset: str, told: Mapping[str, str]
) -> None:
    """An option for every field but the prompt.

    `told` is how a field begins, in words; of others that are None `unset` is said.
    """
    for field in fields(settings):
        if field.name != "prompt":
            kind = get_args(field.type)[0] if get_args(field.type) else field.type
            flag = f"--{field.name.replace('_', '-')}"
            plain = unset if field.default is None else f"{field.default!r}"
            start = told.get(field.name, plain)
            parser.add_argument(flag, type=kind, default=field.default, help=f"default: {start}")


def _decode_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", type=_utf8)
    _field_arguments(parser, Settings, "the source's own", TOLD)
    output_arguments(parser)
    parser.add_argument("--compare", action="store_true", help="what every mechanism costs, too")
    parser.add_argument("--inside", type=int, metavar="STEP", help="its vectors too, in the JSON")
    parser.add_argument("--layer", type=int, default=0, help="of --inside, from 0")
    parser.add_argument("--head", type=int, default=0, help="of --inside, from 0")


def _utf8(argument: str) -> str:
    """An argument as UTF-8 spells it, whatever the locale; as it came where it is no UTF-8."""
    with suppress(UnicodeError):
        return argument.encode(errors="surrogateescape").decode()
    return argument


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", type=Path, required=True, help="stories, plain or .gz")
    parser.add_argument("--source", default="trained")
    parser.add_argument("--heads", type=int)
    parser.add_argument("--latent", type=int)
    parser.add_argument("--mechanism")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache-dtype", help="int8, fp8, int4; with _all the RoPE key too")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def cut_record(settings: Settings, run: Run) -> dict[str, Any]:
    """What the right side says against the left of one pretrained model, and writes by itself."""
    return {
        "kl": run.mean_kl,
        "agreement": run.agreement,
        "right_text": generate(replace(settings, left=settings.right)),
    }


def _print_costs(costs: Sequence[Costs]) -> None:
    if costs:
        print(f"\nattention of all layers, step {len(costs[0].flops)}, median of {REPEATS}:")
    for each in costs:
        whose = "of the same weights" if each.mechanism in CUT_MECHANISMS else "weights of its own"
        own = f", {whose}" if each.own_weights else ""
        cached, flops, took = each.last_step()
        print(f"{each.mechanism:13s} {cached:>10s} cached, {flops:>11s}, {took:>8s}{own}")


def _decode(args: dict[str, Any]) -> None:
    as_json = args.pop("json")
    step, layer, head = (args.pop(name) for name in ("inside", "layer", "head"))
    html, saved, beside = (args.pop(name) for name in ("html", "save", "compare"))
    if step is not None and not as_json:
        raise ValueError("--inside: expected --json beside it, got none (it prints many numbers)")
    settings = Settings(**args)
    run = decode(settings)
    costs = compare(settings) if beside else ()
    cut = None if run.kl is None else cut_record(settings, run)
    inside = {} if step is None else {"inside": inside_record(run.inside(step, layer, head))}
    give(run, html, saved)
    if as_json:
        compared = {"cut": cut} if cut else {}
        compared |= {"compare": [each.record() for each in costs]} if beside else {}
        print(json.dumps(run_record(run) | inside | compared, allow_nan=False))
    else:
        print_run(run)
        if cut:
            print(
                f"KL(left || right) {cut['kl']:.4f} nats a token, same likeliest token at"
                f" {cut['agreement']:.0%}; the right side by itself: {cut['right_text']}"
            )
        _print_costs(costs)


def _evaluate(args: dict[str, Any]) -> None:
    as_json = args.pop("json")
    score = evaluate(**args, on_story=_progress if sys.stderr.isatty() else None)
    if as_json:
        print(json.dumps(asdict(score), allow_nan=False))
    else:
        print(
            f"{score.nats_per_token:.4f} nats/token, {score.bits_per_byte:.4f} bits/byte"
            f" over {score.tokens:,} tokens;"
            f" {score.cache_bytes_per_token:,.0f} bytes cached a token, all layers"
        )


def quality_record(family: Family) -> dict[str, Any]:
    """The family as plain data: what `quality --json` prints. Losses are means over the seeds."""
    return {
        "tokens": family.tokens,
        "text_tokens": family.text_tokens,
        "passes": family.passes,
        "name_recall_chance": CHANCE,
        "stories": family.stories,
        "models": [_member_record(member) for member in family.members],
    }


def _member_record(member: Member) -> dict[str, Any]:
    others = ("bits_per_byte", "repeated", "novel", "name_recall")
    return {
        "name": member.name,
        "mechanism": member.mechanism,
        "geometry": member.geometry.describe(),
        "params": member.params,
        "cache_elems_per_token_per_layer": member.cache_elems,
        "flops_last_token": member.flops(member.geometry.context),
        "seeds": len(member.runs),
        "nats_per_token": {"mean": member.mean(LOSS), "std": member.std(LOSS)},
        **{name: member.mean(name) for name in others},
        "name_recall_std_error": member.recall_error,
        "head_likeness": {
            "content_keys": member.content_keys,
            "values": member.mean("values"),
        },
        "shipped": member.shipped,
    }


def _quality(args: dict[str, Any]) -> None:
    family = load_family()
    if args["json"]:
        print(json.dumps(quality_record(family), allow_nan=False))
        return
    print(f"{'model':16s} {'cached':>6s} {'nats/token':>10s} {'std':>6s} {'seeds':>5s}")
    for m in family.members:
        std = "-" if m.std(LOSS) is None else loss_text(m.std(LOSS))
        loss = loss_text(m.mean(LOSS))
        print(f"{m.label:16s} {m.cache_elems:6d} {loss:>10s} {std:>6s} {len(m.runs):5d}")


def _claims(args: dict[str, Any]) -> None:
    claims = judge(parse_inputs(args["set"]))
    if args["json"]:
        print(json.dumps([asdict(claim) for claim in claims], allow_nan=False))
        return
    for claim in claims:
        print(f"{claim.verdict:22s} {claim.claim}\n{'':22s} {claim.say_instead}")


def _parallel(args: dict[str, Any]) -> None:
    as_json = args.pop("json")
    try:
        run = parallel(**args)
    except RankLost as error:
        _leave(error, 1)
    print(json.dumps(asdict(run), allow_nan=False)) if as_json else _print_parallel(run)


def _print_parallel(run: ParallelRun) -> None:
    print(
        f"{run.mechanism}, {run.strategy}, {count_text(run.ranks, 'rank')} ({run.backend}):"
        f" {count_text(run.tokens, 'token')} of {count_text(run.batch, 'sequence')}"
    )
    gap = gap_text(run.max_abs_diff)
    print(f"largest difference to one process: {gap} ({run.dtype})")
    for rank, sizes in enumerate(
        zip(run.cache_bytes_per_rank, run.cache_bytes_formula, strict=True)
    ):
        print("rank {}: {:,} bytes cached, {:,} by the formula".format(rank, *sizes))
    print(f"one process: {run.cache_bytes_one_process:,} bytes cached")
    print(
        f"{run.comm_bytes_per_token:,.0f} bytes handed to collectives for a token, by each rank;"
        f" {run.comm_bytes_formula:,} by the formula"
    )


def _fetch(args: dict[str, Any]) -> None:
    tell = args["progress"] or sys.stderr.isatty()
    try:
        print(fetch(args["model"], _megabytes if tell else None))
    except (KeyboardInterrupt, ValueError) as error:
        if tell:
            print(file=sys.stderr)  # ends the line of the progress
        if isinstance(error, ValueError):
            raise
        _leave("stopped; run it again: what the hub has sent so far is gone on with", 130)


def _megabytes(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB", end=end, file=sys.stderr, flush=True)


def _progress(done: int, total: int) -> None:
    print(f"\rstory {done} of {total}", end="\n" if done == total else "", file=sys.stderr)


_COMMANDS = {
    "decode": _decode,
    "layer": run_layer,
    "evaluate": _evaluate,
    "fetch": _fetch,
    "quality": _quality,
    "claims": _claims,
    "memory": caches.run_memory,
    "fits": caches.run_fits,
    "audit": caches.run_audit,
    "parallel": _parallel,
    "speed": speed.run,
    "mistakes": mistakes.run,
    "bench": command.run,
}


def main(argv: list[str] | None = None) -> None:
    """Run one command; bad input gives one line on standard error and exit status 2."""
    torch.set_num_threads(1)  # steps are small: a second thread costs more than it brings
    args = vars(_parser().parse_args(argv))
    run = _COMMANDS[args.pop("command")]
    try:
        run(args)
    except ValueError as error:
        _refuse(error)
