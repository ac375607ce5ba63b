"""Caches kept in fewer bits: codes by groups with a scale each, multiplied out where they are read.

How many bits, and how many values share a scale, says `mechanisms.formats`; here are the codes. A
scale is its group's largest value over the largest code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.cache import Cache, NoCache, Rows
from mla_viz.mechanisms.formats import Format

F8 = torch.float8_e4m3fn


def _rounded(codes: Tensor) -> Tensor:
    return codes.round().to(torch.int8)


def _paired(codes: Tensor) -> Tensor:
    """Two codes of four bits in a byte, the first one low; an odd one has a zero beside it."""
    nibbles = codes.round().to(torch.int8)
    if nibbles.shape[-1] % 2:
        nibbles = torch.cat([nibbles, torch.zeros_like(nibbles[..., :1])], -1)
    low, high = nibbles[..., 0::2], nibbles[..., 1::2]
    return (low & 15) | (high << 4)


def _parted(pairs: Tensor) -> Tensor:
    """The codes of `_paired`: shifting back and forth spreads the sign of the low ones."""
    return torch.stack([(pairs << 4) >> 4, pairs >> 4], -1).flatten(-2)


@dataclass(frozen=True)
class Codes:
    """The numbers that stand for values, up to `largest`, and what they and scales are stored in.

    `pack` turns codes as numbers into what is stored, `unpack` gives them back.
    """

    largest: int
    stored: torch.dtype
    pack: Callable[[Tensor], Tensor]
    unpack: Callable[[Tensor], Tensor]


CODES = {
    "int8": Codes(127, torch.int8, _rounded, Tensor.float),
    "fp8": Codes(448, F8, lambda codes: codes.to(F8), Tensor.float),
    "int4": Codes(7, torch.int8, _paired, lambda pairs: _parted(pairs).float()),
}
SCALES = {2: torch.float16, 4: torch.float32}  # by their bytes


class QuantisedRows:
    """Growing rows that are kept in a format; what is read is multiplied out, a copy."""

    def __init__(
        self,
        lead: Sequence[int],
        width: int,
        dtype: torch.dtype,
        device: torch.device | str,
        kept: Format,
    ) -> None:
        self._width, self._dtype, self._group = width, dtype, kept.group
        self._made = CODES[kept.name.removesuffix("_all")]
        self._codes = Rows(lead, -(-width * kept.bits // 8), self._made.stored, device)
        self._scales = Rows(lead, kept.groups(width), SCALES[kept.scale_bytes], device)

    def append(self, rows: Float[Tensor, "*lead new width"]) -> None:
        """Write the rows behind the filled part."""
        largest, kept = self._made.largest, self._scales.filled
        missing = kept.shape[-1] * self._group - self._width
        padded = F.pad(rows.float(), (0, missing)).unflatten(-1, (-1, self._group))
        scales = (padded.abs().amax(-1) / largest).to(kept.dtype)
        divisors = torch.where(scales > 0, scales, 1).float().unsqueeze(-1)
        codes = (padded / divisors).clamp(-largest, largest).flatten(-2)
        self._codes.append(self._made.pack(codes[..., : self._width]))
        self._scales.append(scales)

    def forget(self, tokens: int) -> None:
        """Take the newest rows away."""
        self._codes.forget(tokens)
        self._scales.forget(tokens)

    @property
    def filled(self) -> Float[Tensor, "*lead seq width"]:
        """The rows written so far, as near as the format keeps them."""
        codes = self._made.unpack(self._codes.filled)[..., : self._width]
        scales = self._scales.filled.float().repeat_interleave(self._group, -1)
        return (codes * scales[..., : self._width]).to(self._dtype)

    @property
    def filled_bytes(self) -> int:
        """Bytes of the rows written so far, their scales included."""
        return self._codes.filled.nbytes + self._scales.filled.nbytes

    @property
    def allocated_bytes(self) -> int:
        """Bytes held, capacity for tokens to come included."""
        return self._codes.allocated.nbytes + self._scales.allocated.nbytes


class Stretches:
    """Rows whose content is kept in one way and whose RoPE columns, behind it, in another."""

    def __init__(self, parts: Sequence[Rows | QuantisedRows], widths: Sequence[int]) -> None:
        self._parts, self._widths = parts, widths

    def append(self, rows: Float[Tensor, "*lead new width"]) -> None:
        """Write the rows behind the filled part."""
        for part, stretch in zip(self._parts, rows.split(self._widths, -1), strict=True):
            part.append(stretch)

    def forget(self, tokens: int) -> None:
        """Take the newest rows away."""
        for part in self._parts:
            part.forget(tokens)

    @property
    def filled(self) -> Float[Tensor, "*lead seq width"]:
        """The rows written so far, a copy."""
        return torch.cat([part.filled for part in self._parts], -1)

    @property
    def filled_bytes(self) -> int:
        """Bytes of the rows written so far, their scales included."""
        return sum(part.filled_bytes for part in self._parts)

    @property
    def allocated_bytes(self) -> int:
        """Bytes held, capacity for tokens to come included."""
        return sum(part.allocated_bytes for part in self._parts)


def keep_in(cache: Cache, kept: Format, rope: int) -> None:
    """Have an empty cache keep its rows in a format.

    `rope` is how many columns of a key are RoPE's own: 0 where RoPE turns all of it.
    """

    def how(like: Rows, widths: tuple[int, int]) -> Stretches:
        buffer = like.allocated
        lead, (content, turned) = buffer.shape[:-2], widths
        parts = [QuantisedRows(lead, content, buffer.dtype, buffer.device, kept)]
        if turned and kept.keep_rope:
            parts.append(Rows(lead, turned, buffer.dtype, buffer.device))
        elif turned:
            parts.append(QuantisedRows(lead, turned, buffer.dtype, buffer.device, kept))
        return Stretches(parts, [width for width in widths if width])

    if not isinstance(cache, NoCache):
        cache.keep(how, rope)
