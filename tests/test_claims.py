"""Claims: every figure by hand under two inputs, and that verdicts and prose follow the inputs."""

import json
import re
import tomllib
from dataclasses import asdict, fields, replace
from functools import cache
from math import ceil, log2

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mla_viz.cli import main
from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.findings.claims.inputs import Inputs, parse_inputs
from mla_viz.findings.claims.judge import CONDITIONAL, RIGHT, WRONG, asides, judge
from mla_viz.findings.claims.rules import RULES, above, below, chunked, rounds_to
from mla_viz.published.catalog import V2_PAPER, judged_models
from mla_viz.shipped import shipped
from mla_viz.words import number_text
from tests.test_cli import refusal

# FACTS of the literature, reckoned by hand: 2·128·128 / 576, 7168·120 / 34560, ...
KNOWN = {
    "ratio_mha_128x128": 56.889,
    "ratio_expanded": 71.111,
    "ratio_rope_forgotten": 64.0,
    "ratio_paper_large": 24.889,
    "ratio_paper_small": 7.111,
    "ratio_expanded_lite": 8.889,
    "ratio_deepseek67b_elems": 5.6296,
    "reduction_abstract_percent": 93.339,
    "cache_100k_mha_gb": 399.7696,
    "cache_100k_mla_gb": 7.0272,
    "cache_100k_mla_gib": 6.5446,
    "merge_growth_qk": 3.0,
    "merge_growth_vo": 3.7333,
    "crossover_query_tokens": 170.667,
    "intensity_absorbed_flop_per_byte": 241.778,
    "absorbed_saves_flops": 4.25,
    "no_kv_cache": 576,
    "query_compression_cache": 0,
    "absorption_costs_accuracy": 0,
    "attention_patterns": 7808,
    "tensor_parallel_share": 2.25,
    "latent_576": 512,
    "gqa_2_25": 2.25,
    "kb_70_516": 70.272,
    "no_extra_compute": (2 * 187_105_280 + 278_528e5) / (8 * 7168 * 128 * 128 + 65_536e5),
    "heads_share_weights": 100 * (37_748_736 + 16_777_216 + 117_440_512) / 187_105_280,
    "more_params_in_training": 187_105_280 / (4 * 7168 * 7168),
    "quadratic": 2.0,
}

SMALL = Inputs(
    n_layers=3,
    d_model=40,
    n_heads=6,
    qk_nope_head_dim=10,
    qk_rope_head_dim=4,
    v_head_dim=14,
    kv_lora_rank=25,
    q_lora_rank=20,
    cache_bits=12,
    deployed_bits=5,
    context=9,
    gpus=2,
)
# 29 elements are cached. W_DQ and its norm, W_UQ and W_QR, W_DKV and W_KR and the norm, W_UK and
# W_UV, W_O; the attention core computes scores and context for a cached token.
SMALL_MLA = 40 * 20 + 20 + 20 * 6 * (10 + 4) + 40 * (25 + 4) + 25 + 25 * 6 * (10 + 14) + 6 * 14 * 40
SMALL_MHA = 4 * 40 * 6 * 14
SMALL_ABSORBED, SMALL_EXPANDED = 2 * 6 * (25 + 4) + 2 * 6 * 25, 2 * 6 * (10 + 4) + 2 * 6 * 14
SMALL_MHA_CORE = 2 * 6 * 14 + 2 * 6 * 14

WIDE = Inputs(
    n_layers=7,
    d_model=96,
    n_heads=5,
    qk_nope_head_dim=26,
    qk_rope_head_dim=8,
    v_head_dim=18,
    kv_lora_rank=22,
    q_lora_rank=0,
    cache_bits=9,
    deployed_bits=7,
    context=1300,
    gpus=16,
)
# 30 elements are cached; without W_DQ queries come from x.
WIDE_MLA = 96 * 5 * (26 + 8) + 96 * (22 + 8) + 22 + 22 * 5 * (26 + 18) + 5 * 18 * 96
WIDE_MHA = 4 * 96 * 5 * 18
WIDE_ABSORBED, WIDE_EXPANDED = 2 * 5 * (22 + 8) + 2 * 5 * 22, 2 * 5 * (26 + 8) + 2 * 5 * 18
WIDE_MHA_CORE = 2 * 5 * 18 + 2 * 5 * 18

GAINS = (39.0 - 37.9, 50.0 - 48.7, 50.9 - 51.6, 53.4 - 52.3)  # of the small MLA model over MHA
GAINS += (50.7 - 46.6, 59.0 - 57.5, 59.2 - 57.9, 62.5 - 60.7)  # of the large one

BY_HAND = {
    "ratio_mha_128x128": (2 * 6 * 14 / 29, 2 * 5 * 18 / 30),
    "ratio_576": (2 * 6 * 14 / 29, 2 * 5 * 18 / 30),
    "ratio_expanded": (6 * (10 + 4 + 14) / 29, 5 * (26 + 8 + 18) / 30),
    "ratio_rope_forgotten": (2 * 6 * 14 / 25, 2 * 5 * 18 / 22),
    "ratio_paper_large": (2 * 7168 * 60 / (29 * 60), 2 * 7168 * 60 / (30 * 60)),
    "ratio_paper_small": (2 * 2048 * 27 / (29 * 27), 2 * 2048 * 27 / (30 * 27)),
    "ratio_expanded_lite": (16 * (128 + 64 + 128) / 29, 16 * (128 + 64 + 128) / 30),
    "ratio_deepseek67b_elems": (2 * 8 * 128 * 95 / (29 * 60), 2 * 8 * 128 * 95 / (30 * 60)),
    "reduction_abstract_percent": (
        100 * (1 - 29 * 60 * 5 / (2 * 8 * 128 * 95 * 16)),
        100 * (1 - 30 * 60 * 7 / (2 * 8 * 128 * 95 * 16)),
    ),
    "cache_100k_mha_gb": (168 * 3 * 9 * 12 / 8 / 1e9, 180 * 7 * 1300 * 9 / 8 / 1e9),
    "cache_100k_mla_gb": (29 * 3 * 9 * 12 / 8 / 1e9, 30 * 7 * 1300 * 9 / 8 / 1e9),
    "cache_100k_mla_gib": (29 * 3 * 9 * 12 / 8 / 1024**3, 30 * 7 * 1300 * 9 / 8 / 1024**3),
    "throughput_ratio": (5.76, 5.76),
    "six_times_faster": (5.76, 5.76),
    "ratio_is_speed": (
        (2 * SMALL_MHA + 168 * 9 * 12 / 8) / (2 * SMALL_MLA + 29 * 9 * 12 / 8),
        (2 * WIDE_MHA + 180 * 1300 * 9 / 8) / (2 * WIDE_MLA + 30 * 1300 * 9 / 8),
    ),
    "absorbed_saves_flops": (SMALL_ABSORBED / SMALL_MHA_CORE, WIDE_ABSORBED / WIDE_MHA_CORE),
    "intensity_absorbed_flop_per_byte": (
        SMALL_ABSORBED / (29 * 12 / 8),
        WIDE_ABSORBED / (30 * 9 / 8),
    ),
    # 1 + .. + 9 = 45 scores, 1 + .. + 18 = 171; 1 + .. + 1300 = 845,650, twice as far 3,381,300
    "quadratic": (log2(171 / 45), log2(3_381_300 / 845_650)),
    "no_extra_compute": (
        (2 * (SMALL_MLA - 20 - 25) + SMALL_ABSORBED * 9) / (2 * SMALL_MHA + SMALL_MHA_CORE * 9),
        (2 * (WIDE_MLA - 22) + WIDE_ABSORBED * 1300) / (2 * WIDE_MHA + WIDE_MHA_CORE * 1300),
    ),  # norms are not counted
    "mla_beats_mha": (sum(GAINS) / 8, sum(GAINS) / 8),
    "absorption_costs_accuracy": (0, 0),
    "query_compression_cache": (0, 0),
    "no_kv_cache": (25 + 4, 22 + 8),
    "tensor_parallel_share": (29 / (2 * 4 * 14), 30 / (2 * 1 * 18)),  # 8 heads to share out
    "latent_576": (25, 22),
    "gqa_2_25": (29 / (2 * 14), 30 / (2 * 18)),
    "kb_70_516": (29 * 3 * 12 / 8000, 30 * 7 * 9 / 8000),
    "llama_window": (0, 0),
    "benchmarks_of_v3": (0, 0),
    "heads_share_weights": (
        100 * 6 * (20 * (10 + 4) + 25 * (10 + 14) + 14 * 40) / SMALL_MLA,
        100 * 5 * (96 * (26 + 8) + 22 * (26 + 18) + 18 * 96) / WIDE_MLA,
    ),
    "own_latent": (1, 1),
    "nothing_shared": (29, 30),
    "learned_latent": (9, 1300),
    "fewer_params": (SMALL_MLA / SMALL_MHA, WIDE_MLA / WIDE_MHA),
    "more_params_in_training": (SMALL_MLA / (4 * 40 * 40), WIDE_MLA / (4 * 96 * 96)),
    "training_flops": (
        (2 * SMALL_MLA + SMALL_EXPANDED * 2048) / (2 * SMALL_MHA + SMALL_MHA_CORE * 2048),
        (2 * WIDE_MLA + WIDE_EXPANDED * 2048) / (2 * WIDE_MHA + WIDE_MHA_CORE * 2048),
    ),
    "more_training_flops": (
        (2 * SMALL_MLA + SMALL_EXPANDED * 2048) / (2 * 4 * 40 * 40 + 4 * 40 * 2048),
        (2 * WIDE_MLA + WIDE_EXPANDED * 2048) / (2 * 4 * 96 * 96 + 4 * 96 * 2048),
    ),
    "queries_share_latent": (20 / 25, 0 / 22),
    "mqa_own_kv": (2 * 14, 2 * 18),
    "chunking_cache": (1, 1),
    "w_uv_into_logits": (40 * 25 / (14 * (40 + 25)), 96 * 22 / (18 * (96 + 22))),
    "merge_growth_qk": (20 * 25 / (10 * (20 + 25)), 96 * 22 / (26 * (96 + 22))),
    "merge_growth_vo": (40 * 25 / (14 * (40 + 25)), 96 * 22 / (18 * (96 + 22))),
    "crossover_query_tokens": (25 * (10 + 14) / (2 * 25 - 10 - 14), None),  # 2·22 = 26 + 18
    "attention_patterns": (3 * 6, 7 * 5),
}

ASIDES = (
    {
        "latent_elems": 29,
        "plain_elems": 168,
        "expanded_elems": 168,  # 6 (10 + 4 + 14)
        "own_latents_elems": 6 * 25 + 4,
        "true_ratio": 168 / 29,
        "plain_gb": 168 * 3 * 9 * 12 / 8 / 1e9,
        "plain_gib": 168 * 3 * 9 * 12 / 8 / 1024**3,
        "latent_gib": 29 * 3 * 9 * 12 / 8 / 1024**3,
        "no_rope_gb": 25 * 3 * 9 * 12 / 8 / 1e9,
        "heads": "6 heads",
        "context_tokens": "9 tokens",
        "w_uq": "W_UQ",
        "all_heads_dim": 84,
        "qk_head_dim": 14,
        "core_ratio": SMALL_ABSORBED / SMALL_MHA_CORE,
        "mha_intensity": 16 / 12,
        "params_ratio": SMALL_MLA / SMALL_MHA,
        "uncompressed": (SMALL_MLA - 40 * 20 - 20 + (40 - 20) * 6 * 14) / (4 * 40 * 40),
        "crossover": 600 / 26,
        "in_elements": 100 * (1 - 29 * 60 / (2 * 8 * 128 * 95)),
        "ahead": 7,
        "cells": 8,
        "pairs": 2,
        "llama_kb": 2 * 8 * 128 * 126 * 12 / 8000,
        "llama_ratio": 2 * 8 * 128 * 126 / (29 * 3),
        "llama_layer_ratio": 2 * 8 * 128 / 29,
    },
    {
        "latent_elems": 30,
        "plain_elems": 180,
        "expanded_elems": 5 * (26 + 8 + 18),
        "own_latents_elems": 5 * 22 + 8,
        "true_ratio": 6,
        "plain_gb": 180 * 7 * 1300 * 9 / 8 / 1e9,
        "plain_gib": 180 * 7 * 1300 * 9 / 8 / 1024**3,
        "latent_gib": 30 * 7 * 1300 * 9 / 8 / 1024**3,
        "no_rope_gb": 22 * 7 * 1300 * 9 / 8 / 1e9,
        "heads": "5 heads",
        "context_tokens": "1,300 tokens",
        "w_uq": "W_Q",
        "all_heads_dim": 90,
        "qk_head_dim": 34,
        "core_ratio": WIDE_ABSORBED / WIDE_MHA_CORE,
        "mha_intensity": 16 / 9,
        "params_ratio": WIDE_MLA / WIDE_MHA,
        "uncompressed": WIDE_MLA / (4 * 96 * 96),
        "crossover": "none",
        "in_elements": 100 * (1 - 30 * 60 / (2 * 8 * 128 * 95)),
        "ahead": 7,
        "cells": 8,
        "pairs": 2,
        "llama_kb": 2 * 8 * 128 * 126 * 9 / 8000,
        "llama_ratio": 2 * 8 * 128 * 126 / (30 * 7),
        "llama_layer_ratio": 2 * 8 * 128 / 30,
    },
)


PROSE = tomllib.loads(shipped("claims.toml").read_text(encoding="utf-8"))["claim"]


@cache
def judged(inputs):
    return {claim.id: claim for claim in judge(inputs)}


def by_id(**changes):
    return judged(Inputs(**changes))


@pytest.mark.parametrize(("name", "value"), KNOWN.items())
def test_figures_of_deepseek(name, value):
    assert by_id()[name].value == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(("place", "inputs"), [(0, SMALL), (1, WIDE)])
def test_every_figure_is_the_one_reckoned_by_hand(place, inputs):
    assert set(BY_HAND) == set(RULES)
    for name, claim in judged(inputs).items():
        expected = BY_HAND[name][place]
        assert claim.value == (expected and pytest.approx(expected, rel=1e-9)), name
    found = asides(inputs)
    assert set(found) == set(ASIDES[place])
    for name, expected in ASIDES[place].items():
        words = isinstance(expected, str)
        assert found[name] == (expected if words else pytest.approx(expected, rel=1e-9)), name


def as_python(formula):
    """A formula as an expression, or None where it needs words."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", formula).replace("·", "*").replace("^", "**")
    text = re.sub("⌈(.+)⌉", r"ceil(\1)", text)
    names = set(re.findall(r"[A-Za-z_]+", text)) - {"ceil"}
    return text if names <= set(asdict(Inputs())) and "," not in text else None


@pytest.mark.parametrize("inputs", [SMALL, WIDE])
def test_a_formula_that_needs_no_words_gives_the_value(inputs):
    formulas = {name: as_python(claim.formula) for name, claim in judged(inputs).items()}
    counted = {name: text for name, text in formulas.items() if text}
    assert len(counted) > len(RULES) / 2
    for name, text in counted.items():
        expected = judged(inputs)[name].value
        if expected is not None:
            found = eval(text, {"ceil": ceil}, asdict(inputs))
            assert found == pytest.approx(expected, rel=1e-9), name


def test_the_start_is_deepseek_v3_with_a_cache_of_16_bits():
    start, published = Inputs(), judged_models()["DeepSeek-V3"]
    assert (start.mla, start.n_layers) == (published.attention, published.n_layers)
    rest = (start.cache_bits, start.deployed_bits, start.context, start.gpus)
    assert rest == (16, 6, 100_000, 8)


PUBLISHED_MODELS = {
    "DeepSeek-V3": (61, MLAGeometry(7168, 128, 128, 64, 128, 512, 1536), 61 * 576),
    "DeepSeek-V2": (60, MLAGeometry(5120, 128, 128, 64, 128, 512, 1536), 60 * 576),
    "DeepSeek-V2-Lite": (27, MLAGeometry(2048, 16, 128, 64, 128, 512), 27 * 576),
    "DeepSeek-67B": (95, GQAGeometry(8192, 64, 8, 128), 95 * 2048),
    "Llama-3.1-405B": (126, GQAGeometry(16384, 128, 8, 128), 126 * 2048),
    "large MHA": (60, GQAGeometry(5120, 56, 56, 128), 860_160),  # printed as 860.2K
    "small MHA": (27, GQAGeometry(2048, 16, 16, 128), 110_592),  # printed as 110.6K
}


def test_published_models_are_those_of_their_sources():
    found = {name: (m.n_layers, m.attention, m.cache_elems) for name, m in judged_models().items()}
    assert found == PUBLISHED_MODELS
    assert {name for name, m in judged_models().items() if m.source == f"{V2_PAPER}, Table 9"} == {
        "large MHA",
        "small MHA",
    }


def test_every_claim_says_everything():
    claims = judge(Inputs())
    assert {claim.id for claim in claims} == set(RULES)
    for claim in claims:
        for field in fields(claim):
            content = getattr(claim, field.name)
            assert content is not None, (claim.id, field.name)
            assert content not in ("", {}), (claim.id, field.name)
        assert "{" not in claim.say_instead


def changed(inputs, name):
    """The inputs with one of them another legal number."""
    return replace(inputs, **{name: getattr(inputs, name) + 2})


@pytest.mark.parametrize("inputs", [SMALL, WIDE])
def test_a_claim_depends_on_no_input_that_it_does_not_name(inputs):
    before = judged(inputs)
    for name in (field.name for field in fields(Inputs)):
        for claim_id, claim in judged(changed(inputs, name)).items():
            named = name in claim.inputs
            assert named or claim == before[claim_id], (claim_id, name)
            assert not named or claim.inputs[name] == getattr(inputs, name) + 2


UNMOVED = {  # what an input named beside a claim may leave as it is: prose or a cancelled factor
    "ratio_rope_forgotten": {"qk_rope_head_dim"},
    "cache_100k_mla_gb": {"n_heads", "v_head_dim"},
    "cache_100k_mla_gib": {"n_heads", "v_head_dim"},
    "latent_576": {"qk_rope_head_dim"},
    "own_latent": {"n_heads", "kv_lora_rank", "qk_rope_head_dim"},
    "nothing_shared": {"n_heads"},
    "learned_latent": {"d_model", "kv_lora_rank"},
    "absorbed_saves_flops": {"n_heads"},
    "mqa_own_kv": {"n_heads"},
    "absorption_costs_accuracy": {"qk_nope_head_dim", "kv_lora_rank"},
    "query_compression_cache": {"q_lora_rank", "kv_lora_rank", "qk_rope_head_dim"},
    "chunking_cache": {"context"},
    "merge_growth_qk": {"d_model"},  # outer dim only where there is no q_lora_rank
}


def test_a_claim_depends_on_every_input_that_it_names():
    moved = {name: judged(changed(SMALL, name)) for name in asdict(SMALL)}
    for claim in judged(SMALL).values():
        named = set(claim.inputs) & set(moved)
        assert {n for n in named if moved[n][claim.id].value == claim.value} == UNMOVED.get(
            claim.id, set()
        ), claim.id


def test_published_figures_stand_among_the_inputs():
    named = {c.id: c.inputs for c in judge(SMALL) if set(c.inputs) - set(asdict(SMALL))}
    assert named == {
        "throughput_ratio": {"published_ratio": 5.76},
        "six_times_faster": {"published_ratio": 5.76},
        "mla_beats_mha": {"published_cells": 8},
        "benchmarks_of_v3": {"published_pairs": 2},
        "llama_window": {"windowed_layers": 0},
    }


VERDICTS_OF_DEEPSEEK = {
    RIGHT: {"attention_patterns"},
    CONDITIONAL: {
        "ratio_mha_128x128",
        "ratio_expanded",
        "ratio_paper_large",
        "ratio_paper_small",
        "ratio_expanded_lite",
        "ratio_deepseek67b_elems",
        "reduction_abstract_percent",
        "cache_100k_mha_gb",
        "gqa_2_25",
        "kb_70_516",
        "throughput_ratio",
        "intensity_absorbed_flop_per_byte",
        "mla_beats_mha",
        "fewer_params",
        "more_training_flops",
        "training_flops",
    },
    WRONG: {
        "ratio_576",
        "ratio_rope_forgotten",
        "cache_100k_mla_gb",
        "cache_100k_mla_gib",
        "chunking_cache",
        "query_compression_cache",
        "no_kv_cache",
        "latent_576",
        "llama_window",
        "no_extra_compute",
        "benchmarks_of_v3",
        "heads_share_weights",
        "own_latent",
        "nothing_shared",
        "learned_latent",
        "tensor_parallel_share",
        "six_times_faster",
        "ratio_is_speed",
        "absorbed_saves_flops",
        "quadratic",
        "crossover_query_tokens",
        "absorption_costs_accuracy",
        "more_params_in_training",
        "merge_growth_qk",
        "merge_growth_vo",
        "w_uv_into_logits",
        "queries_share_latent",
        "mqa_own_kv",
    },
}


def test_verdicts_of_deepseek():
    found = {}
    for claim in by_id().values():
        found.setdefault(claim.verdict, set()).add(claim.id)
    assert found == VERDICTS_OF_DEEPSEEK


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"n_heads": 64}, "ratio_mha_128x128", WRONG),
        ({"qk_rope_head_dim": 0}, "ratio_rope_forgotten", CONDITIONAL),
        ({"qk_rope_head_dim": 0, "n_heads": 16}, "ratio_rope_forgotten", WRONG),
        ({"kv_lora_rank": 448}, "ratio_rope_forgotten", CONDITIONAL),
        ({"context": 10**9}, "ratio_is_speed", CONDITIONAL),
        ({"deployed_bits": 16}, "reduction_abstract_percent", WRONG),
        ({"q_lora_rank": 0}, "more_params_in_training", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "merge_growth_qk", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "merge_growth_vo", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "crossover_query_tokens", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "w_uv_into_logits", WRONG),
        ({"n_heads": 1, "v_head_dim": 8}, "absorbed_saves_flops", WRONG),
        ({"kv_lora_rank": 64, "qk_rope_head_dim": 32}, "absorbed_saves_flops", RIGHT),
        ({"n_heads": 1}, "mqa_own_kv", RIGHT),
        ({"n_heads": 2}, "mqa_own_kv", WRONG),
        ({"gpus": 2}, "tensor_parallel_share", WRONG),
        ({"gpus": 1}, "tensor_parallel_share", RIGHT),
        ({"kv_lora_rank": 440}, "cache_100k_mla_gb", CONDITIONAL),
        ({"cache_bits": 14}, "cache_100k_mla_gb", WRONG),
        ({"cache_bits": 15}, "cache_100k_mla_gib", CONDITIONAL),
        ({"context": 1}, "quadratic", WRONG),
        ({"context": 1000}, "no_extra_compute", CONDITIONAL),
        ({"cache_bits": 8}, "intensity_absorbed_flop_per_byte", WRONG),
        ({"kv_lora_rank": 576}, "latent_576", RIGHT),
        ({"n_layers": 62}, "kb_70_516", WRONG),
        ({"n_heads": 1}, "own_latent", RIGHT),
        ({"qk_nope_head_dim": 1024}, "training_flops", WRONG),
        ({"qk_nope_head_dim": 2048}, "fewer_params", WRONG),
        ({"n_heads": 64, "q_lora_rank": 512}, "more_training_flops", WRONG),
        ({"n_layers": 60}, "attention_patterns", WRONG),
    ],
)
def test_inputs_decide_which_claims_survive(changes, name, verdict):
    assert by_id(**changes)[name].verdict == verdict


@pytest.mark.parametrize(
    ("test", "claimed", "holds", "fails"),
    [
        (rounds_to, 57, (56.51, 56.9, 57.49), (56.49, 57.51, 570)),
        (rounds_to, 24.9, (24.86, 24.94), (24.84, 24.96, 25)),
        (rounds_to, 5.76, (5.76, 5.764), (5.7, 5.766)),
        (rounds_to, 0, (0, 0.4), (0.6, 29)),
        (below, 1, (0.99, -1), (0.996, 1, 1.001)),
        (above, 0, (0.01,), (0, 0.004, -0.001)),
    ],
)
def test_a_number_is_met_to_the_digits_in_which_it_was_claimed(test, claimed, holds, fails):
    assert all(test(claimed)(Inputs(), value) for value in holds)
    assert not any(test(claimed)(Inputs(), value) for value in fails)


SAID = {
    "ratio_576": "cache 5.79 times as much. 29 is the number of elements cached",
    "ratio_rope_forgotten": "6.72 is 168 / 25, with the RoPE key forgotten. It is cached too: 5.79",
    "reduction_abstract_percent": "with 5 bits an element here; 99.1 % in elements.",
    "cache_100k_mha_gb": "0.0000068 GB for one sequence in 12 bits, by plain MHA with 6",
    "tensor_parallel_share": "each of the 2 GPUs holds all of it. Data-parallel",
    "ratio_is_speed": "At 9 tokens and one sequence, MHA's attention reads 1.34 times the bytes",
    "crossover_query_tokens": "fewer FLOPs below 23.1 query tokens at once",
    "mla_beats_mha": "MLA is 1.44 points ahead on average, ahead in 7 of 8 cells",
    "more_params_in_training": "Without query compression it would be 1.80",
    "queries_share_latent": "(q_lora_rank 20)",
    "mqa_own_kv": "all 6 heads share one key and one value, 28 elements",
    "attention_patterns": "18: n_layers 3 times n_heads 6.",
}


def test_what_to_say_instead_carries_the_numbers_of_the_inputs():
    for name, words in SAID.items():
        assert words in judged(SMALL)[name].say_instead


def test_a_prompt_in_chunks_leaves_every_token_in_the_cache():
    assert [chunked(tokens, 512) for tokens in (1300, 1024, 9)] == [1300, 1024, 9]


EDGES = {
    "n_layers": (1, 60, 62, 1024),
    "d_model": (1, 100, 16384, 65536),
    "n_heads": (1, 2, 8, 16, 127, 256, 1024),
    "qk_nope_head_dim": (1, 2, 100, 448, 512, 4096),
    "qk_rope_head_dim": (0, 2, 62, 448, 4096),
    "v_head_dim": (2, 62, 256, 512, 4096),
    "kv_lora_rank": (1, 7, 100, 440, 448, 464, 576, 65536),
    "q_lora_rank": (0, 1, 3, 512, 65536),
    "cache_bits": (1, 8, 14, 15, 17, 64),
    "deployed_bits": (1, 5, 7, 16, 64),
    "context": (1, 2, 9, 143, 1000, 99_999, 10**9),
    "gpus": (1, 2, 3, 7, 9, 1024),
}
CROSSINGS = (  # two inputs that make up for one another, or leave a claim its number for no reason
    {"qk_rope_head_dim": 0, "n_heads": 16},
    {"n_heads": 256, "cache_bits": 32},
    {"n_layers": 122, "context": 50_000},
    {"qk_rope_head_dim": 0, "kv_lora_rank": 576},
    {"n_heads": 1, "qk_rope_head_dim": 0, "q_lora_rank": 0, "context": 1, "gpus": 1},
    {"qk_nope_head_dim": 512, "v_head_dim": 512},
)
GRID = [replace(Inputs(), **{name: value}) for name, values in EDGES.items() for value in values]
GRID += [replace(base, **crossing) for base in (Inputs(), SMALL, WIDE) for crossing in CROSSINGS]
RANDOM = st.builds(
    Inputs,
    n_layers=st.integers(1, 1024),
    d_model=st.integers(1, 16384),
    n_heads=st.integers(1, 256),
    qk_nope_head_dim=st.integers(1, 48),
    qk_rope_head_dim=st.integers(0, 40).map(lambda half: 2 * half),
    v_head_dim=st.integers(1, 128).map(lambda half: 2 * half),
    kv_lora_rank=st.integers(1, 48),
    q_lora_rank=st.integers(0, 2000),
    cache_bits=st.integers(1, 64),
    context=st.integers(1, 10**6),
    gpus=st.integers(1, 16),
)


def seen(value):
    """The number that a reader sees."""
    return float(number_text(value).replace(",", "").replace("−", "-"))


def fewer(_, value):
    return seen(value) < 1


def more(_, value):
    return seen(value) > 1


def alone(i, _):
    return i.n_heads == 1


def never(*_):
    return False


def always(*_):
    return True


def mha_gb(i):
    return 2 * i.n_heads * i.v_head_dim * i.n_layers * i.context * i.cache_bits / 8e9


def mha_ratio(i):
    return 2 * i.n_heads * i.v_head_dim / (i.kv_lora_rank + i.qk_rope_head_dim)


# What makes each claim true, by hand, from the inputs and the number that its card shows.
TRUE = {
    "ratio_mha_128x128": lambda _, x: round(x) == 57,
    "ratio_576": lambda _, x: round(x) == 576,
    "ratio_expanded": lambda _, x: round(x) == 71,
    "ratio_rope_forgotten": lambda i, _: round(mha_ratio(i)) == 64,
    "ratio_paper_large": lambda _, x: round(x, 1) == 24.9,
    "ratio_paper_small": lambda _, x: round(x, 1) == 7.1,
    "ratio_expanded_lite": lambda _, x: round(x, 1) == 8.9,
    "ratio_deepseek67b_elems": lambda _, x: round(x, 1) == 5.6,
    "reduction_abstract_percent": lambda _, x: round(x, 1) == 93.3,
    "cache_100k_mha_gb": lambda _, x: round(x) == 400,
    "cache_100k_mla_gb": lambda i, x: round(mha_gb(i)) == 400 and round(x) == 6,
    "cache_100k_mla_gib": lambda _, x: round(x) == 6,
    "chunking_cache": never,
    "query_compression_cache": never,
    "no_kv_cache": never,
    "latent_576": lambda i, _: i.kv_lora_rank == 576,
    "gqa_2_25": lambda _, x: seen(x) == 2.25,
    "kb_70_516": lambda i, x: i.cache_bits == 16 and round(x) == 70,
    "llama_window": never,
    "tensor_parallel_share": lambda i, _: i.gpus == 1,
    "throughput_ratio": always,
    "six_times_faster": never,
    "ratio_is_speed": lambda i, x: round(mha_ratio(i)) == 57 == round(x),
    "absorbed_saves_flops": fewer,
    "no_extra_compute": lambda i, x: not more(i, x),
    "intensity_absorbed_flop_per_byte": lambda i, x: (
        round(x) == 242 and round(16 / i.cache_bits) == 1
    ),
    "quadratic": never,
    "crossover_query_tokens": lambda i, _: 2 * i.kv_lora_rank <= i.qk_nope_head_dim + i.v_head_dim,
    "mla_beats_mha": always,
    "benchmarks_of_v3": never,
    "absorption_costs_accuracy": never,
    "fewer_params": fewer,
    "more_params_in_training": more,
    "training_flops": fewer,
    "more_training_flops": more,
    "merge_growth_qk": fewer,
    "merge_growth_vo": fewer,
    "w_uv_into_logits": never,
    "queries_share_latent": never,
    "heads_share_weights": alone,
    "own_latent": alone,
    "nothing_shared": alone,
    "learned_latent": never,
    "mqa_own_kv": alone,
    "attention_patterns": lambda i, _: i.n_layers * i.n_heads == 7808,
}


def rope(i, _):
    return i.qk_rope_head_dim > 0


def compressed(i, _):
    return i.q_lora_rank > 0


def v2_heads(i, _):
    return i.n_heads == 128 == i.v_head_dim


# What makes each sentence true that not every input does, by hand, under a piece of it.
SAID_WHEN = {
    "DeepSeek published no MHA twin": v2_heads,
    "By chance 576 %": lambda i, _: i.kv_lora_rank + i.qk_rope_head_dim == 576,
    "That form caches more than plain MHA": lambda i, _: (
        i.qk_nope_head_dim + i.qk_rope_head_dim > i.v_head_dim
    ),
    "with the RoPE key forgotten. It is": rope,
    "without RoPE dims no key": lambda i, _: i.qk_rope_head_dim == 0,
    "No DeepSeek-V3 has plain MHA": lambda i, x: v2_heads(i, x) and i.n_layers == 61,
    "With the RoPE key forgotten it would": rope,
    "Beside it lies a RoPE key, ": rope,
    "made from the hidden state and not from the latent": rope,
    "The paper prints 7.28 times": lambda i, x: i.cache_bits == 16 and round(x) == 70,
    "One GPU holds all of it": lambda i, _: i.gpus == 1,
    "All heads read the one latent": lambda i, _: i.gpus > 1,
    "What the smaller cache buys": lambda i, _: mha_ratio(i) > 1,
    "It trades FLOPs for bytes": lambda i, x: more(i, x) and mha_ratio(i) > 1,
    "For each cached token alone": lambda i, _: more(
        i, (2 * i.kv_lora_rank + i.qk_rope_head_dim) / (2 * i.v_head_dim)
    ),
    "An H800 balances 258": lambda _, x: 200 <= round(x, 2) <= 300,
    "scores still grow with a power of": lambda _, x: seen(x) < 2,
    "From there on, as in a long prompt": lambda i, _: (
        2 * i.kv_lora_rank > i.qk_nope_head_dim + i.v_head_dim
    ),
    "while the context is longer than the query": TRUE["crossover_query_tokens"],
    "Queries come through one of": compressed,
    "Queries come through none": lambda i, _: i.q_lora_rank == 0,
    "Without query compression it would be": compressed,
    "Without query compression W_UQ is W_Q": lambda i, _: i.q_lora_rank == 0,
    "Queries have a latent of their own": compressed,
    "Queries have no latent here": lambda i, _: i.q_lora_rank == 0,
    "each head has its own part": lambda i, _: i.n_heads > 1,
    "With one head there is nothing to share": alone,
    "heads; own to a head are the matrices": lambda i, _: i.n_heads > 1,
    "With one head there is one latent": alone,
    "heads read the same": lambda i, _: i.n_heads > 1,
    "The RoPE key among them": lambda i, _: i.n_heads > 1 and i.qk_rope_head_dim > 0,
    "heads share one key and one value": lambda i, _: i.n_heads > 1,
    "With one head MQA and MHA are the same": alone,
}


def pieces(claim_id):
    """The pieces of SAID_WHEN in a claim's conditional sentences, one a sentence."""
    entry = next(entry for entry in PROSE if entry["id"] == claim_id)
    for sentence in entry["say_instead"]:
        if not isinstance(sentence, str):
            (piece,) = [piece for piece in SAID_WHEN if piece in sentence["say"]]
            yield piece


PIECES = {name: list(pieces(name)) for name in RULES}
UNSOUND = re.compile(r"\b1 (?:heads|tokens|GPUs)\b|[ (]-\d|nan|inf\b|None|[{}]|\b0\.0+\b| {2}")


def assert_sound(inputs, claims):
    """No verdict, sentence or number of these inputs contradicts another."""
    for claim in claims:
        held = TRUE[claim.id](inputs, claim.value)
        assert (claim.verdict != WRONG) == held, (claim.id, inputs)
        for piece in PIECES[claim.id]:
            said = piece in claim.say_instead
            assert said == SAID_WHEN[piece](inputs, claim.value), (piece, inputs)
        words = f"{claim.claim} {claim.say_instead} {claim.baseline}"
        assert not UNSOUND.search(words), (words, inputs)


def moved_figures(entry):
    """What a claim's inputs move, as it is written under the start."""
    names = entry.get("inputs", "").split()
    start = Inputs()
    other = replace(start, **{name: getattr(SMALL, name) for name in names})
    before, after = ({**asdict(i), **asides(i)} for i in (start, other))
    figures = [before[name] for name in before if before[name] != after[name]]
    figures += [judged(start)[entry["id"]].value] if names else []
    return {number_text(figure) for figure in figures if not isinstance(figure, str)}


NUMBER = re.compile(r"(?<![\w.,-])\d[\d,.]*(?<![,.])(?![\w-])")  # not in V2, 671B or 6-bit


def test_prose_holds_no_number_that_an_input_moves():
    for entry in PROSE:
        moved = moved_figures(entry) - {number_text(x) for x in PRINTED.get(entry["id"], ())}
        for sentence in (entry["baseline"], *entry["say_instead"]):
            said = {"when": "", "say": sentence} if isinstance(sentence, str) else sentence
            literal = set(NUMBER.findall(said["say"])) - set(NUMBER.findall(said["when"]))
            assert not literal & moved, (entry["id"], literal & moved)


PRINTED = {"reduction_abstract_percent": (93.3,)}  # a number of the paper's that ours comes to


def test_verdict_words_and_number_agree_on_a_grid_of_inputs():
    assert set(TRUE) == set(RULES)
    said = {piece: set() for piece in SAID_WHEN}
    for inputs in GRID:
        claims = judge(inputs)
        assert_sound(inputs, claims)
        for claim in claims:
            for piece in PIECES[claim.id]:
                said[piece].add(piece in claim.say_instead)
    assert {piece for piece, seen in said.items() if seen != {True, False}} == set()


@settings(max_examples=25, phases=[Phase.generate])
@given(inputs=RANDOM)
def test_verdict_words_and_number_agree_on_any_inputs(inputs):
    assert_sound(inputs, judge(inputs))


def test_the_command_line_prints_one_list(capsys):
    main(["claims", "--json", "--set", "n_heads=64", "--set", "n_layers=2"])
    out, err = capsys.readouterr()
    expected = judged(Inputs(n_heads=64, n_layers=2)).values()
    assert (json.loads(out), err) == ([asdict(claim) for claim in expected], "")
    names = "id group claim value unit baseline formula verdict say_instead source inputs"
    assert " ".join(json.loads(out)[0]) == names
    main(["claims"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(RULES)
    assert re.match("right with a condition MLA shrinks the cache 57 times.", lines[0])
    assert lines[2] == "wrong                  MLA shrinks the cache 576 times."
    assert lines[3].startswith(" " * 23 + "Plain MHA with 128 heads")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("heads=3", "set: expected field=value with one of n_layers"),
        ("n_heads", "n_heads: expected a whole number, got ''"),
        ("n_heads=many", "n_heads: expected a whole number, got 'many'"),
        ("n_heads=0", "n_heads: expected a whole number from 1"),
        ("qk_rope_head_dim=3", "qk_rope_head_dim: expected an even number"),
        ("v_head_dim=3", "v_head_dim: expected an even number"),
        ("n_layers=0", "n_layers: expected a whole number from 1 to 1024"),
        ("q_lora_rank=-1", "q_lora_rank: expected a whole number from 0 to 65536"),
        ("cache_bits=65", "cache_bits: expected a whole number from 1 to 64"),
        ("deployed_bits=0", "deployed_bits: expected a whole number from 1 to 64"),
        ("gpus=0", "gpus: expected a whole number from 1 to 1024"),
        ("context=0", "context: expected a whole number from 1 to 1000000000"),
    ],
)
def test_bad_inputs_get_one_line(assignment, words, capsys):
    assert words in refusal(["claims", "--set", assignment], capsys)


def test_parsed_inputs_are_those_asked_for():
    assert parse_inputs(["n_heads=16", "context=5"]) == Inputs(n_heads=16, context=5)
    assert parse_inputs([]) == Inputs()
