"""What two sides of one model made at each step, held against each other."""

import numpy as np
from torch import Tensor

from mla_viz.run.inside import GAPS, Gaps
from mla_viz.run.record import sealed
from mla_viz.run.trace import DIFFERENCES


class Comparison:
    """The largest |left - right| of each step, and of each layer and head where it is kept."""

    def __init__(self) -> None:
        self._differences: list[list[float]] = []
        self._gaps: dict[str, list[np.ndarray]] = {name: [] for name in GAPS}

    def add(self, left: dict[str, Tensor], right: dict[str, Tensor], *, keep: bool) -> None:
        """Compare the sides at one step; what one of them lacks is no difference."""
        named = (x for x in (*GAPS, "logits") if x in left and x in right and left[x].numel())
        gaps = {name: (left[name] - right[name]).abs().amax(-1) for name in named}
        self._differences.append(
            [gaps[name].max().item() if name in gaps else 0.0 for name in DIFFERENCES]
        )
        if keep:
            for name, kept in self._gaps.items():
                if name in gaps:
                    kept.append(gaps[name].float().cpu().numpy())

    @property
    def differences(self) -> np.ndarray:
        """A row a step, by the names in DIFFERENCES."""
        return sealed(np.array(self._differences))

    @property
    def gaps(self) -> Gaps:
        """Those of the kept steps."""
        return Gaps(**{name: sealed(kept) if kept else None for name, kept in self._gaps.items()})
