"""One layer alone as a run: two mechanisms, the same hidden states, one of them a step.

There is no text and no choice: a step feeds the next hidden state, and no token follows.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mla_viz.attention.ops import Watch
from mla_viz.attention.weights import MLAWeights
from mla_viz.checkpoints.folder import FLOATS
from mla_viz.checkpoints.layer import (
    AttentionLayer,
    Steps,
    described,
    load_attention,
    read_shape,
)
from mla_viz.config import MLAGeometry, check_choice, check_int
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.decoder import Forward, timed
from mla_viz.model.device import parse_dtype, pick_device, usable_bytes
from mla_viz.run.bill import Bill, layer_bill
from mla_viz.run.comparison import Comparison
from mla_viz.run.decode import OnStep, bill_of, decode
from mla_viz.run.recorder import Recorder
from mla_viz.run.sampling import check_finite
from mla_viz.run.settings import Settings
from mla_viz.run.trace import Run, Token, dropped_rows

MOST_TOKENS = 8192


@dataclass(frozen=True)
class _Shape:
    """What a recorder asks of a model's geometry."""

    attention: MLAGeometry
    n_layers: int = 1
    ranks: None = None

    @property
    def widest(self) -> MLAGeometry:
        """Its one layer's."""
        return self.attention


@dataclass(frozen=True, eq=False)
class _Alone:
    """A layer as the weights of a model whose token i is the i-th hidden state."""

    layer: AttentionLayer
    embedding: Float[Tensor, "seq d_model"]

    @property
    def geometry(self) -> _Shape:
        """Its shape."""
        return _Shape(self.layer.geometry)

    @property
    def attention(self) -> list[MLAWeights]:
        """Its weights."""
        return [self.layer.weights]

    def to(self, *_: object) -> "_Alone":
        """It stays where and as it was read."""
        return self

    def decoder(self, mechanism: str, *_: object) -> "_Decoder":
        """The layer run by one mechanism."""
        return _Decoder(self, mechanism)


class _Decoder:
    """The layer fed step by step, as `mla_viz.model.decoder.Decoder`; its logits are none."""

    block = 1

    def __init__(self, weights: _Alone, mechanism: str) -> None:
        self.weights, self._steps = weights, Steps(weights.layer, mechanism)
        self.whole_prefix, self.caches = self._steps.whole_prefix, [self._steps.cache]

    @torch.inference_mode()
    def feed(
        self, tokens: Int[Tensor, " seq"], watched: tuple[str, ...] = (), *, newest: bool = False
    ) -> Forward:
        """Feed hidden states by their numbers."""
        x = self.weights.embedding[tokens]
        watch = Watch(*watched, newest=newest)
        attended, took = timed(partial(self._steps.feed, x, watch), x.is_cuda)
        shown = x[-1:] if newest else x
        sizes = self.caches[0].filled_bytes, self.caches[0].allocated_bytes
        return Forward(shown[:, :0], [shown], [attended], [took], *sizes)


@dataclass(frozen=True)
class LayerSettings:
    """Everything that decides the run of one layer alone, on random hidden states.

    Raises:
        ValueError: a setting is not legal, or the folder is none that is read.
    """

    folder: str
    layer: int = 0
    left: str = "mla_expanded"
    right: str = "mla_absorbed"
    tokens: int = 24
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        fields, family = described(Path(self.folder))
        _, rope, _ = read_shape(fields, family)
        check_int("layer", self.layer, 0, fields.n_layers * family.attentions - 1)
        check_int("tokens", self.tokens, 1, min(rope.most_tokens or MOST_TOKENS, MOST_TOKENS))
        check_int("seed", self.seed, 0, 2**63 - 1)
        for field in ("left", "right"):
            check_choice(field, getattr(self, field), MLA_MECHANISMS)
        parse_dtype(self.dtype)
        pick_device(self.device)

    @property
    def prompt(self) -> str:
        """What a file is called that is taken along."""
        return f"{Path(self.folder).name} layer {self.layer}"

    @property
    def bill(self) -> Bill:
        """What it takes at most."""
        geometry, *_ = read_shape(*described(Path(self.folder)))
        return layer_bill(geometry, (self.left, self.right), self.dtype, self.tokens)


AnySettings = Settings | LayerSettings


def run_of(settings: AnySettings, on_step: OnStep | None = None) -> Run:
    """The run of a model, or of one layer alone.

    Raises:
        ValueError: as `decode` and `load_attention`.
    """
    if isinstance(settings, Settings):
        return decode(settings, on_step=on_step)
    s = settings
    s.bill.check(usable_bytes(pick_device(s.device)))
    layer = load_attention(s.folder, s.layer, s.dtype, s.device)
    hidden = layer.checked(seeded_hidden(layer, s.tokens, s.seed))
    note = f"Hidden states are random, of variance 1, seed {s.seed}."
    return run_layer(layer, hidden, s.left, s.right, note, on_step)


def bill_of_any(settings: AnySettings) -> Bill:
    """What either takes at most.

    Raises:
        ValueError: the settings are not legal.
    """
    return bill_of(settings) if isinstance(settings, Settings) else settings.bill


def seeded_hidden(
    layer: AttentionLayer, tokens: object, seed: object
) -> Float[Tensor, "seq d_model"]:
    """Random hidden states of variance 1, as a norm without gains leaves them.

    Raises:
        ValueError: a number is out of its bounds.
    """
    tokens = check_int("tokens", tokens, 1, layer.most_tokens or MOST_TOKENS)
    generator = torch.Generator().manual_seed(check_int("seed", seed, 0, 2**63 - 1))
    return torch.randn(tokens, layer.geometry.d_model, generator=generator)


def read_hidden(file: Path) -> Float[Tensor, "..."]:
    """The tensor `hidden` of a safetensors file.

    Raises:
        ValueError: there is no such file or tensor, or it holds other numbers than floats.
    """
    try:
        with safe_open(file, framework="pt") as content:
            part = content.get_slice("hidden")
            if part.get_dtype() not in FLOATS:
                raise ValueError(f"expected {', '.join(FLOATS)}, got {part.get_dtype()}")
            return content.get_tensor("hidden").float()
    except (OSError, SafetensorError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"hidden: expected safetensors with it, got {file}: {why}") from None


def run_layer(
    layer: AttentionLayer,
    hidden: Float[Tensor, "seq d_model"],
    left: str,
    right: str,
    note: str,
    on_step: OnStep | None = None,
) -> Run:
    """As `AttentionLayer.run`; `note` says of the hidden states what the player is to say.

    `on_step` is called as in `decode`.

    Raises:
        ValueError: a mechanism does not run MLA weights, or the dtype overflows.
    """
    for field, name in (("left", left), ("right", right)):
        check_choice(field, name, MLA_MECHANISMS)
    seq, weights, dtype = len(hidden), _Alone(layer, hidden), _name(hidden.dtype)
    sides = [Recorder(name, weights, seq, Settings()) for name in (left, right)]
    comparison, ids = Comparison(), list(range(seq))
    for step in ids:
        seen = [side.feed(ids, range(step, step + 1))[0] for side in sides]
        for one in seen:
            check_finite(one["out"].flatten(), step, dtype)
        comparison.add(*seen, keep=sides[0].keeps(step))
        if on_step:
            on_step(step + 1, seq)
    done = [side.side(seq, ()) for side in sides]
    tokens = [Token(i, f"h{i + 1}", i, "prompt") for i in ids]
    notes = (f"One layer alone, {layer.name}, counted from 0: no token is chosen.", note)
    return Run(
        prompt=layer.name,
        text="",
        tokens=(*tokens, Token(seq, "end", seq, "generated")),
        model={"name": layer.name, "n_layers": 1, **asdict(layer.geometry)},
        n_layers=1,
        source=layer.name,
        dtype=dtype,
        device=hidden.device.type,
        temperature=0.0,
        top_k=0,
        left=done[0],
        right=done[1],
        differences=comparison.differences,
        gaps=comparison.gaps,
        same_tokens=True,
        notes=(*filter(None, notes), *dropped_rows(done[0].probs.steps, seq)),
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
