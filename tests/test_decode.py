"""The token loop: how many steps, what each records, and what is refused in which words."""

from dataclasses import fields, is_dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch

from mla_viz.cost import cache_elems
from mla_viz.mechanisms.table import MECHANISMS, OWN_WEIGHTS
from mla_viz.model import sources
from mla_viz.model.tokenizer import END_OF_TEXT, stories_tokenizer
from mla_viz.run import decode as decode_room
from mla_viz.run import recorder
from mla_viz.run.decode import decode
from mla_viz.run.recorder import CANDIDATES
from mla_viz.run.sampling import Sampler
from mla_viz.run.settings import Settings, SideModel
from mla_viz.run.trace import DIFFERENCES, TRACE_BYTES, kept_steps

PROMPT = "The little fox ran home."
MLA = [name for name in MECHANISMS if name not in OWN_WEIGHTS]
LAYERS = 2
PROMPT_IDS = stories_tokenizer().encode(PROMPT)


def small(prompt=PROMPT, **settings):
    base = {
        "source": "synthetic",
        "heads": 3,
        "latent": 12,
        "layers": LAYERS,
        "max_new_tokens": 4,
        "device": "cpu",
    }
    return decode(prompt, **(base | settings))


def tiny(**settings):
    base = {"prompt": PROMPT, "source": "trained", "max_new_tokens": 5, "device": "cpu"}
    return decode(Settings(**(base | settings)))


def texts(run):
    return [token.text for token in run.tokens]


# What a run is


def test_steps_are_prompt_plus_generated_minus_one():
    run = small()
    assert run.prompt_len == len(PROMPT_IDS)
    assert len(run.tokens) == run.prompt_len + 4
    assert run.n_steps == run.prompt_len + 4 - 1
    for side in run.sides():
        assert len(side.cache_bytes) == len(side.top_text) == len(side.time_us) == run.n_steps
    assert len(run.differences) == run.n_steps


def test_prompt_tokens_come_first_and_are_marked():
    run = small()
    assert [token.id for token in run.tokens[: run.prompt_len]] == PROMPT_IDS
    assert [token.pos for token in run.tokens] == list(range(len(run.tokens)))
    expected = ["prompt"] * run.prompt_len + ["generated"] * 4
    assert [token.source for token in run.tokens] == expected
    assert "".join(texts(run)[: run.prompt_len]) == PROMPT
    generated = [token.id for token in run.tokens[run.prompt_len :]]
    assert run.text == stories_tokenizer().decode(generated)


def test_one_prompt_token_and_one_new_token_make_one_step():
    run = small("a", max_new_tokens=1)
    assert (run.prompt_len, run.n_steps, len(run.tokens)) == (1, 1, 2)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_cache_bytes_equal_the_closed_form_at_every_step(mechanism, dtype):
    run = small(right=mechanism, dtype=dtype, heads=4)
    side = run.right
    elems = cache_elems(mechanism, side.geometry)
    size = getattr(torch, dtype).itemsize
    expected = np.arange(1, run.n_steps + 1) * elems * size * LAYERS
    assert np.array_equal(side.cache_bytes, expected)
    assert (side.allocated_bytes >= side.cache_bytes).all()
    assert side.cache_elems == elems
    assert side.elem_bytes == size


def test_recompute_keeps_nothing_and_rebuilds_everything():
    run = small(left="recompute", right="mla_expanded")
    g = run.left.geometry
    per_token = g.n_heads * (g.qk_head_dim + g.v_head_dim) * 4
    assert not run.left.cache_bytes.any()
    assert not run.left.allocated_bytes.any()
    assert run.left.cells.data.size == 0
    assert np.array_equal(run.left.working_bytes, np.arange(1, run.n_steps + 1) * per_token)
    assert not run.right.working_bytes.any()


@pytest.mark.parametrize("mechanism", MLA)
def test_mla_sides_are_one_model_in_float64(mechanism):
    run = small(right=mechanism, dtype="float64")
    assert run.differences.shape == (run.n_steps, len(DIFFERENCES))
    assert run.max_abs_diff < 1e-10
    assert run.same_tokens


@pytest.mark.parametrize("mechanism", MLA)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_mla_sides_choose_the_same_tokens_in_float32(mechanism, temperature):
    run = small(right=mechanism, temperature=temperature)
    assert run.same_tokens
    assert 0 <= run.max_abs_diff < 1e-3


@pytest.mark.parametrize("mechanism", OWN_WEIGHTS)
def test_other_models_have_no_differences(mechanism):
    run = small(right=mechanism, heads=4, max_new_tokens=8)
    assert run.differences is None
    assert run.max_abs_diff is None
    assert not run.same_tokens


def test_both_sides_are_fed_what_the_left_one_chose():
    alone = small(left="mla_absorbed", right="mla_absorbed", heads=4)
    led = small(left="mla_absorbed", right="mqa", heads=4)
    following = small(left="mqa", right="mla_absorbed", heads=4)
    assert texts(led) == texts(alone)
    assert texts(following) != texts(alone)


def test_a_wrong_side_is_seen_in_the_differences(monkeypatch):
    made, gains = SideModel.load, iter([1, 2])

    def spoiled(geometry, seed):
        weights = made(geometry, seed)
        return replace(weights, final_norm=weights.final_norm * next(gains))

    monkeypatch.setattr(SideModel, "load", spoiled)
    run = small(dtype="float64")
    scores, probs, out, logits = run.differences.max(0)
    assert max(scores, probs, out) < 1e-10
    assert logits > 1


def test_attention_rows_are_probabilities_and_scores_of_every_head():
    run = small(dtype="float64")
    for side in run.sides():
        worst = []
        for step in range(run.n_steps):
            probs, scores = side.probs.row(step), side.scores.row(step)
            assert probs.shape == scores.shape == (LAYERS, 3, step + 1)
            shifted = np.exp(scores - scores.max(-1, keepdims=True))
            worst.append(np.abs(shifted / shifted.sum(-1, keepdims=True) - probs).max())
        assert max(worst) < 1e-6


def test_candidates_are_sorted_probabilities_of_the_next_token():
    run = small(temperature=0.5)
    for side in run.sides():
        assert side.top_probs.shape == (run.n_steps, CANDIDATES)
        assert all(len(texts) == CANDIDATES for texts in side.top_text)
        assert (np.diff(side.top_probs) <= 0).all()
        assert ((side.top_probs > 0) & (side.top_probs <= 1)).all()
        assert (side.top_probs.sum(1) <= 1 + 1e-6).all()


def test_temperature_zero_takes_the_likeliest_token():
    run = small(temperature=0.0)
    likeliest = [candidates[0] for candidates in run.left.top_text[run.prompt_len - 1 :]]
    assert texts(run)[run.prompt_len :] == likeliest
    assert texts(small(temperature=0.0, max_new_tokens=2)) == texts(run)[:-2]


def test_top_k_of_one_is_greedy():
    assert texts(small(temperature=1.0, top_k=1)) == texts(small(temperature=0.0))


def test_top_k_bounds_the_choice():
    run = small(temperature=5.0, top_k=4, max_new_tokens=20)
    chosen = texts(run)[run.prompt_len :]
    for text, likely in zip(chosen, run.left.top_text[run.prompt_len - 1 :], strict=True):
        assert text in likely[:4]


def test_sampling_follows_the_probabilities():
    logits = torch.full((2048,), -torch.inf)
    logits[[3, 5]] = torch.tensor([0.2, 0.8]).log()
    settings = Settings(PROMPT, temperature=1.0, top_k=0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2000, 2048, generator=generator, dtype=torch.float64)
    chosen = [Sampler(settings, 2048).choose(logits, row) for row in noise]
    assert set(chosen) == {3, 5}
    assert abs(chosen.count(5) / 2000 - 0.8) < 0.03


def test_a_seed_gives_one_run_and_another_seed_another():
    first, again, other = small(seed=3), small(seed=3), small(seed=4)
    assert texts(first) == texts(again) != texts(other)
    assert np.array_equal(first.left.probs.data, again.left.probs.data)
    assert np.array_equal(first.right.cells.data, again.right.cells.data)


def test_end_of_text_ends_the_run(monkeypatch):
    end = stories_tokenizer().end
    script = iter([11, 11, 12, 12, end, end])
    monkeypatch.setattr(Sampler, "choose", lambda *_: next(script))
    run = small(max_new_tokens=6)
    assert [token.id for token in run.tokens[run.prompt_len :]] == [11, 12, end]
    assert run.n_steps == run.prompt_len + 2
    for side in run.sides():
        assert len(side.cache_bytes) == run.n_steps
        assert side.cells.data.shape[1] == run.n_steps
        assert side.probs.keeps(run.n_steps - 1)
        assert not side.probs.keeps(run.n_steps)
    assert END_OF_TEXT not in run.text


def test_progress_is_told_and_may_stop_the_run():
    seen = []
    run = small(on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, run.n_steps) for i in range(run.n_steps)]

    def stop(done, total):  # noqa: ARG001
        raise InterruptedError

    with pytest.raises(InterruptedError):
        small(on_step=stop)


def test_new_tokens_past_the_context_are_clamped_and_said(monkeypatch):
    monkeypatch.setattr(sources, "SYNTHETIC_CONTEXT", len(PROMPT_IDS) + 4)
    run = small(max_new_tokens=len(PROMPT_IDS) + 4)
    assert len(run.tokens) == len(PROMPT_IDS) + 4
    asked = len(PROMPT_IDS) + 4
    note = f"{asked} new tokens asked, 4 fit the context of {asked}."
    assert run.notes == (note,)


def test_a_run_that_fits_has_no_notes():
    assert small().notes == ()


def test_dropped_attention_is_said(monkeypatch):
    monkeypatch.setattr(recorder, "kept_steps", partial(kept_steps, limit=20_000))
    run = small(max_new_tokens=30)
    kept = run.left.probs.steps
    assert len(kept) < run.n_steps
    assert run.notes == (
        f"To bound memory, attention is kept at {len(kept)} of {run.n_steps} steps:"
        f" at every {kept[1] - kept[0]}th, and at all of the last ones.",
    )
    assert run.left.probs.keeps(run.n_steps - 1)


def numpy_arrays(record):
    if isinstance(record, np.ndarray):
        return [record]
    if hasattr(record, "data") and hasattr(record, "n_heads"):
        return [record.data, record.steps]
    if is_dataclass(record):
        return [a for f in fields(record) for a in numpy_arrays(getattr(record, f.name))]
    return []


@pytest.mark.parametrize("right", ["mla_absorbed", "mqa", "recompute"])
def test_a_run_is_read_only(right):
    arrays = numpy_arrays(small(right=right))
    assert len(arrays) >= 20
    assert all(not array.flags.writeable for array in arrays)


def test_flops_come_from_the_ledger():
    run = small()
    ledger = run.right.operations(4)
    assert run.right.flops(4) == LAYERS * sum(op.flops for op in ledger)


def test_a_settings_record_decodes_as_its_keywords_do():
    keywords = {"source": "synthetic", "layers": 1, "max_new_tokens": 3, "device": "cpu"}
    assert texts(decode(Settings(PROMPT, **keywords))) == texts(decode(PROMPT, **keywords))


@pytest.mark.parametrize(
    "shape",
    [
        {"qk_rope_head_dim": 0},
        {"q_lora_rank": 20},
        {"v_head_dim": 7, "qk_nope_head_dim": 5, "qk_rope_head_dim": 2},
        {"heads": 1, "latent": 1, "layers": 1},
    ],
)
def test_odd_geometries_agree(shape):
    run = small(dtype="float64", max_new_tokens=3, **shape)
    assert run.max_abs_diff < 1e-10
    assert run.same_tokens


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "\u202eשלום", "🦊\x00", "<|endoftext|>", " x"]
)
def test_hostile_prompts_decode(text):
    run = small(text, max_new_tokens=2, layers=1)
    assert run.prompt == text
    assert run.prompt_len >= 1


# What is refused

REFUSED = [
    ({"prompt": ""}, "prompt: expected some text, got nothing"),
    ({"prompt": " \n"}, "prompt: expected some text, got nothing"),
    ({"prompt": "a b " * 5000}, r"prompt: expected at most 8191 tokens .*, got \d+"),
    ({"source": "stolen"}, "source: expected one of trained, .*synthetic, got 'stolen'"),
    ({"latent": 0}, "latent: expected a whole number from 1 to .*, got 0"),
    ({"latent": -3}, "latent: expected a whole number from 1 to .*, got -3"),
    ({"heads": 0}, "heads: expected a whole number from 1 to .*, got 0"),
    ({"qk_rope_head_dim": 7}, "qk_rope_head_dim: expected an even number .*, got 7"),
    ({"qk_nope_head_dim": 0}, "qk_nope_head_dim: expected a whole number from 1 .*, got 0"),
    ({"v_head_dim": 0}, "v_head_dim: expected a whole number from 1 .*, got 0"),
    ({"v_head_dim": 0, "right": "mha"}, "v_head_dim: expected a whole number from 1 .*, got 0"),
    ({"v_head_dim": 5, "right": "mha"}, "head_dim: expected an even number .*, got 5"),
    ({"q_lora_rank": 0}, "q_lora_rank: expected a whole number from 1 .*, got 0"),
    ({"layers": 0}, "layers: expected a whole number from 1 .*, got 0"),
    ({"left": "flash"}, "left: expected one of mla_expanded, .*, got 'flash'"),
    ({"right": ""}, "right: expected one of mla_expanded, .*, got ''"),
    ({"dtype": "float8"}, "dtype: expected one of float64, .*, got 'float8'"),
    ({"device": "tpu"}, "device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
    ({"device": "cuda:97"}, r"device: expected one that is there \(\d+ CUDA .*\), got 'cuda:97'"),
    ({"device": "cuda:-1"}, "device: expected auto, cpu, cuda or cuda:N, got 'cuda:-1'"),
    ({"temperature": float("nan")}, "temperature: expected a number from 0 to 100, got nan"),
    ({"temperature": float("inf")}, "temperature: expected a number from 0 to 100, got inf"),
    ({"temperature": -0.1}, "temperature: expected a number from 0 to 100, got -0.1"),
    ({"top_k": -1}, "top_k: expected a whole number from 0 to 2048, got -1"),
    ({"top_k": 2049}, "top_k: expected a whole number from 0 to 2048, got 2049"),
    ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number from 1 .*, got 0"),
    ({"seed": -1}, "seed: expected a whole number from 0 .*, got -1"),
    ({"latent": 65536, "heads": 1024, "layers": 256}, r"geometry: expected one that fits .* GiB"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_bad_settings_are_refused_in_words(settings, words):
    with pytest.raises(ValueError, match=words):
        small(**settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_it_is_absent():
    with pytest.raises(ValueError, match=r"expected one that is there \(0 CUDA devices\)"):
        small(device="cuda")


def test_memory_is_measured_before_anything_is_made(monkeypatch):
    def never(*_):
        raise AssertionError("weights were made")

    monkeypatch.setattr(decode_room, "free_bytes", lambda _: TRACE_BYTES)
    monkeypatch.setattr(SideModel, "load", never)
    with pytest.raises(ValueError, match=r"expected one that fits 0.1 GiB of free memory, got .*"):
        small()


def test_overflow_in_half_precision_is_said(monkeypatch):
    made = SideModel.load

    def large(geometry, seed):
        weights = made(geometry, seed)
        return replace(weights, final_norm=weights.final_norm * 3e4)

    monkeypatch.setattr(SideModel, "load", large)
    with pytest.raises(ValueError, match="dtype: expected one that holds .*float16.* overflowed"):
        small(dtype="float16")
    assert small(dtype="bfloat16").n_steps > 0


# The trained source, by a tiny file of the same form


def test_trained_source_follows_the_sliders(tiny_trained):  # noqa: ARG001
    for heads, latent in [(8, 64), (3, 17), (1, 4)]:
        run = tiny(heads=heads, latent=latent, dtype="float64")
        assert run.right.cache_elems == latent + 4
        assert run.left.cache_elems == heads * (10 + 5)
        assert run.max_abs_diff < 1e-10
        assert run.model["n_heads"] == heads
        assert run.source == "trained"


TRAINED_REFUSED = [
    ({"prompt": "a b " * 300}, r"prompt: expected at most 23 tokens \(context 24\), got \d+"),
    ({"heads": 9}, "heads: expected a whole number from 1 to 8, got 9"),
    ({"latent": 3}, "latent: expected a whole number from 4 to 64, got 3"),
    ({"latent": 65}, "latent: expected a whole number from 4 to 64, got 65"),
    ({"qk_nope_head_dim": 8}, "qk_nope_head_dim: expected 6 for the trained model, got 8"),
    ({"q_lora_rank": 8}, "q_lora_rank: expected none for the trained model, got 8"),
    ({"layers": 7}, "layers: expected 2 for the trained model, got 7"),
]


@pytest.mark.parametrize(("settings", "words"), TRAINED_REFUSED)
def test_trained_source_refuses_in_words(tiny_trained, settings, words):  # noqa: ARG001
    with pytest.raises(ValueError, match=words):
        tiny(**settings)


def test_weights_of_its_own_must_be_there(tiny_trained, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(sources, "is_shipped", lambda _: False)
    with pytest.raises(ValueError, match="right: expected a mechanism whose trained .*, got 'mha'"):
        tiny(right="mha")


def test_trained_source_takes_its_own_dims(tiny_trained):  # noqa: ARG001
    run = tiny(qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, layers=2)
    assert run.n_layers == 2


def test_a_prompt_of_all_but_one_token_leaves_room_for_one(tiny_trained):  # noqa: ARG001
    run = tiny(prompt="a" + " a" * 22, max_new_tokens=5)
    assert (run.prompt_len, len(run.tokens)) == (23, 24)
    assert run.notes == ("5 new tokens asked, 1 fit the context of 24.",)


# The shipped model


def test_shipped_model_tells_a_story(shipped):  # noqa: ARG001
    run = decode("Once upon a time there was a little fox who", max_new_tokens=16, device="cpu")
    assert run.same_tokens
    assert run.max_abs_diff < 1e-3
    assert run.left.top_probs[run.prompt_len - 1 :, 0].mean() > 0.1


def test_shipped_model_refuses_a_prompt_that_fills_its_context(shipped):  # noqa: ARG001
    with pytest.raises(ValueError, match=r"at most 255 tokens \(context 256\), got \d+"):
        decode("a b " * 300, device="cpu")


def test_shipped_model_runs_at_the_corners_of_its_sliders(shipped):  # noqa: ARG001
    for heads, latent in [(1, 4), (8, 4), (1, 64), (8, 64)]:
        geometry = Settings(PROMPT, heads=heads, latent=latent).side("right").geometry
        assert geometry.context == 256
        run = decode(PROMPT, heads=heads, latent=latent, max_new_tokens=3, device="cpu")
        assert run.right.cache_elems == latent + geometry.attention.qk_rope_head_dim
