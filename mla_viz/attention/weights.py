"""The weights of one attention layer, by the paper's symbols, right-multiplied, head axis first."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry


@dataclass(frozen=True)
class MLAWeights:
    """Multi-head latent attention; without q_lora_rank q_in is d_model, W_DQ and q_norm None.

    Without kv_norm the latent is not normalised. `frequencies` are RoPE's in radians a position,
    one a pair, where rope_theta does not say them.
    """

    geometry: MLAGeometry
    W_DQ: Float[Tensor, "d_model q_lora_rank"] | None
    q_norm: Float[Tensor, " q_lora_rank"] | None
    W_UQ: Float[Tensor, "n_heads q_in qk_nope"]
    W_QR: Float[Tensor, "n_heads q_in qk_rope"]
    W_DKV: Float[Tensor, "d_model kv_lora_rank"]
    kv_norm: Float[Tensor, " kv_lora_rank"] | None
    W_KR: Float[Tensor, "d_model qk_rope"]
    W_UK: Float[Tensor, "n_heads kv_lora_rank qk_nope"]
    W_UV: Float[Tensor, "n_heads kv_lora_rank v"]
    W_O: Float[Tensor, "n_heads v d_model"]
    frequencies: tuple[float, ...] | None = None


@dataclass(frozen=True)
class GQAWeights:
    """Attention whose key/value heads may be shared: MHA, GQA or MQA by n_kv_heads."""

    geometry: GQAGeometry
    W_Q: Float[Tensor, "n_heads d_model head_dim"]
    W_K: Float[Tensor, "n_kv_heads d_model head_dim"]
    W_V: Float[Tensor, "n_kv_heads d_model head_dim"]
    W_O: Float[Tensor, "n_heads head_dim d_model"]


@dataclass(frozen=True)
class LatentGQAWeights:
    """GQA whose keys, before RoPE, and values are W_UK and W_UV of one latent, plus biases."""

    geometry: LatentGQAGeometry
    W_Q: Float[Tensor, "n_heads d_model head_dim"]
    W_DKV: Float[Tensor, "d_model kv_lora_rank"]
    W_UK: Float[Tensor, "n_kv_heads kv_lora_rank head_dim"]
    W_UV: Float[Tensor, "n_kv_heads kv_lora_rank head_dim"]
    b_K: Float[Tensor, "n_kv_heads head_dim"]
    b_V: Float[Tensor, "n_kv_heads head_dim"]
    W_O: Float[Tensor, "n_heads head_dim d_model"]


AttentionWeights = MLAWeights | GQAWeights | LatentGQAWeights


def cast(record: AttentionWeights, dtype: torch.dtype, device: str) -> AttentionWeights:
    """The same weights in another dtype on another device."""
    tensors = {f.name: getattr(record, f.name) for f in fields(record)}
    moved = {k: v.to(device, dtype) for k, v in tensors.items() if isinstance(v, Tensor)}
    return replace(record, **moved)


def random_mla(geometry: MLAGeometry, generator: torch.Generator) -> MLAWeights:
    """Seeded random weights whose scores have a spread of about 1.

    Every matrix has standard deviation fan_in^-1/2, so that a normalised input stays normalised;
    W_O sums over heads and is scaled for all of them.
    """
    g = geometry

    def matrix(*shape: int, fan_in: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * fan_in**-0.5

    q_in = g.q_lora_rank or g.d_model
    compressed = g.q_lora_rank is not None
    return MLAWeights(
        geometry=g,
        W_DQ=matrix(g.d_model, q_in, fan_in=g.d_model) if compressed else None,
        q_norm=1 + 0.2 * torch.randn(q_in, generator=generator) if compressed else None,
        W_UQ=matrix(g.n_heads, q_in, g.qk_nope_head_dim, fan_in=q_in),
        W_QR=matrix(g.n_heads, q_in, g.qk_rope_head_dim, fan_in=q_in),
        W_DKV=matrix(g.d_model, g.kv_lora_rank, fan_in=g.d_model),
        kv_norm=1 + 0.2 * torch.randn(g.kv_lora_rank, generator=generator),
        W_KR=matrix(g.d_model, g.qk_rope_head_dim, fan_in=g.d_model),
        W_UK=matrix(g.n_heads, g.kv_lora_rank, g.qk_nope_head_dim, fan_in=g.kv_lora_rank),
        W_UV=matrix(g.n_heads, g.kv_lora_rank, g.v_head_dim, fan_in=g.kv_lora_rank),
        W_O=matrix(g.n_heads, g.v_head_dim, g.d_model, fan_in=g.n_heads * g.v_head_dim),
    )


def random_latent_gqa(geometry: LatentGQAGeometry, generator: torch.Generator) -> LatentGQAWeights:
    """Seeded random weights of the same spread as `random_mla`."""
    g = geometry

    def matrix(*shape: int, fan_in: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * fan_in**-0.5

    up = g.n_kv_heads, g.kv_lora_rank, g.head_dim
    return LatentGQAWeights(
        geometry=g,
        W_Q=matrix(g.n_heads, g.d_model, g.head_dim, fan_in=g.d_model),
        W_DKV=matrix(g.d_model, g.kv_lora_rank, fan_in=g.d_model),
        W_UK=matrix(*up, fan_in=g.kv_lora_rank),
        W_UV=matrix(*up, fan_in=g.kv_lora_rank),
        b_K=matrix(g.n_kv_heads, g.head_dim, fan_in=25),
        b_V=matrix(g.n_kv_heads, g.head_dim, fan_in=25),
        W_O=matrix(g.n_heads, g.head_dim, g.d_model, fan_in=g.n_heads * g.head_dim),
    )


def random_gqa(geometry: GQAGeometry, generator: torch.Generator) -> GQAWeights:
    """Seeded random weights of the same spread as `random_mla`."""
    g = geometry

    def matrix(*shape: int, fan_in: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * fan_in**-0.5

    return GQAWeights(
        geometry=g,
        W_Q=matrix(g.n_heads, g.d_model, g.head_dim, fan_in=g.d_model),
        W_K=matrix(g.n_kv_heads, g.d_model, g.head_dim, fan_in=g.d_model),
        W_V=matrix(g.n_kv_heads, g.d_model, g.head_dim, fan_in=g.d_model),
        W_O=matrix(g.n_heads, g.head_dim, g.d_model, fan_in=g.n_heads * g.head_dim),
    )
