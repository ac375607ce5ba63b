"""The tensor operations that mechanisms share: RMSNorm, RoPE, causal softmax attention.

Half-precision inputs are normalised and soft-maxed in float32, as DeepSeek's code does.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Attended:
    """What one attention layer computed for the queries it was given.

    `working_bytes` counts keys and values that were rebuilt for this call and thrown away.
    """

    out: Float[Tensor, "*batch seq d_model"]
    scores: Float[Tensor, "*batch n_heads seq total"]
    probs: Float[Tensor, "*batch n_heads seq total"]
    working_bytes: int = 0


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The tensor in at least float32."""
    return x.float() if x.element_size() < 4 else x


def rms_norm(
    x: Float[Tensor, "*lead width"], gain: Float[Tensor, " width"], eps: float
) -> Float[Tensor, "*lead width"]:
    """x / sqrt(mean(x^2) + eps) * gain."""
    full = wide(x)
    return (full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * gain


def rope_angles(
    pos: Int[Tensor, " seq"], width: int, theta: float, dtype: torch.dtype
) -> Complex[Tensor, "seq half"]:
    """e^(j * pos * theta^(-2i/width)) for pair i, its parts in at least float32.

    Worked: width 4, theta 10000, pos 2 turns the first pair by 2 and the second by 0.02 radians.
    """
    pairs = torch.arange(0, width, 2, dtype=torch.float64, device=pos.device)
    angles = pos.double()[:, None] * theta ** (-pairs / max(width, 1))
    parts = torch.float32 if dtype.itemsize < 4 else dtype
    return torch.polar(torch.ones_like(angles), angles).to(parts.to_complex())


def rotate(
    x: Float[Tensor, "*lead seq width"], rope: Complex[Tensor, "seq half"]
) -> Float[Tensor, "*lead seq width"]:
    """Apply RoPE to interleaved pairs (x0, x1), (x2, x3), ...; the output stays interleaved.

    Source: deepseek-ai/DeepSeek-V3 inference/model.py, apply_rotary_emb.
    """
    if x.shape[-1] == 0:
        return x
    pairs = torch.view_as_complex(wide(x).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rope).flatten(-2).to(x.dtype)


def causal_softmax(scores: Float[Tensor, "*lead seq total"]) -> Float[Tensor, "*lead seq total"]:
    """Softmax over the keys that a query may see; the last query sees all of them."""
    seq, total = scores.shape[-2:]
    full = wide(scores)
    if seq > 1:
        future = torch.ones(seq, total, dtype=torch.bool, device=scores.device)
        full = full.masked_fill(future.triu(total - seq + 1), -torch.inf)
    return full.softmax(-1).to(scores.dtype)


def attend_grouped(
    q: Float[Tensor, "*batch n_heads seq qk"],
    k: Float[Tensor, "*batch n_kv_heads total qk"],
    v: Float[Tensor, "*batch n_kv_heads total v"],
    scale: float,
) -> tuple[
    Float[Tensor, "*batch n_heads seq total"],
    Float[Tensor, "*batch n_heads seq total"],
    Float[Tensor, "*batch n_heads seq v"],
]:
    """Scores, probabilities and per-head outputs; each key/value head serves n_heads / n_kv_heads.

    The queries of a group are one matrix, so that a shared key is read once for all of them.
    """
    n_heads, seq = q.shape[-3:-1]
    n_kv_heads = k.shape[-3]
    grouped = q.unflatten(-3, (n_kv_heads, -1)).flatten(-3, -2)
    scores = (grouped @ k.mT).unflatten(-2, (-1, seq)).flatten(-4, -3) * scale
    probs = causal_softmax(scores)
    out = probs.unflatten(-3, (n_kv_heads, -1)).flatten(-3, -2) @ v
    return scores, probs, out.unflatten(-2, (n_heads // n_kv_heads, seq)).flatten(-4, -3)


def merge_heads(
    o_head: Float[Tensor, "*batch n_heads seq v"], W_O: Float[Tensor, "n_heads v d_model"]
) -> Float[Tensor, "*batch seq d_model"]:
    """Sum over heads of o_head @ W_O, as one matrix product."""
    return o_head.transpose(-3, -2).flatten(-2) @ W_O.flatten(0, 1)
