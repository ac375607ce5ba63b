"""Large weights: tokens that are known are fed some at once, and leave the record of one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mla_viz.model import decoder, sources
from mla_viz.run import decode as room
from mla_viz.run.against import against
from mla_viz.run.bill import bill
from mla_viz.run.decode import Session, decode, generate, text_bill
from mla_viz.run.settings import Settings
from mla_viz.run.trace import AttentionRows

BASE = Settings(
    "Once upon a time a fox", "synthetic", layers=3, heads=4, max_new_tokens=30, temperature=0.9
)
PAIRS = [
    ("gqa", "gqa_latent", None),
    ("mla_expanded", "mla_absorbed", None),
    ("mha", "mla_reexpand", "int8"),
    ("gqa_latent", "recompute", None),
]


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(decoder, "LARGE_BYTES", 0)
    monkeypatch.setattr(room, "_LEADS", {})


def alone(monkeypatch):
    """The random model as one whose tokens are its own, as those are that were fetched."""
    own = replace(sources.find_source("synthetic"), alone=True)
    monkeypatch.setattr(Settings, "weights_source", own)


def near(one, other, where="run"):
    if isinstance(one, AttentionRows):
        one, other = one.data, other.data
    if isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.size > 1000:
        assert np.abs(one.astype(int) - other).max() <= 1, where  # a value on the edge of a byte
    elif isinstance(one, np.ndarray):
        assert one.shape == other.shape, where
        assert np.allclose(one, other, atol=2e-4, rtol=1e-3), where
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            if name not in ("time_us", "top_text"):
                near(getattr(one, name), getattr(other, name), f"{where}.{name}")
    elif not isinstance(one, tuple):
        assert one == other, where


@pytest.mark.parametrize(("left", "right", "kept"), PAIRS)
def test_a_run_in_blocks_leaves_the_record_of_one_token_by_token(left, right, kept, monkeypatch):
    settings = replace(BASE, left=left, right=right, cache_dtype=kept)
    plain = decode(settings)
    monkeypatch.setattr(decoder, "LARGE_BYTES", 0)
    told = []
    run = decode(settings, on_step=lambda *step: told.append(step))
    assert run.tokens == plain.tokens
    near(run, plain)
    assert run.left.time_us.min() > 0
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == list(range(1, len(told) + 1))


@pytest.mark.usefixtures("large")
def test_what_is_around_attention_takes_the_tokens_of_a_block_at_once(monkeypatch):
    through, seen = decoder.Decoder._through, []

    def counted(self, tokens, attend):
        seen.append(tokens.shape[-1])
        return through(self, tokens, attend)

    monkeypatch.setattr(decoder.Decoder, "_through", counted)
    run = decode(replace(BASE, left="gqa", right="gqa_latent"))
    assert max(seen) == decoder.BLOCK
    written = run.n_steps
    assert sum(seen) < 4 * written + 4  # twice the text, once more to write it, and to wake kernels


@pytest.mark.usefixtures("large")
def test_the_left_side_is_kept_for_the_next_right_one_and_for_no_other(monkeypatch):
    alone(monkeypatch)
    first = replace(BASE, left="gqa", right="gqa_latent", latent=40)
    runs = [decode(replace(first, latent=latent)) for latent in (40, 12)]
    assert runs[0].left is runs[1].left
    monkeypatch.setattr(room, "_LEADS", {})
    near(decode(replace(first, latent=12)), runs[1])
    for change in ({"seed": 3}, {"prompt": "A hen"}, {"heads": 2}, {"temperature": 0.1}):
        kept = decode(first)
        assert decode(replace(first, **change)).left is not kept.left


@pytest.mark.usefixtures("large")
def test_a_lead_that_follows_the_latent_is_made_anew(monkeypatch):
    alone(monkeypatch)
    first = replace(BASE, left="gqa_latent", right="gqa", latent=40)
    one, other = (decode(replace(first, latent=latent)) for latent in (40, 12))
    assert (one.left.cache_elems, other.left.cache_elems) == (40, 12)


@pytest.mark.usefixtures("large")
def test_a_stop_while_the_text_is_written_ends_the_run():
    def stop(done, _):
        if done == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Session(replace(BASE, left="gqa", right="gqa_latent")).run(stop)


def test_a_cut_is_held_against_its_model_over_the_models_own_tokens(monkeypatch):
    alone(monkeypatch)
    run = decode(replace(BASE, left="gqa", right="gqa_latent", temperature=0.0, max_new_tokens=5))
    assert len(run.kl) == len(run.agreed) == run.n_steps
    tops = [[side.top_text[i][0] for side in run.sides()] for i in range(run.n_steps)]
    assert run.agreed.tolist() == [one == other for one, other in tops]
    assert run.agreement == run.agreed.mean()
    assert run.mean_kl == run.kl.mean() > 0
    assert decode(replace(BASE, left="gqa", right="gqa", max_new_tokens=2)).kl is None


def test_against_is_the_sum_by_hand():
    own, other = (torch.tensor([x, y]).log() for x, y in ((0.5, 0.5), (0.25, 0.75)))
    kl, agreed = against(own, other)
    assert kl.item() == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert not against(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0]))[1]
    assert agreed.item() is (own.argmax() == other.argmax()).item()
    assert against(own + 3, own)[0].item() == pytest.approx(0, abs=1e-7)


def test_what_a_block_leaves_is_in_the_bill_and_a_text_alone_takes_less(monkeypatch):
    settings = replace(BASE, left="gqa", right="gqa_latent", max_new_tokens=100)
    plain, text = bill(settings, 4000), text_bill(settings)
    monkeypatch.setattr(decoder, "LARGE_BYTES", 0)
    blocks = bill(settings, 4000)
    assert blocks.bytes - plain.bytes > decoder.BLOCK * 2 * 4 * 3 * 4 * 4000
    assert text.seconds < bill(settings, 110).seconds / 2
    assert text.bytes < plain.bytes
    assert generate(replace(settings, max_new_tokens=3))
