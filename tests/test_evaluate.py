import gzip
import math
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.findings.evaluate import evaluate, score_stories, windows
from mla_viz.findings.scores import load_grid
from mla_viz.findings.stories import read_stories
from mla_viz.model.tokenizer import END_OF_TEXT, stories_tokenizer
from tests.conftest import TOKENIZER, trained_weights

STORY = "Once upon a time there was a little dog. The dog liked to run. "


@given(st.integers(2, 3000), st.integers(2, 300))
def test_windows_predict_every_later_token_once(length, context):
    predicted = []
    for start, stop, fresh in windows(length, context):
        assert 1 <= stop - start - 1 <= context
        assert 1 <= fresh <= stop - start - 1
        predicted += range(stop - fresh, stop)
    assert predicted == list(range(1, length))


def test_windows_overlap_by_half():
    assert list(windows(600, 256)) == [
        (0, 257, 256),
        (128, 385, 128),
        (256, 513, 128),
        (384, 600, 87),
    ]


STORIES = ["Ann saw a 🦊. Ann saw a 🦊. " + STORY * 3, "A dog ran. ¡Olé!"]


def nats_of(model, ids, pos):
    """Loss of one token: in the first window of 25 tokens, or in the one 12, 24, ... further on."""
    start = 0 if pos <= 24 else 12 * math.ceil((pos - 24) / 12)
    with torch.no_grad():
        logits = model(torch.tensor([ids[start:pos]]))[0, -1]
    return -logits.double().log_softmax(-1)[ids[pos]].item()


def test_two_stories_by_hand(tiny_trained):
    tokenizer = stories_tokenizer()
    end = tokenizer.end
    repeated, novel, progress = [], [], []
    for story in STORIES:
        ids = [end, *tokenizer.encode(story), end]
        pairs = list(pairwise(ids))
        for pos in range(1, len(ids)):
            seen_before = pairs[pos - 1] in pairs[: pos - 1]
            (repeated if seen_before else novel).append(nats_of(tiny_trained, ids, pos))
    weights = trained_weights(8, 64)
    score = score_stories(
        weights, "mla_absorbed", STORIES, tokenizer, lambda *done: progress.append(done)
    )
    nats, n_bytes = sum(repeated) + sum(novel), sum(len(story.encode()) for story in STORIES)
    assert score.tokens == len(repeated) + len(novel) > 60
    assert score.nats_per_token == pytest.approx(nats / score.tokens, rel=1e-5)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert score.repeated == pytest.approx(sum(repeated) / len(repeated), rel=1e-5)
    assert score.novel == pytest.approx(sum(novel) / len(novel), rel=1e-5)
    assert progress == [(1, 2), (2, 2)]


@pytest.mark.usefixtures("tiny_trained")
def test_mechanisms_and_compression_do_not_change_the_score(tmp_path):
    text = f"{STORY}\n{END_OF_TEXT}\n{STORY * 30}\n"
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    scores = [
        evaluate(plain, heads=3, latent=10, mechanism="mla_absorbed"),
        evaluate(packed, heads=3, latent=10, mechanism="mla_expanded"),
    ]
    assert scores[0].tokens == scores[1].tokens
    assert scores[0].nats_per_token == pytest.approx(scores[1].nats_per_token, rel=1e-5)


@pytest.mark.usefixtures("tiny_trained")
def test_a_setting_is_the_whole_model_where_it_is_left_out(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(STORY, encoding="utf-8")
    for asked, sizes in (
        ({}, (8, 64)),
        ({"heads": 3}, (3, 64)),
        ({"latent": 10}, (8, 10)),
        ({"heads": 3, "latent": 10}, (3, 10)),
    ):
        expected = score_stories(
            trained_weights(*sizes), "mla_absorbed", [STORY.strip()], TOKENIZER
        )
        assert evaluate(file, **asked) == expected
    wide = evaluate(file, dtype="float64").nats_per_token
    assert 1e-9 < abs(wide - evaluate(file).nats_per_token) < 1e-5
    for asked, words in (({"heads": 0}, "heads: .*, got 0"), ({"latent": 0}, "latent: .*, got 0")):
        with pytest.raises(ValueError, match=words):
            evaluate(file, **asked)


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize(
    ("source", "asked", "words"),
    [
        ("mla-8", {"heads": 3}, "n_heads: expected 4 for the trained model, got 3"),
        ("mla-8", {"latent": 7}, "kv_lora_rank: expected 8 for the trained model, got 7"),
        ("mla-8", {"latent": 9}, "kv_lora_rank: expected 8 for the trained model, got 9"),
        ("mha", {"latent": 8}, "kv_lora_rank: expected none for the trained model, got 8"),
        ("mla-8", {"mechanism": "gqa"}, "mechanism: expected one of mla_expanded, .*, got 'gqa'"),
    ],
)
def test_a_member_cannot_be_cut(tmp_path, source, asked, words):
    file = tmp_path / "text.txt"
    file.write_text(STORY, encoding="utf-8")
    assert evaluate(file, source, heads=4).tokens > 0
    with pytest.raises(ValueError, match=words):
        evaluate(file, source, **asked)


@pytest.mark.usefixtures("tiny_trained")
def test_a_dtype_that_overflows_is_refused():
    weights = trained_weights(8, 64)
    large = replace(weights, final_norm=weights.final_norm * 1e6).to(torch.float16, "cpu")
    with pytest.raises(ValueError, match=r"^dtype: .*, got torch\.float16, which over"):
        score_stories(large, "mla_absorbed", [STORY], TOKENIZER)


@pytest.mark.usefixtures("tiny_trained", "untyped")
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("text", [5, None, b"text", ["a.txt"]]),
        ("source", [5, None, ["trained"], np.zeros(2)]),
        ("heads", ["8", 1.5, True, [8]]),
        ("latent", ["8", 1.5, True, [8]]),
        ("mechanism", [5, ["mla_absorbed"], "", "magic"]),
        ("dtype", [5, None, ["float32"], "float8", torch.int8]),
        ("device", [5, None, ["cpu"], "cuda:²", torch.device("meta")]),
        ("on_story", [5, "print"]),
    ],
)
def test_a_wrong_type_is_one_line_that_names_the_argument(tmp_path, field, values):
    file = tmp_path / "text.txt"
    file.write_text("One.", encoding="utf-8")
    for value in values:
        with pytest.raises(ValueError, match=f"^{field}: expected .*, got") as refusal:
            evaluate(**{"text": file, field: value})
        assert "\n" not in str(refusal.value)
    plain = evaluate(str(file), heads=3, latent=7, device="cpu", dtype="float64")
    whole = {"heads": np.int64(3), "latent": np.uint8(7)}
    assert evaluate(file, **whole, device=torch.device("cpu"), dtype=torch.float64) == plain


@pytest.mark.usefixtures("shipped")
def test_the_shipped_grid_is_that_of_the_shipped_weights():
    corpus = os.environ.get("MLA_VIZ_CORPUS")
    if not corpus:
        pytest.skip("MLA_VIZ_CORPUS names no folder with the stories")
    grid = load_grid()
    stories = read_stories(Path(corpus) / "stories_val.txt.gz")[: grid.stories]
    for heads, latent in ((8, 64), (8, 32), (1, 4)):
        score = score_stories(trained_weights(heads, latent), "mla_expanded", stories, TOKENIZER)
        assert score.tokens == grid.tokens
        assert score.nats_per_token == pytest.approx(grid.loss(heads, latent), abs=1e-3)


@pytest.mark.usefixtures("shipped")
def test_the_shipped_grid_falls_with_latent_dim_and_with_heads():
    grid = load_grid()
    assert (grid.heads, grid.latents) == (list(range(1, 9)), list(range(4, 65)))
    corner = {(n, r): grid.loss(n, r) for n in (1, 4, 8) for r in (4, 16, 64)}
    assert corner[8, 64] < corner[8, 16] < corner[8, 4]
    assert corner[8, 64] < corner[4, 64] < corner[1, 64]
