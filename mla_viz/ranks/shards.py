"""How a layer is divided among ranks, and put together again: pure functions on tensors.

Heads go by the weights: a rank runs the layer's own code on its heads. Cached tokens go by the
cache: a rank scores every query against its own tokens. Knows no process.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.cache import HeadCache, LatentCache
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Attended, Watch, merge_heads, rope_angles, wide
from mla_viz.attention.weights import AttentionWeights, MLAWeights
from mla_viz.cost import tp_geometry

BY_HEAD = ("W_Q", "W_UQ", "W_QR", "W_UK", "W_UV", "W_O")
BY_KV_HEAD = ("W_K", "W_V")


def head_share(w: AttentionWeights, rank: int, ranks: int) -> AttentionWeights:
    """A rank's heads; key/value heads too until they run out, then a copy of the one it needs.

    Raises:
        ValueError: the heads cannot be divided.
    """
    geometry = tp_geometry(w.geometry, ranks)
    own = {
        name: getattr(w, name).tensor_split(ranks)[rank].clone()
        for name in BY_HEAD
        if hasattr(w, name)
    }
    for name in BY_KV_HEAD:
        if hasattr(w, name):
            kv_heads = getattr(w, name)
            first = rank * len(kv_heads) // ranks
            own[name] = kv_heads[first : first + geometry.n_kv_heads].clone()
    return replace(w, geometry=geometry, **own)


def token_share(cache: HeadCache | LatentCache, rank: int, ranks: int) -> HeadCache | LatentCache:
    """Make an empty cache keep one token of every `ranks` that are appended, the rank-th."""
    keep, tokens = cache.append, count()

    def append(*rows: Tensor) -> None:
        if next(tokens) % ranks == rank:
            keep(*rows)

    cache.append = append
    return cache


def mixed_and_lse(attended: Attended) -> Float[Tensor, "*batch n_heads seq width_1"]:
    """What each head mixed of a rank's tokens, and the log-sum-exp of their scores.

    Side by side in at least float32: the log stands last, -inf where the rank has no token.
    """
    seen = attended.seen
    mixed = seen["o_latent"] if "o_latent" in seen else seen["o_head"]
    lse = wide(seen["scores"]).logsumexp(-1, keepdim=True)
    return torch.cat([wide(mixed), lse], -1)


def merge_by_lse(
    parts: Float[Tensor, "ranks *lead width_1"],
) -> Float[Tensor, "*lead width"]:
    """What attention over all tokens mixes, from every rank's `mixed_and_lse`.

    o = sum_r o_r exp(lse_r) / sum_r exp(lse_r): a softmax over the ranks. Some rank has a token.
    """
    return (parts[..., -1:].softmax(0) * parts[..., :-1]).sum(0)


def project(
    w: AttentionWeights, mixed: Float[Tensor, "*batch n_heads seq width"], latent: bool
) -> Float[Tensor, "*batch seq d_model"]:
    """The end of the layer: values of a mixed latent, where it is one, then the output."""
    mixed = mixed.to(w.W_O.dtype)
    if latent and isinstance(w, MLAWeights):
        mixed = mixed @ w.W_UV
    return merge_heads(mixed, w.W_O)


def decode_steps(
    mechanism: str,
    w: AttentionWeights,
    x: Float[Tensor, "batch tokens d_model"],
    cache: HeadCache | LatentCache,
    join: Callable[[Attended], Tensor],
    watch: Sequence[str] = (),
) -> Float[Tensor, "batch tokens d_model"]:
    """Feed the tokens one by one; `join` makes the output of what this rank attended."""
    g, attend = w.geometry, implementation(mechanism).attend
    pos = torch.arange(x.shape[1], device=x.device)
    rope = rope_angles(pos, g.rope_width, g.rope_theta, x.dtype)
    return torch.cat(
        [
            join(attend(w, cache, x[:, t : t + 1], rope[t : t + 1], Watch(*watch)))
            for t in range(x.shape[1])
        ],
        1,
    )
