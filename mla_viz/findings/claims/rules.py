"""Every claim as a rule: the number that it comes to, and when it holds.

Numbers come from cost and catalog. Knows neither words nor screens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import log2
from random import Random
from statistics import fmean

from mla_viz.config import AttentionGeometry, GQAGeometry
from mla_viz.cost import (
    attention_params,
    cache_elems,
    core_flops,
    crossover_query_tokens,
    merge_growth,
)
from mla_viz.findings.claims.inputs import Inputs
from mla_viz.published.catalog import ABLATIONS, MODELS, V2_THROUGHPUT_RATIO

TRAINING_CONTEXT = 4096
Value = float | int | None
Test = Callable[[Inputs, Value], bool]


@dataclass(frozen=True)
class Rule:
    """`value(inputs)` is what a claim comes to, `holds(inputs, value)` whether it is so.

    With a `condition` it holds only as its prose puts it. `published` are figures of others that
    the value is made of.
    """

    value: Callable[[Inputs], Value]
    holds: Test
    condition: bool = False
    published: Mapping[str, int | float] = field(default_factory=dict)


def rounds_to(claimed: float | int) -> Test:
    """The value is the claimed number, in the digits in which it was claimed."""
    digits = len(str(claimed).partition(".")[2]) if isinstance(claimed, float) else 0
    return lambda _, value: round(value, digits) == claimed


def below(claimed: float | int) -> Test:
    """The value is less."""
    return lambda _, value: value < claimed


def above(claimed: float | int) -> Test:
    """The value is more."""
    return lambda _, value: value > claimed


def v2_elems(i: Inputs) -> int:
    """What DeepSeek-V2 caches for a token, all layers, at the inputs' latent and RoPE dims."""
    return i.latent_elems * MODELS["DeepSeek-V2"].n_layers


def attention_bytes_read(i: Inputs, geometry: AttentionGeometry, elems: int) -> float:
    """Bytes that one layer's attention reads to decode one token: weights (16 bits) and cache."""
    return 2 * attention_params(geometry) + elems * i.context * i.cache_bits / 8


def growth_exponent(i: Inputs) -> float:
    """p in FLOPs ~ tokens^p of the attention core, from this context to twice as long a one."""

    def total(tokens: int) -> int:
        return core_flops("mla_expanded", i.mla) * tokens * (tokens + 1) // 2

    return round(log2(total(2 * i.context) / total(i.context)), 2)


def exact_bracket_difference(i: Inputs) -> int:
    """(q W_UK^T) c - q (W_UK c) for one head in whole numbers, which do not round."""
    random = Random(0)
    n, c = min(i.qk_nope_head_dim, 128), min(i.kv_lora_rank, 512)  # wide enough, and quick
    q, latent = ([random.randint(-9, 9) for _ in range(size)] for size in (n, c))
    w = [[random.randint(-9, 9) for _ in range(n)] for _ in range(c)]
    absorbed = sum(
        sum(q[k] * row[k] for k in range(n)) * x for row, x in zip(w, latent, strict=True)
    )
    keys = [sum(w[j][k] * latent[j] for j in range(c)) for k in range(n)]
    return absorbed - sum(a * b for a, b in zip(q, keys, strict=True))


def mla_gains() -> list[float]:
    """Gain of MLA over MHA in every published cell, in points of accuracy."""
    mla = [row for row in ABLATIONS if row.attention == "MLA"]
    gains = []
    for row in mla:
        rival = next(
            r for r in ABLATIONS if r.comparison == row.comparison and r.attention == "MHA"
        )
        gains += [row.scores[name] - rival.scores[name] for name in row.scores]
    return gains


def chunks(tokens: int, size: int) -> list[int]:
    """Tokens that each chunk of a prompt leaves in the cache."""
    return [min(size, tokens - start) for start in range(0, tokens, size)]


def _training_flops(geometry: AttentionGeometry) -> float:
    """FLOPs of one layer's attention for a training token, mean over TRAINING_CONTEXT."""
    mechanism = "mha" if isinstance(geometry, GQAGeometry) else "mla_expanded"
    return 3 * (
        2 * attention_params(geometry) + core_flops(mechanism, geometry) * TRAINING_CONTEXT / 2
    )


RULES = {
    "ratio_mha_128x128": Rule(
        lambda i: i.plain_elems / i.latent_elems, rounds_to(57), condition=True
    ),
    "ratio_576": Rule(lambda i: i.plain_elems / i.latent_elems, rounds_to(576), condition=True),
    "ratio_expanded": Rule(
        lambda i: cache_elems("mla_expanded", i.mla) / i.latent_elems, rounds_to(71), condition=True
    ),
    "ratio_rope_forgotten": Rule(
        lambda i: i.plain_elems / i.kv_lora_rank,
        lambda i, _: i.qk_rope_head_dim == 0,
        condition=True,
    ),
    "ratio_paper_large": Rule(
        lambda i: MODELS["large MHA"].cache_elems / v2_elems(i), rounds_to(24.9), condition=True
    ),
    "ratio_paper_small": Rule(
        lambda i: MODELS["small MHA"].cache_elems / (i.latent_elems * MODELS["small MHA"].n_layers),
        rounds_to(7.1),
        condition=True,
    ),
    "ratio_expanded_lite": Rule(
        lambda i: (
            cache_elems("mla_expanded", MODELS["DeepSeek-V2-Lite"].attention) / i.latent_elems
        ),
        rounds_to(8.9),
        condition=True,
    ),
    "ratio_deepseek67b_elems": Rule(
        lambda i: MODELS["DeepSeek-67B"].cache_elems / v2_elems(i), rounds_to(5.6), condition=True
    ),
    "reduction_abstract_percent": Rule(
        lambda i: (
            100 * (1 - v2_elems(i) * i.deployed_bits / (MODELS["DeepSeek-67B"].cache_elems * 16))
        ),
        rounds_to(93.3),
        condition=True,
    ),
    "cache_100k_mha_gb": Rule(
        lambda i: i.context_bytes(i.plain_elems) / 1e9, rounds_to(400), condition=True
    ),
    "cache_100k_mla_gb": Rule(
        lambda i: i.context_bytes(i.latent_elems) / 1e9, rounds_to(6), condition=True
    ),
    "cache_100k_mla_gib": Rule(
        lambda i: i.context_bytes(i.latent_elems) / 2**30, rounds_to(6), condition=True
    ),
    "chunking_cache": Rule(lambda i: sum(chunks(i.context, 512)) / i.context, below(1)),
    "query_compression_cache": Rule(
        lambda i: cache_elems("mla_absorbed", replace(i, q_lora_rank=0).mla) - i.latent_elems,
        above(0),
    ),
    "no_kv_cache": Rule(lambda i: i.latent_elems, rounds_to(0)),
    "tensor_parallel_share": Rule(
        lambda i: i.latent_elems * min(i.gpus, 8) / (2 * 8 * i.v_head_dim), below(1), condition=True
    ),
    "throughput_ratio": Rule(
        lambda _: V2_THROUGHPUT_RATIO,
        rounds_to(5.76),
        condition=True,
        published={"published_ratio": V2_THROUGHPUT_RATIO},
    ),
    # throughput of two models is no speed of a mechanism
    "six_times_faster": Rule(
        lambda _: V2_THROUGHPUT_RATIO,
        lambda *_: False,
        published={"published_ratio": V2_THROUGHPUT_RATIO},
    ),
    "ratio_is_speed": Rule(
        lambda i: (
            attention_bytes_read(i, i.mha, i.plain_elems)
            / attention_bytes_read(i, i.mla, i.latent_elems)
        ),
        rounds_to(57),
        condition=True,
    ),
    "absorbed_saves_flops": Rule(
        lambda i: core_flops("mla_absorbed", i.mla) / core_flops("mha", i.mha), below(1)
    ),
    "intensity_absorbed_flop_per_byte": Rule(
        lambda i: core_flops("mla_absorbed", i.mla) / (i.latent_elems * i.cache_bits / 8),
        rounds_to(242),
        condition=True,
    ),
    "quadratic": Rule(growth_exponent, below(2)),
    "crossover_query_tokens": Rule(
        lambda i: crossover_query_tokens(i.mla), lambda _, value: value is None
    ),
    "mla_beats_mha": Rule(
        lambda _: fmean(mla_gains()),
        above(0),
        condition=True,
        published={"published_cells": len(mla_gains())},
    ),
    "absorption_costs_accuracy": Rule(exact_bracket_difference, above(0)),
    "fewer_params": Rule(
        lambda i: attention_params(i.mla) / attention_params(i.mha), below(1), condition=True
    ),
    "more_params_in_training": Rule(
        lambda i: attention_params(i.mla) / i.equal_width_params, above(1), condition=True
    ),
    "training_flops": Rule(
        lambda i: _training_flops(i.mla) / _training_flops(i.mha), below(1), condition=True
    ),
    "more_training_flops": Rule(
        lambda i: (
            _training_flops(i.mla)
            / (3 * (2 * i.equal_width_params + 4 * i.d_model * TRAINING_CONTEXT / 2))
        ),
        above(1),
        condition=True,
    ),
    "merge_growth_qk": Rule(
        lambda i: merge_growth(i.q_lora_rank or i.d_model, i.kv_lora_rank, i.qk_nope_head_dim),
        below(1),
        condition=True,
    ),
    "merge_growth_vo": Rule(
        lambda i: merge_growth(i.d_model, i.kv_lora_rank, i.v_head_dim), below(1), condition=True
    ),
    # a residual stream and a norm stand between
    "w_uv_into_logits": Rule(
        lambda i: merge_growth(i.d_model, i.kv_lora_rank, i.v_head_dim), lambda *_: False
    ),
    # two matrices, W_DQ and W_DKV, whatever their width
    "queries_share_latent": Rule(lambda i: i.q_lora_rank / i.kv_lora_rank, lambda *_: False),
    "mqa_own_kv": Rule(
        lambda i: cache_elems("mqa", GQAGeometry(i.d_model, i.n_heads, 1, i.v_head_dim)),
        lambda i, _: i.n_heads == 1,
    ),
    "attention_patterns": Rule(lambda i: i.n_layers * i.n_heads, rounds_to(7808)),
}
