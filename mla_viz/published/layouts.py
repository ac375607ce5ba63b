"""What a layer keeps under each layout of config.json, read as transformers reads its fields.

One reader for each kind of attention. Knows neither transformers nor arrays nor screens.

Worked: num_attention_heads 32, num_key_value_heads 8, hidden_size 4096 and no head_dim are keys and
values of 8 x 128; kv_lora_rank 512 beside qk_rope_head_dim 64 are a latent of 512 and a key of 64.
"""

from collections.abc import Callable
from dataclasses import replace

from mla_viz.config import told
from mla_viz.published.fields import Fields, refuse
from mla_viz.published.layers import (
    COMPRESSED,
    INDEXER_KEY,
    LATENT,
    CachedModel,
    Kept,
    Layer,
    grouped_label,
    grouped_layer,
    latent_layer,
)

Windows = Callable[[Fields], list[int | None]]
Reader = Callable[[Fields], CachedModel]


def everywhere(fields: Fields) -> list[int | None]:
    """Every layer has the window, where there is one."""
    window = fields.get("sliding_window")
    return [None if window is None else fields.whole("sliding_window")] * fields.n_layers


def nowhere(fields: Fields) -> list[int | None]:
    """No layer has a window."""
    return [None] * fields.n_layers


def typed_or_everywhere(fields: Fields) -> list[int | None]:
    """By layer_types, or on every layer where there are none."""
    return everywhere(fields) if fields.get("layer_types") is None else by_type(fields, 1)


def upper(fields: Fields, first: int = 28, switch: bool = True) -> list[int | None]:
    """Qwen's: from max_window_layers on, where use_sliding_window is on or is no switch."""
    if fields.get("layer_types") is not None:
        return by_type(fields, 0)
    windows = nowhere(fields)
    on = fields.get("use_sliding_window") is True or not switch
    if on and fields.get("sliding_window") is not None:
        first = fields.whole("max_window_layers", default=first, low=0)
        window = fields.whole("sliding_window")
        windows = [window if i >= first else None for i in range(len(windows))]
    return windows


def by_names(fields: Fields) -> list[int | None]:
    """By layer_types, which the file must have."""
    fields.kinds("layer_types", fields.n_layers)
    return by_type(fields, 1)


def by_type(fields: Fields, every: int, default: int | None = None) -> list[int | None]:
    """By layer_types; without them each `every`-th layer is full and the others have windows."""
    n = fields.n_layers
    if fields.get("layer_types") is None:
        if "sliding_window" in fields.record and fields.get("sliding_window") is None:
            return nowhere(fields)
        every = fields.whole("sliding_window_pattern", default=every)
        names = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(n)]
    else:
        names = fields.kinds("layer_types", n)
    spans = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    for name in names:
        if name != "full_attention" and name not in spans:
            refuse(" layer_types", "full, sliding or chunked attention", told(name))
    return [
        None if name == "full_attention" else fields.whole(spans[name], default=default)
        for name in names
    ]


def switched(fields: Fields) -> list[int | None]:
    """SmolLM3's: by layer_types; a file without them has no windows, or is refused."""
    if fields.get("layer_types") is None and fields.get("use_sliding_window") is not True:
        return nowhere(fields)
    return by_names(fields)


def unrotated(fields: Fields) -> list[int | None]:
    """Llama 4's: layers without RoPE see everything, the others a chunk."""
    if fields.get("layer_types") is not None:
        return by_type(fields, 4)
    n, every = fields.n_layers, fields.whole("no_rope_layer_interval", default=4)
    rotated = [(i + 1) % every for i in range(n)]
    if fields.get("no_rope_layers"):
        rotated = fields.numbers("no_rope_layers", n)
    chunk = fields.whole("attention_chunk_size", default=8192)
    return [chunk if each else None for each in rotated]


def read_grouped(
    fields: Fields,
    windows: Windows = nowhere,
    n_kv_heads: int | None = None,
    head_dim: int | None = None,
) -> CachedModel:
    """MHA, GQA and MQA, on all layers alike but for their windows."""
    kv, width = fields.n_kv_heads(n_kv_heads), fields.head_dim(head_dim)
    spans = windows(fields)
    label = grouped_label(fields.n_heads, kv) + window_label(spans)
    return fields.made(label, [grouped_layer(kv, width, width, w) for w in spans], width, width)


def window_label(windows: list[int | None]) -> str:
    """What a name says of windows, where there are any."""
    return " + sliding window" if any(windows) else ""


def read_heads_alike(fields: Fields) -> CachedModel:
    """Plain MHA, whatever else the file says: these classes know no shared heads."""
    n, width = fields.n_heads, fields.d_model // fields.n_heads
    return fields.made("MHA", [grouped_layer(n, width, width)] * fields.n_layers, width, width)


def read_falcon(fields: Fields) -> CachedModel:
    """One key/value head where multi_query, several in the new architecture."""
    n, width = fields.n_heads, fields.d_model // fields.n_heads
    kv = 1 if fields.get("multi_query", True) is True else n
    if fields.get("new_decoder_architecture") is True:
        kv = fields.whole("num_kv_heads", default=n)
    layers = [grouped_layer(kv, width, width)] * fields.n_layers
    return fields.made(grouped_label(n, kv), layers, width, width)


def read_gpt_bigcode(fields: Fields) -> CachedModel:
    """One key/value head unless multi_query is off."""
    n, width = fields.n_heads, fields.d_model // fields.n_heads
    kv = 1 if fields.get("multi_query", True) is True else n
    layers = [grouped_layer(kv, width, width)] * fields.n_layers
    return fields.made(grouped_label(n, kv), layers, width, width)


def read_gemma3n(fields: Fields) -> CachedModel:
    """Every fifth layer is global, and the last layers read the cache of earlier ones."""
    model = read_grouped(fields, lambda own: by_type(own, 5, 512), n_kv_heads=2, head_dim=256)
    shared = fields.whole("num_kv_shared_layers", default=15, low=0)
    own = len(model.layers) - min(shared, len(model.layers))
    return replace(model, layers=model.layers[:own] + ((),) * (len(model.layers) - own))


def read_gemma4(fields: Fields) -> CachedModel:
    """Global layers have heads of their own number and width; the last layers share a cache."""
    windows, width = by_type(fields, 6, 512), fields.head_dim(256)
    wide = fields.whole("global_head_dim", default=512)
    kv = fields.n_kv_heads()
    few = fields.whole("num_global_key_value_heads", default=kv)
    few = few if fields.get("attention_k_eq_v") is True else kv
    windows[-1] = None  # transformers forces the last layer to be global
    layers = [
        grouped_layer(few, wide, wide) if w is None else grouped_layer(kv, width, width, w)
        for w in windows
    ]
    shared = fields.whole("num_kv_shared_layers", default=0, low=0)
    own = len(layers) - min(shared, len(layers))
    layers = layers[:own] + [()] * (len(layers) - own)
    label = grouped_label(fields.n_heads, few) + window_label(windows)
    return fields.made(label, layers, wide, wide)


def read_mimo(fields: Fields) -> CachedModel:
    """Values narrower than keys, and other heads in the windows."""
    n, qk, v = fields.n_layers, fields.head_dim(192), fields.whole("v_head_dim", default=128)
    kv = fields.n_kv_heads(4)
    near = fields.whole("swa_num_key_value_heads", default=kv)
    near_qk = fields.whole("swa_head_dim", default=qk)
    near_v = fields.whole("swa_v_head_dim", default=v)
    if fields.get("layer_types") is not None:
        windows = by_type(fields, 6)
    else:
        span = fields.whole("sliding_window")
        windows = [span if x else None for x in fields.numbers("hybrid_layer_pattern", n)]
    layers = [
        grouped_layer(kv, qk, v) if w is None else grouped_layer(near, near_qk, near_v, w)
        for w in windows
    ]
    return fields.made(grouped_label(fields.n_heads, kv) + window_label(windows), layers, qk, v)


def read_step(fields: Fields) -> CachedModel:
    """Step 3.7: by layer_types, which may go on over layers of multi-token prediction."""
    kv, width = fields.whole("num_key_value_heads", "num_attention_groups"), fields.head_dim(128)
    windows = by_type(fields, 1) if fields.get("layer_types") else nowhere(fields)
    label = grouped_label(fields.n_heads, kv) + window_label(windows)
    return fields.made(label, [grouped_layer(kv, width, width, w) for w in windows], width, width)


def read_minimax_m3(fields: Fields) -> CachedModel:
    """GQA whose sparse layers keep an indexer's key beside keys and values."""
    kv, width, n = fields.n_kv_heads(4), fields.head_dim(128), fields.n_layers
    sparse = fields.nested("sparse_attention_config")
    on = [False] * n
    if fields.get("layer_types") is not None:
        on = [name != "full_attention" for name in fields.kinds("layer_types", n)]
    elif sparse.get("sparse_attention_freq") is not None:
        on = [bool(x) for x in sparse.numbers("sparse_attention_freq", n)]
    own = fields.whole("index_head_dim", default=128)
    key = Kept(INDEXER_KEY, sparse.whole("sparse_index_dim", default=own))
    layer = grouped_layer(kv, width, width)
    layers = [(*layer, key) if each else layer for each in on]
    label = grouped_label(fields.n_heads, kv) + (" + indexer" if any(on) else "")
    return fields.made(label, layers, width, width)


def read_latent(fields: Fields, copies: int = 1) -> CachedModel:
    """MLA; with an indexer on each layer, or on those that own one."""
    n = fields.n_layers * copies
    rank, rope = fields.whole("kv_lora_rank"), fields.whole("qk_rope_head_dim", low=0)
    index = fields.whole("index_head_dim", default=128) if fields.get("index_topk") else 0
    layers = [latent_layer(rank, rope, index * own) for own in _indexers(fields, n)]
    label = "MLA + DSA" if index else "MLA"
    qk = fields.whole("qk_nope_head_dim") + rope
    return fields.made(label, layers, qk, fields.whole("v_head_dim"))


def _indexers(fields: Fields, n: int) -> list[bool]:
    """Which layers have an indexer: as listed, by a pattern of F and S, or every so often."""
    if fields.get("indexer_types") is not None:
        return [name == "full" for name in fields.kinds("indexer_types", n)]
    pattern = fields.get("index_topk_pattern")
    if pattern is not None:
        if isinstance(pattern, str):
            pattern = list(pattern)
        named = Fields({"index_topk_pattern": pattern}).kinds("index_topk_pattern", n)
        return [name in ("F", "full") for name in named]
    first = fields.whole("index_skip_topk_offset", default=2, low=0)
    every = fields.whole("index_topk_freq", default=1)
    return [max(i - first + 1, 0) % every == 0 for i in range(n)]


def read_mistral_large4(fields: Fields) -> CachedModel:
    """MLA with an indexer; some layers have no rope key, some read an earlier layer's latents."""
    n, model = fields.n_layers, read_latent(fields)
    owners, rotated = list(range(n)), [(i + 1) % 4 for i in range(n)]
    if fields.get("kv_source_layers") is not None:
        owners = fields.numbers("kv_source_layers", n)
    if fields.get("no_rope_layers") is not None:
        rotated = fields.numbers("no_rope_layers", n)

    def kept(i: int, part: Kept) -> bool:
        return part.part == INDEXER_KEY or (
            owners[i] == i and (part.part == LATENT or rotated[i] > 0)
        )

    layers = [tuple(x for x in layer if kept(i, x)) for i, layer in enumerate(model.layers)]
    return replace(model, layers=tuple(layers))


def read_dots3(fields: Fields) -> CachedModel:
    """MLA with an indexer, and in between MLA of another rank in a window."""
    if fields.get("per_layer_config") is not None or fields.get("use_dsa", True) is not True:
        refuse("", "layers that swa_ fields tell apart", "per_layer_config or use_dsa")
    full = read_latent(Fields({**fields.record, "index_topk": 2048}))
    rank = fields.whole("swa_kv_lora_rank", default=1024)
    nope = fields.whole("swa_qk_nope_head_dim", default=192)
    rope = fields.whole("swa_head_dim", default=256) - nope
    rope = fields.whole("swa_qk_rope_head_dim", default=max(rope, 0), low=0)
    window = fields.whole("sliding_window", "sliding_window_size", default=512)
    near = latent_layer(rank, rope, window=window)
    names = fields.kinds("layer_types", fields.n_layers)
    layers = [
        near if name == "sliding_attention" else whole
        for name, whole in zip(names, full.layers, strict=True)
    ]
    return replace(full, layers=tuple(layers), attention="MLA + DSA + sliding window")


def read_hy_v4(fields: Fields) -> CachedModel:
    """MLA whose first layer and every fourth from the second have an indexer."""
    names = ["full" if i == 0 or i % 4 == 1 else "shared" for i in range(fields.n_layers)]
    index = {"index_topk": 2048, "indexer_types": names}
    own = {name: fields.get(name, value) for name, value in index.items()}
    return read_latent(Fields({**fields.record, **own}))


def read_deepseek_v4(fields: Fields) -> CachedModel:
    """One shared key and value: a window on each layer, and entries of 4 or 128 tokens on most."""
    n, width = fields.n_layers, fields.head_dim(512)
    near = Kept(COMPRESSED, width, window=fields.whole("sliding_window", default=128))
    index = fields.whole("index_head_dim", default=128)
    kinds: dict[int, Layer] = {
        0: (near,),
        4: (near, Kept(COMPRESSED, width, every=4), Kept(INDEXER_KEY, index, every=4)),
        128: (near, Kept(COMPRESSED, width, every=128)),
    }
    ratios = fields.numbers("compress_ratios", n)
    for ratio in ratios:
        if ratio not in kinds:
            refuse(" compress_ratios", "0, 4 or 128", str(ratio))
    label = "MQA, shared key and value, compressed"
    return fields.made(label, [kinds[ratio] for ratio in ratios], width, width)


def read_blocks(fields: Fields) -> CachedModel:
    """Layers pruned one by one: block_configs says how many heads share a key, or that none is."""
    n, heads, width, layers, most = fields.n_layers, fields.n_heads, fields.head_dim(), [], 1
    for block in fields.entries("block_configs", n):
        attention = block.get("attention") if isinstance(block, dict) else None
        if not isinstance(attention, dict):
            refuse(" block_configs", "an object with attention for each layer", told(block))
        own = Fields(attention)
        if own.get("no_op") is True or own.get("replace_with_linear") is True:
            layers.append(())
            continue
        kv = max(1, heads // own.whole("n_heads_in_group"))
        window = own.whole("window_length") if own.get("window_length") is not None else None
        most = max(most, kv)
        layers.append(grouped_layer(kv, width, width, window))
    return fields.made(f"{grouped_label(heads, most)}, a layer its own", layers, width, width)
