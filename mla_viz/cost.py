"""Closed forms of one attention layer decoding one token: elements cached, FLOPs, bytes moved.

What a mechanism caches and computes stands in `mechanisms`; here it is summed up, compared, solved
for, and divided among several GPUs. Knows no arrays.
"""

from dataclasses import dataclass, replace

from mla_viz.config import (
    AttentionGeometry,
    GQAGeometry,
    LatentGQAGeometry,
    MLAGeometry,
    ModelGeometry,
)
from mla_viz.mechanisms.formats import Format
from mla_viz.mechanisms.ledger import Operation, grouped
from mla_viz.mechanisms.segments import Part
from mla_viz.mechanisms.table import MECHANISMS, group_kv_heads


@dataclass(frozen=True)
class Baseline:
    """A cache that ratios are taken against, for one token and layer.

    `sized` tells it from that of other heads: `MQA 1×32`, key/value heads by head dim.
    """

    label: str
    sized: str
    what: str
    counted: str
    elems: int


def geometry_beside(mechanism: str, g: MLAGeometry) -> AttentionGeometry:
    """The layer that a mechanism runs: an MLA layer, or plain heads of its number and width.

    Worked: mha beside DeepSeek-V3 has 128 heads of 128, which keep 32,768 values a token.
    """
    kv_heads = MECHANISMS[mechanism].kv_heads
    if kv_heads is None:
        return g
    return GQAGeometry(g.d_model, g.n_heads, kv_heads(g.n_heads), g.v_head_dim)


def cache_elems(mechanism: str, geometry: AttentionGeometry) -> int:
    """Elements that a mechanism caches for one token in one layer.

    DeepSeek-V3: `mla_expanded` 128 (128 + 64 + 128) = 40,960; `mla_absorbed` 512 + 64 = 576.
    """
    return sum(segment.elems for segment in MECHANISMS[mechanism].segments(geometry))


def row_bytes(
    mechanism: str, geometry: AttentionGeometry, elem_bytes: int, kept: Format | None = None
) -> int:
    """Bytes that a mechanism caches for one token in one layer, in a format or as elements.

    DeepSeek-V3, absorbed, in bfloat16: 1,152; its latent in int8: 512 + 16 2 + 64 2 = 672.
    """
    return sum(_stored(each, elem_bytes, kept) for each in _stretches(mechanism, geometry))


def _stretches(mechanism: str, geometry: AttentionGeometry) -> list[Part]:
    segments = MECHANISMS[mechanism].segments(geometry)
    return [stretch for segment in segments for stretch in segment.stretches]


def _stored(stretch: Part, elem_bytes: int, kept: Format | None) -> int:
    """Bytes of a stretch of a row: content and RoPE's own are kept apart, each in one way."""
    if kept is None:
        return stretch.elems * elem_bytes
    rope = stretch.rope * elem_bytes if kept.keep_rope else kept.row_bytes(stretch.rope)
    return kept.row_bytes(stretch.elems - stretch.rope) + rope


def cache_reads(mechanism: str, geometry: AttentionGeometry) -> int:
    """Elements of one cached token that the ledger reads in one layer.

    DeepSeek-V3, absorbed: 576 for the score and 512 for the context. All others read each once.
    """
    return sum(op.elems_cached for op in operations(mechanism, geometry, 1, 1))


def baselines(n_heads: int, v_head_dim: int) -> list[Baseline]:
    """Plain MHA, GQA and MQA of the same heads: 2 n_kv_heads v_head_dim each."""
    kinds = [
        ("MHA", n_heads),
        (f"GQA-{group_kv_heads(n_heads)}", group_kv_heads(n_heads)),
        ("MQA", 1),
    ]
    unlike = [k for i, k in enumerate(kinds) if k[1] not in [n for _, n in kinds[:i]]]
    return [
        Baseline(
            label,
            f"{label.partition('-')[0]} {kv}×{v_head_dim}",
            f"plain {label} of {n_heads} head{'s' * (n_heads > 1)}, head dim {v_head_dim}",
            f"2·{kv}·{v_head_dim} values a token and layer",
            2 * kv * v_head_dim,
        )
        for label, kv in unlike
    ]


def attention_params(geometry: AttentionGeometry) -> int:
    """Weights of one attention layer. DeepSeek-V3: 187.1 million."""
    g = geometry
    if isinstance(g, LatentGQAGeometry):
        both = 2 * g.n_kv_heads * g.head_dim
        latent = g.kv_lora_rank * (g.d_model + both) + both
        return latent + 2 * g.d_model * g.head_dim * g.n_heads
    if isinstance(g, GQAGeometry):
        return 2 * g.d_model * g.head_dim * (g.n_heads + g.n_kv_heads)
    q_in = g.q_lora_rank or g.d_model
    compress = 0 if g.q_lora_rank is None else g.d_model * g.q_lora_rank + g.q_lora_rank
    queries = compress + q_in * g.n_heads * g.qk_head_dim
    latent = g.d_model * (g.kv_lora_rank + g.qk_rope_head_dim) + g.kv_lora_rank
    expansion = g.kv_lora_rank * g.n_heads * (g.qk_nope_head_dim + g.v_head_dim)
    return queries + latent + expansion + g.n_heads * g.v_head_dim * g.d_model


def model_params(model: ModelGeometry) -> int:
    """Weights of a whole model: tied embedding, SwiGLU feed-forward, norms."""
    d_model = model.attention.d_model
    block = attention_params(model.attention) + 3 * d_model * model.d_ff + 2 * d_model
    return model.vocab_size * d_model + model.n_layers * block + d_model


def model_flops(mechanism: str, model: ModelGeometry, seq_len: int) -> int:
    """FLOPs of a whole model that decodes the seq_len-th token: attention, feed-forward, output."""
    attention = sum(op.flops for op in operations(mechanism, model.attention, seq_len, 1))
    d_model = model.attention.d_model
    feed_forward = 2 * 3 * d_model * model.d_ff
    return model.n_layers * (attention + feed_forward) + 2 * d_model * model.vocab_size


def whole_prefix_flops(geometry: GQAGeometry, seq_len: int) -> int:
    """Attention FLOPs of one MHA, GQA or MQA layer that decodes a token without a cache."""
    return sum(op.flops for op in grouped(geometry, seq_len, new=seq_len))


def core_flops(mechanism: str, geometry: AttentionGeometry) -> int:
    """FLOPs that one more cached token adds to decoding: score, context, and what is rebuilt.

    DeepSeek-V3: absorbed 278,528, expanded 81,920, plain MHA of the same heads 65,536.
    """
    one, two = (
        sum(op.flops for op in operations(mechanism, geometry, seq_len, 1)) for seq_len in (1, 2)
    )
    return two - one


def merge_growth(outer: int, inner: int, head_dim: int) -> float:
    """How many times more weights a head's two matrices are once multiplied ahead.

    (outer x head_dim) times (head_dim x inner) against outer x inner: above 1 where head_dim is
    below outer inner / (outer + inner). DeepSeek-V3: 3.0 for keys, 3.73 for values.
    """
    return outer * inner / (head_dim * (outer + inner))


def crossover_query_tokens(g: MLAGeometry, seq_len: int | None = None) -> float | None:
    """Query tokens from which rebuilding keys and values takes fewer FLOPs than absorbing.

    d_c (d_n + d_v) / (2 d_c - d_n - d_v) for an endless context, less for a finite one; None where
    absorbing never takes more. DeepSeek-V3: 170.7, and 146.3 over 1,024 tokens.
    """
    c, both = g.kv_lora_rank, g.qk_nope_head_dim + g.v_head_dim
    extra = 2 * c - both + (0 if seq_len is None else c * both / seq_len)
    return c * both / extra if extra > 0 else None


def query_flops(form: str, g: MLAGeometry, queries: int, seq_len: int) -> int:
    """Attention FLOPs of a layer for several query tokens over a latent cache of seq_len tokens.

    `mla_reexpand` rebuilds every key and value once for all queries, `mla_absorbed` moves W_UK and
    W_UV to each query. Every query is counted over the whole cache; projections are left out.
    """
    up = 2 * g.kv_lora_rank * g.n_heads * (g.qk_nope_head_dim + g.v_head_dim)
    if form == "mla_reexpand":
        return seq_len * up + queries * seq_len * core_flops("mla_expanded", g)
    return queries * (up + seq_len * core_flops("mla_absorbed", g))


@dataclass(frozen=True)
class Bracket:
    """One head's product of three over some cached tokens, bracketed in one of two ways."""

    formula: str
    flops: int
    between: str
    between_elems: int


def brackets(g: MLAGeometry, seq_len: int) -> dict[str, list[Bracket]]:
    """Scores and context of one head, absorbed first and rebuilt second.

    Worked: n 128, c 512, one cached token: both take 2 (128 512 + 512) or 2 (128 512 + 128) FLOPs.
    """
    n, v, c, t = g.qk_nope_head_dim, g.v_head_dim, g.kv_lora_rank, seq_len
    return {
        "scores": [
            Bracket("(q·W_UKᵀ)·C_KVᵀ", 2 * (n * c + c * t), f"1×{c}", c),
            Bracket("q·(C_KV·W_UK)ᵀ", 2 * (n * c * t + n * t), f"{t:,}×{n}", n * t),
        ],
        "context": [
            Bracket("(p·C_KV)·W_UV", 2 * (c * t + c * v), f"1×{c}", c),
            Bracket("p·(C_KV·W_UV)", 2 * (c * v * t + v * t), f"{t:,}×{v}", v * t),
        ],
    }


@dataclass(frozen=True)
class Flow:
    """One way to decode a token in one layer: what it keeps, computes, makes and throws away."""

    label: str
    cache_elems: int
    flops: int
    working_elems: int


def flows(g: MLAGeometry, seq_len: int) -> list[Flow]:
    """Naive, rebuilt, half absorbed (W_UK moved, values rebuilt), absorbed; the same weights."""
    naive, reexpand, absorbed = (
        sum(op.flops for op in operations(name, g, seq_len, 1))
        for name in ("mla_expanded", "mla_reexpand", "mla_absorbed")
    )
    n, t = g.n_heads, seq_len
    value_side = 2 * n * (g.kv_lora_rank * t + g.kv_lora_rank * g.v_head_dim)
    rebuilt = 2 * n * (g.kv_lora_rank * g.v_head_dim * t + g.v_head_dim * t)
    expanded, latent = (cache_elems(name, g) for name in ("mla_expanded", "mla_absorbed"))
    return [
        Flow("naive: every head's keys and values cached", expanded, naive, 0),
        Flow("latent cached, keys and values rebuilt", latent, reexpand, expanded * t),
        Flow(
            "latent cached, W_UK absorbed, values rebuilt",
            latent,
            absorbed - value_side + rebuilt,
            n * g.v_head_dim * t,
        ),
        Flow("latent cached, W_UK and W_UV absorbed", latent, absorbed, 0),
    ]


def operations(
    mechanism: str,
    geometry: AttentionGeometry,
    seq_len: int,
    elem_bytes: int,
    kept: Format | None = None,
) -> list[Operation]:
    """The ledger of one layer when the seq_len-th token is decoded, its cache kept in a format.

    DeepSeek-V3, per cached token: score and context take 81,920 FLOPs expanded, 278,528 absorbed.
    """
    lines = MECHANISMS[mechanism].ledger(geometry, seq_len)
    lines = [replace(line, elem_bytes=elem_bytes) for line in lines]
    return (
        lines
        if kept is None
        else [_read_from(mechanism, geometry, x, seq_len, kept) for x in lines]
    )


def _read_from(
    mechanism: str, geometry: AttentionGeometry, line: Operation, seq_len: int, kept: Format
) -> Operation:
    """A line of the ledger whose cached operand is read as the format keeps it."""
    read = [each for each in _stretches(mechanism, geometry) if each.label in line.reads]
    row = sum(_stored(each, line.elem_bytes, kept) for each in read)
    return replace(line, cached_bytes=seq_len * row)


CORE = ("score", "context")  # lines of a ledger that only sequences' own rows stand in


def moved_bytes(ops: list[Operation], batch: int) -> int:
    """Bytes that a step of several sequences reads and writes: weights once, all else for each.

    The right operand of a line outside the core is weights. DeepSeek-V3's output projection in
    bfloat16: 2 (16,384 7,168 + batch (16,384 + 7,168)).
    """
    total = 0
    for op in ops:
        every = op.bytes_read + op.bytes_written
        weights = 0 if op.name in CORE else op.batch * op.inner * op.columns * op.elem_bytes
        total += batch * (every - weights) + weights
    return total


STRATEGIES = ("tp", "dp", "cp")  # heads, sequences, or cached tokens are divided among the ranks


def tp_geometry(geometry: AttentionGeometry, ranks: int) -> AttentionGeometry:
    """What one rank runs under tensor parallelism: its heads, and what they need of the cache.

    Key/value heads are divided until each rank has one, then copied; a latent belongs to all heads
    and is copied on every rank. At 8 ranks: GQA with 8 key/value heads of 128 caches 256 elements
    a token and layer, DeepSeek-V3 its whole 576.

    Raises:
        ValueError: heads or key/value heads cannot be divided evenly.
    """
    heads = geometry.n_heads
    if heads % ranks:
        raise ValueError(f"ranks: expected a divisor of the {heads} heads under tp, got {ranks}")
    if not isinstance(geometry, GQAGeometry):
        return replace(geometry, n_heads=heads // ranks)
    kv = geometry.n_kv_heads
    if kv % ranks and ranks % kv:
        raise ValueError(
            f"ranks: expected a divisor or a multiple of the {kv} key/value heads under tp,"
            f" got {ranks}"
        )
    return replace(geometry, n_heads=heads // ranks, n_kv_heads=max(1, kv // ranks))


def even_shares(total: int, ranks: int) -> list[int]:
    """A number divided among ranks, the first ones taking what is left: 7 among 3 is [3, 2, 2]."""
    return [total // ranks + (rank < total % ranks) for rank in range(ranks)]


def rank_cache_elems(
    mechanism: str,
    geometry: AttentionGeometry,
    strategy: str,
    ranks: int,
    tokens: int,
    batch: int = 1,
) -> list[int]:
    """Elements that each rank caches in one layer for `batch` sequences of `tokens` tokens.

    Raises:
        ValueError: tp cannot divide the heads.
    """
    if strategy == "tp":
        return [batch * tokens * cache_elems(mechanism, tp_geometry(geometry, ranks))] * ranks
    elems = cache_elems(mechanism, geometry)
    if strategy == "dp":
        return [own * tokens * elems for own in even_shares(batch, ranks)]
    return [batch * own * elems for own in even_shares(tokens, ranks)]


def comm_bytes(
    mechanism: str, geometry: AttentionGeometry, strategy: str, ranks: int, elem_bytes: int
) -> int:
    """Bytes that each rank hands to collectives for one decoded token in one layer.

    tp: its part of the output, d_model elements, to an all-reduce. cp: what each head mixed of the
    rank's tokens and one log-sum-exp, n_heads (width + 1) elements of at least float32, to an
    all-gather. dp, or one rank alone: none. A ring then moves 2 (ranks - 1) / ranks times an
    all-reduce's bytes over each link, and (ranks - 1) times an all-gather's.

    DeepSeek-V3 in bfloat16: tp 14,336, cp 128 (512 + 1) 4 = 262,656.
    """
    if strategy == "dp" or ranks == 1:
        return 0
    if strategy == "tp":
        return geometry.d_model * elem_bytes
    width = geometry.head_dim if isinstance(geometry, GQAGeometry) else geometry.v_head_dim
    if mechanism in ("mla_absorbed", "mla_merged"):
        width = geometry.kv_lora_rank
    return geometry.n_heads * (width + 1) * max(4, elem_bytes)
