"""The tensor operations that mechanisms share: RMSNorm, RoPE, causal softmax attention.

Half-precision inputs are normalised and soft-maxed in float32, as DeepSeek's code does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Float64, Int
from torch import Tensor

from mla_viz.attention.core import LARGE, Pages, attend_one, mix, row_times, scores_of

PASSING = (
    *("q", "q_nope", "q_rope", "q_latent"),
    *("c_kv", "k_rope", "k", "v"),
    *("scores", "probs", "o_latent", "o_head"),
)
OF_QUERIES = frozenset(
    ("q", "q_nope", "q_rope", "q_latent", "scores", "probs", "o_latent", "o_head")
)


class Watch:
    """Keeps what attention computes on the way, by the names asked for; the rest costs nothing.

    Names are those in PASSING: `c_kv` and `k_rope` of the new tokens, `k` and `v` of all tokens as
    they are scored and mixed. Each mechanism has some of the others: only those that move W_UK to
    the query make a `q_latent`, and an `o_latent` at the other end. With `newest`, the row of the
    last query alone is kept of what has a row for each: scores of a whole prefix are its square.
    """

    def __init__(self, *names: str, newest: bool = False) -> None:
        unknown = [name for name in names if name not in PASSING]
        if unknown:
            raise ValueError(f"watch: expected names of {', '.join(PASSING)}, got {unknown[0]!r}")
        self._names, self._newest = names, newest
        self.seen: dict[str, Tensor] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing was asked for."""
        return not self._names

    def wants(self, *names: str) -> bool:
        """Whether one of them was asked for."""
        return any(name in self._names for name in names)

    def __call__(self, **tensors: Tensor) -> None:
        """Keep those that were asked for."""
        for name in self._names:
            if name in tensors:
                self.seen[name] = self._kept(name, tensors[name])

    def _kept(self, name: str, tensor: Tensor) -> Tensor:
        if self._newest and name in OF_QUERIES and tensor.shape[-2] > 1:
            return tensor[..., -1:, :].clone()
        return tensor


@dataclass(frozen=True)
class Attended:
    """What one attention layer computed for the queries it was given.

    `seen` holds what was watched on the way, by name; `working_bytes` counts keys and values that
    were rebuilt for this call and thrown away.
    """

    out: Float[Tensor, "*batch seq d_model"]
    seen: Mapping[str, Tensor]
    working_bytes: int = 0


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The tensor in at least float32."""
    return x.float() if x.element_size() < 4 else x


def rms_norm(
    x: Float[Tensor, "*lead width"], gain: Float[Tensor, " width"], eps: float
) -> Float[Tensor, "*lead width"]:
    """x / sqrt(mean(x^2) + eps) * gain."""
    full = wide(x)
    return (full * torch.rsqrt(full.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * gain


def rope_angles(
    pos: Int[Tensor, " seq"], width: int, theta: float, dtype: torch.dtype
) -> Complex[Tensor, "seq half"]:
    """e^(j * pos * theta^(-2i/width)) for pair i, its parts in at least float32.

    Worked: width 4, theta 10000, pos 2 turns the first pair by 2 and the second by 0.02 radians.
    """
    pairs = torch.arange(0, width, 2, dtype=torch.float64, device=pos.device)
    return turns(pos, theta ** (-pairs / max(width, 1)), dtype)


def turns(
    pos: Int[Tensor, " seq"], frequencies: Float64[Tensor, " half"], dtype: torch.dtype
) -> Complex[Tensor, "seq half"]:
    """e^(j * pos * frequency) for each pair's frequency, in radians a position."""
    angles = pos.double()[:, None] * frequencies
    parts = torch.float32 if dtype.itemsize < 4 else dtype
    return torch.polar(torch.ones_like(angles), angles).to(parts.to_complex())


def rotate(
    x: Float[Tensor, "*lead seq width"], rope: Complex[Tensor, "seq half"]
) -> Float[Tensor, "*lead seq width"]:
    """Apply RoPE to interleaved pairs (x0, x1), (x2, x3), ...; the output stays interleaved.

    Source: deepseek-ai/DeepSeek-V3 inference/model.py, apply_rotary_emb.
    """
    if x.shape[-1] == 0:
        return x
    pairs = torch.view_as_complex(wide(x).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rope).flatten(-2).to(x.dtype)


def causal_softmax(scores: Float[Tensor, "*lead seq total"]) -> Float[Tensor, "*lead seq total"]:
    """Softmax over the keys that a query may see; the last query sees all of them."""
    seq, total = scores.shape[-2:]
    full = wide(scores)
    if seq > 1:
        future = torch.ones(seq, total, dtype=torch.bool, device=scores.device)
        full = full.masked_fill(future.triu(total - seq + 1), -torch.inf)
    return full.softmax(-1).to(scores.dtype)


def attend_grouped(
    q: Float[Tensor, "*batch n_heads seq qk"],
    k: Float[Tensor, "*batch n_kv_heads total qk"] | Pages,
    v: Float[Tensor, "*batch n_kv_heads total v"],
    scale: float,
    watch: Watch,
) -> Float[Tensor, "*batch n_heads seq v"]:
    """Softmax(q k^T scale) v per head; each key/value head serves n_heads / n_kv_heads.

    The queries of a group are one matrix, so that a shared key is read once for all of them.
    """
    n_heads, seq = q.shape[-3:-1]
    n_kv_heads = v.shape[-3]
    one = seq == 1 and q.is_cpu and q.numel() > 0
    if isinstance(k, Pages) and not (one and n_heads == n_kv_heads and not watch.wants("k")):
        k = k.rows()
    grouped = q.unflatten(-3, (n_kv_heads, -1)).flatten(-3, -2)
    if one:
        keys = k.flat() if isinstance(k, Pages) else k.flatten(0, -3)
        kept = watch.wants("scores")
        flat = attend_one(grouped.flatten(0, -3), keys, v.flatten(0, -3), scale, kept)
        made = zip(("out", "scores", "probs"), flat, strict=True)
        seen = {name: x.reshape(*q.shape[:-1], -1) for name, x in made if x is not None}
        out = seen.pop("out")
        watch(v=v, **seen)
        if not isinstance(k, Pages):
            watch(k=k)
        return out
    scores = (grouped @ k.mT).unflatten(-2, (-1, seq)).flatten(-4, -3) * scale
    probs = causal_softmax(scores)
    out = probs.unflatten(-3, (n_kv_heads, -1)).flatten(-3, -2) @ v
    watch(k=k, v=v, scores=scores, probs=probs)
    return out.unflatten(-2, (n_heads // n_kv_heads, seq)).flatten(-4, -3)


def per_head(
    x: Float[Tensor, "*batch some_heads seq inner"],
    W: Float[Tensor, "n_heads inner width"],  # noqa: N803
) -> Float[Tensor, "*batch n_heads seq width"]:
    """x W for every head: x is a head's own, or the same for all.

    A head's rows of all sequences are one matrix, so that its weights are read once. One row
    against large weights is a sum of their rows, or a score of each: see `core`.
    """
    *batch, _, seq, _ = x.shape
    rows = x.movedim(-3, 0).flatten(1, -2).expand(len(W), -1, -1)
    if rows.shape[1] != 1 or W.numel() < LARGE or not x.is_cpu:
        product = rows @ W
    else:
        product = mix(rows, W) if W.stride(-1) == 1 else scores_of(rows, W.mT)
    return product.unflatten(1, (*batch, seq)).movedim(0, -3)


def merge_heads(
    o_head: Float[Tensor, "*batch n_heads seq v"], W_O: Float[Tensor, "n_heads v d_model"]
) -> Float[Tensor, "*batch seq d_model"]:
    """Sum over heads of o_head @ W_O, as one matrix product."""
    return times(o_head.transpose(-3, -2).flatten(-2), W_O.flatten(0, 1))


def times(
    x: Float[Tensor, "*batch seq inner"],
    W: Float[Tensor, "inner width"],  # noqa: N803
) -> Float[Tensor, "*batch seq width"]:
    """x W; one row against large weights is a sum of their rows: see `core`."""
    one = x.shape[:-1].numel() == 1 and x.is_cpu and x.element_size() < 8
    if not one or W.numel() < LARGE or not W.is_contiguous():
        return x @ W
    return row_times(x.flatten(), W).reshape(*x.shape[:-1], -1)
