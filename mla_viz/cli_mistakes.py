"""The command `mistakes`: what the Mistakes page shows, without a browser."""

import argparse
import json
from typing import Any

from mla_viz.checkpoints.mistakes import MISTAKES
from mla_viz.findings.museum import MuseumAsked, summary, texts
from mla_viz.words import share_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mistakes`."""
    parser.add_argument("mistake", nargs="?", help=f"one of {', '.join(MISTAKES)}; all if none")
    parser.add_argument("--prompt", default=MuseumAsked.prompt)
    parser.add_argument("--new-tokens", type=int, default=MuseumAsked.new_tokens)
    parser.add_argument("--layer", type=int, default=MuseumAsked.layer, help="from 0")
    parser.add_argument("--json", action="store_true", help="one JSON list, nothing else")


def run(args: dict[str, Any]) -> None:
    """Print what each mistake does to a layer and to the text."""
    as_json, one = args.pop("json"), args.pop("mistake")
    asked = [MuseumAsked(name, **args) for name in ([one] if one else MISTAKES)]
    records = [_record(each) for each in asked]
    if as_json:
        print(json.dumps(records, allow_nan=False))
        return
    print(f"right: {''.join(texts(asked[0]).right)}")
    for record in records:
        print(
            f"{record['mistake']}: output of layer {args['layer']} off by"
            f" {share_text(record['output_off'])} at {record['tokens']} tokens, noticed from"
            f" {record['noticed_at_tokens']}\n{'':4s}{record['wrong']}"
        )


def _record(asked: MuseumAsked) -> dict[str, Any]:
    both = texts(asked)
    return summary(asked) | {"right": "".join(both.right), "wrong": "".join(both.wrong)}
