"""Wall-clock times of several pieces of work that take turns, so that a slow moment hits all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

WARM_UP = 2
BUSY = 1.5  # times the quickest that three quarters of a quiet machine's repetitions stay below

Work = Callable[[], object]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Times:
    """Repetitions of one piece of work, in microseconds."""

    us: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.us)

    @property
    def busy(self) -> bool:
        """Whether they lie so far apart that something else must have used the machine."""
        return statistics.quantiles(self.us, n=4)[-1] > BUSY * min(self.us)


def in_turn(
    works: Mapping[Key, Work], repeats: int, told: Callable[[int, int], object]
) -> dict[Key, Times]:
    """Times of each work, all of them once a round, after rounds of warming up.

    `told` hears of rounds done and rounds in all.
    """
    times: dict[Key, list[float]] = {name: [] for name in works}
    rounds = WARM_UP + repeats
    for i in range(rounds):
        told(i, rounds)
        for name, work in works.items():
            began = time.perf_counter_ns()
            work()
            if i >= WARM_UP:
                times[name].append((time.perf_counter_ns() - began) / 1e3)
    told(rounds, rounds)
    return {name: Times(tuple(values)) for name, values in times.items()}
