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

from mla_viz.config import OWN_WEIGHTS, check_mechanism
from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.model.tokenizer import END_OF_TEXT, load_tokenizer
from mla_viz.model.weights import load_trained
from mla_viz.scores import Score
from mla_viz.stories import read_stories


def evaluate(
    text: Path,
    source: str = "trained",
    heads: int = 8,
    latent: int = 64,
    mechanism: str = "mla_absorbed",
    dtype: str = "float32",
    device: str = "auto",
    on_story: Callable[[int, int], None] | None = None,
) -> Score:
    """Score shipped weights on a text of stories separated by `<|endoftext|>` lines (.gz too).

    Args:
        text: path of the file.
        source: name of shipped weights.
        heads: heads kept.
        latent: latent dims kept.
        mechanism: one that runs these weights; all of them give the same loss.
        dtype: of weights and arithmetic.
        device: auto, cpu, cuda or cuda:N.
        on_story: called with (stories done, stories) after each.

    Raises:
        ValueError: a setting is not legal or the text cannot be read.
    """
    if check_mechanism("mechanism", mechanism) in OWN_WEIGHTS:
        raise ValueError(f"mechanism: expected one that runs MLA weights, got {mechanism!r}")
    if source != "trained":
        raise ValueError(f"source: expected trained, got {source!r}")
    stories = read_stories(Path(text))
    weights = load_trained(heads, latent).to(parse_dtype(dtype), pick_device(device))
    return score_stories(weights, mechanism, stories, on_story)


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
