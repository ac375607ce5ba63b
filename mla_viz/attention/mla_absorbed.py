"""MLA with W_UK moved to the query and W_UV to the output, in activation space.

Every head attends to the one cached latent: multi-query attention whose keys are
[c_kv | k_rope] and whose values are their first kv_lora_rank columns, the same memory.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.mla import attend_latents, latent, new_latent_cache, query_input
from mla_viz.attention.ops import Attended, Watch, merge_heads, per_head, rotate
from mla_viz.attention.weights import MLAWeights


def attend(
    w: MLAWeights,
    cache: LatentCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """score = (q_nope W_UK^T) . c + q_rope . k_rope; out = ((sum p c) W_UV) W_O."""
    c_kv, k_rope = latent(w, x, rope)
    cache.append(c_kv, k_rope)
    c_q = query_input(w, x)
    q_nope, q_rope = per_head(c_q, w.W_UQ), rotate(per_head(c_q, w.W_QR), rope)
    q_latent = per_head(q_nope, w.W_UK.mT)
    q = torch.cat([q_latent, q_rope], -1)
    rows, g = cache.latent_and_rope, w.geometry
    o_latent = attend_latents(q, rows, g.kv_lora_rank, g.softmax_scale, watch)
    o_head = per_head(o_latent, w.W_UV)
    watch(q_nope=q_nope, q_rope=q_rope, q_latent=q_latent, o_latent=o_latent, o_head=o_head)
    watch(c_kv=c_kv, k_rope=k_rope)
    return Attended(merge_heads(o_head, w.W_O), watch.seen)


IMPLEMENTATION = Implementation(attend, new_latent_cache)
