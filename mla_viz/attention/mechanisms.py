"""The table of mechanisms: one row a name, one interface for all.

A row's `prepare` turns layer weights into what its `attend` takes; `new_cache` makes an empty
cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mla_viz.attention import (
    gqa,
    mla_absorbed,
    mla_expanded,
    mla_merged,
    mla_reexpand,
    recompute,
)
from mla_viz.attention.cache import Cache
from mla_viz.attention.ops import Attended


def _as_they_are(weights: Any) -> Any:
    return weights


@dataclass(frozen=True)
class Mechanism:
    """Three functions; `whole_prefix` where each step needs all tokens again."""

    attend: Callable[..., Attended]
    new_cache: Callable[..., Cache]
    prepare: Callable[[Any], Any] = _as_they_are
    whole_prefix: bool = False


MECHANISMS = {
    "mla_expanded": Mechanism(mla_expanded.attend, mla_expanded.new_cache),
    "mla_reexpand": Mechanism(mla_reexpand.attend, mla_reexpand.new_cache),
    "mla_absorbed": Mechanism(mla_absorbed.attend, mla_absorbed.new_cache),
    "mla_merged": Mechanism(mla_merged.attend, mla_merged.new_cache, mla_merged.prepare),
    "recompute": Mechanism(recompute.attend, recompute.new_cache, whole_prefix=True),
    "mha": Mechanism(gqa.attend, gqa.new_cache),
    "gqa": Mechanism(gqa.attend, gqa.new_cache),
    "mqa": Mechanism(gqa.attend, gqa.new_cache),
}
