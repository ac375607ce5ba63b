"""What a mechanism keeps between tokens: preallocated rows that grow by doubling.

Appending copies only the new rows, and everything once at each doubling: O(1) amortised.
Readers get views of the filled part, never copies.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mla_viz.attention.core import PAGE, Pages

FIRST_CAPACITY = 16
LONG, ODD = 1024, 64  # tokens from which columns have room for some more


class Rows:
    """A growing `*lead seq width` tensor of numbers of any kind."""

    def __init__(
        self, lead: Sequence[int], width: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        like = torch.empty(*lead, 0, width, dtype=dtype, device=device)
        self._buffer, self.seq_len = self._room(like, FIRST_CAPACITY), 0

    @staticmethod
    def _room(like: Shaped[Tensor, "*lead held width"], capacity: int) -> Shaped[Tensor, "..."]:
        """Unwritten rows, as many as asked for at least."""
        return like.new_empty(*like.shape[:-2], capacity, like.shape[-1])

    def append(self, rows: Shaped[Tensor, "*lead new width"]) -> None:
        """Write the rows behind the filled part."""
        needed = self.seq_len + rows.shape[-2]
        capacity = self._buffer.shape[-2]
        while capacity < needed:
            capacity *= 2
        self.reserve(capacity)
        self._buffer[..., self.seq_len : needed, :] = rows
        self.seq_len = needed

    def reserve(self, capacity: int) -> None:
        """Make room for so many rows in all."""
        if capacity > self._buffer.shape[-2]:
            grown = self._room(self._buffer, capacity)
            grown[..., : self.seq_len, :] = self.filled
            self._buffer = grown

    def forget(self, tokens: int) -> None:
        """Take the newest rows away."""
        self.seq_len -= tokens

    @property
    def filled(self) -> Shaped[Tensor, "*lead seq width"]:
        """View of the rows written so far."""
        return self._buffer[..., : self.seq_len, :]

    @property
    def allocated(self) -> Shaped[Tensor, "*lead capacity width"]:
        """The whole buffer, its unwritten end included."""
        return self._buffer

    @property
    def filled_bytes(self) -> int:
        """Bytes of the rows written so far."""
        return self.filled.nbytes

    @property
    def allocated_bytes(self) -> int:
        """Bytes held, capacity for tokens to come included."""
        return self.allocated.nbytes


class Columns(Rows):
    """Rows that lie column by column, so that a product over tokens need not turn them first."""

    @staticmethod
    def _room(like: Shaped[Tensor, "*lead held width"], capacity: int) -> Shaped[Tensor, "..."]:
        """Rows of zeros; long columns never lie a power of two apart, which is read slowly.

        In half precision a product over an odd number of tokens reads one more, times nothing: what
        lies there must be finite.
        """
        odd = ODD if capacity >= LONG else 0
        return like.new_zeros(*like.shape[:-2], like.shape[-1], capacity + odd).mT


class KeyPages:
    """Rows that grow page by page, and lie in each as `core.Pages` has them."""

    def __init__(
        self, lead: Sequence[int], width: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self._buffer = torch.empty(*lead, 1, width, PAGE, dtype=dtype, device=device)
        self.seq_len = 0

    def append(self, rows: Float[Tensor, "*lead new width"]) -> None:
        """Write the rows behind the filled part."""
        needed = self.seq_len + rows.shape[-2]
        capacity = self._buffer.shape[-3] * PAGE
        while capacity < needed:
            capacity *= 2
        self.reserve(capacity)
        for first in range(self.seq_len - self.seq_len % PAGE, needed, PAGE):
            begin, end = max(first, self.seq_len), min(first + PAGE, needed)
            new = rows[..., begin - self.seq_len : end - self.seq_len, :]
            self._buffer[..., first // PAGE, :, begin - first : end - first] = new.mT
        self.seq_len = needed

    def reserve(self, capacity: int) -> None:
        """Make room for so many rows in all."""
        *lead, held, width, page = self._buffer.shape
        pages = -(-capacity // page)
        if pages > held:
            grown = self._buffer.new_empty(*lead, pages, width, page)
            grown[..., :held, :, :] = self._buffer
            self._buffer = grown

    def forget(self, tokens: int) -> None:
        """Take the newest rows away."""
        self.seq_len -= tokens

    @property
    def pages(self) -> Pages:
        """View of the pages written so far."""
        return Pages(self._buffer[..., : -(-self.seq_len // PAGE), :, :], self.seq_len)

    @property
    def filled(self) -> Float[Tensor, "*lead seq width"]:
        """The rows written so far: a copy."""
        return self.pages.rows()

    @property
    def allocated(self) -> Float[Tensor, "*lead capacity width"]:
        """All rows, the unwritten ones included: a copy."""
        return self._buffer.mT.flatten(-3, -2)

    @property
    def filled_bytes(self) -> int:
        """Bytes of the rows written so far."""
        *lead, _, width, _ = self._buffer.shape
        return prod(lead) * self.seq_len * width * self._buffer.itemsize

    @property
    def allocated_bytes(self) -> int:
        """Bytes held, capacity for tokens to come included."""
        return self._buffer.nbytes


class HeadCache:
    """Keys and values of every (key/value) head.

    On a processor they lie column by column; in half precision, with one query a head, keys lie in
    pages and values in rows. Each is what `core` multiplies fastest.
    """

    def __init__(
        self,
        lead: Sequence[int],
        widths: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str,
        one_query: bool = False,
    ) -> None:
        qk, v = widths
        on_cpu = torch.device(device).type == "cpu"
        paged = one_query and _half_on_cpu(dtype, device)
        lie = Columns if on_cpu and not paged else Rows
        self._k = (KeyPages if paged else lie)(lead, qk, dtype, device)
        self._v = lie(lead, v, dtype, device)

    def append(
        self, k: Float[Tensor, "*batch n_heads new qk"], v: Float[Tensor, "*batch n_heads new v"]
    ) -> None:
        """Add the keys and values of new tokens."""
        self._k.append(k)
        self._v.append(v)

    def reserve(self, capacity: int) -> None:
        """Make room for so many tokens in all."""
        self._k.reserve(capacity)
        self._v.reserve(capacity)

    def forget(self, tokens: int) -> None:
        """Take the newest tokens away."""
        self._k.forget(tokens)
        self._v.forget(tokens)

    @property
    def k(self) -> Float[Tensor, "*batch n_heads seq qk"]:
        """All keys: a view, or a copy where they lie in pages."""
        return self._k.filled

    @property
    def keys(self) -> Float[Tensor, "*batch n_heads seq qk"] | Pages:
        """All keys as they lie: a view."""
        return self._k.pages if isinstance(self._k, KeyPages) else self._k.filled

    @property
    def v(self) -> Float[Tensor, "*batch n_heads seq v"]:
        """View of all values."""
        return self._v.filled

    @property
    def filled_bytes(self) -> int:
        """Bytes of the rows written so far."""
        return self._k.filled_bytes + self._v.filled_bytes

    @property
    def allocated_bytes(self) -> int:
        """Bytes held, capacity for tokens to come included."""
        return self._k.allocated_bytes + self._v.allocated_bytes

    def keep(self, how: Callable[[Rows, tuple[int, int]], Any], rope: int) -> None:
        """Keep rows in another way, before there are any.

        `how` makes rows like those given out of a stretch of content and one of RoPE, whose widths
        it is told; keys end in `rope` columns of the latter, values have none.
        """
        qk, v = (rows.allocated.shape[-1] for rows in (self._k, self._v))
        self._k, self._v = how(self._k, (qk - rope, rope)), how(self._v, (v, 0))

    def table(self) -> Float[Tensor, "*batch seq elems"]:
        """One row a token: head by head its key, then its value. A copy, for showing."""
        return torch.cat([self.k, self.v], -1).transpose(-3, -2).flatten(-2)


class LatentCache:
    """One latent and one rotated key a token, side by side in a single row.

    The absorbed form attends to whole rows as keys and to their first part as values. For it, rows
    in half precision lie column by column on a processor; not where none are `mixed` as they lie.
    """

    def __init__(
        self,
        lead: Sequence[int],
        kv_lora_rank: int,
        qk_rope_head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        mixed: bool = True,
    ) -> None:
        self._kv_lora_rank = kv_lora_rank
        rows = Columns if mixed and _half_on_cpu(dtype, device) else Rows
        self._rows = rows(lead, kv_lora_rank + qk_rope_head_dim, dtype, device)

    def append(
        self,
        c_kv: Float[Tensor, "*batch new kv_lora_rank"],
        k_rope: Float[Tensor, "*batch new qk_rope"],
    ) -> None:
        """Add the normalised latent and the rotated key of new tokens."""
        self._rows.append(torch.cat([c_kv, k_rope], -1))

    def reserve(self, capacity: int) -> None:
        """Make room for so many tokens in all."""
        self._rows.reserve(capacity)

    def forget(self, tokens: int) -> None:
        """Take the newest tokens away."""
        self._rows.forget(tokens)

    @property
    def latent_and_rope(self) -> Float[Tensor, "*batch seq both"]:
        """View of whole rows: [c_kv | k_rope]."""
        return self._rows.filled

    @property
    def c_kv(self) -> Float[Tensor, "*batch seq kv_lora_rank"]:
        """View of the latents: the same memory as the first part of the keys."""
        return self._rows.filled[..., : self._kv_lora_rank]

    @property
    def k_rope(self) -> Float[Tensor, "*batch seq qk_rope"]:
        """View of the rotated keys that all heads share."""
        return self._rows.filled[..., self._kv_lora_rank :]

    @property
    def filled_bytes(self) -> int:
        """Bytes of the rows written so far."""
        return self._rows.filled_bytes

    @property
    def allocated_bytes(self) -> int:
        """Bytes held, capacity for tokens to come included."""
        return self._rows.allocated_bytes

    def keep(self, how: Callable[[Rows, tuple[int, int]], Any], rope: int) -> None:
        """Keep rows in another way, before there are any; as `HeadCache.keep`."""
        self._rows = how(self._rows, (self._kv_lora_rank, rope))

    def table(self) -> Float[Tensor, "*batch seq elems"]:
        """One row a token: latent, then key."""
        return self.latent_and_rope


def _half_on_cpu(dtype: torch.dtype, device: torch.device | str) -> bool:
    return dtype.itemsize == 2 and torch.device(device).type == "cpu"


class NoCache:
    """What `recompute` keeps: nothing."""

    filled_bytes = 0
    allocated_bytes = 0

    def table(self) -> None:
        """There are no rows."""


Cache = HeadCache | LatentCache | NoCache
