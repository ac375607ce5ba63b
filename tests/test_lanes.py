"""Both lanes of the worked example: what each shows, what makes it, and where they are equal."""

from dataclasses import replace

import numpy as np
import pytest

from mla_viz.findings.lanes import LANES, joins, lane_matrices
from mla_viz.findings.lesson import HEADS, WORDS, Naive, converted, make_lesson
from mla_viz.findings.matrix import CACHED, FIXED, PASSING

LESSON = make_lesson()
# Shown name: the lesson's matrix, which part of it, the names of its rows and of its columns.
BOTH = (slice(None), 0)
SHOWN = {
    "x": ("x", ..., WORDS[-1:], ()),
    "X": ("X", ..., WORDS, ()),
    "out": ("out", ..., WORDS[-1:], ()),
    "W_DKV": ("W_DKV", ..., (), ()),
    "W_KR": ("W_KR", ..., (), ()),
    "c_KV": ("C_KV", [4], WORDS[-1:], ()),
    "k_R": ("K_R", [4], WORDS[-1:], ()),
    "C_KV": ("C_KV", ..., WORDS, ()),
    "K_R": ("K_R", ..., WORDS, ()),
    "q̃": ("q_latent", BOTH, HEADS, ()),
    "q_R": ("q_R", BOTH, HEADS, ()),
    "o": ("o_head", BOTH, HEADS, ()),
    "õ": ("o_latent", BOTH, HEADS, ()),
    "content part": ("content", BOTH, HEADS, WORDS),
    "position part": ("position", BOTH, HEADS, WORDS),
    "scores s": ("scores", BOTH, HEADS, WORDS),
    "weights p": ("probs", BOTH, HEADS, WORDS),
}
PLAIN = {"W_UQ": "W_UQ", "W_QR": "W_QR", "W_UK": "W_UK", "W_UV": "W_UV", "W_O": "W_O", "q": "q"}
PLAIN |= {"q_R": "q_R", "q̃": "q_latent", "õ": "o_latent", "o": "o_head"}
PER_HEAD = {name: (symbol, ..., (), ()) for name, symbol in PLAIN.items()}
PER_HEAD |= {"K": ("K", ..., WORDS, ()), "V": ("V", ..., WORDS, ())}
PER_HEAD |= {"k": ("K", [4], (), ()), "v": ("V", [4], (), ())}
PER_HEAD |= {"content part": ("content", ..., (), WORDS), "weights p": ("probs", ..., (), WORDS)}
SHOWN |= {
    f"{name} {head}": (symbol, (i, part), rows, columns)
    for name, (symbol, part, rows, columns) in PER_HEAD.items()
    for i, head in enumerate(HEADS)
}
KEPT = {
    "naive": {"k", "v", "K", "Kᵀ", "V", "k_R", "K_R", "K_Rᵀ"},
    "rebuilt": {"c_KV", "C_KV", "C_KVᵀ", "k_R", "K_R", "K_Rᵀ"},
    "absorbed": {"c_KV", "C_KV", "C_KVᵀ", "k_R", "K_R", "K_Rᵀ"},
    "alike": set(),
}


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_shows_the_matrix_that_it_names_and_how_long_it_lives(lane):
    from_keys = lane in ("naive", "rebuilt")
    lesson = converted(LESSON, Naive) if from_keys else LESSON
    shown = lane_matrices(LESSON, lane)
    for name, (symbol, part, rows, columns) in SHOWN.items():
        found = shown[name]
        assert (found.name, found.rows, found.columns) == (name, rows, columns)
        assert found.newest == (rows == WORDS), name
        np.testing.assert_array_equal(found.values, getattr(lesson, symbol)[part], err_msg=name)
    for name, matrix in shown.items():
        symbol = name.split(" ")[0]
        fixed = FIXED if symbol.startswith("W_") else PASSING
        assert matrix.role == (CACHED if symbol in KEPT[lane] else fixed), name


def worked(made, m):
    """What these matrices make, by plain arithmetic."""
    one, *others = (np.atleast_2d(m[name]) for name in made.of)
    if made.kind == "turned":
        (a, b), (cosine, sine) = one.T, others[0].T
        return np.stack([a * cosine - b * sine, a * sine + b * cosine], 1)
    if made.kind == "product":
        pairs = zip([one, *others][::2], [one, *others][1::2], strict=True)
        return sum(left @ right for left, right in pairs)
    return {
        "sum": lambda: (one + sum(others)) / made.by,
        "exp": lambda: np.exp(one),
        "row sums": lambda: one.sum(1, keepdims=True),
        "share": lambda: one / others[0],
    }[made.kind]()


@pytest.mark.parametrize("lane", LANES)
def test_whatever_makes_a_matrix_comes_to_it(lane):
    shown = lane_matrices(LESSON, lane)
    values = {name: matrix.values for name, matrix in shown.items()}
    made = {name: matrix.made for name, matrix in shown.items() if matrix.made}
    for name, how in made.items():
        np.testing.assert_allclose(worked(how, values), values[name], atol=1e-12, err_msg=name)
    assert {"content part head 1", "o head 2", "scores s", "weights p", "out"} < set(made)
    assert not any(matrix.made for matrix in shown.values() if matrix.role == FIXED)
    from_latents = "õ" in made["o head 1"].of[0]
    assert from_latents == (lane in ("absorbed", "alike"))


NAMES = ["content part", "scores s", "weights p", "o head 1", "o head 2", "out"]


def test_both_lanes_are_equal_to_rounding_and_the_difference_is_the_measured_one():
    naive = converted(LESSON, Naive)
    found = {join.name: join for join in joins(NAMES, LESSON, LESSON)}
    assert list(found) == NAMES
    assert not any(join.apart for join in found.values())
    # Halves have no rounding: the first parts are equal to the last bit, and so are the scores.
    assert found["content part"].gaps == {"float64": 0, "float32": 0}
    assert found["out"].gaps["float64"] == np.abs(naive.out - LESSON.out).max() > 0
    assert 1e-9 < found["out"].gaps["float32"] < 1e-5


def test_a_changed_weight_sets_apart_what_it_reaches_and_nothing_else():
    changed = LESSON.W_UV.copy()
    changed[0, 0, 0] += 0.5
    found = joins(NAMES, replace(LESSON, W_UV=changed), LESSON)
    assert [join.apart for join in found] == [False, False, False, True, False, True]
    p = LESSON.probs[0, 0] @ LESSON.C_KV[:, 0]
    assert found[3].gaps["float64"] == pytest.approx(abs(0.5 * p))
