"""What a pretrained model loses where its caches are cut, measured on held-out text and committed.

Knows neither torch nor screens.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import fmean

from mla_viz.config import EACH, POOLED
from mla_viz.shipped import intact, shipped

CUTS_FILE = "smollm2-cuts.json"
ROUNDING = 1e-3  # nats: less is what half precision makes of the same model
DECOUPLED = "decoupled"
RUN, REPEATS = 3, 3  # words in a row, and how often they may stand in a text
LIKE = {
    256: "hardly told apart from the original",
    192: "coherent, in other words",
    128: "it answers, but wanders off and repeats itself",
    64: "the text breaks",
}


@dataclass(frozen=True)
class Cut:
    """One kind of text, one rank: what the cut model says against the original of the same weights.

    `rank` numbers are cached a token and layer, on average over the layers where `pooled`, whose
    `ranks` are each layer's own. `rope` of them are a rotated key, the others MLA's latent; where
    it is None, all are the latent of a GQA layer, cached before RoPE. `kl` is KL(original || cut)
    in nats a token, its error that of windows; `agreement` the share of tokens at which both find
    the same token likeliest.
    """

    text: str
    rank: int
    pooled: bool
    ranks: tuple[int, ...] | None
    tokens: int
    kl: float
    kl_error: float
    perplexity: float
    own_perplexity: float
    agreement: float
    rope: int | None = None

    @property
    def way(self) -> str:
        """How it was cut: each layer to one rank, pooled over layers, or with RoPE decoupled."""
        if self.rope is not None:
            return DECOUPLED
        return POOLED if self.pooled else EACH


@cache
def load_cuts() -> tuple[Cut, ...]:
    """The committed results, read once."""
    rows = json.loads(intact(shipped(CUTS_FILE)).read_text(encoding="utf-8"))["rows"]
    return tuple(Cut(**row | {"ranks": row["ranks"] and tuple(row["ranks"])}) for row in rows)


def bytes_per_token(rank: int) -> int:
    """What all layers cache of a token at a rank, on average over them, in 16 bits."""
    layers = next(len(row.ranks) for row in load_cuts() if row.ranks)
    return 2 * layers * rank


def kl_at(rank: int) -> float:
    """What a cut to a measured rank, each layer's the same, loses: the mean over kinds of text."""
    return fmean(row.kl for row in load_cuts() if row.rank == rank and row.way == EACH)


def nearest(kl: float) -> int:
    """The measured rank whose loss is nearest to this one, as a ratio."""
    wider, *others = LIKE
    for rank in others:
        if kl < sqrt(kl_at(wider) * kl_at(rank)):
            return wider
        wider = rank
    return wider


def looping(text: str) -> str | None:
    """The words that a text says over and over, if it does: RUN in a row, more than REPEATS times.

    Worked: "I'm not sure. I'm not sure. I'm not sure. I'm not sure." gives "I'm not sure".
    """
    words = text.split()
    runs = Counter(zip(*(words[i:] for i in range(RUN)), strict=False))
    most = runs.most_common(1)
    return " ".join(most[0][0]).rstrip(".,;:!?") if most and most[0][1] > REPEATS else None


def verdict(kl: float, text: str, own_text: str) -> str:
    """What a cut does to the text of one prompt, by its loss there and by the text itself.

    `kl` is over the original's tokens, `text` is what the cut model wrote, `own_text` the original.
    """
    if kl < ROUNDING:
        said = "Nothing is lost: what differs is rounding."
    else:
        rank = nearest(kl)
        said = (
            f"That is as far from the original as a cut to {rank} on held-out text: {LIKE[rank]}."
        )
    if text == own_text:
        return f"{said} Here it even writes the same, word for word."
    if again := looping(text):
        own = ", as does the original" if looping(own_text) else ""
        return f"{said} This text goes round in circles{own}: \u201c{again}\u201d."
    return said
