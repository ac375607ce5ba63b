"""Which model_type has which layout, and what its class takes where a file leaves a field out."""

from functools import partial
from typing import Any

from mla_viz.published.hybrids import (
    read_bailing,
    read_falcon_h1,
    read_gated_delta,
    read_jamba,
    read_kimi_linear,
    read_lfm2,
    read_mamba_2,
    read_nemotron_h,
)
from mla_viz.published.layouts import (
    Reader,
    by_names,
    by_type,
    everywhere,
    read_blocks,
    read_deepseek_v4,
    read_dots3,
    read_falcon,
    read_gemma3n,
    read_gemma4,
    read_gpt_bigcode,
    read_grouped,
    read_heads_alike,
    read_hy_v4,
    read_latent,
    read_mimo,
    read_minimax_m3,
    read_mistral_large4,
    read_step,
    switched,
    typed_or_everywhere,
    unrotated,
    upper,
)

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
    "diffllama",
    "doge",
    "flex_olmo",
    "granitemoeshared",
    "hyperclovax",
    "jais2",
    "nanochat",
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
    "glm4v_text": (2, None),
    "hy_v3": (8, 128),
    "internlm3": (2, 128),
    "iquestcoder": (8, 128),
    "solar_open": (8, 128),
}
_WINDOWED = {
    "mistral": partial(read_grouped, windows=everywhere, n_kv_heads=8),
    "mixtral": partial(read_grouped, windows=everywhere, n_kv_heads=8),
    "phi3": partial(read_grouped, windows=everywhere),
    "phimoe": partial(read_grouped, windows=everywhere, n_kv_heads=8),
    "starcoder2": partial(read_grouped, windows=everywhere, n_kv_heads=2),
    "qwen2": partial(read_grouped, windows=upper, n_kv_heads=32),
    "qwen2_moe": partial(read_grouped, windows=upper, n_kv_heads=16),
    "qwen3": partial(read_grouped, windows=upper, n_kv_heads=32, head_dim=128),
    "gemma2": partial(
        read_grouped, windows=partial(by_type, every=2, default=4096), n_kv_heads=4, head_dim=256
    ),
    "gemma3_text": partial(
        read_grouped, windows=partial(by_type, every=6, default=4096), n_kv_heads=4, head_dim=256
    ),
    "ministral": partial(read_grouped, windows=typed_or_everywhere, n_kv_heads=8),
    "ministral3": partial(read_grouped, windows=everywhere, n_kv_heads=8, head_dim=128),
    "afmoe": partial(read_grouped, windows=partial(by_type, every=4, default=1024), head_dim=128),
    "cohere2_moe": partial(
        read_grouped, windows=partial(by_type, every=4, default=4096), head_dim=128
    ),
    "exaone_moe": partial(read_grouped, windows=partial(by_type, every=4, default=4096)),
    "vaultgemma": partial(
        read_grouped, windows=partial(by_type, every=2, default=4096), n_kv_heads=4, head_dim=256
    ),
    "dots1": partial(read_grouped, windows=partial(upper, first=62, switch=False)),
    "smollm3": partial(read_grouped, windows=switched, n_kv_heads=4),
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"),
        partial(read_grouped, windows=partial(upper, first=80), n_kv_heads=8),
    ),
    # these classes begin with a full layer; their files name the windows
    "cwm": partial(read_grouped, windows=by_names, n_kv_heads=8, head_dim=128),
    "granite_swa": partial(read_grouped, windows=by_names, n_kv_heads=4),
    "granitemoe_swa": partial(read_grouped, windows=by_names),
    "exaone4": partial(read_grouped, windows=partial(by_type, every=4, default=4096)),
    "cohere2": partial(read_grouped, windows=partial(by_type, every=4, default=4096)),
    "olmo3": partial(read_grouped, windows=partial(by_type, every=4, default=4096)),
    "gpt_oss": partial(
        read_grouped, windows=partial(by_type, every=2, default=128), n_kv_heads=8, head_dim=64
    ),
    "llama4_text": partial(read_grouped, windows=unrotated, n_kv_heads=8, head_dim=128),
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
    "sarvam_mla",
]
_V3 = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
_DSA = {"index_topk": 2048, "index_head_dim": 128}
DEFAULTS: dict[str, dict[str, Any]] = {  # of the class, for files that leave them out
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), _V3),
    "deepseek_v32": {**_V3, **_DSA, "index_n_heads": 64},
    "glm_moe_dsa": {**_V3, **_DSA, "index_n_heads": 32, "qk_nope_head_dim": 192, "v_head_dim": 256},
    "axk2": {**_DSA, "index_n_heads": 16},
    "gemma3_text": {"num_attention_heads": 8, "vocab_size": 262208},
}
READERS: dict[str, Reader] = {
    **dict.fromkeys(_HEADS_ALIKE, read_grouped),
    **{
        name: partial(read_grouped, n_kv_heads=kv, head_dim=width)
        for name, (kv, width) in _OWN_NUMBERS.items()
    },
    **_WINDOWED,
    **dict.fromkeys(_LATENTS, read_latent),
    "deepseek_v4": read_deepseek_v4,
    "falcon": read_falcon,
    **dict.fromkeys(
        ("biogpt", "bloom", "codegen", "gpt2", "gpt_neox", "gptj", "mpt", "opt", "persimmon"),
        read_heads_alike,
    ),
    "bailing_hybrid": read_bailing,
    **dict.fromkeys(("bamba", "granitemoehybrid"), read_mamba_2),
    "falcon_h1": read_falcon_h1,
    "gemma3n_text": read_gemma3n,
    "gpt_bigcode": read_gpt_bigcode,
    "hy_v4": read_hy_v4,
    "jamba": read_jamba,
    **dict.fromkeys(("lfm2", "lfm2_moe"), read_lfm2),
    "olmo_hybrid": partial(read_gated_delta, n_kv_heads=None, head_dim=None),
    "gemma4_text": read_gemma4,
    "kimi_k3": partial(read_kimi_linear, spare_taps=1),
    "kimi_linear": read_kimi_linear,
    "longcat_flash": partial(read_latent, copies=2),
    "dots3_note_text": read_dots3,
    "mimo_v2_flash": read_mimo,
    "mistral_large4_text": read_mistral_large4,
    "minimax_m3": read_minimax_m3,
    "minimax_m3_vl_text": read_minimax_m3,
    "nemotron_h": read_nemotron_h,
    "nemotron-nas": read_blocks,
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), read_gated_delta),
    "step3p7": read_step,
}
