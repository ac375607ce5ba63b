"""The attention of a GQA model as MLA: a rotated key that all heads share, and a latent beside it.

At each frequency of RoPE the keys of all key/value heads are one complex vector k. RoPE turns it as
a whole, so that an invertible matrix E commutes with it: components c = E k, turned, are keys that
all heads share, and head g reads row g of E^-1. Some components stay turned. Each of the others
stands still, at the turn that its head's attention sees on average; they and the values are made of
a latent, whose W_UK can then be absorbed.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Complex, Float, Int
from safetensors import safe_open
from torch import Tensor

from mla_viz.attention.weights import GQAWeights, MLAWeights
from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.model.decoder import ModelWeights
from mla_viz.shipped import intact, shipped

COMPONENTS = "{}-decoupled.safetensors"
LEAST = 1e-12  # of the largest cost: none counts as less


@dataclass(frozen=True, eq=False)
class Components:
    """One layer's components, and what is known of them; a component is frequency, then row of E.

    `turns` are the average turns, `order` counts components from the one that is needed turned
    least. Of [values | components in that order], real numbers in pairs, `loss` and `spread` are
    lower triangular roots of what a change costs and of the second moments.
    """

    encoder: Complex[Tensor, "half n_kv_heads n_kv_heads"]
    turns: Complex[Tensor, "n_heads half n_kv_heads"]
    order: Int[Tensor, " components"]
    loss: Float[Tensor, "both both"]
    spread: Float[Tensor, "both both"]

    def latent(
        self, width: int, rank: int
    ) -> tuple[Float[Tensor, "{width} {rank}"], Float[Tensor, "{rank} {width}"]]:
        """Encoder and decoder of the first `width` numbers, of the columns that cost most.

        They are the eigenvectors of loss^T spread spread^T loss, the moments of what costs, scaled
        so that each number of a latent has mean square 1.
        """
        loss = self.loss[:width, :width]
        root = loss.mT @ self.spread[:width, :width]
        costs, columns = (x.flip(-1)[..., :rank] for x in torch.linalg.eigh(root @ root.mT))
        scale = costs.clamp(min=costs[0] * LEAST).sqrt()
        decoder = torch.linalg.solve_triangular(loss.mT, columns, upper=True).mT
        return loss @ columns / scale, decoder * scale[:, None]


@cache
def components(name: str, layers: int, g: GQAGeometry) -> list[Components]:
    """The components that came with the package for a model, layer by layer, in double precision.

    Raises:
        ValueError: the file is missing or damaged, or belongs to a model of another shape.
    """
    file = intact(shipped(COMPONENTS.format(name)))
    with safe_open(file, framework="pt") as content:
        encoders, turns, order, roots = map(
            content.get_tensor, ("encoder", "turns", "order", "roots")
        )
    shape = layers, g.n_heads, g.head_dim // 2, g.n_kv_heads, 2
    if turns.shape != shape:
        got = tuple(turns.shape)
        raise ValueError(f"{file.name}: expected turns of shape {shape}, got shape {got}")
    roots = roots.double()
    parts = (
        *(torch.view_as_complex(x.double()) for x in (encoders, turns)),
        order.long(),
        roots[..., :-1].tril(),
        roots[..., 1:].triu().mT,
    )
    return [Components(*each) for each in zip(*parts, strict=True)]


def decoupled_geometry(g: GQAGeometry, kv_lora_rank: int, qk_rope_head_dim: int) -> MLAGeometry:
    """The layer as MLA, whose scores are scaled as before."""
    return MLAGeometry(
        d_model=g.d_model,
        n_heads=g.n_heads,
        qk_nope_head_dim=g.head_dim,
        qk_rope_head_dim=qk_rope_head_dim,
        v_head_dim=g.head_dim,
        kv_lora_rank=kv_lora_rank,
        rope_theta=g.rope_theta,
        softmax_scale_override=g.softmax_scale,
    )


def decoupled_attention(w: GQAWeights, parts: Components, g: MLAGeometry) -> MLAWeights:
    """One layer: the components that are needed turned most become W_KR, the first one in front."""
    heads, group = w.geometry.n_kv_heads, g.n_heads // w.geometry.n_kv_heads
    count = len(parts.order) - g.qk_rope_head_dim // 2
    still, turned = parts.order[:count], parts.order[count:].flip(0)
    values = w.W_V.double().transpose(0, 1).flatten(1)
    widths = values.shape[1], 2 * count
    encoder, decoder = parts.latent(sum(widths), g.kv_lora_rank)
    up_v, up_k = decoder.split(widths, -1)
    reading = parts.encoder.inverse().permute(1, 0, 2).repeat_interleave(group, 0)
    keys = torch.einsum("fmk,kdf->dfm", parts.encoder, as_complex(w.W_K.double())).flatten(1)
    queries = as_complex(w.W_Q.double())[..., turned // heads]
    seen = as_complex(up_k) * (parts.turns * reading).flatten(1)[:, None, still]
    W_UK = seen.new_zeros(*seen.shape[:2], g.qk_nope_head_dim // 2)  # noqa: N806
    W_UV = up_v.unflatten(-1, (heads, -1)).transpose(0, 1)  # noqa: N806
    made = {
        "W_QR": as_real(queries * reading.flatten(1)[:, None, turned].conj()),
        "W_DKV": torch.cat([values, as_real(keys[:, still])], -1) @ encoder,
        "W_KR": as_real(keys[:, turned]),
        "W_UK": as_real(W_UK.index_add(2, still // heads, seen)),
        "W_UV": W_UV.repeat_interleave(group, 0),
    }
    cast = {name: tensor.to(w.W_Q.dtype).contiguous() for name, tensor in made.items()}
    frequencies = g.rope_theta ** (-2 / w.geometry.head_dim * (turned // heads).double())
    return MLAWeights(
        geometry=g,
        W_DQ=None,
        q_norm=None,
        W_UQ=w.W_Q,
        kv_norm=None,
        W_O=w.W_O,
        frequencies=tuple(frequencies.tolist()),
        **cast,
    )


def as_complex(x: Float[Tensor, "*lead both"]) -> Complex[Tensor, "*lead half"]:
    """Neighbours as one complex number."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def as_real(x: Complex[Tensor, "*lead half"]) -> Float[Tensor, "*lead both"]:
    """Complex numbers as neighbours."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def to_decoupled(weights: ModelWeights, parts: list[Components], g: MLAGeometry) -> ModelWeights:
    """The same model with MLA of this geometry in every layer; all else is shared."""
    blocks = tuple(
        replace(block, attention=decoupled_attention(block.attention, layer, g))
        for block, layer in zip(weights.blocks, parts, strict=True)
    )
    return replace(weights, geometry=replace(weights.geometry, attention=g), blocks=blocks)
