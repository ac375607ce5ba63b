"""How many sequences fit beside the weights, on how many accelerators.

Counted: no allocator, activation or graph is measured; `SHARE` of the memory is what engines leave
for weights and cache by default.
"""

from dataclasses import dataclass
from typing import Any

from mla_viz.config import check_choice, check_float, check_int
from mla_viz.findings.memory import (
    DIVIDED,
    LONGEST_CONTEXT,
    MOST_RANKS,
    find_model,
    rank_bytes,
)
from mla_viz.published.accelerators import accelerators
from mla_viz.published.layers import CachedModel, check_dtype

SHARE = 0.9
WEIGHT_BITS = {  # a parameter's, scales included
    "bfloat16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "mxfp4": 4.25,  # 32 values of 4 bits share a scale of 8
    "q4_0": 4.5,  # 32 values of 4 bits share a scale of 16
}


def weight_bytes(params: int, weight_dtype: str) -> int:
    """Bytes of all weights. DeepSeek-V3's 671 billion in fp8: 671 GB.

    Raises:
        ValueError: an unknown dtype.
    """
    bits = WEIGHT_BITS[check_choice("weight_dtype", weight_dtype, tuple(WEIGHT_BITS))]
    return round(params * bits / 8)


@dataclass(frozen=True)
class Fit:
    """What `ranks` accelerators of `memory_bytes` each hold.

    `weight_bytes` are a rank's share of the weights, `room_bytes` what is left there for caches,
    `sequence_bytes` what one sequence takes of it (under dp on its own rank), `sequences` how many
    fit in all; 0 where not even the weights do.
    """

    ranks: int
    strategy: str
    memory_bytes: int
    weight_bytes: int
    room_bytes: int
    sequence_bytes: int
    sequences: int


def fits(
    model: str | dict[str, Any] | CachedModel,
    accelerator: str = "H200 SXM",
    ranks: int = 8,
    weights: str = "fp8",
    params: float | int | None = None,
    context: int = 4096,
    cache_dtype: str = "bfloat16",
    page: int = 1,
    strategy: str = "tp",
) -> Fit:
    """How many sequences of `context` tokens fit beside the weights, which are divided evenly.

    Under dp a rank keeps whole sequences, under any other strategy its share of each.

    Args:
        model: a name of the catalog, a config.json as a dict or as text, or a CachedModel.
        accelerator: one of `published.accelerators.accelerators()`.
        ranks: how many of them.
        weights: one of `WEIGHT_BITS`.
        params: parameters of the model, where they cannot be counted from its fields.
        context: tokens of each sequence.
        cache_dtype: one of `published.layers.CACHE_DTYPES`.
        page: tokens of a page.
        strategy: how the ranks share the cache, one of `findings.memory.DIVIDED`.

    Raises:
        ValueError: an unknown name, a number out of bounds, or parameters that nobody knows.
    """
    ranks = check_int("ranks", ranks, 1, MOST_RANKS)
    context = check_int("context", context, 1, LONGEST_CONTEXT)
    strategy = check_choice("strategy", strategy, DIVIDED)
    machine = accelerators()[check_choice("accelerator", accelerator, [*accelerators()])]
    found = find_model(model)
    count = found.params if params is None else round(check_float("params", params, 1, 1e15))
    if count is None:
        raise ValueError(
            f"params: expected a number, since those of {found.label} cannot be counted from its"
            " fields; got none"
        )
    share = -(-weight_bytes(count, weights) // ranks)
    room = int(SHARE * machine.memory_bytes) - share
    alone = 1 if strategy == "dp" else ranks
    taken = rank_bytes(found.layers, context, 1, check_dtype(cache_dtype), page, alone, strategy)
    held = max(0, room) // taken * (ranks if strategy == "dp" else 1) if taken else 0
    return Fit(ranks, strategy, machine.memory_bytes, share, room, taken, held)
