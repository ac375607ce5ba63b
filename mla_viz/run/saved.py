"""A run as one safetensors file, and back: docs/trace.md says what stands in it.

The record is walked field by field as its types say: a new field needs nothing here but another
VERSION, and a default for the files that lack it. Knows no torch.
"""

import json
from dataclasses import MISSING, fields, is_dataclass
from hashlib import blake2b
from io import BufferedIOBase, BytesIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mla_viz.config import check_ranks, told
from mla_viz.mechanisms.formats import find_format
from mla_viz.mechanisms.table import runs_weights_of
from mla_viz.run.files import write_whole
from mla_viz.run.record import sealed
from mla_viz.run.trace import Run, Side

VERSION = 4
ENTRY = "mla_viz_run"
DTYPES = {"F64": "float64", "F32": "float32", "I64": "int64", "I32": "int32", "U8": "uint8"}
CHUNK_BYTES = 1 << 20
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Sizes = dict[str, int]  # of axes, and whole numbers of the same name


def save_run(run: Run, path: str | Path) -> None:
    """Write a run as one safetensors file.

    Raises:
        ValueError: nothing can be written there.
    """
    arrays: dict[str, np.ndarray] = {}
    record = _taken_apart(run, "", arrays)
    entry = {"version": VERSION, "blake2b": _digest(record, BytesIO(save(arrays))), "run": record}
    write_whole(path, save(arrays, {ENTRY: json.dumps(entry, allow_nan=False)}))


def load_run(path: str | Path) -> Run:
    """The run that `Run.save` wrote: equal to it, and as read-only.

    Raises:
        ValueError: there is no such file, or a damaged one, or one of a newer mla-viz.

    Example:
        >>> run.save("run.safetensors")
        >>> mla_viz.load_run("run.safetensors") == run
        True
    """
    advice = "save the run again"
    try:
        with safe_open(path, framework="numpy") as file:
            entry = _entry(file)
            if entry["version"] > VERSION:
                advice = "install a newer mla-viz"
                raise ValueError(f"expected version {VERSION}, got {told(entry['version'])}")
            _check_digest(entry, Path(path))
            return _Reader(file).run(entry["run"])
    except (OSError, SafetensorError) as error:
        fault = f"expected a file that Run.save wrote, got one that cannot be read: {error}"
    except RecursionError:
        fault = "expected a file that Run.save wrote, got one that is nested too deep"
    except ValueError as error:
        fault = error
    raise ValueError(f"{path}: {fault} ({advice})")


def _taken_apart(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON has it; arrays go to `arrays`, named by their place."""
    if isinstance(value, np.ndarray):
        arrays[where] = np.ascontiguousarray(value)
        return {"dtype": NAMES[value.dtype.name], "shape": list(value.shape)}
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        return {x: _taken_apart(getattr(value, x), _place(where, x), arrays) for x in names}
    if isinstance(value, tuple):
        return [_taken_apart(child, _place(where, i), arrays) for i, child in enumerate(value)]
    return value


def _place(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _digest(record: Any, file: BufferedIOBase) -> str:
    """Of a record's JSON and of all that lies behind a file's header."""
    digest = blake2b(json.dumps(record, allow_nan=False).encode(), digest_size=32)
    file.seek(8 + int.from_bytes(file.read(8), "little"))
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _entry(file: safe_open) -> dict[str, Any]:
    """What the file says of the run beside its arrays."""
    text = (file.metadata() or {}).get(ENTRY)
    if text is None:
        raise ValueError("expected a file that Run.save wrote, got one of other tensors")
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    kinds = {"version": int, "blake2b": str, "run": dict}
    has = {key: type(value) for key, value in entry.items()} if isinstance(entry, dict) else {}
    if not kinds.items() <= has.items():
        raise ValueError(f"{ENTRY}: expected JSON with {', '.join(kinds)}, got {told(entry)}")
    return entry


def _check_digest(entry: dict[str, Any], path: Path) -> None:
    with path.open("rb") as file:
        found = _digest(entry["run"], file)
    if found != entry["blake2b"]:
        raise ValueError(f"expected blake2b {told(entry['blake2b'])}, got {found}: it is damaged")


class _Reader:
    """Reads a run out of an open file: each claim is checked before its array takes memory."""

    def __init__(self, file: safe_open) -> None:
        self._file = file
        self._unread = set(file.keys())

    def run(self, record: dict[str, Any]) -> Run:
        """The run of this record, with all arrays of the file in it."""
        run = self._record(Run, record, "", {})
        if self._unread:
            raise ValueError(f"expected no other arrays, got {told(sorted(self._unread))}")
        for name, side in zip(("left", "right"), run.sides(), strict=True):
            _check_side(name, side, run.n_steps)
        return run

    def _shown(self, name: str) -> dict[str, Any]:
        """Dtype and shape of an array, as the record has them."""
        part = self._file.get_slice(name)
        return {"dtype": part.get_dtype(), "shape": part.get_shape()}

    def _value(self, kind: Any, node: Any, where: str, sizes: Sizes) -> Any:
        """What a field of this kind holds, made of its JSON."""
        if isinstance(kind, UnionType):
            kind = _chosen(kind, node)
        if is_dataclass(kind):
            return self._record(kind, node, where, sizes)
        if hasattr(kind, "dim_str"):
            return self._array(kind, node, where, sizes)
        plain = list if get_origin(kind) is tuple else get_origin(kind) or kind
        if type(node) is not plain:
            raise ValueError(f"{where}: expected {plain.__name__}, got {told(node)}")
        if plain is list:
            each = get_args(kind)[0]
            return tuple(
                self._value(each, child, _place(where, i), {}) for i, child in enumerate(node)
            )
        if plain is int:
            _hold(where, where.rpartition(".")[2], node, sizes)
        return node

    def _record(self, kind: type, node: Any, where: str, sizes: Sizes) -> Any:
        """A record that holds others has sizes of its own, and they come after its other fields."""
        if not _fits(kind, node):
            names = ", ".join(field.name for field in fields(kind))
            got = told(list(node) if isinstance(node, dict) else node)
            raise ValueError(f"{where or 'run'}: expected {names}, got {got}")
        kinds = {field.name: field.type for field in fields(kind) if field.name in node}
        if any(map(is_dataclass, kinds.values())):
            sizes = dict(sizes)
        return kind(
            **{
                name: self._value(kinds[name], node[name], _place(where, name), sizes)
                for name in sorted(kinds, key=lambda name: is_dataclass(kinds[name]))
            }
        )

    def _array(self, kind: Any, node: Any, where: str, sizes: Sizes) -> np.ndarray:
        if where not in self._unread:
            raise ValueError(f"{where}: expected an array, got none")
        shown, axes = self._shown(where), kind.dim_str.split()
        legal = DTYPES.get(shown["dtype"]) in kind.dtypes and len(axes) == len(shown["shape"])
        if shown != node or not legal:
            raise ValueError(f"{where}: expected {kind.__name__} as {told(node)}, got {shown}")
        for axis, size in zip(axes, shown["shape"], strict=True):
            _hold(where, axis, size, sizes)
        self._unread.remove(where)
        return sealed(self._file.get_tensor(where))


def _chosen(kind: Any, node: Any) -> Any:
    """The one of a union of kinds that a value is of."""
    if node is None and NoneType in get_args(kind):
        return NoneType
    others = [one for one in get_args(kind) if one is not NoneType]
    return next((one for one in others if is_dataclass(one) and _fits(one, node)), others[0])


def _fits(kind: type, node: Any) -> bool:
    """Whether a value has the fields of a record; one with a default may be missing."""
    parts = fields(kind)
    needed = {x.name for x in parts if x.default is MISSING and x.default_factory is MISSING}
    return isinstance(node, dict) and needed <= node.keys() <= {field.name for field in parts}


def _hold(where: str, name: str, size: int, sizes: Sizes) -> None:
    """Hold the size of an axis to others of the same name, or to the number that it is."""
    expected = int(name) if name.isdigit() else sizes.setdefault(name, size)
    if size != expected:
        raise ValueError(f"{where}: expected {expected} ({name}), got {told(size)}")


def _check_side(name: str, side: Side, n_steps: int) -> None:
    """What no type says.

    Raises:
        ValueError: the side's mechanism, steps or cells do not belong to its run.
    """
    legal, kept, every = runs_weights_of(side.geometry), side.probs.steps, side.cells.every
    if side.mechanism not in legal:
        raise ValueError(f"{name}: expected one of {', '.join(legal)}, got {told(side.mechanism)}")
    if side.cache_dtype is not None:
        find_format(side.cache_dtype)
    if side.ranks is not None:
        check_ranks(tuple(side.ranks.tolist()), side.geometry, side.n_layers)
    if len(side.cache_bytes) != n_steps:
        raise ValueError(f"{name}: expected {n_steps} steps, got {len(side.cache_bytes)}")
    others = side.scores.steps, side.vectors.steps
    ascending = np.array_equal(np.intersect1d(kept, np.arange(n_steps)), kept)
    if not ascending or not all(np.array_equal(kept, steps) for steps in others):
        raise ValueError(f"{name}: expected the same kept steps, ascending, got {told(kept)}")
    rows = side.n_layers, -(-n_steps // max(1, every)), side.widest
    if every < 1 or side.cells.data.shape != rows:
        got = f"{side.cells.data.shape} for every {every}"
        raise ValueError(f"{name}.cells: expected {rows} cells, got {got}")
