"""The lesson: one case worked by hand, the identities, and what breaks them."""

from math import ceil, cos, log2, sin

import numpy as np
import pytest
import torch

from mla_viz.attention.weights import random_mla
from mla_viz.cost import brackets, cache_elems, operations
from mla_viz.findings.lesson import (
    FORMAT_GEOMETRY,
    GEOMETRY,
    Lesson,
    Naive,
    converted,
    format_errors,
    make_lesson,
    rope_break,
    turned,
)
from mla_viz.published.catalog import judged
from mla_viz.ui.absorption.parts import prose
from mla_viz.ui.absorption.stages import code_line

# Worked by hand: two words, d_model 2, one head of 1, a latent of 2, a RoPE pair.
# x2 = (1, 2); c1 = (1, 0), c2 = (2, 1); q = 1·3 + 2·(-1) = 1; W_UK = (2, -1)
# absorbed query (2, -1): content 2 and 3; keys 2 and 3 give the same.
# RoPE keys: (1, 0) at position 0, and at 1 turned by one radian; so is the query (1, 0).
# Position: cos 1 for the word before, cos 0 for the word itself.
BY_HAND = Lesson(
    X=np.array([[1.0, 0], [1, 2]]),
    W_DKV=np.array([[1.0, 0], [0.5, 0.5]]),
    W_KR=np.array([[1.0, 0], [0, 0]]),
    W_UQ=np.array([[[3.0], [-1]]]),
    W_QR=np.array([[[1.0, 0], [0, 0]]]),
    W_UK=np.array([[[2.0], [-1]]]),
    W_UV=np.array([[[1.0], [1]]]),
    W_O=np.array([[[1.0, -1]]]),
)


def test_a_case_worked_by_hand():
    assert BY_HAND.C_KV.tolist() == [[1, 0], [2, 1]]
    assert BY_HAND.q.tolist() == [[[1]]]
    assert BY_HAND.q_latent.tolist() == [[[2, -1]]]
    naive = converted(BY_HAND, Naive)
    assert BY_HAND.content.tolist() == naive.content.tolist() == [[[2, 3]]]
    assert BY_HAND.K_R.ravel() == pytest.approx([1, 0, cos(1), sin(1)])
    assert BY_HAND.q_R.ravel() == pytest.approx([cos(1), sin(1)])
    assert BY_HAND.position.ravel() == pytest.approx([cos(1), 1])
    weight = 1 / (1 + np.exp((2 + cos(1) - 3 - 1) / 2))  # over the root of 2 + 2, the lesson's dims
    assert BY_HAND.probs[0, 0] == pytest.approx([1 - weight, weight])
    for lesson in (BY_HAND, naive):
        assert lesson.o_head[0, 0, 0] == pytest.approx(1 * (1 - weight) + 3 * weight)
    assert BY_HAND.out[0] == pytest.approx([1 + 2 * weight, -1 - 2 * weight])


def turned_by_hand(row, pos, theta):
    """RoPE: pair j of neighbours turned by pos · theta^(-2j / width)."""
    pairs = row.reshape(-1, 2)
    angles = pos * theta ** (-2 * np.arange(len(pairs)) / len(row))
    real, imaginary = np.cos(angles), np.sin(angles)
    a, b = pairs.T
    return np.stack([a * real - b * imaginary, a * imaginary + b * real], 1).ravel()


def test_rope_turns_pairs_of_neighbours_by_position():
    rows = np.array([[3.0, 4, 1, -2], [1, 0, 0, 1]])
    found = turned(rows, np.array([0, 5]), theta=100.0)
    assert found[0].tolist() == [3, 4, 1, -2]
    assert found[1] == pytest.approx([cos(5), sin(5), -sin(0.5), cos(0.5)])  # 5 · 100^(-2/4)
    by_hand = [turned_by_hand(row, pos, 100.0) for row, pos in zip(rows, (0, 5), strict=True)]
    np.testing.assert_allclose(found, by_hand, atol=1e-12)


def reference(m):
    """Every matrix of the lesson, word by word and head by head, from rebuilt keys and values."""
    last, heads = len(m.X) - 1, range(len(m.W_UQ))
    latents = [row @ m.W_DKV for row in m.X]
    rope_keys = [turned_by_hand(row @ m.W_KR, pos, 100.0) for pos, row in enumerate(m.X)]
    q = [m.X[last] @ m.W_UQ[h] for h in heads]
    q_rope = [turned_by_hand(m.X[last] @ m.W_QR[h], last, 100.0) for h in heads]
    keys = [[c @ m.W_UK[h] for c in latents] for h in heads]
    values = [[c @ m.W_UV[h] for c in latents] for h in heads]
    content = [[q[h] @ key for key in keys[h]] for h in heads]
    position = [[q_rope[h] @ key for key in rope_keys] for h in heads]
    scores = (np.array(content) + position) / 2  # the root of nope 2 + rope 2
    probs = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    o_head = [sum(p * v for p, v in zip(probs[h], values[h], strict=True)) for h in heads]
    alone = {"x": m.X[last:], "C_KV": latents, "K_R": rope_keys, "K": keys, "V": values}
    of_heads = {
        "q": q,
        "q_R": q_rope,
        "q_latent": [m.W_UK[h] @ q[h] for h in heads],
        "content": content,
        "position": position,
        "scores": scores,
        "probs": probs,
        "o_latent": probs @ latents,
        "o_head": o_head,
    }
    out = {"out": [sum(o_head[h] @ m.W_O[h] for h in heads)]}
    return alone | {name: np.array(rows)[:, None] for name, rows in of_heads.items()} | out


@pytest.mark.parametrize("kind", [Lesson, Naive])
def test_every_matrix_is_what_its_symbol_says_from_latents_and_from_keys(kind):
    lesson = converted(make_lesson(), kind)
    expected = reference(lesson)
    own = {name for name, value in vars(Lesson).items() if isinstance(value, property)}
    assert set(expected) == own
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(lesson, name), values, atol=1e-12, err_msg=name)


def test_the_lesson_is_of_few_and_short_numbers():
    lesson = make_lesson()
    shapes = {name: values.shape for name, values in vars(lesson).items()}
    assert shapes == {
        "X": (5, 8),
        "W_DKV": (8, 4),
        "W_KR": (8, 2),
        "W_UQ": (2, 8, 2),
        "W_QR": (2, 8, 2),
        "W_UK": (2, 4, 2),
        "W_UV": (2, 4, 2),
        "W_O": (2, 2, 8),
    }
    for name, values in vars(lesson).items():
        assert set(values.flat) <= {-1, -0.5, 0, 0.5, 1}, name
    assert set(lesson.X.flat) == {-1, -0.5, 0, 0.5, 1}
    assert not np.array_equal(lesson.W_UV[0], lesson.W_UV[1])
    assert np.abs(lesson.position).max() > 0.5


def test_toy_dims_teach_what_deepseek_teaches():
    g = GEOMETRY
    assert g.qk_nope_head_dim < g.d_model * g.kv_lora_rank / (g.d_model + g.kv_lora_rank)
    assert 2 * g.kv_lora_rank > g.qk_nope_head_dim + g.v_head_dim


def test_a_lesson_in_another_format_is_rounded_to_it_all_the_way():
    lesson = converted(make_lesson(), Naive, "float32")
    for name, value in vars(Lesson).items():
        if isinstance(value, property):
            assert getattr(lesson, name).dtype == np.float32, name
    exact = make_lesson().out
    assert 0 < np.abs(lesson.out - exact).max() < 1e-5


def test_rope_on_content_breaks_the_identity_more_with_distance():
    distances = [0, 1, 4, 16, 128]
    q, k = np.random.default_rng(0).standard_normal((2, 256, 64))
    absorbed = (q * k).sum(1)
    for distance, found in zip(distances, rope_break(distances), strict=True):
        key = np.array([turned_by_hand(row, -distance, 1e4) for row in k])  # the query unturned
        true = (q * key).sum(1)
        expected = np.abs(true - absorbed).mean() / np.abs(true).mean()
        assert found == pytest.approx(expected, abs=1e-12)
    differences = rope_break(distances)
    assert differences == sorted(differences)
    assert differences[-1] > 0.5


def test_formats_keep_both_paths_close_and_float16_overflows_absorbed_first():
    records = format_errors()
    assert [record.dtype for record in records] == ["float64", "float32", "bfloat16", "float16"]
    assert records[0].expanded == 0  # what all others are measured against
    for record, unit in zip(records, (2**-52, 2**-23, 2**-7, 2**-10), strict=True):
        paths = (record.expanded, record.absorbed) if record.expanded else (record.absorbed,)
        assert all(unit / 8 < error < 8 * unit for error in paths)
    assert {record.overflows_from for record in records[:3]} == {(None, None)}
    assert records[3].overflows_from == powers_past_the_end_of_float16()


def powers_past_the_end_of_float16():
    """Where W_UK itself, of which the expanded path makes keys, and q·W_UKᵀ pass 65,504."""
    weights = random_mla(FORMAT_GEOMETRY, torch.Generator().manual_seed(0))
    x = torch.randn(32, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q_latent = x @ weights.W_UQ.double() @ weights.W_UK.double().mT
    return tuple(ceil(log2(65504 / big.abs().max().item())) for big in (weights.W_UK, q_latent))


def test_every_stage_has_its_products_and_its_line_of_code():
    for stage in prose()["step"]:
        assert code_line(stage["file"], stage["code"]) > 1
        counted = {op.name for op in operations("mla_absorbed", GEOMETRY, 5, 1)}
        assert set(stage["operations"]) <= counted
    assert [len(prose()[kind]) for kind in ("before", "step")] == [9, 8]


def test_every_question_has_its_answer_among_the_options():
    for entry in prose()["question"]:
        assert entry["answer"] in entry["options"]
        assert entry["reason"]
    answers = {entry["before"]: entry["answer"] for entry in prose()["question"]}
    assert answers["append"] == str(cache_elems("mla_absorbed", GEOMETRY))
    first, second = brackets(judged("DeepSeek-V3").attention, 100_000)["scores"]
    assert answers["bracket"] == first.formula
    assert first.flops < second.flops
