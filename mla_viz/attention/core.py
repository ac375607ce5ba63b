"""The core of a decoded token on a processor: one query a head over all that is cached.

Which product is made in which order was chosen by measurement (`python -m mla_viz bench`): a
library's time for the same product differs several times with its order and its layout. Knows no
mechanism and no cache.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

MATRIX = 16  # queries of a key from which a product is one of matrices: each key head by itself
LARGE = 1 << 20  # keys or values, in numbers, from which order and layout outweigh another call
BLOCK = 2048  # tokens whose float32 scores are made at a time


def attend_one(
    q: Float[Tensor, "n queries qk"],
    k: Float[Tensor, "n total qk"],
    v: Float[Tensor, "n total v"],
    scale: float,
) -> tuple[
    Float[Tensor, "n queries v"],
    Float[Tensor, "n queries total"],
    Float[Tensor, "n queries total"],
]:
    """Softmax(q k^T scale) v, the scores and the probabilities; every query sees every token.

    The scale goes to the queries, which are few. Softmax sums in float32 at least: PyTorch does so
    inside, without a copy.
    """
    scores = _scores(q * scale, k)
    probs = scores.softmax(-1)
    return _mix(probs, v), scores, probs


def _scores(
    q: Float[Tensor, "n queries qk"], k: Float[Tensor, "n total qk"]
) -> Float[Tensor, "n queries total"]:
    """Each head's q k^T; in float32, keys that come first are read as fast as memory gives them."""
    if _by_itself(q):
        return _each(_blockwise if _long(k) else torch.mm, q, k.mT)
    return (k @ q.mT).mT if _long(k) else q @ k.mT


def _long(cached: Float[Tensor, "n total width"]) -> bool:
    """Whether float32 products are faster with what is cached as their first operand."""
    return cached.dtype == torch.float32 and cached.numel() >= LARGE


def _each(product: Callable[..., Tensor], left: Tensor, right: Tensor) -> Tensor:
    """Each head's product of matrices; one head's is not copied."""
    heads = [product(*pair) for pair in zip(left, right, strict=True)]
    return heads[0][None] if len(heads) == 1 else torch.stack(heads)


def _by_itself(q: Float[Tensor, "n queries width"]) -> bool:
    """Whether each key head is one product of two matrices, which half precision has faster."""
    return q.shape[1] >= MATRIX or (len(q) == 1 and q.element_size() < 4)


def _blockwise(
    q: Float[Tensor, "queries qk"], columns: Float[Tensor, "qk total"]
) -> Float[Tensor, "queries total"]:
    """q k^T with keys first, block by block."""
    scores = q.new_empty(len(q), columns.shape[1])
    for into, block in zip(scores.split(BLOCK, 1), columns.split(BLOCK, 1), strict=True):
        into.copy_((block.T @ q.T).T)
    return scores


def _columns_first(
    probs: Float[Tensor, "queries total"], v: Float[Tensor, "total v"]
) -> Float[Tensor, "queries v"]:
    """Probs v, as (v^T probs^T)^T."""
    return (v.T @ probs.T).T


def _mix(
    probs: Float[Tensor, "n queries total"], v: Float[Tensor, "n total v"]
) -> Float[Tensor, "n queries v"]:
    """Each head's probs v."""
    if _by_itself(probs):
        return _each(_columns_first if _long(v) else torch.mm, probs, v)
    whole_rows = v.stride(-1) == 1 and v.stride(-2) == v.shape[-1]
    if probs.shape[1] > 1 or not whole_rows or v.numel() < LARGE or v.dtype == torch.float64:
        return probs @ v
    return _sum_of_rows(probs[:, 0], v).unsqueeze(1)


def _sum_of_rows(
    weights: Float[Tensor, "n total"], v: Float[Tensor, "n total v"]
) -> Float[Tensor, "n v"]:
    """sum_t weights[t] v[t] of each head, read once: 2 to 3 times faster than a product here."""
    (n, total, width), apart = v.shape, v.stride(0) // v.shape[-1]
    table = v.as_strided(((n - 1) * apart + total, width), (width, 1))
    heads, tokens = (torch.arange(size, dtype=torch.int32) for size in (n, total))
    rows = heads[:, None] * apart + tokens
    sums = {"mode": "sum", "per_sample_weights": weights.flatten()}
    return F.embedding_bag(rows.flatten(), table, heads * total, **sums)
