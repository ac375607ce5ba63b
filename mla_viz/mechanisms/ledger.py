"""The ledger of a decoded token: which products each mechanism makes, with their sizes.

One multiply-add is two FLOPs. Norms, RoPE and softmax are not counted: they are small beside the
products. Each operation is counted by itself: it reads each of its operands once and writes its
result once. What a fused kernel keeps on the chip is counted as if it did not, so score and context
of a latent read it twice. Knows no arrays.
"""

from dataclasses import dataclass, replace

from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry
from mla_viz.mechanisms.segments import KEY, LATENT, ROPE_KEY, VALUE

PHASES = {
    "project": ("compress query", "query", "latent", "key, value"),
    "cache": ("expand new", "expand all"),
    "score": ("absorb query", "score"),
    "softmax": (),  # not counted
    "mix": ("context",),
    "output": ("absorb output", "output"),
}


@dataclass(frozen=True)
class Operation:
    """One line of the ledger, for one layer and one new token.

    It is `batch` products of (rows x inner) by (inner x columns) with nothing shared between them,
    on elements of `elem_bytes` each. `elems_cached` are those of the elements read that the cache
    holds, in the columns that `reads` names; kept in a format they take `cached_bytes`.
    """

    name: str
    formula: str
    batch: int
    rows: int
    inner: int
    columns: int
    elems_read: int
    elems_written: int
    elems_cached: int = 0
    elem_bytes: int = 1
    reads: tuple[str, ...] = ()
    cached_bytes: int | None = None

    @property
    def phase(self) -> str:
        """The part of a step that it belongs to, one of PHASES."""
        return next(phase for phase, names in PHASES.items() if self.name in names)

    @property
    def flops(self) -> int:
        """Two for each multiply-add."""
        return 2 * self.batch * self.rows * self.inner * self.columns

    @property
    def bytes_read(self) -> int:
        """Bytes of both operands."""
        cached = self.elems_cached * self.elem_bytes
        kept = cached if self.cached_bytes is None else self.cached_bytes
        return self.elems_read * self.elem_bytes - cached + kept

    @property
    def bytes_written(self) -> int:
        """Bytes of the result."""
        return self.elems_written * self.elem_bytes


def _product(
    name: str, formula: str, left: tuple[int, int], right: tuple[int, int], batch: int = 1
) -> Operation:
    (rows, inner), columns = left, right[1]
    read, written = batch * (rows * inner + inner * columns), batch * rows * columns
    return Operation(name, formula, batch, rows, inner, columns, read, written)


def _over_cache(line: Operation, *reads: str) -> Operation:
    """A product whose right operand is the cache, or the columns of it that `reads` names."""
    return replace(line, elems_cached=line.batch * line.inner * line.columns, reads=reads)


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
        elems_read=line.elems_read + rope,
        elems_written=line.elems_written + rope * g.n_heads,
    )


def _scale(g: MLAGeometry) -> str:
    """What a product becomes a score by: 1 / √192, or a published scale as it is."""
    if g.softmax_scale_override is None:
        return f"/ √{g.qk_head_dim}"
    return f"· {g.softmax_scale_override:.4g}"


def _per_head(g: MLAGeometry, new: int, seq_len: int) -> list[Operation]:
    """Scores and context over every head's own keys and values."""
    score = (new, g.qk_head_dim), (g.qk_head_dim, seq_len)
    context = (new, seq_len), (seq_len, g.v_head_dim)
    return [
        _product("score", f"q·kᵀ {_scale(g)}", *score, g.n_heads),
        _product("context", "o = p·v", *context, g.n_heads),
    ]


def _shared_latent(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """Scores and context of all heads over the one latent, a matrix product each."""
    width = g.kv_lora_rank + g.qk_rope_head_dim
    score = (g.n_heads, width), (width, seq_len)
    context = (g.n_heads, seq_len), (seq_len, g.kv_lora_rank)
    return [
        _over_cache(
            _product("score", f"[q̃ | q_R]·[c_KV | k_R]ᵀ {_scale(g)}", *score),
            LATENT,
            ROPE_KEY,
        ),
        _over_cache(_product("context", "õ = p·c_KV", *context), LATENT),
    ]


def _output(g: MLAGeometry, new: int) -> Operation:
    inner = g.n_heads * g.v_head_dim
    return _product("output", "out = o·W_O", (new, inner), (inner, g.d_model))


def expanded(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """Keys and values of the new token expanded, those of all others read from the cache."""
    queries = _queries(g, 1, ("W_UQ", g.qk_nope_head_dim))
    expand = _expand(g, "expand new", 1)
    core = map(_over_cache, _per_head(g, 1, seq_len), (KEY, VALUE))
    return [*queries, _latent(g, 1), expand, *core, _output(g, 1)]


def reexpand(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """Keys and values of all tokens rebuilt from the cached latents."""
    queries = _queries(g, 1, ("W_UQ", g.qk_nope_head_dim))
    cached = seq_len * (g.kv_lora_rank + g.qk_rope_head_dim)
    expand = _expand(g, "expand all", seq_len)
    expand = replace(expand, elems_cached=cached, reads=(LATENT, ROPE_KEY))
    return [*queries, _latent(g, 1), expand, *_per_head(g, 1, seq_len), _output(g, 1)]


def absorbed(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """W_UK moved to the query and W_UV to the output, both on the way."""
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


def merged(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """The same with W_UQ W_UK and W_UV W_O multiplied ahead."""
    inner = g.n_heads * g.kv_lora_rank
    return [
        *_queries(g, 1, ("W_UQ·W_UKᵀ", g.kv_lora_rank)),
        _latent(g, 1),
        *_shared_latent(g, seq_len),
        _product("output", "out = õ·(W_UV·W_O)", (1, inner), (inner, g.d_model)),
    ]


def recompute(g: MLAGeometry, seq_len: int) -> list[Operation]:
    """The whole prefix, masked scores included: they are computed and thrown away."""
    queries = _queries(g, seq_len, ("W_UQ", g.qk_nope_head_dim))
    expand = _expand(g, "expand all", seq_len)
    core = _per_head(g, seq_len, seq_len)
    return [*queries, _latent(g, seq_len), expand, *core, _output(g, seq_len)]


def grouped(g: GQAGeometry, seq_len: int, new: int = 1) -> list[Operation]:
    """MHA, GQA or MQA: each key/value head serves the queries of its group at once.

    Without a cache all tokens are `new`; masked scores are then computed and thrown away.
    """
    group, d, width = new * g.n_heads // g.n_kv_heads, g.d_model, g.head_dim
    inner = g.n_heads * width
    score = (group, width), (width, seq_len)
    context = (group, seq_len), (seq_len, width)
    return [
        _product("query", "q = x·W_Q", (new, d), (d, inner)),
        _product("key, value", "k, v = x·[W_K | W_V]", (new, d), (d, 2 * g.n_kv_heads * width)),
        _over_cache(_product("score", f"q·kᵀ / √{width}", *score, g.n_kv_heads), KEY),
        _over_cache(_product("context", "o = p·v", *context, g.n_kv_heads), VALUE),
        _product("output", "out = o·W_O", (new, inner), (inner, d)),
    ]


def latent_grouped(g: LatentGQAGeometry, seq_len: int) -> list[Operation]:
    """GQA whose keys and values are rebuilt from cached latents; turning them is not counted."""
    group, d, width, rank = g.n_heads // g.n_kv_heads, g.d_model, g.head_dim, g.kv_lora_rank
    inner, both = g.n_heads * width, 2 * g.n_kv_heads * width
    score = (group, width), (width, seq_len)
    context = (group, seq_len), (seq_len, width)
    expand = _product("expand all", "k, v = c·[W_UK | W_UV] + b", (seq_len, rank), (rank, both))
    return [
        _product("query", "q = x·W_Q", (1, d), (d, inner)),
        _product("latent", "c = x·W_DKV", (1, d), (d, rank)),
        replace(expand, elems_cached=seq_len * rank, reads=(LATENT,)),
        _product("score", f"q·kᵀ / √{width}", *score, g.n_kv_heads),
        _product("context", "o = p·v", *context, g.n_kv_heads),
        _product("output", "out = o·W_O", (1, inner), (inner, d)),
    ]
