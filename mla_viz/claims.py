"""Popular claims about MLA, recomputed: prose from data/claims.toml, numbers from cost and catalog.

A claim that names a number holds only where that number comes out of the inputs. Knows neither
tensors nor screens.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from math import log2
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from mla_viz.catalog import ABLATIONS, MODELS, V2_THROUGHPUT_RATIO
from mla_viz.config import GQAGeometry, MLAGeometry, check_int
from mla_viz.cost import (
    attention_params,
    cache_elems,
    core_flops,
    crossover_query_tokens,
    merge_growth,
)

TRAINING_CONTEXT = 4096
CLAIMS_FILE = Path(__file__).parent / "data" / "claims.toml"
RIGHT, CONDITIONAL, WRONG = VERDICTS = ("right", "right with a condition", "wrong")


@dataclass(frozen=True)
class Inputs:
    """What a reader may change; the start is DeepSeek-V3 with a cache of 16 bits.

    `deployed_bits` is what the V2 paper quantised its cache to; `q_lora_rank` 0 is none; `context`
    counts tokens; `gpus` share a layer by tensor parallelism.
    """

    n_layers: int = 61
    d_model: int = 7168
    n_heads: int = 128
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    kv_lora_rank: int = 512
    q_lora_rank: int = 1536
    cache_bits: int = 16
    deployed_bits: int = 6
    context: int = 100_000
    gpus: int = 8

    def __post_init__(self) -> None:
        check_int("n_layers", self.n_layers, 1, 1024)
        check_int("q_lora_rank", self.q_lora_rank, 0, 65536)
        check_int("cache_bits", self.cache_bits, 1, 64)
        check_int("deployed_bits", self.deployed_bits, 1, 64)
        check_int("context", self.context, 1, 10**9)
        check_int("gpus", self.gpus, 1, 1024)
        if self.v_head_dim % 2:
            raise ValueError(f"v_head_dim: expected an even number, got {self.v_head_dim}")
        _ = self.mla

    @property
    def mla(self) -> MLAGeometry:
        """The MLA layer."""
        dims = (self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim, self.kv_lora_rank)
        return MLAGeometry(self.d_model, self.n_heads, *dims, self.q_lora_rank or None)

    @property
    def mha(self) -> GQAGeometry:
        """Plain MHA with as many heads of v_head_dim."""
        return GQAGeometry(self.d_model, self.n_heads, self.n_heads, self.v_head_dim)

    @property
    def equal_width_params(self) -> int:
        """Weights of MHA whose heads together are as wide as the model: four square matrices."""
        return 4 * self.d_model * self.d_model

    @property
    def latent_elems(self) -> int:
        """What MLA caches for a token and layer."""
        return cache_elems("mla_absorbed", self.mla)

    @property
    def plain_elems(self) -> int:
        """What plain MHA of the same heads caches for a token and layer."""
        return cache_elems("mha", self.mha)

    def context_bytes(self, elems: int) -> float:
        """Bytes of a cache of `elems` a token and layer, over the whole context and all layers."""
        return elems * self.n_layers * self.context * self.cache_bits / 8


@dataclass(frozen=True)
class Claim:
    """One claim, what it comes to under some inputs, and what to say instead."""

    id: str
    group: str
    claim: str
    value: float | int | None
    unit: str
    baseline: str
    formula: str
    verdict: str
    say_instead: str
    source: str
    inputs: dict[str, int | float]


def v2_elems(i: Inputs) -> int:
    """What DeepSeek-V2 caches for a token, all layers, at the inputs' latent and RoPE dims."""
    return i.latent_elems * MODELS["DeepSeek-V2"].n_layers


def attention_bytes_read(i: Inputs, geometry: MLAGeometry | GQAGeometry, elems: int) -> float:
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


def _training_flops(geometry: MLAGeometry | GQAGeometry) -> float:
    """FLOPs of one layer's attention for a training token, mean over TRAINING_CONTEXT."""
    mechanism = "mha" if isinstance(geometry, GQAGeometry) else "mla_expanded"
    return 3 * (
        2 * attention_params(geometry) + core_flops(mechanism, geometry) * TRAINING_CONTEXT / 2
    )


VALUES: dict[str, Callable[[Inputs], float | int | None]] = {
    "ratio_mha_128x128": lambda i: i.plain_elems / i.latent_elems,
    "ratio_576": lambda i: i.plain_elems / i.latent_elems,
    "ratio_expanded": lambda i: cache_elems("mla_expanded", i.mla) / i.latent_elems,
    "ratio_rope_forgotten": lambda i: i.plain_elems / i.kv_lora_rank,
    "ratio_paper_large": lambda i: MODELS["large MHA"].cache_elems / v2_elems(i),
    "ratio_paper_small": lambda i: (
        MODELS["small MHA"].cache_elems / (i.latent_elems * MODELS["small MHA"].n_layers)
    ),
    "ratio_expanded_lite": lambda i: (
        cache_elems("mla_expanded", MODELS["DeepSeek-V2-Lite"].attention) / i.latent_elems
    ),
    "ratio_deepseek67b_elems": lambda i: MODELS["DeepSeek-67B"].cache_elems / v2_elems(i),
    "reduction_abstract_percent": lambda i: (
        100 * (1 - v2_elems(i) * i.deployed_bits / (MODELS["DeepSeek-67B"].cache_elems * 16))
    ),
    "cache_100k_mha_gb": lambda i: i.context_bytes(i.plain_elems) / 1e9,
    "cache_100k_mla_gb": lambda i: i.context_bytes(i.latent_elems) / 1e9,
    "cache_100k_mla_gib": lambda i: i.context_bytes(i.latent_elems) / 2**30,
    "throughput_ratio": lambda _: V2_THROUGHPUT_RATIO,
    "six_times_faster": lambda _: V2_THROUGHPUT_RATIO,
    "ratio_is_speed": lambda i: (
        attention_bytes_read(i, i.mha, i.plain_elems)
        / attention_bytes_read(i, i.mla, i.latent_elems)
    ),
    "absorbed_saves_flops": lambda i: core_flops("mla_absorbed", i.mla) / core_flops("mha", i.mha),
    "intensity_absorbed_flop_per_byte": lambda i: (
        core_flops("mla_absorbed", i.mla) / (i.latent_elems * i.cache_bits / 8)
    ),
    "quadratic": growth_exponent,
    "mla_beats_mha": lambda _: fmean(mla_gains()),
    "absorption_costs_accuracy": exact_bracket_difference,
    "query_compression_cache": lambda i: (
        cache_elems("mla_absorbed", replace(i, q_lora_rank=0).mla) - i.latent_elems
    ),
    "no_kv_cache": lambda i: i.latent_elems,
    "tensor_parallel_share": lambda i: i.latent_elems * min(i.gpus, 8) / (2 * 8 * i.v_head_dim),
    "fewer_params": lambda i: attention_params(i.mla) / attention_params(i.mha),
    "more_params_in_training": lambda i: attention_params(i.mla) / i.equal_width_params,
    "training_flops": lambda i: _training_flops(i.mla) / _training_flops(i.mha),
    "more_training_flops": lambda i: (
        _training_flops(i.mla)
        / (3 * (2 * i.equal_width_params + 4 * i.d_model * TRAINING_CONTEXT / 2))
    ),
    "queries_share_latent": lambda i: i.q_lora_rank / i.kv_lora_rank,
    "mqa_own_kv": lambda i: cache_elems("mqa", GQAGeometry(i.d_model, i.n_heads, 1, i.v_head_dim)),
    "chunking_cache": lambda i: sum(chunks(i.context, 512)) / i.context,
    "w_uv_into_logits": lambda i: merge_growth(i.d_model, i.kv_lora_rank, i.v_head_dim),
    "merge_growth_qk": lambda i: merge_growth(
        i.q_lora_rank or i.d_model, i.kv_lora_rank, i.qk_nope_head_dim
    ),
    "merge_growth_vo": lambda i: merge_growth(i.d_model, i.kv_lora_rank, i.v_head_dim),
    "crossover_query_tokens": lambda i: crossover_query_tokens(i.mla),
    "attention_patterns": lambda i: i.n_layers * i.n_heads,
}

TESTS: dict[str, Callable[[float, float], bool]] = {
    "rounds to": lambda value, claimed: round(value, _digits(claimed)) == claimed,
    "below": lambda value, claimed: value < claimed,
    "above": lambda value, claimed: value > claimed,
}
HOLDS: dict[str, Callable[[Inputs], bool]] = {
    "ratio_rope_forgotten": lambda i: i.qk_rope_head_dim == 0,
    "crossover_query_tokens": lambda i: crossover_query_tokens(i.mla) is None,
    "mqa_own_kv": lambda i: i.n_heads == 1,
    "six_times_faster": lambda _: False,  # throughput of two models is no speed of a mechanism
    "queries_share_latent": lambda _: False,  # two matrices, W_DQ and W_DKV, whatever their width
    "w_uv_into_logits": lambda _: False,  # a residual stream and a norm stand between
}
PUBLISHED: dict[str, dict[str, int | float]] = {
    "throughput_ratio": {"published_ratio": V2_THROUGHPUT_RATIO},
    "six_times_faster": {"published_ratio": V2_THROUGHPUT_RATIO},
    "mla_beats_mha": {"published_cells": len(mla_gains())},
}


def _digits(number: float | int) -> int:
    """Digits behind the point in which a number was claimed: 2 for 5.76, 0 for 57."""
    return len(str(number).partition(".")[2]) if isinstance(number, float) else 0


@cache
def _prose() -> list[dict[str, Any]]:
    return tomllib.loads(CLAIMS_FILE.read_text())["claim"]


def judge(inputs: Inputs) -> list[Claim]:
    """Every claim under these inputs, in the order of the page."""
    return [_judged(dict(entry), inputs) for entry in _prose()]


def _judged(entry: dict[str, Any], i: Inputs) -> Claim:
    value = VALUES[entry["id"]](i)
    if "test" in entry:
        holds = TESTS[entry.pop("test")](value, entry.pop("claimed"))
    else:
        holds = HOLDS[entry["id"]](i)
    right = CONDITIONAL if entry.pop("condition") else RIGHT
    used = {name: getattr(i, name) for name in entry.pop("inputs", "").split()}
    say = entry.pop("say_instead").format(value=value, **used, **asides(i))
    return Claim(
        value=value,
        verdict=right if holds else WRONG,
        say_instead=say,
        inputs=used | PUBLISHED.get(entry["id"], {}),
        **entry,
    )


def asides(i: Inputs) -> dict[str, Any]:
    """Figures that the prose names beside a claim's own value."""
    gains = mla_gains()
    crossover = crossover_query_tokens(i.mla)
    uncompressed = attention_params(replace(i, q_lora_rank=0).mla)
    return {
        "latent_elems": i.latent_elems,
        "plain_elems": i.plain_elems,
        "true_ratio": i.plain_elems / i.latent_elems,
        "plain_gib": i.context_bytes(i.plain_elems) / 2**30,
        "in_elements": 100 * (1 - v2_elems(i) / MODELS["DeepSeek-67B"].cache_elems),
        "ahead": sum(gain > 0 for gain in gains),
        "cells": len(gains),
        "uncompressed": uncompressed / i.equal_width_params,
        "crossover": "at every number of them" if crossover is None else f"below {crossover:.1f}",
    }


def parse_inputs(assignments: list[str]) -> Inputs:
    """Inputs with some `field=value` replaced.

    Raises:
        ValueError: an unknown field, no whole number, or no legal geometry.
    """
    names = [field.name for field in fields(Inputs)]
    changes = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name not in names:
            raise ValueError(
                f"set: expected field=value with one of {', '.join(names)}, got {assignment!r}"
            )
        try:
            changes[name] = int(text)
        except ValueError:
            raise ValueError(f"{name}: expected a whole number, got {text!r}") from None
    return Inputs(**changes)
