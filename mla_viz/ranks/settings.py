"""What decides a run over several ranks, checked. Knows no process."""

from dataclasses import dataclass, fields

from mla_viz.config import (
    AttentionGeometry,
    GQAGeometry,
    MLAGeometry,
    check_choice,
    check_int,
    told,
)
from mla_viz.cost import STRATEGIES, attention_params, tp_geometry
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.model.device import parse_dtype

PARALLEL_MECHANISMS = ("mha", "gqa", "mqa", "mla_expanded", "mla_absorbed")
PROCESS_BYTES = 300 << 20  # a Python that has loaded torch


@dataclass(frozen=True)
class ParallelSettings:
    """One layer of random weights, what is decoded with it, and how the ranks divide it.

    `tp` divides heads, `dp` sequences, `cp` cached tokens. Tokens are fed one by one to each of
    `batch` sequences. `v_head_dim` is the head dim of mha, gqa and mqa; `kv_heads` is gqa's. In
    float64 nothing but rounding is left between the ranks and one process.
    """

    ranks: int = 2
    mechanism: str = "mla_absorbed"
    strategy: str = "tp"
    heads: int = 8
    kv_heads: int | None = None
    latent: int = 32
    qk_nope_head_dim: int = 32
    qk_rope_head_dim: int = 16
    v_head_dim: int = 32
    d_model: int = 128
    tokens: int = 32
    batch: int = 8
    dtype: str = "float64"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("mechanism", PARALLEL_MECHANISMS),
            ("strategy", STRATEGIES),
            ("device", ("auto", "cpu", "cuda")),
        ):
            check_choice(name, getattr(self, name), known)
        bounds = {
            "ranks": (1, 64),
            "heads": (1, 1024),
            "tokens": (1, 8192),
            "batch": (1, 1024),
            "seed": (0, 2**63 - 1),
        }
        plain = {name: check_int(name, getattr(self, name), *span) for name, span in bounds.items()}
        vars(self).update(plain, dtype=str(self.dtype).removeprefix("torch."))
        parse_dtype(self.dtype)
        if self.strategy == "tp":
            tp_geometry(self.geometry, self.ranks)
        else:
            self.geometry  # noqa: B018 - is checked where it is made

    @property
    def geometry(self) -> AttentionGeometry:
        """The whole layer's."""
        kv_heads = MECHANISMS[self.mechanism].kv_heads
        if self.kv_heads is not None and self.mechanism != "gqa":
            raise ValueError(f"kv_heads: expected none but with gqa, got {told(self.kv_heads)}")
        if kv_heads:
            own = kv_heads(self.heads) if self.kv_heads is None else self.kv_heads
            return GQAGeometry(self.d_model, self.heads, own, self.v_head_dim)
        return MLAGeometry(
            self.d_model,
            self.heads,
            self.qk_nope_head_dim,
            self.qk_rope_head_dim,
            self.v_head_dim,
            self.latent,
        )

    @property
    def memory_bytes(self) -> int:
        """Main memory that all processes take at most, the caches' doubling included."""
        elem_bytes = parse_dtype(self.dtype).itemsize
        weights = attention_params(self.geometry) * (4 + 2 * elem_bytes)  # drawn, cast, divided
        rows = self.batch * self.tokens * elem_bytes
        kept = 3 * self.d_model + 4 * self._widest_row
        return (self.ranks + 1) * (PROCESS_BYTES + weights + rows * kept)

    @property
    def _widest_row(self) -> int:
        """At least the elements of a cached token."""
        head = self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim
        return self.heads * 2 * head + self.latent


def as_record(settings: ParallelSettings) -> dict[str, int | str | None]:
    """The fields as plain data."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
