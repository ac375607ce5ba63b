"""Gathers the family's finished runs into the package: results, and the weights of the first seed.

    python -m train.collect

Run it whenever runs have finished; what is not there yet is left out.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from mla_viz.findings.family import FAMILY_FILE
from mla_viz.shipped import member_weights, shipped
from train.checksums import write_checksums
from train.family import (
    SWAP_SEED,
    TOKENS,
    TRIAL_TOKENS,
    Run,
    member_runs,
    rate_trials,
    rope_trials,
    spread_trials,
)
from train.run import write_json

SEEDS = (0, 1, 2)


def counted_seeds() -> list[int]:
    """The first seed, and each other that all members have: means are over the same seeds."""
    first, *others = SEEDS
    done = [seed for seed in others if all(run.score for run in member_runs("member", seed))]
    return [first, *done]


def seed_record(run: Run) -> dict[str, Any]:
    """How one training scored."""
    log = json.loads(run.log.read_text(encoding="utf-8"))
    score = {name: value for name, value in log["score"].items() if name != "tokens"}
    recall = {name: log.get(name) for name in ("name_recall", "recall_by_prompt")}
    alike = {name: log["likeness"].get(name) for name in ("content_keys", "values")}
    return {"seed": run.seed, **score, **recall, **alike}


def finished_members(purpose: str, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Every member with one finished training or more."""
    every = [run for seed in seeds for run in member_runs(purpose, seed)]
    records = []
    for name in dict.fromkeys(run.geometry.name for run in every):
        runs = [run for run in every if run.geometry.name == name and run.score is not None]
        if runs:
            geometry, seeds_done = asdict(runs[0].geometry), [seed_record(run) for run in runs]
            records.append({"geometry": geometry, "lr_scale": runs[0].lr_scale, "runs": seeds_done})
    return records


def trial_records() -> list[dict[str, Any]]:
    """Every finished trial, by name, rate and seed."""
    trials = [*rope_trials().values(), *rate_trials("mha").values(), *rate_trials("mla").values()]
    by_name = {run.name: run for run in [*trials, *spread_trials()] if run.score is not None}
    return [
        {
            "name": run.geometry.name,
            "lr_scale": run.lr_scale,
            "seed": run.seed,
            "nats_per_token": run.score,
        }
        for run in by_name.values()
    ]


def texts() -> dict[str, int]:
    """How much text is read and how much scored, as the first finished member tells it."""
    first = next(run for run in member_runs("member", 0) if run.score)
    log = json.loads(first.log.read_text(encoding="utf-8"))
    return {
        "text_tokens": log["text_tokens"],
        "stories": log["stories"],
        "scored_tokens": log["score"]["tokens"],
    }


def ship_weights() -> None:
    """Copy the weights of the first seed into the package."""
    for run in member_runs("member", SEEDS[0]):
        if run.score is not None and run.weights.exists():
            shutil.copy(run.weights, member_weights(run.geometry.name))


def main() -> None:
    """Write the results, ship the weights."""
    members = finished_members("member", counted_seeds())
    record = {
        "tokens": TOKENS,
        "trial_tokens": TRIAL_TOKENS,
        "planned": len(list(member_runs("member", SEEDS[0]))),
        **texts(),
        "trials": trial_records(),
        "members": members,
        "swapped": finished_members("swap", [SWAP_SEED]),
    }
    write_json(shipped(FAMILY_FILE), record)
    ship_weights()
    write_checksums()
    print(f"{len(members)} members, {sum(len(m['runs']) for m in members)} trainings")


if __name__ == "__main__":
    main()
