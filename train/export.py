"""Turns a checkpoint into the shipped file: float16 safetensors with the geometry as metadata.

python -m train.export stories
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from mla_viz.config import ModelGeometry
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.run import CHECKPOINTS, GEOMETRY


def export(name: str, geometry: ModelGeometry, file: Path) -> Path:
    """Write a file of weights from the checkpoint of that name.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    state = torch.load(CHECKPOINTS / f"{name}.pt", map_location="cpu", weights_only=True)
    tensors = {key: value.half().contiguous() for key, value in state["model"].items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata={"geometry": json.dumps(asdict(geometry))})
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Export a checkpoint for mla_viz/data.")
    parser.add_argument("name")
    name = parser.parse_args().name
    file = export(name, GEOMETRY, shipped(f"{name}.safetensors"))
    write_checksums()
    print(f"{file}: {file.stat().st_size:,} bytes")
