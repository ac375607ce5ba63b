"""The command `mistakes`: what the Mistakes page shows, without a browser."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from mla_viz.checkpoints.layer import load_attention
from mla_viz.checkpoints.mistakes import MISTAKES
from mla_viz.findings.museum import MuseumAsked, layer_summary, summary, texts
from mla_viz.run.layer import seeded_hidden
from mla_viz.words import share_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mistakes`."""
    parser.add_argument("mistake", nargs="?", help=f"one of {', '.join(MISTAKES)}; all if none")
    parser.add_argument("--prompt", default=MuseumAsked.prompt)
    parser.add_argument("--new-tokens", type=int, default=MuseumAsked.new_tokens)
    parser.add_argument("--layer", type=int, default=MuseumAsked.layer, help="from 0")
    parser.add_argument("--folder", help="a checkpoint: its layer on random hidden states, no text")
    parser.add_argument("--tokens", type=int, default=24, help="of those")
    parser.add_argument("--seed", type=int, default=0, help="of those")
    parser.add_argument("--json", action="store_true", help="one JSON list, nothing else")


def run(args: dict[str, Any]) -> None:
    """Print what each mistake does to a layer and to the text."""
    as_json, one = args.pop("json"), args.pop("mistake")
    names = [one] if one else list(MISTAKES)
    records = [*(_of_folder(names, args) if args["folder"] else _of_model(names, args))]
    if as_json:
        print(json.dumps(records, allow_nan=False))
        return
    if "right" in records[0]:
        print(f"right: {records[0]['right']}")
    for record in records:
        print(
            f"{record['mistake']}: output of layer {args['layer']} off by"
            f" {share_text(record['output_off'])} at {record['tokens']} tokens, noticed from"
            f" {record['noticed_at_tokens'] or 'none'}"
        )
        if "wrong" in record:
            print(f"    {record['wrong']}")


def _of_model(names: list[str], args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in names:
        asked = MuseumAsked(name, args["prompt"], args["new_tokens"], args["layer"])
        both = texts(asked)
        yield summary(asked) | {"right": "".join(both.right), "wrong": "".join(both.wrong)}


def _of_folder(names: list[str], args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    layer = load_attention(args["folder"], args["layer"])
    hidden = seeded_hidden(layer, args["tokens"], args["seed"])
    for name in names:
        yield layer_summary(name, layer, hidden)
