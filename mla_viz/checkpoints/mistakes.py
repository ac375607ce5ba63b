"""A museum of mistakes: what released projects got wrong, each on a real layer.

All that is wrong on purpose stands in this file, and the museum's page alone shows it. A mistake
changes a layer before it is run, or one of two steps of the run here, which is plain attention over
a whole prompt. A thread is where a mistake was reported or mended; of three none is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from mla_viz.attention.cache import NoCache
from mla_viz.attention.mla import expand, head_queries, latent
from mla_viz.attention.ops import (
    Attended,
    Watch,
    attend_grouped,
    causal_softmax,
    merge_heads,
    rotate,
    turns,
)
from mla_viz.attention.weights import MLAWeights, cast
from mla_viz.checkpoints.families import HALVES
from mla_viz.checkpoints.layer import AttentionLayer
from mla_viz.checkpoints.weights import beside
from mla_viz.config import check_choice, check_float
from mla_viz.model.decoder import Decoder, ModelWeights

NOTICED = 0.01  # of the output's largest value


@dataclass(frozen=True)
class Mistake:
    """One mistake, as a line of code right and wrong, and who reported it.

    `spoil` changes the weights; `normed` and `key_turns` are steps of the run that go wrong. One
    `of_yarn` changes nothing in a layer whose softmax scale has no factor.
    """

    what: str
    right: str
    wrong: str
    thread: str | None = None
    reported: str = ""
    spoil: Callable[[MLAWeights], MLAWeights] = lambda weights: weights
    normed: bool = True
    key_turns: int = 1
    of_yarn: bool = False


NOTHING = Mistake("nothing", "", "")


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


def find_mistake(name: object) -> Mistake:
    """The mistake of that name.

    Raises:
        ValueError: there is none.
    """
    return MISTAKES[check_choice("mistake", name, list(MISTAKES))]


def effect_of(mistake: str, layer: AttentionLayer, hidden: Float[Tensor, "seq d_model"]) -> Effect:
    """What a mistake does to a layer at every prompt that these hidden states begin with.

    Raises:
        ValueError: there is no such mistake.
    """
    row = find_mistake(mistake)
    (scores, out), (bad_scores, bad_out) = (scored(x, layer, hidden) for x in (NOTHING, row))
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
def scored(
    mistake: Mistake, layer: AttentionLayer, hidden: Float[Tensor, "seq d_model"]
) -> tuple[Float[Tensor, "n_heads seq seq"], Float[Tensor, "seq d_model"]]:
    """Scores, those of later tokens too, and output of a layer with a mistake, in float64."""
    w = mistake.spoil(cast(layer.weights, torch.float64, "cpu"))
    x = hidden.to("cpu", torch.float64)
    rope = turns(torch.arange(len(x)), layer.frequencies.cpu(), x.dtype)
    attended = _attend(mistake, w, NoCache(), x, rope, Watch("scores"))
    return attended.seen["scores"], attended.out


def _attend(
    mistake: Mistake,
    w: MLAWeights,
    cache: NoCache,  # noqa: ARG001
    x: Float[Tensor, "seq d_model"],
    rope: Complex[Tensor, "seq half"],
    watch: Watch,
) -> Attended:
    """Causal attention of a whole prefix over itself, with the steps that go wrong."""
    c_kv, k_rope = latent(w, x, rope)
    if not mistake.normed:
        c_kv = x @ w.W_DKV
    for _ in range(mistake.key_turns - 1):
        k_rope = rotate(k_rope, rope)
    keys, values = expand(w, c_kv, k_rope)
    heads = attend_grouped(head_queries(w, x, rope), keys, values, w.geometry.softmax_scale, watch)
    return Attended(merge_heads(heads, w.W_O), watch.seen)


class WrongDecoder(Decoder):
    """A model with a mistake in every layer. It keeps nothing: feed it the whole prefix."""

    def __init__(self, weights: ModelWeights, mistake: Mistake) -> None:
        super().__init__(weights, "recompute")
        self._mechanism = replace(self._mechanism, attend=partial(_attend, mistake))
        self._attention = [mistake.spoil(w) for w in self._attention]


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
        "Scores are scaled by the width that the absorbed form multiplies, latent and RoPE key, not"
        " by that of a key: 576 against 192 for DeepSeek-V3. Absorbing reorders a product; it"
        " changes no score.",
        "scores = (q_latent @ c_kv.T + q_rope @ k_rope.T) * (qk_nope + qk_rope) ** -0.5",
        "scores = (q_latent @ c_kv.T + q_rope @ k_rope.T) * (kv_lora_rank + qk_rope) ** -0.5",
        "https://github.com/ollama/ollama/pull/13893",
        "ollama, GLM-4 MoE Lite, January 2026: 576 for 256. Mended, it called tools better and"
        " looped less.",
        _scaled_by_latent,
    ),
    "mscale left out": Mistake(
        "YaRN multiplies the softmax scale by m², 1.87 for DeepSeek-V3, where mscale_all_dim is"
        " set. Left out, attention is too even.",
        "scale = qk_head_dim ** -0.5 * m**2",
        "scale = qk_head_dim ** -0.5",
        "https://github.com/onnxruntime/mobius/pull/548",
        "onnxruntime/mobius, DeepSeek-V2 and V3, August 2026: logits were right at position 0 and"
        " wrong behind it.",
        _without_mscale,
        of_yarn=True,
    ),
    "mscale on cos and sin": Mistake(
        "YaRN multiplies cos and sin by m(mscale) / m(mscale_all_dim), which is 1 where both are"
        " equal. Multiplied by m alone, the RoPE part of a score counts m² as much.",
        "cos, sin = (m(mscale) / m(mscale_all_dim)) * cos, (m(mscale) / m(mscale_all_dim)) * sin",
        "cos, sin = m(mscale) * cos, m(mscale) * sin",
        "https://github.com/kekzl/imp/pull/880",
        "imp, DeepSeek-V2-Lite, July 2026: perplexity grew with the length of the text.",
        _turns_scaled,
        of_yarn=True,
    ),
    "other pairs turned": Mistake(
        "RoPE turns x_i with x_(i + width/2) where the weights were trained for neighbours, or the"
        " other way round.",
        "x[2 * i], x[2 * i + 1] = turn(x[2 * i], x[2 * i + 1], pos * theta[i])",
        "x[i], x[i + width // 2] = turn(x[i], x[i + width // 2], pos * theta[i])",
        "https://github.com/sgl-project/sglang/pull/30342",
        "sglang, the indexer of DeepSeek-V3.2, July 2026, the other way round: GSM8K fell from"
        " 0.955 to 0.931.",
        _other_pairs,
    ),
    "key turned twice": Mistake(
        "The RoPE key, turned when it was cached, is turned again when it is read.",
        "cache.append(rotate(k_rope, pos))\nscores = q_rope @ cache.T",
        "cache.append(rotate(k_rope, pos))\nscores = q_rope @ rotate(cache, all_pos).T",
        "https://github.com/NeuraLegion/shainet/pull/110",
        "shainet, a Llama's keys, June 2026: found in review.",
        key_turns=2,
    ),
    "latent before its norm": Mistake(
        "The cache holds the latent as it was before kv_a_layernorm, and nothing norms it later.",
        "cache.append(rms_norm(x @ W_DKV) * kv_norm)",
        "cache.append(x @ W_DKV)",
        normed=False,
    ),
    "keys first": Mistake(
        "kv_b_proj lies head by head, each one's keys and then its values. Split into all keys and"
        " all values, shapes fit and numbers do not.",
        "k, v = kv_b.view(n_heads, qk_nope + v_dim, rank).split([qk_nope, v_dim], 1)",
        "k, v = kv_b.split([n_heads * qk_nope, n_heads * v_dim], 0)",
        spoil=_keys_first,
    ),
    "values of another head": Mistake(
        "Each head's mix of latents goes through the W_UV of the head before it. Scores stay"
        " right.",
        "o_head[i] = o_latent[i] @ W_UV[i]",
        "o_head[i] = o_latent[i] @ W_UV[i - 1]",
        spoil=_values_of_others,
    ),
}
