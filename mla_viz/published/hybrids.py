"""What a layer keeps where attention shares a model with layers whose state does not grow.

States are float32, as transformers computes them whatever the model's dtype; the last inputs of
their convolutions follow the model's. Knows neither transformers nor arrays nor screens.
"""

from mla_viz.config import told
from mla_viz.published.fields import MOST_LAYERS, Fields, refuse
from mla_viz.published.layers import STATE, CachedModel, Kept, Layer, grouped_label, grouped_layer
from mla_viz.published.layouts import read_latent


def _delta_states(heads: int, key: int, value: int, channels: int, taps: int) -> Layer:
    """A recurrent state of key x value a head in float32, and the last inputs of a convolution."""
    return (
        Kept(STATE, key * value, heads, fixed=True, dtype="float32"),
        Kept(STATE, channels // heads * taps, heads, fixed=True),
    )


def read_kimi_linear(fields: Fields, spare_taps: int = 0) -> CachedModel:
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
    mla = read_latent(fields)
    layers = [layer if i + 1 in whole else kda for i, layer in enumerate(mla.layers)]
    return fields.made("MLA + KDA", layers, mla.qk_head_dim, mla.v_head_dim)


def read_bailing(fields: Fields) -> CachedModel:
    """Ling 3: MLA on every so-many-th layer, KDA on the others, with heads of their own width."""
    n, heads, every = fields.n_layers, fields.n_heads, fields.whole("layer_group_size", default=6)
    width = fields.whole("head_dim", default=128)
    taps = fields.whole("short_conv_kernel_size", default=4)
    kda = _delta_states(heads, width, width, 3 * heads * width, taps)
    names = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(n)]
    mla = read_latent(fields)
    kinds = {"full_attention": mla.layers[0], "linear_attention": kda}
    layers = _by_name(fields, names, kinds)
    return fields.made("MLA + KDA", layers, mla.qk_head_dim, mla.v_head_dim)


def _by_name(fields: Fields, names: list[str], kinds: dict[str, Layer]) -> list[Layer]:
    """The layers that layer_types names, or these names where there are none."""
    if fields.get("layer_types") is not None:
        names = fields.kinds("layer_types", len(names))
    for name in names:
        if name not in kinds:
            refuse(" layer_types", " or ".join(kinds), told(name))
    return [kinds[name] for name in names]


def read_gated_delta(
    fields: Fields, n_kv_heads: int | None = 2, head_dim: int | None = 256
) -> CachedModel:
    """Qwen's hybrids: full attention on every so-many-th layer, gated delta on the others."""
    n, kv, width = fields.n_layers, fields.n_kv_heads(n_kv_heads), fields.head_dim(head_dim)
    keys, values = fields.whole("linear_num_key_heads"), fields.whole("linear_num_value_heads")
    key, value = fields.whole("linear_key_head_dim"), fields.whole("linear_value_head_dim")
    taps = fields.whole("linear_conv_kernel_dim", default=4)
    every = fields.whole("full_attention_interval", default=4)
    names = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(n)]
    channels = 2 * keys * key + values * value
    kinds = {
        "full_attention": grouped_layer(kv, width, width),
        "linear_attention": (
            Kept(STATE, key * value, values, fixed=True, dtype="float32"),
            Kept(STATE, taps, channels, fixed=True),
        ),
    }
    label = f"{grouped_label(fields.n_heads, kv)} + gated delta"
    return fields.made(label, _by_name(fields, names, kinds), width, width)


def _mamba_2(fields: Fields) -> Layer:
    """Mamba-2's state of heads x width x state, and the last inputs of its convolution."""
    heads, state = fields.whole("mamba_n_heads"), fields.whole("mamba_d_state", default=256)
    inner = fields.whole("mamba_expand", default=2) * fields.d_model
    if fields.get("mamba_d_ssm") is not None:
        inner = fields.whole("mamba_d_ssm")
    channels = inner + 2 * fields.whole("mamba_n_groups", default=1) * state
    return (
        Kept(STATE, inner // heads * state, heads, fixed=True, dtype="float32"),
        Kept(STATE, fields.whole("mamba_d_conv", default=4), channels, fixed=True),
    )


def _attention(fields: Fields, n_kv_heads: int | None) -> tuple[int, int, Layer]:
    kv, width = fields.n_kv_heads(n_kv_heads), fields.head_dim()
    return kv, width, grouped_layer(kv, width, width)


def read_mamba_2(fields: Fields) -> CachedModel:
    """GQA on a few layers, Mamba-2 on the others: Bamba and Granite 4."""
    granite = fields.get("model_type") == "granitemoehybrid"
    kv, width, whole = _attention(fields, None if granite else 8)
    state = _mamba_2(fields)
    kinds = {
        "full_attention": whole,
        "attention": whole,
        "linear_attention": state,
        "mamba": state,
    }
    chosen = fields.get("attn_layer_indices", [])
    if not isinstance(chosen, list):
        refuse(" attn_layer_indices", "a list of layers", told(chosen))
    names = ["attention" if i in chosen else "mamba" for i in range(fields.n_layers)]
    label = f"{grouped_label(fields.n_heads, kv)} + Mamba-2"
    return fields.made(label, _by_name(fields, names, kinds), width, width)


def read_falcon_h1(fields: Fields) -> CachedModel:
    """GQA and Mamba-2 side by side on every layer."""
    if "mamba_d_ssm" not in fields.record:
        refuse(" mamba_d_ssm", "a width, or null for mamba_expand times the hidden one", "none")
    kv, width, whole = _attention(fields, 8)
    layer = (*whole, *_mamba_2(fields))
    label = f"{grouped_label(fields.n_heads, kv)} beside Mamba-2"
    return fields.made(label, [layer] * fields.n_layers, width, width)


def read_jamba(fields: Fields) -> CachedModel:
    """GQA on every so-many-th layer, Mamba on the others."""
    kv, width, whole = _attention(fields, 8)
    every = fields.whole("attn_layer_period", default=8)
    first = fields.whole("attn_layer_offset", default=4, low=0)
    inner = fields.whole("mamba_expand", default=2) * fields.d_model
    state = (
        Kept(STATE, fields.whole("mamba_d_state", default=16), inner, fixed=True, dtype="float32"),
        Kept(STATE, fields.whole("mamba_d_conv", default=4), inner, fixed=True),
    )
    layers = [whole if i % every == first else state for i in range(fields.n_layers)]
    return fields.made(f"{grouped_label(fields.n_heads, kv)} + Mamba", layers, width, width)


def read_lfm2(fields: Fields) -> CachedModel:
    """GQA on the layers that are named, a short convolution on the others."""
    n, (kv, width, whole) = fields.n_layers, _attention(fields, 8)
    conv = (Kept(STATE, fields.whole("conv_L_cache", default=3), fields.d_model, fixed=True),)
    chosen = fields.get("full_attn_idxs")
    if fields.get("layer_types") is None and not isinstance(chosen, list):
        refuse(" layer_types", f"a list with an entry for each of {n} layers", told(chosen))
    names = ["full_attention" if i in (chosen or []) else "conv" for i in range(n)]
    layers = _by_name(fields, names, {"full_attention": whole, "conv": conv})
    return fields.made(f"{grouped_label(fields.n_heads, kv)} + convolution", layers, width, width)


def read_nemotron_h(fields: Fields) -> CachedModel:
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
