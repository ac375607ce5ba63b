"""A pretrained model's attention as MLA: which of its keys stay turned, how still the others stand.

    python -m train.decoupled --stories stories_train.txt.gz --held-out stories_val.txt.gz

Writes mla_viz/data/smollm2-decoupled.safetensors, see `mla_viz.model.decoupled`. Components of the
keys are those of a complex PCA at each frequency of RoPE. With g the gradient of the loss with
respect to a score, of labels that the model itself drew, a component stands at the turn that
changes each query's sum of g times score least; what that still changes says how much the
component is needed turned. Continues where it stopped.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from safetensors.torch import save_file
from torch import Tensor

from mla_viz.attention.ops import causal_softmax, merge_heads, rope_angles
from mla_viz.config import GQAGeometry
from mla_viz.model.decoder import ModelWeights
from mla_viz.model.decoupled import COMPONENTS, as_complex, as_real
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.conversion import (
    LEAST,
    SOURCE,
    WINDOWS,
    Sums,
    arguments,
    gathered,
    logits_by,
    original,
    to_drawn,
)
from train.run import LOGS, write_json

KEPT = (8, 16, 24, 32, 40, 48, 64)  # pairs, of which the log tells what the others cost


@dataclass
class Moments:
    """Sums of products over tokens, by layer.

    `zz` is of [keys before RoPE | values]; `gg` of the gradients with respect to [each query head's
    keys, were they not turned | values]; `ss`, by query head, of each query's sum of gradient times
    score, apart by [turned | not turned], key/value head whose keys are met, and frequency.
    """

    tokens: int
    zz: Float[np.ndarray, "layers both both"]
    gg: Float[np.ndarray, "layers wide wide"]
    ss: Float[np.ndarray, "layers n_heads both both"]

    __add__ = Sums.__add__

    @classmethod
    def none(cls, layers: int, g: GQAGeometry) -> "Moments":
        """Before the first window."""
        both, wide = 2 * g.n_kv_heads * g.head_dim, (g.n_heads + g.n_kv_heads) * g.head_dim
        shapes = (both, both), (wide, wide), (g.n_heads, both, both)
        return cls(0, *(np.zeros((layers, *shape), dtype=np.float32) for shape in shapes))


# What is captured.


def captured(weights: ModelWeights, ids: Int[Tensor, " seq"], seed: int) -> Moments:
    """One window's sums."""
    g, seen = weights.geometry.attention, []
    rope = rope_angles(torch.arange(len(ids)), g.rope_width, g.rope_theta, weights.embedding.dtype)

    def attend(layer: int, h: Tensor) -> Tensor:
        w = weights.blocks[layer].attention
        q, k, v = h @ w.W_Q, h @ w.W_K, h @ w.W_V
        turned_q, turned_k = (as_real(as_complex(x) * rope) for x in (q, k))
        grouped = turned_q.unflatten(0, (g.n_kv_heads, -1))
        scores = (grouped @ turned_k.unsqueeze(1).mT).flatten(0, 1) * g.softmax_scale
        for watched in (v, scores):
            watched.requires_grad_().retain_grad()
        seen.append((q, k, v, scores))
        probs = causal_softmax(scores).unflatten(0, (g.n_kv_heads, -1))
        return merge_heads((probs @ v.unsqueeze(1)).flatten(0, 1), w.W_O)

    to_drawn(logits_by(weights, ids, attend).log_softmax(-1), seed)
    with torch.no_grad():
        products = [_products(*each, rope, g.softmax_scale) for each in seen]
    return Moments(len(ids), *(np.stack(each) for each in zip(*products, strict=True)))


def _products(
    q: Tensor, k: Tensor, v: Tensor, scores: Tensor, rope: Tensor, scale: float
) -> list[Float[np.ndarray, "..."]]:
    """One layer's `zz`, `gg` and `ss`, of one window."""
    z = torch.cat([_flat(k), _flat(v)], -1)
    queries = as_complex(q) * scale
    gradients = torch.cat([_flat(scores.grad.mT @ as_real(queries.conj())), _flat(v.grad)], -1)
    keys = torch.stack([as_real(as_complex(k) * rope), k])
    met = scores.grad @ keys.flatten(0, 1).transpose(0, 1).flatten(1)
    met = as_complex(met.unflatten(-1, keys.shape[:2] + keys.shape[3:]))
    asking = torch.stack([queries * rope, queries], -2).conj().unsqueeze(-2)
    shares = as_real(met * asking).flatten(2)
    return [(x.mT @ x).numpy() for x in (z, gradients, shares)]


def _flat(x: Float[Tensor, "heads seq width"]) -> Float[Tensor, "seq both"]:
    """All heads beside one another."""
    return x.transpose(0, 1).flatten(1)


# What follows from it.


@dataclass
class Fitted:
    """One layer's part of the file, and what its components cost where they are not turned."""

    tensors: dict[str, np.ndarray]
    costs: Float[np.ndarray, " components"]


def fitted(sums: Moments, layer: int, g: GQAGeometry) -> Fitted:
    """One layer's part of what is written."""
    zz, gg, ss = (
        part[layer].astype(np.float64) / sums.tokens for part in (sums.zz, sums.gg, sums.ss)
    )
    encoder = pca(zz, g)
    half, keys = len(encoder), g.n_kv_heads * g.head_dim
    reading = encoder.conj().transpose(2, 0, 1).repeat(g.n_heads // g.n_kv_heads, 0)
    found = []
    for share, read in zip(ss, reading, strict=True):
        own = real_map(np.einsum("fm,fmk,fx->fmkx", read, encoder, np.eye(half)))
        of_components = np.kron(np.eye(2), own)
        found.append(average_turns(of_components @ share @ of_components.T))
    turns, lost = (np.stack(each) for each in zip(*found, strict=True))
    order, costs = least_needed(lost.sum(0))

    turns = turns.reshape(reading.shape)
    to_components = real_map(np.einsum("fmk,fx->fmkx", encoder, np.eye(half)))
    to_gradients = real_map(np.einsum("hfm,fx->fmhx", turns * reading, np.eye(half)))
    to_gradients[1::2] *= -1  # a gradient is the conjugate of its product
    places = np.r_[keys : 2 * keys, np.stack([2 * order, 2 * order + 1], 1).ravel()]
    spread = root(_beside_values(to_components, keys, zz)[np.ix_(places, places)])
    loss = root(_beside_values(to_gradients, keys, gg)[np.ix_(places, places)])
    roots = np.zeros((2 * keys, 2 * keys + 1))
    roots[:, :-1] += loss / loss.max()
    roots[:, 1:] += spread.T
    return Fitted(
        {"encoder": _pairs(encoder), "turns": _pairs(turns), "order": order, "roots": roots}, costs
    )


def pca(zz: Float[np.ndarray, "both both"], g: GQAGeometry) -> Complex[np.ndarray, "half m k"]:
    """At each frequency the principal components of the keys of all heads, the largest first."""
    keys = g.n_kv_heads * g.head_dim
    by_part = zz[:keys, :keys].reshape(2 * (g.n_kv_heads, g.head_dim // 2, 2))
    moment = np.einsum("gfahfb->fghab", by_part)
    moment = moment[..., 0, 0] + moment[..., 1, 1] + 1j * (moment[..., 1, 0] - moment[..., 0, 1])
    return np.linalg.eigh(moment).eigenvectors[..., ::-1].conj().swapaxes(1, 2)


def real_map(made: Complex[np.ndarray, "f m k x"]) -> Float[np.ndarray, "rows columns"]:
    """A complex matrix from columns (k, x) to rows (f, m), on pairs of real numbers."""
    parts = np.array([[made.real, -made.imag], [made.imag, made.real]])
    rows = 2 * made.shape[0] * made.shape[1]
    return parts.transpose(2, 3, 0, 4, 5, 1).reshape(rows, -1)


def average_turns(
    moment: Float[np.ndarray, "twice twice"],
) -> tuple[Complex[np.ndarray, " components"], Float[np.ndarray, "components components"]]:
    """The turn at which each component stands best, and the moments of what that changes.

    `moment` is of the complex shares [turned | not turned] of the components in a head's scores.
    """
    n = len(moment) // 4
    at = np.arange(n)
    still = moment[2 * n :, 2 * n :].reshape(n, 2, n, 2)[at, :, at]
    both = moment[: 2 * n : 2, 2 * n :].reshape(n, n, 2)[at, at]
    still = still + LEAST * still.trace(axis1=1, axis2=2)[:, None, None] * np.eye(2)
    best = np.linalg.solve(still, both[..., None])[..., 0]
    changed = np.zeros((n, 4 * n))
    changed[at, 2 * at] = 1
    changed[at, 2 * n + 2 * at], changed[at, 2 * n + 2 * at + 1] = -best.T
    return best[:, 0] - 1j * best[:, 1], changed @ moment @ changed.T


def least_needed(
    lost: Float[np.ndarray, "components components"],
) -> tuple[Int[np.ndarray, " components"], Float[np.ndarray, " components"]]:
    """Components from the one that is needed turned least, and what all up to each cost together.

    Each next one is that which adds least, the moments `lost` of what they change being known.
    """
    left, order, costs, total = list(range(len(lost))), [], [], 0.0
    while left:
        added = lost[left, left] + 2 * lost[np.ix_(left, order)].sum(1)
        total += added.min()
        costs.append(total)
        order.append(left.pop(int(added.argmin())))
    return np.array(order), np.array(costs)


def _beside_values(
    keys_to: Float[np.ndarray, "rows columns"], values: int, moment: Float[np.ndarray, "n n"]
) -> Float[np.ndarray, "both both"]:
    """The moments of [what is made of keys | values as they are]."""
    rows, columns = keys_to.shape
    whole = np.eye(rows + values, columns + values, columns - rows)
    whole[:rows, :columns] = keys_to
    return whole @ moment @ whole.T


def root(moment: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Its lower triangular root."""
    return np.linalg.cholesky(moment + LEAST * np.diag(np.diag(moment)))


def _pairs(x: Complex[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.stack([x.real, x.imag], -1)


def written(each: list[Fitted]) -> dict[str, Tensor]:
    """All layers as they are kept: in half precision, an order as bytes."""
    kinds = {"order": torch.uint8}
    return {
        name: torch.from_numpy(np.stack([one.tensors[name] for one in each]))
        .to(kinds.get(name, torch.float16))
        .contiguous()
        for name in each[0].tensors
    }


def main() -> None:
    """Capture what is not captured yet, write the components and the log."""
    args, weights = arguments(), original()
    g, layers = weights.geometry.attention, weights.geometry.n_layers
    one, none = partial(captured, weights), Moments.none(layers, g)
    kinds = [gathered("decoupled", kind, none, one, args) for kind in WINDOWS]
    sums = sum(kinds[1:], kinds[0])
    each = [fitted(sums, layer, g) for layer in range(layers)]
    save_file(written(each), shipped(COMPONENTS.format(SOURCE)))
    write_checksums()
    costs = {pairs: sum(one.costs[-pairs - 1] for one in each) / 2 for pairs in KEPT}
    log = {
        "windows": {kind: WINDOWS[kind][0] for kind in WINDOWS},
        "tokens": sums.tokens,
        "cost_where_pairs_are_turned": {pairs: round(cost, 5) for pairs, cost in costs.items()},
    }
    write_json(LOGS / f"{SOURCE}-decoupled.json", log)


if __name__ == "__main__":
    main()
