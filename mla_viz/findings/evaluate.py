"""Loss of a model on a text, each story by itself. Knows models; knows no screen.

A story is begun with the end-of-text token; every later token is predicted once, the closing
end-of-text token included. A story longer than the context is cut into windows that overlap by
half, and each window scores only what the ones before it did not.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import log
from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from mla_viz.config import AttentionGeometry, check_callback, check_text, check_whole, told
from mla_viz.findings.scores import Score
from mla_viz.findings.stories import read_stories
from mla_viz.mechanisms.formats import Format, find_format
from mla_viz.mechanisms.table import check_mechanism, mechanism_of, runs_weights_of
from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.model.sources import SYNTHETIC, Source, find_source, source_names
from mla_viz.model.tokenizer import ByteTokenizer


def evaluate(
    text: str | PathLike[str],
    source: str = "trained",
    heads: int | None = None,
    latent: int | None = None,
    mechanism: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    cache_dtype: str | None = None,
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
        cache_dtype: what the cache keeps: int8, fp8 or int4 for all but the RoPE key, int8_all,
            fp8_all or int4_all; the dtype itself where None.
        on_story: called with (stories done, stories) after each.

    Raises:
        ValueError: a setting is not legal or the text cannot be read.
    """
    check_callback("on_story", on_story)
    if not isinstance(text, str | PathLike):
        raise ValueError(f"text: expected the path of a file, got {told(text)}")
    found = _trained_source(source)
    asked = {"heads": heads, "latent": latent}
    whole = {name: check_whole(name, n) for name, n in asked.items() if n is not None}
    geometry = found.geometry(replace(found.largest(), **whole), found.mechanisms[0])
    chosen = _runnable(mechanism, geometry.attention, source)
    to = parse_dtype(dtype), pick_device(device)
    kept = None if cache_dtype is None else find_format(cache_dtype)
    stories = read_stories(Path(text))
    weights = found.load(geometry, 0).to(*to)
    return score_stories(weights, chosen, stories, found.tokenizer(), on_story, kept)


def _trained_source(name: str) -> Source:
    trained = [name for name in source_names() if name != SYNTHETIC]
    if check_text("source", name) not in trained:
        raise ValueError(f"source: expected one of {', '.join(trained)}, got {told(name)}")
    return find_source(name)


def _runnable(mechanism: str | None, attention: AttentionGeometry, source: str) -> str:
    """The mechanism asked for, or the one with the least cache; checked against the weights."""
    if mechanism is None:
        return mechanism_of(attention)
    runs = runs_weights_of(attention)
    if check_mechanism("mechanism", mechanism) not in runs:
        raise ValueError(
            f"mechanism: expected one of {', '.join(runs)} for source {source}, got {mechanism!r}"
        )
    return mechanism


def score_stories(
    weights: ModelWeights,
    mechanism: str,
    stories: list[str],
    tokenizer: ByteTokenizer,
    on_story: Callable[[int, int], None] | None = None,
    kept: Format | None = None,
) -> Score:
    """Score weights on stories already read, the cache kept as the weights are or in a format.

    Raises:
        ValueError: the dtype overflowed.
    """
    context, end = weights.geometry.context, tokenizer.separator
    losses, repeats, cached = [], [], 0.0
    for done, story in enumerate(stories, 1):
        ids = [end, *tokenizer.encode(story), end]
        repeats += repeated_pairs(ids)
        for start, stop, fresh in windows(len(ids), context):
            decoder = Decoder(weights, mechanism, kept=kept)
            losses.append(_window_losses(decoder, ids[start:stop], fresh))
            cached = sum(cache.filled_bytes for cache in decoder.caches) / (stop - start - 1)
        if on_story:
            on_story(done, len(stories))
    nats, again = torch.cat(losses), torch.tensor(repeats)
    if not nats.isfinite().all():
        raise ValueError(
            f"dtype: expected one that holds this model's numbers, got {weights.embedding.dtype},"
            " which overflowed (try bfloat16 or float32)"
        )
    return Score(
        nats_per_token=nats.mean().item(),
        bits_per_byte=nats.sum().item() / log(2) / sum(len(story.encode()) for story in stories),
        tokens=len(nats),
        repeated=_mean(nats[again]),
        novel=_mean(nats[~again]),
        cache_bytes_per_token=cached,
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
def _window_losses(decoder: Decoder, ids: list[int], fresh: int) -> Float[Tensor, " fresh"]:
    tokens = torch.tensor(ids, device=decoder.weights.embedding.device)
    logits = decoder.feed(tokens[:-1]).logits
    losses = F.cross_entropy(logits[-fresh:].double(), tokens[-fresh:], reduction="none")
    return losses.cpu()
