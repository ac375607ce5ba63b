"""Which checkpoints a server offers: those under the one folder that its operator names, if any.

A name is a path below that folder and stands for what was found there; nobody's text is ever made
a path. What a link leads to counts as lying where it is.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from mla_viz.checkpoints.folder import INDEX, WHOLE
from mla_viz.checkpoints.layer import described, read_shape

ROOT = "MLA_VIZ_CHECKPOINTS"  # in the server's environment
DEEPEST, MOST = 5, 2000  # levels, the root one of them (the Hub's cache has four); folders


def offered() -> dict[str, Path]:
    """Every checkpoint under the root that can be read, by `./` and its path; none without a root.

    Of a checkpoint's files the config alone is read.
    """
    named = os.environ.get(ROOT, "").strip()
    if not named:
        return {}
    root = Path(named).resolve()
    return {
        "./" + "/".join(folder.relative_to(root).parts): folder
        for folder in sorted(_folders(root))
        if _readable(folder, root)
    }


def _folders(root: Path) -> Iterator[Path]:
    """The root and what lies below it, links resolved, each once."""
    seen, level = set(), [root] if root.is_dir() else []
    for _ in range(DEEPEST):
        level = list(dict.fromkeys(x for x in level if x not in seen and x.is_relative_to(root)))
        level = level[: MOST - len(seen)]
        seen.update(level)
        yield from level
        level = [child.resolve() for folder in level for child in _children(folder)]


def _children(folder: Path) -> list[Path]:
    try:
        return [child for child in sorted(folder.iterdir()) if child.is_dir()]
    except OSError:
        return []


def _readable(folder: Path, root: Path) -> bool:
    """Whether it is a checkpoint of a family that is read, with all files under the root."""
    files = [folder / "config.json", folder / INDEX, *folder.glob("*.safetensors")]
    files = [file for file in files if file.exists()]
    if not all(file.resolve().is_relative_to(root) for file in files):
        return False
    if not any(file.name in (INDEX, WHOLE) for file in files):
        return False
    try:
        read_shape(*described(folder))
    except ValueError:
        return False
    return True
