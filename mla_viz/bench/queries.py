"""One query token or many over one context of latents: absorbed, or keys and values rebuilt.

Random numbers; every query sees the whole context, as `cost.query_flops` counts. Scores are made
for so many queries at a time that they stay small, whichever way.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.mla import expand
from mla_viz.attention.ops import per_head
from mla_viz.attention.weights import MLAWeights
from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.steps import random_layer
from mla_viz.bench.timing import Work
from mla_viz.model.device import parse_dtype

FORMS = ("mla_absorbed", "mla_reexpand")
SCORES = 1 << 24  # made at a time


def query_works(s: BenchSettings, context: int) -> Iterator[tuple[str, int, Work]]:
    """Form, query tokens and work of all that is timed at a context; no batch."""
    g, dtype = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype)
    w = random_layer(g, s.dtype)
    rows = torch.randn(context, g.kv_lora_rank + g.qk_rope_head_dim).to(dtype)
    for tokens in s.query_tokens:
        q = torch.randn(g.n_heads, tokens, g.qk_head_dim).to(dtype)
        yield FORMS[0], tokens, lambda q=q: absorbed(w, q, rows)
        yield FORMS[1], tokens, lambda q=q: rebuilt(w, q, rows)


def absorbed(
    w: MLAWeights,
    q: Float[Tensor, "n_heads queries qk"],
    rows: Float[Tensor, "total latent_and_rope"],
) -> Float[Tensor, "n_heads queries v"]:
    """W_UK moved to every query, W_UV to what each query mixed."""
    g = w.geometry
    q_nope, q_rope = q.split([g.qk_nope_head_dim, g.qk_rope_head_dim], -1)
    latents = torch.cat([per_head(q_nope, w.W_UK.mT), q_rope], -1).flatten(0, 1)
    mixed = _attend(latents[None], rows[None], rows[None, :, : g.kv_lora_rank], g.softmax_scale)
    return per_head(mixed.unflatten(1, q.shape[:2])[0], w.W_UV)


def rebuilt(
    w: MLAWeights,
    q: Float[Tensor, "n_heads queries qk"],
    rows: Float[Tensor, "total latent_and_rope"],
) -> Float[Tensor, "n_heads queries v"]:
    """Every key and value made of the latents once, for all queries, head by head."""
    g = w.geometry
    latents, scale = rows.split([g.kv_lora_rank, g.qk_rope_head_dim], -1), g.softmax_scale
    heads = [slice(i, i + 1) for i in range(g.n_heads)]
    return torch.cat([_attend(q[i], *expand(w, *latents, i), scale) for i in heads])


def _attend(
    q: Float[Tensor, "n queries qk"],
    k: Float[Tensor, "n total qk"],
    v: Float[Tensor, "n total v"],
    scale: float,
) -> Float[Tensor, "n queries v"]:
    """Softmax(q k^T scale) v of every query over every token."""
    some = max(1, SCORES // (len(k) * k.shape[1]))
    blocks = ((part * scale @ k.mT).softmax(-1) @ v for part in q.split(some, 1))
    return torch.cat(list(blocks), 1)
