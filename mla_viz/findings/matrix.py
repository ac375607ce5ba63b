"""A matrix to be shown, as a record. Knows no torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FIXED, CACHED, PASSING = "fixed at training", "cached", "made and thrown away"


@dataclass(frozen=True)
class Made:
    """How a matrix is made of others, by their names.

    `product`: of the 1st and 2nd, plus of the 3rd and 4th, and so on. `turned`: the 1st, each pair
    by the cos and sin of the 2nd. `sum`: all of them, over `by`. `exp`, `row sums`: of the one.
    `share`: the 1st, each row over its number in the 2nd.
    """

    kind: str
    of: tuple[str, ...]
    by: float = 1.0


@dataclass(frozen=True)
class Matrix:
    """A matrix with its name, what its rows and columns are, how long it lives and what makes it.

    `newest` tells that the last row is that of the word that has just come.
    """

    name: str
    values: Float[np.ndarray, "rows columns"]
    role: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    newest: bool = False
    made: Made | None = None


@dataclass(frozen=True)
class Join:
    """A matrix that both lanes hold, and its largest difference between them in each format."""

    name: str
    gaps: dict[str, float]
    apart: bool
