"""The trainable form of the language model around MLA, or around MHA, GQA and MQA.

With MLA a forward pass may use the first n heads and the first r latent dims only. Two learned
gains a layer, latent (kv_lora_rank / r)^a and heads (n_heads / n)^b, are 1 at the full size and
fold into the norm gain and W_O for a given (n, r), which leaves a plain MLA
(mla_viz.model.weights). Matrices are two-dimensional here, since the optimizer wants them so.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from mla_viz.attention.ops import rms_norm, rope_angles, rotate
from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry

QUERY_BLOCK = 32


def _matrix(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * scale * rows**-0.5)


class CausalAttention(torch.autograd.Function):
    """Softmax attention by blocks of queries, so that most masked scores are never computed.

    On a CPU this takes about half the time of `F.scaled_dot_product_attention` where keys and
    values differ in width. The backward pass adds into one gradient of all keys, where autograd
    would make one a block.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Float[Tensor, "n seq qk"],
        k: Float[Tensor, "n seq qk"],
        v: Float[Tensor, "n seq v"],
    ) -> Float[Tensor, "n seq v"]:
        outs, probs = [], []
        for start, stop in _blocks(q.shape[1]):
            scores = q[:, start:stop] @ k[:, :stop].mT
            future = torch.ones(2 * [stop - start], dtype=torch.bool, device=q.device).triu(1)
            scores[..., start:].masked_fill_(future, -torch.inf)
            probs.append(scores.softmax(-1))
            outs.append(probs[-1] @ v[:, :stop])
        out = torch.cat(outs, 1)
        ctx.save_for_backward(q, k, v, out, *probs)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Float[Tensor, "n seq v"]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, *probs = ctx.saved_tensors
        d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        drift = (d_out * out).sum(-1, keepdim=True)
        for (start, stop), p in zip(_blocks(q.shape[1]), probs, strict=True):
            d_probs = d_out[:, start:stop] @ v[:, :stop].mT
            d_scores = d_probs.sub_(drift[:, start:stop]).mul_(p)
            d_q[:, start:stop] = d_scores @ k[:, :stop]
            d_k[:, :stop] += d_scores.mT @ q[:, start:stop]
            d_v[:, :stop] += p.mT @ d_out[:, start:stop]
        return d_q, d_k, d_v


def _blocks(seq: int) -> Iterator[tuple[int, int]]:
    """First and last of every block of queries; the last is the first of the next."""
    for start in range(0, seq, QUERY_BLOCK):
        yield start, min(start + QUERY_BLOCK, seq)


def causal_attention(
    q: Float[Tensor, "batch n_heads seq qk"],
    k: Float[Tensor, "batch n_heads seq qk"],
    v: Float[Tensor, "batch n_heads seq v"],
) -> Float[Tensor, "batch n_heads seq v"]:
    """Each head attends to its own keys and values; scores are q @ k^T, not scaled here."""
    one_axis = (x.flatten(0, 1).contiguous() for x in (q, k, v))
    return CausalAttention.apply(*one_axis).unflatten(0, q.shape[:2])


def per_head(
    x: Float[Tensor, "batch seq width"], heads: int
) -> Float[Tensor, "batch n_heads seq head"]:
    """Cut the last axis into heads and put them first."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class LatentAttention(nn.Module):
    """Causal MLA over whole rows, keys and values expanded; no query compression."""

    def __init__(self, geometry: MLAGeometry, out_scale: float) -> None:
        super().__init__()
        g = self.geometry = geometry
        self.W_Q = _matrix(g.d_model, g.n_heads * g.qk_head_dim)
        self.W_DKV = _matrix(g.d_model, g.kv_lora_rank)
        self.W_KR = _matrix(g.d_model, g.qk_rope_head_dim)
        self.W_UKV = _matrix(g.kv_lora_rank, g.n_heads * (g.qk_nope_head_dim + g.v_head_dim))
        self.W_O = _matrix(g.n_heads * g.v_head_dim, g.d_model, out_scale)
        self.kv_norm = nn.Parameter(torch.ones(g.kv_lora_rank))
        self.latent_power = nn.Parameter(torch.zeros(()))
        self.head_power = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        rope: Complex[Tensor, "seq half"],
        heads: int | None = None,
        latent: int | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        g = self.geometry
        heads, latent = heads or g.n_heads, latent or g.kv_lora_rank
        latent_gain = (g.kv_lora_rank / latent) ** self.latent_power * self.kv_norm[:latent]
        head_gain = (g.n_heads / heads) ** self.head_power
        c_kv = rms_norm(x @ self.W_DKV[:, :latent], latent_gain, g.norm_eps)
        k_rope = rotate(x @ self.W_KR, rope)[:, None].expand(-1, heads, -1, -1)
        q = per_head(x @ self.W_Q[:, : heads * g.qk_head_dim], heads)
        kv_width = heads * (g.qk_nope_head_dim + g.v_head_dim)
        kv = per_head(c_kv @ self.W_UKV[:latent, :kv_width], heads)
        q_nope, q_rope = q.split([g.qk_nope_head_dim, g.qk_rope_head_dim], -1)
        k_nope, v = kv.split([g.qk_nope_head_dim, g.v_head_dim], -1)
        q = torch.cat([q_nope, rotate(q_rope, rope)], -1) * g.softmax_scale
        o_head = causal_attention(q, torch.cat([k_nope, k_rope], -1), v)
        out = o_head.transpose(1, 2).flatten(-2) @ self.W_O[: heads * g.v_head_dim]
        return out * head_gain


class GroupedAttention(nn.Module):
    """Causal MHA, GQA or MQA over whole rows, told apart by n_kv_heads."""

    def __init__(self, geometry: GQAGeometry, out_scale: float) -> None:
        super().__init__()
        g = self.geometry = geometry
        self.W_Q = _matrix(g.d_model, g.n_heads * g.head_dim)
        self.W_K = _matrix(g.d_model, g.n_kv_heads * g.head_dim)
        self.W_V = _matrix(g.d_model, g.n_kv_heads * g.head_dim)
        self.W_O = _matrix(g.n_heads * g.head_dim, g.d_model, out_scale)

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], rope: Complex[Tensor, "seq half"]
    ) -> Float[Tensor, "batch seq d_model"]:
        g = self.geometry
        q = rotate(per_head(x @ self.W_Q, g.n_heads), rope) * g.softmax_scale
        k = rotate(per_head(x @ self.W_K, g.n_kv_heads), rope)
        v = per_head(x @ self.W_V, g.n_kv_heads)
        group = g.n_heads // g.n_kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        return causal_attention(q, k, v).transpose(1, 2).flatten(-2) @ self.W_O


class Block(nn.Module):
    """Pre-norm attention and SwiGLU feed-forward, each added to the residual stream."""

    def __init__(self, geometry: ModelGeometry) -> None:
        super().__init__()
        g = self.geometry = geometry
        d_model, out_scale = g.attention.d_model, (2 * g.n_layers) ** -0.5
        self.attn_norm = nn.Parameter(torch.ones(d_model))
        latent = isinstance(g.attention, MLAGeometry)
        kind = LatentAttention if latent else GroupedAttention
        self.attention = kind(g.attention, out_scale)
        self.mlp_norm = nn.Parameter(torch.ones(d_model))
        self.W_gate = _matrix(d_model, g.d_ff)
        self.W_up = _matrix(d_model, g.d_ff)
        self.W_down = _matrix(g.d_ff, d_model, out_scale)

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        rope: Complex[Tensor, "seq half"],
        *size: int,
    ) -> Float[Tensor, "batch seq d_model"]:
        eps = self.geometry.norm_eps
        x = x + self.attention(rms_norm(x, self.attn_norm, eps), rope, *size)
        h = rms_norm(x, self.mlp_norm, eps)
        return x + (F.silu(h @ self.W_gate) * (h @ self.W_up)) @ self.W_down


class TrainableModel(nn.Module):
    """Token ids to logits; with MLA at any (heads, latent). The embedding is also the output."""

    def __init__(self, geometry: ModelGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        g = geometry.attention
        self.embedding = nn.Parameter(torch.randn(geometry.vocab_size, g.d_model) * 0.05)
        self.blocks = nn.ModuleList(Block(geometry) for _ in range(geometry.n_layers))
        self.final_norm = nn.Parameter(torch.ones(g.d_model))
        pos = torch.arange(geometry.context)
        rope = rope_angles(pos, g.rope_width, g.rope_theta, torch.float32)
        self.register_buffer("rope", rope, persistent=False)

    def forward(
        self, tokens: Int[Tensor, "batch seq"], *size: int
    ) -> Float[Tensor, "batch seq vocab"]:
        x = self.embedding[tokens]
        rope = self.rope[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, rope, *size)
        return rms_norm(x, self.final_norm, self.geometry.norm_eps) @ self.embedding.T
