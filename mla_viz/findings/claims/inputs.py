"""What a reader may change before the claims are judged: dims, bits, tokens, GPUs."""

from dataclasses import dataclass, fields
from functools import cached_property

from mla_viz.config import GQAGeometry, MLAGeometry, check_int, check_whole, told
from mla_viz.cost import cache_elems


@dataclass(frozen=True)
class Inputs:
    """What a reader may change; the start is DeepSeek-V3 with a cache of 16 bits.

    `deployed_bits` is what the V2 paper quantised its cache to; `q_lora_rank` 0 is none; `context`
    counts tokens; `gpus` share a layer by tensor parallelism.
    """

    n_layers: int = 61
    d_model: int = 7168
    n_heads: int = 128
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    kv_lora_rank: int = 512
    q_lora_rank: int = 1536
    cache_bits: int = 16
    deployed_bits: int = 6
    context: int = 100_000
    gpus: int = 8

    def __post_init__(self) -> None:
        whole = {f.name: check_whole(f.name, getattr(self, f.name)) for f in fields(self)}
        vars(self).update(whole)
        check_int("n_layers", self.n_layers, 1, 1024)
        check_int("q_lora_rank", self.q_lora_rank, 0, 65536)
        check_int("cache_bits", self.cache_bits, 1, 64)
        check_int("deployed_bits", self.deployed_bits, 1, 64)
        check_int("context", self.context, 1, 10**9)
        check_int("gpus", self.gpus, 1, 1024)
        if self.v_head_dim % 2:
            raise ValueError(f"v_head_dim: expected an even number, got {self.v_head_dim}")
        _ = self.mla

    @cached_property
    def mla(self) -> MLAGeometry:
        """The MLA layer."""
        dims = (self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim, self.kv_lora_rank)
        return MLAGeometry(self.d_model, self.n_heads, *dims, self.q_lora_rank or None)

    @cached_property
    def mha(self) -> GQAGeometry:
        """Plain MHA with as many heads of v_head_dim."""
        return GQAGeometry(self.d_model, self.n_heads, self.n_heads, self.v_head_dim)

    @property
    def equal_width_params(self) -> int:
        """Weights of MHA whose heads together are as wide as the model: four square matrices."""
        return 4 * self.d_model * self.d_model

    @cached_property
    def latent_elems(self) -> int:
        """What MLA caches for a token and layer."""
        return cache_elems("mla_absorbed", self.mla)

    @cached_property
    def plain_elems(self) -> int:
        """What plain MHA of the same heads caches for a token and layer."""
        return cache_elems("mha", self.mha)

    def context_bytes(self, elems: int) -> float:
        """Bytes of a cache of `elems` a token and layer, over the whole context and all layers."""
        return elems * self.n_layers * self.context * self.cache_bits / 8


def parse_inputs(assignments: list[str]) -> Inputs:
    """Inputs with some `field=value` replaced.

    Raises:
        ValueError: an unknown field, no whole number, or no legal geometry.
    """
    names = [field.name for field in fields(Inputs)]
    changes = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name not in names:
            raise ValueError(
                f"set: expected field=value with one of {', '.join(names)}, got {told(assignment)}"
            )
        try:
            changes[name] = int(text)
        except ValueError:
            raise ValueError(f"{name}: expected a whole number, got {told(text)}") from None
    return Inputs(**changes)
