"""The family: records, names, other attention, and that its results are those of its weights."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from mla_viz.config import ModelGeometry
from mla_viz.findings.evaluate import evaluate, repeated_pairs, score_stories
from mla_viz.findings.family import Family, Member, SeedScore, Trial, difference, load_family
from mla_viz.findings.prompts import PROMPTS
from mla_viz.findings.stories import read_stories
from mla_viz.model.decoder import Decoder
from mla_viz.model.sources import source_names
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.model.weights import load_weights
from mla_viz.run.decode import decode, generate
from mla_viz.run.settings import Settings
from mla_viz.shipped import member_weights
from tests.conftest import SMALL_FAMILY, TOKENIZER
from train.family import likeness, matched, members
from train.model import TrainableModel


def made(name, label, *losses, lr_scale=1.0, seeds=(0, 1, 2, 3)):
    """A member with a training a loss; every other figure is told apart by how it is made."""
    geometry = ModelGeometry(name, SMALL_FAMILY[name], 2, 24, 2048, 64)
    runs = tuple(
        SeedScore(
            seed=seed,
            nats_per_token=nats,
            bits_per_byte=nats / 4,
            repeated=nats * 0.8,
            novel=nats * 1.2,
            name_recall=nats / 10,
            content_keys=nats / 5,
            values=nats / 8,
            recall_by_prompt=(nats / 10 - 0.1, nats / 10 + 0.1),
        )
        for seed, nats in zip(seeds, losses, strict=False)
    )
    return Member(name, label, geometry, lr_scale, runs)


MHA, GQA = made("mha", "MHA", 2.0, 2.2, lr_scale=2.0), made("gqa-2", "GQA-2", 2.3, 2.5)
MQA, MLA = made("mqa", "MQA", 2.8, 3.0), made("mla-8", "MLA-8", 2.4, 2.5)
FAMILY = Family(
    tokens=8_000_000,
    trial_tokens=2_000_000,
    text_tokens=1_500_000,
    planned=5,
    stories=250,
    scored_tokens=58_602,
    members=(MHA, GQA, MQA, MLA),
    swapped=(made("mha", "MHA", 2.7), made("mla-8", "MLA-8", 2.9)),
    trials=(
        Trial("mha", 0.5, 0, 2.95),
        Trial("mla-8", 1.0, 0, 3.2),
        Trial("mha", 1.0, 0, 3.0),
        Trial("mla-8", 1.0, 1, 3.4),
        Trial("mha", 1.0, 2, 3.3),
        Trial("mha", 1.0, 1, 3.1),
        Trial("mla-8", 1.0, 2, 3.6),
    ),
)


def test_the_file_says_all_that_the_family_knows(data_folder):
    record = asdict(FAMILY)
    for member in (*record["members"], *record["swapped"]):
        assert member.pop("name") == member["geometry"]["name"]
        del member["label"]
    (data_folder / "family.json").unlink()
    (data_folder / "family.json").write_text(json.dumps(record), encoding="utf-8")
    assert load_family.__wrapped__() == FAMILY


def test_members_are_labelled_by_what_sets_them_apart():
    assert {member.name: member.label for member in load_family().members} == {
        "mha": "MHA",
        "gqa-2": "GQA-2",
        "mqa": "MQA",
        "mla-8": "MLA-8",
        "mla-16": "MLA-16",
        "mla-32": "MLA-32",
        "mla-64": "MLA-64",
        "mla-32-wide": "MLA-32, 16 heads",
    }


@pytest.mark.usefixtures("small_family")
def test_only_members_whose_weights_are_there_are_shipped():
    assert source_names() == ("trained", *SMALL_FAMILY, "synthetic")
    member_weights("gqa-2").unlink()
    assert source_names() == ("trained", "mha", "mqa", "mla-8", "synthetic")
    assert not load_family().member("gqa-2").shipped


def test_members_count_what_their_geometry_says(small_family):
    assert [m.mechanism for m in FAMILY.members] == ["mha", "gqa", "mqa", "mla_absorbed"]
    assert [m.cache_elems for m in FAMILY.members] == [2 * 4 * 8, 2 * 2 * 8, 2 * 8, 8 + 4]
    assert MLA.cache_bytes(10) == 12 * 2 * 10 * 2
    assert MLA.cache_bytes(10, 4) == 12 * 2 * 10 * 4
    for name, module in small_family.items():
        gains = sum(p.numel() for n, p in module.named_parameters() if n.endswith("_power"))
        weights = sum(p.numel() for p in module.parameters()) - gains
        assert load_family().member(name).params == weights


def test_flops_are_those_of_the_whole_model_at_a_token():
    query, latent, output = 32 * 4 * (8 + 4), 32 * (8 + 4), 4 * 8 * 32
    score, context = 4 * (8 + 4) * 3, 4 * 8 * 3  # three tokens cached
    absorbed = 4 * 8 * 8 + 4 * 8 * 8
    layer = query + latent + absorbed + score + context + output + 3 * 32 * 24
    assert MLA.flops(3) == 2 * (2 * layer + 32 * 2048)
    layer = 4 * 32 * 32 + 2 * 32 * 3 + 3 * 32 * 24
    assert MHA.flops(3) == 2 * (2 * layer + 32 * 2048)


def test_means_and_spreads_are_over_seeds():
    member = made("mla-8", "MLA-8", 2.0, 2.1, 2.5)
    assert member.mean("nats_per_token") == pytest.approx(2.2)
    assert member.mean("repeated") == pytest.approx(2.2 * 0.8)
    assert member.content_keys == pytest.approx(2.2 / 5)
    spread = ((0.2**2 + 0.1**2 + 0.3**2) / 2) ** 0.5  # sample standard deviation
    assert member.std("nats_per_token") == pytest.approx(spread)
    assert member.std("bits_per_byte") == pytest.approx(spread / 4)
    assert member.half_width == pytest.approx(spread)
    assert member.interval == pytest.approx((2.2 - spread, 2.2 + spread))


def test_likeness_is_the_mean_over_the_seeds_that_have_it():
    measured, not_measured = MHA.runs[0], replace(MHA.runs[1], content_keys=None)
    assert replace(MHA, runs=(not_measured, measured)).content_keys == measured.content_keys
    assert replace(MHA, runs=(not_measured,)).content_keys is None


def test_recall_spreads_over_its_prompts():
    run = replace(made("mha", "MHA", 2.0).runs[0], recall_by_prompt=(0.1, 0.4, 0.4))
    other = replace(run, seed=1, recall_by_prompt=(0.3, 0.4, 0.8))  # means 0.2, 0.4 and 0.6
    member = replace(MHA, runs=(run, other))
    assert member.recall_error == pytest.approx(0.2 / 3**0.5)
    unkept = replace(run, recall_by_prompt=None)
    assert replace(MHA, runs=(run, unkept)).recall_error == pytest.approx(0.1)  # 0.173 / root of 3
    assert replace(MHA, runs=(unkept,)).recall_error is None


def test_the_committed_recall_is_the_mean_over_its_prompts():
    for member in load_family().members:
        assert len(member.runs[0].recall_by_prompt) == len(PROMPTS)
        assert fmean(member.runs[0].recall_by_prompt) == pytest.approx(member.runs[0].name_recall)
        assert 0.04 < member.recall_error < 0.1


def test_passes_count_how_often_the_text_was_read():
    assert FAMILY.passes == pytest.approx(8 / 1.5)


def test_with_one_seed_the_interval_is_half_of_what_tells_two_models_apart():
    member = made("mha", "MHA", 2.0)
    assert member.std("nats_per_token") is None
    assert member.half_width == 0.02
    assert member.interval == pytest.approx((1.98, 2.02))


def test_trials_with_several_seeds_are_told_by_seed():
    of_mla, of_mha = {0: 3.2, 1: 3.4, 2: 3.6}, {0: 3.0, 1: 3.1, 2: 3.3}  # without rate 0.5
    assert FAMILY.repeated_trials() == {"mla-8": of_mla, "mha": of_mha}
    assert replace(FAMILY, trials=FAMILY.trials[:3]).repeated_trials() == {}


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
    text.write_text("The cat sat. The cat ran.\n<|endoftext|>\nA dog.", encoding="utf-8")
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


def test_the_pareto_edge_leaves_out_what_another_beats():
    losses = {"mla-8": 3.0, "mqa": 3.5, "gqa-2": 2.0, "mha": 2.0}  # 12, 16, 32 and 64 elements
    members = tuple(made(m.name, m.label, losses[m.name]) for m in FAMILY.members)
    assert [m.name for m in replace(FAMILY, members=members).pareto_edge()] == ["mla-8", "gqa-2"]
    twin = made("mla-8", "twin", 2.9)
    with_twin = replace(FAMILY, members=(*members, twin))
    assert [m.label for m in with_twin.pareto_edge()] == ["twin", "GQA-2"]


def test_extremes_are_the_least_and_the_largest_loss():
    assert FAMILY.extremes() == (MHA, MQA)
    assert FAMILY.member("gqa-2") == GQA
    with pytest.raises(ValueError, match="source: expected one of mha, gqa-2, mqa, mla-8, got 'x'"):
        FAMILY.member("x")


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


@pytest.mark.parametrize("name", ["mha", "mla-8"])
def test_the_committed_likeness_is_that_of_the_shipped_weights(name):
    corpus = os.environ.get("MLA_VIZ_CORPUS")
    if not corpus:
        pytest.skip("MLA_VIZ_CORPUS names no folder with the stories")
    found = likeness(
        load_weights(member_weights(name)), read_stories(Path(corpus) / "stories_val.txt.gz")
    )
    committed = load_family().member(name).runs[0]
    assert found == pytest.approx({field: getattr(committed, field) for field in found}, abs=2e-3)


def test_differences_are_paired_by_seed():
    one = made("mha", "MHA", 2.0, 2.1, 2.6, seeds=(0, 1, 2))
    other = made("mqa", "MQA", 2.4, 2.2, 9.0, seeds=(2, 0, 5))
    assert difference(one, other).by_seed == pytest.approx((2.0 - 2.2, 2.6 - 2.4))
    assert difference(other, one).by_seed == pytest.approx((2.4 - 2.6, 2.2 - 2.0))
    assert difference(MQA, MHA).mean == pytest.approx((0.8 + 0.8) / 2)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ((3.0,), (2.5,), "0.50 nats/token more"),
        ((2.5,), (3.0,), "0.50 nats/token less"),
        ((2.0,), (2.041,), "0.04 nats/token less"),  # 2.02 below 2.021
        ((2.0,), (2.039,), "no measurable difference (−0.039 nats/token)"),
        ((2.039,), (2.0,), "no measurable difference (+0.039 nats/token)"),
        ((2.0, 2.2), (2.4, 2.6), "0.40 nats/token less"),  # 2.1 and 2.5, give or take 0.141
        ((2.0, 2.2), (2.2, 2.4), "no measurable difference (−0.200 nats/token)"),
    ],
)
def test_differences_are_judged_by_intervals(one, other, words):
    found = difference(made("mha", "MHA", *one), made("mqa", "MQA", *other))
    assert str(found) == words
    assert found.measurable == ("no measurable" not in words)


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"left": "mla_absorbed"}])
def test_generate_writes_what_a_whole_run_writes(settings):
    s = Settings("The cat", "mla-8", max_new_tokens=12, seed=4, **settings)
    assert generate(s) == decode(s).text
