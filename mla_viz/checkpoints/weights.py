"""The tensors of one layer's attention, read and laid out as the mechanisms take them.

Matrices are turned to right-multiplied ones with the head axis first; elements that RoPE turns are
put beside each other; what multiplies queries or latents goes into the weights before them, which
is exact. Tensors in 8 bits are multiplied out by the scale of their block.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.weights import MLAWeights
from mla_viz.checkpoints.families import HALVES, Family
from mla_viz.checkpoints.folder import EIGHT_BITS, FLOATS, Folder
from mla_viz.config import MLAGeometry
from mla_viz.model.device import usable_bytes
from mla_viz.published.fields import Fields, refuse

DOWN_KV, BLOCK = "kv_a_proj_with_mqa.weight", 128
SCALE, INDEXER = "_scale_inv", "indexer."
PREFIXES = ("model.", "language_model.model.", "model.language_model.", "")
COPIES = 3  # of a layer's weights in float32, while they are laid out


def attention_prefix(folder: Folder, family: Family, layer: int) -> str:
    """What the names of one attention's tensors begin with; `layer` counts attentions.

    Raises:
        ValueError: that layer has no latent attention here.
    """
    block, copy = divmod(layer, family.attentions)
    own = "self_attn." if family.attentions == 1 else f"self_attn.{copy}."
    prefixes = [f"{first}layers.{block}.{own}" for first in PREFIXES]
    found = next((prefix for prefix in prefixes if prefix + DOWN_KV in folder.names), None)
    if found is None:
        raise ValueError(
            f"layer: expected one with latent attention in {folder.path}, got {layer},"
            f" without a tensor {prefixes[0]}{DOWN_KV}"
        )
    return found


def shapes_of(g: MLAGeometry) -> dict[str, tuple[int, ...]]:
    """The tensors of an attention, with shapes as checkpoints have them: output first."""
    queries, rank = g.n_heads * g.qk_head_dim, g.q_lora_rank
    if rank is None:
        query = {"q_proj.weight": (queries, g.d_model)}
    else:
        query = {
            "q_a_proj.weight": (rank, g.d_model),
            "q_a_layernorm.weight": (rank,),
            "q_b_proj.weight": (queries, rank),
        }
    return query | {
        DOWN_KV: (g.kv_lora_rank + g.qk_rope_head_dim, g.d_model),
        "kv_a_layernorm.weight": (g.kv_lora_rank,),
        "kv_b_proj.weight": (g.n_heads * (g.qk_nope_head_dim + g.v_head_dim), g.kv_lora_rank),
        "o_proj.weight": (g.d_model, g.n_heads * g.v_head_dim),
    }


@dataclass(frozen=True)
class Stored:
    """One attention's tensors as they lie in a folder."""

    folder: Folder
    prefix: str
    fields: Fields
    family: Family

    def read(self, g: MLAGeometry) -> dict[str, Float[Tensor, "*shape"]]:
        """All of them in float32, each checked before any takes memory.

        Raises:
            ValueError: one is missing, of another shape or dtype, or there are others, or too
                little memory.
        """
        shapes = shapes_of(g)
        eight = {name for name, shape in shapes.items() if self._in_eight_bits(name, shape)}
        names = self.folder.names
        own = {x.removeprefix(self.prefix) for x in names if x.startswith(self.prefix)}
        sparse = INDEXER if self.family.dense_below else None
        extra = own - shapes.keys() - {name + SCALE for name in eight}
        extra = sorted(name for name in extra if not (sparse and name.startswith(sparse)))
        if extra:
            kind = self.fields.get("model_type")
            raise ValueError(f"{self.prefix}{extra[0]}: expected no such tensor in {kind}, got one")
        needed = COPIES * 4 * sum(torch.Size(shape).numel() for shape in shapes.values())
        if needed > (free := usable_bytes("cpu")):
            raise ValueError(
                f"layer: expected at most {free:,} bytes of weights, which are free, got {needed:,}"
            )
        return {name: self._tensor(name, name in eight) for name in shapes}

    def _in_eight_bits(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a tensor is stored so, its scales being there; checked like it."""
        matrix = len(shape) == 2
        dtypes = (*FLOATS, EIGHT_BITS) if matrix else FLOATS
        if self.folder.check(self.prefix + name, shape, dtypes) != EIGHT_BITS:
            return False
        blocks = tuple(-(-n // b) for n, b in zip(shape, self._block(), strict=True))
        self.folder.check(self.prefix + name + SCALE, blocks)
        return True

    def _block(self) -> list[int]:
        """Rows and columns that share a scale."""
        own = self.fields.nested("quantization_config")
        if own.get("weight_block_size") is None:
            return [BLOCK, BLOCK]
        sizes = own.numbers("weight_block_size", 2)
        if 0 in sizes:
            refuse(" quantization_config.weight_block_size", "two sizes from 1", f"{sizes}")
        return sizes

    def _tensor(self, name: str, eight_bits: bool) -> Float[Tensor, "*shape"]:
        tensor = self.folder.read(self.prefix + name)
        if eight_bits:
            scales = self.folder.read(self.prefix + name + SCALE)
            for axis, size in enumerate(self._block()):
                scales = scales.repeat_interleave(size, axis).narrow(axis, 0, tensor.shape[axis])
            tensor *= scales
        return tensor


def lay_out(
    tensors: dict[str, Float[Tensor, "*shape"]], g: MLAGeometry, pairs: str, gain: float
) -> MLAWeights:
    """Weights as the mechanisms take them, of the tensors that `shapes_of` names.

    `gain` multiplies what RoPE turns, of queries and keys both.
    """
    by_head = {
        name: tensors[name].mT.unflatten(-1, (g.n_heads, -1)).transpose(0, 1)
        for name in ("q_proj.weight", "q_b_proj.weight", "kv_b_proj.weight")
        if name in tensors
    }
    query = by_head.get("q_proj.weight", by_head.get("q_b_proj.weight"))
    W_UQ, W_QR = query.split([g.qk_nope_head_dim, g.qk_rope_head_dim], -1)  # noqa: N806
    W_UK, W_UV = by_head["kv_b_proj.weight"].split(  # noqa: N806
        [g.qk_nope_head_dim, g.v_head_dim], -1
    )
    W_DKV, W_KR = tensors[DOWN_KV].mT.split(  # noqa: N806
        [g.kv_lora_rank, g.qk_rope_head_dim], -1
    )
    down = tensors.get("q_a_proj.weight")
    return MLAWeights(
        geometry=g,
        W_DQ=None if down is None else down.mT.contiguous(),
        q_norm=tensors.get("q_a_layernorm.weight"),
        W_UQ=W_UQ.contiguous(),
        W_QR=(beside(W_QR, pairs) * gain).contiguous(),
        W_DKV=W_DKV.contiguous(),
        kv_norm=tensors["kv_a_layernorm.weight"],
        W_KR=(beside(W_KR, pairs) * gain).contiguous(),
        W_UK=W_UK.contiguous(),
        W_UV=W_UV.contiguous(),
        W_O=tensors["o_proj.weight"].mT.unflatten(0, (g.n_heads, -1)).contiguous(),
    )


def beside(W: Float[Tensor, "*lead width"], pairs: str) -> Float[Tensor, "*lead width"]:  # noqa: N803
    """The columns that RoPE turns together put beside each other: x_i, x_(i + width/2)."""
    return W.unflatten(-1, (2, -1)).mT.flatten(-2) if pairs == HALVES else W
