"""Imported configs against transformers' own caches, and against the files as published."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.mistral_large4.modeling_mistral_large4 import MistralLarge4TextModel

from mla_viz.findings.memory import memory
from mla_viz.published.config_json import open_config, read_config
from mla_viz.published.readers import DEFAULTS
from tests.configs import CONFIGS, DSA, MLA, SMALL, TINY

TOKENS = 6
PUBLISHED = {  # elements a further token adds, bytes of states a sequence, in windows at 100,000
    "MiniMaxAI--MiniMax-M3": (68_736, 0, 0),  # 60 x 1,024, and 57 indexer keys of 128
    "Qwen--Qwen3-0.6B": (57_344, 0, 0),
    "Qwen--Qwen3-30B-A3B": (49_152, 0, 0),
    "Qwen--Qwen3-VL-8B-Instruct": (73_728, 0, 0),
    "Qwen--Qwen3.5-35B-A3B": (10_240, 30 * (32 * 128 * 128 * 4 + 8192 * 4 * 2), 0),
    "XiaomiMiMo--MiMo-V2-Flash": (9 * 4 * 320, 0, 39 * 8 * 320 * 128 * 2),
    "deepseek-ai--DeepSeek-V3.2": (35_136 + 61 * 128, 0, 0),
    "deepseek-ai--DeepSeek-V3": (35_136, 0, 0),
    "deepseek-ai--DeepSeek-V4-Pro": (3_964 + 960, 0, 61 * 128 * 512 * 2),
    "google--gemma-4-26B-A4B": (5 * 2 * 2 * 512, 0, 25 * 2 * 8 * 256 * 1024 * 2),
    "meta-llama--Llama-4-Scout-17B-16E-Instruct": (12 * 2048, 0, 36 * 2048 * 8192 * 2),
    "meta-llama--Meta-Llama-3.1-8B": (65_536, 0, 0),
    "mistralai--Mixtral-8x7B-v0.1": (65_536, 0, 0),
    "moonshotai--Kimi-K2-Instruct": (35_136, 0, 0),
    "moonshotai--Kimi-K3": (13_824, 69 * 6_512_640, 0),
    "nvidia--Nemotron-H-56B-Base-8K": (
        10 * 2048,
        54 * (256 * 64 * 256 * 4 + (16_384 + 2 * 8 * 256) * 4 * 2),
        0,
    ),
    "openai--gpt-oss-120b": (18 * 1024, 0, 18 * 1024 * 128 * 2),
    "stepfun-ai--Step-3.7-Flash": (12 * 2048, 0, 33 * 2048 * 512 * 2),
    "zai-org--GLM-5.2": (44_928 + 2_688, 0, 0),
    "zai-org--GLM-5": (44_928 + 9_984, 0, 0),
}


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="published configs are not beside the checkout")
def test_every_published_file_is_read():
    found = {}
    for path in CONFIGS.glob("*.json"):
        m = memory(open_config(path), 100_000)
        found[path.stem] = (m.elems_per_token, m.fixed_bytes, m.window_bytes)
    assert found == PUBLISHED


REFUSED = {
    '{"model_type": "llama", "model_type": "llama"}': "each field once",
    "[" * 100_000: "levels of nesting",
    "[]": "an object",
    "{": "expected JSON",
    '{"a": ' + "9" * 5000 + "}": "4,300 digits",
    "{" + " " * 5_000_000 + "}": "at most 2,000,000 characters",
    "{}": "model_type: expected",
    '{"model_type": "mystery"}': "'mystery'",
    '{"model_type": "llama"}': "num_",
    '{"model_type": ["llama"]}': "model_type",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_config_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=REFUSED[text]) as refused:
        read_config(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


LLAMA = {"model_type": "llama", **SMALL}


@pytest.mark.parametrize(
    "field", ["num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
)
@pytest.mark.parametrize("value", [-1, 0, 10**30, 1.5, "8", True, float("nan"), [], {}])
def test_impossible_numbers_are_refused_by_the_name_of_their_field(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected a whole number"):
        read_config({**LLAMA, field: value})


@pytest.mark.parametrize("kind", ["kimi_k2", "kimi_linear", "nemotron_h", "deepseek_v4"])
def test_a_known_layout_without_its_fields_is_refused(kind):
    with pytest.raises(ValueError, match=r"config\.json"):
        read_config({**SMALL, "model_type": kind})


@pytest.mark.parametrize(
    ("kind", "field"),
    [("minimax_m3", "sparse_attention_config"), ("kimi_linear", "linear_attn_config")],
)
def test_what_should_be_an_object_and_is_none_is_refused(kind, field):
    with pytest.raises(ValueError, match=f"{field}: expected an object"):
        read_config({**MLA, "model_type": kind, field: [1]})


def test_heads_of_each_layer_are_read_from_block_configs():
    blocks = [
        {"attention": {"n_heads_in_group": 2}},
        {"attention": {"no_op": True, "n_heads_in_group": None}},
        {"attention": {"n_heads_in_group": 4}},
        {"attention": {"replace_with_linear": True}},
    ]
    model = read_config({**SMALL, "model_type": "nemotron-nas", "block_configs": blocks})
    assert [sum(part.elems(1) for part in layer) for layer in model.layers] == [32, 0, 16, 0]


def test_indexers_every_so_often_are_those_that_indexer_types_lists():
    dsa = {"model_type": "glm_moe_dsa", **DSA, "num_hidden_layers": 11}
    spaced = read_config({**dsa, "index_topk_freq": 4, "index_skip_topk_offset": 3})
    owners = [i for i, layer in enumerate(spaced.layers) if layer[-1].part == "indexer key"]
    assert owners == [0, 1, 2, 6, 10]  # as GLM-5.2 lists them


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"index_topk_freq": 3},
        {"index_topk_freq": 4, "index_skip_topk_offset": 1},
        {"index_topk_pattern": "FSSFSSSFFSS"},
    ],
)
def test_indexers_are_on_the_layers_where_the_class_has_them(fields):
    dsa = {**DSA, "num_hidden_layers": 11, **fields}
    own = AutoConfig.for_model("glm_moe_dsa", **dsa).indexer_types
    ours = read_config({"model_type": "glm_moe_dsa", **dsa}).layers
    assert [layer[-1].part == "indexer key" for layer in ours] == [x == "full" for x in own]


def test_a_window_that_is_switched_off_is_none():
    off = {"model_type": "qwen2", **SMALL, "sliding_window": 4, "use_sliding_window": False}
    assert all(part.grows for part in read_config(off).kept)
    on = {**off, "use_sliding_window": True, "max_window_layers": 3}
    assert [part.window for part in read_config(on).kept] == [None] * 6 + [4, 4]


def tensors(thing, seen):
    """Every tensor that a cache holds, each once, wherever its layers keep it."""
    if isinstance(thing, torch.Tensor):
        if thing.is_floating_point() and thing.numel():
            seen.setdefault(thing.data_ptr(), thing)
    elif isinstance(thing, dict):
        for each in thing.values():
            tensors(each, seen)
    elif isinstance(thing, list | tuple):
        for each in thing:
            tensors(each, seen)
    return seen


def held_by(model, tokens=TOKENS):
    """Elements of a model's own cache after so many tokens."""
    with torch.no_grad():
        cache = model.eval()(torch.arange(3, 3 + tokens)[None], use_cache=True).past_key_values
    held = {}
    for layer in cache.layers:
        tensors(vars(layer), held)
    return sum(tensor.numel() for tensor in held.values())


@pytest.mark.parametrize("kind", TINY)
def test_elements_equal_those_of_transformers_own_cache(kind):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY[kind]))
    found = read_config({"model_type": kind, **TINY[kind]})
    assert sum(part.elems(TOKENS) for part in found.kept) == held_by(model)


@pytest.mark.parametrize("owners", [[0, 1, 2, 3], [0, 1, 0, 3], [0, 0, 0, 3]])
def test_layers_that_read_anothers_latents_keep_none(owners):
    fields = {**DSA, "kv_source_layers": owners, "indexer_types": ["full"] * 3 + ["shared"]}
    model = MistralLarge4TextModel(AutoConfig.for_model("mistral_large4_text", **fields))
    found = read_config({"model_type": "mistral_large4_text", **fields})
    assert sum(part.elems(TOKENS) for part in found.kept) == held_by(model)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_a_file_leaves_out_is_what_the_class_takes(kind):
    config = AutoConfig.for_model(kind)
    assert {name: getattr(config, name) for name in DEFAULTS[kind]} == DEFAULTS[kind]


def test_a_width_that_is_null_is_not_one_that_is_missing():
    record = {"model_type": "falcon_h1", **TINY["falcon_h1"]}
    states = [memory({**record, "mamba_d_ssm": width}).fixed_bytes for width in (None, 64, 128)]
    assert states[0] == states[1] < states[2]
    del record["mamba_d_ssm"]
    with pytest.raises(ValueError, match="mamba_d_ssm: expected a width, or null"):
        read_config(record)


def test_an_older_gemma_3_is_read_by_its_class():
    text = {"hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}
    nested = {"model_type": "gemma3", "text_config": {**text, "model_type": "gemma3_text"}}
    assert memory(nested).elems_per_token == 5 * 2 * 4 * 256
