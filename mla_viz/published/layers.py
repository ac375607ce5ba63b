"""A model's cache as a list of layers, each with what it keeps; elements and bytes in closed form.

Knows parts, widths and dtypes; knows neither the files they are read from, nor arrays nor screens.

Worked: a layer of DeepSeek-V3 keeps a latent of 512 and a rope key of 64 for every token; 61 such
layers in bfloat16 grow by 61 (512 + 64) 2 = 70,272 bytes a token.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from mla_viz.config import AttentionGeometry, GQAGeometry, told
from mla_viz.mechanisms.formats import OF_ENGINES

KEYS, VALUES = "keys", "values"
LATENT, ROPE_KEY, INDEXER_KEY = "latent", "rope key", "indexer key"
COMPRESSED, STATE = "compressed entries", "state"
FLOATS = {"bfloat16": 2, "float16": 2, "float32": 4}
BLOCKS = ("q8_0", "q4_0")  # groups run through the heads of a row, and none is shorter
CACHE_DTYPES = (*FLOATS, "fp8", "fp8_ds_mla", "int8", *BLOCKS)


@dataclass(frozen=True)
class Kept:
    """One part of what a layer keeps: `vectors` of `width` elements each time it keeps something.

    Kept for every `every`-th token, for the last `window` tokens where there is one, or once
    whatever the length (`fixed`). `vectors` may be spread over ranks, one vector may not.
    `dtype` is a state's own where it does not follow the model's.
    """

    part: str
    width: int
    vectors: int = 1
    every: int = 1
    window: int | None = None
    fixed: bool = False
    dtype: str | None = None

    @property
    def grows(self) -> bool:
        """Whether it grows with every further token, however many there are."""
        return not self.fixed and self.window is None

    @property
    def elems_per_token(self) -> Fraction:
        """Elements that a further token adds beyond every window; a compressed part adds a part."""
        return Fraction(self.width * self.vectors, self.every) if self.grows else Fraction(0)

    def rows(self, context: int, page: int = 1) -> int:
        """How many times it is kept after `context` tokens, in whole pages of `page` tokens."""
        if self.fixed:
            return 1
        tokens = context if self.window is None else min(context, self.window)
        return -(-(tokens // self.every) // page) * page

    def elems(self, context: int) -> int:
        """Elements after `context` tokens."""
        return self.rows(context) * self.width * self.vectors

    def row_bytes(self, cache_dtype: str, ranks: int = 1) -> int:
        """Bytes of what is kept each time, scales included, on one of `ranks` that share it.

        Vectors are dealt out until there are none left; a single one is copied to every rank.

        Raises:
            ValueError: the dtype does not apply to this part.
        """
        vectors = -(-self.vectors // ranks)
        elems = vectors * self.width
        if self.fixed:
            return (
                elems * FLOATS[self.dtype or (cache_dtype if cache_dtype in FLOATS else "bfloat16")]
            )
        if cache_dtype in FLOATS:
            return elems * FLOATS[cache_dtype]
        kept = OF_ENGINES[cache_dtype]
        if cache_dtype in BLOCKS:
            if elems % kept.group:
                raise ValueError(
                    f"cache_dtype {cache_dtype}: expected {self.part} of a multiple of {kept.group}"
                    f" values, got {elems}; use int8 or bfloat16"
                )
            return kept.row_bytes(elems)
        if cache_dtype == "fp8_ds_mla":
            if self.part not in (LATENT, ROPE_KEY, INDEXER_KEY):
                raise ValueError(
                    f"cache_dtype fp8_ds_mla: expected latents, got {self.part}; use fp8"
                )
            if self.part == ROPE_KEY:
                return 2 * elems
        if cache_dtype == "fp8" and self.part == INDEXER_KEY:  # DeepSeek's have scales in any fp8
            kept = OF_ENGINES["fp8_ds_mla"]
        return vectors * kept.row_bytes(self.width)


Layer = tuple[Kept, ...]


@dataclass(frozen=True)
class CachedModel:
    """A model as its cache sees it: its layers and the heads that ratios are taken against.

    A layer that keeps nothing, or reads another's cache, is the empty tuple. `qk_head_dim` and
    `v_head_dim` are those of its widest attention that grows. `params` are all its weights,
    `active_params` those at work for a token; None where they cannot be counted.
    """

    label: str
    attention: str
    layers: tuple[Layer, ...]
    n_heads: int
    qk_head_dim: int
    v_head_dim: int
    d_model: int
    source: str
    compared_with: str | None = None
    params: int | None = None
    active_params: int | None = None

    @property
    def kept(self) -> tuple[Kept, ...]:
        """All parts of all layers."""
        return tuple(part for layer in self.layers for part in layer)

    @property
    def growing_layers(self) -> int:
        """Layers whose cache grows with every token."""
        return sum(any(part.grows for part in layer) for layer in self.layers)


def check_dtype(cache_dtype: object) -> str:
    """Return the name of a known cache dtype.

    Raises:
        ValueError: there is none of that name; the message lists those there are.
    """
    if not isinstance(cache_dtype, str) or cache_dtype not in CACHE_DTYPES:
        wanted = ", ".join(CACHE_DTYPES)
        raise ValueError(f"cache_dtype: expected one of {wanted}, got {told(cache_dtype)}")
    return cache_dtype


def elems_per_token(kept: Iterable[Kept]) -> Fraction:
    """Elements that a further token adds, beyond every window."""
    return sum((part.elems_per_token for part in kept), Fraction(0))


def bytes_per_token(kept: Iterable[Kept], cache_dtype: str) -> Fraction:
    """Bytes that a further token adds, beyond every window. DeepSeek-V3 in bfloat16: 70,272."""
    growing = (part for part in kept if part.grows)
    return sum((Fraction(part.row_bytes(cache_dtype), part.every) for part in growing), Fraction(0))


def cache_bytes(
    kept: Iterable[Kept], context: int, cache_dtype: str, page: int = 1, ranks: int = 1
) -> int:
    """Bytes of one sequence of `context` tokens, on one of `ranks` that share the heads."""
    return sum(part.rows(context, page) * part.row_bytes(cache_dtype, ranks) for part in kept)


def grouped_layer(
    n_kv_heads: int, head_dim: int, v_head_dim: int, window: int | None = None
) -> Layer:
    """What MHA, GQA and MQA keep: a key and a value for each key/value head."""
    return (
        Kept(KEYS, head_dim, n_kv_heads, window=window),
        Kept(VALUES, v_head_dim, n_kv_heads, window=window),
    )


def latent_layer(
    kv_lora_rank: int, rope_dim: int, indexer: int = 0, window: int | None = None
) -> Layer:
    """What MLA keeps: a latent, a rope key where it has one, an indexer's key where it has one."""
    widths = ((LATENT, kv_lora_rank), (ROPE_KEY, rope_dim), (INDEXER_KEY, indexer))
    return tuple(Kept(part, width, window=window) for part, width in widths if width)


def grouped_label(n_heads: int, n_kv_heads: int) -> str:
    """MHA, MQA or GQA-8."""
    return {n_heads: "MHA", 1: "MQA"}.get(n_kv_heads, f"GQA-{n_kv_heads}")


def mechanism_layer(mechanism: str, g: AttentionGeometry) -> Layer:
    """What a layer of this geometry keeps when that mechanism decodes it."""
    if mechanism == "recompute":
        return ()
    if isinstance(g, GQAGeometry):
        return grouped_layer(g.n_kv_heads, g.head_dim, g.head_dim)
    if mechanism == "mla_expanded":
        return grouped_layer(g.n_heads, g.qk_head_dim, g.v_head_dim)
    return latent_layer(g.kv_lora_rank, g.qk_rope_head_dim)
