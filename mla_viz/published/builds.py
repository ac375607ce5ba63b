"""Which class builds what: its norms, its biases, its experts and on which layers they are.

Each row holds what the class takes where a file leaves a field out. Knows no counting.
"""

from dataclasses import replace
from functools import partial

from mla_viz.published.build import (
    ATTENTION,
    MLP,
    Build,
    Experts,
    beside_an_index,
    compressed,
    latent,
    one_projection,
    or_gated_delta,
    or_kda,
    or_mamba,
    streams,
)
from mla_viz.published.fields import Fields, refuse


def _after(fields: Fields, first: int) -> list[bool | None]:
    """Experts by mlp_layer_types, or from first_k_dense_replace on."""
    n = fields.n_layers
    if fields.get("mlp_layer_types") is not None:
        return [name == "sparse" for name in fields.kinds("mlp_layer_types", n)]
    if isinstance(fields.get("moe_layer_freq"), list):
        return [x > 0 for x in fields.numbers("moe_layer_freq", n)]
    every = fields.whole("moe_layer_freq", default=1)
    if every != 1:
        refuse(" moe_layer_freq", "1", str(every))
    start = fields.whole("first_k_dense_replace", default=first, low=0)
    return [i >= start for i in range(n)]


def _typed(fields: Fields) -> list[bool | None]:
    """Experts by mlp_layer_types alone, or on all but the first layer."""
    names = fields.get("mlp_layer_types") or ["dense"] + ["sparse"] * (fields.n_layers - 1)
    return _after(Fields({**fields.record, "mlp_layer_types": names}), 1)


def _stepped(fields: Fields) -> list[bool | None]:
    """Qwen's: each so-many-th layer, but for those that mlp_only_layers names."""
    step, dense = fields.whole("decoder_sparse_step", default=1), fields.get("mlp_only_layers", [])
    if not isinstance(dense, list):
        refuse(" mlp_only_layers", "a list of layers", "another")
    return [(i + 1) % step == 0 and i not in dense for i in range(fields.n_layers)]


def _interleaved(fields: Fields) -> list[bool | None]:
    """Llama 4's: those of moe_layers, or each so-many-th."""
    chosen, n = fields.get("moe_layers"), fields.n_layers
    if isinstance(chosen, list):
        return [i in chosen for i in range(n)]
    step = fields.whole("interleave_moe_layer_step", default=1)
    return [(i + 1) % step == 0 for i in range(n)]


def _between(fields: Fields) -> list[bool | None]:
    """ERNIE's: each so-many-th layer from a first to a last."""
    n, every = fields.n_layers, fields.whole("moe_layer_interval", default=1)
    first = fields.whole("moe_layer_start_index", default=1, low=0)
    last = fields.whole("moe_layer_end_index", default=-1, low=-1)
    last = n - 1 if last == -1 else last
    return [(i + 1) % every == 0 and first <= i <= last for i in range(n)]


def _lettered(fields: Fields) -> list[bool | None]:
    """Nemotron-H's: E has experts, - a dense block, the other letters neither."""
    return [{"E": True, "-": False}.get(x) for x in str(fields.get("hybrid_override_pattern"))]


def _beside_a_dense(fields: Fields) -> list[bool | None]:
    """Gemma 4's: on every layer or on none, always with a dense block."""
    return [fields.get("enable_moe_block") is True] * fields.n_layers


def _side_by_side(fields: Fields) -> int:
    """Falcon's attention and block stand under one norm, unless the file says otherwise."""
    if fields.get("parallel_attn", True) is not True:
        refuse(" parallel_attn", "true", "blocks one after the other")
    return 0


def _several(fields: Fields, *names: str, default: int | None = 1) -> int:
    """So many shared experts side by side, each as wide as the others."""
    return fields.whole(*names, default=default, low=0) * fields.whole("moe_intermediate_size")


def _deepseek(first: int, shared: int | None = 1, norms: int = 0) -> Experts:
    return Experts(
        count="n_routed_experts",
        norms=norms,
        sparse=partial(_after, first=first),
        shared=lambda fields: _several(fields, "n_shared_experts", default=shared),
    )


_BIASED = partial(Build, qkv_bias=ATTENTION, out_bias=ATTENTION)
_LLAMA = _BIASED(mlp_bias=MLP)
_LATENT = partial(Build, attention=latent, qkv_bias=ATTENTION)
_LOCAL = Experts("num_local_experts", "intermediate_size")
_BESIDE = partial(
    Experts,
    shared=lambda fields: fields.whole("shared_expert_intermediate_size"),
    shared_gate=True,
)
_DELTA = partial(
    _BIASED,
    qk_norm="head",
    attention=or_gated_delta,
    gate=True,
)
_USE_BIAS = ("use_bias", False)
_STARCODER = ("use_bias", True)
BUILDS = {
    "apertus": _BIASED(matrices=2, qk_norm="head", further=2),
    "arcee": _BIASED(mlp_bias=MLP, matrices=2),
    "axk1": _LATENT(experts=_deepseek(1, norms=1)),
    "bitnet": _BIASED(sub_norms=True),
    "cohere": _BIASED(tied=True, norms=1, qk_norm="whole", normed=("use_qk_norm", False)),
    "cohere2": _BIASED(tied=True, norms=1),
    "cwm": Build(mlp_bias=MLP),
    "deepseek_v2": _LATENT(experts=_deepseek(0, shared=2), unknown=("mlp_bias",)),
    "deepseek_v3": _LATENT(experts=_deepseek(3)),
    "deepseek_v32": _LATENT(experts=_deepseek(3)),
    "deepseek_v4": Build(
        attention=compressed,
        unknown=("mlp_bias",),
        apart=streams,
        experts=Experts(
            "n_routed_experts", shared=lambda fields: _several(fields, "n_shared_experts")
        ),
    ),
    "dots1": _BIASED(qk_norm="head", experts=_deepseek(0, shared=None)),
    "ernie4_5": Build(tied=True, qkv_bias=_USE_BIAS, out_bias=_USE_BIAS, mlp_bias=_USE_BIAS),
    "ernie4_5_moe": Build(
        tied=True,
        experts=Experts(
            "moe_num_experts",
            chosen="moe_k",
            sparse=_between,
            shared=lambda fields: _several(fields, "moe_num_shared_experts", default=2),
            router=1,
        ),
        unknown=("use_bias",),
    ),
    "exaone4": Build(qk_norm="head"),
    "exaone_moe": Build(
        qk_norm="head",
        experts=Experts(
            sparse=partial(_after, first=1),
            shared=lambda fields: _several(fields, "num_shared_experts"),
        ),
    ),
    "falcon": Build(
        tied=True,
        qkv_bias=("bias", False),
        out_bias=("bias", False),
        mlp_bias=("bias", False),
        norms=1,
        norm=2,
        matrices=2,
        width="ffn_hidden_size",
        times=4,
        apart=_side_by_side,
        unknown=("alibi", "new_decoder_architecture", "num_ln_in_parallel_attn"),
    ),
    "flex_olmo": _BIASED(qk_norm="whole", experts=Experts(width="intermediate_size")),
    "gemma": _BIASED(tied=True),
    "gemma2": _BIASED(tied=True, norms=4),
    "gemma3_text": _BIASED(tied=True, norms=4, qk_norm="head"),
    "gemma4_text": _BIASED(
        tied=True,
        norms=4,
        qk_norm="head",
        attention=one_projection,
        unknown=("num_kv_shared_layers",),
        experts=Experts(
            chosen="top_k_experts",
            sparse=_beside_a_dense,
            shared=lambda fields: fields.whole("intermediate_size"),
            router=1,
            norms=4,
        ),
    ),
    "glm": Build(qkv_bias=("attention_bias", True)),
    "glm4": Build(norms=4, qkv_bias=("attention_bias", True)),
    "glm4_moe": Build(
        qkv_bias=ATTENTION, qk_norm="head", normed=("use_qk_norm", False), experts=_deepseek(1)
    ),
    "glm4_moe_lite": _LATENT(experts=replace(_deepseek(1), sparse=_typed)),
    "glm_moe_dsa": _LATENT(experts=_deepseek(3)),
    "gpt2": Build(
        tied=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm=2,
        matrices=2,
        width="n_inner",
        times=4,
        positions="n_positions",
    ),
    "gpt_neox": Build(
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        mlp_bias=True,
        norm=2,
        matrices=2,
    ),
    "gpt_oss": Build(
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        mlp_bias=True,
        sinks="every",
        experts=Experts("num_local_experts", "intermediate_size", router=1),
    ),
    "granite": _LLAMA,
    "granitemoe": _BIASED(experts=_LOCAL),
    "helium": Build(qkv_bias=ATTENTION, mlp_bias=MLP),
    "hunyuan_v1_dense": _BIASED(qk_norm="head"),
    "hy_v3": _BIASED(
        unknown=("mlp_bias",),
        qk_norm="head",
        experts=Experts(
            sparse=partial(_after, first=1),
            shared=lambda fields: _several(fields, "num_shared_experts"),
        ),
    ),
    "iquestcoder": _LLAMA,
    "kimi_k2": _LATENT(experts=_deepseek(3, shared=None)),
    "kimi_linear": Build(
        attention=or_kda,
        unknown=(
            "attention_bias",
            "mla_use_output_gate",
            "routed_expert_hidden_size",
            "tie_word_embeddings",
        ),
        experts=Experts(
            chosen="num_experts_per_token",
            sparse=partial(_after, first=1),
            shared=lambda fields: _several(fields, "num_shared_experts", "n_shared_experts"),
        ),
    ),
    "llama": _LLAMA,
    "llama4_text": _BIASED(
        width="intermediate_size_mlp",
        experts=Experts(
            "num_local_experts",
            "intermediate_size",
            sparse=_interleaved,
            shared=lambda fields: fields.whole("intermediate_size"),
        ),
    ),
    "mimo_v2_flash": Build(
        qkv_bias=ATTENTION,
        sinks="window",
        experts=Experts("n_routed_experts", sparse=partial(_after, first=1)),
    ),
    "minicpm3": _LATENT(tied=True, mlp_bias=MLP),
    "minimax_m2": Build(qk_norm="whole", experts=_LOCAL),
    **dict.fromkeys(
        ("minimax_m3", "minimax_m3_vl_text"),
        Build(
            qk_norm="head",
            width="dense_intermediate_size",
            attention=beside_an_index,
            experts=Experts(
                "num_local_experts",
                "intermediate_size",
                sparse=partial(_after, first=0),
                shared=lambda fields: fields.whole("shared_intermediate_size"),
            ),
        ),
    ),
    "ministral": Build(),
    "ministral3": Build(),
    "mistral": Build(),
    "mistral4": _LATENT(experts=_deepseek(0)),
    "mixtral": Build(experts=_LOCAL),
    "nemotron": _BIASED(mlp_bias=MLP, matrices=2, norm=2),
    "nemotron_h": Build(
        norms=1,
        matrices=2,
        attention=or_mamba,
        unknown=(
            "mamba_proj_bias",
            "mlp_bias",
            "moe_latent_size",
            "tie_word_embeddings",
            "use_bias",
        ),
        experts=Experts(
            "n_routed_experts",
            sparse=_lettered,
            shared=lambda fields: fields.whole("moe_shared_expert_intermediate_size"),
        ),
    ),
    "olmo": _BIASED(norm=0),
    "olmo2": _BIASED(qk_norm="whole"),
    "olmo3": _BIASED(qk_norm="whole"),
    "olmoe": _BIASED(qk_norm="whole", experts=Experts(width="intermediate_size")),
    "phi": Build(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        norms=1,
        norm=2,
        matrices=2,
        unknown=("qk_layernorm",),
    ),
    "phi3": Build(),
    "phimoe": _BIASED(norm=2, head_bias=("lm_head_bias", False), experts=_LOCAL),
    "qwen2": Build(qkv_bias=True),
    "qwen2_moe": Build(qkv_bias=("qkv_bias", True), experts=_BESIDE(sparse=_stepped)),
    "qwen3": _BIASED(qk_norm="head"),
    "qwen3_5_moe_text": _DELTA(experts=_BESIDE()),
    "qwen3_5_text": _DELTA(),
    "qwen3_moe": _BIASED(qk_norm="head", experts=Experts(sparse=_stepped)),
    "qwen3_next": _DELTA(experts=_BESIDE(sparse=_stepped)),
    "qwen3_vl_text": _BIASED(qk_norm="head"),
    "seed_oss": Build(
        qkv_bias=("attention_bias", True), out_bias=("attention_out_bias", False), mlp_bias=MLP
    ),
    "smollm3": _BIASED(tied=True, mlp_bias=MLP),
    "solar_open": Build(qkv_bias=ATTENTION, experts=_deepseek(0)),
    "stablelm": Build(
        norm=2, qkv_bias=("use_qkv_bias", False), unknown=("qk_layernorm", "use_parallel_residual")
    ),
    "starcoder2": Build(
        tied=True, qkv_bias=_STARCODER, out_bias=_STARCODER, mlp_bias=_STARCODER, matrices=2, norm=2
    ),
    "vaultgemma": _BIASED(tied=True),
    "youtu": _LATENT(tied=True),
}
