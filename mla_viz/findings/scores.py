"""Measured losses as records, and the shipped ones among them. Knows neither torch nor screens."""

import json
from dataclasses import dataclass
from functools import cache

from mla_viz.shipped import intact, shipped

GRID_FILE = "stories_grid.json"


@dataclass(frozen=True)
class Score:
    """Mean loss over `tokens` predictions; bits per byte counts the stories' UTF-8 bytes.

    `repeated` is the loss on tokens that follow their predecessor not for the first time in the
    story, `novel` on all others; None where there is no such token. `cache_bytes_per_token` are
    those of all layers, scales of a quantised cache included.
    """

    nats_per_token: float
    bits_per_byte: float
    tokens: int
    repeated: float | None
    novel: float | None
    cache_bytes_per_token: float = 0


@dataclass(frozen=True)
class LossGrid:
    """Validation loss of the slider-following model at every setting.

    nats_per_token has a row per entry of heads and a column per entry of latents. The model read
    `read_tokens` tokens of a text of `text_tokens`; `tokens` are those it is scored on.
    """

    model: str
    stories: int
    tokens: int
    read_tokens: int
    text_tokens: int
    heads: list[int]
    latents: list[int]
    nats_per_token: list[list[float]]

    @property
    def passes(self) -> float:
        """How many times the training went over the text."""
        return self.read_tokens / self.text_tokens

    def loss(self, heads: int, latent: int) -> float:
        """Nats per token at one setting."""
        return self.nats_per_token[self.heads.index(heads)][self.latents.index(latent)]


@cache
def load_grid() -> LossGrid:
    """The grid of the shipped weights, read once."""
    return LossGrid(**json.loads(intact(shipped(GRID_FILE)).read_text(encoding="utf-8")))
