"""What a run leaves behind: frozen records around read-only numpy arrays.

Knows numbers and names; knows neither tensors nor how they came about. What a step made, attention
rows and vectors, is kept in float32 within TRACE_BYTES for a whole run of both sides; past that it
is kept of the last steps and of every k-th step before them, and the run's notes say so.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from mla_viz.config import AttentionGeometry, at_rank, check_int
from mla_viz.cost import cache_elems, operations, row_bytes
from mla_viz.mechanisms.formats import FORMATS, Format
from mla_viz.mechanisms.ledger import Operation
from mla_viz.run.files import write_whole
from mla_viz.run.inside import Gaps, Inside, Lane, Vectors, lane
from mla_viz.run.record import Record, sealed

TRACE_BYTES = 128 << 20
_PLAYER = "mla_viz.player."
CELL_BYTES = 4 << 20
DIFFERENCES = ("scores", "probs", "out", "logits")


def kept_steps(
    n_steps: int, n_layers: int, n_heads: int, vectors: int = 0, limit: int = TRACE_BYTES
) -> list[int]:
    """Steps whose record fits the bound: all, or the last ones and every k-th before them.

    A step takes its attention rows and, whatever its number, `vectors` bytes. The rows of 256
    steps of 5 layers and 8 heads take 21 MB for two sides, scores and probs: all are kept.
    """

    def size(steps: range) -> int:
        rows = sum(step + 1 for step in steps) * n_layers * n_heads
        return rows * 4 * 4 + len(steps) * vectors  # float32, two quantities on two sides

    if size(range(n_steps)) <= limit:
        return list(range(n_steps))
    first = n_steps - 1  # the last steps take half of the bound, the last one is always kept
    while size(range(first - 1, n_steps)) <= limit // 2:
        first -= 1
    every = 2
    while every < first and size(range(0, first, every)) > limit // 2:
        every += 1
    return [*range(0, first, every), *range(first, n_steps)]


def dropped_rows(kept: Int[np.ndarray, " kept"], n_steps: int) -> list[str]:
    """What to say where the attention of some steps was not kept."""
    if len(kept) == n_steps:
        return []
    return [
        f"To bound memory, attention is kept at {len(kept):,} of {n_steps:,} steps:"
        f" at every {kept[1] - kept[0]}th, and at all of the last ones."
    ]


@dataclass(frozen=True, eq=False, init=False)
class AttentionRows(Record):
    """One quantity (scores or probabilities) of one side: a row of keys a step, layer and head.

    Rows lie packed behind one another, step by step, each `n_layers n_heads step+1`; without `data`
    they wait to be filled.

    Raises:
        ValueError: `data` are not as many as the rows of these steps.
    """

    steps: Int[np.ndarray, " kept"]
    n_layers: int
    n_heads: int
    data: Float[np.ndarray, " values"]

    def __init__(
        self,
        steps: range | list[int] | Int[np.ndarray, " kept"],
        n_layers: int,
        n_heads: int,
        data: Float[np.ndarray, " values"] | None = None,
    ) -> None:
        steps = sealed(np.array(steps, dtype=np.int32))
        ends = np.cumsum((steps.astype(np.int64) + 1) * n_layers * n_heads)
        size = int(ends[-1]) if len(ends) else 0
        if data is None:
            data = np.empty(size, dtype=np.float32)
        if len(data) != size:
            raise ValueError(f"data: expected {size:,} values for these steps, got {len(data):,}")
        vars(self).update(
            steps=steps,
            n_layers=n_layers,
            n_heads=n_heads,
            data=data,
            _ends=sealed(ends),
            _index={int(step): i for i, step in enumerate(steps)},
        )

    def keeps(self, step: int) -> bool:
        """Whether the rows of this step are kept."""
        return step in self._index

    def row(self, step: int) -> Float[np.ndarray, "n_layers n_heads keys"]:
        """The rows of one step.

        Raises:
            KeyError: this step's rows are not kept.
        """
        end = self._ends[self._index[step]]
        start = end - (step + 1) * self.n_layers * self.n_heads
        return self.data[start:end].reshape(self.n_layers, self.n_heads, step + 1)

    def cut(self, n_steps: int) -> "AttentionRows":
        """The record of the first n_steps alone, read-only."""
        steps = self.steps[self.steps < n_steps]
        data = self.data[: self._ends[len(steps) - 1] if len(steps) else 0].view()
        data.flags.writeable = False
        return AttentionRows(steps, self.n_layers, self.n_heads, data)


@dataclass(frozen=True, eq=False)
class CacheCells(Record):
    """Cached values as one byte each: value = low + (high - low) * byte / 255, by layer.

    Row i is token i * every. A layer narrower than the widest has zeros behind its values.
    """

    low_high: Float[np.ndarray, "n_layers 2"]
    data: UInt8[np.ndarray, "n_layers rows elems"]
    every: int


def quantise_cells(tables: list[Float[np.ndarray, "seq _"]]) -> CacheCells:
    """Pack each layer's cache table into bytes, every k-th token where CELL_BYTES is passed."""
    seq, elems = len(tables[0]), max(table.shape[1] for table in tables)
    every = max(1, -(-len(tables) * seq * elems // CELL_BYTES))
    low_high = np.zeros((len(tables), 2), dtype=np.float32)
    data = np.zeros((len(tables), -(-seq // every), elems), dtype=np.uint8)
    for layer, table in enumerate(tables):
        kept = table[::every]
        if kept.size:
            low, high = low_high[layer] = kept.min(), kept.max()
            data[layer, :, : kept.shape[1]] = np.rint((kept - low) / ((high - low) or 1) * 255)
    return CacheCells(sealed(low_high), sealed(data), every)


@dataclass(frozen=True)
class Token:
    """A token of the run: `source` is "prompt" or "generated"; `pos` is 0-based."""

    id: int
    text: str
    pos: int
    source: str


@dataclass(frozen=True, eq=False)
class Side(Record):
    """One mechanism's decoding. Arrays have one row a step; bytes are of all layers together.

    cache_bytes and allocated_bytes are summed over the real tensors, filled rows and whole buffers;
    working_bytes is the most that one layer rebuilt and threw away; time_us is measured, once.
    `cache_dtype` is the format that the cache is kept in, None where elements stay as they are.
    Where latents are pooled over layers, `ranks` are each layer's, and `geometry` has their mean.
    """

    mechanism: str
    geometry: AttentionGeometry
    n_layers: int
    elem_bytes: int
    cache_bytes: Int[np.ndarray, " steps"]
    allocated_bytes: Int[np.ndarray, " steps"]
    working_bytes: Int[np.ndarray, " steps"]
    time_us: Float[np.ndarray, "steps n_layers"]
    top_text: tuple[tuple[str, ...], ...]
    top_probs: Float[np.ndarray, "steps candidates"]
    scores: AttentionRows
    probs: AttentionRows
    cells: CacheCells
    vectors: Vectors
    cache_dtype: str | None = None
    ranks: Int[np.ndarray, " n_layers"] | None = None

    def candidates(self, step: int) -> list[tuple[str, float]]:
        """Next-token candidates after a step, likeliest first, as likely as they are drawn."""
        return list(zip(self.top_text[step], self.top_probs[step].tolist(), strict=True))

    def of_layer(self, layer: int) -> AttentionGeometry:
        """The attention of one layer."""
        if self.ranks is None:
            return self.geometry
        return at_rank(self.geometry, int(self.ranks[layer]))

    @property
    def cache_elems(self) -> int:
        """Elements cached for one token in one layer, on average over layers."""
        return cache_elems(self.mechanism, self.geometry)

    @property
    def widest(self) -> int:
        """Elements cached for one token in the layer that caches most."""
        return max(cache_elems(self.mechanism, self.of_layer(i)) for i in range(self.n_layers))

    @property
    def kept(self) -> Format | None:
        """The format that the cache is kept in."""
        return None if self.cache_dtype is None else FORMATS[self.cache_dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes cached for one token in one layer, scales included, in a layer of average width."""
        return row_bytes(self.mechanism, self.geometry, self.elem_bytes, self.kept)

    def layer_bytes(self, layer: int) -> int:
        """Bytes cached for one token in this layer, scales included; as the tensors measure."""
        return row_bytes(self.mechanism, self.of_layer(layer), self.elem_bytes, self.kept)

    def operations(self, step: int, layer: int = 0) -> list[Operation]:
        """The counted ledger of one layer at a step."""
        g = self.of_layer(layer)
        return operations(self.mechanism, g, step + 1, self.elem_bytes, self.kept)

    def lane(self, step: int, layer: int, head: int) -> Lane:
        """What this side computed at a step in one head of one layer.

        Raises:
            ValueError: the step was not kept.
        """
        if not self.probs.keeps(step):
            steps = self.probs.steps
            raise ValueError(
                f"step: expected one whose vectors were kept, got {step} (every"
                f" {steps[1] - steps[0]}th is, and all of the last ones)"
            )
        scores, probs = (rows.row(step)[layer, head] for rows in (self.scores, self.probs))
        return lane(self.vectors, self.of_layer(layer), scores, probs, (step, layer, head))

    def flops(self, step: int) -> int:
        """Counted FLOPs of the attention of all layers at a step, linear in their ranks."""
        ops = operations(self.mechanism, self.geometry, step + 1, self.elem_bytes, self.kept)
        return self.n_layers * sum(op.flops for op in ops)


@dataclass(frozen=True, eq=False)
class Run(Record):
    """A prompt decoded by two mechanisms. Step k feeds token k; the last token is not fed.

    `differences` holds, a row a step, the largest |left - right| over all layers and heads, by the
    names in DIFFERENCES (0 for the logits that a layer alone lacks), and `gaps` the same of each
    kept step, layer and head; both are None where the sides are different models. Where those are a
    pretrained model and what was cut of it, `kl` is KL(left || right) in nats at each step, and
    `agreed` whether both find one token likeliest.
    """

    prompt: str
    text: str
    tokens: tuple[Token, ...]
    model: dict[str, Any]
    n_layers: int
    source: str
    dtype: str
    device: str
    temperature: float
    top_k: int
    left: Side
    right: Side
    differences: Float[np.ndarray, "steps 4"] | None
    gaps: Gaps | None
    same_tokens: bool
    notes: tuple[str, ...]
    kl: Float[np.ndarray, " steps"] | None = None
    agreed: UInt8[np.ndarray, " steps"] | None = None

    @property
    def chooses(self) -> bool:
        """Whether a token follows a step: none does where a layer runs alone."""
        return self.left.top_probs.shape[1] > 0

    @property
    def n_steps(self) -> int:
        """Number of steps: prompt + generated - 1."""
        return len(self.tokens) - 1

    @property
    def prompt_len(self) -> int:
        """Number of prompt tokens."""
        return sum(token.source == "prompt" for token in self.tokens)

    @property
    def max_abs_diff(self) -> float | None:
        """Largest difference of all; None for different models."""
        return None if self.differences is None else float(self.differences.max())

    @property
    def mean_kl(self) -> float | None:
        """KL(left || right) in nats a token, over all steps; None where it is not taken."""
        return None if self.kl is None else float(self.kl.mean())

    @property
    def agreement(self) -> float | None:
        """The share of steps at which both sides find the same token likeliest."""
        return None if self.agreed is None else float(self.agreed.mean())

    def sides(self) -> tuple[Side, Side]:
        """Left, right."""
        return self.left, self.right

    def save(self, path: str | Path) -> None:
        """Write the run as one safetensors file, which `mla_viz.load_run` reads; docs/trace.md.

        Raises:
            ValueError: nothing can be written there; what was there before is left as it was.
        """
        import_module("mla_viz.run.saved").save_run(self, path)

    def save_html(self, path: str | Path) -> None:
        """Write the run as one HTML file with the whole player, for any browser, without a network.

        Raises:
            ValueError: nothing can be written there; what was there before is left as it was.
        """
        write_whole(path, self._page().encode())

    def _repr_html_(self) -> str:
        """The player in a notebook's cell."""
        return import_module(_PLAYER + "standalone").framed(self._page())

    def _page(self) -> str:
        """The player is above this room: it is asked for only when a run shows itself."""
        packed = import_module(_PLAYER + "payload").pack_run(self)
        return import_module(_PLAYER + "standalone").standalone(packed, self.prompt)

    def inside(self, step: object, layer: object, head: object) -> Inside:
        """What both sides computed at a step in one head of one layer, all counted from 0.

        Raises:
            ValueError: there is no such step, layer or head, or it was not kept; the message names
                the field.

        Example:
            >>> inside = run.inside(step=20, layer=1, head=2)
            >>> inside.left.q @ inside.left.keys[12], inside.right.scores[12]
        """
        n_heads = min(side.geometry.n_heads for side in self.sides())
        step = check_int("step", step, 0, self.n_steps - 1)
        layer = check_int("layer", layer, 0, self.n_layers - 1)
        head = check_int("head", head, 0, n_heads - 1)
        left, right = (side.lane(step, layer, head) for side in self.sides())
        return Inside(step, layer, head, left, right)
