"""Every claim as a rule: the number that it comes to, and when it holds.

Numbers come from cost and catalog. Knows neither words nor screens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import ceil, log2
from random import Random
from statistics import fmean

from mla_viz.config import AttentionGeometry, GQAGeometry
from mla_viz.cost import (
    attention_params,
    cache_elems,
    core_flops,
    crossover_query_tokens,
    merge_growth,
    operations,
)
from mla_viz.findings.claims.inputs import Inputs
from mla_viz.published.catalog import (
    ABLATIONS,
    LLAMA_3_1_WINDOWED_LAYERS,
    V2_THROUGHPUT_RATIO,
    Ablation,
    judged,
)

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


def shown(value: float | int) -> float | int:
    """A value in the two digits that are shown, so that verdicts and words follow what one sees."""
    return round(value, 2)


def below(claimed: float | int) -> Test:
    """The value that is shown is less."""
    return lambda _, value: shown(value) < claimed


def above(claimed: float | int) -> Test:
    """The value that is shown is more."""
    return lambda _, value: shown(value) > claimed


def alone(i: Inputs, _: Value) -> bool:
    """There is one head, and so nothing to share or to keep apart."""
    return i.n_heads == 1


def v2_elems(i: Inputs) -> int:
    """What DeepSeek-V2 caches for a token, all layers, at the inputs' latent and RoPE dims."""
    return i.latent_elems * judged("DeepSeek-V2").n_layers


def attention_bytes_read(i: Inputs, geometry: AttentionGeometry, elems: int) -> float:
    """Bytes that one layer's attention reads to decode one token: weights (16 bits) and cache."""
    return 2 * attention_params(geometry) + elems * i.context * i.cache_bits / 8


def growth_exponent(i: Inputs, mechanism: str, geometry: AttentionGeometry) -> float:
    """p in FLOPs ~ tokens^p of the attention core, from this context to twice as long a one."""

    def total(tokens: int) -> int:
        return core_flops(mechanism, geometry) * tokens * (tokens + 1) // 2

    return log2(total(2 * i.context) / total(i.context))


def mha_intensity(i: Inputs) -> float:
    """FLOPs of plain MHA for each byte of its cache."""
    return core_flops("mha", i.mha) / (i.plain_elems * i.cache_bits / 8)


def decoding_flops(i: Inputs, mechanism: str, geometry: AttentionGeometry) -> int:
    """FLOPs of one layer's attention for the last token of the context, projections included."""
    return sum(op.flops for op in operations(mechanism, geometry, i.context, 1))


def llama_kb(i: Inputs) -> float:
    """KB that Llama-3.1-405B caches for a token, in the inputs' bits."""
    return judged("Llama-3.1-405B").cache_elems * i.cache_bits / 8 / 1000


def gqa_8_share(i: Inputs) -> int:
    """Elements of GQA-8 on the GPU that holds most of its key/value heads."""
    return 2 * ceil(8 / i.gpus) * i.v_head_dim


def head_params_percent(i: Inputs) -> float:
    """Part of a layer's attention weights that single heads own: all that grows with the heads."""
    one, two = (attention_params(replace(i, n_heads=n).mla) for n in (1, 2))
    return 100 * i.n_heads * (two - one) / attention_params(i.mla)


def exact_bracket_difference(i: Inputs) -> int:
    """(q W_UK^T) c - q (W_UK c) for one head in whole numbers, which do not round."""
    return _bracket_difference(min(i.qk_nope_head_dim, 16), min(i.kv_lora_rank, 64))  # quick


@cache
def _bracket_difference(n: int, c: int) -> int:
    random = Random(0)
    q, latent = ([random.randint(-9, 9) for _ in range(size)] for size in (n, c))
    w = [[random.randint(-9, 9) for _ in range(n)] for _ in range(c)]
    absorbed = sum(
        sum(q[k] * row[k] for k in range(n)) * x for row, x in zip(w, latent, strict=True)
    )
    keys = [sum(w[j][k] * latent[j] for j in range(c)) for k in range(n)]
    return absorbed - sum(a * b for a, b in zip(q, keys, strict=True))


def mha_twins() -> list[tuple[Ablation, Ablation]]:
    """Every published MLA model with the MHA model it was compared with."""
    rivals = {row.comparison: row for row in ABLATIONS if row.attention == "MHA"}
    return [(row, rivals[row.comparison]) for row in ABLATIONS if row.attention == "MLA"]


def mla_gains() -> list[float]:
    """Gain of MLA over MHA in every published cell, in points of accuracy."""
    return [mla.scores[name] - mha.scores[name] for mla, mha in mha_twins() for name in mla.scores]


def chunked(tokens: int, size: int) -> int:
    """Tokens that a prompt leaves in the cache, fed in chunks of a size and what remains."""
    full, rest = divmod(tokens, size)
    return full * size + rest


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
        lambda i, _: round(i.plain_elems / i.latent_elems) == 64,
        condition=True,
    ),
    "ratio_paper_large": Rule(
        lambda i: judged("large MHA").cache_elems / v2_elems(i), rounds_to(24.9), condition=True
    ),
    "ratio_paper_small": Rule(
        lambda i: judged("small MHA").cache_elems / (i.latent_elems * judged("small MHA").n_layers),
        rounds_to(7.1),
        condition=True,
    ),
    "ratio_expanded_lite": Rule(
        lambda i: (
            cache_elems("mla_expanded", judged("DeepSeek-V2-Lite").attention) / i.latent_elems
        ),
        rounds_to(8.9),
        condition=True,
    ),
    "ratio_deepseek67b_elems": Rule(
        lambda i: judged("DeepSeek-67B").cache_elems / v2_elems(i), rounds_to(5.6), condition=True
    ),
    "reduction_abstract_percent": Rule(
        lambda i: (
            100 * (1 - v2_elems(i) * i.deployed_bits / (judged("DeepSeek-67B").cache_elems * 16))
        ),
        rounds_to(93.3),
        condition=True,
    ),
    "cache_100k_mha_gb": Rule(
        lambda i: i.context_bytes(i.plain_elems) / 1e9, rounds_to(400), condition=True
    ),
    "cache_100k_mla_gb": Rule(
        lambda i: i.context_bytes(i.latent_elems) / 1e9,
        lambda i, value: round(i.context_bytes(i.plain_elems) / 1e9) == 400 and round(value) == 6,
        condition=True,
    ),
    "cache_100k_mla_gib": Rule(
        lambda i: i.context_bytes(i.latent_elems) / 2**30, rounds_to(6), condition=True
    ),
    "chunking_cache": Rule(lambda i: chunked(i.context, 512) / i.context, below(1)),
    "query_compression_cache": Rule(
        lambda i: cache_elems("mla_absorbed", replace(i, q_lora_rank=0).mla) - i.latent_elems,
        above(0),
    ),
    "no_kv_cache": Rule(lambda i: i.latent_elems, rounds_to(0)),
    # the latent is not shared out, however many GPUs there are
    "tensor_parallel_share": Rule(
        lambda i: i.latent_elems / gqa_8_share(i), lambda i, _: i.gpus == 1
    ),
    "latent_576": Rule(lambda i: i.kv_lora_rank, rounds_to(576)),
    "gqa_2_25": Rule(
        lambda i: i.latent_elems / (2 * i.v_head_dim), rounds_to(2.25), condition=True
    ),
    "kb_70_516": Rule(
        lambda i: i.latent_elems * i.n_layers * i.cache_bits / 8 / 1000,
        lambda i, value: round(value) == 70 and round(llama_kb(i)) == 516,
        condition=True,
    ),
    "llama_window": Rule(
        lambda _: LLAMA_3_1_WINDOWED_LAYERS,
        above(0),
        published={"windowed_layers": LLAMA_3_1_WINDOWED_LAYERS},
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
        lambda i, value: round(i.plain_elems / i.latent_elems) == 57 and round(value) == 57,
        condition=True,
    ),
    "absorbed_saves_flops": Rule(
        lambda i: core_flops("mla_absorbed", i.mla) / core_flops("mha", i.mha), below(1)
    ),
    "intensity_absorbed_flop_per_byte": Rule(
        lambda i: core_flops("mla_absorbed", i.mla) / (i.latent_elems * i.cache_bits / 8),
        lambda i, value: round(value) == 242 and round(mha_intensity(i)) == 1,
        condition=True,
    ),
    "no_extra_compute": Rule(
        lambda i: decoding_flops(i, "mla_absorbed", i.mla) / decoding_flops(i, "mha", i.mha),
        lambda _, value: shown(value) <= 1,
        condition=True,
    ),
    "quadratic": Rule(
        lambda i: growth_exponent(i, "mla_expanded", i.mla),
        lambda i, value: value < growth_exponent(i, "mha", i.mha),
    ),
    "crossover_query_tokens": Rule(
        lambda i: crossover_query_tokens(i.mla), lambda _, value: value is None, condition=True
    ),
    "mla_beats_mha": Rule(
        lambda _: fmean(mla_gains()),
        above(0),
        condition=True,
        published={"published_cells": len(mla_gains())},
    ),
    "benchmarks_of_v3": Rule(
        lambda _: sum("DeepSeek-V3" in mla.comparison for mla, _ in mha_twins()),
        above(0),
        published={"published_pairs": len(mha_twins())},
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
        lambda i: cache_elems("mqa", GQAGeometry(i.d_model, i.n_heads, 1, i.v_head_dim)), alone
    ),
    "heads_share_weights": Rule(head_params_percent, alone),
    "own_latent": Rule(lambda _: 1, alone),
    "nothing_shared": Rule(lambda i: i.latent_elems, alone),
    # data, one a token; learned is what makes it
    "learned_latent": Rule(lambda i: i.context, lambda *_: False),
    "attention_patterns": Rule(lambda i: i.n_layers * i.n_heads, rounds_to(7808)),
}
