"""What all records share: they are equal by value, and read-only. Knows numpy arrays alone."""

from typing import Any

import numpy as np

MEASURED = ("time_us",)


class Record:
    """Equal by value, arrays by all their values; a copy and what comes out of a pickle is sealed.

    What is measured by the clock differs from run to run and is not compared.
    """

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, others = vars(self), vars(other)
        return all(_equal(mine[name], others[name]) for name in mine if name not in MEASURED)

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        vars(self).update(state)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def sealed(values: np.ndarray | list) -> np.ndarray:
    """A read-only copy in C order; of arrays alike, one array."""
    array = np.array(values, order="C")
    array.flags.writeable = False
    return array
