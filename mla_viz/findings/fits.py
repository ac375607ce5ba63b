"""How many sequences fit beside the weights, on how many accelerators.

Counted: no allocator, activation or graph is measured; `SHARE` of the memory is what engines leave
for weights and cache by default.
"""

from dataclasses import dataclass

from mla_viz.config import check_choice, check_int
from mla_viz.findings.memory import DIVIDED, MOST_RANKS, rank_bytes
from mla_viz.published.layers import Layer

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


def fit(
    layers: tuple[Layer, ...],
    weights: int,
    memory_bytes: int,
    ranks: int,
    context: int,
    cache_dtype: str,
    page: int = 1,
    strategy: str = "tp",
) -> Fit:
    """How many sequences of `context` tokens fit beside `weights` bytes, divided evenly.

    Under dp a rank keeps whole sequences, under any other strategy its share of each.

    Raises:
        ValueError: a number out of bounds, or an unknown strategy or dtype.
    """
    ranks = check_int("ranks", ranks, 1, MOST_RANKS)
    strategy = check_choice("strategy", strategy, DIVIDED)
    share = -(-weights // ranks)
    room = int(SHARE * memory_bytes) - share
    alone = 1 if strategy == "dp" else ranks
    taken = rank_bytes(layers, context, 1, cache_dtype, page, alone, strategy)
    held = max(0, room) // taken * (ranks if strategy == "dp" else 1) if taken else 0
    return Fit(ranks, strategy, memory_bytes, share, room, taken, held)
