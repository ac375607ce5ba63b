"""What every mechanism costs at each step, side by side: read-only records. Knows no tensors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mla_viz.run.record import Record, sealed
from mla_viz.words import bytes_text, flops_text, micros_text


@dataclass(frozen=True, eq=False)
class Costs(Record):
    """One mechanism, all layers together: a number a step.

    `cache_bytes` are summed over the real tensors, `flops` counted, both of attention alone;
    `time_us` is what attention took, measured in each of several repetitions. `own_weights` says
    that it is another model than the first one.
    """

    mechanism: str
    own_weights: bool
    cache_bytes: Int[np.ndarray, " steps"]
    flops: Int[np.ndarray, " steps"]
    time_us: Float[np.ndarray, "repeats steps"]

    @property
    def median_us(self) -> Float[np.ndarray, " steps"]:
        """The middle one of the repetitions, at each step."""
        return np.median(self.time_us, 0)

    def last_step(self) -> tuple[str, str, str]:
        """Bytes, FLOPs and time of the last step, as text."""
        last = (self.cache_bytes[-1], self.flops[-1], self.median_us[-1])
        texts = (bytes_text, flops_text, micros_text)
        return tuple(text(value.item()) for text, value in zip(texts, last, strict=True))

    def record(self) -> dict[str, Any]:
        """As plain data: lists of numbers by name."""
        arrays = ("cache_bytes", "flops", "time_us")
        return vars(self) | {name: getattr(self, name).tolist() for name in arrays}


def costs_from(record: dict[str, Any]) -> Costs:
    """The costs that `Costs.record` wrote."""
    arrays = {"cache_bytes": np.int64, "flops": np.int64, "time_us": np.float64}
    return Costs(
        **record
        | {name: sealed(np.array(record[name], dtype=kind)) for name, kind in arrays.items()}
    )
