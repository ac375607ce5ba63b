"""Absorbed MLA with its products made ahead of time: W_UK into W_UQ, and W_UV into W_O.

One product less at each end, for larger matrices: kv_lora_rank wide instead of a head's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.implementation import Implementation
from mla_viz.attention.mla import attend_latents, latent, new_latent_cache, query_input
from mla_viz.attention.ops import Attended, Watch, merge_heads, per_head, rotate
from mla_viz.attention.weights import MLAWeights


@dataclass(frozen=True)
class MergedWeights:
    """The two merged matrices beside the weights that stay as they are."""

    base: MLAWeights
    W_UQ_UK: Float[Tensor, "n_heads q_in kv_lora_rank"]
    W_UV_O: Float[Tensor, "n_heads kv_lora_rank d_model"]


def prepare(w: MLAWeights) -> MergedWeights:
    """Multiply once, in the dtype of the weights."""
    return MergedWeights(w, w.W_UQ @ w.W_UK.mT, w.W_UV @ w.W_O)


def new_cache(w: MergedWeights, batch: Sequence[int]) -> LatentCache:
    """An empty cache for weights of this geometry, dtype and device."""
    return new_latent_cache(w.base, batch)


def attend(
    w: MergedWeights,
    cache: LatentCache,
    x: Float[Tensor, "*batch seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """score = (c_Q W_UQ_UK) . c + q_rope . k_rope; out = (sum p c) W_UV_O."""
    c_kv, k_rope = latent(w.base, x, rope)
    cache.append(c_kv, k_rope)
    c_q = query_input(w.base, x)
    q_latent, q_rope = per_head(c_q, w.W_UQ_UK), rotate(per_head(c_q, w.base.W_QR), rope)
    q = torch.cat([q_latent, q_rope], -1)
    rows, g = cache.latent_and_rope, w.base.geometry
    o_latent = attend_latents(q, rows, g.kv_lora_rank, g.softmax_scale, watch)
    watch(q_rope=q_rope, q_latent=q_latent, o_latent=o_latent)
    watch(c_kv=c_kv, k_rope=k_rope)
    return Attended(merge_heads(o_latent, w.W_UV_O), watch.seen)


IMPLEMENTATION = Implementation(attend, new_cache, prepare)
