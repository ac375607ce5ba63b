"""What a bench measured: its records, and those that come with the package.

Times are medians in microseconds with the quickest and the slowest; a limit is what the machine's
own rates, measured in the same rounds, allow. Knows no tensor: `bench` makes these.
"""

import json
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from mla_viz.config import MLAGeometry
from mla_viz.shipped import intact, shipped

SPEED_FILE = "speed.json"
QUIET = 0.5  # processes that want a core on a machine that does nothing else


@dataclass(frozen=True)
class Roofline:
    """What the machine reads and multiplies, medians of the rounds.

    `skinny` is (heads x latent and rope) by (latent and rope x context), the better of two orders;
    the roof over products is the better of that and of a square product.
    """

    gb_s: float
    square_gflops: float
    skinny_gflops: float
    threads: int
    busy: bool

    @property
    def gflops(self) -> float:
        """The roof over products."""
        return max(self.square_gflops, self.skinny_gflops)

    def limit_us(self, flops: int, moved_bytes: int) -> float:
        """The least that so much work takes here: the longer of reading and multiplying."""
        return max(moved_bytes / self.gb_s, flops / self.gflops) / 1e3


@dataclass(frozen=True)
class Point:
    """One mechanism at one context: `core` is attention over the cache, `layer` all of a layer.

    Where a kernel of ours is the core, `core_torch` is the same by torch.

    Bytes are those that must move: weights once, and for each sequence all operands and results.
    `working_bytes` are the most that one step's tensors held beside cache and weights.
    """

    mechanism: str
    part: str
    context: int
    batch: int
    dtype: str
    time_us: float
    quickest_us: float
    slowest_us: float
    repeats: int
    flops: int
    bytes: int
    gflops: float
    gb_s: float
    limit_us: float
    fraction_of_limit: float
    working_bytes: int
    busy: bool


@dataclass(frozen=True)
class QueryPoint:
    """Several query tokens over one context, by absorbing or by rebuilding keys and values.

    Projections that both share are left out, as in `cost.query_flops`.
    """

    form: str
    query_tokens: int
    context: int
    time_us: float
    quickest_us: float
    slowest_us: float
    repeats: int
    flops: int
    limit_us: float
    fraction_of_limit: float
    busy: bool


@dataclass(frozen=True)
class Peer:
    """What another implementation took, and `mla_absorbed` in turn with it."""

    peer: str
    part: str
    context: int
    time_us: float
    quickest_us: float
    slowest_us: float
    repeats: int
    ours_us: float
    times_ours: float
    busy: bool


@dataclass(frozen=True)
class Bench:
    """All that was measured; not `complete` where it was stopped.

    `layer` is the geometry of the MLA layer that `geometry` names. `load` is how many processes
    wanted a core before it began, over a minute.
    """

    geometry: str
    layer: MLAGeometry
    contexts: tuple[int, ...]
    batch: int
    dtype: str
    mechanisms: tuple[str, ...]
    query_tokens: tuple[int, ...]
    repeats: int
    threads: int
    machine: str
    torch: str
    load: float
    roofline: Roofline | None
    points: tuple[Point, ...]
    queries: tuple[QueryPoint, ...]
    peers: tuple[Peer, ...]
    complete: bool

    @property
    def busy(self) -> bool:
        """Whether the machine had other work: at the start, or because times lie far apart."""
        roof = (self.roofline,) if self.roofline else ()
        measured = (*roof, *self.points, *self.queries, *self.peers)
        return self.load > QUIET or any(each.busy for each in measured)

    def record(self) -> dict[str, Any]:
        """As plain data: what `bench --json` prints."""
        record = asdict(self)
        if self.roofline:
            record["roofline"]["gflops"] = self.roofline.gflops
        return record | {"busy": self.busy}

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Bench":
        """What `record` was made of."""
        roof = record["roofline"]
        kinds = {"points": Point, "queries": QueryPoint, "peers": Peer}
        tuples = ("contexts", "mechanisms", "query_tokens")
        return cls(
            **{each.name: record[each.name] for each in fields(cls)}
            | {name: tuple(record[name]) for name in tuples}
            | {name: tuple(kind(**row) for row in record[name]) for name, kind in kinds.items()}
            | {
                "layer": MLAGeometry(**record["layer"]),
                "roofline": roof and Roofline(**_only(Roofline, roof)),
            }
        )


def _only(kind: type, record: dict[str, Any]) -> dict[str, Any]:
    return {each.name: record[each.name] for each in fields(kind)}


@cache
def shipped_benches() -> dict[str, Bench]:
    """Those of data/speed.json, by name."""
    text = intact(shipped(SPEED_FILE)).read_text(encoding="utf-8")
    return {name: Bench.of(record) for name, record in json.loads(text).items()}
