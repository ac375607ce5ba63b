"""Folders as the Hugging Face hub has them: config.json, safetensors, tokenizer.json. No pickle.

Knows the fields of a Llama's config; what it does not know it refuses.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from mla_viz.config import GQAGeometry, ModelGeometry, told
from mla_viz.pretrained.checkpoint import Checkpoint, check_shapes, known_architecture

LARGEST_JSON = 64 << 20  # bytes
DTYPES = ("F32", "F16", "BF16")
ASSUMED = {
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
}


def open_folder(folder: Path) -> Checkpoint:
    """A Llama-style model in a folder of config.json, *.safetensors and tokenizer.json.

    Raises:
        ValueError: it is another architecture, damaged, or does not fit itself.
    """
    config = _json(folder / "config.json")
    known_architecture("config.json", config.get("model_type"))
    geometry = _geometry(folder.name, config)
    files = sorted(folder.glob("*.safetensors"))
    where = {name: file for file in files for name in _shapes(file)}
    shapes = {name: shape for file in files for name, shape in _shapes(file).items()}
    check_shapes(folder.name, geometry, shapes, _spelt)

    def read(name: str) -> Float[np.ndarray, "*shape"]:
        with safe_open(where[_spelt(name)], framework="pt") as content:
            return content.get_tensor(_spelt(name)).to(torch.float32).numpy()

    return Checkpoint(geometry, False, read, lambda: _tokenizer(folder / "tokenizer.json"))


def _spelt(name: str) -> str:
    return f"model.{name}.weight"


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, framework="pt") as content:
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            for name, part in slices.items():
                if part.get_dtype() not in DTYPES:
                    raise ValueError(
                        f"{file.name}: expected {name} in one of {', '.join(DTYPES)},"
                        f" got {part.get_dtype()}"
                    )
            return {name: tuple(part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file.name}: expected a safetensors file, got {error}") from None


def _geometry(name: str, config: dict[str, Any]) -> ModelGeometry:
    for field, expected in ASSUMED.items():
        if config.get(field, expected) != expected:
            raise ValueError(
                f"{field}: expected {expected} in config.json, got {told(config[field])}"
            )
    try:
        heads, width = config["num_attention_heads"], config["hidden_size"]
        attention = GQAGeometry(
            d_model=width,
            n_heads=heads,
            n_kv_heads=config.get("num_key_value_heads", heads),
            head_dim=config.get("head_dim") or _share(width, heads),
            rope_theta=_rope(config),
        )
        return ModelGeometry(
            name=name,
            attention=attention,
            n_layers=config["num_hidden_layers"],
            d_ff=config["intermediate_size"],
            vocab_size=config["vocab_size"],
            context=config["max_position_embeddings"],
            norm_eps=config["rms_norm_eps"],
        )
    except KeyError as error:
        raise ValueError(f"config.json: expected the fields of a Llama, got no {error}") from None
    except ValueError as error:
        raise ValueError(f"config.json: {error}") from None


def _share(width: object, heads: object) -> object:
    """Width of a head where the config leaves it open; what is no number the geometry refuses."""
    numbers = isinstance(width, int) and isinstance(heads, int) and heads
    return width // heads if numbers else width


def _rope(config: dict[str, Any]) -> float:
    """RoPE's base: a field of its own, or of `rope_parameters` as newer files have it."""
    rope = config.get("rope_parameters") or config
    if (kind := rope.get("rope_type", "default")) != "default":
        raise ValueError(f"rope_type: expected default in config.json, got {told(kind)}")
    return rope.get("rope_theta", 10000.0)


def _tokenizer(file: Path) -> Tokenizer:
    _json(file)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file.name}: expected a tokenizer, got {told(str(error))}") from None


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON >> 20} MiB")
        read = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return read
        raise ValueError(f"{told(read)}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file.name}: expected a JSON object, got {error}") from None
