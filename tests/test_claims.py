"""Claims: every figure by hand under two inputs, and that verdicts and prose follow the inputs."""

import json
import re
from dataclasses import asdict, fields, replace
from functools import cache
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.cli import main
from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.findings.claims.inputs import Inputs, parse_inputs
from mla_viz.findings.claims.judge import CONDITIONAL, RIGHT, WRONG, asides, judge
from mla_viz.findings.claims.rules import RULES, above, below, chunks, rounds_to
from mla_viz.published.catalog import MODELS, V2_PAPER
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
    "quadratic": (round(log2(171 / 45), 2), round(log2(3_381_300 / 845_650), 2)),
    "mla_beats_mha": (sum(GAINS) / 8, sum(GAINS) / 8),
    "absorption_costs_accuracy": (0, 0),
    "query_compression_cache": (0, 0),
    "no_kv_cache": (25 + 4, 22 + 8),
    "tensor_parallel_share": (29 * 2 / (2 * 8 * 14), 30 * 8 / (2 * 8 * 18)),  # 8 heads to share out
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
        "true_ratio": 168 / 29,
        "plain_gib": 168 * 3 * 9 * 12 / 8 / 1024**3,
        "in_elements": 100 * (1 - 29 * 60 / (2 * 8 * 128 * 95)),
        "ahead": 7,
        "cells": 8,
        "uncompressed": (SMALL_MLA - 40 * 20 - 20 + (40 - 20) * 6 * 14) / (4 * 40 * 40),
        "crossover": "below 23.1",  # 600 / 26
    },
    {
        "latent_elems": 30,
        "plain_elems": 180,
        "true_ratio": 6,
        "plain_gib": 180 * 7 * 1300 * 9 / 8 / 1024**3,
        "in_elements": 100 * (1 - 30 * 60 / (2 * 8 * 128 * 95)),
        "ahead": 7,
        "cells": 8,
        "uncompressed": WIDE_MLA / (4 * 96 * 96),
        "crossover": "at every number of them",
    },
)


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
    found, expected = asides(inputs), dict(ASIDES[place])
    assert found.pop("crossover") == expected.pop("crossover")
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_start_is_deepseek_v3_with_a_cache_of_16_bits():
    start, published = Inputs(), MODELS["DeepSeek-V3"]
    assert (start.mla, start.n_layers) == (published.attention, published.n_layers)
    rest = (start.cache_bits, start.deployed_bits, start.context, start.gpus)
    assert rest == (16, 6, 100_000, 8)


PUBLISHED_MODELS = {
    "DeepSeek-V3": (61, MLAGeometry(7168, 128, 128, 64, 128, 512, 1536), 61 * 576),
    "DeepSeek-V2": (60, MLAGeometry(5120, 128, 128, 64, 128, 512, 1536), 60 * 576),
    "DeepSeek-V2-Lite": (27, MLAGeometry(2048, 16, 128, 64, 128, 512), 27 * 576),
    "DeepSeek-67B": (95, GQAGeometry(8192, 64, 8, 128), 95 * 2048),
    "large MHA": (60, GQAGeometry(5120, 56, 56, 128), 860_160),  # printed as 860.2K
    "small MHA": (27, GQAGeometry(2048, 16, 16, 128), 110_592),  # printed as 110.6K
}


def test_published_models_are_those_of_their_sources():
    found = {name: (m.n_layers, m.attention, m.cache_elems) for name, m in MODELS.items()}
    assert found == PUBLISHED_MODELS
    assert {name for name, m in MODELS.items() if m.source == f"{V2_PAPER}, Table 9"} == {
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
    "absorbed_saves_flops": {"n_heads"},
    "intensity_absorbed_flop_per_byte": {"v_head_dim", "qk_nope_head_dim"},
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
        ({"context": 10**9}, "ratio_is_speed", CONDITIONAL),
        ({"deployed_bits": 16}, "reduction_abstract_percent", WRONG),
        ({"q_lora_rank": 0}, "more_params_in_training", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "merge_growth_qk", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "merge_growth_vo", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "crossover_query_tokens", RIGHT),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "w_uv_into_logits", WRONG),
        ({"n_heads": 1, "v_head_dim": 8}, "absorbed_saves_flops", WRONG),
        ({"kv_lora_rank": 64, "qk_rope_head_dim": 32}, "absorbed_saves_flops", RIGHT),
        ({"n_heads": 1}, "mqa_own_kv", RIGHT),
        ({"n_heads": 2}, "mqa_own_kv", WRONG),
        ({"gpus": 3}, "tensor_parallel_share", CONDITIONAL),
        ({"cache_bits": 14}, "cache_100k_mla_gb", CONDITIONAL),
        ({"cache_bits": 15}, "cache_100k_mla_gib", CONDITIONAL),
        ({"context": 9}, "quadratic", RIGHT),
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
        (below, 1, (0.999, -1), (1, 1.001)),
        (above, 0, (0.001,), (0, -0.001)),
    ],
)
def test_a_number_is_met_to_the_digits_in_which_it_was_claimed(test, claimed, holds, fails):
    assert all(test(claimed)(Inputs(), value) for value in holds)
    assert not any(test(claimed)(Inputs(), value) for value in fails)


def test_no_inputs_save_what_is_wrong_by_kind():
    for inputs in (SMALL, WIDE, Inputs(n_heads=1, q_lora_rank=512)):
        verdicts = {name: claim.verdict for name, claim in judged(inputs).items()}
        by_kind = ("six_times_faster", "queries_share_latent", "w_uv_into_logits")
        assert {verdicts[name] for name in by_kind} == {WRONG}
    assert set(by_kind) < set(RULES)


SAID = {
    "ratio_576": "5.8 times. 29 is the number of elements cached",
    "ratio_rope_forgotten": "6.7 is 168 / 25, with the RoPE key forgotten. It is cached too: 5.8",
    "reduction_abstract_percent": "quantised to 5 bits; in elements it is 99.1 %.",
    "cache_100k_mha_gb": "for one sequence of 9 tokens",
    "tensor_parallel_share": "With 2 GPUs that is 0.26 times what GQA-8 holds",
    "ratio_is_speed": "At 9 tokens and one sequence, attention reads 1.3 times fewer",
    "crossover_query_tokens": "few query tokens at once, here below 23.1; a prompt",
    "mla_beats_mha": "MLA is 1.4 points ahead on average, ahead in 7 of 8 cells",
    "more_params_in_training": "without query compression it would be 1.80",
    "queries_share_latent": "(q_lora_rank 20)",
    "mqa_own_kv": "all 6 heads share one key and one value, 28 elements",
    "attention_patterns": "18: 3 layers of 6 heads.",
}


def test_what_to_say_instead_carries_the_numbers_of_the_inputs():
    for name, words in SAID.items():
        assert words in judged(SMALL)[name].say_instead


def test_a_prompt_in_chunks_leaves_every_token_in_the_cache():
    assert chunks(1300, 512) == [512, 512, 276]
    assert chunks(1024, 512) == [512, 512]
    assert chunks(9, 512) == [9]


@given(
    n_heads=st.integers(1, 256),
    qk_nope_head_dim=st.integers(1, 24),
    qk_rope_head_dim=st.integers(0, 40).map(lambda half: 2 * half),
    v_head_dim=st.integers(1, 128).map(lambda half: 2 * half),
    kv_lora_rank=st.integers(1, 48),
    q_lora_rank=st.integers(0, 2000),
)
def test_any_legal_inputs_are_judged(**changes):
    claims = {claim.id: claim for claim in judge(Inputs(**changes))}
    assert claims["absorption_costs_accuracy"].value == 0
    assert claims["quadratic"].verdict == WRONG


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
    assert lines[2] == "wrong                MLA shrinks the cache 576 times."
    assert lines[3].startswith(" " * 21 + "56.9 times. 576 is the number")


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
