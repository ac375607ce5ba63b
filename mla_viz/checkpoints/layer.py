"""One layer's attention of a checkpoint, and every mechanism on it, step by step.

A layer of a 671B model is some 200M weights: nothing else of the folder is read.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Watch, turns
from mla_viz.attention.weights import MLAWeights, cast
from mla_viz.checkpoints.families import (
    AS_NAMED,
    HALVES,
    INTERLEAVED,
    LATENT_EPS,
    NONE,
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
        hidden = self._checked(hidden)
        seq = len(hidden)
        starts = [0, *range(check_int("prefill", prefill, 0, seq) or 1, seq)]
        row = implementation(mechanism)
        weights = row.prepare(self.weights)
        cache = row.new_cache(weights, ())
        out, scores, probs = [], [], []
        for start, stop in zip(starts, [*starts[1:], seq], strict=True):
            first = 0 if row.whole_prefix else start
            pos = torch.arange(first, stop, device=hidden.device)
            rope = turns(pos, self.frequencies, hidden.dtype)
            watch = Watch("scores", "probs")
            attended = row.attend(weights, cache, hidden[first:stop], rope, watch)
            out.append(attended.out[start - first :])
            for kept, rows in ((scores, "scores"), (probs, "probs")):
                new = attended.seen[rows][:, start - first :]
                kept.extend(new[:, i, : start + i + 1] for i in range(stop - start))
        table = cache.table()
        return Trace(torch.cat(out), tuple(scores), tuple(probs), table, cache.filled_bytes)

    def _checked(self, hidden: Tensor) -> Float[Tensor, "seq d_model"]:
        d_model = self.geometry.d_model
        if hidden.ndim != 2 or not len(hidden) or hidden.shape[1] != d_model:
            raise ValueError(f"hidden: expected [seq, {d_model}], got {list(hidden.shape)}")
        if self.most_tokens is not None and len(hidden) > self.most_tokens:
            raise ValueError(
                f"hidden: expected at most {self.most_tokens:,} tokens, up to which this layer's"
                f" attention is dense and unscaled, got {len(hidden):,}"
            )
        return hidden.to(self.weights.W_O)


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
    fields, family = _described(Path(folder))
    last = fields.n_layers * family.attentions - 1
    layer = check_int("layer", layer, 0, last)
    files = Folder(folder)
    pairs = _pairs(fields, family)
    width = fields.whole("qk_rope_head_dim", low=0)
    rope = no_rope(width) if pairs == NONE else read_rope(fields, width, family.theta)
    geometry = _geometry(fields, rope)
    prefix = attention_prefix(files, family, layer)
    weights = lay_out(
        Stored(files, prefix, fields, family).read(geometry), geometry, pairs, rope.gain
    )
    if family.widened:
        weights = _widened(weights, fields)
    limits = [rope.most_tokens, fields.whole(family.dense_below) if family.dense_below else None]
    return AttentionLayer(
        name=f"{fields.get('model_type')} layer {layer}",
        weights=cast(weights, dtype, device),
        frequencies=rope.frequencies.to(device),
        most_tokens=min((limit for limit in limits if limit is not None), default=None),
    )


def _described(folder: Path) -> tuple[Fields, Family]:
    """The fields of the language model in the folder, and its family."""
    record = decoder_fields(open_config(folder / "config.json"))
    kind = record.get("model_type")
    family = find_family(kind, record.get("architectures"))
    named = {name: value for name, value in record.items() if value is not None}
    fields = Fields({**DEFAULTS.get(kind, {}), **named})
    if fields.get("attention_bias"):
        refuse(
            " attention_bias",
            "false: no mechanism here adds one",
            told(fields.get("attention_bias")),
        )
    return fields, family


def _pairs(fields: Fields, family: Family) -> str:
    """Which elements RoPE turns together."""
    if family.pairs != AS_NAMED:
        return family.pairs
    interleaved = fields.get("rope_interleave", True)
    if not isinstance(interleaved, bool):
        refuse(" rope_interleave", "true or false", told(interleaved))
    return INTERLEAVED if interleaved else HALVES


def _geometry(fields: Fields, rope: Rope) -> MLAGeometry:
    ranked = fields.get("q_lora_rank") is not None
    share = (
        max(1, fields.d_model // fields.n_heads) if fields.get("model_type") == "minicpm3" else None
    )
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
