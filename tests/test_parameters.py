"""Weights counted from fields, against transformers' own models and the figures on their cards."""

from decimal import Decimal

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM

from mla_viz.findings.memory import memory
from mla_viz.published.builds import BUILDS
from mla_viz.published.catalog import published_models
from mla_viz.published.config_json import open_config, read_config
from tests.configs import CONFIGS, COUNTED, TINY

FLAGS = (
    {},
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False},
    {"attention_bias": True},
    {"mlp_bias": True},
    {"use_bias": True, "use_qk_norm": True, "use_qkv_bias": True, "lm_head_bias": True},
    {"parallel_attn": False},
    {"q_lora_rank": None, "decoder_sparse_step": 2, "n_shared_experts": 2},
)


def own_counts(kind, fields):
    """All weights of transformers' own model, and those left when idle experts are taken out."""
    config = AutoConfig.for_model(kind, **fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    idle = 0
    for name, weights in model.named_parameters():
        if ".experts." in name:
            chosen = next(
                getattr(config, field)
                for field in ("top_k_experts", "moe_k", "num_experts_per_tok")
                if getattr(config, field, None)
            )
            idle += weights.numel() // len(weights) * (len(weights) - chosen)
    return model.num_parameters(), model.num_parameters() - idle


@pytest.mark.parametrize("kind", sorted(set(BUILDS) & set(COUNTED)))
def test_weights_equal_those_of_transformers_own_model(kind):
    found = read_config({"model_type": kind, **COUNTED[kind]})
    assert (found.params, found.active_params) == own_counts(kind, COUNTED[kind])


@pytest.mark.parametrize("kind", sorted(set(BUILDS) & set(COUNTED)))
def test_a_count_is_right_or_there_is_none(kind):
    for flags in FLAGS:
        fields = {**COUNTED[kind], **flags}
        try:
            own = own_counts(kind, fields)
        except (StrictDataclassError, TypeError, ValueError):
            continue  # no such model
        found = read_config({"model_type": kind, **fields})
        assert (found.params, found.active_params) in {own, (None, None)}, flags


CARDS = {  # billions as the makers print them: all, at work, and whether the input table is at work
    "Qwen--Qwen3-0.6B": ("0.6", "0.6", True),
    "Qwen--Qwen3-30B-A3B": ("30.5", "3.3", True),
    "XiaomiMiMo--MiMo-V2-Flash": ("309", "15", True),
    "deepseek-ai--DeepSeek-V3": ("671", "37", False),
    "deepseek-ai--DeepSeek-V4-Pro": ("1600", "49", False),
    "google--gemma-4-26B-A4B": ("25.2", "3.8", True),
    "meta-llama--Meta-Llama-3.1-8B": ("8.03", "8.03", True),
    "mistralai--Mixtral-8x7B-v0.1": ("46.7", "12.9", True),
    "moonshotai--Kimi-K2-Instruct": ("1000", "32", False),
    "nvidia--Nemotron-H-56B-Base-8K": ("56", "56", True),
    "openai--gpt-oss-120b": ("116.8", "5.1", False),
}


TABLE = {  # the same of models that the table knows by their fields
    "DeepSeek-V2": ("236", "21", True),
    "DeepSeek-V2-Lite": ("15.7", "2.4", False),
    "DeepSeek-V4-Flash": ("284", "13", False),
    "Falcon-7B": ("7", "7", True),
    "GLM-4.7-Flash": ("30", "3", True),
    "GLM-5": ("744", "40", False),
    "GPT-2 small": ("0.124", "0.124", True),
    "GPT-3 175B": ("175", "175", True),
    "Gemma-3-27B": ("27", "27", True),
    "Llama-2-7B": ("6.7", "6.7", True),
    "Llama-2-70B": ("69", "69", True),
    "Llama-3-70B": ("70.6", "70.6", True),
    "Llama-3.1-405B": ("405", "405", True),
    "Mistral-7B-v0.1": ("7.24", "7.24", True),
    "Qwen2.5-0.5B": ("0.49", "0.49", True),
    "Qwen2.5-1.5B": ("1.54", "1.54", True),
    "Qwen2.5-3B": ("3.09", "3.09", True),
    "Qwen2.5-7B": ("7.61", "7.61", True),
    "Qwen2.5-72B": ("72.7", "72.7", True),
    "Qwen3-1.7B": ("1.7", "1.7", True),
    "Qwen3-4B": ("4.0", "4.0", True),
    "Qwen3-8B": ("8.2", "8.2", True),
    "Qwen3-14B": ("14.8", "14.8", True),
    "Qwen3-32B": ("32.8", "32.8", True),
    "Qwen3-235B-A22B": ("235", "22", True),
}


def check(found, config, every, working, looked_up):
    """Both counts within the last digit that is printed; 3.3 and 3.35 pass, 3.3 and 3.4 do not."""
    table = 0 if looked_up else config["vocab_size"] * config["hidden_size"]
    for printed, count in ((every, found.params), (working, found.active_params - table)):
        figure = Decimal(printed) if "." in printed else Decimal(printed).normalize()
        last_digit = Decimal(10) ** figure.as_tuple().exponent
        assert abs(Decimal(count) / 10**9 - figure) < last_digit


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="published configs are not beside the checkout")
@pytest.mark.parametrize("name", CARDS)
def test_counts_are_the_figures_on_the_cards_to_their_last_digit(name):
    config = open_config(CONFIGS / f"{name}.json")
    check(memory(config), config.get("text_config", config), *CARDS[name])


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_the_table_are_the_figures_on_the_cards(name):
    row = published_models()[name]
    assert "weights as published" not in row.source
    check(row.cached, row.config, *TABLE[name])


def test_what_is_not_counted_is_published_or_unknown():
    published = {n: m for n, m in published_models().items() if "weights as published" in m.source}
    assert set(published) == {
        "DeepSeek-67B",
        "DeepSeek-LLM-7B",
        "Falcon-180B",
        "Kimi-K3",
        "LongCat-Flash",
    }
    for model in published.values():
        assert read_config(model.config).params is None
        cached = model.cached
        assert (cached.active_params or cached.params) <= cached.params


@pytest.mark.parametrize("missing", ["vocab_size", "intermediate_size", "num_local_experts"])
def test_without_a_field_the_cache_is_known_and_the_weights_are_not(missing):
    fields = {"model_type": "mixtral", **TINY["mixtral"]}
    del fields[missing]
    found = memory(fields)
    assert found.elems_per_token > 0
    assert (found.params, found.active_params) == (None, None)


def test_a_layout_that_is_not_counted_has_no_weights_rather_than_anothers():
    blocks = {"block_configs": [{"attention": {"n_heads_in_group": 2}}] * 4}
    for fields in (blocks, {"model_type": "step3p7"}, {"model_type": "kimi_k3", **TINY["llama"]}):
        record = {"model_type": "llama", **TINY["kimi_linear"], **fields}
        assert read_config(record).params is None
    assert read_config({"model_type": "kimi_linear", **TINY["kimi_linear"]}).params > 0


def test_an_output_table_is_tied_as_the_outer_config_says():
    text = {"model_type": "qwen3_vl_text", **TINY["qwen3"]}
    nested = {"model_type": "qwen3_vl", "text_config": text}
    tied = read_config({**nested, "tie_word_embeddings": True})
    untied = read_config({**nested, "tie_word_embeddings": False})
    assert untied.params - tied.params == 64 * 32
