"""Hugging Face's config.json: found, parsed, and read as a list of what each layer keeps.

A layout that is not listed is refused by name, never taken for plain attention.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mla_viz.config import told
from mla_viz.published.fields import Fields, refuse
from mla_viz.published.layers import CachedModel
from mla_viz.published.layouts import read_blocks
from mla_viz.published.parameters import count
from mla_viz.published.readers import DEFAULTS, READERS

LONGEST = 2_000_000  # characters; published files have some 20,000
NESTS = ("text_config", "llm_config", "language_config")


def open_config(path: str | Path) -> dict[str, Any]:
    """The object in a config.json.

    Raises:
        ValueError: the file cannot be read, or is none.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"{path}: expected a config.json, cannot read it: {why}") from None
    return parse_config(text)


def parse_config(text: str) -> dict[str, Any]:
    """The object that a config.json spells.

    Raises:
        ValueError: too long, no JSON, nested too deeply, a field twice, or no object.
    """
    if len(text) > LONGEST:
        refuse("", f"at most {LONGEST:,} characters", f"{len(text):,} or more")
    try:
        record = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"config.json: expected JSON, got {error}") from None
    except RecursionError:
        refuse("", "a few levels of nesting", "thousands")
    except ValueError as error:
        if str(error).startswith("config.json"):
            raise
        refuse("", "numbers of fewer than 4,300 digits", "a longer one")
    if not isinstance(record, dict):
        refuse("", "an object of a model's fields", told(record))
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        refuse(f" {told(twice)}", "each field once", "it twice")
    return record


def decoder_fields(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of the language model in a config.json: its own, or those nested in it."""
    outer = record.get("model_type")
    for _ in range(3):  # nested at most so often
        nested = next((record[nest] for nest in NESTS if isinstance(record.get(nest), dict)), None)
        if nested is None:
            break
        tied = record.get("tie_word_embeddings", nested.get("tie_word_embeddings"))
        own_type = nested.get("model_type") or outer
        record = {**nested, "model_type": own_type, "tie_word_embeddings": tied}
    return record


def read_config(config: str | dict[str, Any]) -> CachedModel:
    """A config.json, as text or as the object in it, as a list of what its layers keep.

    Raises:
        ValueError: it is no such file, a number is missing or impossible, or the layout is unknown.
    """
    record = parse_config(config) if isinstance(config, str) else config
    outer = record.get("model_type")
    own = READERS.get(outer) if isinstance(outer, str) else None
    record = decoder_fields(record)
    kind = record.get("model_type")
    if not isinstance(kind, str):
        refuse(" model_type", "the name of a model type", "none" if kind is None else told(kind))
    if kind not in READERS:
        refuse(
            " model_type", "one whose layout is known", f"{told(kind)}, which this does not read"
        )
    named = {name: value for name, value in record.items() if value is not None}
    fields = Fields({**record, **DEFAULTS.get(kind, {}), **named})
    name = outer if own else kind
    if record.get("block_configs") is not None:
        own, name = read_blocks, "nemotron-nas"
    model = (own or READERS[kind])(fields)
    params, active = count(name, fields, model)
    label = outer if isinstance(outer, str) else model.label
    return replace(model, label=label, params=params, active_params=active)
