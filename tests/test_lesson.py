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
    format_errors,
    make_lesson,
    rope_break,
    stage_matrices,
    turned,
)
from mla_viz.findings.matrix import CACHED, FIXED, PASSING
from mla_viz.published.catalog import MODELS
from mla_viz.ui.absorption.parts import prose, symbols_in
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
    assert BY_HAND.content.tolist() == BY_HAND.content_from_keys.tolist() == [[[2, 3]]]
    assert BY_HAND.K_R.ravel() == pytest.approx([1, 0, cos(1), sin(1)])
    assert BY_HAND.q_R.ravel() == pytest.approx([cos(1), sin(1)])
    assert BY_HAND.position.ravel() == pytest.approx([cos(1), 1])
    weight = 1 / (1 + np.exp((2 + cos(1) - 3 - 1) / 2))  # over the root of 2 + 2, the lesson's dims
    assert BY_HAND.probs[0, 0] == pytest.approx([1 - weight, weight])
    assert BY_HAND.o_head[0, 0, 0] == pytest.approx(1 * (1 - weight) + 3 * weight)
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
        "content_from_keys": content,
        "position": position,
        "scores": scores,
        "probs": probs,
        "o_latent": probs @ latents,
        "o_head": o_head,
        "o_from_values": o_head,
    }
    out = {"out": [sum(o_head[h] @ m.W_O[h] for h in heads)]}
    return alone | {name: np.array(rows)[:, None] for name, rows in of_heads.items()} | out


def test_every_matrix_is_what_its_symbol_says():
    lesson = make_lesson()
    expected = reference(lesson)
    own = {name for name, value in vars(Lesson).items() if isinstance(value, property)}
    assert set(expected) == own
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(lesson, name), values, atol=1e-12, err_msg=name)


WORDS = ("The", "next", "day", "is", "bright")
HEADS = ("head 1", "head 2")
# Shown name: the matrix, which part of it, its role, the names of its rows and of its columns.
BOTH = (slice(None), 0)
SHOWN = {
    "x": ("x", ..., PASSING, ("bright",), ()),
    "X": ("X", ..., PASSING, WORDS, ()),
    "out": ("out", ..., PASSING, ("bright",), ()),
    "W_DKV": ("W_DKV", ..., FIXED, (), ()),
    "W_KR": ("W_KR", ..., FIXED, (), ()),
    "c_KV": ("C_KV", [4], CACHED, ("bright",), ()),
    "k_R": ("K_R", [4], CACHED, ("bright",), ()),
    "C_KV": ("C_KV", ..., CACHED, WORDS, ()),
    "K_R": ("K_R", ..., CACHED, WORDS, ()),
    "q̃": ("q_latent", BOTH, PASSING, HEADS, ()),
    "q_R": ("q_R", BOTH, PASSING, HEADS, ()),
    "content part": ("content", BOTH, PASSING, HEADS, WORDS),
    "position part": ("position", BOTH, PASSING, HEADS, WORDS),
    "scores s": ("scores", BOTH, PASSING, HEADS, WORDS),
    "weights p": ("probs", BOTH, PASSING, HEADS, WORDS),
    "õ": ("o_latent", BOTH, PASSING, HEADS, ()),
}
PER_HEAD = {"W_UQ": "W_UQ", "W_QR": "W_QR", "W_UV": "W_UV", "W_O": "W_O", "q": "q", "q_R": "q_R"}
PER_HEAD |= {"q̃": "q_latent", "õ": "o_latent", "o": "o_head", "W_UK": "W_UK"}
SHOWN |= {
    f"{name} {head}": (symbol, i, FIXED if name.startswith("W") else PASSING, (), ())
    for name, symbol in PER_HEAD.items()
    for i, head in enumerate(HEADS)
}


def test_a_stage_shows_the_matrix_that_it_names_and_how_long_it_lives():
    lesson = make_lesson()
    known, shown = vars(lesson) | reference(lesson), stage_matrices(lesson)
    for name, (symbol, part, role, rows, columns) in SHOWN.items():
        found = shown[name]
        assert (found.name, found.role, found.rows, found.columns) == (name, role, rows, columns)
        assert found.newest == (rows == WORDS)
        np.testing.assert_allclose(
            found.values, np.array(known[symbol])[part], atol=1e-12, err_msg=name
        )


def worked(parts, m):
    """What the left side of an equation comes to, by plain arithmetic on the matrices it names."""
    left = parts[: parts.index("=")]
    if left[0] == "exp":
        return np.exp(m[left[1]])
    if left[0] == "sum of each row of":
        return m[left[1]].sum(1, keepdims=True)
    if "turned by" in left:
        (a, b), (cosine, sine) = m[left[0]].T, m[left[2]].T
        return np.stack([a * cosine - b * sine, a * sine + b * cosine], 1)
    terms = {"·": "@"} | {name: f"m[{name!r}]" for name in m}
    return eval("".join(terms.get(part, part) for part in left), {"m": m})


STEPS, BEHIND = prose()["step"], prose()["equations"]
EQUATIONS = [*(stage["equations"] for stage in STEPS), *BEHIND.values()]


@pytest.mark.parametrize("parts", [parts for stage in EQUATIONS for parts in stage], ids=" ".join)
def test_an_equation_comes_to_what_it_says(parts):
    matrices = {name: matrix.values for name, matrix in stage_matrices(make_lesson()).items()}
    np.testing.assert_allclose(worked(parts, matrices), matrices[parts[-1]], atol=1e-12)
    assert len(parts) == parts.index("=") + 2


def among(name, known):
    """Whether a matrix, its transpose, all its rows or the matrix that it is a row of is known."""
    stack = name
    for head in HEADS:
        stack = stack.removesuffix(f" {head}")
    plain = {name, name.replace("ᵀ", ""), stack}
    return bool(plain & known) or all(f"{name} {head}" in known for head in HEADS)


def test_whatever_an_equation_takes_is_given_or_was_made_before():
    shown = stage_matrices(make_lesson())
    made = {"x", "X", "cos, sin of 4", "cos, sin of 0 to 4"}
    for parts in (parts for stage in EQUATIONS for parts in stage):
        *taken, result = (part for part in parts if part in shown)
        for name in taken:
            assert shown[name].role == FIXED or among(name, made), (name, parts)
        made.add(result)


NOT_MATRICES = {"i", "d_n", "d_R"}


def test_all_that_a_stages_formula_and_products_name_is_shown_by_then_for_every_head():
    shown, drawn = stage_matrices(make_lesson()), set()
    ledger = {line.name: line.formula for line in operations("mla_absorbed", GEOMETRY, 5, 1)}
    for stage in STEPS:
        drawn |= {part for parts in stage["equations"] for part in parts if part in shown}
        symbols = {name.rpartition(" ")[2] for name in drawn if "head" not in name} | drawn
        products = [ledger[name].replace("ᵀ", "") for name in stage["operations"]]
        formulas = [stage["formula"], *products]
        for symbol in {name for formula in formulas for name in symbols_in(formula)} - NOT_MATRICES:
            transposed = (f"{symbol}ᵀ {head}" in drawn for head in HEADS)
            assert among(symbol, symbols) or all(transposed), (symbol, stage["title"])
    heads = {name for name in shown if name.endswith("head 1")}
    assert {name.replace("1", "2") for name in heads & drawn} <= drawn


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
    for stage in STEPS:
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
