from statistics import fmean
from types import SimpleNamespace

import pytest
import torch

from mla_viz.config import GQAGeometry, ModelGeometry
from mla_viz.findings import recall
from mla_viz.findings.likeness import Likeness, head_likeness, linear_cka, mean_cka
from mla_viz.findings.prompts import NAMES, PROMPTS, recall_items
from mla_viz.findings.recall import recall_by_prompt
from mla_viz.model.decoder import Decoder
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.model.weights import load_weights, random_weights
from mla_viz.shipped import member_weights
from tests.conftest import TOKENIZER

END = stories_tokenizer().end


def begun(text):
    return [END, *stories_tokenizer().encode(text)]


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


LONG = "Once upon a time there was a pig who went to the park and saw a bird. " * 6


@pytest.mark.usefixtures("small_family")
def test_shared_keys_are_alike_and_own_keys_are_not():
    found = {
        name: head_likeness(load_weights(member_weights(name)), STORIES, TOKENIZER)
        for name in ("mha", "gqa-2", "mqa", "mla-8")
    }
    for part in ("content_keys", "values"):
        mha, gqa, mqa = (getattr(found[name], part) for name in ("mha", "gqa-2", "mqa"))
        assert mha < gqa < mqa == pytest.approx(1)


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize("name", ["mha", "mla-8"])
def test_position_makes_no_heads_alike_or_unlike(name):
    weights = load_weights(member_weights(name))
    for block in weights.blocks:  # every head's key is head 0's, its pairs in another order
        keys = block.attention.W_K if name == "mha" else block.attention.W_UK
        for head in range(1, 4):
            keys[head] = keys[0].roll(2 * head, -1)
    found = head_likeness(weights, [*STORIES, LONG], TOKENIZER)
    assert found.content_keys == pytest.approx(1)
    assert found.values < 0.9


def turned_back(keys):
    """Pair j of the key at a position turned back by position · 1000^(-2j / 8)."""
    pairs = torch.view_as_complex(keys.contiguous().unflatten(-1, (4, 2)))
    angles = torch.arange(keys.shape[-2])[:, None] * 1000.0 ** (-torch.arange(4).double() / 4)
    return torch.view_as_real(pairs * torch.exp(-1j * angles)).flatten(-2)


def without_rope_key(keys):
    return keys[..., :8]


def keys_and_values(weights, mechanism, copies, content):
    """Each layer's content keys and values over all stories, a copy for each query head."""
    layers = [([], []) for _ in weights.blocks]
    for story in (*STORIES, LONG):
        decoder = Decoder(weights, mechanism)
        decoder.feed(torch.tensor(begun(story)[:64]))
        for (keys, values), cache in zip(layers, decoder.caches, strict=True):
            keys.append(content(cache.k.double()))
            values.append(cache.v.double())
    return [[torch.cat(x, 1).repeat_interleave(copies, 0) for x in layer] for layer in layers]


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize(
    ("name", "mechanism", "copies", "content"),
    [
        ("mha", "mha", 1, turned_back),
        ("gqa-2", "gqa", 2, turned_back),
        ("mla-8", "mla_expanded", 1, without_rope_key),
    ],
)
def test_likeness_is_the_mean_over_layers_of_content_keys_and_values(
    name, mechanism, copies, content
):
    assert len(begun(LONG)) > 64
    weights = load_weights(member_weights(name))
    layers = keys_and_values(weights, mechanism, copies, content)
    expected = Likeness(*(sum(map(mean_cka, part)) / 2 for part in zip(*layers, strict=True)))
    found = head_likeness(weights, [*STORIES, LONG], TOKENIZER)
    assert vars(found) == pytest.approx(vars(expected))


def test_recall_prompts_are_fair():
    items = recall_items()
    assert len(set(items)) == len(items) == 120
    for prompt, answer in items:
        assert answer in prompt
        assert sum(name in prompt.replace("Tommy", "") for name in NAMES) == 2
        assert not prompt.endswith(" ")
    counts = [sum(answer == name for _, answer in items) for name in NAMES]
    assert set(counts) == {12}
    assert len(set(map(distance, items))) == len(NAMES) - 1
    assert items[0] == (
        "Lily was a little fox. Tim was a big bear. One day the big bear was hungry."
        " The bear's name was Tim. The fox's name was",
        "Lily",
    )


def distance(item):
    """Places from the answer to the other name of its prompt, around the list."""
    prompt, answer = item
    (other,) = (name for name in NAMES if name in prompt and name != answer)
    return (NAMES.index(other) - NAMES.index(answer)) % len(NAMES)


@pytest.mark.parametrize("knows", [0, 3, 120])
def test_recall_is_the_share_of_prompts_whose_name_is_the_likeliest(monkeypatch, knows):
    fed = []

    class Told:
        """In place of a decoder: knows the first answers, and says Tom to the others."""

        def __init__(self, *_):
            pass

        def feed(self, tokens):
            name = recall_items()[len(fed)][1] if len(fed) < knows else "Tom"
            fed.append(tokens.tolist())
            logits = torch.zeros(len(tokens), 2048)
            logits[-1, begun(f" {name}")[1]] = 1
            logits[-1, begun(" the")[1]] = 2  # no name, and likelier
            logits[:-1, begun(" Anna")[1]] = 3  # before the end
            return SimpleNamespace(logits=logits)

    monkeypatch.setattr(recall, "Decoder", Told)
    weights = random_weights(ModelGeometry("", GQAGeometry(4, 1, 1, 2), 1, 1, 2048, 9), 0)
    right = [n < knows or answer == "Tom" for n, (_, answer) in enumerate(recall_items())]
    expected = [sum(right[start : start + 10]) / 10 for start in range(0, 120, 10)]
    assert recall_by_prompt(weights, "mha", TOKENIZER) == expected
    assert fed == [begun(prompt) for prompt, _ in recall_items()]


@pytest.mark.usefixtures("small_family")
def test_recall_of_a_model_that_knows_nothing_is_near_chance():
    weights = load_weights(member_weights("mha"))
    by_prompt = recall_by_prompt(weights, "mha", TOKENIZER)
    assert len(by_prompt) == len(PROMPTS)
    assert 0 <= fmean(by_prompt) < 0.35
