"""The museum of mistakes: each does to a layer what it says, and stays where it is."""

import pytest
import torch

import mla_viz
from mla_viz.checkpoints.mistakes import MISTAKES, NOTHING, effect_of, scored
from tests.checkpoints import PLAIN, YARN, attended, tiny_model

SEQ = 11
OF_YARN = ("mscale left out", "mscale on cos and sin")
OF_TURNS = ("other pairs turned", "key turned twice", "mscale on cos and sin")
OF_SCALES = ("scale of the latent", "mscale left out")
OF_VALUES = ("values of another head",)


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """A layer with and one without YaRN, with the hidden states that they got."""
    found = {}
    for name, rope in (("yarn", YARN), ("plain", PLAIN)):
        model, folder = tiny_model("deepseek_v3", rope), tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        hidden = attended(model, 1, SEQ)[0]
        found[name] = mla_viz.load_attention(folder, 1), hidden
    return found


@pytest.mark.parametrize("name", ["yarn", "plain"])
def test_without_a_mistake_the_layer_is_right(layers, name):
    layer, hidden = layers[name]
    scores, out = scored(NOTHING, layer, hidden)
    trace = layer.trace(hidden, "mla_absorbed", SEQ)
    torch.testing.assert_close(out.float(), trace.out, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[:, -1].float(), trace.scores[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_noticed_where_its_kind_can_be(layers, mistake):
    effect = effect_of(mistake, *layers["yarn"])
    assert len(effect.scores) == len(effect.probs) == len(effect.out) == SEQ
    length = effect.noticed_at()
    if mistake in OF_SCALES:  # one key alone has all the attention at any scale
        assert effect.scores[0] > 0.1
        assert effect.out[0] == 0
        assert length == 2
    elif mistake == "mscale on cos and sin":
        assert effect.scores[0] > 0
        assert effect.out[0] == 0
        assert length == 2
    elif mistake in OF_TURNS:  # nothing is turned at position 0
        assert max(effect.scores[0], effect.out[0]) < 1e-12
        assert length == 2
    elif mistake in OF_VALUES:
        assert effect.scores.max() == effect.probs.max() == 0
        assert length == 1
    else:
        assert length == 1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_about_yarn_do_nothing_without_it(layers, mistake):
    effect = effect_of(mistake, *layers["plain"])
    assert (effect.noticed_at() is None) == (mistake in OF_YARN)
    assert (effect.out.max() < 1e-12) == (mistake in OF_YARN)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_effect_is_of_the_prompt_up_to_there(layers, mistake):
    layer, hidden = layers["yarn"]
    longer, shorter = effect_of(mistake, layer, hidden), effect_of(mistake, layer, hidden[:4])
    for name in ("scores", "probs", "out"):
        torch.testing.assert_close(getattr(longer, name)[:4], getattr(shorter, name))


def test_scores_are_off_by_the_ratio_of_the_scales(layers):
    layer, hidden = layers["yarn"]
    g = layer.geometry
    ratio = (g.qk_head_dim / (g.kv_lora_rank + g.qk_rope_head_dim)) ** 0.5
    wrong = effect_of("scale of the latent", layer, hidden).scores
    torch.testing.assert_close(wrong, torch.full_like(wrong, 1 - ratio))
    squared = g.softmax_scale * g.qk_head_dim**0.5
    wrong = effect_of("mscale left out", layer, hidden).scores
    torch.testing.assert_close(wrong, torch.full_like(wrong, 1 - 1 / squared))


def test_no_such_mistake(layers):
    with pytest.raises(ValueError, match="mistake: expected one of scale of the latent"):
        effect_of("none", *layers["yarn"])
