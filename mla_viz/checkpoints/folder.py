"""The safetensors of a Hugging Face folder: which tensor lies where, and one of them at a time.

A file's head tells dtype and shape of all that is in it, and is held against what is expected
before a tensor takes memory; what is not asked for is never read. Knows no family and no layer.
"""

import json
from collections.abc import Iterator, KeysView
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mla_viz.config import told

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
INDEX_BYTES = 64 << 20  # that of DeepSeek-V3 takes 9 MB
FLOATS = ("F32", "BF16", "F16")
EIGHT_BITS = "F8_E4M3"


class Folder:
    """The tensors of a folder, by name.

    Raises:
        ValueError: there are no safetensors, or the index of their shards is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._homes = self._listed()

    @property
    def names(self) -> KeysView[str]:
        """All tensors that the folder claims to hold."""
        return self._homes.keys()

    def _listed(self) -> dict[str, str]:
        """In which file each tensor lies."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: expected a folder with config.json and safetensors")
        if (self.path / INDEX).exists():
            return _read_index(self.path / INDEX)
        if not (self.path / WHOLE).exists():
            raise ValueError(f"{self.path}: expected {WHOLE} or {INDEX}, found neither")
        with self._opened(WHOLE) as file:
            return dict.fromkeys(file.keys(), WHOLE)

    @contextmanager
    def _opened(self, home: str) -> Iterator[safe_open]:
        try:
            with safe_open(self.path / home, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            why = " ".join(str(error).split())
            raise ValueError(
                f"{self.path / home}: expected a whole safetensors file, got one that cannot be"
                f" read: {why} (fetch it again)"
            ) from None

    def check(self, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...] = FLOATS) -> str:
        """The dtype of a tensor, as its file's head names it; nothing else is read.

        Raises:
            ValueError: there is no such tensor, or it has another shape or dtype.
        """
        if name not in self._homes:
            raise ValueError(f"{self.path}: expected a tensor {name}, found none")
        with self._opened(self._homes[name]) as file:
            part = file.get_slice(name)
            found, dtype = tuple(part.get_shape()), part.get_dtype()
        if found != shape:
            raise ValueError(f"{name}: expected shape {list(shape)}, got {list(found)}")
        if dtype not in dtypes:
            raise ValueError(f"{name}: expected {', '.join(dtypes)}, got {dtype}")
        return dtype

    def elements(self) -> int:
        """Elements of all tensors.

        Raises:
            ValueError: a file cannot be read.
        """
        count = 0
        for home in set(self._homes.values()):
            with self._opened(home) as file:
                count += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        return count

    def read(self, name: str) -> Float[Tensor, "*shape"]:
        """A tensor in float32 that stays as it is when the file changes.

        Raises:
            ValueError: its file cannot be read.
        """
        with self._opened(self._homes[name]) as file:
            return file.get_tensor(name).to(torch.float32, copy=True)


def _read_index(file: Path) -> dict[str, str]:
    """The shard of each tensor.

    Raises:
        ValueError: it is no such index, or names a file outside its folder.
    """
    try:
        if file.stat().st_size > INDEX_BYTES:
            raise ValueError("too long")
        homes = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        shards = {Path(home).name == home for home in set(homes.values())}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        homes, shards = None, {False}
    if shards != {True}:
        raise ValueError(
            f'{file}: expected an index {{"weight_map": {{tensor: file beside it}}}},'
            f" got {told(homes) if homes else 'another file'}"
        )
    return homes
