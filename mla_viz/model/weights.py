"""Weights of a whole model: from a file, cut to a setting or as they are, or random numbers.

Knows files and geometries; does not know which of them come with the package.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from mla_viz.attention.weights import (
    AttentionWeights,
    GQAWeights,
    MLAWeights,
    random_gqa,
    random_latent_gqa,
    random_mla,
)
from mla_viz.config import (
    GQAGeometry,
    LatentGQAGeometry,
    MLAGeometry,
    ModelGeometry,
    geometry_from,
)
from mla_viz.model.decoder import BlockWeights, ModelWeights


@cache
def read_geometry(file: Path) -> ModelGeometry:
    """Geometry of a trained model at its full size, from the head of its file alone.

    Raises:
        ValueError: the file is missing.
    """
    if not file.exists():
        raise ValueError(f"source: expected the weights {file}, which are missing")
    with safe_open(file, framework="pt") as content:
        return geometry_from(json.loads(content.metadata()["geometry"]))


@cache
def _tensors(file: Path) -> dict[str, Tensor]:
    """A file's tensors in float32. Treat them as read-only."""
    with safe_open(file, framework="pt") as content:
        return {key: content.get_tensor(key).float() for key in content.keys()}  # noqa: SIM118


def load_cut(file: Path, heads: int, latent: int) -> ModelWeights:
    """A trained MLA model cut to its first heads and latent dims: a plain MLA in float32.

    The gains (kv_lora_rank / latent)^a and (n_heads / heads)^b go into the norm gain and W_O.

    Raises:
        ValueError: the file is missing.
    """
    full = read_geometry(file)
    geometry = full.with_attention(n_heads=heads, kv_lora_rank=latent)
    cut = partial(cut_attention, full=full.attention, heads=heads, latent=latent)
    return _assemble(geometry, _tensors(file), cut)


def load_weights(file: Path) -> ModelWeights:
    """A trained model as it was trained, MLA or another, in float32.

    Raises:
        ValueError: the file is missing.
    """
    geometry = read_geometry(file)
    g = geometry.attention
    if isinstance(g, GQAGeometry):
        return _assemble(geometry, _tensors(file), partial(split_heads, geometry=g))
    return load_cut(file, g.n_heads, g.kv_lora_rank)


def _assemble(
    geometry: ModelGeometry,
    tensors: dict[str, Tensor],
    make_attention: Callable[[dict[str, Tensor]], AttentionWeights],
) -> ModelWeights:
    """A model from the tensors of its file; `make_attention` takes those of one layer."""
    blocks = []
    for layer in range(geometry.n_layers):
        prefix = f"blocks.{layer}."
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        attention = {k.removeprefix("attention."): v for k, v in part.items() if "." in k}
        plain = {k: v for k, v in part.items() if "." not in k}
        blocks.append(BlockWeights(attention=make_attention(attention), **plain))
    return ModelWeights(geometry, tensors["embedding"], tuple(blocks), tensors["final_norm"])


def split_heads(trained: dict[str, Tensor], geometry: GQAGeometry) -> GQAWeights:
    """One layer's two-dimensional training matrices, heads first."""
    g = geometry
    projections = {
        name: trained[name].unflatten(-1, (heads, -1)).transpose(0, 1).contiguous()
        for name, heads in (("W_Q", g.n_heads), ("W_K", g.n_kv_heads), ("W_V", g.n_kv_heads))
    }
    return GQAWeights(geometry=g, W_O=trained["W_O"].unflatten(0, (g.n_heads, -1)), **projections)


def cut_attention(
    trained: dict[str, Tensor], full: MLAGeometry, heads: int, latent: int
) -> MLAWeights:
    """Cut one layer's two-dimensional training matrices to (heads, latent), heads first."""
    g = replace(full, n_heads=heads, kv_lora_rank=latent)
    widths = [g.qk_nope_head_dim, g.qk_rope_head_dim]
    queries = trained["W_Q"].unflatten(-1, (full.n_heads, -1)).transpose(0, 1)[:heads]
    W_UQ, W_QR = queries.split(widths, -1)  # noqa: N806
    expansion = trained["W_UKV"].unflatten(-1, (full.n_heads, -1)).transpose(0, 1)
    W_UK, W_UV = expansion[:heads, :latent].split([widths[0], g.v_head_dim], -1)  # noqa: N806
    head_gain = (full.n_heads / heads) ** trained["head_power"]
    latent_gain = (full.kv_lora_rank / latent) ** trained["latent_power"]
    weights = {
        "W_UQ": W_UQ,
        "W_QR": W_QR,
        "W_DKV": trained["W_DKV"][:, :latent],
        "kv_norm": trained["kv_norm"][:latent] * latent_gain,
        "W_KR": trained["W_KR"],
        "W_UK": W_UK,
        "W_UV": W_UV,
        "W_O": trained["W_O"].unflatten(0, (full.n_heads, -1))[:heads] * head_gain,
    }
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    return MLAWeights(geometry=g, W_DQ=None, q_norm=None, **contiguous)


def random_weights(geometry: ModelGeometry, seed: int) -> ModelWeights:
    """Seeded random weights of any geometry; the tokens it chooses mean nothing."""
    generator = torch.Generator().manual_seed(seed)
    d_model = geometry.attention.d_model

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * rows**-0.5

    embedding = torch.randn(geometry.vocab_size, d_model, generator=generator) * d_model**-0.5
    make = {
        MLAGeometry: random_mla,
        GQAGeometry: random_gqa,
        LatentGQAGeometry: random_latent_gqa,
    }[type(geometry.attention)]
    blocks = tuple(
        BlockWeights(
            attn_norm=torch.ones(d_model),
            mlp_norm=torch.ones(d_model),
            W_gate=matrix(d_model, geometry.d_ff),
            W_up=matrix(d_model, geometry.d_ff),
            W_down=matrix(geometry.d_ff, d_model),
            attention=make(geometry.attention, generator),
        )
        for _ in range(geometry.n_layers)
    )
    return ModelWeights(geometry, embedding, blocks, torch.ones(d_model))
