"""A model of others from its files, whichever of the known formats they have."""

from collections.abc import Sequence
from pathlib import Path

from mla_viz.pretrained.checkpoint import Checkpoint
from mla_viz.pretrained.gguf import open_gguf
from mla_viz.pretrained.hf import open_folder


def open_checkpoint(folder: Path, files: Sequence[str]) -> Checkpoint:
    """The model of these files: one GGUF, or else what the hub has of it.

    Raises:
        ValueError: it is another architecture, damaged, or does not fit itself.
    """
    gguf = [file for file in files if file.endswith(".gguf")]
    return open_gguf(folder / gguf[0]) if gguf else open_folder(folder)
