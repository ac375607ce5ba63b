"""The family: records, names, other attention, and that its results are those of its weights."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mla_viz.cli import main
from mla_viz.findings.evaluate import evaluate, repeated_pairs, score_stories
from mla_viz.findings.family import difference, load_family
from mla_viz.model.decoder import Decoder
from mla_viz.model.sources import MEMBERS, is_shipped, source_names
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.model.weights import load_weights
from mla_viz.run.decode import decode, generate
from mla_viz.run.settings import Settings
from mla_viz.shipped import member_weights
from tests.conftest import SMALL_FAMILY, TOKENIZER
from train.family import matched, members
from train.model import TrainableModel


def test_members_count_what_their_geometry_says(small_family):
    assert set(small_family) == set(filter(is_shipped, MEMBERS))
    mha, mla = load_family().member("mha"), load_family().member("mla-8")
    assert (mha.mechanism, mla.mechanism) == ("mha", "mla_absorbed")
    assert (mha.cache_elems, mla.cache_elems) == (2 * 4 * 8, 8 + 4)
    assert mla.cache_bytes(10) == 12 * 2 * 10 * 2
    for name, module in small_family.items():
        gains = sum(p.numel() for n, p in module.named_parameters() if n.endswith("_power"))
        weights = sum(p.numel() for p in module.parameters()) - gains
        assert load_family().member(name).params == weights


def test_means_and_spreads_are_over_seeds(small_family):
    assert small_family
    member = load_family().member("gqa-2")
    assert member.mean("nats_per_token") == pytest.approx(2.1)
    assert member.std("nats_per_token") == pytest.approx(0.2 / 2**0.5)
    assert replace(member, runs=member.runs[:1]).std("nats_per_token") is None


@pytest.mark.usefixtures("small_family")
def test_trials_with_several_seeds_are_told_by_seed():
    of_mla = {0: 3.2, 1: 3.4, 2: 3.6}
    family = load_family()
    assert family.repeated_trials() == {"mla-8": of_mla, "mha": {0: 3.0, 1: 3.1, 2: 3.2}}
    assert replace(family, trials=family.trials[2:4]).repeated_trials() == {}


@pytest.mark.parametrize("name", list(SMALL_FAMILY))
def test_a_loaded_member_is_the_trained_one(small_family, name):
    tokens = torch.randint(2048, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = small_family[name](tokens)
    member = load_family().member(name)
    weights = load_weights(member_weights(member.name))
    ours = Decoder(weights, member.mechanism, (2,)).feed(tokens).logits
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


def test_members_are_different_models_side_by_side(small_family):
    assert small_family
    run = decode("The cat", source="mla-8", left="mha", max_new_tokens=4)
    assert run.differences is None
    assert (run.left.cache_elems, run.right.cache_elems) == (64, 12)
    same = decode("The cat", source="mla-8", max_new_tokens=4)
    assert same.max_abs_diff < 1e-4
    own = decode("The cat", source="mqa", max_new_tokens=4)
    assert (own.left.mechanism, own.left.cache_elems) == ("mqa", 16)


def test_settings_that_a_member_has_not(small_family):
    assert small_family
    assert source_names() == ("trained", *SMALL_FAMILY, "synthetic")
    for changes, words in (
        ({"source": "mla-8", "latent": 9}, "kv_lora_rank: expected 8"),
        ({"source": "mha", "heads": 3}, "n_heads: expected 4"),
        ({"source": "mha", "right": "mla_absorbed"}, "right: expected mha, gqa, mqa"),
        ({"source": "mla-9"}, "source: expected one of trained, mha"),
    ):
        with pytest.raises(ValueError, match=words):
            s = Settings(**changes)
            [s.side(name) for name in ("left", "right")]


def test_evaluate_takes_members(small_family, tmp_path):
    assert small_family
    text = tmp_path / "text.txt"
    text.write_text("The cat sat. The cat ran.\n<|endoftext|>\nA dog.")
    weights = load_weights(member_weights("gqa-2"))
    expected = score_stories(
        weights, "gqa", ["The cat sat. The cat ran.", "A dog."], stories_tokenizer()
    )
    assert evaluate(text, source="gqa-2") == expected
    with pytest.raises(ValueError, match="mechanism: expected one of mha, gqa, mqa"):
        evaluate(text, source="mha", mechanism="mla_absorbed")
    with pytest.raises(ValueError, match="n_heads: expected 4"):
        evaluate(text, source="mha", heads=8)


def test_repeated_pairs_by_hand():
    assert repeated_pairs([7, 8, 7, 8, 9]) == [False, False, True, False]


def test_repeated_and_novel_losses_make_up_the_whole(small_family):
    assert small_family
    weights = load_weights(member_weights("mha"))
    score = score_stories(
        weights, "mha", ["The cat sat. The cat sat. The cat sat."], stories_tokenizer()
    )
    tokens = score.tokens
    share = (score.nats_per_token - score.novel) / (score.repeated - score.novel)
    assert share * tokens == pytest.approx(round(share * tokens), abs=1e-6)
    assert 0 < share < 1
    assert score_stories(weights, "mha", ["A"], TOKENIZER).repeated is None


@pytest.mark.usefixtures("small_family")
def test_the_pareto_edge_leaves_out_what_another_beats():
    found = load_family()
    losses = {"mla-8": 3.0, "mqa": 3.5, "gqa-2": 2.0, "mha": 2.0}
    members = tuple(
        replace(m, runs=(replace(m.runs[0], nats_per_token=losses[m.name]),)) for m in found.members
    )
    assert [m.cache_elems for m in members] == [64, 32, 16, 12]
    edge = replace(found, members=members).pareto_edge()
    assert [m.name for m in edge] == ["mla-8", "gqa-2"]


def test_members_have_one_budget():
    sizes = {}
    for name, attention in members(16).items():
        torch.manual_seed(0)
        sizes[name] = sum(p.numel() for p in TrainableModel(matched(name, attention)).parameters())
    assert max(sizes.values()) / min(sizes.values()) < 1.005
    assert len(sizes) == 8


@pytest.mark.parametrize("name", list(members(16)))
def test_the_committed_scores_are_those_of_the_shipped_weights(name):
    corpus = os.environ.get("MLA_VIZ_CORPUS")
    if not corpus:
        pytest.skip("MLA_VIZ_CORPUS names no folder with the stories")
    if name not in source_names():
        pytest.skip(f"{name} is not trained yet")
    score = evaluate(Path(corpus) / "stories_val.txt.gz", source=name)
    assert score.nats_per_token == pytest.approx(
        load_family().member(name).runs[0].nats_per_token, abs=2e-3
    )


@pytest.mark.usefixtures("small_family")
def test_differences_are_paired_by_seed_and_judged_by_intervals():
    mha, mla = (load_family().member(name) for name in ("mha", "mla-8"))
    lower = replace(
        mla, runs=tuple(replace(r, nats_per_token=r.nats_per_token - 0.5) for r in mla.runs)
    )
    found = difference(mha, lower)
    assert found.by_seed == pytest.approx((0.5, 0.5))
    assert found.measurable
    assert str(found) == "0.50 nats/token more"
    assert str(difference(lower, mha)) == "0.50 nats/token less"
    assert not difference(mha, mla).measurable
    assert "no measurable difference" in str(difference(mha, mla))


@pytest.mark.usefixtures("small_family")
def test_with_one_seed_the_interval_is_what_another_may_change():
    member = replace(load_family().member("mha"), runs=load_family().member("mha").runs[:1])
    assert member.interval == pytest.approx((1.98, 2.02))


@pytest.mark.usefixtures("small_family")
def test_quality_on_the_command_line(capsys):
    main(["quality", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert [m["name"] for m in record["models"]] == list(SMALL_FAMILY)
    mla = record["models"][-1]
    assert mla["mechanism"] == "mla_absorbed"
    assert mla["geometry"]["kv_lora_rank"] == 8
    assert mla["cache_elems_per_token_per_layer"] == 12
    assert mla["seeds"] == 2
    assert mla["nats_per_token"]["mean"] == pytest.approx(2.1)
    assert mla["shipped"] is True
    assert {"bits_per_byte", "repeated", "novel", "name_recall", "params"} <= set(mla)
    main(["quality"])
    assert "MLA-8" in capsys.readouterr().out


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"left": "mla_absorbed"}])
def test_generate_writes_what_a_whole_run_writes(settings):
    s = Settings("The cat", "mla-8", max_new_tokens=12, seed=4, **settings)
    assert generate(s) == decode(s).text
