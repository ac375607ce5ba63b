"""The museum of mistakes: each in the shipped model, in one of its layers and in its text.

The model is the sliders' at its full size, since at latent dim 32 a latent and its RoPE key are as
wide as a key, and a wrong scale would be the right one. The likeliest token is always taken. What
is wrong is in `checkpoints.mistakes`; nothing here is.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import zip_longest

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.weights import MLAWeights
from mla_viz.checkpoints.layer import AttentionLayer
from mla_viz.checkpoints.mistakes import (
    MISTAKES,
    NOTHING,
    NOTICED,
    Effect,
    Mistake,
    WrongDecoder,
    effect_of,
    find_mistake,
    scored,
)
from mla_viz.checkpoints.rope import read_rope
from mla_viz.config import check_int
from mla_viz.model.decoder import ModelWeights
from mla_viz.model.sources import TRAINED, find_source
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.published.fields import Fields
from mla_viz.run.decode import bill_of
from mla_viz.run.settings import EXAMPLE_PROMPT, Settings

# deepseek-ai/DeepSeek-V3, config.json
V3_ROPE = {
    "rope_theta": 10000,
    "max_position_embeddings": 163840,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
    },
}
MOST_NEW_TOKENS = 96


@dataclass(frozen=True)
class MuseumAsked:
    """What is looked at: a mistake, a prompt, how much is written, and a layer and head from 0.

    Raises:
        ValueError: one of them is not legal; the message begins with its name.
    """

    mistake: str = next(iter(MISTAKES))
    prompt: str = EXAMPLE_PROMPT
    new_tokens: int = 48
    layer: int = 2
    head: int = 0

    def __post_init__(self) -> None:
        find_mistake(self.mistake)
        check_int("new_tokens", self.new_tokens, 1, MOST_NEW_TOKENS)
        g = full_model().geometry
        check_int("layer", self.layer, 0, g.n_layers - 1)
        check_int("head", self.head, 0, g.attention.n_heads - 1)
        bill_of(self.settings)

    @property
    def settings(self) -> Settings:
        """The run that writes the right text."""
        shape = find_source(TRAINED).largest()
        return Settings(
            self.prompt,
            heads=shape.heads,
            latent=shape.latent,
            max_new_tokens=self.new_tokens,
            temperature=0.0,
        )

    @property
    def row(self) -> Mistake:
        """The mistake itself."""
        return find_mistake(self.mistake)


@dataclass(frozen=True)
class Texts:
    """What is written behind a prompt without and with a mistake, token by token.

    `same_next` says of each token of the right text whether the model with the mistake, having read
    the right text so far, would choose it too.
    """

    prompt: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    same_next: tuple[bool, ...]

    @property
    def differs_at(self) -> int | None:
        """The first written token, from 0, that is another; None where none is."""
        pairs = enumerate(zip_longest(self.right, self.wrong))
        return next((i for i, (one, other) in pairs if one != other), None)


@dataclass(frozen=True, eq=False)
class Seen:
    """Scores and attention of one layer, every query in a row, without and with a mistake."""

    right: Float[np.ndarray, "n_heads seq seq"]
    wrong: Float[np.ndarray, "n_heads seq seq"]

    def attention(self, head: int, query: int) -> tuple[np.ndarray, np.ndarray]:
        """What a query attends to, right and wrong."""
        return tuple(_softmax(x[head, query, : query + 1]) for x in (self.right, self.wrong))


def _softmax(row: Float[np.ndarray, " keys"]) -> Float[np.ndarray, " keys"]:
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def yarn_factor() -> float:
    """What DeepSeek-V3's YaRN multiplies the softmax scale by: m²."""
    return read_rope(Fields(V3_ROPE), 64, 10000.0).scale


@cache
def full_model() -> ModelWeights:
    """The shipped model at its full size. Treat it as read-only."""
    source = find_source(TRAINED)
    return source.load(source.geometry(source.largest(), "mla_absorbed"), 0)


@cache
def _with_factor() -> ModelWeights:
    """The same model, its queries divided by m² and its softmax scale multiplied by it."""
    model = full_model()
    blocks = [replace(b, attention=factored(b.attention, yarn_factor())) for b in model.blocks]
    return replace(model, blocks=tuple(blocks))


def factored(w: MLAWeights, factor: float) -> MLAWeights:
    """Weights of the same scores whose softmax scale holds a factor."""
    g = w.geometry
    scaled = replace(g, softmax_scale_override=g.softmax_scale * factor)
    return replace(w, geometry=scaled, W_UQ=w.W_UQ / factor, W_QR=w.W_QR / factor)


def model_for(mistake: Mistake) -> ModelWeights:
    """The model that a mistake is shown in: one with YaRN's factor where it is about that."""
    return _with_factor() if mistake.of_yarn else full_model()


def layer_of(model: ModelWeights, layer: int) -> AttentionLayer:
    """One layer's attention, alone."""
    g = model.geometry.attention
    pairs = torch.arange(0, g.qk_rope_head_dim, 2, dtype=torch.float64)
    frequencies = g.rope_theta ** (-pairs / g.qk_rope_head_dim)
    return AttentionLayer(f"stories layer {layer}", model.blocks[layer].attention, frequencies)


@lru_cache(maxsize=64)
def written(settings: Settings, name: str | None = None) -> tuple[int, ...]:
    """The prompt's tokens and those that the model writes behind them, with a mistake or right."""
    mistake = NOTHING if name is None else MISTAKES[name]
    model, tokenizer = model_for(mistake), stories_tokenizer()
    ids = tokenizer.prompt(settings.prompt)
    most = min(len(ids) + settings.max_new_tokens, model.geometry.context)
    decoder = WrongDecoder(model, mistake)
    while len(ids) < most and ids[-1] != tokenizer.end:
        ids.append(int(decoder.feed(torch.tensor(ids), newest=True).logits[-1].argmax()))
    return tuple(ids)


@lru_cache(maxsize=8)
def _hidden(settings: Settings) -> list[Float[Tensor, "seq d_model"]]:
    """What each layer's attention gets where the right model reads what it wrote."""
    return WrongDecoder(full_model(), NOTHING).feed(torch.tensor(written(settings))).inputs


def texts(asked: MuseumAsked) -> Texts:
    """What the model writes, right and with the mistake in every layer."""
    settings, tokenizer = asked.settings, stories_tokenizer()
    right, wrong = written(settings), written(settings, asked.mistake)
    start = len(tokenizer.prompt(settings.prompt))
    decoder = WrongDecoder(model_for(asked.row), asked.row)
    would = decoder.feed(torch.tensor(right[:-1])).logits[start - 1 :].argmax(-1).tolist()
    return Texts(
        prompt=_shown(right[:start]),
        right=_shown(right[start:]),
        wrong=_shown(wrong[start:]),
        same_next=tuple(one == other for one, other in zip(would, right[start:], strict=True)),
    )


def _shown(ids: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(map(stories_tokenizer().text_of, ids))


def effect(asked: MuseumAsked) -> Effect:
    """What the mistake does to the layer at every beginning of the right text, prompt included."""
    return effect_of(asked.mistake, *_layer_and_hidden(asked))


def seen(asked: MuseumAsked) -> Seen:
    """Scores of the layer over the right text, prompt included."""
    place = _layer_and_hidden(asked)
    return Seen(*(scored(mistake, *place)[0].numpy() for mistake in (NOTHING, asked.row)))


def _layer_and_hidden(asked: MuseumAsked) -> tuple[AttentionLayer, Float[Tensor, "seq d_model"]]:
    layer = layer_of(model_for(asked.row), asked.layer)
    return layer, _hidden(asked.settings)[asked.layer]


def summary(asked: MuseumAsked, share: float = NOTICED) -> dict[str, object]:
    """A mistake in figures: what is off at the whole text, from when, and what it writes."""
    both = texts(asked)
    return {
        "mistake": asked.mistake,
        **_in_figures(effect(asked), share),
        "first_other_token": None if both.differs_at is None else both.differs_at + 1,
        "same_next_tokens": sum(both.same_next),
        "of_tokens": len(both.same_next),
        "with_yarn_factor": asked.row.of_yarn,
        "thread": asked.row.thread,
    }


def layer_summary(
    name: str, layer: AttentionLayer, hidden: Float[Tensor, "seq d_model"]
) -> dict[str, object]:
    """What a mistake does to any layer, a checkpoint's too.

    Raises:
        ValueError: there is no such mistake, or the hidden states are not the layer's.
    """
    found = effect_of(name, layer, layer.checked(hidden))
    return {
        "mistake": name,
        **_in_figures(found, NOTICED),
        "layer": layer.name,
        "thread": find_mistake(name).thread,
    }


def _in_figures(found: Effect, share: float) -> dict[str, object]:
    return {
        "tokens": len(found.out),
        "scores_off": float(found.scores[-1]),
        "attention_elsewhere": float(found.probs[-1]),
        "output_off": float(found.out[-1]),
        "noticed_at_tokens": found.noticed_at(share),
    }
