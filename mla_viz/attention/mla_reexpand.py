"""MLA that caches the latent and rebuilds every head's key and value of all tokens at each step.

The memory of the absorbed form without its arithmetic: what a library does that stores the latent
and runs ordinary multi-head attention.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.mla import EVERY, expand, head_queries, latent, new_latent_cache
from mla_viz.attention.ops import Attended, Watch, attend_grouped, merge_heads
from mla_viz.attention.weights import MLAWeights


def new_cache(w: MLAWeights, batch: Sequence[int]) -> LatentCache:
    """An empty cache for weights of this geometry, dtype and device."""
    return new_latent_cache(w, batch, mixed=False)


def attend(
    w: MLAWeights,
    cache: LatentCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """Append the new tokens' latents, rebuild all keys and values, attend, throw them away.

    Where nobody watches, head by head: what one head needs stays in a processor's caches.
    """
    c_kv, k_rope = latent(w, x, rope)
    cache.append(c_kv, k_rope)
    q, scale, working, mixed = head_queries(w, x, rope), w.geometry.softmax_scale, 0, []
    by_head = watch.idle and x.is_cpu
    for heads in [slice(i, i + 1) for i in range(len(w.W_UK))] if by_head else [EVERY]:
        k, v = expand(w, cache.c_kv, cache.k_rope, heads)
        mixed.append(attend_grouped(q[..., heads, :, :], k, v, scale, watch))
        working = max(working, k.nbytes + v.nbytes)
    o_head = torch.cat(mixed, -3)
    watch(q=q, c_kv=c_kv, k_rope=k_rope, o_head=o_head)
    return Attended(merge_heads(o_head, w.W_O), watch.seen, working)


IMPLEMENTATION = Implementation(attend, new_cache)
