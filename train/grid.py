"""Scores the exported model at every setting of the two sliders.

    python -m train.grid --val stories_val.txt.gz

Writes mla_viz/data/stories_grid.json, which the Decode page draws, and continues where it stopped.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from mla_viz.findings.evaluate import score_stories
from mla_viz.findings.scores import GRID_FILE
from mla_viz.findings.stories import read_stories
from mla_viz.model.sources import TRAINED, Shape, find_source
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.run import LOGS


def score_grid(stories: list[str], part: Path) -> dict[str, dict]:
    """Score every (heads, latent), keeping what was done in `part`."""
    done = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
    source = find_source(TRAINED)
    heads_dial, latent_dial = source.dials["heads"], source.dials["latent"]
    for heads in range(heads_dial.low, heads_dial.high + 1):
        for latent in range(latent_dial.low, latent_dial.high + 1):
            if f"{heads} {latent}" not in done:
                weights = source.load(source.geometry(Shape(heads, latent), "mla_expanded"), 0)
                score = score_stories(weights, "mla_expanded", stories, source.tokenizer())
                done[f"{heads} {latent}"] = asdict(score)
        part.write_text(json.dumps(done), encoding="utf-8")
        print(f"{heads} heads done", flush=True)
    return done


def main() -> None:
    """Read the command line, score, write the grid."""
    parser = argparse.ArgumentParser(description="Score every setting of the sliders.")
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--stories", type=int, default=60, help="score the first N stories")
    parser.add_argument("--part", type=Path, default=Path("train/checkpoints/grid.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = score_grid(read_stories(args.val)[: args.stories], args.part)
    log = json.loads((LOGS / "stories.json").read_text(encoding="utf-8"))
    heads = sorted({int(key.split()[0]) for key in done})
    latents = sorted({int(key.split()[1]) for key in done})
    grid = {
        "model": find_source(TRAINED).geometry(Shape(), "mla_expanded").name,
        "stories": args.stories,
        "tokens": done[f"{heads[0]} {latents[0]}"]["tokens"],
        "read_tokens": log["recipe"]["tokens"],
        "text_tokens": log["text_tokens"],
        "heads": heads,
        "latents": latents,
        "nats_per_token": [
            [round(done[f"{n} {r}"]["nats_per_token"], 4) for r in latents] for n in heads
        ],
    }
    shipped(GRID_FILE).write_text(json.dumps(grid) + "\n", encoding="utf-8")
    write_checksums()


if __name__ == "__main__":
    main()
