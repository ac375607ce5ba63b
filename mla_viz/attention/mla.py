"""What MLA mechanisms share: the projections, and attention over latents as they are cached.

Equations 37-47 of the DeepSeek-V2 paper; and the empty cache of the mechanisms that keep latents.
"""

from collections.abc import Sequence
from functools import cache as once
from importlib.util import find_spec

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import LatentCache
from mla_viz.attention.core import LARGE
from mla_viz.attention.ops import Watch, attend_grouped, per_head, rms_norm, rotate, times
from mla_viz.attention.weights import MLAWeights

EVERY = slice(None)
WIDEST = 512  # latent dim of which a device's registers hold the sums of 64 heads


def new_latent_cache(w: MLAWeights, batch: Sequence[int], *, mixed: bool = True) -> LatentCache:
    """An empty cache for weights of this geometry, dtype and device; `mixed` as they lie or not."""
    g = w.geometry
    widths = g.kv_lora_rank, g.qk_rope_head_dim
    return LatentCache(batch, *widths, w.W_O.dtype, w.W_O.device, mixed=mixed)


def query_input(
    w: MLAWeights, x: Float[Tensor, "*batch seq d_model"]
) -> Float[Tensor, "*batch 1 seq q_in"]:
    """c_Q = norm(x W_DQ), or x itself where queries are not compressed; with an axis for heads."""
    if w.W_DQ is not None:
        x = rms_norm(times(x, w.W_DQ), w.q_norm, w.geometry.norm_eps)
    return x.unsqueeze(-3)


def latent(
    w: MLAWeights, x: Float[Tensor, "*batch seq d_model"], rope: Complex[Tensor, "seq half"]
) -> tuple[Float[Tensor, "*batch seq kv_lora_rank"], Float[Tensor, "*batch seq qk_rope"]]:
    """c_KV = norm(x W_DKV) and k_R = RoPE(x W_KR): all that a latent cache keeps of a token."""
    k_rope = rotate(x @ w.W_KR, rope)
    if w.kv_norm is None:
        return times(x, w.W_DKV), k_rope
    c_kv = rms_norm(times(x, w.W_DKV), w.kv_norm, w.geometry.norm_eps)
    return c_kv, k_rope


def head_queries(
    w: MLAWeights, x: Float[Tensor, "*batch seq d_model"], rope: Complex[Tensor, "seq half"]
) -> Float[Tensor, "*batch n_heads seq qk"]:
    """q_i = [c_Q W_UQ,i | RoPE(c_Q W_QR,i)]."""
    c_q = query_input(w, x)
    return torch.cat([per_head(c_q, w.W_UQ), rotate(per_head(c_q, w.W_QR), rope)], -1)


def expand(
    w: MLAWeights,
    c_kv: Float[Tensor, "*batch seq kv_lora_rank"],
    k_rope: Float[Tensor, "*batch seq qk_rope"],
    heads: slice = EVERY,
) -> tuple[Float[Tensor, "*batch some_heads seq qk"], Float[Tensor, "*batch some_heads seq v"]]:
    """k_i = [c_KV W_UK,i | k_R] and v_i = c_KV W_UV,i, every head's own, of some heads."""
    c_kv = c_kv.unsqueeze(-3)
    k_nope = per_head(c_kv, w.W_UK[heads])
    k_rope = k_rope.unsqueeze(-3).expand(*k_nope.shape[:-1], -1)
    return torch.cat([k_nope, k_rope], -1), per_head(c_kv, w.W_UV[heads])


def attend_latents(
    q: Float[Tensor, "*batch n_heads seq both"],
    rows: Float[Tensor, "*batch total both"],
    kv_lora_rank: int,
    scale: float,
    watch: Watch,
) -> Float[Tensor, "*batch n_heads seq kv_lora_rank"]:
    """Every head's queries [q_latent | q_rope] over rows [c_kv | k_rope], whose c_kv they mix.

    The kernel takes one query over what it serves, unless scores or probs are watched: it has none.
    """
    k = rows.unsqueeze(-3)
    v = k[..., :kv_lora_rank]
    if q.shape[-2] > 1 or watch.wants("scores", "probs") or not served(rows, kv_lora_rank):
        return attend_grouped(q, k, v, scale, watch)
    from mla_viz.attention.absorbed_triton import decode

    watch(k=k, v=v)
    flat = (x.reshape(-1, *x.shape[-2:]) for x in (q.squeeze(-2), rows))
    return decode(*flat, kv_lora_rank, scale)[0].reshape(*q.shape[:-1], -1)


def served(rows: Float[Tensor, "*batch total both"], kv_lora_rank: int) -> bool:
    """Whether the kernel is to attend to these rows: long ones, in half precision, on CUDA."""
    if not rows.is_cuda or rows.element_size() != 2 or kv_lora_rank > WIDEST:
        return False
    return rows.numel() >= LARGE and _triton_runs()


@once
def _triton_runs() -> bool:
    """Whether Triton is installed and finds a driver; a machine without a C compiler has none."""
    if find_spec("triton") is None:
        return False
    from triton.runtime import driver

    try:
        return driver.active.get_current_target().arch >= 80
    except Exception:  # whatever it misses: torch does the same work
        return False
