"""The lesson: one case worked by hand, the identities, and what breaks them."""

import numpy as np
import pytest

from mla_viz.cost import brackets, cache_elems, operations
from mla_viz.findings.lesson import (
    GEOMETRY,
    WORDS,
    Lesson,
    format_errors,
    make_lesson,
    rope_break,
    stage_matrices,
)
from mla_viz.published.catalog import MODELS
from mla_viz.ui.absorption.stages import code_line, prose

# Worked by hand: two words, d_model 2, one head of 1, a latent of 2, no rotation at position 0 ..
# x2 = (1, 2); c1 = (1, 0), c2 = (2, 1); q = 1·3 + 2·(-1) = 1; W_UK = (2, -1)
# absorbed query (2, -1): scores 2 and 3; keys 2 and 3 give the same.
BY_HAND = Lesson(
    X=np.array([[1.0, 0], [1, 2]]),
    W_DKV=np.array([[1.0, 0], [0.5, 0.5]]),
    W_KR=np.zeros((2, 2)),
    W_UQ=np.array([[[3.0], [-1]]]),
    W_QR=np.zeros((1, 2, 2)),
    W_UK=np.array([[[2.0], [-1]]]),
    W_UV=np.array([[[1.0], [1]]]),
    W_O=np.array([[[1.0, -1]]]),
)


def test_a_case_worked_by_hand():
    assert BY_HAND.C_KV.tolist() == [[1, 0], [2, 1]]
    assert BY_HAND.q.tolist() == [[[1]]]
    assert BY_HAND.q_latent.tolist() == [[[2, -1]]]
    assert BY_HAND.content.tolist() == BY_HAND.content_from_keys.tolist() == [[[2, 3]]]
    weight = 1 / (1 + np.exp(-0.5))  # scores 2 and 3, over the root of 4
    assert BY_HAND.probs[0, 0] == pytest.approx([1 - weight, weight])
    assert BY_HAND.o_head[0, 0, 0] == pytest.approx(1 * (1 - weight) + 3 * weight)
    assert BY_HAND.out[0] == pytest.approx([1 + 2 * weight, -1 - 2 * weight])


def test_both_brackets_give_the_same():
    lesson = make_lesson()
    np.testing.assert_allclose(lesson.content, lesson.content_from_keys, atol=1e-12)
    np.testing.assert_allclose(lesson.o_head, lesson.o_from_values, atol=1e-12)


def test_the_lesson_is_the_lectures():
    lesson = make_lesson()
    assert lesson.X[:4].shape == (4, 8)
    assert lesson.W_DKV.shape == (8, 4)
    assert lesson.C_KV[:4].shape == (4, 4)
    assert len(WORDS) == 5
    for name in ("X", "W_DKV", "W_UQ", "W_UK", "W_UV", "W_O"):
        values = getattr(lesson, name)
        assert np.array_equal(values, np.rint(values * 2) / 2)
        assert np.abs(values).max() <= 1
    assert np.array_equal(lesson.C_KV, np.rint(lesson.C_KV * 4) / 4)


def test_probabilities_sum_to_one_and_depend_on_position():
    lesson = make_lesson()
    np.testing.assert_allclose(lesson.probs.sum(-1), 1)
    assert np.abs(lesson.position).max() > 0.5


def test_toy_dims_teach_what_deepseek_teaches():
    g = GEOMETRY
    assert g.qk_nope_head_dim < g.d_model * g.kv_lora_rank / (g.d_model + g.kv_lora_rank)
    assert 2 * g.kv_lora_rank > g.qk_nope_head_dim + g.v_head_dim


def test_rope_on_content_breaks_the_identity_more_with_distance():
    differences = rope_break([0, 1, 4, 16, 128])
    assert differences[0] < 1e-12
    assert differences == sorted(differences)
    assert differences[-1] > 0.5


def test_formats_keep_both_paths_close_and_float16_overflows_absorbed_first():
    by_name = {record.dtype: record for record in format_errors()}
    for name, bound in (("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 5e-2)):
        record = by_name[name]
        assert max(record.expanded, record.absorbed) < bound
        assert record.overflows_from == (None, None)
    expanded, absorbed = by_name["float16"].overflows_from
    assert absorbed < expanded


def test_every_stage_has_its_matrices_and_its_line_of_code():
    shown = stage_matrices(make_lesson())
    for stage in prose()["step"]:
        assert set(stage["matrices"]) <= set(shown)
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
    first, second = brackets(MODELS["DeepSeek-V3"].attention, 100_000)["scores"]
    assert answers["bracket"] == first.formula
    assert first.flops < second.flops
