"""Measures again how alike the heads are, of every finished run whose weights are there.

    python -m train.likeness --val stories_val.txt.gz

Weights lie where the training left them; those of the first seed came with the package too.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from mla_viz.findings.stories import read_stories
from mla_viz.model.weights import load_weights
from mla_viz.shipped import member_weights
from train.collect import SEEDS
from train.family import Run, likeness, stages
from train.run import write_json


def measurable() -> Iterator[tuple[Run, Path]]:
    """Finished runs with the file of their weights."""
    for run in (run for stage in stages(list(SEEDS)) for run in stage):
        files = [run.weights]
        if (run.purpose, run.seed) == ("member", SEEDS[0]):
            files.append(member_weights(run.geometry.name))
        file = next(filter(Path.exists, files), None)
        if run.score is not None and file:
            yield run, file


def main() -> None:
    """Put the new figures into the logs."""
    parser = argparse.ArgumentParser(description="Measure the likeness of heads again.")
    parser.add_argument("--val", type=Path, required=True)
    stories = read_stories(parser.parse_args().val)
    for run, file in measurable():
        found = likeness(load_weights(file), stories)
        write_json(run.log, json.loads(run.log.read_text(encoding="utf-8")) | {"likeness": found})
        print(run.name, found)


if __name__ == "__main__":
    main()
