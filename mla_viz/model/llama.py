"""A pretrained Llama in its file as weights of our own decoder, and how one talks to it.

Knows checkpoints and weights; knows neither where the files are nor who asks.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.weights import GQAWeights
from mla_viz.config import GQAGeometry
from mla_viz.model.decoder import BlockWeights, ModelWeights
from mla_viz.pretrained.checkpoint import Checkpoint

Read = Callable[[str], Tensor]


def load_llama(checkpoint: Checkpoint) -> ModelWeights:
    """All weights in float32."""
    geometry = checkpoint.geometry

    def read(name: str) -> Tensor:
        return torch.from_numpy(checkpoint.read(name))

    def matrix(name: str) -> Float[Tensor, "inner width"]:
        return read(name).T.contiguous()

    def block(layer: int) -> BlockWeights:
        at = f"layers.{layer}."
        return BlockWeights(
            attn_norm=read(f"{at}input_layernorm"),
            attention=_attention(checkpoint, lambda name: matrix(f"{at}self_attn.{name}")),
            mlp_norm=read(f"{at}post_attention_layernorm"),
            W_gate=matrix(f"{at}mlp.gate_proj"),
            W_up=matrix(f"{at}mlp.up_proj"),
            W_down=matrix(f"{at}mlp.down_proj"),
        )

    blocks = tuple(block(layer) for layer in range(geometry.n_layers))
    return ModelWeights(geometry, read("embed_tokens"), blocks, read("norm"))


def _attention(checkpoint: Checkpoint, matrix: Read) -> GQAWeights:
    """One layer's projections, heads first, laid for RoPE on pairs of neighbours."""
    g = checkpoint.geometry.attention

    def turned(name: str) -> Float[Tensor, "heads d_model head_dim"]:
        projection = split(matrix(name), g)
        return projection if checkpoint.interleaved else pairs_of_halves(projection)

    return GQAWeights(
        geometry=g,
        W_Q=turned("q_proj"),
        W_K=turned("k_proj"),
        W_V=split(matrix("v_proj"), g),
        W_O=matrix("o_proj").unflatten(0, (g.n_heads, -1)),
    )


def split(
    W: Float[Tensor, "d_model both"],  # noqa: N803
    g: GQAGeometry,
) -> Float[Tensor, "heads d_model head_dim"]:
    """A projection to all heads, heads first."""
    return W.unflatten(-1, (-1, g.head_dim)).transpose(0, 1).contiguous()


def pairs_of_halves(x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
    """Columns i and i + width/2, which RoPE turns together in Hugging Face's layout, as neighbours.

    Worked: columns 0 1 2 3 come out as 0 2 1 3.
    """
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
