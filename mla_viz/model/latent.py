"""The attention of a GQA model as a latent one: exact at full width, cut below it.

A layer's keys before RoPE and its values, all heads beside one another, are z = x [W_K | W_V]. With
an invertible encoder E, z = (z E) E^-1: the first r columns of E make the latent, and the first r
rows of E^-1 make keys and values of it again; what is left out stands at its mean.
Layers may keep one number of columns each, or those that matter most of all layers together.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from mla_viz.attention.weights import GQAWeights, LatentGQAWeights
from mla_viz.config import GQAGeometry, LatentGQAGeometry, ModelGeometry
from mla_viz.model.decoder import ModelWeights
from mla_viz.shipped import intact, shipped

BASES = "{}-bases.safetensors"


@dataclass(frozen=True)
class Basis:
    """One layer's encoder, its most needed column first; its inverse; the mean of what goes in."""

    encoder: Float[Tensor, "both both"]
    decoder: Float[Tensor, "both both"]
    mean: Float[Tensor, " both"]


@cache
def pooled_ranks(name: str, layers: int, both: int, rank: int) -> tuple[int, ...]:
    """Each layer's rank for a model whose bases came with the package, `rank` on average.

    Raises:
        ValueError: as `bases`.
    """
    (costs,) = _read(name, layers, both, "costs")
    return pooled(costs, rank)


def pooled(costs: Float[Tensor, "layers both"], rank: int) -> tuple[int, ...]:
    """A rank from 1 for each layer, `rank` on average: the costliest columns of all are kept.

    Worked: columns that cost (9, 8) and (7, 1), one a layer on average: both layers keep their
    first, since none is left without; two of (9, 8, 5) and (7, 1, 0): 3 and 1.
    """
    layers, both = costs.shape
    first = costs.clone()
    first[:, 0] = torch.inf
    order = first.flatten().argsort(descending=True, stable=True)
    return tuple(torch.bincount(order[: rank * layers] // both, minlength=layers).tolist())


def _read(name: str, layers: int, both: int, *parts: str) -> list[Tensor]:
    """Parts of the file of a model's bases, in float64."""
    file = intact(shipped(BASES.format(name)))
    with safe_open(file, framework="pt") as content:
        tensors = [content.get_tensor(part).double() for part in parts]
    if tensors[0].shape[:2] != (layers, both):
        got = " x ".join(map(str, tensors[0].shape[:2]))
        raise ValueError(f"{file.name}: expected {layers} layers of {both} columns, got {got}")
    return tensors


@cache
def bases(name: str, layers: int, both: int) -> list[Basis]:
    """The bases that came with the package for a model, layer by layer, in float64.

    Raises:
        ValueError: the file is missing or damaged, or belongs to a model of another shape.
    """
    encoders, means = _read(name, layers, both, "encoder", "mean")
    return [Basis(*each) for each in zip(encoders, encoders.inverse(), means, strict=True)]


def latent_geometry(g: GQAGeometry, kv_lora_rank: int) -> LatentGQAGeometry:
    """The same layer with its keys and values made of a latent."""
    return LatentGQAGeometry(**vars(g), kv_lora_rank=kv_lora_rank)


def to_latent(weights: ModelWeights, bases: list[Basis], geometry: ModelGeometry) -> ModelWeights:
    """The same model in a geometry whose layers cache latents; all else is shared."""
    ranks = geometry.ranks or [geometry.attention.kv_lora_rank] * geometry.n_layers
    blocks = tuple(
        replace(block, attention=latent_attention(block.attention, basis, rank))
        for block, basis, rank in zip(weights.blocks, bases, ranks, strict=True)
    )
    return replace(weights, geometry=geometry, blocks=blocks)


def latent_attention(w: GQAWeights, basis: Basis, kv_lora_rank: int) -> LatentGQAWeights:
    """One layer."""
    g, dtype = w.geometry, w.W_K.dtype
    down, up, mean = basis.encoder[:, :kv_lora_rank], basis.decoder[:kv_lora_rank], basis.mean
    W_UK, W_UV = _heads_first(up, g)  # noqa: N806
    b_K, b_V = _heads_first((mean - mean @ down @ up)[None], g)  # noqa: N806
    made = {
        "W_DKV": joined(w).double() @ down,
        "W_UK": W_UK,
        "W_UV": W_UV,
        "b_K": b_K.squeeze(-2),
        "b_V": b_V.squeeze(-2),
    }
    cast = {name: tensor.to(dtype).contiguous() for name, tensor in made.items()}
    return LatentGQAWeights(latent_geometry(g, kv_lora_rank), W_Q=w.W_Q, W_O=w.W_O, **cast)


def joined(w: GQAWeights) -> Float[Tensor, "d_model both"]:
    """[W_K | W_V], all key heads before all value heads."""
    return torch.cat([W.transpose(0, 1).flatten(1) for W in (w.W_K, w.W_V)], -1)


def _heads_first(
    rows: Float[Tensor, "rows both"], g: GQAGeometry
) -> Float[Tensor, "2 n_kv_heads rows head_dim"]:
    """Rows of joined keys and values, each head's apart."""
    return rows.unflatten(-1, (2, g.n_kv_heads, g.head_dim)).permute(1, 2, 0, 3)
