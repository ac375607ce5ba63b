"""MLA without any cache: every step runs the whole prefix again."""

from collections.abc import Sequence

from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import NoCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.mla import expand, head_queries, latent
from mla_viz.attention.ops import Attended, Watch, attend_grouped, merge_heads
from mla_viz.attention.weights import MLAWeights


def new_cache(w: MLAWeights, batch: Sequence[int]) -> NoCache:  # noqa: ARG001
    """Nothing is kept."""
    return NoCache()


def attend(
    w: MLAWeights,
    cache: NoCache,  # noqa: ARG001
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """Causal attention of x over itself: x must be the whole prefix, from position 0."""
    c_kv, k_rope = latent(w, x, rope)
    k, v = expand(w, c_kv, k_rope)
    q = head_queries(w, x, rope)
    o_head = attend_grouped(q, k, v, w.geometry.softmax_scale, watch)
    watch(q=q, c_kv=c_kv, k_rope=k_rope, o_head=o_head)
    return Attended(merge_heads(o_head, w.W_O), watch.seen, k.nbytes + v.nbytes)


IMPLEMENTATION = Implementation(attend, new_cache, whole_prefix=True)
