"""Multi-head, grouped-query and multi-query attention: one function, told apart by n_kv_heads.

Weights of its own: beside MLA it is another model.
"""

from collections.abc import Sequence

from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import HeadCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.ops import Attended, Watch, attend_grouped, merge_heads, per_head, rotate
from mla_viz.attention.weights import GQAWeights


def new_cache(w: GQAWeights, batch: Sequence[int]) -> HeadCache:
    """An empty cache for weights of this geometry, dtype and device."""
    g = w.geometry
    lead, one_query = (*batch, g.n_kv_heads), g.n_heads == g.n_kv_heads
    return HeadCache(lead, (g.head_dim, g.head_dim), w.W_O.dtype, w.W_O.device, one_query)


def attend(
    w: GQAWeights,
    cache: HeadCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """Append the new tokens' keys and values, then attend over all that are cached."""
    x = x.unsqueeze(-3)
    cache.append(rotate(per_head(x, w.W_K), rope), per_head(x, w.W_V))
    q = rotate(per_head(x, w.W_Q), rope)
    o_head = attend_grouped(q, cache.keys, cache.v, w.geometry.softmax_scale, watch)
    watch(q=q, o_head=o_head)
    return Attended(merge_heads(o_head, w.W_O), watch.seen)


IMPLEMENTATION = Implementation(attend, new_cache)
