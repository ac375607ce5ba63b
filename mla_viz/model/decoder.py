"""A decoder language model around any mechanism: embedding, pre-norm blocks, tied output.

Knows weights and caches; knows no text, no sampling and no trace.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Complex, Float, Int
from torch import Tensor

from mla_viz.attention.cache import Cache
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Attended, Watch, rms_norm, rope_angles, turns
from mla_viz.attention.quantised import keep_in
from mla_viz.attention.weights import AttentionWeights, cast
from mla_viz.config import MLAGeometry, ModelGeometry
from mla_viz.mechanisms.formats import Format

BLOCK = 16  # tokens
LARGE_BYTES = 64 << 20  # past a processor's cache: read from memory at every product


@dataclass(frozen=True)
class BlockWeights:
    """One layer: attention and a SwiGLU feed-forward, each behind an RMSNorm."""

    attn_norm: Float[Tensor, " d_model"]
    attention: AttentionWeights
    mlp_norm: Float[Tensor, " d_model"]
    W_gate: Float[Tensor, "d_model d_ff"]
    W_up: Float[Tensor, "d_model d_ff"]
    W_down: Float[Tensor, "d_ff d_model"]


@runtime_checkable
class AnyWeights(Protocol):
    """What a run needs of weights; those of a folder are a model of another package.

    They have an `embedding` and each layer's `attention` too, which a folder's are asked for only
    once they are run.
    """

    geometry: ModelGeometry

    def to(self, dtype: torch.dtype, device: str) -> "AnyWeights":
        """The same weights in another dtype on another device."""

    def decoder(self, mechanism: str, kept: Format | None = None) -> "Decoder":
        """The model run by one mechanism."""


@dataclass(frozen=True)
class ModelWeights:
    """A whole model; the embedding is also the output matrix."""

    geometry: ModelGeometry
    embedding: Float[Tensor, "vocab d_model"]
    blocks: tuple[BlockWeights, ...]
    final_norm: Float[Tensor, " d_model"]

    @property
    def attention(self) -> list[AttentionWeights]:
        """Each layer's."""
        return [block.attention for block in self.blocks]

    def decoder(self, mechanism: str, kept: Format | None = None) -> "Decoder":
        """The model run by one mechanism."""
        return Decoder(self, mechanism, kept=kept)

    def to(self, dtype: torch.dtype, device: str) -> "ModelWeights":
        """The same weights in another dtype on another device."""
        blocks = tuple(
            BlockWeights(
                **{
                    name: cast(value, dtype, device)
                    if name == "attention"
                    else value.to(device, dtype)
                    for name, value in vars(block).items()
                }
            )
            for block in self.blocks
        )
        return replace(
            self,
            embedding=self.embedding.to(device, dtype),
            blocks=blocks,
            final_norm=self.final_norm.to(device, dtype),
        )


@dataclass(frozen=True)
class Forward:
    """What feeding tokens gave: logits of the fed positions, each layer's input and attention.

    `filled_bytes` and `allocated_bytes` are those of all caches behind the last of these tokens.
    """

    logits: Float[Tensor, "*batch seq vocab"]
    inputs: list[Float[Tensor, "*batch seq d_model"]]
    layers: list[Attended]
    attention_us: list[float]
    filled_bytes: int
    allocated_bytes: int


class _Seen:
    """What the layers leave behind, one after another, on the way to a Forward."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.layers: list[Attended] = []
        self.times: list[float] = []
        self.filled_bytes = self.allocated_bytes = 0

    def add(self, h: Tensor, attended: Attended, us: float, cache: Cache) -> None:
        self.inputs.append(h)
        self.layers.append(attended)
        self.times.append(us)
        self.filled_bytes += cache.filled_bytes
        self.allocated_bytes += cache.allocated_bytes

    def forward(self, logits: Tensor) -> Forward:
        sizes = self.filled_bytes, self.allocated_bytes
        return Forward(logits, self.inputs, self.layers, self.times, *sizes)


class Decoder:
    """A model run by one mechanism, with that mechanism's cache in every layer.

    The cache is kept in the weights' dtype, or in the format `kept`.
    """

    def __init__(
        self,
        weights: ModelWeights,
        mechanism: str,
        batch: tuple[int, ...] = (),
        kept: Format | None = None,
    ) -> None:
        self.weights = weights
        self._mechanism = implementation(mechanism)
        self.whole_prefix = self._mechanism.whole_prefix
        self._attention = [self._mechanism.prepare(b.attention) for b in weights.blocks]
        self.caches = [self._mechanism.new_cache(w, batch) for w in self._attention]
        if kept:
            g = weights.geometry.attention
            rope = g.qk_rope_head_dim if isinstance(g, MLAGeometry) else 0
            for cache in self.caches:
                keep_in(cache, kept, rope)
        self._seq_len = 0
        self._clock_waits = weights.embedding.is_cuda

    @property
    def block(self) -> int:
        """How many tokens `feed_each` is best given at once: 1 where it saves nothing."""
        g, elem = self.weights.geometry, self.weights.embedding.element_size()
        return 1 if self.whole_prefix else block_of(g, elem)

    @torch.inference_mode()
    def feed(
        self,
        tokens: Int[Tensor, "*batch seq"],
        watched: Sequence[str] = (),
        *,
        newest: bool = False,
    ) -> Forward:
        """Run tokens through the model behind those fed before.

        A mechanism that keeps nothing (`whole_prefix`) must be fed the whole prefix each time.

        Args:
            tokens: ids of the new tokens.
            watched: names of `ops.PASSING` that each layer's `seen` is to hold.
            newest: keep logits, and what is watched of queries, for the last token alone.
        """
        ropes, seen = self._ropes(tokens.shape[-1]), _Seen()

        def attend(layer: int, h: Tensor) -> Tensor:
            attended, us = self._attend(layer, h, ropes[layer], Watch(*watched, newest=newest))
            seen.add(h[..., -1:, :] if newest else h, attended, us, self.caches[layer])
            return attended.out

        x = self._through(tokens, attend)
        return seen.forward(self._logits(x[..., -1:, :] if newest else x))

    @torch.inference_mode()
    def feed_each(self, tokens: Int[Tensor, " seq"], watched: Sequence[str] = ()) -> list[Forward]:
        """What `feed` gives for each token by itself, made layer by layer.

        Attention takes one token at a time, all else takes all of them, so that large weights are
        read once. `k` and `v`, which are of all tokens, are kept with the last one alone.
        """
        ropes, seen = self._ropes(len(tokens)), [_Seen() for _ in tokens]
        before = len(ropes[0]) - len(tokens)
        earlier = [name for name in watched if name not in ("k", "v")]

        def attend(layer: int, h: Tensor) -> Tensor:
            rope = ropes[layer]
            for i, each in enumerate(seen):
                one, stop = h[i : i + 1], before + i + 1
                turned = rope[:stop] if self._mechanism.every_position else rope[i : i + 1]
                watch = Watch(*(watched if i + 1 == len(seen) else earlier), newest=True)
                each.add(one, *self._attend(layer, one, turned, watch), self.caches[layer])
            return torch.cat([each.layers[-1].out for each in seen])

        logits = self._logits(self._through(tokens, attend))
        return [each.forward(row[None]) for each, row in zip(seen, logits, strict=True)]

    def _through(
        self, tokens: Int[Tensor, "*batch seq"], attend: Callable[[int, Tensor], Tensor]
    ) -> Float[Tensor, "*batch seq d_model"]:
        """The tokens behind all layers; `attend` is given a layer's number and its input."""
        w, eps = self.weights, self.weights.geometry.norm_eps
        x = w.embedding[tokens]
        for layer, block in enumerate(w.blocks):
            x = x + attend(layer, rms_norm(x, block.attn_norm, eps))
            h = rms_norm(x, block.mlp_norm, eps)
            x = x + (F.silu(h @ block.W_gate) * (h @ block.W_up)) @ block.W_down
        return x

    def _attend(
        self, layer: int, h: Tensor, rope: Complex[Tensor, "seq half"], watch: Watch
    ) -> tuple[Attended, float]:
        """One layer's attention, and the microseconds that it took."""
        given = self._attention[layer], self.caches[layer], h, rope, watch
        return timed(partial(self._mechanism.attend, *given), self._clock_waits)

    def _logits(self, x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq vocab"]:
        w = self.weights
        return rms_norm(x, w.final_norm, w.geometry.norm_eps) @ w.embedding.T

    def _ropes(self, new: int) -> list[Complex[Tensor, "seq half"]]:
        """Each layer's turns at the new positions; the same where frequencies are the same."""
        begin = 0 if self.whole_prefix else self._seq_len
        self._seq_len = begin + new
        first = 0 if self._mechanism.every_position else begin
        g, like = self.weights.geometry.attention, self.weights.embedding
        pos = torch.arange(first, self._seq_len, device=like.device)
        shared = rope_angles(pos, g.rope_width, g.rope_theta, like.dtype)
        own = [getattr(block.attention, "frequencies", None) for block in self.weights.blocks]
        as_tensor = partial(torch.tensor, dtype=torch.float64, device=like.device)
        return [shared if f is None else turns(pos, as_tensor(f), like.dtype) for f in own]


def timed(attend: Callable[[], Attended], on_cuda: bool) -> tuple[Attended, float]:
    """An attention, and the microseconds from when its device was idle until it is so again."""
    wait = torch.cuda.synchronize if on_cuda else lambda: None
    wait()
    began = time.perf_counter_ns()
    attended = attend()
    wait()
    return attended, (time.perf_counter_ns() - began) / 1e3


def block_of(g: ModelGeometry, elem_bytes: int) -> int:
    """How many tokens are worth feeding at once: some, where what is around attention is large."""
    plain = g.n_layers * 3 * g.attention.d_model * g.d_ff + g.vocab_size * g.attention.d_model
    return BLOCK if plain * elem_bytes > LARGE_BYTES else 1
