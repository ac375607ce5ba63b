"""Loss of a model on a text, each story by itself. Knows models; knows no screen.

A story is begun with the end-of-text token; every later token is predicted once, the closing
end-of-text token included. A story longer than the context is cut into windows that overlap by
half, and each window scores only what the ones before it did not.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import log
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from mla_viz.config import (
    MLA_MECHANISMS,
    OWN_WEIGHTS,
    GQAGeometry,
    check_mechanism,
    mechanism_of,
)
from mla_viz.family import load_family, shipped_members
from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.model.tokenizer import END_OF_TEXT, load_tokenizer
from mla_viz.model.weights import full_geometry, load_named, load_trained
from mla_viz.scores import Score
from mla_viz.stories import read_stories


def evaluate(
    text: Path,
    source: str = "trained",
    heads: int | None = None,
    latent: int | None = None,
    mechanism: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    on_story: Callable[[int, int], None] | None = None,
) -> Score:
    """Score shipped weights on a text of stories separated by `<|endoftext|>` lines (.gz too).

    Args:
        text: path of the file.
        source: name of shipped weights: trained, or a member of the family.
        heads: heads kept; all where None. Free for `trained` only.
        latent: latent dims kept; all where None. Free for `trained` only.
        mechanism: one that runs these weights; all of them give the same loss.
        dtype: of weights and arithmetic.
        device: auto, cpu, cuda or cuda:N.
        on_story: called with (stories done, stories) after each.

    Raises:
        ValueError: a setting is not legal or the text cannot be read.
    """
    weights = _source_weights(source, heads, latent)
    attention = weights.geometry.attention
    chosen = check_mechanism("mechanism", mechanism or mechanism_of(attention))
    runs = OWN_WEIGHTS if isinstance(attention, GQAGeometry) else MLA_MECHANISMS
    if chosen not in runs:
        raise ValueError(
            f"mechanism: expected one of {', '.join(runs)} for source {source}, got {chosen!r}"
        )
    stories = read_stories(Path(text))
    weights = weights.to(parse_dtype(dtype), pick_device(device))
    return score_stories(weights, chosen, stories, on_story)


def _source_weights(source: str, heads: int | None, latent: int | None) -> ModelWeights:
    """Shipped weights by name; only the sliders' model can be cut to fewer heads or latent dims."""
    if source == "trained":
        full = full_geometry().attention
        return load_trained(
            full.n_heads if heads is None else heads,
            full.kv_lora_rank if latent is None else latent,
        )
    if source not in shipped_members():
        names = ", ".join(("trained", *shipped_members()))
        raise ValueError(f"source: expected one of {names}, got {source!r}")
    geometry = load_family().member(source).geometry
    own = geometry.describe()
    for name, asked in (("n_heads", heads), ("kv_lora_rank", latent)):
        if asked is not None and asked != own.get(name):
            raise ValueError(f"{name}: expected {own.get(name)} for {source}, got {asked}")
    return load_named(geometry)


def score_stories(
    weights: ModelWeights,
    mechanism: str,
    stories: list[str],
    on_story: Callable[[int, int], None] | None = None,
) -> Score:
    """Score weights on stories already read."""
    tokenizer, context = load_tokenizer(), weights.geometry.context
    end = tokenizer.token_to_id(END_OF_TEXT)
    losses, repeats = [], []
    for done, story in enumerate(stories, 1):
        ids = [end, *tokenizer.encode(story, add_special_tokens=False).ids, end]
        repeats += repeated_pairs(ids)
        for start, stop, fresh in windows(len(ids), context):
            losses.append(_window_losses(weights, mechanism, ids[start:stop], fresh))
        if on_story:
            on_story(done, len(stories))
    nats, again = torch.cat(losses), torch.tensor(repeats)
    return Score(
        nats_per_token=nats.mean().item(),
        bits_per_byte=nats.sum().item() / log(2) / sum(len(story.encode()) for story in stories),
        tokens=len(nats),
        repeated=_mean(nats[again]),
        novel=_mean(nats[~again]),
    )


def _mean(nats: Float[Tensor, " tokens"]) -> float | None:
    return nats.mean().item() if len(nats) else None


def repeated_pairs(ids: list[int]) -> list[bool]:
    """For every token but the first: whether it and its predecessor have stood so before.

    Worked: a b a b c gives a-b no, b-a no, a-b yes, b-c no.
    """
    seen: set[tuple[int, int]] = set()
    repeats = []
    for pair in pairwise(ids):
        repeats.append(pair in seen)
        seen.add(pair)
    return repeats


def windows(length: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Cut `length` tokens into (start, stop, predictions that are new).

    Every token but the first is predicted once: 600 tokens at context 256 give (0, 257, 256),
    (128, 385, 128), (256, 513, 128), (384, 600, 87).
    """
    start, scored = 0, 1
    while scored < length:
        stop = min(start + context + 1, length)
        yield start, stop, stop - scored
        scored = stop
        start += context // 2


@torch.inference_mode()
def _window_losses(
    weights: ModelWeights, mechanism: str, ids: list[int], fresh: int
) -> Float[Tensor, " fresh"]:
    tokens = torch.tensor(ids, device=weights.embedding.device)
    logits = Decoder(weights, mechanism).feed(tokens[:-1]).logits
    losses = F.cross_entropy(logits[-fresh:].double(), tokens[-fresh:], reduction="none")
    return losses.cpu()
