"""A matrix to be shown, as a record. Knows no torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FIXED, CACHED, PASSING = "fixed at training", "cached", "made and thrown away"


@dataclass(frozen=True)
class Matrix:
    """A matrix with its name, what its rows and columns are and how long it lives.

    `newest` tells that the last row is that of the word that has just come.
    """

    name: str
    values: Float[np.ndarray, "rows columns"]
    role: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    newest: bool = False
