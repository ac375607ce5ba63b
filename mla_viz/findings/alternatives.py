"""What a model's cache would be if its attention were another: same layers, heads and head widths.

Knows layers and what they keep; knows neither arrays nor screens.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from mla_viz.findings.memory import MHA, MQA, OWN_EXPANDED
from mla_viz.published.layers import (
    INDEXER_KEY,
    LATENT,
    STATE,
    CachedModel,
    Kept,
    Layer,
    grouped_layer,
    latent_layer,
)

WINDOW, EVERY = 4096, 6  # as most published models have them: five layers of six with windows
LATENT_DIMS, INDEXER = (512, 64), 128  # DeepSeek-V3's


def alternatives(model: CachedModel, groups: int = 8) -> dict[str, CachedModel]:
    """The model, and the same with other attention in the layers whose cache grows.

    Windows stand for what forgets, a state for linear attention, an indexer for what is sparse.
    """
    n, qk, v = model.n_heads, model.qk_head_dim, model.v_head_dim
    latent = any(part.part == LATENT for part in model.kept)
    others = {
        **({OWN_EXPANDED: grouped_layer(n, qk, v)} if latent else {}),
        MHA: grouped_layer(n, v, v),
        **({f"GQA-{groups}": grouped_layer(groups, v, v)} if n > groups > 1 else {}),
        MQA: grouped_layer(1, v, v),
        **({} if latent else {"MLA of {} + {}".format(*LATENT_DIMS): latent_layer(*LATENT_DIMS)}),
        "linear attention": (Kept(STATE, qk * v, n, fixed=True),),
    }
    made = {name: _with(model, lambda *_, layer=layer: layer) for name, layer in others.items()}
    return {
        model.label: model,
        **made,
        f"windows of {WINDOW:,} in every layer": _with(model, _windowed),
        f"windows in {EVERY - 1} of {EVERY} layers": _with(
            model, lambda layer, i: layer if i % EVERY == EVERY - 1 else _windowed(layer, i)
        ),
        "sparse, with an indexer": _with(model, _indexed),
    }


def _with(model: CachedModel, change: Callable[[Layer, int], Layer]) -> CachedModel:
    """The model with its growing layers changed, each given with its number among them."""
    numbers = count()
    layers = (
        change(layer, next(numbers)) if any(part.grows for part in layer) else layer
        for layer in model.layers
    )
    return replace(model, layers=tuple(layers))


def _windowed(layer: Layer, _: int) -> Layer:
    return tuple(replace(part, window=WINDOW) if part.grows else part for part in layer)


def _indexed(layer: Layer, _: int) -> Layer:
    """Every layer with one indexer's key; those that have one stay."""
    own = any(part.part == INDEXER_KEY for part in layer)
    return layer if own else (*layer, Kept(INDEXER_KEY, INDEXER))
