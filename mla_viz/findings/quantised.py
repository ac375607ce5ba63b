"""What quantised caches lose and save on the shipped models, measured and committed.

Every model is run in one dtype, and its cache kept in that dtype or in a format of
`attention.quantised`. Knows neither torch nor screens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from mla_viz.shipped import intact, shipped

QUANTISED_FILE = "quantised.json"
SIGMAS = 2  # a difference within so many standard errors of zero is none that can be told


@dataclass(frozen=True)
class Paired:
    """A mean difference in nats per token, over the same stories, and its standard error."""

    mean: float
    error: float

    @property
    def measurable(self) -> bool:
        """Whether zero lies outside of SIGMAS standard errors."""
        return abs(self.mean) > SIGMAS * self.error


def paired(nats: Sequence[float], others: Sequence[float], tokens: Sequence[int]) -> Paired:
    """How much more `nats` are than `others`, sums of the same stories, for each of their tokens.

    The mean is a ratio of sums; its error is that of a ratio, with stories as the draws:
    sqrt(n / (n - 1) sum (d_i - mean t_i)^2) / sum t_i. Worked: differences 1, 3 over tokens 1, 1
    give 2 and sqrt(2 (1 + 1)) / 2 = 1.
    """
    n, total = len(tokens), sum(tokens)
    gaps = [one - other for one, other in zip(nats, others, strict=True)]
    mean = sum(gaps) / total
    squares = sum((gap - mean * t) ** 2 for gap, t in zip(gaps, tokens, strict=True))
    return Paired(mean, (n / (n - 1) * squares) ** 0.5 / total)


@dataclass(frozen=True)
class Kept:
    """One model decoded by one mechanism, its cache kept in one way: what it takes and loses.

    `format` is None where the cache has the model's own dtype; `cache_bytes_per_token` are of all
    layers, scales included, as the tensors measured. `more` and `error` are what it loses above
    that, in nats per token.
    """

    source: str
    heads: int
    latent: int | None
    mechanism: str
    format: str | None
    cache_bytes_per_token: int
    nats_per_token: float
    bits_per_byte: float
    more: float
    error: float

    @property
    def difference(self) -> Paired:
        """What it loses above the cache in the model's own dtype."""
        return Paired(self.more, self.error)


@dataclass(frozen=True)
class Quantised:
    """All of them, on the same stories; `dtype` is that of the models."""

    dtype: str
    stories: int
    tokens: int
    rows: tuple[Kept, ...]


@cache
def load_quantised() -> Quantised:
    """The committed results, read once."""
    record = json.loads(intact(shipped(QUANTISED_FILE)).read_text(encoding="utf-8"))
    return Quantised(**record | {"rows": tuple(Kept(**row) for row in record["rows"])})
