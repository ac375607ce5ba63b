"""What a run will take at most, counted before anything is made: memory, and time on one core.

Both are sums over the two sides of what each tensor takes and each product costs. Memory is an
upper bound; time follows from the counts at the pace of one core of a server processor, and is good
to a factor of two or three on others.
"""

from dataclasses import dataclass, replace

import torch

from mla_viz.attention.implementation import implementation
from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.cost import attention_params, cache_elems, model_params, operations, row_bytes
from mla_viz.mechanisms.formats import Format
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.model.decoder import block_of
from mla_viz.model.device import parse_dtype
from mla_viz.run.inside import step_bytes
from mla_viz.run.settings import Settings
from mla_viz.run.trace import CELL_BYTES, TRACE_BYTES

LAYER_SECONDS = 6e-4  # calls and bookkeeping of one layer at one step
BYTES_A_SECOND = 5e9
FLOPS_A_SECOND = 25e9
PACE = {2: 6.0, 4: 1.0, 8: 2.0}  # by bytes an element; few processors multiply halves
POINTS = 16
WATCHED = 2  # scores and probabilities
READ_OUT = 6  # arrays of a layer's cached values at once, where they are multiplied out


@dataclass(frozen=True)
class Bill:
    """At most `bytes` of memory, and about `seconds` of one core."""

    bytes: int
    seconds: float

    def check(self, room: int) -> None:
        """Hold it against the bytes that there are.

        Raises:
            ValueError: it takes more.
        """
        if self.bytes > room:
            raise ValueError(
                f"geometry: expected one that fits {room / 2**30:.1f} GiB of free memory,"
                f" got one that needs {self.bytes / 2**30:.1f} GiB"
                " (take fewer tokens, heads, layers or dims)"
            )


def bill(s: Settings, n_steps: int) -> Bill:
    """What n_steps of these settings will take.

    Raises:
        ValueError: the settings are not legal.
    """
    dtype = parse_dtype(s.dtype)
    return _summed(
        [
            _Side(mechanism, s.side(field).geometry, dtype, n_steps, s.kept(field))
            for field, mechanism in (("left", s.left), ("right", s.right))
        ],
        s.max_new_tokens,
    )


def layer_bill(g: MLAGeometry, mechanisms: tuple[str, str], dtype: str, n_steps: int) -> Bill:
    """What n_steps of one layer alone will take."""
    least = ModelGeometry("a layer", g, n_layers=1, d_ff=1, vocab_size=1, context=2)
    return _summed([_Side(name, least, parse_dtype(dtype), n_steps) for name in mechanisms])


def _summed(sides: list["_Side"], new_tokens: int = 0) -> Bill:
    made = min(TRACE_BYTES, sum(side.made_bytes() for side in sides))
    held = sum(side.held_bytes() for side in sides) + 2 * made  # once more while it is packed
    passing = max(side.passing_bytes() for side in sides)
    seconds = sum(side.seconds() for side in sides)
    if all(side.in_blocks for side in sides):  # of a text that the left side has written before
        seconds += sides[0].writing_seconds(new_tokens)
    return Bill(held + passing, seconds)


def writing_bill(s: Settings, n_steps: int) -> Bill:
    """What the left side takes at most that writes by itself, up to n_steps, without a trace.

    Raises:
        ValueError: the settings are not legal.
    """
    side = _Side(s.left, s.side("left").geometry, parse_dtype(s.dtype), n_steps)
    return Bill(side.held_bytes() + side.passing_bytes(), side.writing_seconds(s.max_new_tokens))


class _Side:
    """One mechanism of a run, counted."""

    def __init__(
        self,
        mechanism: str,
        model: ModelGeometry,
        dtype: torch.dtype,
        n_steps: int,
        kept: Format | None = None,
    ) -> None:
        self._kept = kept
        alike = replace(model, attention=model.widest, ranks=None)
        self._mechanism, self._model, self._n_steps = mechanism, alike, n_steps
        self._elem, self._wide = dtype.itemsize, max(dtype.itemsize, 4)
        self._fed = n_steps if implementation(mechanism).whole_prefix else 1
        self._block = block_of(model, self._elem) if self._fed == 1 else 1

    @property
    def in_blocks(self) -> bool:
        """Whether it is fed more than a token at once."""
        return self._block > 1

    def held_bytes(self) -> int:
        """Weights in float32 and in another dtype, prepared ones, the cache, its table for showing.

        A growing buffer holds up to twice what is filled, and while it grows the filled part too.
        """
        g = self._model.attention
        layers, cached = self._model.n_layers, cache_elems(self._mechanism, g) * self._n_steps
        each = 4 if self._elem == 4 else 4 + self._elem
        weights = model_params(self._model) * each + self._prepared_bytes()
        cells = 16 * min(CELL_BYTES, layers * cached)
        rows = row_bytes(self._mechanism, g, self._elem, self._kept) * self._n_steps
        return weights + rows * (2 * layers + 1) + 4 * layers * cached + cells

    def made_bytes(self) -> int:
        """Every row of scores and probabilities, and all vectors, in float32."""
        g, n = self._model.attention, self._n_steps
        rows = self._model.n_layers * g.n_heads
        vectors = n * step_bytes(g, self._model.n_layers)
        return WATCHED * 4 * rows * n * (n + 1) // 2 + vectors

    def _prepared_bytes(self) -> int:
        g = self._model.attention
        if self._mechanism != "mla_merged":
            return 0
        both = (g.q_lora_rank or g.d_model) + g.d_model
        return self._model.n_layers * g.n_heads * g.kv_lora_rank * both * self._elem

    def passing_bytes(self) -> int:
        """What a step or a layer's making holds for a moment: the largest of one layer's."""
        g, fed, n = self._model.attention, self._fed, self._n_steps
        made = 12 * max(attention_params(g), self._model.vocab_size * g.d_model)
        scores_of_a_step = self._model.n_layers * g.n_heads * n
        scores = g.n_heads * fed * n * (self._elem + 3 * self._wide) + 2 * fed * n
        widths = 8 * g.d_model + 4 * self._model.d_ff + 6 * g.n_heads * _head_width(g)
        rebuilt = 0
        if MECHANISMS[self._mechanism].file in ("mla_reexpand", "recompute"):
            rebuilt = 2 * cache_elems("mla_expanded", g) * n * self._elem
        if isinstance(g, LatentGQAGeometry):  # and each layer's are kept for the record
            rebuilt = (4 + self._model.n_layers) * cache_elems("gqa", g) * n * self._elem
        logits = 8 * self._model.vocab_size * 8
        out = self._multiplied_out(n)
        if self.in_blocks:  # what each token of a block leaves, and the logits of a left side
            made_by_each = step_bytes(g, self._model.n_layers) + WATCHED * 4 * scores_of_a_step
            logits += self._block * made_by_each + 4 * n * self._model.vocab_size
        return max(made, scores + fed * widths * self._wide + rebuilt + out + logits)

    def _multiplied_out(self, seq_len: int) -> int:
        """What reading a layer's cache in a format holds: codes, scales and values, in float32."""
        if self._kept is None:
            return 0
        return READ_OUT * 4 * cache_elems(self._mechanism, self._model.attention) * seq_len

    def seconds(self) -> float:
        """Over the steps at POINTS places, evenly."""
        n, layers = self._n_steps, self._model.n_layers
        places = [max(1, round(n * (i + 0.5) / POINTS)) for i in range(POINTS)]
        each = sum(self._layer_seconds(place, self._block) for place in places)
        return n * layers * each / POINTS

    def writing_seconds(self, new_tokens: int) -> float:
        """Of a text of its own, token by token."""
        return new_tokens * self._model.n_layers * self._layer_seconds(self._n_steps)

    def _layer_seconds(self, seq_len: int, block: int = 1) -> float:
        """One layer at the step that feeds the seq_len-th token, in a block of tokens."""
        ops = operations(self._mechanism, self._model.attention, seq_len, self._wide, self._kept)
        d_model = self._model.attention.d_model
        fed = seq_len if self._fed > 1 else 1
        plain = 3 * d_model * self._model.d_ff
        flops = sum(op.flops for op in ops) + 2 * plain * fed
        moved = sum(op.bytes_read + op.bytes_written for op in ops) + plain * self._wide / block
        scores = self._model.attention.n_heads * fed * seq_len * self._wide
        moved += 6 * scores + 3 * self._multiplied_out(seq_len)  # read for keys, values, the record
        seconds = flops / FLOPS_A_SECOND + moved / BYTES_A_SECOND
        return LAYER_SECONDS + seconds * PACE[self._elem]


def _head_width(g: GQAGeometry | MLAGeometry) -> int:
    """The widest vector of a head that is made on the way."""
    if isinstance(g, GQAGeometry):
        return g.head_dim
    return g.kv_lora_rank + g.qk_head_dim + g.v_head_dim
