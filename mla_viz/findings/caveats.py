"""What a model's cache gives up for its size, and where it is not the small one: sentences.

Knows layers and what they keep; knows neither arrays nor screens.
"""

from collections.abc import Iterator
from fractions import Fraction

from mla_viz.published.layers import (
    COMPRESSED,
    INDEXER_KEY,
    LATENT,
    ROPE_KEY,
    CachedModel,
    Kept,
    bytes_per_token,
    cache_bytes,
)
from mla_viz.words import bytes_text, count_text, decimal_bytes_text


def warnings(
    model: CachedModel, context: int, cache_dtype: str, ranks: int, strategy: str, groups: int
) -> tuple[str, ...]:
    """Where a model's cache is not the small one, at this context and on so many ranks."""
    return (
        *_larger_latent(model, ranks if strategy == "tp" else 1, groups),
        *_heavy_state(model, context, cache_dtype),
    )


def _larger_latent(model: CachedModel, ranks: int, groups: int) -> Iterator[str]:
    """Where GQA of the same head width would keep less: in all, or on each rank."""
    layer = max(model.layers, key=lambda kept: sum(p.elems_per_token for p in kept), default=())
    own = sum(part.width for part in layer if part.part in (LATENT, ROPE_KEY) and part.grows)
    if not any(part.part == LATENT for part in layer):
        return
    rival = 2 * groups * model.v_head_dim
    shared = 2 * -(-groups // ranks) * model.v_head_dim
    heads = count_text(groups, "key/value head")
    if own > rival:
        yield (
            f"The latent is the larger cache: {own:,} values a token and layer, against {rival:,}"
            f" of {heads} of {model.v_head_dim}."
        )
    elif own > shared:
        yield (
            f"On each of {ranks} ranks the latent is the larger cache: it is copied,"
            f" {own:,} values a token and layer, while {heads} of {model.v_head_dim} are dealt out,"
            f" {shared:,} a rank. Dividing sequences or tokens instead avoids the copies."
        )


def _heavy_state(model: CachedModel, context: int, cache_dtype: str) -> Iterator[str]:
    fixed = cache_bytes((p for p in model.kept if p.fixed), context, cache_dtype)
    grows = bytes_per_token(model.kept, cache_dtype)
    if not fixed:
        return
    size = f"{decimal_bytes_text(fixed)} ({bytes_text(fixed)})"
    if not grows:
        yield f"Nothing grows: {size} a sequence, whatever the context."
        return
    tokens = Fraction(fixed) / grows
    side = "more" if context < tokens else "less"
    yield (
        f"The fixed state of a sequence, {size}, is worth {round(tokens):,} tokens of"
        f" what grows: at {count_text(context, 'token')} it is {side} than half of the two."
    )


def given_up(model: CachedModel) -> Iterator[str]:
    """What cannot be read any more, or not one by one, and in how many layers."""
    layers = len(model.layers)

    def where(*parts: Kept) -> str:
        count = sum(any(part in parts for part in layer) for layer in model.layers)
        return f"In {count} of {count_text(layers, 'layer')}"

    windows = {part.window for part in model.kept if part.window is not None}
    for window in sorted(windows):
        within = where(*(part for part in model.kept if part.window == window))
        yield (
            f"{within} only the last {count_text(window, 'token')} are kept: these layers cannot"
            " read what is older."
        )
    if states := [part for part in model.kept if part.fixed]:
        yield (
            f"{where(*states)} a state of fixed size stands for all tokens: none of them is kept by"
            " itself, and recalling one exactly is not certain."
        )
    for part in dict.fromkeys(p for p in model.kept if p.part == COMPRESSED and p.every > 1):
        yield (
            f"{where(part)} one entry of {part.width:,} values stands for {part.every} tokens:"
            " within it they are not told apart."
        )
    if keys := [part for part in model.kept if part.part == INDEXER_KEY]:
        yield (
            f"{where(*keys)} an indexer's key is kept beside every token and picks the few that a"
            " step reads: sparse attention saves reading, and takes a little more memory."
        )
