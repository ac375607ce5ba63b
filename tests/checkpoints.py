"""Tiny random checkpoints of transformers' own classes, and what their attention gives."""

import json

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.models.mistral4.modeling_mistral4 import Mistral4ForCausalLM

from tests.configs import TINY

SEQ = 11
THETA = 100.0  # so that the slow pairs of a tiny layer turn at all
YARN = {
    "rope_type": "yarn",
    "rope_theta": THETA,
    "factor": 8.0,
    "original_max_position_embeddings": 256,
    "mscale": 0.7,
    "mscale_all_dim": 1.2,
    "beta_fast": 8,
    "beta_slow": 1,
}
PLAIN = {"rope_type": "default", "rope_theta": THETA}
BASE = {**TINY["deepseek_v3"], "qk_rope_head_dim": 8, "num_hidden_layers": 2}
SPARSE = {**BASE, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 32}
FAMILIES = {
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3", "minicpm3", "glm4_moe_lite", "youtu", "axk1", "mistral4"),
        BASE,
    ),
    "longcat_flash": {
        **BASE,
        "num_layers": 1,
        "num_hidden_layers": 2,
        "zero_expert_num": 1,
        "num_experts_per_tok": 2,
        "head_dim": 8,
    },
    "deepseek_v32": SPARSE,
    "glm_moe_dsa": SPARSE,
    "kimi_linear": {
        **BASE,
        "num_hidden_layers": 2,
        "num_experts": 4,
        "num_experts_per_token": 1,
        "linear_attn_config": {
            "full_attn_layers": [2],
            "kda_layers": [1],
            "num_heads": 4,
            "head_dim": 8,
        },
    },
}
UNTURNED = ("kimi_linear",)
SCALED = {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16}
UNSCALED = {**YARN, "factor": 1.0}  # plain RoPE: Mistral4's own class fails at rope_type default


def tiny_model(kind, rope=PLAIN, **fields):
    """A model whose attention's scores spread by more than 1, in float32."""
    if kind not in UNTURNED:
        if kind == "mistral4":
            rope = {**SCALED, **(UNSCALED if rope == PLAIN else rope)}
        fields = {"rope_parameters": dict(rope), **fields}
    config = AutoConfig.for_model(kind, **{**FAMILIES[kind], **fields})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    if kind == "mistral4":
        model = Mistral4ForCausalLM(config).eval()
    else:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if "self_attn" not in name:
            continue
        noise = torch.randn(parameter.shape)
        matrix = parameter.ndim == 2
        parameter.copy_(1.5 * noise * parameter.shape[-1] ** -0.5 if matrix else 1 + 0.3 * noise)
    return model


def attention_of(model, layer):
    """The module that load_attention counts as `layer`."""
    layers = model.model.layers
    if model.config.model_type == "longcat_flash":
        return layers[layer // 2].self_attn[layer % 2]
    return layers[layer].self_attn


def attended(model, layer, prefill, seq=SEQ):
    """What one layer's attention got and gave, `seq d_model` each, `prefill` tokens at once."""
    got, gave = [], []

    def keep(_, args, kwargs, output):
        got.append(kwargs.get("hidden_states", args[0] if args else None)[0])
        gave.append(output[0][0])

    handle = attention_of(model, layer).register_forward_hook(keep, with_kwargs=True)
    tokens = torch.arange(3, 3 + seq)[None] % model.config.vocab_size
    cache = DynamicCache(config=model.config)
    starts = [0, *range(prefill or 1, seq)]
    with torch.inference_mode():
        for start, stop in zip(starts, [*starts[1:], seq], strict=True):
            model(tokens[:, start:stop], past_key_values=cache)
    handle.remove()
    return torch.cat(got), torch.cat(gave)


def change_config(folder, **fields):
    """Write fields over those of a folder's config.json; None takes one away."""
    file = folder / "config.json"
    record = json.loads(file.read_text(encoding="utf-8")) | fields
    kept = {name: value for name, value in record.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")
