"""The worked example as two lanes: every matrix of each, what makes it, and where both are equal.

Knows the lesson; knows no screen.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mla_viz.findings.lesson import GEOMETRY, HEADS, WORDS, Array, Lesson, Naive, converted, turned
from mla_viz.findings.matrix import CACHED, FIXED, PASSING, Join, Made, Matrix

# What a lane keeps for later steps; all else it makes and throws away. Rebuilt: the naive form over
# the absorbed one's cache. Alike: what both do before they part.
OF_WORD, OF_HEADS = ("c_KV", "C_KV", "k_R", "K_R"), ("k", "v", "K", "V", "k_R", "K_R")
LANES = {"naive": OF_HEADS, "rebuilt": OF_WORD, "absorbed": OF_WORD, "alike": ()}
FROM_KEYS = ("naive", "rebuilt")
ROUNDING = {"float64": 1e-12, "float32": 1e-5}  # what it may make of equal numbers of their size


def lane_matrices(lesson: Lesson, lane: str) -> dict[str, Matrix]:
    """Every matrix that a lane of LANES may show, by name.

    Of those per head one a head, `q head 1`; of those that stand together a row a head, `q̃`.
    """
    kind = Naive if lane in FROM_KEYS else Lesson
    m = lesson if type(lesson) is kind else converted(lesson, kind, lesson.X.dtype.name)
    made = _made(FROM_KEYS_MADE if kind is Naive else FROM_LATENTS_MADE)
    return {
        matrix.name: replace(matrix, role=_role(matrix, lane), made=made.get(matrix.name))
        for matrix in (*_words(m), *_weights(m), *_heads(m), *_rows(m))
    }


def _role(matrix: Matrix, lane: str) -> str:
    symbol = matrix.name.partition(" ")[0].removesuffix("ᵀ")
    return CACHED if symbol in LANES[lane] else matrix.role


def _words(m: Lesson) -> list[Matrix]:
    """Rows of words: what comes in, latents, RoPE keys and turns, what comes out."""
    last, count = WORDS[-1:], len(WORDS)
    # The place (1, 0), turned, is (cos, sin) of the position.
    turns = turned(np.tile(np.array([1, 0], m.X.dtype), (count, 1)), np.arange(count))
    rows = {
        ("x", "X"): m.X,
        ("c_KV", "C_KV"): m.C_KV,
        ("x·W_KR", "X·W_KR"): m.X @ m.W_KR,
        ("cos, sin of 4", "cos, sin of 0 to 4"): turns,
        ("k_R", "K_R"): m.K_R,
    }
    return [
        *(Matrix(one, values[-1:], PASSING, last) for (one, _), values in rows.items()),
        *(Matrix(all_, values, PASSING, WORDS, newest=True) for (_, all_), values in rows.items()),
        Matrix("C_KVᵀ", m.C_KV.T, PASSING, columns=WORDS),
        Matrix("K_Rᵀ", m.K_R.T, PASSING, columns=WORDS),
        Matrix("out", m.out, PASSING, last),
    ]


def _weights(m: Lesson) -> list[Matrix]:
    of_heads = {
        "W_UQ": m.W_UQ,
        "W_QR": m.W_QR,
        "W_UK": m.W_UK,
        "W_UKᵀ": m.W_UK.swapaxes(-1, -2),
        "W_UV": m.W_UV,
        "W_O": m.W_O,
    }
    alone = [Matrix("W_DKV", m.W_DKV, FIXED), Matrix("W_KR", m.W_KR, FIXED)]
    return [*alone, *(Matrix(name, one, FIXED) for name, one in _by_head(of_heads))]


def _heads(m: Lesson) -> list[Matrix]:
    """A matrix a head."""
    plain = {"q": m.q, "x·W_QR": m.x @ m.W_QR, "q_R": m.q_R, "q̃": m.q_latent}
    plain |= {"õ": m.o_latent, "o": m.o_head, "k": m.K[:, -1:], "v": m.V[:, -1:]}
    across = {"Kᵀ": m.K.swapaxes(-1, -2), "content part": m.content, "weights p": m.probs}
    down = _by_head({"K": m.K, "V": m.V})
    return [
        *(Matrix(name, one, PASSING) for name, one in _by_head(plain)),
        *(Matrix(name, one, PASSING, columns=WORDS) for name, one in _by_head(across)),
        *(Matrix(name, one, PASSING, WORDS, newest=True) for name, one in down),
    ]


def _by_head(stacks: dict[str, Array]) -> Iterable[tuple[str, Array]]:
    for name, values in stacks.items():
        for head, one in zip(HEADS, values, strict=True):
            yield f"{name} {head}", one


def _rows(m: Lesson) -> list[Matrix]:
    """A row a head; a column a word in those of all words."""
    exp = np.exp(m.scores)
    across = {
        "content part": m.content,
        "position part": m.position,
        "scores s": m.scores,
        "exp s": exp,
        "weights p": m.probs,
    }
    plain = {
        "q̃": m.q_latent,
        "q_R": m.q_R,
        "row sums": exp.sum(-1, keepdims=True),
        "õ": m.o_latent,
        "o": m.o_head,
    }
    return [
        Matrix(name, values[:, 0], PASSING, HEADS, columns)
        for stacks, columns in ((across, WORDS), (plain, ()))
        for name, values in stacks.items()
    ]


# What makes a matrix, whichever lane it stands in; {} is a head.
MADE = {
    "q {}": Made("product", ("x", "W_UQ {}")),
    "x·W_QR {}": Made("product", ("x", "W_QR {}")),
    "q_R {}": Made("turned", ("x·W_QR {}", "cos, sin of 4")),
    "c_KV": Made("product", ("x", "W_DKV")),
    "x·W_KR": Made("product", ("x", "W_KR")),
    "k_R": Made("turned", ("x·W_KR", "cos, sin of 4")),
    "C_KV": Made("product", ("X", "W_DKV")),
    "X·W_KR": Made("product", ("X", "W_KR")),
    "K_R": Made("turned", ("X·W_KR", "cos, sin of 0 to 4")),
    "k {}": Made("product", ("c_KV", "W_UK {}")),
    "v {}": Made("product", ("c_KV", "W_UV {}")),
    "K {}": Made("product", ("C_KV", "W_UK {}")),
    "V {}": Made("product", ("C_KV", "W_UV {}")),
    "Kᵀ {}": Made("product", ("W_UKᵀ {}", "C_KVᵀ")),
    "q̃ {}": Made("product", ("q {}", "W_UKᵀ {}")),
    "position part": Made("product", ("q_R", "K_Rᵀ")),
    "scores s": Made("sum", ("content part", "position part"), 1 / GEOMETRY.softmax_scale),
    "exp s": Made("exp", ("scores s",)),
    "row sums": Made("row sums", ("exp s",)),
    "weights p": Made("share", ("exp s", "row sums")),
    "out": Made("product", tuple(f"{name} {head}" for head in HEADS for name in ("o", "W_O"))),
}
FROM_KEYS_MADE = {
    "content part {}": Made("product", ("q {}", "Kᵀ {}")),
    "o {}": Made("product", ("weights p {}", "V {}")),
}
FROM_LATENTS_MADE = {
    "content part": Made("product", ("q̃", "C_KVᵀ")),
    "content part {}": Made("product", ("q̃ {}", "C_KVᵀ")),
    "õ": Made("product", ("weights p", "C_KV")),
    "o {}": Made("product", ("õ {}", "W_UV {}")),
}


def _made(by_lane: dict[str, Made]) -> dict[str, Made]:
    return {
        name.format(head): replace(made, of=tuple(part.format(head) for part in made.of))
        for name, made in (MADE | by_lane).items()
        for head in HEADS
    }


def joins(names: Iterable[str], naive: Lesson, absorbed: Lesson) -> list[Join]:
    """Each of these matrices measured in both lanes; apart where no rounding explains it."""
    found = []
    for name in names:
        gaps, apart = {}, False
        for dtype, share in ROUNDING.items():
            one, other = (
                lane_matrices(converted(lesson, Lesson, dtype), lane)[name].values
                for lesson, lane in ((naive, "naive"), (absorbed, "absorbed"))
            )
            gaps[dtype] = float(np.abs(one - other).max())
            apart |= gaps[dtype] > share * max(1.0, float(np.abs(other).max()))
        found.append(Join(name, gaps, apart))
    return found
