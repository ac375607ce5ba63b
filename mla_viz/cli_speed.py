"""The command `speed`: what the Speed page counts, without a browser; `bench` measures."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from mla_viz.config import check_choice, check_int
from mla_viz.cost import crossover_query_tokens, query_flops
from mla_viz.findings.served import ingredients, mla_models
from mla_viz.findings.speed import (
    COUNTED,
    ELEM_BYTES,
    PARTS,
    accelerator_rates,
    gain,
    needed_balance,
    step,
    training,
    training_crossing,
)
from mla_viz.mechanisms.table import OWN_WEIGHTS
from mla_viz.words import micros_text, number_text

ACCELERATOR = "H800 SXM"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `speed`."""
    parser.add_argument("model", help="a name of the catalog whose every layer is MLA")
    parser.add_argument("--context", type=int, default=16_384, help="tokens of each sequence")
    parser.add_argument("--batch", type=int, default=1, help="sequences")
    parser.add_argument("--dtype", default="bfloat16", help=", ".join(ELEM_BYTES))
    parser.add_argument("--accelerator", default=ACCELERATOR, help="a name of the catalog")
    parser.add_argument("--ranks", type=int, default=8, help="accelerators of the headline")
    parser.add_argument("--query-tokens", type=int, default=1, help="at once, over the context")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def run(args: dict[str, Any]) -> None:
    """Print what is counted."""
    as_json = args.pop("json")
    found = speed_record(**args)
    if as_json:
        print(json.dumps(found, allow_nan=False))
    else:
        _print(found)


def speed_record(
    model: str,
    context: int,
    batch: int,
    dtype: str,
    accelerator: str,
    ranks: int,
    query_tokens: int,
) -> dict[str, Any]:
    """All of it as plain data.

    Raises:
        ValueError: an unknown name, a number out of bounds, or a rate that no source prints.
    """
    g = mla_models()[check_choice("model", model, list(mla_models()))]
    rates, elem_bytes = accelerator_rates(accelerator, dtype), ELEM_BYTES[dtype]
    queries = check_int("query_tokens", query_tokens, 1, 1 << 20)
    steps = {
        (name, part): step(name, g, context, batch, elem_bytes, part)
        for part in PARTS
        for name in COUNTED
    }
    trained = {name: training(name, g, context) for name in ("mla_expanded", *OWN_WEIGHTS)}
    return {
        "model": model,
        "dtype": dtype,
        "rates": asdict(rates) | {"balance": rates.balance},
        "steps": [
            asdict(each)
            | {
                "intensity": each.intensity,
                "limit_us": rates.limit_us(each.flops, each.bytes),
                "bound": rates.bound(each.flops, each.bytes),
                "times_absorbed": gain(steps["mla_absorbed", part], each, rates),
            }
            for (_, part), each in steps.items()
        ],
        "needed_balance": {
            name: needed_balance(g, name, elem_bytes) for name in ("mla_expanded", "mha", "mqa")
        },
        "queries": {
            "query_tokens": queries,
            "flops": {
                form: query_flops(form, g, queries, context)
                for form in ("mla_absorbed", "mla_reexpand")
            },
            "crossover": crossover_query_tokens(g, context),
            "endless_crossover": crossover_query_tokens(g),
        },
        "training": [asdict(each) | {"flops": each.flops} for each in trained.values()],
        "training_crossing": training_crossing(g),
        "headline": [asdict(share) for share in ingredients(accelerator, ranks, context)],
    }


def _print(found: dict[str, Any]) -> None:
    rates, queries = found["rates"], found["queries"]
    print(f"{rates['name']}: {number_text(rates['balance'])} FLOP a byte, counted, not measured")
    for each in found["steps"]:
        print(
            f"{each['mechanism']:13s} {each['part']:5s} {each['flops']:,} FLOP, {each['bytes']:,}"
            f" bytes: {micros_text(each['limit_us'])} ({each['bound']}),"
            f" {number_text(each['times_absorbed'])} times absorbed"
        )
    for name, balance in found["needed_balance"].items():
        above = "no machine" if balance is None else f"above {number_text(balance)} FLOP a byte"
        print(f"absorbed wins against {name}: {above}")
    crossover = queries["crossover"]
    told = "never" if crossover is None else f"from {number_text(crossover)} query tokens on"
    print(f"rebuilding makes fewer products: {told}")
    for share in found["headline"]:
        ratio = "does not fit" if share["ratio"] is None else number_text(share["ratio"])
        print(f"{share['label']}: {ratio}")
