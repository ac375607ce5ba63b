"""Everything that decides a run, checked, and the models that it asks for.

The page, the command line and Python share this one record and its defaults.
"""

from dataclasses import dataclass, fields
from typing import get_args

from mla_viz.config import (
    EACH,
    ModelGeometry,
    check_float,
    check_int,
    check_text,
    check_whole,
    told,
)
from mla_viz.mechanisms.formats import FORMATS, Format, find_format
from mla_viz.mechanisms.table import check_mechanism
from mla_viz.model.decoder import AnyWeights
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.model.sources import (
    SYNTHETIC_CONTEXT,
    TEMPERATURE,
    TRAINED,
    Shape,
    Source,
    find_source,
    source_of,
)

EXAMPLE_PROMPT = "Once upon a time there was a little fox who"


@dataclass(frozen=True)
class SideModel:
    """The model that one side runs: which weights, in which geometry. Equal ones are one model."""

    source: str
    geometry: ModelGeometry

    def load(self, seed: int) -> AnyWeights:
        """Its weights in float32; the seed decides random ones."""
        return find_source(self.source).load(self.geometry, seed)


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run. None leaves a field to the source of weights.

    Heads, latent and new tokens are counts; `ranks` says whether a pretrained model's latents have
    one rank in every layer or, "pooled", each its own at equal bytes; `temperature` 0 takes the
    likeliest token; `top_k` 0 keeps all tokens; `cache_dtype` is the format that the right side's
    cache is kept in, None the dtype itself. NumPy's integers, a torch.dtype and a torch.device are
    taken, and kept plain.
    """

    prompt: str = EXAMPLE_PROMPT
    source: str = TRAINED
    heads: int | None = None
    latent: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    q_lora_rank: int | None = None
    layers: int | None = None
    ranks: str = EACH
    left: str | None = None
    right: str | None = None
    max_new_tokens: int = 48
    temperature: float | None = None
    top_k: int = 40
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"
    cache_dtype: str | None = None

    def __post_init__(self) -> None:
        self._keep_plain()
        if not self.prompt.strip():
            raise ValueError("prompt: expected some text, got nothing")
        source = self.weights_source
        for field, value in {"temperature": TEMPERATURE, **source.start}.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        if self.ranks not in source.ranks:
            legal = " or ".join(source.ranks)
            raise ValueError(
                f"ranks: expected {legal} with source {self.source}, got {told(self.ranks)}"
            )
        check_mechanism("left", self.left)
        check_mechanism("right", self.right)
        check_int("max_new_tokens", self.max_new_tokens, 1, SYNTHETIC_CONTEXT)
        check_int("top_k", self.top_k, 0, source.tokenizer().size)
        check_int("seed", self.seed, 0, 2**63 - 1)
        parse_dtype(self.dtype)
        pick_device(self.device)
        if self.cache_dtype is not None:
            find_format(self.cache_dtype)

    def _keep_plain(self) -> None:
        """Every field as a plain str, int or float, so that equal settings are one key."""
        plain = {
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
        }
        if self.temperature is not None:
            plain["temperature"] = check_float("temperature", self.temperature, 0, 100)
        for field in fields(self):
            kind, *others = get_args(field.type) or (field.type,)
            value = getattr(self, field.name)
            if field.name not in (*plain, "temperature") and (value is not None or not others):
                check = check_text if kind is str else check_whole
                plain[field.name] = check(field.name, value)
        vars(self).update(plain)

    @property
    def weights_source(self) -> Source:
        """The source that is asked for."""
        return find_source(self.source)

    @property
    def shape(self) -> Shape:
        """What is asked of the source."""
        return Shape(**{field.name: getattr(self, field.name) for field in fields(Shape)})

    def kept(self, field: str) -> Format | None:
        """How the `left` or the `right` cache is kept: the left one always in the run's dtype."""
        return FORMATS.get(self.cache_dtype) if field == "right" else None

    def side(self, field: str) -> SideModel:
        """The model that the `left` or the `right` mechanism runs.

        Raises:
            ValueError: the source has no such setting, or no such weights.
        """
        mechanism = getattr(self, field)
        source = source_of(self.source, mechanism, field)
        asked = self.shape if source.name == self.source else Shape()
        return SideModel(source.name, source.geometry(asked, mechanism))
