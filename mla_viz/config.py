"""Frozen geometry of an attention layer and of a model, with the checks that keep both legal.

Knows names, integers and the rules between them; knows no tensor, no weight and no mechanism.
Field names are DeepSeek's and Hugging Face's, verbatim.

Worked: DeepSeek-V3 is MLAGeometry(7168, 128, 128, 64, 128, 512, 1536), whose queries and keys are
192 wide and whose scores are scaled by 192^-1/2 = 0.0722.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from sys import float_info
from typing import Any

EACH, POOLED = "each", "pooled"  # every layer's latent of one rank, or each of its own


def told(value: object) -> str:
    """A value as a message quotes it: in one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = "one of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is(value: object, kind: type) -> bool:
    """Whether a value is of that kind of number, NumPy's included; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_text(name: str, value: object) -> str:
    """Return `value` as a str.

    Raises:
        ValueError: it is no text, or one that UTF-8 cannot spell.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected some text, got {told(value)}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name}: expected text in UTF-8, got {told(value)}")
    return str(value)


def check_callback(name: str, value: object) -> None:
    """Refuse what can be neither called nor left out.

    Raises:
        ValueError: `value` is neither None nor a function.
    """
    if value is not None and not callable(value):
        raise ValueError(f"{name}: expected a function, got {told(value)}")


def check_whole(name: str, value: object) -> int:
    """Return `value` as an int.

    Raises:
        ValueError: it is no whole number.
    """
    if not _is(value, Integral):
        raise ValueError(f"{name}: expected a whole number, got {told(value)}")
    return int(value)


def check_int(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int within [low, high].

    Raises:
        ValueError: `value` is no whole number or lies outside; the message says what was expected.
    """
    if not _is(value, Integral) or not low <= value <= high:
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {told(value)}")
    return int(value)


def check_choice(name: str, value: object, known: Sequence[str]) -> str:
    """Return `value`, one of the names that are known.

    Raises:
        ValueError: it is none of them; the message lists them.
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {told(value)}")
    return value


def check_float(name: str, value: object, low: float | int, high: float | int) -> float:
    """Return `value` as a float within [low, high].

    Raises:
        ValueError: `value` is no number or lies outside; the message says what was expected.
    """
    if not _is(value, Real) or not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low} to {high}, got {told(value)}")
    return float(value)


def keep_ints(record: object, **bounds: tuple[int, int]) -> None:
    """Check fields of a frozen record, and keep NumPy's integers there as Python's.

    Raises:
        ValueError: a field is no whole number or lies outside its bounds.
    """
    for name, (low, high) in bounds.items():
        object.__setattr__(record, name, check_int(name, getattr(record, name), low, high))


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
        keep_ints(
            self,
            d_model=(1, 65536),
            n_heads=(1, 1024),
            qk_nope_head_dim=(1, 4096),
            qk_rope_head_dim=(0, 4096),
            v_head_dim=(1, 4096),
            kv_lora_rank=(1, 65536),
        )
        if self.q_lora_rank is not None:
            keep_ints(self, q_lora_rank=(1, 65536))
        _check_even("qk_rope_head_dim", self.qk_rope_head_dim)
        _keep_positive(self, "rope_theta", "norm_eps")
        if self.softmax_scale_override is not None:
            _keep_positive(self, "softmax_scale_override")

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
        keep_ints(self, d_model=(1, 65536), n_heads=(1, 1024), head_dim=(1, 4096))
        keep_ints(self, n_kv_heads=(1, self.n_heads))
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads: expected a divisor of n_heads {self.n_heads}, got {self.n_kv_heads}"
            )
        _check_even("head_dim", self.head_dim)
        _keep_positive(self, "rope_theta")

    @property
    def rope_width(self) -> int:
        """Elements of a key that RoPE turns."""
        return self.head_dim

    @property
    def softmax_scale(self) -> float:
        """head_dim^-1/2."""
        return self.head_dim**-0.5


@dataclass(frozen=True)
class LatentGQAGeometry(GQAGeometry):
    """A GQA layer whose keys, before RoPE, and values are made of one latent of `kv_lora_rank`.

    A latent of 2 n_kv_heads head_dim holds all that the layer itself caches; less is cut.
    """

    kv_lora_rank: int = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_ints(self, kv_lora_rank=(1, 65536))


AttentionGeometry = MLAGeometry | LatentGQAGeometry | GQAGeometry


@dataclass(frozen=True)
class ModelGeometry:
    """Shape of a decoder language model around one kind of attention layer.

    Where latents are pooled over layers, `ranks` are each layer's own, and `attention` has their
    mean.
    """

    name: str
    attention: AttentionGeometry
    n_layers: int
    d_ff: int
    vocab_size: int
    context: int
    norm_eps: float = 1e-6
    ranks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_text("name", self.name))
        if not isinstance(self.attention, AttentionGeometry):
            raise ValueError(f"attention: expected a geometry, got {told(self.attention)}")
        keep_ints(
            self,
            n_layers=(1, 256),
            d_ff=(1, 1 << 20),
            vocab_size=(1, 1 << 20),
            context=(2, 1 << 24),
        )
        _keep_positive(self, "norm_eps")
        if self.ranks is not None:
            check_ranks(self.ranks, self.attention, self.n_layers)

    @property
    def widest(self) -> AttentionGeometry:
        """The attention of the layer that caches most."""
        return self.attention if self.ranks is None else at_rank(self.attention, max(self.ranks))

    def describe(self) -> dict[str, Any]:
        """Flat record by field names, as the command line prints it."""
        own = asdict(self)
        attention = own.pop("attention")
        if own["ranks"] is None:
            del own["ranks"]
        return own | attention

    def with_attention(self, **changes: Any) -> "ModelGeometry":
        """The same model with some of its attention fields replaced."""
        return replace(self, attention=replace(self.attention, **changes))


def at_rank(g: AttentionGeometry, kv_lora_rank: int) -> AttentionGeometry:
    """The same layer with a latent of another rank."""
    return replace(g, kv_lora_rank=kv_lora_rank)


def check_ranks(ranks: object, g: AttentionGeometry, n_layers: int) -> None:
    """Hold the ranks of layers to what is known of all of them.

    Raises:
        ValueError: they are not one a layer, from 1, or not those of a latent of their mean.
    """
    mean = getattr(g, "kv_lora_rank", 0)
    whole = isinstance(ranks, tuple) and all(_is(rank, Integral) and rank > 0 for rank in ranks)
    if not whole or len(ranks) != n_layers or sum(ranks) != mean * n_layers:
        raise ValueError(f"ranks: expected {n_layers} from 1, {mean} on average, got {told(ranks)}")


def _check_even(name: str, width: int) -> None:
    if width % 2:
        raise ValueError(f"{name}: expected an even number (RoPE turns pairs), got {width}")


def _keep_positive(record: object, *names: str) -> None:
    """Hold fields to finite numbers above 0, and keep them as floats; norm_eps may be 0."""
    for name in names:
        value = getattr(record, name)
        finite = _is(value, Real) and 0 <= value <= float_info.max
        if not finite or (value == 0 and name != "norm_eps"):
            least = "a number from 0" if name == "norm_eps" else "a positive number"
            raise ValueError(f"{name}: expected {least}, got {told(value)}")
        object.__setattr__(record, name, float(value))


def geometry_from(record: dict[str, Any]) -> ModelGeometry:
    """The geometry whose fields a file holds, `attention` nested."""
    attention = record["attention"]
    kind = GQAGeometry if "n_kv_heads" in attention else MLAGeometry
    return ModelGeometry(**(record | {"attention": kind(**attention)}))
