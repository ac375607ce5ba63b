"""A config.json in the address: the fields that decide what is read, packed."""

import base64
import binascii
import json
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from mla_viz.published.config_json import parse_config, read_config

Whole = Callable[[dict[str, Any]], dict[str, Any]]
LONGEST = 100_000  # characters of what a link may hold, unpacked


def essence(record: dict[str, Any]) -> dict[str, Any]:
    """The fewest fields from which the same model is read, those of nested objects too.

    Raises:
        ValueError: no model can be read from it.
    """
    return _essence(record, lambda x: x, read_config(record))


def _essence(record: dict[str, Any], whole: Whole, model: object) -> dict[str, Any]:
    """`whole` puts a candidate for this object back in its place in the file."""

    def same(candidate: dict[str, Any]) -> bool:
        try:
            return read_config(whole(candidate)) == model
        except ValueError:
            return False

    def without(kept: dict[str, Any], fields: list[str]) -> dict[str, Any]:
        rest = {name: value for name, value in kept.items() if name not in fields}
        if not fields or same(rest):
            return rest
        if len(fields) == 1:
            return kept
        half = len(fields) // 2
        return without(without(kept, fields[:half]), fields[half:])

    kept = without(record, list(record))
    for name in [name for name, value in kept.items() if isinstance(value, dict)]:
        put = partial(_put, whole, kept, name)
        kept = {**kept, name: _essence(kept[name], put, model)}
    return kept


def _put(whole: Whole, outer: dict[str, Any], name: str, inner: dict[str, Any]) -> dict[str, Any]:
    return whole({**outer, name: inner})


def pack_config(record: dict[str, Any]) -> str:
    """An object as a link spells it."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(zlib.compress(text, 9)).decode().rstrip("=")


def unpack_config(packed: str) -> dict[str, Any]:
    """What `pack_config` packed.

    Raises:
        ValueError: it is no such text.
    """
    try:
        raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        text = zlib.decompressobj().decompress(raw, LONGEST).decode()
    except (binascii.Error, zlib.error, ValueError):
        raise ValueError(
            f"config: expected a config.json as this page packs it, got {packed[:40]!r}"
        ) from None
    return parse_config(text)
