"""A museum of mistakes: what released projects got wrong, each on a real layer.

All that is wrong on purpose stands in this file, and no other module knows it. A mistake changes a
layer before it is run, or one of two steps of the run here, which is plain attention over a whole
prompt in float64. A thread is where a mistake was reported or mended; of three none is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import starmap

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.mla import expand, head_queries, latent
from mla_viz.attention.ops import Watch, attend_grouped, causal_softmax, merge_heads, rotate, turns
from mla_viz.attention.weights import MLAWeights, cast
from mla_viz.checkpoints.families import HALVES
from mla_viz.checkpoints.layer import AttentionLayer
from mla_viz.checkpoints.weights import beside
from mla_viz.config import check_choice, check_float

NOTICED = 0.01  # of the output's largest value


@dataclass(frozen=True)
class Mistake:
    """One mistake: `spoil` changes the weights; the others are steps of the run that go wrong."""

    what: str
    thread: str | None = None
    spoil: Callable[[MLAWeights], MLAWeights] = lambda weights: weights
    normed: bool = True
    key_turns: int = 1


@dataclass(frozen=True, eq=False)
class Effect:
    """How far a layer with a mistake is from the right one, by the length of the prompt.

    Entry n - 1 is about the last token of a prompt of n: `scores` and `out` as the largest
    difference by the largest right value, `probs` as the largest share of a head's attention that
    goes elsewhere.
    """

    scores: Float[Tensor, " lengths"]
    probs: Float[Tensor, " lengths"]
    out: Float[Tensor, " lengths"]

    def noticed_at(self, share: float = NOTICED) -> int | None:
        """The shortest prompt whose output is off by more than `share`; None where none is."""
        check_float("share", share, 0, 1e6)
        off = (self.out > share).nonzero()
        return int(off[0]) + 1 if len(off) else None


def effect_of(mistake: str, layer: AttentionLayer, hidden: Float[Tensor, "seq d_model"]) -> Effect:
    """What a mistake does to a layer at every prompt that these hidden states begin with.

    Raises:
        ValueError: there is no such mistake.
    """
    row = MISTAKES[check_choice("mistake", mistake, list(MISTAKES))]
    right, wrong = (_attended(layer, hidden, each) for each in (Mistake("nothing"), row))
    (scores, out), (bad_scores, bad_out) = right, wrong
    moved = (causal_softmax(bad_scores) - causal_softmax(scores)).abs().sum(-1) / 2
    rows = range(1, len(hidden) + 1)
    pairs = [(bad_scores[:, n - 1, :n], scores[:, n - 1, :n]) for n in rows]
    return Effect(
        scores=torch.stack(list(starmap(_off, pairs))),
        probs=moved.amax(0),
        out=torch.stack(list(starmap(_off, zip(bad_out, out, strict=True)))),
    )


def _off(wrong: Tensor, right: Tensor) -> Tensor:
    return (wrong - right).abs().max() / right.abs().max()


@torch.inference_mode()
def _attended(
    layer: AttentionLayer, hidden: Float[Tensor, "seq d_model"], mistake: Mistake
) -> tuple[Float[Tensor, "n_heads seq seq"], Float[Tensor, "seq d_model"]]:
    """Scores, those of later tokens too, and output."""
    w = mistake.spoil(cast(layer.weights, torch.float64, "cpu"))
    x = hidden.to("cpu", torch.float64)
    rope = turns(torch.arange(len(x)), layer.frequencies.cpu(), x.dtype)
    c_kv, k_rope = latent(w, x, rope)
    if not mistake.normed:
        c_kv = x @ w.W_DKV
    for _ in range(mistake.key_turns - 1):
        k_rope = rotate(k_rope, rope)
    watch = Watch("scores")
    keys, values = expand(w, c_kv, k_rope)
    heads = attend_grouped(head_queries(w, x, rope), keys, values, w.geometry.softmax_scale, watch)
    return watch.seen["scores"], merge_heads(heads, w.W_O)


def _scaled(w: MLAWeights, scale: float) -> MLAWeights:
    return replace(w, geometry=replace(w.geometry, softmax_scale_override=scale))


def _scaled_by_latent(w: MLAWeights) -> MLAWeights:
    g = w.geometry
    width = g.kv_lora_rank + g.qk_rope_head_dim
    return _scaled(w, g.softmax_scale * (g.qk_head_dim / width) ** 0.5)


def _without_mscale(w: MLAWeights) -> MLAWeights:
    return _scaled(w, w.geometry.qk_head_dim**-0.5)


def _turns_scaled(w: MLAWeights) -> MLAWeights:
    """Queries' and keys' turned parts times m, where the softmax scale holds m^2."""
    m = (w.geometry.softmax_scale * w.geometry.qk_head_dim**0.5) ** 0.5
    return replace(w, W_QR=w.W_QR * m, W_KR=w.W_KR * m)


def _other_pairs(w: MLAWeights) -> MLAWeights:
    return replace(w, W_QR=beside(w.W_QR, HALVES), W_KR=beside(w.W_KR, HALVES))


def _keys_first(w: MLAWeights) -> MLAWeights:
    """kv_b read as all heads' keys, then all their values."""
    g = w.geometry
    whole = torch.cat([w.W_UK, w.W_UV], -1).transpose(0, 1).flatten(-2)
    parts = whole.split([g.n_heads * g.qk_nope_head_dim, g.n_heads * g.v_head_dim], -1)
    keys, values = (part.unflatten(-1, (g.n_heads, -1)).transpose(0, 1) for part in parts)
    return replace(w, W_UK=keys, W_UV=values)


def _values_of_others(w: MLAWeights) -> MLAWeights:
    return replace(w, W_UV=w.W_UV.roll(1, 0))


MISTAKES = {
    "scale of the latent": Mistake(
        "Scores scaled by the width that the absorbed form multiplies (kv_lora_rank + rope,"
        " 576^-1/2 for DeepSeek-V3), not by that of a key (192^-1/2).",
        "https://github.com/ollama/ollama/pull/13893",
        _scaled_by_latent,
    ),
    "mscale left out": Mistake(
        "YaRN's m^2 missing from the softmax scale: 1.87 for DeepSeek-V3.",
        "https://github.com/onnxruntime/mobius/pull/548",
        _without_mscale,
    ),
    "mscale on cos and sin": Mistake(
        "cos and sin multiplied by YaRN's m although mscale and mscale_all_dim are equal.",
        "https://github.com/kekzl/imp/pull/880",
        _turns_scaled,
    ),
    "other pairs turned": Mistake(
        "RoPE turns x_i with x_(i + width/2) where the weights were trained for neighbours,"
        " or the other way round.",
        "https://github.com/DeepAuto-AI/hip-attention/pull/56",
        _other_pairs,
    ),
    "key turned twice": Mistake(
        "The cached key, turned when it was written, is turned again when it is read.",
        "https://github.com/NeuraLegion/shainet/pull/110",
        key_turns=2,
    ),
    "latent before its norm": Mistake(
        "The cache holds the latent as it was before kv_a_layernorm, and nothing norms it later.",
        normed=False,
    ),
    "keys first": Mistake(
        "kv_b_proj split into all heads' keys and then all their values, not head by head.",
        spoil=_keys_first,
    ),
    "values of another head": Mistake(
        "Each head mixes its values by the W_UV of the head before it.",
        spoil=_values_of_others,
    ),
}
