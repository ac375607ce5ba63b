"""One layer's attention of a checkpoint, and every mechanism on it, step by step.

A layer of a 671B model is some 200M weights: nothing else of the folder is read.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Attended, Watch, turns
from mla_viz.attention.weights import MLAWeights, cast
from mla_viz.checkpoints.families import (
    AS_NAMED,
    HALVES,
    INTERLEAVED,
    LATENT_EPS,
    NONE,
    OTHERS,
    Family,
    find_family,
)
from mla_viz.checkpoints.folder import Folder
from mla_viz.checkpoints.rope import Rope, no_rope, read_rope
from mla_viz.checkpoints.weights import Stored, attention_prefix, lay_out
from mla_viz.config import MLAGeometry, check_choice, check_int, told
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.published.config_json import decoder_fields, open_config
from mla_viz.published.fields import Fields, refuse
from mla_viz.published.readers import DEFAULTS

_RUNS = "mla_viz.run.layer"  # above this room: asked for only for a run


@dataclass(frozen=True, eq=False)
class Trace:
    """What a layer computed for a prefix, a row of scores and of probabilities a token.

    Row t is `n_heads t+1`. `cache` is what the mechanism kept, a row a token, None where it keeps
    nothing; `cache_bytes` are measured.
    """

    out: Float[Tensor, "seq d_model"]
    scores: tuple[Float[Tensor, "n_heads _"], ...]
    probs: tuple[Float[Tensor, "n_heads _"], ...]
    cache: Float[Tensor, "seq elems"] | None
    cache_bytes: int


@dataclass(frozen=True, eq=False)
class AttentionLayer:
    """The attention of one layer, as its checkpoint's own code computes it up to `most_tokens`.

    `frequencies` are those of RoPE, in radians a position, one for each pair.
    """

    name: str
    weights: MLAWeights
    frequencies: Float64[Tensor, " half"]
    most_tokens: int | None = None

    @property
    def geometry(self) -> MLAGeometry:
        """Its shape; rope_theta is the file's, which `frequencies` may scale."""
        return self.weights.geometry

    def decode(
        self, hidden: Float[Tensor, "_ _"], mechanism: str, prefill: int = 0
    ) -> Float[Tensor, "seq d_model"]:
        """The layer's output for hidden states `seq d_model`, as `trace`."""
        return self.trace(hidden, mechanism, prefill).out

    @torch.inference_mode()
    def trace(self, hidden: Float[Tensor, "_ _"], mechanism: str, prefill: int = 0) -> Trace:
        """Run a prefix through the layer: its first `prefill` tokens at once, then one by one.

        Args:
            hidden: normalised hidden states, `seq d_model`, as the layer's attention gets them.
            mechanism: one of those that run MLA weights.
            prefill: tokens, from 0 for step by step to all.

        Raises:
            ValueError: a shape or a name is not legal, or the prefix is longer than `most_tokens`.
        """
        check_choice("mechanism", mechanism, MLA_MECHANISMS)
        hidden = self.checked(hidden)
        seq = len(hidden)
        starts = [0, *range(check_int("prefill", prefill, 0, seq) or 1, seq)]
        steps = Steps(self, mechanism)
        out, scores, probs = [], [], []
        for start, stop in zip(starts, [*starts[1:], seq], strict=True):
            first = 0 if steps.whole_prefix else start
            attended = steps.feed(hidden[first:stop], Watch("scores", "probs"))
            out.append(attended.out[start - first :])
            for kept, rows in ((scores, "scores"), (probs, "probs")):
                new = attended.seen[rows][:, start - first :]
                kept.extend(new[:, i, : start + i + 1] for i in range(stop - start))
        cache = steps.cache
        return Trace(torch.cat(out), tuple(scores), tuple(probs), cache.table(), cache.filled_bytes)

    def run(
        self,
        hidden: Float[Tensor, "_ _"],
        left: str = "mla_expanded",
        right: str = "mla_absorbed",
        note: str = "",
    ) -> Any:
        """The layer alone by two mechanisms, step by step, as a Run for the player; as `trace`."""
        return import_module(_RUNS).run_layer(self, self.checked(hidden), left, right, note)

    def checked(self, hidden: Tensor) -> Float[Tensor, "seq d_model"]:
        """Hidden states in the layer's dtype, where it is.

        Raises:
            ValueError: their shape is another, or they are not finite.
        """
        d_model = self.geometry.d_model
        if hidden.ndim != 2 or not len(hidden) or hidden.shape[1] != d_model:
            raise ValueError(f"hidden: expected [seq, {d_model}], got {list(hidden.shape)}")
        hidden = hidden.to(self.weights.W_O)
        if not hidden.isfinite().all():
            raise ValueError(f"hidden: expected finite numbers of {hidden.dtype}, got inf or nan")
        return hidden


class Steps:
    """A mechanism on a layer, with its cache, fed token by token."""

    def __init__(self, layer: AttentionLayer, mechanism: str) -> None:
        row = implementation(mechanism)
        self._layer, self._attend, self.whole_prefix = layer, row.attend, row.whole_prefix
        self._weights = row.prepare(layer.weights)
        self.cache = row.new_cache(self._weights, ())
        self.seq_len = 0

    def feed(self, x: Float[Tensor, "new d_model"], watch: Watch) -> Attended:
        """Attend with the tokens behind those fed before; all again where nothing is kept.

        Raises:
            ValueError: there are more than the layer's `most_tokens`.
        """
        first = 0 if self.whole_prefix else self.seq_len
        self.seq_len, most = first + len(x), self._layer.most_tokens
        if most is not None and self.seq_len > most:
            raise ValueError(
                f"hidden: expected at most {most:,} tokens, up to which {self._layer.name} is"
                f" dense and unscaled, got {self.seq_len:,}"
            )
        pos = torch.arange(first, self.seq_len, device=x.device)
        rope = turns(pos, self._layer.frequencies, x.dtype)
        return self._attend(self._weights, self.cache, x, rope, watch)


def load_attention(
    folder: str | Path, layer: object, dtype: object = "float32", device: object = "cpu"
) -> AttentionLayer:
    """Read one layer's attention from a Hugging Face folder: config.json and safetensors.

    `layer` counts attentions from 0; a LongCat-Flash layer has two.

    Raises:
        ValueError: the folder has none of a family that is read, or is damaged; the message names
            the field or tensor.

    Example:
        >>> layer = mla_viz.load_attention("DeepSeek-V3", 0)
        >>> out = layer.decode(torch.randn(16, 7168), "mla_absorbed")
    """
    dtype, device = parse_dtype(dtype), pick_device(device)
    fields, family = described(Path(folder))
    geometry, rope, pairs = read_shape(fields, family)
    last = fields.n_layers * family.attentions - 1
    layer = check_int("layer", layer, 0, last)
    files = Folder(folder)
    prefix = attention_prefix(files, family, layer)
    weights = lay_out(
        Stored(files, prefix, fields, family).read(geometry), geometry, pairs, rope.gain
    )
    if family.widened:
        weights = _widened(weights, fields)
    return AttentionLayer(
        name=f"{fields.get('model_type')} layer {layer}",
        weights=cast(weights, dtype, device),
        frequencies=rope.frequencies.to(device),
        most_tokens=rope.most_tokens,
    )


def described(folder: Path) -> tuple[Fields, Family]:
    """The fields of the language model in the folder, and its family."""
    whole = open_config(folder / "config.json")
    record, outer = decoder_fields(whole), whole.get("model_type")
    kind = outer if str(outer) in OTHERS else record.get("model_type")
    family = find_family(kind, record.get("architectures"))
    named = {name: value for name, value in record.items() if value is not None}
    fields = Fields({**DEFAULTS.get(kind, {}), **named})
    if bias := fields.get("attention_bias"):
        refuse(" attention_bias", "false: no mechanism here adds one", told(bias))
    return fields, family


def read_shape(fields: Fields, family: Family) -> tuple[MLAGeometry, Rope, str]:
    """The shape of a layer, how it turns, and which elements together; without its tensors.

    Raises:
        ValueError: a field is missing or impossible.
    """
    pairs, width = _pairs(fields, family), fields.whole("qk_rope_head_dim", low=0)
    rope = no_rope(width) if pairs == NONE else read_rope(fields, width, family.theta)
    if family.dense_below:
        limits = {fields.whole(family.dense_below), rope.most_tokens} - {None}
        rope = replace(rope, most_tokens=min(limits))
    return _geometry(fields, family, rope), rope, pairs


def _pairs(fields: Fields, family: Family) -> str:
    """Which elements RoPE turns together."""
    if family.pairs != AS_NAMED:
        return family.pairs
    interleaved = fields.get("rope_interleave", True)
    if not isinstance(interleaved, bool):
        refuse(" rope_interleave", "true or false", told(interleaved))
    return INTERLEAVED if interleaved else HALVES


def _geometry(fields: Fields, family: Family, rope: Rope) -> MLAGeometry:
    ranked = fields.get("q_lora_rank") is not None
    share = max(1, fields.d_model // fields.n_heads) if family.v_of_heads else None
    plain = MLAGeometry(
        d_model=fields.d_model,
        n_heads=fields.n_heads,
        qk_nope_head_dim=fields.whole("qk_nope_head_dim"),
        qk_rope_head_dim=fields.whole("qk_rope_head_dim", low=0),
        v_head_dim=fields.whole("v_head_dim", default=share),
        kv_lora_rank=fields.whole("kv_lora_rank"),
        q_lora_rank=fields.whole("q_lora_rank") if ranked else None,
        rope_theta=rope.theta,
        norm_eps=LATENT_EPS,
    )
    if rope.scale == 1:
        return plain
    return replace(plain, softmax_scale_override=plain.softmax_scale * rope.scale)


def _widened(w: MLAWeights, fields: Fields) -> MLAWeights:
    """Queries and latents multiplied by sqrt(d_model / rank), through the gains of their norms."""
    g, gains = w.geometry, {"q_norm": w.q_norm, "kv_norm": w.kv_norm}
    for name, field, rank in (
        ("q_norm", "mla_scale_q_lora", g.q_lora_rank),
        ("kv_norm", "mla_scale_kv_lora", g.kv_lora_rank),
    ):
        if fields.get(field, True) and gains[name] is not None:
            gains[name] = gains[name] * (g.d_model / rank) ** 0.5
    return replace(w, **gains)
