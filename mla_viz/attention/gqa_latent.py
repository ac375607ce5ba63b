"""Grouped-query attention from one latent: cached before RoPE, expanded and turned at every step.

score = (R_i q)^T R_j W_UK c_j: with R_j between them, W_UK cannot move to the query as in MLA,
whose rotated key is apart.
"""

from collections.abc import Sequence

from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.ops import Attended, Watch, attend_grouped, merge_heads, per_head, rotate
from mla_viz.attention.weights import LatentGQAWeights


def new_cache(w: LatentGQAWeights, batch: Sequence[int]) -> LatentCache:
    """An empty cache for weights of this geometry, dtype and device."""
    g = w.geometry
    return LatentCache(batch, g.kv_lora_rank, 0, w.W_O.dtype, w.W_O.device, mixed=False)


def attend(
    w: LatentGQAWeights,
    cache: LatentCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "total half"],
    watch: Watch,
) -> Attended:
    """Append the new tokens' latents, rebuild all keys and values, attend, throw them away."""
    c_kv = x @ w.W_DKV
    cache.append(c_kv, c_kv[..., :0])
    every = cache.c_kv.unsqueeze(-3)
    k = rotate(every @ w.W_UK + w.b_K.unsqueeze(-2), rope)
    v = every @ w.W_UV + w.b_V.unsqueeze(-2)
    q = rotate(per_head(x.unsqueeze(-3), w.W_Q), rope[-x.shape[-2] :])
    o_head = attend_grouped(q, k, v, w.geometry.softmax_scale, watch)
    watch(q=q, c_kv=c_kv, o_head=o_head)
    return Attended(merge_heads(o_head, w.W_O), watch.seen, k.nbytes + v.nbytes)


IMPLEMENTATION = Implementation(attend, new_cache, every_position=True)
