"""MLA that caches the latent and rebuilds every head's key and value of all tokens at each step.

The memory of the absorbed form without its arithmetic: what a library does that stores the latent
and runs ordinary multi-head attention.
"""

from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.mla import expand, head_queries, latent, new_latent_cache
from mla_viz.attention.ops import Attended, Watch, attend_grouped, merge_heads
from mla_viz.attention.weights import MLAWeights


def attend(
    w: MLAWeights,
    cache: LatentCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """Append the new tokens' latents, rebuild all keys and values, attend, throw them away."""
    c_kv, k_rope = latent(w, x, rope)
    cache.append(c_kv, k_rope)
    k, v = expand(w, cache.c_kv, cache.k_rope)
    q = head_queries(w, x, rope)
    o_head = attend_grouped(q, k, v, w.geometry.softmax_scale, watch)
    watch(q=q, c_kv=c_kv, k_rope=k_rope, o_head=o_head)
    return Attended(merge_heads(o_head, w.W_O), watch.seen, k.nbytes + v.nbytes)


IMPLEMENTATION = Implementation(attend, new_latent_cache)
