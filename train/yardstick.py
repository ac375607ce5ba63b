"""Scores the slider-following model and the dedicated one on all validation stories.

    python -m train.yardstick --val stories_val.txt.gz

Takes both checkpoints in their shipped form (float16) and writes train/logs/yardstick.json.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from mla_viz.findings.evaluate import score_stories
from mla_viz.findings.stories import read_stories
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.model.weights import load_cut
from train.export import export
from train.run import CHECKPOINTS, GEOMETRY, LOGS, write_json

SETTINGS = {
    "dedicated": [(8, 64)],
    "stories": [(8, 64), (8, 32), (8, 16), (8, 8), (8, 4), (4, 64), (2, 64), (1, 64), (1, 4)],
}


def main() -> None:
    """Read the command line, score, write the log."""
    parser = argparse.ArgumentParser(description="Compare with the dedicated model.")
    parser.add_argument("--val", type=Path, required=True)
    stories = read_stories(parser.parse_args().val)
    torch.set_num_threads(1)
    records = []
    for name, sizes in SETTINGS.items():
        file = export(name, GEOMETRY, CHECKPOINTS / f"{name}.safetensors")
        for heads, latent in sizes:
            weights = load_cut(file, heads, latent)
            score = score_stories(weights, "mla_expanded", stories, stories_tokenizer())
            records.append({"model": name, "heads": heads, "latent": latent, **asdict(score)})
            print(json.dumps(records[-1]), flush=True)
    write_json(LOGS / "yardstick.json", {"stories": len(stories), "scores": records})


if __name__ == "__main__":
    main()
