"""How a config.json turns and scales: the angle that each pair turns by a token, and two factors.

Plain, linear, YaRN and LongRoPE, in the fields of rope_parameters or of the older rope_scaling.
What changes with the length of a prompt is read up to where it first does.
Source: transformers 5.23, modeling_rope_utils.py; yarn_apply_mscale of modeling_deepseek_v3.py.
"""

from dataclasses import dataclass
from math import ceil, floor, log, pi, sqrt

import torch
from jaxtyping import Float64
from torch import Tensor

from mla_viz.config import check_choice, check_float
from mla_viz.published.fields import Fields, refuse

KINDS = ("default", "linear", "yarn", "longrope")
LARGEST = 1e12


@dataclass(frozen=True)
class Rope:
    """What turns queries and keys, and what scales them.

    `frequencies` are in radians a position, one a pair; cos and sin are multiplied by `gain`, the
    softmax scale by `scale`; all of it holds up to `most_tokens`.
    """

    theta: float
    frequencies: Float64[Tensor, " half"]
    gain: float = 1.0
    scale: float = 1.0
    most_tokens: int | None = None


def no_rope(width: int) -> Rope:
    """Keys that are shared by all heads and not turned."""
    return Rope(1.0, torch.zeros(width // 2, dtype=torch.float64))


def read_rope(fields: Fields, width: int, theta: float) -> Rope:
    """RoPE of `width` elements; `theta` is the class's own, where the file names none.

    Raises:
        ValueError: a field is missing or impossible, or the kind of scaling is unknown.
    """
    name = "rope_parameters" if fields.get("rope_parameters") else "rope_scaling"
    given = Numbers(fields.nested(name), f"{name}.")
    theta = given("rope_theta", Numbers(fields)("rope_theta", theta, low=2), low=2)
    kind = given.fields.get("rope_type", given.fields.get("type", "default"))
    check_choice(f"config.json {name}.rope_type", kind, KINDS)
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    plain = theta ** (-pairs / max(width, 1))
    limit = _unscaled_queries(given)
    if kind == "default":
        return Rope(theta, plain, most_tokens=limit)
    original = _trained_length(fields, given)
    longest = Numbers(fields)("max_position_embeddings", original, low=1)
    factor = given("factor", longest / original, low=1e-6)
    scale = _mscale(factor, given("mscale_all_dim", 0)) ** 2
    if kind == "linear":
        return Rope(theta, plain / factor, 1.0, scale, limit)
    if kind == "longrope":
        stretch = torch.tensor(_factors(given.fields, len(plain)), dtype=torch.float64)
        gain = sqrt(1 + log(factor) / log(original)) if factor > 1 else 1.0
        gain = given("attention_factor", gain)
        return Rope(theta, plain / stretch, gain, scale, min(limit or original, original))
    between = _ramp(given, width, theta, original)
    frequencies = plain / factor * between + plain * (1 - between)
    return Rope(theta, frequencies, given("attention_factor", _gain(given, factor)), scale, limit)


@dataclass(frozen=True)
class Numbers:
    """Numbers among the fields of an object whose name is `within`."""

    fields: Fields
    within: str = ""

    def __call__(self, name: str, default: float | int, low: float | int = 0) -> float:
        """A number of at least `low`."""
        value = self.fields.get(name, default)
        return check_float(f"config.json {self.within}{name}", value, low, LARGEST)


def _trained_length(fields: Fields, given: Numbers) -> int:
    """Tokens of the texts that the model saw before its context was stretched."""
    name = "original_max_position_embeddings"
    default = given.fields.whole(name, default=fields.whole("max_position_embeddings"), low=2)
    return fields.whole(name, default=default, low=2)


def _unscaled_queries(given: Numbers) -> int | None:
    """Tokens behind which queries are scaled by log(position), as Llama 4's are."""
    if not given("llama_4_scaling_beta", 0):
        return None
    return given.fields.whole("original_max_position_embeddings")


def _mscale(factor: float, weight: float | int) -> float:
    return 0.1 * weight * log(factor) + 1 if factor > 1 else 1.0


def _gain(given: Numbers, factor: float) -> float:
    own, of_all = given("mscale", 0), given("mscale_all_dim", 0)
    if own and of_all:
        return _mscale(factor, own) / _mscale(factor, of_all)
    return _mscale(factor, 1)


def _ramp(given: Numbers, width: int, theta: float, original: int) -> Float64[Tensor, " half"]:
    """From 0 for the pairs that turn often in `original` tokens to 1 for those that hardly do."""

    def pair(rotations: float | int) -> float:
        return width * log(original / (rotations * 2 * pi)) / (2 * log(theta))

    low, high = pair(given("beta_fast", 32) or 32), pair(given("beta_slow", 1) or 1)
    if given.fields.get("truncate", True):
        low, high = floor(low), ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    pairs = torch.arange(width // 2, dtype=torch.float64)
    return ((pairs - low) / (high - low or 0.001)).clamp(0, 1)


def _factors(fields: Fields, count: int) -> list[float]:
    """What each pair's frequency is divided by, up to the trained length."""
    numbers = fields.get("short_factor")
    if not isinstance(numbers, list) or len(numbers) != count:
        refuse(" rope_scaling.short_factor", f"{count} numbers", "others")
    return [check_float("config.json rope_scaling.short_factor", x, 1e-6, LARGEST) for x in numbers]
