"""Everything that decides a run, checked, and the model geometry that it asks for.

The page, the command line and Python share this one record and its defaults.
"""

from dataclasses import dataclass
from math import isfinite

from mla_viz.config import (
    OWN_WEIGHTS,
    SYNTHETIC_CONTEXT,
    SYNTHETIC_D_MODEL,
    VOCAB_SIZE,
    GQAGeometry,
    MLAGeometry,
    ModelGeometry,
    check_int,
    check_mechanism,
    kv_heads,
    mechanism_of,
)
from mla_viz.family import load_family, shipped_members
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.model.weights import SYNTHETIC, trained_geometry

EXAMPLE_PROMPT = "Once upon a time there was a little fox who"
START_HEADS, START_LATENT = 8, 32
OF_ITS_OWN = {"mha": "mha", "gqa": "gqa-2", "mqa": "mqa"}


def sources() -> tuple[str, ...]:
    """Where weights can come from: the model of the sliders, the family's members, random."""
    return "trained", *shipped_members(), "synthetic"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run. None leaves a field to the source of weights.

    Heads, latent and new tokens are counts; `temperature` 0 takes the likeliest token; `top_k` 0
    keeps all tokens.
    """

    prompt: str = EXAMPLE_PROMPT
    source: str = "trained"
    heads: int | None = None
    latent: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    q_lora_rank: int | None = None
    layers: int | None = None
    left: str | None = None
    right: str | None = None
    max_new_tokens: int = 48
    temperature: float = 0.7
    top_k: int = 40
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("prompt: expected some text, got nothing")
        if self.source not in sources():
            raise ValueError(f"source: expected one of {', '.join(sources())}, got {self.source!r}")
        for field, value in start_values(self.source).items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        check_mechanism("left", self.left)
        check_mechanism("right", self.right)
        check_int("max_new_tokens", self.max_new_tokens, 1, SYNTHETIC_CONTEXT)
        check_int("top_k", self.top_k, 0, VOCAB_SIZE)
        check_int("seed", self.seed, 0, 2**63 - 1)
        if not (isfinite(self.temperature) and 0 <= self.temperature <= 100):
            raise ValueError(
                f"temperature: expected a number from 0 to 100, got {self.temperature}"
            )
        parse_dtype(self.dtype)
        pick_device(self.device)


def start_values(source: str) -> dict[str, int | str | None]:
    """What a source of weights makes of heads, latent and the two sides where nothing is asked."""
    heads, latent, left, right = START_HEADS, START_LATENT, "mla_expanded", "mla_absorbed"
    if source in shipped_members():
        g = load_family().member(source).geometry.attention
        heads, latent = g.n_heads, getattr(g, "kv_lora_rank", None)
        if isinstance(g, GQAGeometry):
            left = right = mechanism_of(g)
    return {"heads": heads, "latent": latent, "left": left, "right": right}


def side_geometry(s: Settings, mechanism: str) -> ModelGeometry:
    """The model that a mechanism runs under these settings; its name says which weights.

    Raises:
        ValueError: the source has no such setting, or no such weights.
    """
    if s.source == "synthetic":
        return _synthetic(s, mechanism)
    if mechanism in OWN_WEIGHTS:
        geometry = _member(s, mechanism, OF_ITS_OWN[mechanism])
        return _as_asked(s, geometry) if geometry.name == s.source else geometry
    if s.source == "trained":
        return _as_asked(s, trained_geometry(s.heads, s.latent))
    geometry = load_family().member(s.source).geometry
    if isinstance(geometry.attention, GQAGeometry):
        raise ValueError(
            f"{_field(s, mechanism)}: expected {', '.join(OWN_WEIGHTS)} with source {s.source},"
            f" which has no MLA weights, got {mechanism!r}"
        )
    return _as_asked(s, geometry)


def _field(s: Settings, mechanism: str) -> str:
    return "left" if mechanism == s.left else "right"


def _member(s: Settings, mechanism: str, name: str) -> ModelGeometry:
    """A family member with weights of its own: beside MLA it is another model."""
    if name not in shipped_members():
        raise ValueError(
            f"{_field(s, mechanism)}: expected a mechanism whose trained weights are there,"
            f" got {mechanism!r} (random ones: source synthetic)"
        )
    return load_family().member(name).geometry


def _as_asked(s: Settings, geometry: ModelGeometry) -> ModelGeometry:
    """The trained geometry, if the settings ask for no other."""
    own = geometry.describe()
    names = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "q_lora_rank")
    asked = {name: getattr(s, name) for name in names}
    asked |= {"n_heads": s.heads, "kv_lora_rank": s.latent, "n_layers": s.layers}
    for name, value in asked.items():
        if value is not None and value != own.get(name):
            raise ValueError(
                f"{name}: expected {own.get(name, 'none')} for the trained model, got {value}"
                " (free with source synthetic)"
            )
    return geometry


def _synthetic(s: Settings, mechanism: str) -> ModelGeometry:
    v_head_dim = _or(s.v_head_dim, 32)
    check_int("heads", s.heads, 1, 1024)
    check_int("latent", s.latent, 1, 65536)
    if mechanism in OWN_WEIGHTS:
        attention: MLAGeometry | GQAGeometry = GQAGeometry(
            SYNTHETIC_D_MODEL, s.heads, kv_heads(mechanism, s.heads), v_head_dim
        )
    else:
        attention = MLAGeometry(
            d_model=SYNTHETIC_D_MODEL,
            n_heads=s.heads,
            qk_nope_head_dim=_or(s.qk_nope_head_dim, 32),
            qk_rope_head_dim=_or(s.qk_rope_head_dim, 16),
            v_head_dim=v_head_dim,
            kv_lora_rank=s.latent,
            q_lora_rank=s.q_lora_rank,
        )
    return ModelGeometry(SYNTHETIC, attention, _or(s.layers, 5), 256, VOCAB_SIZE, SYNTHETIC_CONTEXT)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
