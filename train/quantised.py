"""Scores the shipped models with their caches quantised, each in every format.

    python -m train.quantised --val stories_val.txt.gz

Writes mla_viz/data/quantised.json, which the Memory page draws, and continues where it stopped.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any

import torch

from mla_viz.findings.evaluate import score_stories
from mla_viz.findings.quantised import QUANTISED_FILE, Kept, paired
from mla_viz.findings.stories import read_stories
from mla_viz.mechanisms.formats import FORMATS
from mla_viz.model.sources import MEMBERS, TRAINED, Shape, find_source
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.run import write_json

DTYPE = "bfloat16"  # what engines keep a cache in that is not quantised
LATENTS = (8, 16, 32, 64)
SIDES = ("mla_expanded", "mla_absorbed")


@dataclass(frozen=True)
class Task:
    """A model, the mechanism that decodes it and the format of its cache."""

    source: str
    shape: Shape
    mechanism: str
    format: str | None

    @property
    def name(self) -> str:
        """What it is kept under."""
        return f"{self.source} {self.shape.latent} {self.mechanism} {self.format}"


def tasks() -> Iterator[Task]:
    """The sliders' model at a few latents, and every member of the family; the latents both ways.

    Formats that spare the RoPE key no less are left out where there is none: MHA, GQA and MQA.
    """
    models = [(TRAINED, Shape(latent=latent)) for latent in LATENTS]
    for source, shape in [*models, *((name, Shape()) for name in MEMBERS)]:
        own = find_source(source).mechanisms
        for mechanism in SIDES if SIDES[0] in own else own:
            for kept in (None, *FORMATS):
                if not kept or FORMATS[kept].keep_rope or mechanism in SIDES:
                    yield Task(source, shape, mechanism, kept)


def scored(task: Task, stories: list[str]) -> dict[str, Any]:
    """Nats and tokens of every story, and the bytes of a token."""
    source = find_source(task.source)
    geometry = source.geometry(task.shape, task.mechanism)
    weights = source.load(geometry, 0).to(getattr(torch, DTYPE), "cpu")
    kept = FORMATS[task.format] if task.format else None
    scores = [
        score_stories(weights, task.mechanism, [story], source.tokenizer(), kept=kept)
        for story in stories
    ]
    return {
        "heads": geometry.attention.n_heads,
        "latent": getattr(geometry.attention, "kv_lora_rank", None),
        "bytes": scores[0].cache_bytes_per_token,
        "tokens": [score.tokens for score in scores],
        "nats": [score.nats_per_token * score.tokens for score in scores],
    }


def row(task: Task, done: dict[str, Any], text_bytes: int) -> Kept:
    """A task's record, beside that of the cache in the model's own dtype."""
    own = done[task.name]
    plain = done[Task(task.source, task.shape, task.mechanism, None).name]
    difference, nats = paired(own["nats"], plain["nats"], own["tokens"]), sum(own["nats"])
    return Kept(
        source=task.source,
        heads=own["heads"],
        latent=own["latent"],
        mechanism=task.mechanism,
        format=task.format,
        cache_bytes_per_token=round(own["bytes"]),
        nats_per_token=round(nats / sum(own["tokens"]), 5),
        bits_per_byte=round(nats / log(2) / text_bytes, 5),
        more=round(difference.mean, 6),
        error=round(difference.error, 6),
    )


def main() -> None:
    """Score what is not scored yet, write the results."""
    parser = argparse.ArgumentParser(description="Score quantised caches on the shipped models.")
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--part", type=Path, default=Path("train/checkpoints/quantised.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    stories = read_stories(args.val)
    done = json.loads(args.part.read_text(encoding="utf-8")) if args.part.exists() else {}
    for task in tasks():
        if task.name not in done:
            done[task.name] = scored(task, stories)
            write_json(args.part, done)
            print(task.name, flush=True)
    text_bytes = sum(len(story.encode()) for story in stories)
    rows = [asdict(row(task, done, text_bytes)) for task in tasks()]
    tokens = sum(done[next(tasks()).name]["tokens"])
    record = {"dtype": DTYPE, "stories": len(stories), "tokens": tokens, "rows": rows}
    text = json.dumps(record).replace('{"source"', '\n{"source"')
    shipped(QUANTISED_FILE).write_text(text + "\n", encoding="utf-8")
    write_checksums()


if __name__ == "__main__":
    main()
