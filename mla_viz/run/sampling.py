"""How the next token is chosen from logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.run.settings import Settings


def choice_logits(logits: Float[Tensor, " vocab"], s: Settings) -> Float[Tensor, " vocab"]:
    """Logits of what the next token is drawn from: by temperature, at -inf outside top_k.

    At temperature 0 nothing is drawn, since the likeliest token is taken: the model's own. They are
    taken below the largest, since 5 / 1e-320 would overflow where 0 / 1e-320 does not.
    """
    if not len(logits):  # of a layer alone
        return logits.double().cpu()
    below = (logits.double() - logits.double().max()).cpu()
    if s.temperature == 0:
        return below
    scaled = below / s.temperature
    if s.top_k:
        scaled = scaled.masked_fill(scaled < scaled.topk(s.top_k).values[-1], -torch.inf)
    return scaled


class Sampler:
    """Draws tokens by the Gumbel trick, with one stream of noise that the seed decides.

    Two sides that are given the same noise choose alike where their logits are alike, so that a
    difference in the text is a difference of the models and not of the dice.
    """

    def __init__(self, settings: Settings, vocab_size: int) -> None:
        self._settings = settings
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._vocab_size = vocab_size

    def noise(self) -> Float[Tensor, " vocab"]:
        """Uniform noise for one choice."""
        return torch.rand(self._vocab_size, generator=self._generator, dtype=torch.float64)

    def choose(self, choice: Float[Tensor, " vocab"], noise: Float[Tensor, " vocab"]) -> int:
        """The id of the next token: of what `choice_logits` gave, the likeliest or one drawn."""
        if self._settings.temperature > 0:
            choice = choice - (-noise.log()).log()
        return int(choice.argmax())


def check_finite(logits: Float[Tensor, " vocab"], step: int, dtype: str) -> None:
    """Refuse to go on from logits that are no numbers.

    Raises:
        ValueError: the dtype overflowed.
    """
    if not logits.isfinite().all():
        raise ValueError(
            f"dtype: expected one that holds this model's numbers, got {dtype},"
            f" which overflowed at token {step + 1} (try bfloat16 or float32)"
        )
