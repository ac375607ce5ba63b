"""Claims: their figures against those of the literature, and that verdicts follow the inputs."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.cli import main
from mla_viz.findings.claims.inputs import Inputs, parse_inputs
from mla_viz.findings.claims.judge import CONDITIONAL, RIGHT, WRONG, judge
from mla_viz.findings.claims.rules import RULES
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


def by_id(**changes):
    return {claim.id: claim for claim in judge(Inputs(**changes))}


@pytest.mark.parametrize(("name", "value"), KNOWN.items())
def test_figures_of_deepseek(name, value):
    assert by_id()[name].value == pytest.approx(value, rel=1e-4)


def test_every_claim_says_everything():
    claims = judge(Inputs())
    assert {claim.id for claim in claims} == set(RULES)
    for claim in claims:
        for field in fields(claim):
            content = getattr(claim, field.name)
            assert content is not None, (claim.id, field.name)
            assert content not in ("", {}), (claim.id, field.name)
        assert "{" not in claim.say_instead


def test_verdicts_of_deepseek():
    verdicts = {name: claim.verdict for name, claim in by_id().items()}
    assert verdicts["ratio_mha_128x128"] == CONDITIONAL
    assert verdicts["attention_patterns"] == RIGHT
    by_its_nature = "ratio_rope_forgotten six_times_faster queries_share_latent w_uv_into_logits"
    assert {verdicts[name] for name in by_its_nature.split()} == {WRONG}
    for name in ("ratio_576", "cache_100k_mla_gb", "ratio_is_speed", "fewer_params"):
        assert verdicts[name] == (CONDITIONAL if name == "fewer_params" else WRONG)


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"n_heads": 64}, "ratio_mha_128x128", WRONG),
        ({"qk_rope_head_dim": 0}, "ratio_rope_forgotten", CONDITIONAL),
        ({"context": 10**9}, "ratio_is_speed", CONDITIONAL),
        ({"deployed_bits": 16}, "reduction_abstract_percent", WRONG),
        ({"q_lora_rank": 0}, "more_params_in_training", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "merge_growth_qk", CONDITIONAL),
        ({"qk_nope_head_dim": 512, "v_head_dim": 512}, "crossover_query_tokens", RIGHT),
        ({"n_heads": 1, "v_head_dim": 8}, "absorbed_saves_flops", WRONG),
        ({"kv_lora_rank": 64, "qk_rope_head_dim": 32}, "absorbed_saves_flops", RIGHT),
        ({"n_heads": 1}, "mqa_own_kv", RIGHT),
        ({"cache_bits": 14}, "cache_100k_mla_gb", CONDITIONAL),
    ],
)
def test_inputs_decide_which_claims_survive(changes, name, verdict):
    assert by_id(**changes)[name].verdict == verdict


@given(
    n_heads=st.integers(1, 256),
    qk_nope_head_dim=st.integers(1, 64),
    qk_rope_head_dim=st.integers(0, 40).map(lambda half: 2 * half),
    v_head_dim=st.integers(1, 128).map(lambda half: 2 * half),
    kv_lora_rank=st.integers(1, 128),
    q_lora_rank=st.integers(0, 2000),
)
def test_any_legal_inputs_are_judged(**changes):
    claims = by_id(**changes)
    assert claims["absorption_costs_accuracy"].value == 0
    assert claims["quadratic"].verdict == WRONG


def test_the_command_line_prints_one_list(capsys):
    main(["claims", "--json"])
    records = json.loads(capsys.readouterr().out)
    assert len(records) == len(RULES)
    first = records[0]
    assert (first["id"], first["inputs"]["n_heads"]) == ("ratio_mha_128x128", 128)
    assert set(first) >= {"claim", "value", "unit", "baseline", "formula", "verdict", "source"}
    main(["claims", "--json", "--set", "n_heads=64", "--set", "n_layers=2"])
    records = {record["id"]: record for record in json.loads(capsys.readouterr().out)}
    assert records["ratio_mha_128x128"]["value"] == pytest.approx(28.444, rel=1e-4)
    assert records["attention_patterns"]["value"] == 128
    main(["claims"])
    assert "wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("heads=3", "set: expected field=value with one of n_layers"),
        ("n_heads", "n_heads: expected a whole number, got ''"),
        ("n_heads=many", "n_heads: expected a whole number, got 'many'"),
        ("n_heads=0", "n_heads: expected a whole number from 1"),
        ("qk_rope_head_dim=3", "qk_rope_head_dim: expected an even number"),
        ("v_head_dim=3", "v_head_dim: expected an even number"),
        ("context=0", "context: expected a whole number from 1"),
    ],
)
def test_bad_inputs_get_one_line(assignment, words, capsys):
    assert words in refusal(["claims", "--set", assignment], capsys)


def test_parsed_inputs_are_those_asked_for():
    assert parse_inputs(["n_heads=16", "context=5"]) == Inputs(n_heads=16, context=5)
