"""The layer of a run over several ranks, and its decode: by one process, or as one rank of many.

What goes between ranks goes through torch.distributed's collectives, and is counted there.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.cache import HeadCache, LatentCache
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Attended
from mla_viz.attention.weights import AttentionWeights, cast, random_gqa, random_mla
from mla_viz.config import GQAGeometry
from mla_viz.model.device import parse_dtype
from mla_viz.ranks.settings import ParallelSettings
from mla_viz.ranks.shards import (
    decode_steps,
    head_share,
    merge_by_lse,
    mixed_and_lse,
    project,
    token_share,
)


@dataclass(frozen=True)
class Decoded:
    """The output of every step, and the bytes of the cache that is left and of all that was sent.

    `comm_bytes` are those of the tensors handed to collectives.
    """

    out: Float[Tensor, "batch tokens d_model"]
    cache_bytes: int
    comm_bytes: int


class Wire:
    """Collectives among all ranks; counts the bytes of the tensors that are handed in."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self.bytes = 0

    def sum(self, part: Tensor) -> Tensor:
        """The sum of every rank's part: one all-reduce."""
        if self._ranks > 1:
            self.bytes += part.nbytes
            dist.all_reduce(part)
        return part

    def gather(self, part: Tensor) -> Tensor:
        """Every rank's part behind a new first axis: one all-gather."""
        if self._ranks == 1:
            return part.unsqueeze(0)
        self.bytes += part.nbytes
        parts = part.new_empty(self._ranks * part.shape[0], *part.shape[1:])
        dist.all_gather_into_tensor(parts, part.contiguous())
        return parts.unflatten(0, (self._ranks, -1))


def make_layer(s: ParallelSettings, device: str) -> tuple[AttentionWeights, Tensor]:
    """The weights, and an input of every token of every sequence: the same in every process."""
    generator = torch.Generator().manual_seed(s.seed)
    random = random_gqa if isinstance(s.geometry, GQAGeometry) else random_mla
    dtype = parse_dtype(s.dtype)
    weights = cast(random(s.geometry, generator), dtype, device)
    x = torch.randn(s.batch, s.tokens, s.d_model, generator=generator)
    return weights, x.to(device, dtype)


def _out(attended: Attended) -> Tensor:
    return attended.out


@torch.inference_mode()
def decode_alone(s: ParallelSettings, device: str) -> Decoded:
    """By one process, undivided."""
    w, x = make_layer(s, device)
    cache = _new_cache(s, w, x)
    return Decoded(decode_steps(s.mechanism, w, x, cache, _out), cache.filled_bytes, 0)


@torch.inference_mode()
def decode_rank(s: ParallelSettings, device: str, rank: int) -> Decoded:
    """As one rank; the process group has `s.ranks`.

    The output has the rank's own sequences under dp, and all of them otherwise.
    """
    w, x = make_layer(s, device)
    wire, join, watch = Wire(s.ranks), _out, ()
    if s.strategy == "dp":
        x = x.tensor_split(s.ranks)[rank]
    if s.strategy == "tp":
        w = head_share(w, rank, s.ranks)

        def join(attended: Attended) -> Tensor:
            return wire.sum(attended.out)

    cache = _new_cache(s, w, x)
    if s.strategy == "cp":
        latent = isinstance(cache, LatentCache)
        cache, watch = token_share(cache, rank, s.ranks), ("scores", "o_latent", "o_head")

        def join(attended: Attended) -> Tensor:
            return project(w, merge_by_lse(wire.gather(mixed_and_lse(attended))), latent)

    out = decode_steps(s.mechanism, w, x, cache, join, watch)
    return Decoded(out, cache.filled_bytes, wire.bytes)


def _new_cache(s: ParallelSettings, w: AttentionWeights, x: Tensor) -> HeadCache | LatentCache:
    return implementation(s.mechanism).new_cache(w, x.shape[:1])
