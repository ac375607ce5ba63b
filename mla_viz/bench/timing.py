"""Wall-clock times of several pieces of work that take turns, so that a slow moment hits all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

WARM_UP = 2
SAMPLE_US = 2000.0  # that a repetition takes at least: short work is called several times in it
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
        most = statistics.quantiles(self.us, n=4)[-1] if len(self.us) > 1 else self.median
        return most > BUSY * min(self.us)

    @property
    def spread(self) -> tuple[float, float, float, int]:
        """Median, quickest, slowest, and how many there are."""
        return self.median, min(self.us), max(self.us), len(self.us)


class Turns(Generic[Key]):
    """Pieces of work that take turns, all of them once a round; what is timed stays after Ctrl-C.

    `told` hears of rounds done and rounds in all, those of warming up included. `done` returns
    when all that was called is: a device works on by itself.
    """

    def __init__(
        self,
        works: Mapping[Key, Work],
        told: Callable[[int, int], object],
        done: Work = lambda: None,
    ) -> None:
        self._works, self._told, self._done = works, told, done
        self._us: dict[Key, list[float]] = {name: [] for name in works}

    def run(self, repeats: int) -> None:
        """Time each work so often, after rounds of warming up that say how many calls it takes."""
        rounds, calls = WARM_UP + repeats, dict.fromkeys(self._works, 1)
        for i in range(rounds):
            self._told(i, rounds)
            for name, work in self._works.items():
                us = _mean_us(work, calls[name], self._done)
                if i >= WARM_UP:
                    self._us[name].append(us)
                else:
                    calls[name] = max(1, round(SAMPLE_US / us))
        self._told(rounds, rounds)

    @property
    def times(self) -> dict[Key, Times]:
        """Times of every work over the rounds that are whole; none where there is no such round."""
        whole = min(map(len, self._us.values()), default=0)
        return {name: Times(tuple(us[:whole])) for name, us in self._us.items() if whole}


def _mean_us(work: Work, calls: int, done: Work) -> float:
    """Microseconds of a call, over some that follow each other."""
    done()
    began = time.perf_counter_ns()
    for _ in range(calls):
        work()
    done()
    return (time.perf_counter_ns() - began) / 1e3 / calls
