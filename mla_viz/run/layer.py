"""One layer alone as a run: two mechanisms, the same hidden states, one of them a step.

There is no text and no choice: a step feeds the next hidden state, and no token follows.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mla_viz.attention.ops import Watch
from mla_viz.attention.weights import MLAWeights
from mla_viz.checkpoints.folder import FLOATS
from mla_viz.checkpoints.layer import AttentionLayer, Steps, now
from mla_viz.config import MLAGeometry, check_choice, check_int
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.decoder import Forward
from mla_viz.run.comparison import Comparison
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

    def __init__(self, weights: _Alone, mechanism: str) -> None:
        self.weights, self._steps = weights, Steps(weights.layer, mechanism)
        self.whole_prefix, self.caches = self._steps.whole_prefix, [self._steps.cache]

    @torch.inference_mode()
    def feed(
        self, tokens: Int[Tensor, " seq"], watched: tuple[str, ...] = (), *, newest: bool = False
    ) -> Forward:
        """Feed hidden states by their numbers."""
        x = self.weights.embedding[tokens]
        began = now(x)
        attended = self._steps.feed(x, Watch(*watched, newest=newest))
        took = (now(x) - began) / 1e3
        shown = x[-1:] if newest else x
        return Forward(shown[:, :0], [shown], [attended], [took])


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
    layer: AttentionLayer, hidden: Float[Tensor, "seq d_model"], left: str, right: str, note: str
) -> Run:
    """As `AttentionLayer.run`; `note` says of the hidden states what the player is to say.

    Raises:
        ValueError: a mechanism does not run MLA weights, or the dtype overflows.
    """
    for field, name in (("left", left), ("right", right)):
        check_choice(field, name, MLA_MECHANISMS)
    seq, weights, dtype = len(hidden), _Alone(layer, hidden), _name(hidden.dtype)
    sides = [Recorder(name, weights, seq, Settings()) for name in (left, right)]
    comparison, ids = Comparison(), list(range(seq))
    for step in ids:
        seen = [side.feed(ids, step) for side in sides]
        for one in seen:
            check_finite(one["out"].flatten(), step, dtype)
        comparison.add(*seen, keep=sides[0].keeps(step))
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
