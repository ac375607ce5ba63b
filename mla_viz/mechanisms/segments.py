"""What the columns of a cached row are, from left to right: its segments, and the parts of each.

The order is that in which `attention.cache` lays a token's row.
"""

from dataclasses import dataclass

from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry

KEY, VALUE = "k", "v"
LATENT, ROPE_KEY = "latent c_KV", "rope key k_R"


@dataclass(frozen=True)
class Part:
    """Neighbouring columns of one kind: `k`, 48 elements; the last `rope` are RoPE's own."""

    label: str
    elems: int
    rope: int = 0


@dataclass(frozen=True)
class Segment:
    """Neighbouring columns that belong together: a head with its `k` and `v`, or a latent."""

    label: str
    elems: int
    parts: tuple[Part, ...] = ()

    @property
    def stretches(self) -> tuple[Part, ...]:
        """Its parts, or where it has none itself as one."""
        rope = self.elems if self.label == ROPE_KEY else 0
        return self.parts or (Part(self.label, self.elems, rope),)


def _head(index: int, k: int, v: int, rope: int = 0) -> Segment:
    return Segment(f"head {index + 1}", k + v, (Part(KEY, k, rope), Part(VALUE, v)))


def every_head(g: MLAGeometry) -> list[Segment]:
    """A key and a value for each head."""
    return [_head(i, g.qk_head_dim, g.v_head_dim, g.qk_rope_head_dim) for i in range(g.n_heads)]


def every_kv_head(g: GQAGeometry) -> list[Segment]:
    """A key and a value for each key/value head; RoPE turns the whole key, no part is its own."""
    return [_head(i, g.head_dim, g.head_dim) for i in range(g.n_kv_heads)]


def latent_and_rope(g: MLAGeometry) -> list[Segment]:
    """One latent and one rotated key for all heads."""
    both = ((LATENT, g.kv_lora_rank), (ROPE_KEY, g.qk_rope_head_dim))
    return [Segment(label, elems) for label, elems in both if elems]


def latent_alone(g: LatentGQAGeometry) -> list[Segment]:
    """One latent for all heads; RoPE comes after it."""
    return [Segment(LATENT, g.kv_lora_rank)]


def nothing(_: MLAGeometry) -> list[Segment]:
    """No columns."""
    return []
