import pytest
import torch

from mla_viz.findings.likeness import head_likeness, linear_cka, mean_cka
from mla_viz.findings.recall import NAMES, name_recall, recall_items
from mla_viz.model.weights import load_weights
from mla_viz.shipped import member_weights
from tests.conftest import TOKENIZER


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_cka_of_a_rotated_scaled_shifted_copy_is_one():
    x = random(50, 6)
    turn = torch.linalg.qr(random(6, 6, seed=1))[0]
    assert linear_cka(x, 3 * x @ turn + 7).item() == pytest.approx(1)


def test_cka_of_unrelated_features_is_small_and_of_orthogonal_ones_zero():
    assert linear_cka(random(5000, 4), random(5000, 4, seed=1)) < 0.01
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 0], [0, 0]])
    y = torch.tensor([[0.0, 0], [0, 0], [0, 1], [0, -1]])
    assert linear_cka(x, y) == 0


def test_mean_cka_by_hand():
    x, y = random(40, 3), random(40, 3, seed=1)
    between = linear_cka(x, y).item()
    assert mean_cka(torch.stack([x, x, y])) == pytest.approx((1 + 2 * between) / 3)


STORIES = ["The cat sat on a mat and ran away with the big red ball.", "A dog. The dog ran."]


@pytest.mark.usefixtures("small_family")
def test_shared_keys_are_alike_and_own_keys_are_not():
    found = {
        name: head_likeness(load_weights(member_weights(name)), STORIES, TOKENIZER)
        for name in ("mha", "gqa-2", "mqa", "mla-8")
    }
    assert found["mqa"].keys == found["mqa"].values == pytest.approx(1)
    assert found["mha"].values < found["gqa-2"].values < 1
    assert found["mha"].content_keys is None
    assert found["mla-8"].content_keys < found["mla-8"].keys


def test_recall_prompts_are_fair():
    items = recall_items()
    assert len(set(items)) == len(items) == 120
    for prompt, answer in items:
        assert answer in prompt
        assert sum(name in prompt.replace("Tommy", "") for name in NAMES) == 2
        assert not prompt.endswith(" ")
    counts = [sum(answer == name for _, answer in items) for name in NAMES]
    assert set(counts) == {12}


@pytest.mark.usefixtures("small_family")
def test_recall_of_a_model_that_knows_nothing_is_near_chance():
    weights = load_weights(member_weights("mha"))
    assert 0 <= name_recall(weights, "mha", TOKENIZER) < 0.35
