"""Every mechanism that runs a source's weights, fed the same tokens: bytes, FLOPs, time of a step.

They run untraced and take turns at every step, so that what slows the machine slows them all.
"""

from dataclasses import replace

import numpy as np
import torch

from mla_viz.config import check_callback
from mla_viz.cost import operations
from mla_viz.model.device import parse_dtype, pick_device, usable_bytes
from mla_viz.run.bill import Bill
from mla_viz.run.costs import Costs
from mla_viz.run.decode import OnStep, bill_of, written
from mla_viz.run.record import sealed
from mla_viz.run.settings import Settings, SideModel

REPEATS = 5


def compared(s: Settings) -> dict[str, SideModel]:
    """The models to run by their mechanisms: the two sides first, then all that run these weights.

    Raises:
        ValueError: the source has no such setting.
    """
    names = dict.fromkeys((s.left, s.right, *s.weights_source.mechanisms))
    return {name: replace(s, left=name, right=name).side("left") for name in names}


def compare_bill(s: Settings) -> Bill:
    """What a comparison takes at most: all of its mechanisms at once, in turn.

    Raises:
        ValueError: the settings are not legal.
    """
    bills = [bill_of(replace(s, left=name, right=name, cache_dtype=None)) for name in compared(s)]
    seconds = sum(bill.seconds for bill in bills) / 2  # each is of two sides
    held, passing = sum(bill.bytes for bill in bills) // 2, max(bill.bytes for bill in bills) // 2
    return Bill(held + passing, (REPEATS + 1) * seconds)


@torch.inference_mode()
def compare(
    prompt: str | Settings, *, on_step: OnStep | None = None, **settings: object
) -> tuple[Costs, ...]:
    """What each mechanism costs that runs these weights, fed the tokens that the left side writes.

    All caches are kept in the run's dtype, whatever the right side's is kept in.

    Args:
        prompt: the text; or Settings, which the keywords then change.
        **settings: fields of Settings.
        on_step: called with (steps done, steps at most) after each step; may raise to stop.

    Raises:
        ValueError: a setting is not legal, or the mechanisms do not fit in memory together.

    Example:
        >>> for costs in compare("Once upon a time", max_new_tokens=8):
        ...     print(costs.mechanism, costs.cache_bytes[-1], costs.flops[-1], costs.median_us[-1])
    """
    check_callback("on_step", on_step)
    one = isinstance(prompt, Settings)
    s = replace(prompt, **settings) if one else Settings(prompt, **settings)
    compare_bill(s).check(usable_bytes(pick_device(s.device)))
    ids, told = written(s), on_step or (lambda *_: None)
    runners = [_Runner(name, model, s, len(ids) - 1) for name, model in compared(s).items()]
    for repeat in range(REPEATS):
        for runner in runners:
            runner.begin()
        for step in range(len(ids) - 1):
            first = step % len(runners)
            for runner in (*runners[first:], *runners[:first]):
                runner.feed(ids, step, repeat)
            told(repeat * (len(ids) - 1) + step + 1, REPEATS * (len(ids) - 1))
    return tuple(runner.costs(runners[0].model) for runner in runners)


class _Runner:
    """One mechanism of a comparison, and the arrays that fill step by step."""

    def __init__(self, mechanism: str, model: SideModel, s: Settings, n_steps: int) -> None:
        self.mechanism, self.model = mechanism, model
        self._weights = model.load(s.seed).to(parse_dtype(s.dtype), pick_device(s.device))
        self._bytes = np.zeros(n_steps, dtype=np.int64)
        self._time_us = np.zeros((REPEATS, n_steps))

    def begin(self) -> None:
        """With an empty cache."""
        self._decoder = self._weights.decoder(self.mechanism)

    def feed(self, ids: list[int], step: int, repeat: int) -> None:
        """Feed token `step`, and keep what it took."""
        first = 0 if self._decoder.whole_prefix else step
        tokens = torch.tensor(ids[first : step + 1], device=self._weights.embedding.device)
        forward = self._decoder.feed(tokens, newest=True)
        self._time_us[repeat, step] = sum(forward.attention_us)
        self._bytes[step] = sum(cache.filled_bytes for cache in self._decoder.caches)

    def costs(self, first: SideModel) -> Costs:
        """The finished record."""
        geometry, elem_bytes = self.model.geometry, self._weights.embedding.element_size()
        flops = [
            geometry.n_layers
            * sum(
                op.flops
                for op in operations(self.mechanism, geometry.attention, step + 1, elem_bytes)
            )
            for step in range(len(self._bytes))
        ]
        return Costs(
            self.mechanism,
            self.model != first,
            sealed(self._bytes),
            sealed(np.array(flops, dtype=np.int64)),
            sealed(self._time_us),
        )
