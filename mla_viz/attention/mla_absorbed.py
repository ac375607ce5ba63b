"""MLA with W_UK moved to the query and W_UV to the output, in activation space.

Every head attends to the one cached latent: multi-query attention whose keys are
[c_kv | k_rope] and whose values are their first kv_lora_rank columns, the same memory.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.mla import latent, query_input
from mla_viz.attention.ops import Attended, attend_grouped, merge_heads, rotate
from mla_viz.attention.weights import MLAWeights


def new_cache(w: MLAWeights, batch: Sequence[int]) -> LatentCache:
    """An empty cache for weights of this geometry, dtype and device."""
    g = w.geometry
    return LatentCache(batch, g.kv_lora_rank, g.qk_rope_head_dim, w.W_O.dtype, w.W_O.device)


def attend(
    w: MLAWeights,
    cache: LatentCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
) -> Attended:
    """score = (q_nope W_UK^T) . c + q_rope . k_rope; out = ((sum p c) W_UV) W_O."""
    cache.append(*latent(w, x, rope))
    c_q = query_input(w, x)
    q_latent = (c_q @ w.W_UQ) @ w.W_UK.mT
    q = torch.cat([q_latent, rotate(c_q @ w.W_QR, rope)], -1)
    k, v = cache.latent_and_rope.unsqueeze(-3), cache.c_kv.unsqueeze(-3)
    scores, probs, o_latent = attend_grouped(q, k, v, w.geometry.softmax_scale)
    return Attended(merge_heads(o_latent @ w.W_UV, w.W_O), scores, probs)
