"""What a file of a Llama-style model says, whichever format it has: geometry, tensors, tokenizer.

Knows names and shapes; knows no format, and no model that runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from tokenizers import Tokenizer

from mla_viz.config import ModelGeometry, told

ARCHITECTURE = "llama"


@dataclass(frozen=True)
class Checkpoint:
    """A Llama-style model in its file.

    `read(name)` makes one tensor in float32, its rows outputs as PyTorch's Linear has them; names
    are Hugging Face's below `model.`, as `names` makes them. `interleaved` says that queries and
    keys are laid for RoPE on pairs of neighbours, else for one on halves.
    """

    geometry: ModelGeometry
    interleaved: bool
    read: Callable[[str], Float[np.ndarray, "*shape"]]
    tokenizer: Callable[[], Tokenizer]


def known_architecture(file: str, name: object) -> None:
    """Refuse a model of any other architecture.

    Raises:
        ValueError: it is not Llama's; the message names it.
    """
    if name != ARCHITECTURE:
        raise ValueError(f"{file}: expected the architecture {ARCHITECTURE}, got {told(name)}")


def names(geometry: ModelGeometry) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model of this geometry has, with its shape."""
    g, d_model = geometry.attention, geometry.attention.d_model
    queries, keys = g.n_heads * g.head_dim, g.n_kv_heads * g.head_dim
    layer = {
        "input_layernorm": (d_model,),
        "self_attn.q_proj": (queries, d_model),
        "self_attn.k_proj": (keys, d_model),
        "self_attn.v_proj": (keys, d_model),
        "self_attn.o_proj": (d_model, queries),
        "post_attention_layernorm": (d_model,),
        "mlp.gate_proj": (geometry.d_ff, d_model),
        "mlp.up_proj": (geometry.d_ff, d_model),
        "mlp.down_proj": (d_model, geometry.d_ff),
    }
    layers = range(geometry.n_layers)
    return {
        "embed_tokens": (geometry.vocab_size, d_model),
        **{f"layers.{i}.{name}": shape for i in layers for name, shape in layer.items()},
        "norm": (d_model,),
    }


def check_shapes(
    file: str,
    geometry: ModelGeometry,
    found: dict[str, tuple[int, ...]],
    spelt: Callable[[str], str],
) -> None:
    """Hold the tensors that a file lists against those of its geometry; `spelt` names them there.

    Raises:
        ValueError: one is missing, more than known, or has another shape.
    """
    expected = {spelt(name): shape for name, shape in names(geometry).items()}
    for name, shape in expected.items():
        if found.get(name) != shape:
            got = told(found[name]) if name in found else "none"
            raise ValueError(f"{file}: expected {name} of shape {told(shape)}, got {got}")
    if unknown := sorted(found.keys() - expected.keys()):
        raise ValueError(f"{file}: expected the tensors of a Llama, got {told(unknown[0])} as well")
