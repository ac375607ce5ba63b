"""What a mechanism's file offers: three functions, the same for all.

`prepare` turns layer weights into what `attend` takes, `new_cache` makes an empty cache for them,
and `attend(weights, cache, x, rope, watch)` appends new tokens and attends over all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mla_viz.attention.cache import Cache
from mla_viz.attention.ops import Attended
from mla_viz.mechanisms.table import MECHANISMS


def as_they_are(weights: Any) -> Any:
    """Layer weights that need no preparation."""
    return weights


@dataclass(frozen=True)
class Implementation:
    """A mechanism's functions.

    `whole_prefix` where each step needs all tokens again, `every_position` where it turns what is
    cached, and needs the angles of all tokens.
    """

    attend: Callable[..., Attended]
    new_cache: Callable[..., Cache]
    prepare: Callable[[Any], Any] = as_they_are
    whole_prefix: bool = False
    every_position: bool = False


def implementation(mechanism: str) -> Implementation:
    """The functions of a mechanism, from the file that its row names."""
    return import_module(f"mla_viz.attention.{MECHANISMS[mechanism].file}").IMPLEMENTATION
