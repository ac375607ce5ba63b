"""The inside of a step: the vectors that attention made on its way, and one head's view of them.

Keys and values are the mechanism's own where it holds them, and are made from the latents where it
rebuilds them at each step.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mla_viz.config import AttentionGeometry, GQAGeometry, MLAGeometry
from mla_viz.run.record import Record

Vector = Float[np.ndarray, " width"]
KEPT = ("x", "q", "q_latent", "mix", "o_head", "out")
GAPS = ("x", "latents", "q", "scores", "probs", "o_head", "out")


@dataclass(frozen=True, eq=False)
class Vectors(Record):
    """What one side's attention made of its newest token, in float32; None where it has no such.

    `q` and `q_latent` are rotated, `mix` is what the weights make of the values, `out` the sum over
    heads: a row a kept step. `latents` are [c_kv | k_rope], `heads` the cached [k | v] of key/value
    heads, of every step. Latents narrower than the widest layer's have zeros behind them.
    """

    steps: Int[np.ndarray, " kept"]
    x: Float[np.ndarray, "kept n_layers d_model"]
    q: Float[np.ndarray, "kept n_layers n_heads qk"] | None
    q_latent: Float[np.ndarray, "kept n_layers n_heads both"] | None
    mix: Float[np.ndarray, "kept n_layers n_heads mixed"]
    o_head: Float[np.ndarray, "kept n_layers n_heads v_head_dim"] | None
    out: Float[np.ndarray, "kept n_layers d_model"]
    latents: Float[np.ndarray, "steps n_layers both"] | None
    heads: Float[np.ndarray, "n_layers steps n_kv_heads k_and_v"] | None
    W_UK: Float[np.ndarray, "n_layers n_heads kv_lora_rank qk_nope_head_dim"] | None
    W_UV: Float[np.ndarray, "n_layers n_heads kv_lora_rank v_head_dim"] | None


@dataclass(frozen=True, eq=False)
class Gaps(Record):
    """The largest |left - right| in each vector, in the run's dtype; None where a side has none."""

    x: Float[np.ndarray, "kept n_layers"]
    latents: Float[np.ndarray, "kept n_layers"] | None
    q: Float[np.ndarray, "kept n_layers n_heads"] | None
    scores: Float[np.ndarray, "kept n_layers n_heads"]
    probs: Float[np.ndarray, "kept n_layers n_heads"]
    o_head: Float[np.ndarray, "kept n_layers n_heads"] | None
    out: Float[np.ndarray, "kept n_layers"]


@dataclass(frozen=True, eq=False)
class Lane(Record):
    """One side at one step, in one head of one layer; None where a mechanism has no such vector.

    `scores` are scaled by the softmax scale; `mix` is probs @ values; `o_head` the head's
    output; `x`, `c_kv`, `k_rope` and `out` belong to the whole layer.
    """

    x: Float[np.ndarray, " d_model"]
    q: Float[np.ndarray, " qk"] | None
    c_kv: Float[np.ndarray, " kv_lora_rank"] | None
    k_rope: Float[np.ndarray, " qk_rope"] | None
    q_latent: Float[np.ndarray, " both"] | None
    keys: Float[np.ndarray, "tokens k"]
    values: Float[np.ndarray, "tokens mixed"]
    scores: Float[np.ndarray, " tokens"]
    probs: Float[np.ndarray, " tokens"]
    mix: Float[np.ndarray, " mixed"]
    o_head: Float[np.ndarray, " v"] | None
    out: Float[np.ndarray, " d_model"]


@dataclass(frozen=True, eq=False)
class Inside(Record):
    """Both sides at one step, layer and head."""

    step: int
    layer: int
    head: int
    left: Lane
    right: Lane


def lane(
    v: Vectors,
    g: AttentionGeometry,
    scores: Float[np.ndarray, " tokens"],
    probs: Float[np.ndarray, " tokens"],
    place: tuple[int, int, int],
) -> Lane:
    """One side at (step, layer, head), a step that was kept, with that head's attention there."""
    step, layer, head = place
    here = int(np.flatnonzero(v.steps == step)[0]), layer
    latent = None if v.latents is None else _latents(v, g, step, layer)
    c_kv, k_rope = (None, None) if latent is None else _split(latent, g.kv_lora_rank)
    keys, values = keys_and_values(v, g, step + 1, layer, head)
    return Lane(
        x=v.x[here],
        q=_of(v.q, *here, head),
        c_kv=c_kv,
        k_rope=k_rope,
        q_latent=_of(v.q_latent, *here, head),
        keys=keys,
        values=values,
        scores=scores,
        probs=probs,
        mix=v.mix[(*here, head)],
        o_head=_of(v.o_head, *here, head),
        out=v.out[here],
    )


def _of(array: np.ndarray | None, *place: int) -> np.ndarray | None:
    return None if array is None else array[place]


def _latents(v: Vectors, g: AttentionGeometry, steps: int | slice, layer: int) -> np.ndarray:
    """A layer's [c_kv | k_rope], as wide as it is there."""
    return v.latents[steps, layer, ..., : g.kv_lora_rank + getattr(g, "qk_rope_head_dim", 0)]


def _split(rows: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    return rows[..., :first], rows[..., first:]


def keys_and_values(
    v: Vectors, g: AttentionGeometry, tokens: int, layer: int, head: int
) -> tuple[Float[np.ndarray, "tokens k"], Float[np.ndarray, "tokens v"]]:
    """What a head's query is multiplied by, and what its weights mix, of the first tokens."""
    if v.heads is not None:
        group = g.n_heads // v.heads.shape[2]
        width = g.head_dim if isinstance(g, GQAGeometry) else g.qk_head_dim
        return _split(v.heads[layer, :tokens, head // group], width)
    latents = _latents(v, g, slice(tokens), layer)
    c_kv, k_rope = _split(latents, g.kv_lora_rank)
    if v.q_latent is not None:
        return latents, c_kv
    keys = np.concatenate([c_kv @ v.W_UK[layer, head], k_rope], -1)
    return keys, c_kv @ v.W_UV[layer, head]


def step_bytes(g: AttentionGeometry, n_layers: int) -> int:
    """Bytes of one step's vectors on one side, at most."""
    if isinstance(g, MLAGeometry):
        both = g.kv_lora_rank + g.qk_rope_head_dim
        heads, shared = g.qk_head_dim + both + g.kv_lora_rank + g.v_head_dim, both
    else:
        heads, shared = 3 * g.head_dim, getattr(g, "kv_lora_rank", 0)
    return 4 * n_layers * (2 * g.d_model + g.n_heads * heads + shared)
