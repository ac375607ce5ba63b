"""Closed forms of one attention layer decoding one token: elements cached, FLOPs, bytes moved.

One multiply-add is two FLOPs. Norms, RoPE and softmax are not counted: they are small beside
the products. Each operation reads each of its operands once and writes its result once; what a
fused kernel keeps on the chip is counted as if it did not. Knows no arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry, group_kv_heads


@dataclass(frozen=True)
class Operation:
    """One line of the ledger, for one layer and one new token.

    It is `batch` products of (rows x inner) by (inner x columns) with nothing shared between them.
    """

    name: str
    formula: str
    batch: int
    rows: int
    inner: int
    columns: int
    bytes_read: int
    bytes_written: int

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        return 2 * self.batch * self.rows * self.inner * self.columns


@dataclass(frozen=True)
class Baseline:
    """A cache that ratios are taken against, for one token and layer."""

    label: str
    what: str
    counted: str
    elems: int


def cache_elems(mechanism: str, geometry: MLAGeometry | GQAGeometry) -> int:
    """Elements that a mechanism caches for one token in one layer.

    DeepSeek-V3: `mla_expanded` 128 (128 + 64 + 128) = 40,960; `mla_absorbed` 512 + 64 = 576.
    """
    if isinstance(geometry, GQAGeometry):
        return 2 * geometry.n_kv_heads * geometry.head_dim
    g = geometry
    if mechanism == "recompute":
        return 0
    if mechanism == "mla_expanded":
        return g.n_heads * (g.qk_head_dim + g.v_head_dim)
    return g.kv_lora_rank + g.qk_rope_head_dim


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
            f"plain {label} of the same heads",
            f"2·{kv}·{v_head_dim} values a token and layer",
            2 * kv * v_head_dim,
        )
        for label, kv in unlike
    ]


def attention_params(geometry: MLAGeometry | GQAGeometry) -> int:
    """Weights of one attention layer. DeepSeek-V3: 187.1 million."""
    g = geometry
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


def core_flops(mechanism: str, geometry: MLAGeometry | GQAGeometry) -> int:
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

    c (n + v) / (2 c - n - v) for an endless context, less for a finite one; None where absorbing
    never takes more. DeepSeek-V3: 170.7, and 146.3 over 1,024 tokens.
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
            Bracket("(q·W_UKᵀ)·Cᵀ", 2 * (n * c + c * t), f"1×{c}", c),
            Bracket("q·(C·W_UK)ᵀ", 2 * (n * c * t + n * t), f"{t:,}×{n}", n * t),
        ],
        "context": [
            Bracket("(p·C)·W_UV", 2 * (c * t + c * v), f"1×{c}", c),
            Bracket("p·(C·W_UV)", 2 * (c * v * t + v * t), f"{t:,}×{v}", v * t),
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
    """Naive, the flow of the lecture (W_UK absorbed, values rebuilt at each step), absorbed."""
    naive, absorbed = (
        sum(op.flops for op in operations(name, g, seq_len, 1))
        for name in ("mla_expanded", "mla_absorbed")
    )
    n, t = g.n_heads, seq_len
    value_side = 2 * n * (g.kv_lora_rank * t + g.kv_lora_rank * g.v_head_dim)
    rebuilt = 2 * n * (g.kv_lora_rank * g.v_head_dim * t + g.v_head_dim * t)
    latent = cache_elems("mla_absorbed", g)
    return [
        Flow("naive: keys and values cached", cache_elems("mla_expanded", g), naive, 0),
        Flow(
            "the lecture's: W_UK absorbed, V = C·W_UV built",
            latent,
            absorbed - value_side + rebuilt,
            n * g.v_head_dim * t,
        ),
        Flow("absorbed: W_UK and W_UV moved", latent, absorbed, 0),
    ]


def operations(
    mechanism: str, geometry: MLAGeometry | GQAGeometry, seq_len: int, elem_bytes: int
) -> list[Operation]:
    """The ledger of one layer when the seq_len-th token is decoded.

    DeepSeek-V3, per cached token: score and context take 81,920 FLOPs expanded, 278,528 absorbed.
    """
    if isinstance(geometry, GQAGeometry):
        lines = _gqa_lines(geometry, seq_len)
    else:
        lines = _MLA_LINES[mechanism](geometry, seq_len)
    return [
        replace(
            line,
            bytes_read=line.bytes_read * elem_bytes,
            bytes_written=line.bytes_written * elem_bytes,
        )
        for line in lines
    ]


def _product(
    name: str, formula: str, left: tuple[int, int], right: tuple[int, int], batch: int = 1
) -> Operation:
    """An operation whose bytes are still elements."""
    (rows, inner), columns = left, right[1]
    read, written = batch * (rows * inner + inner * columns), batch * rows * columns
    return Operation(name, formula, batch, rows, inner, columns, read, written)


def _queries(g: MLAGeometry, new: int, up: tuple[str, int]) -> list[Operation]:
    """Query compression where there is one, then the up-projection `up` (symbol, width a head)."""
    symbol, width = up
    lines = []
    source, q_in = "x", g.d_model
    if g.q_lora_rank is not None:
        source, q_in = "c_Q", g.q_lora_rank
        shape = (new, g.d_model), (g.d_model, q_in)
        lines.append(_product("compress query", "c_Q = norm(x·W_DQ)", *shape))
    shape = (new, q_in), (q_in, g.n_heads * (width + g.qk_rope_head_dim))
    return [*lines, _product("query", f"q = {source}·[{symbol} | W_QR]", *shape)]


def _latent(g: MLAGeometry, new: int) -> Operation:
    shape = (new, g.d_model), (g.d_model, g.kv_lora_rank + g.qk_rope_head_dim)
    return _product("latent", "c_KV, k_R = x·[W_DKV | W_KR]", *shape)


def _expand(g: MLAGeometry, name: str, tokens: int) -> Operation:
    width = g.n_heads * (g.qk_nope_head_dim + g.v_head_dim)
    shape = (tokens, g.kv_lora_rank), (g.kv_lora_rank, width)
    line = _product(name, "k, v = c_KV·[W_UK | W_UV]", *shape)
    rope = tokens * g.qk_rope_head_dim  # the shared key is read once and copied to every head
    return replace(
        line,
        bytes_read=line.bytes_read + rope,
        bytes_written=line.bytes_written + rope * g.n_heads,
    )


def _per_head(g: MLAGeometry, new: int, seq_len: int) -> list[Operation]:
    """Scores and context over every head's own keys and values."""
    score = (new, g.qk_head_dim), (g.qk_head_dim, seq_len)
    context = (new, seq_len), (seq_len, g.v_head_dim)
    return [
        _product("score", f"q·kᵀ / √{g.qk_head_dim}", *score, g.n_heads),
        _product("context", "o = p·v", *context, g.n_heads),
    ]


def _shared_latent(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """Scores and context of all heads over the one latent, a matrix product each."""
    width = g.kv_lora_rank + g.qk_rope_head_dim
    score = (g.n_heads, width), (width, seq_len)
    context = (g.n_heads, seq_len), (seq_len, g.kv_lora_rank)
    return [
        _product("score", f"[q̃ | q_R]·[c_KV | k_R]ᵀ / √{g.qk_head_dim}", *score),
        _product("context", "õ = p·c_KV", *context),
    ]


def _output(g: MLAGeometry, new: int) -> Operation:
    inner = g.n_heads * g.v_head_dim
    return _product("output", "out = o·W_O", (new, inner), (inner, g.d_model))


def _expanded(g: MLAGeometry, seq_len: int) -> list[Operation]:
    queries = _queries(g, 1, ("W_UQ", g.qk_nope_head_dim))
    expand = _expand(g, "expand new", 1)
    return [*queries, _latent(g, 1), expand, *_per_head(g, 1, seq_len), _output(g, 1)]


def _reexpand(g: MLAGeometry, seq_len: int) -> list[Operation]:
    queries = _queries(g, 1, ("W_UQ", g.qk_nope_head_dim))
    expand = _expand(g, "expand all", seq_len)
    return [*queries, _latent(g, 1), expand, *_per_head(g, 1, seq_len), _output(g, 1)]


def _absorbed(g: MLAGeometry, seq_len: int) -> list[Operation]:
    up = (1, g.qk_nope_head_dim), (g.qk_nope_head_dim, g.kv_lora_rank)
    down = (1, g.kv_lora_rank), (g.kv_lora_rank, g.v_head_dim)
    return [
        *_queries(g, 1, ("W_UQ", g.qk_nope_head_dim)),
        _latent(g, 1),
        _product("absorb query", "q̃ = q·W_UKᵀ", *up, g.n_heads),
        *_shared_latent(g, seq_len),
        _product("absorb output", "o = õ·W_UV", *down, g.n_heads),
        _output(g, 1),
    ]


def _merged(g: MLAGeometry, seq_len: int) -> list[Operation]:
    inner = g.n_heads * g.kv_lora_rank
    return [
        *_queries(g, 1, ("W_UQ·W_UKᵀ", g.kv_lora_rank)),
        _latent(g, 1),
        *_shared_latent(g, seq_len),
        _product("output", "out = õ·(W_UV·W_O)", (1, inner), (inner, g.d_model)),
    ]


def _recompute(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """The whole prefix, masked scores included: they are computed and thrown away."""
    queries = _queries(g, seq_len, ("W_UQ", g.qk_nope_head_dim))
    expand = _expand(g, "expand all", seq_len)
    core = _per_head(g, seq_len, seq_len)
    return [*queries, _latent(g, seq_len), expand, *core, _output(g, seq_len)]


_MLA_LINES: dict[str, Callable[[MLAGeometry, int], list[Operation]]] = {
    "mla_expanded": _expanded,
    "mla_reexpand": _reexpand,
    "mla_absorbed": _absorbed,
    "mla_merged": _merged,
    "recompute": _recompute,
}


def _gqa_lines(g: GQAGeometry, seq_len: int) -> list[Operation]:
    group, d, width = g.n_heads // g.n_kv_heads, g.d_model, g.head_dim
    inner = g.n_heads * width
    return [
        _product("query", "q = x·W_Q", (1, d), (d, inner)),
        _product("key, value", "k, v = x·[W_K | W_V]", (1, d), (d, 2 * g.n_kv_heads * width)),
        _product("score", f"q·kᵀ / √{width}", (group, width), (width, seq_len), g.n_kv_heads),
        _product("context", "o = p·v", (group, seq_len), (seq_len, width), g.n_kv_heads),
        _product("output", "out = o·W_O", (1, inner), (inner, d)),
    ]
