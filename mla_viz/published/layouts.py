"""What a layer keeps under each layout of config.json, read as transformers reads its fields.

One reader for each kind of attention; `READERS` says which model_type is of which kind. Knows
neither transformers nor arrays nor screens.

Worked: num_attention_heads 32, num_key_value_heads 8, hidden_size 4096 and no head_dim are keys and
values of 8 x 128; kv_lora_rank 512 beside qk_rope_head_dim 64 are a latent of 512 and a key of 64.
"""

from collections.abc import Callable
from functools import partial

from mla_viz.config import told
from mla_viz.published.fields import MOST_LAYERS, Fields, refuse
from mla_viz.published.layers import (
    COMPRESSED,
    INDEXER_KEY,
    STATE,
    CachedModel,
    Kept,
    Layer,
    grouped_label,
    grouped_layer,
    latent_layer,
)

Windows = Callable[[Fields], list[int | None]]
Reader = Callable[[Fields], CachedModel]


def _everywhere(fields: Fields) -> list[int | None]:
    """Every layer has the window, where there is one."""
    window = fields.get("sliding_window")
    return [None if window is None else fields.whole("sliding_window")] * fields.n_layers


def _nowhere(fields: Fields) -> list[int | None]:
    return [None] * fields.n_layers


def _typed_or_everywhere(fields: Fields) -> list[int | None]:
    """By layer_types, or on every layer where there are none."""
    return _everywhere(fields) if fields.get("layer_types") is None else _by_type(fields, 1)


def _upper(fields: Fields) -> list[int | None]:
    """Qwen's: from max_window_layers on, and only with use_sliding_window."""
    if fields.get("layer_types") is not None:
        return _by_type(fields, 0)
    windows = _nowhere(fields)
    if fields.get("use_sliding_window") is True and fields.get("sliding_window") is not None:
        first = fields.whole("max_window_layers", default=28, low=0)
        window = fields.whole("sliding_window")
        windows = [window if i >= first else None for i in range(len(windows))]
    return windows


def _by_type(fields: Fields, every: int, default: int | None = None) -> list[int | None]:
    """By layer_types; without them each `every`-th layer is full and the others have windows."""
    n = fields.n_layers
    if fields.get("layer_types") is None:
        if "sliding_window" in fields.record and fields.get("sliding_window") is None:
            return _nowhere(fields)
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


def _unrotated(fields: Fields) -> list[int | None]:
    """Llama 4's: layers without RoPE see everything, the others a chunk."""
    if fields.get("layer_types") is not None:
        return _by_type(fields, 4)
    n, every = fields.n_layers, fields.whole("no_rope_layer_interval", default=4)
    rotated = [(i + 1) % every for i in range(n)]
    if fields.get("no_rope_layers"):
        rotated = fields.numbers("no_rope_layers", n)
    chunk = fields.whole("attention_chunk_size", default=8192)
    return [chunk if each else None for each in rotated]


def _grouped(
    fields: Fields,
    windows: Windows = _nowhere,
    n_kv_heads: int | None = None,
    head_dim: int | None = None,
) -> CachedModel:
    """MHA, GQA and MQA, on all layers alike but for their windows."""
    kv, width = fields.n_kv_heads(n_kv_heads), fields.head_dim(head_dim)
    spans = windows(fields)
    label = grouped_label(fields.n_heads, kv) + _window_label(spans)
    return fields.made(label, [grouped_layer(kv, width, width, w) for w in spans], width, width)


def _window_label(windows: list[int | None]) -> str:
    return " + sliding window" if any(windows) else ""


def _heads_alike(fields: Fields) -> CachedModel:
    """Plain MHA, whatever else the file says: these classes know no shared heads."""
    n, width = fields.n_heads, fields.d_model // fields.n_heads
    return fields.made("MHA", [grouped_layer(n, width, width)] * fields.n_layers, width, width)


def _falcon(fields: Fields) -> CachedModel:
    """One key/value head where multi_query, several in the new architecture."""
    n, width = fields.n_heads, fields.d_model // fields.n_heads
    kv = 1 if fields.get("multi_query", True) is True else n
    if fields.get("new_decoder_architecture") is True:
        kv = fields.whole("num_kv_heads", default=n)
    layers = [grouped_layer(kv, width, width)] * fields.n_layers
    return fields.made(grouped_label(n, kv), layers, width, width)


def _gemma4(fields: Fields) -> CachedModel:
    """Global layers have heads of their own number and width; the last layers share a cache."""
    windows, width = _by_type(fields, 6, 512), fields.head_dim(256)
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
    label = grouped_label(fields.n_heads, few) + _window_label(windows)
    return fields.made(label, layers, wide, wide)


def _mimo(fields: Fields) -> CachedModel:
    """Values narrower than keys, and other heads in the windows."""
    n, qk, v = fields.n_layers, fields.head_dim(192), fields.whole("v_head_dim", default=128)
    kv = fields.n_kv_heads(4)
    near = fields.whole("swa_num_key_value_heads", default=kv)
    near_qk = fields.whole("swa_head_dim", default=qk)
    near_v = fields.whole("swa_v_head_dim", default=v)
    if fields.get("layer_types") is not None:
        windows = _by_type(fields, 6)
    else:
        span = fields.whole("sliding_window")
        windows = [span if x else None for x in fields.numbers("hybrid_layer_pattern", n)]
    layers = [
        grouped_layer(kv, qk, v) if w is None else grouped_layer(near, near_qk, near_v, w)
        for w in windows
    ]
    return fields.made(grouped_label(fields.n_heads, kv) + _window_label(windows), layers, qk, v)


def _step(fields: Fields) -> CachedModel:
    """Step 3.7: by layer_types, which may go on over layers of multi-token prediction."""
    kv, width = fields.whole("num_key_value_heads", "num_attention_groups"), fields.head_dim(128)
    windows = _by_type(fields, 1) if fields.get("layer_types") else _nowhere(fields)
    label = grouped_label(fields.n_heads, kv) + _window_label(windows)
    return fields.made(label, [grouped_layer(kv, width, width, w) for w in windows], width, width)


def _minimax_m3(fields: Fields) -> CachedModel:
    """GQA whose sparse layers keep an indexer's key beside keys and values."""
    kv, width, n = fields.n_kv_heads(4), fields.head_dim(128), fields.n_layers
    sparse = fields.nested("sparse_attention_config")
    on = [False] * n
    if fields.get("layer_types") is not None:
        on = [name != "full_attention" for name in fields.kinds("layer_types", n)]
    elif sparse.get("sparse_attention_freq") is not None:
        on = [bool(x) for x in sparse.numbers("sparse_attention_freq", n)]
    key = Kept(INDEXER_KEY, sparse.whole("sparse_index_dim", default=128))
    layer = grouped_layer(kv, width, width)
    layers = [(*layer, key) if each else layer for each in on]
    label = grouped_label(fields.n_heads, kv) + (" + indexer" if any(on) else "")
    return fields.made(label, layers, width, width)


def _latent(fields: Fields, copies: int = 1) -> CachedModel:
    """MLA; with an indexer on each layer, or on those that indexer_types calls full."""
    n = fields.n_layers * copies
    rank, rope = fields.whole("kv_lora_rank"), fields.whole("qk_rope_head_dim", low=0)
    index = fields.whole("index_head_dim", default=128) if fields.get("index_topk") else 0
    full = [True] * n
    if fields.get("indexer_types") is not None:
        full = [name == "full" for name in fields.kinds("indexer_types", n)]
    elif fields.get("index_topk_freq") is not None:
        first = fields.whole("index_skip_topk_offset", default=1, low=0)
        every = fields.whole("index_topk_freq")
        full = [max(i - first + 1, 0) % every == 0 for i in range(n)]
    layers = [latent_layer(rank, rope, index * own) for own in full]
    label = "MLA + DSA" if index else "MLA"
    qk = fields.whole("qk_nope_head_dim") + rope
    return fields.made(label, layers, qk, fields.whole("v_head_dim"))


def _delta_states(heads: int, key: int, value: int, channels: int, taps: int) -> Layer:
    """A recurrent state of key x value a head in float32, and the last inputs of a convolution."""
    return (
        Kept(STATE, key * value, heads, fixed=True, dtype="float32"),
        Kept(STATE, channels // heads * taps, heads, fixed=True),
    )


def _kimi_linear(fields: Fields, spare_taps: int = 0) -> CachedModel:
    """MLA on the layers that full_attn_layers counts from 1, KDA on the others.

    transformers keeps as many inputs as its convolution is long; those who serve Kimi-K3 keep one
    fewer, since the newest comes with the token: 6,512,640 bytes a layer.
    """
    own = fields.nested("linear_attn_config")
    whole = own.get("full_attn_layers")
    if not isinstance(whole, list):
        refuse(" full_attn_layers", "a list of layers", told(whole))
    heads, width = own.whole("num_heads"), own.whole("head_dim")
    taps = own.whole("short_conv_kernel_size", default=4) - spare_taps
    kda = _delta_states(heads, width, width, 3 * heads * width, taps)
    mla = _latent(fields)
    layers = [layer if i + 1 in whole else kda for i, layer in enumerate(mla.layers)]
    return fields.made("MLA + KDA", layers, mla.qk_head_dim, mla.v_head_dim)


def _gated_delta(fields: Fields) -> CachedModel:
    """Qwen's hybrids: full attention on every so-many-th layer, gated delta on the others."""
    n, kv, width = fields.n_layers, fields.n_kv_heads(2), fields.head_dim(256)
    keys, values = fields.whole("linear_num_key_heads"), fields.whole("linear_num_value_heads")
    key, value = fields.whole("linear_key_head_dim"), fields.whole("linear_value_head_dim")
    taps = fields.whole("linear_conv_kernel_dim", default=4)
    every = fields.whole("full_attention_interval", default=4)
    names = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(n)]
    if fields.get("layer_types") is not None:
        names = fields.kinds("layer_types", n)
    channels = 2 * keys * key + values * value
    kinds = {
        "full_attention": grouped_layer(kv, width, width),
        "linear_attention": (
            Kept(STATE, key * value, values, fixed=True, dtype="float32"),
            Kept(STATE, taps, channels, fixed=True),
        ),
    }
    for name in names:
        if name not in kinds:
            refuse(" layer_types", "full or linear attention", told(name))
    label = f"{grouped_label(fields.n_heads, kv)} + gated delta"
    return fields.made(label, [kinds[name] for name in names], width, width)


def _nemotron_h(fields: Fields) -> CachedModel:
    """A letter a layer: M is Mamba-2, * attention; - and E are feed-forward and keep nothing."""
    pattern = fields.get("hybrid_override_pattern")
    n = len(pattern) if isinstance(pattern, str) else 0
    if not 1 <= n <= MOST_LAYERS or set(pattern) - set("M*-E"):
        refuse(" hybrid_override_pattern", "a letter M, *, - or E a layer", told(pattern))
    kv = fields.n_kv_heads(8)
    width = fields.whole("attention_head_dim", "head_dim", default=128)
    heads, head = fields.whole("mamba_num_heads"), fields.whole("mamba_head_dim")
    state, groups = fields.whole("ssm_state_size"), fields.whole("n_groups")
    channels = heads * head + 2 * groups * state
    mamba = (
        Kept(STATE, head * state, heads, fixed=True, dtype="float32"),
        Kept(STATE, fields.whole("conv_kernel", default=4), channels, fixed=True),
    )
    kinds = {"M": mamba, "*": grouped_layer(kv, width, width)}
    label = f"{grouped_label(fields.n_heads, kv)} + Mamba-2"
    return fields.made(label, [kinds.get(letter, ()) for letter in pattern], width, width)


def _deepseek_v4(fields: Fields) -> CachedModel:
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


_HEADS_ALIKE = [
    "llama",
    "qwen2_moe",
    "phi",
    "phi3",
    "olmo",
    "olmo2",
    "olmoe",
    "stablelm",
    "cohere",
    "granite",
    "granitemoe",
    "nemotron",
    "arcee",
    "apertus",
    "hunyuan_v1_dense",
    "qwen3_vl_text",
]
_OWN_NUMBERS = {  # key/value heads and head width of the class, where the file names none
    "glm": (2, 128),
    "glm4": (2, 128),
    "glm4_moe": (8, None),
    "gemma": (16, 256),
    "qwen3_moe": (4, None),
    "seed_oss": (8, 128),
    "helium": (20, 128),
    "ernie4_5": (2, 128),
    "ernie4_5_moe": (4, None),
    "minimax_m2": (8, 128),
    "bitnet": (5, None),
    "qwen3_vl_moe_text": (16, None),
}
_WINDOWED = {
    "mistral": partial(_grouped, windows=_everywhere, n_kv_heads=8),
    "mixtral": partial(_grouped, windows=_everywhere, n_kv_heads=8),
    "phi3": partial(_grouped, windows=_everywhere),
    "phimoe": partial(_grouped, windows=_everywhere, n_kv_heads=8),
    "starcoder2": partial(_grouped, windows=_everywhere, n_kv_heads=2),
    "qwen2": partial(_grouped, windows=_upper, n_kv_heads=32),
    "qwen2_moe": partial(_grouped, windows=_upper, n_kv_heads=16),
    "qwen3": partial(_grouped, windows=_upper, n_kv_heads=32, head_dim=128),
    "gemma2": partial(
        _grouped, windows=partial(_by_type, every=2, default=4096), n_kv_heads=4, head_dim=256
    ),
    "gemma3_text": partial(
        _grouped, windows=partial(_by_type, every=6, default=4096), n_kv_heads=4, head_dim=256
    ),
    "ministral": partial(_grouped, windows=_typed_or_everywhere, n_kv_heads=8),
    "exaone4": partial(_grouped, windows=partial(_by_type, every=4, default=4096)),
    "cohere2": partial(_grouped, windows=partial(_by_type, every=4, default=4096)),
    "olmo3": partial(_grouped, windows=partial(_by_type, every=4, default=4096)),
    "gpt_oss": partial(
        _grouped, windows=partial(_by_type, every=2, default=128), n_kv_heads=8, head_dim=64
    ),
    "llama4_text": partial(_grouped, windows=_unrotated, n_kv_heads=8, head_dim=128),
}
_LATENTS = [
    "deepseek_v2",
    "deepseek_v3",
    "kimi_k2",
    "deepseek_v32",
    "glm_moe_dsa",
    "glm4_moe_lite",
    "mistral4",
    "youtu",
    "minicpm3",
    "axk1",
    "axk2",
]
READERS: dict[str, Reader] = {
    **dict.fromkeys(_HEADS_ALIKE, _grouped),
    **{
        name: partial(_grouped, n_kv_heads=kv, head_dim=width)
        for name, (kv, width) in _OWN_NUMBERS.items()
    },
    **_WINDOWED,
    **dict.fromkeys(_LATENTS, _latent),
    "deepseek_v4": _deepseek_v4,
    "falcon": _falcon,
    **dict.fromkeys(("gpt2", "gpt_neox", "gptj", "opt"), _heads_alike),
    "gemma4_text": _gemma4,
    "kimi_k3": partial(_kimi_linear, spare_taps=1),
    "kimi_linear": _kimi_linear,
    "longcat_flash": partial(_latent, copies=2),
    "mimo_v2_flash": _mimo,
    "minimax_m3": _minimax_m3,
    "minimax_m3_vl_text": _minimax_m3,
    "nemotron_h": _nemotron_h,
    "nemotron-nas": read_blocks,
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _gated_delta),
    "step3p7": _step,
}
