"""Tokens a second of a whole model, estimated from counted parts, and what a headline is made of.

Sequences fill the memory beside the weights; a step reads every weight at work once and every
cached value once, and takes the longer of that and of its products, divided evenly among the
accelerators. An upper bound in each part: nothing is sent, scheduled, prefilled or lost. Knows
neither tensors nor screens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mla_viz.config import MLAGeometry, check_int
from mla_viz.cost import cache_elems, core_flops
from mla_viz.findings.fits import SHARE
from mla_viz.findings.speed import Rates, accelerator_rates
from mla_viz.mechanisms.table import mechanism_of
from mla_viz.published.accelerators import accelerators
from mla_viz.published.catalog import PublishedModel, published_models
from mla_viz.published.layers import LATENT, ROPE_KEY
from mla_viz.words import Number

MOST_RANKS = 1024
V2, DENSE = "DeepSeek-V2", "DeepSeek-67B"
V2_CACHE_BITS, V2_WEIGHT_BITS, BF16_BITS = 6.0, 8.0, 16.0  # V2 paper, section 3.2.3
PRODUCTS_IN = "bfloat16"  # whatever weights and cache are kept in


@dataclass(frozen=True)
class Served:
    """What is served: weights, those at work for a token, and its cache.

    `sent_to` is the share of routed experts that a token is sent to, 1 where there are none.
    `core_flops` are those of attention for each cached token, all layers together.
    """

    name: str
    params: int
    active_params: int
    sent_to: float
    weight_bits: float
    cache_elems: int
    cache_bits: float
    core_flops: int

    def weights_at_work(self, batch: int) -> float:
        """Weights that a step of so many tokens reads, each sent to experts at random.

        All but the experts that none of them is sent to: every token misses one with 1 - sent_to.
        """
        if self.sent_to == 1:
            return float(self.active_params)
        experts = (self.params - self.active_params) / (1 - self.sent_to)
        always = self.active_params - experts * self.sent_to
        return always + experts * (1 - (1 - self.sent_to) ** batch)

    def sequence_bytes(self, context: int) -> float:
        """Cache of one sequence."""
        return context * self.cache_elems * self.cache_bits / 8

    def fits(self, memory: Number, context: int) -> int:
        """Sequences whose caches fit beside the weights; 0 where not even the weights do."""
        room = SHARE * memory - self.params * self.weight_bits / 8
        return max(0, int(room // self.sequence_bytes(context)))

    def step(self, batch: int, context: int) -> tuple[int, float]:
        """FLOPs and bytes of a step of all sequences: two for each weight at work, and its core."""
        flops = batch * (2 * self.active_params + context * self.core_flops)
        weights = self.weights_at_work(batch) * self.weight_bits / 8
        return flops, weights + batch * self.sequence_bytes(context)


@dataclass(frozen=True)
class Throughput:
    """Tokens a second with as many sequences as were asked for, and what bounds the step."""

    sequences: int
    step_us: float
    tokens_per_second: float
    bound: str


def throughput(served: Served, batch: int, context: int, rates: Rates, ranks: int) -> Throughput:
    """A step of so many sequences of so many tokens each, on some accelerators.

    Raises:
        ValueError: a number out of its bounds.
    """
    ranks = check_int("ranks", ranks, 1, MOST_RANKS)
    flops, moved = (amount / ranks for amount in served.step(batch, context))
    us = rates.limit_us(flops, moved)
    return Throughput(batch, us, 1e6 * batch / us, rates.bound(flops, moved))


def from_layers(
    served: Served, layers: int, layer_params: int, layer_us: float, batch: int, rates: Rates
) -> float:
    """Tokens a second where a step is so many timed layers of attention, and the rest counted.

    The rest are the weights at work outside of attention, read once and multiplied with each token.
    """
    attention = layers * layer_params
    moved = (served.weights_at_work(batch) - attention) * served.weight_bits / 8
    flops = 2 * batch * (served.active_params - attention)
    return 1e6 * batch / (layers * layer_us + rates.limit_us(flops, moved))


def served_model(model: PublishedModel, weight_bits: float, cache_bits: float) -> Served | None:
    """A published model as it is served; None where its weights or experts are not known."""
    cached, attention = model.cached, model.attention
    if cached.params is None or cached.active_params is None:
        return None
    sent_to = _sent_to(model.config) if cached.active_params < cached.params else 1.0
    if sent_to is None:
        return None
    mechanism = mechanism_of(attention)
    return Served(
        cached.label,
        cached.params,
        cached.active_params,
        sent_to,
        weight_bits,
        model.n_layers * cache_elems(mechanism, attention),
        cache_bits,
        model.n_layers * core_flops(mechanism, attention),
    )


def _sent_to(config: Mapping[str, Any]) -> float | None:
    """The share of routed experts at work for a token, where config.json names both numbers."""
    chosen = config.get("num_experts_per_tok", config.get("num_experts_per_token"))
    count = config.get("n_routed_experts", config.get("num_experts"))
    return chosen / count if chosen and count else None


def mla_models() -> dict[str, MLAGeometry]:
    """The published models whose every layer is MLA and nothing else, by name."""
    found = {}
    for name, model in published_models().items():
        parts = {part.part for part in model.cached.kept}
        alike = len(set(model.cached.layers)) == 1
        if "kv_lora_rank" in model.config and alike and parts <= {LATENT, ROPE_KEY}:
            found[name] = model.attention
    return found


@dataclass(frozen=True)
class Share:
    """One ingredient of the headline by itself, or all of them: what fits and what it comes to.

    `mechanism` is the one whose cache it has; `ratio` is to the dense model's tokens a second, None
    where one of the two does not fit.
    """

    label: str
    mechanism: str
    weight_bytes: float
    sequence_bytes: float
    found: Throughput | None
    ratio: float | None


def ingredients(accelerator: str = "H800 SXM", ranks: int = 8, context: int = 4096) -> list[Share]:
    """DeepSeek-67B, each thing that DeepSeek-V2 changes of it by itself, and DeepSeek-V2.

    Each serves as many sequences of `context` tokens as fit. The V2 paper prints 5.76 for all of it
    (maximum generation throughput) and takes nothing apart: this does, by counting.

    Raises:
        ValueError: an unknown accelerator, one without a printed rate, or a number out of bounds.
    """
    rates = accelerator_rates(accelerator, PRODUCTS_IN)
    memory = check_int("ranks", ranks, 1, MOST_RANKS) * accelerators()[accelerator].memory_bytes
    dense = served_model(published_models()[DENSE], BF16_BITS, BF16_BITS)
    v2 = served_model(published_models()[V2], V2_WEIGHT_BITS, V2_CACHE_BITS)
    latent = {"cache_elems": v2.cache_elems, "core_flops": v2.core_flops}
    sparse = {name: getattr(v2, name) for name in ("params", "active_params", "sent_to")}
    kinds = {
        f"{DENSE} (GQA-8, bfloat16)": dense,
        "MLA's cache alone": replace(dense, **latent),
        "a cache of 6 bits alone": replace(dense, cache_bits=V2_CACHE_BITS),
        "mixture of experts alone": replace(dense, **sparse),
        "weights in fp8 alone": replace(dense, weight_bits=V2_WEIGHT_BITS),
        f"{V2}: all four": v2,
        "all but MLA": replace(v2, cache_elems=dense.cache_elems, core_flops=dense.core_flops),
    }
    found = {label: _most(each, memory, context, rates, ranks) for label, each in kinds.items()}
    base = found[f"{DENSE} (GQA-8, bfloat16)"]
    return [
        Share(
            label,
            "mla_absorbed" if each.cache_elems == v2.cache_elems else "gqa",
            each.params * each.weight_bits / 8,
            each.sequence_bytes(context),
            found[label],
            found[label].tokens_per_second / base.tokens_per_second
            if base and found[label]
            else None,
        )
        for label, each in kinds.items()
    ]


def _most(
    served: Served, memory: Number, context: int, rates: Rates, ranks: int
) -> Throughput | None:
    """With as many sequences as fit; None where none does."""
    batch = served.fits(memory, context)
    return throughput(served, batch, context, rates, ranks) if batch else None
