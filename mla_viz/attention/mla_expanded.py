"""MLA run as multi-head attention: every head's key and value is expanded once and cached.

The naive side. Caches n_heads * (qk_nope + qk_rope + v) elements a token.
"""

from collections.abc import Sequence

from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import HeadCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.mla import expand, head_queries, latent
from mla_viz.attention.ops import Attended, Watch, attend_grouped, merge_heads
from mla_viz.attention.weights import MLAWeights


def new_cache(w: MLAWeights, batch: Sequence[int]) -> HeadCache:
    """An empty cache for weights of this geometry, dtype and device."""
    g = w.geometry
    widths = (g.qk_head_dim, g.v_head_dim)
    return HeadCache((*batch, g.n_heads), widths, w.W_O.dtype, w.W_O.device, one_query=True)


def attend(
    w: MLAWeights,
    cache: HeadCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """Append the new tokens' keys and values, then attend over all that are cached."""
    c_kv, k_rope = latent(w, x, rope)
    cache.append(*expand(w, c_kv, k_rope))
    q = head_queries(w, x, rope)
    o_head = attend_grouped(q, cache.keys, cache.v, w.geometry.softmax_scale, watch)
    watch(q=q, c_kv=c_kv, k_rope=k_rope, o_head=o_head)
    return Attended(merge_heads(o_head, w.W_O), watch.seen)


IMPLEMENTATION = Implementation(attend, new_cache)
