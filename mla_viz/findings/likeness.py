"""How alike the heads of a layer are: linear CKA between their keys, and between their values.

Keys are compared before RoPE, whatever the attention: after it position is in the keys of all
heads, which makes them more alike.

Source: Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited"
(2019). 1 where one is a rotation and scaling of the other over the tokens seen, near 0 where the
two have no direction in common. Knows models; knows no screen.
"""

from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.ops import rope_angles, rotate
from mla_viz.config import AttentionGeometry, GQAGeometry
from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.tokenizer import ByteTokenizer


@dataclass(frozen=True)
class Likeness:
    """Mean linear CKA over all pairs of heads and all layers.

    `content_keys` before RoPE and without MLA's RoPE key, which all heads share; `values` as they
    are mixed.
    """

    content_keys: float
    values: float


def linear_cka(
    x: Float[Tensor, "tokens x_width"], y: Float[Tensor, "tokens y_width"]
) -> Float[Tensor, ""]:
    """|X^T Y|^2 / (|X^T X| |Y^T Y|) in Frobenius norms, columns centred."""
    x, y = x - x.mean(0), y - y.mean(0)
    return (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def mean_cka(heads: Float[Tensor, "n_heads tokens width"]) -> float:
    """Mean linear CKA over the pairs of different heads."""
    n = len(heads)
    pairs = [linear_cka(heads[i], heads[j]) for i in range(n) for j in range(i)]
    return torch.stack(pairs).mean().item()


@torch.inference_mode()
def head_likeness(weights: ModelWeights, stories: list[str], tokenizer: ByteTokenizer) -> Likeness:
    """Likeness of the heads over the tokens of some stories, each cut to the context."""
    layers: list[list[tuple[Tensor, Tensor]]] = [[] for _ in weights.blocks]
    for story in stories:
        for kept, keys_and_values in zip(
            layers,
            _keys_and_values(weights, [tokenizer.end, *tokenizer.encode(story)]),
            strict=True,
        ):
            kept.append(keys_and_values)
    keys, values = (
        fmean(mean_cka(torch.cat([pair[part] for pair in layer], 1)) for layer in layers)
        for part in (0, 1)
    )
    return Likeness(keys, values)


def _keys_and_values(weights: ModelWeights, ids: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Every layer's content keys and values, a copy for each query head, in float64."""
    g = weights.geometry.attention
    grouped = isinstance(g, GQAGeometry)
    decoder = Decoder(weights, "gqa" if grouped else "mla_expanded")
    decoder.feed(torch.tensor(ids[: weights.geometry.context]))
    copies = g.n_heads // g.n_kv_heads if grouped else 1
    return [
        tuple(
            x.repeat_interleave(copies, 0)
            for x in (_content_keys(g, cache.k.double()), cache.v.double())
        )
        for cache in decoder.caches
    ]


def _content_keys(
    g: AttentionGeometry, k: Float[Tensor, "n_kv_heads seq qk"]
) -> Float[Tensor, "n_kv_heads seq content"]:
    """Cached keys turned back by their positions, or MLA's part that was never turned."""
    if not isinstance(g, GQAGeometry):
        return k[..., : g.qk_nope_head_dim]
    back = rope_angles(-torch.arange(k.shape[-2]), g.head_dim, g.rope_theta, k.dtype)
    return rotate(k, back)
