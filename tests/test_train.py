"""Training: its parts, that the cut model is the trained one, and that a stop leaves no trace."""

import json
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from mla_viz.config import MLAGeometry, ModelGeometry
from mla_viz.model.decoder import Decoder
from mla_viz.model.sources import Shape, find_source
from mla_viz.model.tokenizer import END_OF_TEXT, stories_tokenizer
from tests.conftest import trained_weights
from train import run as train_run
from train.model import causal_attention
from train.optim import make_optimizers, orthogonalise, set_rate
from train.run import Recipe, Training, small_sizes
from train.text import StoryStream, train_tokenizer

WORDS = ["the", "fox", "ran", "home", "and", "saw", "a", "big", "red", "ball", "near", "its"]


@pytest.fixture
def text(tmp_path):
    generator = torch.Generator().manual_seed(0)
    stories = [
        " ".join(WORDS[i] for i in torch.randint(len(WORDS), (40,), generator=generator))
        for _ in range(60)
    ]
    file = tmp_path / "stories.txt"
    file.write_text("\n<|endoftext|>\n".join(stories), encoding="utf-8")
    return file


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.setattr(train_run, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(train_run, "LOGS", tmp_path / "logs")
    return tmp_path


def recipe(**changes):
    geometry = ModelGeometry("t", MLAGeometry(32, 8, 4, 4, 4, 64), 2, 48, 2048, 32)
    base = Recipe("t", tokens=8 * 32 * 6, sampled=True, rows=8, small_rows=3, micro_rows=4)
    return replace(base, **({"geometry": geometry} | changes))


def gap(ours, reference):
    return ((ours - reference).abs().max() / reference.abs().max()).item()


# The model


@pytest.mark.parametrize("sizes", [(8, 64), (8, 32), (5, 33), (3, 4), (1, 64), (1, 4)])
@pytest.mark.parametrize("mechanism", ["mla_expanded", "mla_absorbed", "mla_merged"])
def test_the_cut_model_is_the_trained_one(tiny_trained, sizes, mechanism):
    tokens = torch.randint(2048, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tiny_trained(tokens, *sizes)
    weights = trained_weights(*sizes)
    assert weights.geometry == find_source("trained").geometry(Shape(*sizes), mechanism)
    assert gap(Decoder(weights, mechanism, (3,)).feed(tokens).logits, expected) < 1e-5


@pytest.mark.parametrize("mechanism", ["mla_expanded", "mla_absorbed", "recompute"])
def test_the_model_fed_token_by_token_is_the_trained_one(tiny_trained, mechanism):
    tokens = torch.randint(2048, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tiny_trained(tokens, 5, 20)
    decoder = Decoder(trained_weights(5, 20), mechanism, (1,))
    for pos in range(12):
        first = 0 if decoder.whole_prefix else pos
        logits = decoder.feed(tokens[:, first : pos + 1]).logits[:, -1]
        assert gap(logits, expected[:, pos]) < 1e-5


def test_sizes_change_what_the_model_says(tiny_trained):
    tokens = torch.randint(2048, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        full, cut = tiny_trained(tokens), tiny_trained(tokens, 7, 60)
    assert gap(cut, full) > 1e-2


@pytest.mark.parametrize("seq", [5, 64, 150])
def test_blocked_attention_and_its_gradients_equal_pytorchs(seq):
    generator = torch.Generator().manual_seed(0)
    q, k, v, d_out = (
        torch.randn(2, 3, seq, width, generator=generator, dtype=torch.float64, requires_grad=True)
        for width in (12, 12, 7, 7)
    )
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    ours = causal_attention(q, k, v)
    torch.testing.assert_close(ours, expected)
    for grad, reference in zip(
        torch.autograd.grad(ours, (q, k, v), d_out),
        torch.autograd.grad(expected, (q, k, v), d_out),
        strict=True,
    ):
        torch.testing.assert_close(grad, reference)


# The optimizer


@pytest.mark.parametrize("shape", [(3, 16, 48), (3, 48, 16), (1, 8, 80)])
def test_orthogonalise_pushes_singular_values_near_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 37
    values = torch.linalg.svdvals(orthogonalise(x))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalise_keeps_singular_vectors():
    left, right = (torch.linalg.qr(torch.randn(6, 6))[0] for _ in range(2))
    x = left @ torch.diag(torch.linspace(1, 2, 6)) @ right
    turned = left.T @ orthogonalise(x[None])[0] @ right.T
    assert (turned - torch.diag(turned.diag())).abs().max() < 1e-4


def test_every_parameter_has_one_optimizer(tiny_trained):
    muon, adam = make_optimizers(tiny_trained, 1.0)
    sizes = [sum(p.numel() for g in o.param_groups for p in g["params"]) for o in (muon, adam)]
    assert sum(sizes) == sum(p.numel() for p in tiny_trained.parameters())
    assert all(p.ndim == 2 for p in muon.param_groups[0]["params"])


def test_the_rate_warms_up_holds_and_falls(tiny_trained):
    optimizers = make_optimizers(tiny_trained, 0.5)
    rates = []
    for progress in (0.0, 0.005, 0.2, 0.4, 0.7, 1.0):
        set_rate(optimizers, progress)
        rates.append(optimizers[0].param_groups[0]["lr"] / 0.01)
    assert rates == pytest.approx([0.001, 0.501, 1, 1, 0.5, 0])


# The data


def test_windows_depend_on_seed_and_index_alone(text):
    def stream(seed=3):
        return StoryStream(text, stories_tokenizer(), 16, seed)

    straight, resumed = stream(), stream()
    rows = [straight.batch(4 * i, 4) for i in range(80)]
    assert torch.equal(resumed.batch(4 * 60, 4), rows[60])
    assert torch.equal(resumed.batch(4 * 5, 4), rows[5])
    assert torch.equal(stream().batch(22, 2), torch.cat(rows[5:6])[2:])
    assert not torch.equal(stream(4).batch(0, 4), rows[0])


def test_windows_run_on_where_the_last_one_ended(text):
    stream = StoryStream(text, stories_tokenizer(), 16, 0)
    first, second = stream.batch(0, 2)
    assert first.shape == (17,)
    assert first[-1] == second[0]
    assert first[0] == stories_tokenizer().end


def test_each_epoch_has_an_order_of_its_own(text):
    stream = StoryStream(text, stories_tokenizer(), 16, 0)
    per_epoch = stream.n_tokens // 16 - 1
    assert not torch.equal(stream.batch(0, 4), stream.batch(per_epoch, 4))


def test_a_new_tokenizer_encodes_any_bytes():
    tokenizer = train_tokenizer(["the fox ran home"] * 3)
    text = "🦊 <img> \x00 שלום"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.token_to_id(END_OF_TEXT) == 0


def test_small_sizes_are_legal_repeatable_and_reach_the_corners():
    seen = [size for step in range(200) for size in small_sizes(recipe(small_rows=6), step)]
    assert all(1 <= heads <= 8 and 4 <= latent <= 64 for heads, latent in seen)
    assert {(1, 4), (8, 4), (1, 64)} <= set(seen)
    assert len({heads for heads, _ in seen}) == 8
    assert small_sizes(recipe(), 5) == small_sizes(recipe(), 5) != small_sizes(recipe(), 6)


# A run


def test_a_few_steps_lower_the_loss_at_every_size(text, workplace):
    made = recipe(tokens=8 * 32 * 12)
    training = Training(made, text, text, "cpu")
    sizes = [(8, 64), (8, 8), (1, 4)]
    before = [train_run.quick_loss(training.model, training.val, *size) for size in sizes]
    training.run()
    after = [train_run.quick_loss(training.model, training.val, *size) for size in sizes]
    assert all(new < old - 0.2 for new, old in zip(after, before, strict=True))
    log = json.loads((workplace / "logs" / "t.json").read_text(encoding="utf-8"))
    assert log["recipe"]["seed"] == 0
    assert log["course"][-1]["tokens"] == made.tokens


def stop_at(step, monkeypatch):
    """Save after every step, and fail at the given one as a machine that goes away would."""
    clock = count(step=1000)
    monkeypatch.setattr(train_run, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    real = train_run.train_step

    def train_step(*args):
        if args[-1] == step:
            raise ConnectionAbortedError
        return real(*args)

    monkeypatch.setattr(train_run, "train_step", train_step)


@pytest.mark.parametrize("sampled", [True, False])
def test_a_stopped_run_continues_as_if_it_had_not_stopped(text, workplace, monkeypatch, sampled):
    straight = Training(recipe(name="straight", sampled=sampled), text, text, "cpu")
    straight.run()
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        with pytest.raises(ConnectionAbortedError):
            Training(recipe(name="stopped", sampled=sampled), text, text, "cpu").run()
    resumed = Training(recipe(name="stopped", sampled=sampled), text, text, "cpu")
    assert resumed.step == 4
    resumed.run()
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    courses = [
        json.loads((workplace / "logs" / f"{name}.json").read_text(encoding="utf-8"))["course"]
        for name in ("straight", "stopped")
    ]
    without_clock = [[r | {"seconds": 0} for r in course] for course in courses]
    assert without_clock[0] == without_clock[1]


def test_a_finished_run_is_not_run_again(text, workplace, monkeypatch):
    assert workplace.exists()
    Training(recipe(), text, text, "cpu").run()
    monkeypatch.setattr(train_run, "train_step", None)
    again = Training(recipe(), text, text, "cpu")
    assert again.step == 6
    again.run()
