"""Frozen geometry of an attention layer and of a model, with the checks that keep both legal.

Knows names, integers and the rules between them; knows no tensor, no weight and no mechanism.
Field names are DeepSeek's and Hugging Face's, verbatim.

Worked: DeepSeek-V3 is MLAGeometry(7168, 128, 128, 64, 128, 512, 1536), whose queries and keys are
192 wide and whose scores are scaled by 192^-1/2 = 0.0722.
"""

from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any


def check_int(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int within [low, high].

    Raises:
        ValueError: `value` is no whole number or lies outside; the message says what was expected.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
    return value  # type: ignore[return-value]


@dataclass(frozen=True)
class MLAGeometry:
    """Shape of one multi-head latent attention layer (DeepSeek-V2, section 2.1).

    `q_lora_rank` None means that queries come straight from the hidden state.
    `softmax_scale_override` serves checkpoints that publish a scale of their own (YaRN).
    """

    d_model: int
    n_heads: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    kv_lora_rank: int
    q_lora_rank: int | None = None
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    softmax_scale_override: float | None = None

    def __post_init__(self) -> None:
        check_int("d_model", self.d_model, 1, 65536)
        check_int("n_heads", self.n_heads, 1, 1024)
        check_int("qk_nope_head_dim", self.qk_nope_head_dim, 1, 4096)
        check_int("qk_rope_head_dim", self.qk_rope_head_dim, 0, 4096)
        check_int("v_head_dim", self.v_head_dim, 1, 4096)
        check_int("kv_lora_rank", self.kv_lora_rank, 1, 65536)
        if self.q_lora_rank is not None:
            check_int("q_lora_rank", self.q_lora_rank, 1, 65536)
        _check_rope("qk_rope_head_dim", self.qk_rope_head_dim, self.rope_theta)

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query and key: nope + rope."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def rope_width(self) -> int:
        """Elements of a key that RoPE turns."""
        return self.qk_rope_head_dim

    @property
    def softmax_scale(self) -> float:
        """(qk_nope + qk_rope)^-1/2, also where the absorbed form scores in latent space."""
        if self.softmax_scale_override is not None:
            return self.softmax_scale_override
        return self.qk_head_dim**-0.5


@dataclass(frozen=True)
class GQAGeometry:
    """Shape of one attention layer with shared key/value heads.

    n_kv_heads = n_heads is MHA, n_kv_heads = 1 is MQA, anything between is GQA.
    """

    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        check_int("d_model", self.d_model, 1, 65536)
        check_int("n_heads", self.n_heads, 1, 1024)
        check_int("n_kv_heads", self.n_kv_heads, 1, self.n_heads)
        check_int("head_dim", self.head_dim, 1, 4096)
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads: expected a divisor of n_heads {self.n_heads}, got {self.n_kv_heads}"
            )
        _check_rope("head_dim", self.head_dim, self.rope_theta)

    @property
    def rope_width(self) -> int:
        """Elements of a key that RoPE turns."""
        return self.head_dim

    @property
    def softmax_scale(self) -> float:
        """head_dim^-1/2."""
        return self.head_dim**-0.5


AttentionGeometry = MLAGeometry | GQAGeometry


@dataclass(frozen=True)
class ModelGeometry:
    """Shape of a decoder language model around one kind of attention layer."""

    name: str
    attention: AttentionGeometry
    n_layers: int
    d_ff: int
    vocab_size: int
    context: int
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_int("n_layers", self.n_layers, 1, 256)
        check_int("d_ff", self.d_ff, 1, 1 << 20)
        check_int("vocab_size", self.vocab_size, 1, 1 << 20)
        check_int("context", self.context, 2, 1 << 24)

    def describe(self) -> dict[str, Any]:
        """Flat record by field names, as the command line prints it."""
        own = {k: v for k, v in asdict(self).items() if k != "attention"}
        return own | asdict(self.attention)

    def with_attention(self, **changes: Any) -> "ModelGeometry":
        """The same model with some of its attention fields replaced."""
        return replace(self, attention=replace(self.attention, **changes))


def _check_rope(name: str, width: int, theta: float) -> None:
    if width % 2:
        raise ValueError(f"{name}: expected an even number (RoPE turns pairs), got {width}")
    if not isfinite(theta) or theta <= 0:
        raise ValueError(f"rope_theta: expected a positive number, got {theta}")


def geometry_from(record: dict[str, Any]) -> ModelGeometry:
    """The geometry whose fields a file holds, `attention` nested."""
    attention = record["attention"]
    kind = GQAGeometry if "n_kv_heads" in attention else MLAGeometry
    return ModelGeometry(**(record | {"attention": kind(**attention)}))
