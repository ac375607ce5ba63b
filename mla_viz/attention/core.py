"""The core of a decoded token on a processor: one query a head over all that is cached.

Which product is made in which order was chosen by measurement (`python -m mla_viz bench`): a
library's time for the same product differs several times with its order and its layout. Knows no
mechanism and no cache.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

MATRIX = 16  # queries of a key from which a product is one of matrices: each key head by itself
LARGE = 1 << 20  # keys or values, in numbers, from which order and layout outweigh another call
BLOCK = 2048  # tokens whose float32 scores are made at a time
PAGE = 128  # tokens whose keys lie together, and fill a processor's registers side by side
BAG = 256  # rows of a large matrix that are summed before the sums are


@dataclass(frozen=True)
class Pages:
    """Keys of `total` tokens in pages, each page's tokens side by side.

    In half precision one query is scored four times faster so: a score is then a sum of rows,
    while a library's product of few bfloat16 rows uses a part of what memory gives.
    """

    columns: Float[Tensor, "*lead pages qk page"]
    total: int

    def rows(self) -> Float[Tensor, "*lead total qk"]:
        """A row a token: a copy."""
        return self.columns.mT.flatten(-3, -2)[..., : self.total, :]

    def flat(self) -> "Pages":
        """All lead axes as one."""
        return Pages(self.columns.flatten(0, -4), self.total)


def attend_one(
    q: Float[Tensor, "n queries qk"],
    k: Float[Tensor, "n total qk"] | Pages,
    v: Float[Tensor, "n total v"],
    scale: float,
    keep_scores: bool = True,
) -> tuple[
    Float[Tensor, "n queries v"],
    Float[Tensor, "n queries total"] | None,
    Float[Tensor, "n queries total"],
]:
    """Softmax(q k^T scale) v, the scores and the probabilities; every query sees every token.

    The scale goes to the queries, which are few. Softmax sums in float32 at least: PyTorch does so
    inside, without a copy. Scores that nobody keeps become the probabilities in place: fresh memory
    costs more than softmax does.
    """
    score = _scores_of_pages if isinstance(k, Pages) else scores_of
    scores = score(q * scale, k)
    probs = torch.softmax(scores, -1, out=None if keep_scores else scores)
    return mix(probs, v), scores if keep_scores else None, probs


def scores_of(
    q: Float[Tensor, "n queries qk"], k: Float[Tensor, "n total qk"]
) -> Float[Tensor, "n queries total"]:
    """Each head's q k^T; in float32, keys that come first are read as fast as memory gives them."""
    half = q.element_size() == 2
    if k.stride(-2) == 1 and len(q) > 1 and not (half and _by_itself(q)):
        return _keys_first(q, k) if q.shape[1] > 1 else q @ k.mT
    if _by_itself(q):
        return _each(_blockwise if _cached_first(k) else torch.mm, q, k.mT)
    return (k @ q.mT).mT if _cached_first(k) else q @ k.mT


def _keys_first(
    q: Float[Tensor, "n queries qk"], k: Float[Tensor, "n total qk"]
) -> Float[Tensor, "n queries total"]:
    """Each head's k q^T, turned; half precision has it faster one head after another."""
    if q.element_size() > 2:
        return q @ k.mT if _mkl_at_home() else (k @ q.mT).mT
    return torch.stack([(keys @ own.T).T for own, keys in zip(q, k, strict=True)])


def _cached_first(cached: Float[Tensor, "n total width"]) -> bool:
    """Whether float32 products are faster with what is cached as their first operand."""
    return cached.dtype == torch.float32 and cached.numel() >= LARGE and not _mkl_at_home()


@once
def _mkl_at_home() -> bool:
    """Whether the processor is of MKL's maker: on others it multiplies few rows slowly."""
    linux = Path("/proc/cpuinfo")
    told = linux.read_text(encoding="utf-8") if linux.exists() else platform.processor()
    return "GenuineIntel" in told


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
    made = q.new_empty(len(q), columns.shape[1])
    for into, block in zip(made.split(BLOCK, 1), columns.split(BLOCK, 1), strict=True):
        into.copy_((block.T @ q.T).T)
    return made


def mix(
    probs: Float[Tensor, "n queries total"], v: Float[Tensor, "n total v"]
) -> Float[Tensor, "n queries v"]:
    """Each head's probs v."""
    turned = v.stride(-2) == 1
    if _by_itself(probs) or (turned and probs.shape[1] > 1 and probs.element_size() < 4):
        if _cached_first(v) or turned:
            return _each(torch.mm, v.mT, probs.mT).mT
        return _each(torch.mm, probs, v)
    whole_rows = v.stride(-1) == 1 and v.stride(-2) == v.shape[-1]
    if probs.shape[1] > 1 or not whole_rows or v.numel() < LARGE or v.dtype == torch.float64:
        return probs @ v
    return _sums_of_rows(probs[:, 0], v, v.shape[1])


def _scores_of_pages(q: Float[Tensor, "n 1 qk"], k: Pages) -> Float[Tensor, "n 1 total"]:
    """Each head's q k^T: a page's scores are its rows, one for each number of a key, weighted."""
    n, pages, qk, page = k.columns.shape
    weights = q.expand(n, pages, qk).flatten(1)
    scores = _sums_of_rows(weights, k.columns.flatten(1, 2), qk)
    return scores.reshape(n, 1, pages * page)[..., : k.total]


def row_times(
    x: Float[Tensor, " inner"],
    W: Float[Tensor, "inner width"],  # noqa: N803
) -> Float[Tensor, " width"]:
    """x W of a large matrix whose rows lie whole: bag by bag of rows, then the sum of the bags."""
    if x.element_size() == 4 and len(x) % BAG == 0:
        sums = x.view(-1, 1, BAG) @ W.view(-1, BAG, W.shape[1])
    else:
        sums = _sums_of_rows(x[None], W[None], BAG)[0]
    return sums.sum(0, dtype=torch.promote_types(x.dtype, torch.float32)).flatten().to(x.dtype)


def _sums_of_rows(
    weights: Float[Tensor, "n total"], rows: Float[Tensor, "n total width"], bag: int
) -> Float[Tensor, "n bags width"]:
    """sum_t weights[t] rows[t] over each bag of rows, all read once: faster than a product here.

    2 to 3 times, where a product has one row.
    """
    (n, total, width), apart = rows.shape, rows.stride(0) // rows.shape[-1]
    table = rows.as_strided(((n - 1) * apart + total, width), (width, 1))
    heads, within = (torch.arange(size, dtype=torch.int32) for size in (n, total))
    firsts = torch.arange(0, total, bag, dtype=torch.int32)
    where = (heads[:, None] * apart + within).flatten()
    bags = (heads[:, None] * total + firsts).flatten()
    sums = {"mode": "sum", "per_sample_weights": weights.flatten()}
    return F.embedding_bag(where, table, bags, **sums).unflatten(0, (n, -1))
