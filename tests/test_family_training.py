"""The plan of the family's trainings: what runs, in which order, and what decides the rest."""

import json
from pathlib import Path

import pytest

from mla_viz import shipped
from mla_viz.model.sources import MEMBERS
from train import collect
from train import family as plan
from train import likeness as again
from train import run as train_run
from train.family import TOLERANCE as NOISE
from train.family import Run, chosen, grouped, matched, member_runs, members, stages


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Write scores as finished runs leave them."""
    for module in (plan, train_run):
        monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
        monkeypatch.setattr(module, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(shipped, "DATA", tmp_path)

    def finish(run, loss):
        run.log.parent.mkdir(parents=True, exist_ok=True)
        score = {"nats_per_token": loss, "bits_per_byte": 1.0, "tokens": 9}
        score |= {"repeated": 1.0, "novel": 3.0}
        likeness = {"values": 0.5}  # as a run keeps it whose weights are gone
        record = {
            "score": score,
            "stories": 3,
            "name_recall": 0.5,
            "text_tokens": 7,
            "likeness": likeness,
        }
        run.log.write_text(json.dumps(record), encoding="utf-8")

    return finish


def finish_trials(finish, losses):
    for trials in (
        plan.rope_trials,
        lambda: plan.rate_trials("mha"),
        lambda: plan.rate_trials("mla"),
    ):
        for run in trials().values():
            if run.score is None:
                finish(run, losses.get(run.name.removeprefix("family/trial-"), 3.0))


def test_the_members_trained_are_the_members_that_can_be_shipped():
    assert tuple(members(16)) == MEMBERS


def test_the_first_setting_within_noise_of_the_best_is_chosen(logs):
    runs = {
        key: Run("trial", matched(key, grouped(8)), 100, 1.0)
        for key in ("first", "second", "third")
    }
    for run, loss in zip(runs.values(), (2.0 + NOISE / 2, 2.0 + 2 * NOISE, 2.0), strict=True):
        logs(run, loss)
    assert chosen(runs) == "first"
    logs(runs["first"], 2.0 + 1.1 * NOISE)
    assert chosen(runs) == "third"


def test_trials_decide_rope_width_and_rates(logs):
    losses = {
        "mla-32-rope8-lr1-seed0": 3.1,
        "mha-lr2-seed0": 2.9,
        "mla-32-rope16-lr0.5-seed0": 3.01,
    }
    finish_trials(logs, losses)
    runs = {run.geometry.name: run for run in member_runs("member", 0)}
    assert len(runs) == 8
    assert runs["mla-8"].geometry.attention.qk_rope_head_dim == 16
    assert runs["mla-32-wide"].geometry.attention.n_heads == 16
    assert {runs[name].lr_scale for name in ("mha", "gqa-2", "mqa")} == {2.0}
    assert {run.lr_scale for name, run in runs.items() if "mla" in name} == {1.0}
    assert {run.tokens for run in runs.values()} == {8_000_000}


def test_stages_end_with_the_other_seeds_and_a_finished_run_is_known(logs):
    finish_trials(logs, {})
    trials, rates, short, first, second = stages([0, 1])
    swapped, spread = short[:8], short[8:]
    assert len(trials) == 6
    assert len(rates) == 3
    assert {run.seed for run in first + swapped} == {0}
    assert {run.seed for run in second} == {1}
    assert [(run.geometry.name, run.seed) for run in spread] == [
        ("mha", 1),
        ("mha", 2),
        ("mla-32-rope8", 1),
        ("mla-32-rope8", 2),
    ]
    assert len({run.geometry.d_ff for run in swapped}) == 1
    assert len({run.name for run in trials + rates + first + short + second}) == 6 + 2 + 7 + 4 + 16
    assert first[0].score is None
    logs(first[0], 2.5)
    assert first[0].score == 2.5


def test_collecting_takes_what_has_finished(logs, tmp_path):
    finish_trials(logs, {})
    logs(next(iter(member_runs("member", 0))), 2.4)
    collect.main()
    record = json.loads((tmp_path / "family.json").read_text(encoding="utf-8"))
    (member,) = record["members"]
    assert member["geometry"]["name"] == "mha"
    (run,) = member["runs"]
    assert (run["nats_per_token"], run["content_keys"], run["values"]) == (2.4, None, 0.5)
    (swapped,) = record["swapped"]
    assert swapped["geometry"]["d_ff"] == 341
    assert (record["stories"], record["scored_tokens"], len(record["trials"])) == (3, 9, 8)


def test_another_seed_counts_once_all_members_have_it(logs, tmp_path):
    finish_trials(logs, {})
    for run in member_runs("member", 0):
        logs(run, 2.4)
    *most, last = member_runs("member", 2)
    for run in most:
        logs(run, 2.5)
    for finish, losses in ((lambda: None, [2.4]), (lambda: logs(last, 2.6), [2.4, 2.5])):
        finish()
        collect.main()
        members = json.loads((tmp_path / "family.json").read_text(encoding="utf-8"))["members"]
        assert [run["nats_per_token"] for run in members[0]["runs"]] == losses
        assert {len(member["runs"]) for member in members} == {len(losses)}


def test_likeness_is_measured_again_where_weights_are_left(logs, tmp_path, monkeypatch):
    finish_trials(logs, {})
    shipped_run, kept, gone, unfinished = list(member_runs("member", 0))[:4]
    other_seed = next(iter(member_runs("member", 1)))
    for run in (shipped_run, kept, gone, other_seed):
        logs(run, 2.4)
    files = [shipped.member_weights(shipped_run.geometry.name), kept.weights, unfinished.weights]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(again, "load_weights", Path)
    monkeypatch.setattr(again, "likeness", lambda file, stories: {"of": [file.name, *stories]})
    (tmp_path / "val.txt").write_text("A cat.", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["likeness", "--val", str(tmp_path / "val.txt")])
    again.main()
    runs = (shipped_run, kept, gone, other_seed)
    found = {run: json.loads(run.log.read_text(encoding="utf-8")) for run in runs}
    alike = [log["likeness"].get("of") for log in found.values()]
    assert alike == [[file.name, "A cat."] for file in files[:2]] + [None, None]
    assert {log["score"]["nats_per_token"] for log in found.values()} == {2.4}
