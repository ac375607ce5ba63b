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
)
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.model.weights import trained_geometry

SOURCES = ("trained", "synthetic")
EXAMPLE_PROMPT = "Once upon a time there was a little fox who"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run. None leaves a field to the source of weights.

    Heads, latent and new tokens are counts; `temperature` 0 takes the likeliest token; `top_k` 0
    keeps all tokens.
    """

    prompt: str = EXAMPLE_PROMPT
    source: str = "trained"
    heads: int = 8
    latent: int = 32
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    q_lora_rank: int | None = None
    layers: int | None = None
    left: str = "mla_expanded"
    right: str = "mla_absorbed"
    max_new_tokens: int = 48
    temperature: float = 0.7
    top_k: int = 40
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("prompt: expected some text, got nothing")
        if self.source not in SOURCES:
            raise ValueError(f"source: expected one of {', '.join(SOURCES)}, got {self.source!r}")
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


def side_geometry(s: Settings, mechanism: str) -> ModelGeometry:
    """The model that a mechanism runs under these settings.

    Raises:
        ValueError: the trained model has no such setting, or no such weights.
    """
    if s.source == "trained":
        return _trained(s, mechanism)
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
    return ModelGeometry(
        "synthetic", attention, _or(s.layers, 5), 256, VOCAB_SIZE, SYNTHETIC_CONTEXT
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _trained(s: Settings, mechanism: str) -> ModelGeometry:
    if mechanism in OWN_WEIGHTS:
        raise ValueError(
            f"{'left' if mechanism == s.left else 'right'}: expected a mechanism that runs the"
            f" trained MLA weights, got {mechanism!r} (its own weights: source synthetic)"
        )
    geometry = trained_geometry(s.heads, s.latent)
    own = geometry.describe()
    names = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "q_lora_rank")
    asked = {name: getattr(s, name) for name in names} | {"n_layers": s.layers}
    for name, value in asked.items():
        if value is not None and value != own[name]:
            raise ValueError(
                f"{name}: expected {own[name]} for the trained model, got {value}"
                " (free with source synthetic)"
            )
    return geometry
