"""What a class builds beside what its fields say, and the weights of one layer's attention.

What a layer keeps of a token is what its projections write, so a layer's parts give their widths.
Knows neither which class builds what nor whole models.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mla_viz.published.fields import Fields, refuse
from mla_viz.published.layers import (
    COMPRESSED,
    INDEXER_KEY,
    KEYS,
    LATENT,
    STATE,
    VALUES,
    CachedModel,
    Layer,
)

Flag = bool | tuple[str, bool]  # a field that switches it on, and what the class takes without it
ATTENTION, MLP = ("attention_bias", False), ("mlp_bias", False)


def on(fields: Fields, flag: Flag) -> bool:
    """Whether the class builds it: always or never, or as a field says."""
    return flag if isinstance(flag, bool) else fields.get(*flag) is True


@dataclass(frozen=True)
class Experts:
    """Where a class reads its experts: names of fields, and what depends on several of them.

    `sparse` says of each layer whether it has experts or one dense block, None where neither.
    """

    count: str = "num_experts"
    width: str = "moe_intermediate_size"
    chosen: str = "num_experts_per_tok"
    sparse: Callable[[Fields], list[bool | None]] = lambda fields: [True] * fields.n_layers
    shared: Callable[[Fields], int] = lambda _: 0
    shared_gate: bool = False
    router: int = 0  # further weights of the router for each expert
    norms: int = 0  # further norms of a layer that has experts


@dataclass(frozen=True)
class Build:
    """What a class builds. A norm has `norm` vectors: a scale, or a scale and a shift, or none."""

    tied: bool = False
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    qk_norm: str = ""  # "head": of one head's width; "whole": of all heads'
    normed: Flag = True  # whether queries and keys have that norm
    norms: int = 2
    norm: int = 1
    matrices: int = 3  # of a feed-forward block: 3 where it is gated
    width: str = "intermediate_size"
    times: int = 0  # of the hidden width, where the file names no other
    experts: Experts | None = None
    attention: Callable[["Build", Fields, CachedModel, Layer], int] | None = None
    sinks: str = ""  # a number for each head: on "every" layer or on those with a "window"
    sub_norms: bool = False  # norms before the last matrix of attention and of a block
    gate: bool = False  # queries come with gates of their own width
    further: int = 0  # single numbers in each layer
    apart: Callable[[Fields], int] = lambda _: 0  # weights beside the layers
    positions: str = ""  # where positions have a table: the field of its length
    unknown: tuple[str, ...] = ()  # fields that switch on what is not counted here


def grouped(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """MHA, GQA and MQA: what is kept of a token is what its projections write."""
    parts = {part.part: part for part in layer}
    if KEYS not in parts:
        refuse("", "a layer with keys and values", "another")
    key, value, d, n = parts[KEYS], parts[VALUES], fields.d_model, model.n_heads
    queries, out = n * key.width, n * value.width
    keys, values = key.width * key.vectors, value.width * value.vectors
    norm = {"": 0, "head": 2 * key.width, "whole": queries + keys}[build.qk_norm]
    queries *= 1 + build.gate
    sinks = build.sinks == "every" or (build.sinks == "window" and key.window is not None)
    return (
        d * (queries + keys + values + out)
        + (queries + keys + values) * on(fields, build.qkv_bias)
        + d * on(fields, build.out_bias)
        + norm * on(fields, build.normed)
        + n * sinks
        + d * build.sub_norms
    )


def latent(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """MLA, its query by way of a latent where there is a rank, its indexer where it keeps a key."""
    parts = {part.part: part.width for part in layer}
    d, n, qk, v = fields.d_model, model.n_heads, model.qk_head_dim, model.v_head_dim
    rank, rope = parts[LATENT], fields.whole("qk_rope_head_dim", low=0)
    query = _query_rank(fields)
    queries = d * query + query + query * n * qk if query else d * n * qk
    latents = d * (rank + rope) + rank + rank * n * (qk - rope + v)
    biases = (query + rank + rope + d) * on(fields, build.qkv_bias)
    width, index = parts.get(INDEXER_KEY, 0), 0
    if width:
        heads = fields.whole("index_n_heads")
        index = query * heads * width + d * width + 2 * width + d * heads
    return queries + latents + n * v * d + biases + index


def _query_rank(fields: Fields) -> int:
    """Rank of the query's latent: 0 where the file says null, as DeepSeek's own files write it."""
    if "q_lora_rank" in fields.record and fields.get("q_lora_rank") is None:
        return 0
    return fields.whole("q_lora_rank", low=0)


def beside_an_index(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """GQA whose sparse layers have an indexer with a norm on its queries and its key."""
    width = next((part.width for part in layer if part.part == INDEXER_KEY), 0)
    own = fields.nested("sparse_attention_config")
    index = 0
    if width:
        heads = fields.whole("index_n_heads", default=own.whole("sparse_num_index_heads"))
        index = fields.d_model * (heads + 1) * width + 2 * width
    return grouped(build, fields, model, layer) + index


def or_gated_delta(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """Qwen's hybrids: GQA, or a gated delta rule on a layer that keeps a state."""
    if not any(part.part == STATE for part in layer):
        return grouped(build, fields, model, layer)
    d, heads = fields.d_model, fields.whole("linear_num_value_heads")
    value = fields.whole("linear_value_head_dim")
    keys = fields.whole("linear_num_key_heads") * fields.whole("linear_key_head_dim")
    values, taps = heads * value, fields.whole("linear_conv_kernel_dim", default=4)
    channels = 2 * keys + values
    return d * (channels + 2 * values + 2 * heads) + channels * taps + 2 * heads + value


def or_kda(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """Kimi's hybrids: MLA without a query's latent, or KDA on a layer that keeps a state."""
    if not any(part.part == STATE for part in layer):
        own = Fields({"q_lora_rank": None, **fields.record})
        return latent(build, own, model, layer)
    d, own = fields.d_model, fields.nested("linear_attn_config")
    heads, width = own.whole("num_heads"), own.whole("head_dim")
    wide, taps = heads * width, own.whole("short_conv_kernel_size", default=4)
    gates = 2 * (d * width + width * wide) + wide + heads
    return 4 * d * wide + 3 * wide * taps + gates + d * heads + width


def or_mamba(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """Nemotron-H's letters: GQA, Mamba-2, or a block that attends to nothing."""
    if not any(part.part == STATE for part in layer):
        return grouped(build, fields, model, layer) if layer else 0
    d, heads, groups = fields.d_model, fields.whole("mamba_num_heads"), fields.whole("n_groups")
    inner = heads * fields.whole("mamba_head_dim")
    channels = inner + 2 * groups * fields.whole("ssm_state_size")
    taps = fields.whole("conv_kernel", default=4) + on(fields, ("use_conv_bias", True))
    return d * (2 * inner + channels + heads) + channels * taps + 3 * heads + inner


def one_projection(build: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """Gemma 4's: on global layers the keys serve as values too, where the file says so."""
    if fields.whole("hidden_size_per_layer_input", default=256, low=0):
        refuse(" hidden_size_per_layer_input", "0", "tables for each layer")
    weights = grouped(build, fields, model, layer)
    value = layer[-1]
    if fields.get("attention_k_eq_v") is True and value.window is None:
        weights -= (fields.d_model + on(fields, build.qkv_bias)) * value.width * value.vectors
    return weights


def compressed(_: Build, fields: Fields, model: CachedModel, layer: Layer) -> int:
    """DeepSeek-V4's: one key for all heads, entries of several tokens, residual streams mixed."""
    d, n, width, rank = fields.d_model, model.n_heads, model.qk_head_dim, _query_rank(fields)
    out = fields.whole("o_lora_rank", default=1024)
    query = d * rank + rank + rank * n * width
    weights = query + d * width + width + n * width * out + n
    weights += fields.whole("o_groups", default=8) * out * d
    every = {part.part: part.every for part in layer}[COMPRESSED]
    if every > 1:
        weights += _compressor(d, width, every)
    index = next((part.width for part in layer if part.part == INDEXER_KEY), 0)
    if index:
        heads = fields.whole("index_n_heads")
        weights += _compressor(d, index, every) + heads * (rank * index + d)
    lanes = fields.whole("hc_mult", default=4)
    mixed = (lanes + 2) * lanes
    return weights + 2 * (mixed * (lanes * d + 1) + 3)


def _compressor(d: int, width: int, every: int) -> int:
    """Where entries overlap, which is every 4 tokens, it writes two at once."""
    written = 2 * width if every == 4 else width
    return 2 * d * written + every * written + width


def streams(fields: Fields) -> int:
    """DeepSeek-V4's last mix of its residual streams into one."""
    lanes = fields.whole("hc_mult", default=4)
    return lanes * (lanes * fields.d_model + 1) + 1
