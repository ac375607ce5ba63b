"""What a pretrained model loses where its caches are cut, measured on held-out text and committed.

Knows neither torch nor screens.
"""

import json
from dataclasses import dataclass
from functools import cache

from mla_viz.shipped import intact, shipped

CUTS_FILE = "smollm2-cuts.json"


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


@cache
def load_cuts() -> tuple[Cut, ...]:
    """The committed results, read once."""
    rows = json.loads(intact(shipped(CUTS_FILE)).read_text(encoding="utf-8"))["rows"]
    return tuple(Cut(**row | {"ranks": row["ranks"] and tuple(row["ranks"])}) for row in rows)
