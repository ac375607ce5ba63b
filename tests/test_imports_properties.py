"""Whatever is read agrees with transformers' own cache; whatever cannot be read is one line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from mla_viz.findings.memory import memory
from mla_viz.published.config_json import read_config
from mla_viz.published.layers import CachedModel
from tests.configs import CONFIGS, COUNTED, EXPERTS, SMALL
from tests.test_imports import held_by

sizes = st.integers(1, 9)


@st.composite
def grouped(draw):
    heads = draw(st.sampled_from([1, 2, 4, 8]))
    kv = draw(st.sampled_from([n for n in (1, 2, 4, 8) if heads % n == 0]))
    width = 2 * draw(st.integers(1, 6))
    return {"num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": width}


@st.composite
def latents(draw):
    heads = draw(st.sampled_from([1, 2, 4]))
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "kv_lora_rank": draw(sizes),
        "q_lora_rank": draw(sizes | st.none()),
        "qk_rope_head_dim": 2 * draw(sizes),
        "qk_nope_head_dim": draw(sizes),
        "v_head_dim": draw(sizes),
        "first_k_dense_replace": 9,
    }


@st.composite
def models(draw):
    """A tiny config of each main kind: GQA, MLA, windows on all or some layers, a hybrid."""
    kind = draw(
        st.sampled_from(["qwen3", "deepseek_v3", "mistral", "gemma3_text", "gpt_oss", "qwen3_next"])
    )
    n = draw(st.integers(1, 5))
    fields = {**SMALL, **EXPERTS, "num_hidden_layers": n, "model_type": kind}
    fields |= draw(latents() if kind == "deepseek_v3" else grouped())
    windows = st.lists(
        st.sampled_from(["sliding_attention", "full_attention"]), min_size=n, max_size=n
    )
    if kind in ("mistral", "gemma3_text", "gpt_oss"):
        fields["sliding_window"] = draw(st.integers(2, 9))
    if kind in ("gemma3_text", "gpt_oss"):
        fields["layer_types"] = draw(windows)
    if kind == "qwen3_next":
        names = st.sampled_from(["linear_attention", "full_attention"])
        others = draw(st.lists(names, min_size=n - 1, max_size=n - 1))
        fields["layer_types"] = [*others, "full_attention"]  # transformers counts tokens by one
        keys = draw(st.integers(1, 3))
        fields |= {
            "linear_num_key_heads": keys,
            "linear_num_value_heads": keys * draw(st.integers(1, 2)),
            "linear_key_head_dim": 2 * draw(sizes),
            "linear_value_head_dim": 2 * draw(sizes),
            "linear_conv_kernel_dim": draw(st.integers(2, 4)),
            "shared_expert_intermediate_size": 8,
        }
    return fields


def expected(part, tokens):
    """What transformers holds of it: a full window has dropped its oldest row already."""
    full = part.window is not None and tokens >= part.window
    return part.elems(tokens) - full * part.width * part.vectors


@given(models(), st.integers(1, 12))
@settings(max_examples=150)
def test_any_geometry_holds_what_transformers_holds(fields, tokens):
    kind = fields["model_type"]
    own = {name: value for name, value in fields.items() if name != "model_type"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **own))
    found = read_config(fields)
    assert sum(expected(part, tokens) for part in found.kept) == held_by(model, tokens)
    assert found.params == model.num_parameters()


FILES = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.json"))]
SEEDS = FILES + [{"model_type": kind, **fields} for kind, fields in COUNTED.items()]
nonsense = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["full_attention", "llama", "kimi_linear", "M*-E", 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@st.composite
def broken(draw):
    """A published or a tiny config with some of its fields gone, swapped or made nonsense."""
    record = json.loads(json.dumps(draw(st.sampled_from(SEEDS))))
    places = [record, *(value for value in record.values() if isinstance(value, dict))]
    known = sorted({name for seed in SEEDS for name in seed})
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(places))
        name = draw(st.sampled_from(sorted(place) or known) | st.sampled_from(known))
        if draw(st.booleans()):
            place[name] = draw(nonsense)
        else:
            place.pop(name, None)
    return record


def read_or_refused(config):
    """A model that can be counted, or a refusal in one line."""
    try:
        found = read_config(config)
    except ValueError as refusal:
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 400
        return
    assert isinstance(found, CachedModel)
    assert memory(found).total_bytes >= 0
    assert (found.params is None) == (found.active_params is None)
    assert found.params is None or found.params >= found.active_params > 0


@given(broken())
@settings(max_examples=400)
def test_a_broken_config_is_read_or_refused(record):
    read_or_refused(record)


@given(broken(), st.data())
@settings(max_examples=100)
def test_a_cut_or_garbled_text_is_read_or_refused(record, data):
    text = json.dumps(record)
    start, end = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
    read_or_refused(text[:start] + data.draw(st.text(max_size=5)) + text[end:])


@given(nonsense)
def test_nonsense_is_refused(value):
    with pytest.raises(ValueError, match=r"config\.json") as refused:
        read_config(json.dumps(value))
    assert "\n" not in str(refused.value)
