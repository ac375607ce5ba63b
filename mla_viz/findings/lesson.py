"""The worked example of the Absorption page: five words, and matrices that one can check by hand.

d_model 8, two heads of 2, a latent of 4, RoPE of 2. Numbers are halves, so that products stay
short. The RMSNorm behind W_DKV is left out here: it acts before the cache and changes nothing of
what follows. Knows the engine; knows no screen.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Watch, rope_angles, rotate
from mla_viz.attention.weights import MLAWeights, cast, random_mla
from mla_viz.config import MLAGeometry
from mla_viz.model.device import DTYPES

WORDS = ("The", "next", "day", "is", "bright")
GEOMETRY = MLAGeometry(
    d_model=8,
    n_heads=2,
    qk_nope_head_dim=2,
    qk_rope_head_dim=2,
    v_head_dim=2,
    kv_lora_rank=4,
    rope_theta=100.0,
)
HEADS = tuple(f"head {i + 1}" for i in range(GEOMETRY.n_heads))
Array = Float[np.ndarray, "*shape"]


@dataclass(frozen=True)
class Lesson:
    """Every matrix of one decoding step: four words are cached, the fifth arrives.

    Per-head matrices have the head axis first.
    """

    X: Float[np.ndarray, "words d_model"]
    W_DKV: Float[np.ndarray, "d_model latent"]
    W_KR: Float[np.ndarray, "d_model rope"]
    W_UQ: Float[np.ndarray, "heads d_model nope"]
    W_QR: Float[np.ndarray, "heads d_model rope"]
    W_UK: Float[np.ndarray, "heads latent nope"]
    W_UV: Float[np.ndarray, "heads latent v"]
    W_O: Float[np.ndarray, "heads v d_model"]

    @property
    def x(self) -> Float[np.ndarray, "1 d_model"]:
        """The fifth word's row."""
        return self.X[-1:]

    @property
    def C_KV(self) -> Float[np.ndarray, "words latent"]:  # noqa: N802
        """Latents of all words, the new one last."""
        return self.X @ self.W_DKV

    @property
    def K_R(self) -> Float[np.ndarray, "words rope"]:  # noqa: N802
        """RoPE keys of all words, one for all heads."""
        return turned(self.X @ self.W_KR, np.arange(len(self.X)))

    @property
    def q(self) -> Float[np.ndarray, "heads 1 nope"]:
        """Content queries of the new word."""
        return self.x @ self.W_UQ

    @property
    def q_R(self) -> Float[np.ndarray, "heads 1 rope"]:  # noqa: N802
        """Position queries of the new word."""
        return turned(self.x @ self.W_QR, np.array([len(self.X) - 1]))

    @property
    def K(self) -> Float[np.ndarray, "heads words nope"]:  # noqa: N802
        """Content keys, which the absorbed form never makes."""
        return self.C_KV @ self.W_UK

    @property
    def V(self) -> Float[np.ndarray, "heads words v"]:  # noqa: N802
        """Values, which the absorbed form never makes."""
        return self.C_KV @ self.W_UV

    @property
    def q_latent(self) -> Float[np.ndarray, "heads 1 latent"]:
        """W_UK absorbed into the query."""
        return self.q @ self.W_UK.swapaxes(-1, -2)

    @property
    def content(self) -> Float[np.ndarray, "heads 1 words"]:
        """Content part of every score, from the latents; unscaled."""
        return self.q_latent @ self.C_KV.T

    @property
    def position(self) -> Float[np.ndarray, "heads 1 words"]:
        """Position part of every score, unscaled."""
        return self.q_R @ self.K_R.T

    @property
    def scores(self) -> Float[np.ndarray, "heads 1 words"]:
        """(content + position) / sqrt(nope + rope)."""
        return (self.content + self.position) * GEOMETRY.softmax_scale

    @property
    def probs(self) -> Float[np.ndarray, "heads 1 words"]:
        """Softmax of the scores."""
        exp = np.exp(self.scores - self.scores.max(-1, keepdims=True))
        return exp / exp.sum(-1, keepdims=True)

    @property
    def o_latent(self) -> Float[np.ndarray, "heads 1 latent"]:
        """Weighted mean of the latents."""
        return self.probs @ self.C_KV

    @property
    def o_head(self) -> Float[np.ndarray, "heads 1 v"]:
        """Every head's output, W_UV applied behind the mean."""
        return self.o_latent @ self.W_UV

    @property
    def out(self) -> Float[np.ndarray, "1 d_model"]:
        """Sum over heads of o_head W_O."""
        return (self.o_head @ self.W_O).sum(0)


@dataclass(frozen=True)
class Naive(Lesson):
    """The same step from the keys and values of every head."""

    @property
    def content(self) -> Float[np.ndarray, "heads 1 words"]:
        """Content part of every score, from the keys; unscaled."""
        return self.q @ self.K.swapaxes(-1, -2)

    @property
    def o_head(self) -> Float[np.ndarray, "heads 1 v"]:
        """Every head's output: the weighted mean of its values."""
        return self.probs @ self.V


def converted(lesson: Lesson, to: type[Lesson], dtype: str = "float64") -> Lesson:
    """The lesson's words and weights in this number format, for one step of this kind."""
    return to(**{name: values.astype(dtype) for name, values in vars(lesson).items()})


def make_lesson() -> Lesson:
    """The lesson's matrices: seeded halves between -1 and 1."""
    random, g = np.random.default_rng(5), GEOMETRY

    def halves(*shape: int) -> Array:
        return random.integers(-2, 3, shape) / 2

    return Lesson(
        X=halves(len(WORDS), g.d_model),
        W_DKV=halves(g.d_model, g.kv_lora_rank),
        W_KR=halves(g.d_model, g.qk_rope_head_dim),
        W_UQ=halves(g.n_heads, g.d_model, g.qk_nope_head_dim),
        W_QR=halves(g.n_heads, g.d_model, g.qk_rope_head_dim),
        W_UK=halves(g.n_heads, g.kv_lora_rank, g.qk_nope_head_dim),
        W_UV=halves(g.n_heads, g.kv_lora_rank, g.v_head_dim),
        W_O=halves(g.n_heads, g.v_head_dim, g.d_model),
    )


def turned(
    x: Float[np.ndarray, "*lead seq width"], pos: np.ndarray, theta: float = GEOMETRY.rope_theta
) -> Float[np.ndarray, "*lead seq width"]:
    """RoPE at these positions, by the engine's own rotation."""
    pairs = torch.from_numpy(np.ascontiguousarray(x))
    return rotate(
        pairs, rope_angles(torch.from_numpy(pos), x.shape[-1], theta, pairs.dtype)
    ).numpy()


def rope_break(distances: list[int], head_dim: int = 64, pairs: int = 256) -> list[float]:
    """How far RoPE on the content path moves a score that W_UK was absorbed into.

    Mean |true - absorbed| over mean |true|, of seeded random queries and keys, at each distance
    between query and key. The absorbed form has no place for the rotation, which lies between
    query and W_UK.
    """
    random = np.random.default_rng(0)
    q, k = random.standard_normal((2, pairs, head_dim))
    far = max(distances)
    differences = []
    for distance in distances:
        key = turned(k, np.full(pairs, far - distance), 1e4)
        true = (turned(q, np.full(pairs, far), 1e4) * key).sum(-1)
        absorbed = (q * k).sum(-1)
        differences.append(float(np.abs(true - absorbed).mean() / np.abs(true).mean()))
    return differences


@dataclass(frozen=True)
class FormatError:
    """Distance of each path from float64, over the largest output; None where it overflowed."""

    dtype: str
    expanded: float | None
    absorbed: float | None
    overflows_from: tuple[int | None, int | None]


FORMAT_GEOMETRY, FORMAT_TOKENS = MLAGeometry(128, 4, 32, 16, 32, 64), 32
PATHS = ("mla_expanded", "mla_absorbed")
GROWTH = 24  # powers of two tried in search of an overflow


def format_errors() -> list[FormatError]:
    """Both paths in each number format, from one set of seeded weights and a few tokens.

    `overflows_from` tells, for expanded and absorbed, by which power of two W_UK and W_UV may grow
    and the latents shrink, which leaves the model as it is, until the path yields a number that is
    none.
    """
    weights = random_mla(FORMAT_GEOMETRY, torch.Generator().manual_seed(0))
    seeded, shape = torch.Generator().manual_seed(1), (FORMAT_TOKENS, FORMAT_GEOMETRY.d_model)
    x = torch.randn(shape, generator=seeded, dtype=torch.float64)
    exact = _attend("mla_expanded", weights, x, torch.float64)
    records = []
    for name in DTYPES:
        dtype = getattr(torch, name)
        errors = [_error(path, weights, x, dtype, exact) for path in PATHS]
        overflows = tuple(_overflow(path, weights, x, dtype) for path in PATHS)
        records.append(FormatError(name, *errors, overflows))
    return records


def _attend(path: str, weights: MLAWeights, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    mechanism, cast_weights = implementation(path), cast(weights, dtype, "cpu")
    g = weights.geometry
    rope = rope_angles(torch.arange(len(x)), g.rope_width, g.rope_theta, dtype)
    cache = mechanism.new_cache(cast_weights, ())
    return mechanism.attend(cast_weights, cache, x.to(dtype), rope, Watch()).out.double()


def _error(
    path: str, weights: MLAWeights, x: torch.Tensor, dtype: torch.dtype, exact: torch.Tensor
) -> float | None:
    gap = (_attend(path, weights, x, dtype) - exact).abs().max() / exact.abs().max()
    return float(gap) if gap.isfinite() else None


def _overflow(path: str, weights: MLAWeights, x: torch.Tensor, dtype: torch.dtype) -> int | None:
    for power in range(GROWTH + 1):
        scale = 2.0**power
        scaled = replace(
            weights,
            W_UK=weights.W_UK * scale,
            W_UV=weights.W_UV * scale,
            kv_norm=weights.kv_norm / scale,
        )
        if not _attend(path, scaled, x, dtype).isfinite().all():
            return power
    return None
