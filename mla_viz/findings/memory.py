"""How many bytes a model's cache takes: by part, in all, on each rank, and against named baselines.

Knows neither tensors nor screens; what each layer keeps comes from `published`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from mla_viz.config import check_choice, check_int, told
from mla_viz.cost import STRATEGIES, even_shares
from mla_viz.findings.caveats import given_up, warnings
from mla_viz.published.catalog import cached_model, model_names
from mla_viz.published.config_json import read_config
from mla_viz.published.layers import (
    LATENT,
    CachedModel,
    Kept,
    Layer,
    bytes_per_token,
    cache_bytes,
    check_dtype,
    elems_per_token,
)
from mla_viz.words import count_text

LONGEST_CONTEXT, LARGEST_BATCH, MOST_RANKS, MOST_GROUPS = 1 << 30, 1 << 20, 4096, 1024
DIVIDED = (*STRATEGIES, "pp")  # pp: layers, in order
MHA, OWN_EXPANDED, MQA = "plain MHA of the same heads", "own expanded cache", "MQA"


@dataclass(frozen=True)
class Beside:
    """A baseline: elements a token in all layers that grow, and how many times the model's.

    `formula` is their product in words, a key and a value a head.
    """

    elems_per_token: int
    ratio: float | None
    formula: str


@dataclass(frozen=True)
class Factors:
    """One line of the formula: layers x sequences x vectors x width x rows x bytes a value.

    `row_bytes` are those of all vectors with their scales, `bytes` the whole product's.
    """

    part: str
    layers: int
    sequences: int
    vectors: int
    width: int
    rows: int
    row_bytes: int
    grows: bool
    bytes: int


@dataclass(frozen=True)
class Memory:
    """What a cache takes; the names are those that `memory --json` prints.

    `elems_per_token` and `bytes_per_token` are the growth beyond every window; whole numbers where
    they are, since compressed layers keep a row for several tokens. `elems_per_token_per_layer` is
    None where layers differ. `fixed_bytes` are states of one sequence, `window_bytes` what its
    windows hold at this context. `total_bytes` is all of it for all sequences; `per_rank_bytes`
    what the fullest of `tp` ranks holds under the strategy. `warnings` and `given_up`
    are sentences: where it is not the small one, and what its layers do not keep. `params` are the
    model's weights, `active_params` those at work for a token, None where they cannot be counted.
    """

    model: str
    attention: str
    params: int | None
    active_params: int | None
    context: int
    batch: int
    cache_dtype: str
    page: int
    tp: int
    strategy: str
    elems_per_token_per_layer: int | float | None
    elems_per_token: int | float
    bytes_per_token: int | float
    fixed_bytes: int
    window_bytes: int
    total_bytes: int
    per_rank_bytes: int
    baselines: dict[str, Beside]
    factors: tuple[Factors, ...]
    warnings: tuple[str, ...]
    given_up: tuple[str, ...]
    source: str

    def record(self) -> dict[str, Any]:
        """As plain data: what `memory --json` prints."""
        return asdict(self)


def memory(
    model: str | dict[str, Any] | CachedModel,
    context: int = 4096,
    batch: int = 1,
    cache_dtype: str = "bfloat16",
    tp: int = 1,
    page: int = 1,
    mtp_layers: int = 0,
    strategy: str = "tp",
    groups: int = 8,
) -> Memory:
    """What the cache of a model takes after `context` tokens of each of `batch` sequences.

    DeepSeek-V3 at 100,000 tokens in bfloat16: 70,272 bytes a token, 7.03 GB.

    Args:
        model: a name of the catalog, a config.json as a dict or as text, or a CachedModel.
        context: tokens of each sequence.
        batch: sequences.
        cache_dtype: one of `published.layers.CACHE_DTYPES`.
        tp: ranks that share the cache.
        page: tokens of a page; what is kept is rounded up to whole pages.
        mtp_layers: layers of multi-token prediction, each keeping what the last layer keeps.
        strategy: how the ranks share it, one of `DIVIDED`; see `rank_bytes`.
        groups: key/value heads of the GQA that it is compared with.

    Raises:
        ValueError: an unknown model, dtype or layout, or a number out of its bounds.
    """
    context = check_int("context", context, 1, LONGEST_CONTEXT)
    batch = check_int("batch", batch, 1, LARGEST_BATCH)
    tp = check_int("tp", tp, 1, MOST_RANKS)
    page, strategy = (
        check_int("page", page, 1, 1 << 16),
        check_choice("strategy", strategy, DIVIDED),
    )
    groups = check_int("groups", groups, 1, MOST_GROUPS)
    dtype, found = check_dtype(cache_dtype), find_model(model)
    layers = found.layers + _last(found) * check_int("mtp_layers", mtp_layers, 0, 64)
    kept = [part for layer in layers for part in layer]
    elems = {elems_per_token(layer) for layer in layers}
    fixed = [part for part in kept if part.fixed]
    windows = [part for part in kept if part.window is not None]
    return Memory(
        model=found.label,
        attention=found.attention,
        params=found.params,
        active_params=found.active_params,
        context=context,
        batch=batch,
        cache_dtype=dtype,
        page=page,
        tp=tp,
        strategy=strategy,
        elems_per_token_per_layer=_plain(elems.pop()) if len(elems) == 1 else None,
        elems_per_token=_plain(elems_per_token(kept)),
        bytes_per_token=_plain(bytes_per_token(kept, dtype)),
        fixed_bytes=cache_bytes(fixed, context, dtype),
        window_bytes=cache_bytes(windows, context, dtype, page),
        total_bytes=batch * cache_bytes(kept, context, dtype, page),
        per_rank_bytes=rank_bytes(layers, context, batch, dtype, page, tp, strategy),
        baselines=_baselines(found, layers, groups),
        factors=_factors(layers, context, batch, dtype, page),
        warnings=warnings(replace(found, layers=layers), context, dtype, tp, strategy, groups),
        given_up=tuple(given_up(found)),
        source=found.source,
    )


def rank_bytes(
    layers: tuple[Layer, ...],
    context: int,
    batch: int,
    cache_dtype: str,
    page: int = 1,
    ranks: int = 1,
    strategy: str = "tp",
) -> int:
    """What the fullest of the ranks that share a cache holds of it, in bytes.

    tp deals out heads until none is left and copies latents; dp deals out sequences; cp deals out
    the tokens of what grows and copies windows and states; pp deals out layers in order.
    DeepSeek-V3 at 100,000 tokens, 8 ranks: tp 7.03 GB each, cp 0.88 GB.
    """

    def held(kept: Iterable[Kept], tokens: int, sharers: int = 1) -> int:
        return cache_bytes(kept, tokens, cache_dtype, page, sharers)

    kept = [part for layer in layers for part in layer]
    if strategy == "tp":
        return batch * held(kept, context, ranks)
    if strategy == "dp":
        return -(-batch // ranks) * held(kept, context)
    if strategy == "cp":
        copied = held([part for part in kept if not part.grows], context)
        return batch * (copied + held([part for part in kept if part.grows], -(-context // ranks)))
    ends = list(accumulate(even_shares(len(layers), ranks), initial=0))
    stages = (layers[start:end] for start, end in pairwise(ends))
    return batch * max(held((part for layer in s for part in layer), context) for s in stages)


def find_model(model: str | dict[str, Any] | CachedModel) -> CachedModel:
    """A model by its name in the catalog, or read from a config.json.

    Raises:
        ValueError: neither; the message lists the names there are.
    """
    if isinstance(model, CachedModel):
        return model
    if isinstance(model, dict) or (isinstance(model, str) and model.lstrip().startswith("{")):
        return read_config(model)
    if not isinstance(model, str) or model not in model_names():
        wanted = ", ".join(model_names())
        raise ValueError(f"model: expected a config.json or one of {wanted}; got {told(model)}")
    return cached_model(model)


def _last(model: CachedModel) -> tuple[Layer, ...]:
    """The last layer whose cache grows."""
    return tuple(layer for layer in model.layers if any(part.grows for part in layer))[-1:]


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def _baselines(model: CachedModel, layers: tuple[Layer, ...], groups: int) -> dict[str, Beside]:
    """Caches it is compared with, in as many layers as grow; each name says whose cache it is."""
    growing = sum(any(part.grows for part in layer) for layer in layers)
    n, qk, v = model.n_heads, model.qk_head_dim, model.v_head_dim
    latent = any(part.part == LATENT for part in model.kept)
    own = elems_per_token(part for layer in layers for part in layer)

    def beside(heads: int, *widths: int, layers: int = growing) -> Beside:
        pair = f"2 × {widths[0]}" if len(set(widths)) == 1 else f"({' + '.join(map(str, widths))})"
        formula = f"{count_text(layers, 'layer')} × {count_text(heads, 'head')} × {pair} values"
        elems = layers * heads * sum(widths)
        return Beside(elems, float(elems / own) if own else None, formula)

    others = {
        MHA: beside(n, v, v),
        **({OWN_EXPANDED: beside(n, qk, v)} if latent else {}),
        **({f"GQA-{groups}": beside(groups, v, v)} if n > groups > 1 else {}),
        MQA: beside(1, v, v),
    }
    if model.compared_with:
        rival = cached_model(model.compared_with)
        keys, values = rival.layers[0]
        others[rival.label] = beside(
            keys.vectors, keys.width, values.width, layers=len(rival.layers)
        )
    return others


def _factors(
    layers: tuple[Layer, ...], context: int, batch: int, dtype: str, page: int
) -> tuple[Factors, ...]:
    """Equal parts of all layers counted together, in the order in which they first come."""
    counted: Counter[Kept] = Counter(part for layer in layers for part in layer)
    return tuple(
        Factors(
            part.part,
            count,
            batch,
            part.vectors,
            part.width,
            part.rows(context, page),
            part.row_bytes(dtype),
            part.grows,
            count * batch * part.rows(context, page) * part.row_bytes(dtype),
        )
        for part, count in counted.items()
    )
