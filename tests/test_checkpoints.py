"""One layer of a checkpoint against the attention of transformers' own model of that family."""

import atexit
import json
import re
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import mla_viz
from mla_viz.checkpoints.families import FAMILIES as READ
from mla_viz.checkpoints.families import OTHERS
from mla_viz.checkpoints.rope import read_rope
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.published.fields import Fields
from tests.checkpoints import (
    FAMILIES,
    PLAIN,
    SEQ,
    UNTURNED,
    YARN,
    attended,
    change_config,
    tiny_model,
)

TOLERANCE = 1e-5
SCRATCH = mkdtemp()
atexit.register(rmtree, SCRATCH)
ROPES = {
    "plain": PLAIN,
    "yarn": YARN,
    "yarn-without-mscale": {k: x for k, x in YARN.items() if "mscale" not in k},
    "yarn-gain": {**YARN, "mscale": 1.3, "mscale_all_dim": 0.4, "truncate": False},
    "yarn-named": {**YARN, "attention_factor": 1.2},
    "linear": {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 100.0,
        "short_factor": [1.0, 1.1, 1.3, 2.0],
        "long_factor": [1.0, 2.0, 3.0, 4.0],
        "original_max_position_embeddings": 16,
    },
}
ROPES["longrope-named"] = {**ROPES["longrope"], "attention_factor": 1.2}
PLACES = [(kind, "plain") for kind in FAMILIES] + [
    (kind, "yarn") for kind in FAMILIES if kind not in UNTURNED
]


@cache
def saved(kind, rope="plain", **fields):
    """A tiny model and the folder where it is; nobody may write there."""
    model = tiny_model(kind, ROPES[rope], **fields)
    folder = Path(mkdtemp(dir=SCRATCH))
    model.save_pretrained(folder)
    return model, folder


@cache
def in_and_out(kind, rope, prefill):
    return attended(saved(kind, rope)[0], 1, prefill)


@pytest.fixture
def folder(tmp_path):
    """A folder of DeepSeek-V3's family that a test may spoil."""
    tiny_model("deepseek_v3").save_pretrained(tmp_path)
    return tmp_path


def gap(ours, reference):
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def check(model, folder, layer=1, mechanisms=MLA_MECHANISMS, prefill=4):
    hidden, expected = attended(model, layer, prefill)
    read = mla_viz.load_attention(folder, layer)
    for mechanism in mechanisms:
        assert gap(read.decode(hidden, mechanism, prefill), expected) < TOLERANCE, mechanism


@pytest.mark.parametrize("prefill", [0, 4, SEQ])
@pytest.mark.parametrize(("kind", "rope"), PLACES)
def test_output_of_a_layer_is_that_of_transformers(kind, rope, prefill):
    hidden, expected = in_and_out(kind, rope, prefill)
    layer = mla_viz.load_attention(saved(kind, rope)[1], 1)
    for mechanism in MLA_MECHANISMS:
        trace = layer.trace(hidden, mechanism, prefill)
        seen = torch.cat([rows.flatten() for rows in trace.scores])
        assert seen.std() >= 1
        assert gap(trace.out, expected) < TOLERANCE, mechanism


@pytest.mark.parametrize("layer", [0, 1])
def test_each_of_the_two_attentions_of_a_layer_is_its_own(layer):
    check(*saved("longcat_flash"), layer)


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("kind", ["deepseek_v2", "minicpm3"])
def test_every_scaling_of_rope(kind, rope):
    check(*saved(kind, rope), mechanisms=["mla_absorbed"])


@pytest.mark.parametrize("kind", ["deepseek_v3", "glm4_moe_lite", "youtu", "axk1"])
def test_halves_where_the_file_says_so(kind):
    check(*saved(kind, rope_interleave=False))


@pytest.mark.parametrize("kind", ["deepseek_v2", "deepseek_v3", "minicpm3"])
def test_queries_that_are_not_compressed(kind):
    check(*saved(kind, q_lora_rank=None))


def test_a_width_of_values_that_the_file_leaves_to_the_class(tmp_path):
    model = tiny_model("minicpm3", v_head_dim=8)
    model.save_pretrained(tmp_path)
    change_config(tmp_path, v_head_dim=None)
    check(model, tmp_path)


@pytest.mark.parametrize("scaled", ["mla_scale_q_lora", "mla_scale_kv_lora"])
def test_latents_are_not_widened_where_the_file_says_so(tmp_path, scaled):
    tiny_model("longcat_flash").save_pretrained(tmp_path)
    widened = mla_viz.load_attention(tmp_path, 1).weights
    change_config(tmp_path, **{scaled: False})
    plain = mla_viz.load_attention(tmp_path, 1).weights
    g, name = plain.geometry, "q_norm" if "q_lora" in scaled else "kv_norm"
    rank = g.q_lora_rank if name == "q_norm" else g.kv_lora_rank
    torch.testing.assert_close(
        getattr(widened, name), getattr(plain, name) * (g.d_model / rank) ** 0.5
    )
    other = "kv_norm" if name == "q_norm" else "q_norm"
    assert torch.equal(getattr(widened, other), getattr(plain, other))


@pytest.mark.parametrize("rope", ["plain", "yarn", "linear"])
def test_the_older_fields_of_rope(folder, rope):
    model = tiny_model("deepseek_v3", ROPES[rope])
    model.save_pretrained(folder)
    own = dict(ROPES[rope])
    theta, kind = own.pop("rope_theta"), own.pop("rope_type")
    scaling = None if kind == "default" else {**own, "type": kind}
    change_config(folder, rope_parameters=None, rope_theta=theta, rope_scaling=scaling)
    check(model, folder)


@settings(max_examples=15, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 4, 8]),
    nope=st.integers(1, 9),
    rope=st.integers(1, 5),
    v=st.integers(1, 9),
    ranks=st.tuples(st.integers(1, 12), st.none() | st.integers(1, 12)),
    scaled=st.booleans(),
    kind=st.sampled_from(["deepseek_v3", "minicpm3"]),
)
def test_any_geometry(heads, nope, rope, v, ranks, scaled, kind):
    shape = {
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": 2 * rope,
        "v_head_dim": v,
        "kv_lora_rank": ranks[0],
        "q_lora_rank": ranks[1],
    }
    model = tiny_model(kind, YARN if scaled else PLAIN, **shape)
    folder = Path(mkdtemp(dir=SCRATCH))
    model.save_pretrained(folder)
    check(model, folder)


def test_shards_are_found_and_only_those_of_the_layer_opened(tmp_path):
    model = tiny_model("deepseek_v3")
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    homes = index["weight_map"]
    needed = {home for name, home in homes.items() if "layers.1.self_attn" in name}
    others = set(homes.values()) - needed
    assert len(needed) > 1
    assert others
    for home in others:
        (tmp_path / home).unlink()
    check(model, tmp_path)


def test_a_label_that_transformers_does_not_know_and_a_model_inside_another(folder):
    model = tiny_model("deepseek_v3")
    file = folder / "model.safetensors"
    tensors = {f"language_model.{name}": x for name, x in load_file(file).items()}
    save_file(tensors, file)
    text = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole = {"model_type": "kimi_k25", "text_config": {**text, "model_type": "kimi_k2"}}
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    check(model, folder)


def test_a_trace_holds_what_the_mechanism_kept_and_saw():
    hidden, _ = in_and_out("deepseek_v3", "plain", 4)
    layer = mla_viz.load_attention(saved("deepseek_v3")[1], 1)
    g = layer.geometry
    traces = {name: layer.trace(hidden, name, 4) for name in MLA_MECHANISMS}
    for name, trace in traces.items():
        for pos, (scores, probs) in enumerate(zip(trace.scores, trace.probs, strict=True)):
            assert scores.shape == probs.shape == (g.n_heads, pos + 1)
            torch.testing.assert_close(scores.softmax(-1), probs)
            torch.testing.assert_close(scores, traces["mla_expanded"].scores[pos])
        held = 0 if trace.cache is None else trace.cache.nbytes
        assert held == trace.cache_bytes, name
    width = g.kv_lora_rank + g.qk_rope_head_dim
    assert traces["mla_absorbed"].cache.shape == (SEQ, width)
    assert traces["recompute"].cache is None


def in_eight_bits(folder, block):
    """A layer's matrices as DeepSeek publishes them; what they are when multiplied out."""
    file, back = folder / "model.safetensors", {}
    tensors = load_file(file)
    for name in [x for x in tensors if "layers.1.self_attn" in x and tensors[x].ndim == 2]:
        matrix = tensors[name]
        scales = torch.rand(*(-(-n // b) for n, b in zip(matrix.shape, block, strict=True))) + 0.5
        spread = scales
        for axis, size in enumerate(block):
            spread = spread.repeat_interleave(size, axis).narrow(axis, 0, matrix.shape[axis])
        stored = (matrix / spread).to(torch.float8_e4m3fn)
        tensors |= {name: stored, f"{name}_scale_inv": scales}
        back[name] = stored.float() * spread
    save_file(tensors, file)
    return back


@pytest.mark.parametrize("block", [[128, 128], [5, 7]])
def test_matrices_in_eight_bits_are_multiplied_out_block_by_block(folder, block):
    back = in_eight_bits(folder, block)
    if block != [128, 128]:
        change_config(folder, quantization_config={"weight_block_size": block})
    model = tiny_model("deepseek_v3")
    model.load_state_dict(back, strict=False)
    check(model, folder)


def test_weights_and_outputs_in_the_dtype_asked_for():
    hidden, expected = in_and_out("deepseek_v3", "plain", 4)
    layer = mla_viz.load_attention(saved("deepseek_v3")[1], 1, dtype="bfloat16")
    out = layer.decode(hidden, "mla_absorbed", 4)
    assert out.dtype == torch.bfloat16
    assert TOLERANCE < gap(out.float(), expected) < 0.1


def test_what_was_read_stays_when_the_file_changes(folder):
    layer = mla_viz.load_attention(folder, 1)
    before = layer.weights.kv_norm.clone()
    content = (folder / "model.safetensors").read_bytes()
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(bytes(len(content)))
    assert torch.equal(layer.weights.kv_norm, before)


@pytest.mark.parametrize(
    ("kind", "longest"), [("deepseek_v32", 32), ("glm_moe_dsa", 32), ("mistral4", 256)]
)
def test_a_prompt_where_the_layer_is_no_longer_dense_is_refused(kind, longest):
    layer = mla_viz.load_attention(saved(kind)[1], 1)
    hidden = torch.randn(longest + 1, layer.geometry.d_model)
    assert layer.decode(hidden[:-1], "mla_absorbed", longest).shape == hidden[:-1].shape
    with pytest.raises(ValueError, match=f"expected at most {longest} tokens"):
        layer.decode(hidden, "mla_absorbed")


def spoil_tensor(name, change):
    def spoil(folder):
        file = folder / "model.safetensors"
        tensors = load_file(file)
        key = f"model.layers.1.self_attn.{name}"
        tensors[key] = change(tensors[key]).contiguous()
        save_file({k: x for k, x in tensors.items() if x.numel()}, file)

    return spoil


def spoil_bytes(change):
    def spoil(folder):
        file = folder / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return spoil


def spoil_config(**fields):
    return lambda folder: change_config(folder, **fields)


def sharded(change):
    def spoil(folder):
        tensors = load_file(folder / "model.safetensors")
        index = {"weight_map": dict.fromkeys(tensors, "model.safetensors")}
        (folder / "model.safetensors.index.json").write_text(
            json.dumps(change(index)), encoding="utf-8"
        )

    return spoil


def extra_tensor(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "model.layers.1.self_attn.g_proj.weight": torch.ones(2, 2)}, file)


def claimed_size(size):
    """The head of a file that claims a tensor of that many rows, and nothing behind it."""
    shape = [size, 32]
    name = "model.layers.1.self_attn.kv_a_proj_with_mqa.weight"
    head = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size * 128]}}
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text


BROKEN = {
    "truncated": (spoil_bytes(lambda raw: raw[:-100]), "cannot be read"),
    "cut in the head": (spoil_bytes(lambda raw: raw[:40]), "cannot be read"),
    "empty": (spoil_bytes(lambda _: b""), "cannot be read"),
    "no safetensors": (spoil_bytes(lambda raw: b"\x80\x02" + raw), "cannot be read"),
    "flipped in the head": (
        spoil_bytes(lambda raw: raw[:8] + bytes(b ^ 1 for b in raw[8:40]) + raw[40:]),
        "cannot be read",
    ),
    "absurd head": (spoil_bytes(lambda raw: (1 << 62).to_bytes(8, "little") + raw), "cannot be"),
    "absurd tensor": (spoil_bytes(lambda _: claimed_size(1 << 40)), "cannot be read"),
    "shape": (spoil_tensor("kv_b_proj.weight", lambda x: x.mT), r"expected shape \[56, 16\]"),
    "norm of another width": (spoil_tensor("kv_a_layernorm.weight", lambda x: x[:8]), "shape"),
    "dtype": (spoil_tensor("o_proj.weight", lambda x: x.int()), "expected F32, BF16, F16"),
    "eight bits without scales": (
        spoil_tensor("o_proj.weight", lambda x: x.to(torch.float8_e4m3fn)),
        "expected a tensor model.layers.1.self_attn.o_proj.weight_scale_inv",
    ),
    "missing tensor": (spoil_tensor("o_proj.weight", lambda x: x[:0]), "o_proj.weight, found none"),
    "missing layer": (spoil_tensor("kv_a_proj_with_mqa.weight", lambda x: x[:0]), "^layer: "),
    "unknown tensor": (extra_tensor, "g_proj.weight: expected no such tensor in deepseek_v3"),
    "missing shard": (
        sharded(lambda x: {"weight_map": dict.fromkeys(x["weight_map"], "model-2.safetensors")}),
        "model-2.safetensors: expected a whole safetensors file",
    ),
    "shard elsewhere": (
        sharded(lambda x: {"weight_map": dict.fromkeys(x["weight_map"], "../model.safetensors")}),
        "expected an index",
    ),
    "index without a map": (sharded(lambda _: {}), "expected an index"),
    "index of numbers": (sharded(lambda _: {"weight_map": {"x": 3}}), "expected an index"),
    "empty index": (sharded(lambda _: {"weight_map": {}}), "expected an index"),
    "no family": (spoil_config(model_type="llama"), "model_type: expected one of deepseek_v2"),
    "no label": (spoil_config(model_type=None), "model_type: expected one of"),
    "label of another": (
        spoil_config(model_type="minicpm3"),
        "architectures: expected MiniCPM3... for minicpm3, got 'DeepseekV3ForCausalLM'",
    ),
    "bias": (spoil_config(attention_bias=True), "attention_bias: expected false"),
    "interleave": (spoil_config(rope_interleave="yes"), "rope_interleave: expected true or false"),
    "heads": (spoil_config(num_attention_heads=8), "expected shape"),
    "absurd heads": (spoil_config(num_attention_heads=1 << 30), "expected a whole number"),
    "no rank": (spoil_config(kv_lora_rank="16"), "kv_lora_rank: expected a whole number"),
    "odd rope": (spoil_config(qk_rope_head_dim=7), "qk_rope_head_dim: expected an even number"),
    "rope": (spoil_config(rope_parameters={"rope_type": "dynamic"}), "rope_type: expected one of"),
    "rope as a list": (spoil_config(rope_parameters=[1]), "rope_parameters: expected an object"),
    "rope kind of no kind": (spoil_config(rope_parameters={"rope_type": [1]}), "rope_type"),
    "theta": (spoil_config(rope_parameters={"rope_theta": 0}), "rope_theta: expected a number"),
    "factor": (
        spoil_config(rope_parameters={"rope_type": "yarn", "factor": "40"}),
        "rope_parameters.factor: expected a number",
    ),
    "betas": (
        spoil_config(rope_parameters={"rope_type": "yarn", "factor": 4, "beta_fast": [1]}),
        "rope_parameters.beta_fast: expected a number",
    ),
    "stretches": (
        spoil_config(rope_parameters={"rope_type": "longrope", "short_factor": [1.0]}),
        "short_factor: expected 4 numbers",
    ),
    "block": (
        lambda folder: (
            in_eight_bits(folder, [128, 128]),
            change_config(folder, quantization_config={"weight_block_size": [0, 1]}),
        ),
        "weight_block_size: expected two sizes from 1",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "expected a config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "found neither"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(folder, how):
    spoil, message = BROKEN[how]
    spoil(folder)
    with pytest.raises(ValueError, match=message) as error:
        mla_viz.load_attention(folder, 1)
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 600), bit=st.integers(0, 7))
def test_any_bit_of_a_head_flipped_is_refused_or_harmless(place, bit):
    raw = bytearray((saved("deepseek_v3")[1] / "model.safetensors").read_bytes())
    raw[place] ^= 1 << bit
    folder = Path(mkdtemp(dir=SCRATCH))
    (folder / "model.safetensors").write_bytes(raw)
    config = (saved("deepseek_v3")[1] / "config.json").read_bytes()
    (folder / "config.json").write_bytes(config)
    try:
        mla_viz.load_attention(folder, 1)
    except ValueError as error:
        assert "\n" not in str(error)


ODD = [
    -1,
    0,
    1,
    3.5,
    1e300,
    -1e-300,
    float("nan"),
    float("inf"),
    10**400,
    True,
    "8",
    "",
    [],
    [8],
    {},
]


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(), value=st.sampled_from(ODD), kind=st.sampled_from(["deepseek_v3", "minicpm3"])
)
def test_any_odd_value_of_a_field_is_refused_in_one_line_or_harmless(data, value, kind):
    source = saved(kind, data.draw(st.sampled_from(["yarn", "longrope"])))[1]
    record = json.loads((source / "config.json").read_text(encoding="utf-8"))
    place = data.draw(st.sampled_from([record, record["rope_parameters"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    folder = Path(mkdtemp(dir=SCRATCH))
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    try:
        layer = mla_viz.load_attention(folder, 1)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert layer.decode(torch.ones(2, 32), "mla_absorbed").shape == (2, 32)


def test_the_scales_of_published_models():
    for factor, weight, width, expected in ((40, 1.0, 192, 0.1352338), (40, 0.707, 192, 0.1147214)):
        yarn = {
            "type": "yarn",
            "factor": factor,
            "mscale": weight,
            "mscale_all_dim": weight,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
        }
        fields = Fields({"rope_scaling": yarn, "max_position_embeddings": 163840})
        rope = read_rope(fields, 64, 10000.0)
        assert round(rope.scale * width**-0.5, 7) == expected
        assert (rope.gain, len(rope.frequencies)) == (1.0, 32)


def test_a_layer_that_would_not_fit_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("mla_viz.checkpoints.weights.usable_bytes", lambda _: 10_000)
    monkeypatch.setattr("mla_viz.checkpoints.folder.Folder.read", pytest.fail)
    with pytest.raises(ValueError, match="expected at most 10,000 bytes"):
        mla_viz.load_attention(folder, 1)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_family_that_is_not_read_is_refused_with_its_reason(folder, kind):
    change_config(folder, model_type=kind)
    with pytest.raises(ValueError, match=r"model_type: expected one of .*") as error:
        mla_viz.load_attention(folder, 0)
    assert OTHERS[kind] in str(error.value)


def test_a_layer_without_latent_attention_is_refused():
    with pytest.raises(ValueError, match="expected one with latent attention"):
        mla_viz.load_attention(saved("kimi_linear")[1], 0)


@pytest.mark.parametrize("layer", [-1, 2, True, "1", 1.0])
def test_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(ValueError, match=r"layer: expected a whole number from 0 to 1"):
        mla_viz.load_attention(saved("deepseek_v3")[1], layer)


@pytest.mark.parametrize(
    ("hidden", "mechanism", "prefill", "message"),
    [
        (torch.ones(3, 31), "mla_absorbed", 0, r"hidden: expected \[seq, 32\], got \[3, 31\]"),
        (torch.ones(0, 32), "mla_absorbed", 0, "hidden: "),
        (torch.ones(3, 32), "mha", 0, "mechanism: expected one of"),
        (torch.ones(3, 32), "mla_absorbed", 4, "prefill: expected a whole number from 0 to 3"),
    ],
)
def test_what_a_layer_cannot_decode_is_refused(hidden, mechanism, prefill, message):
    layer = mla_viz.load_attention(saved("deepseek_v3")[1], 1)
    with pytest.raises(ValueError, match=message):
        layer.decode(hidden, mechanism, prefill)


def test_every_family_that_is_read_is_held_against_transformers():
    assert set(READ) - set(FAMILIES) == {"kimi_k2"}


def test_the_document_names_what_is_read_and_what_is_not():
    text = (Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([a-z0-9_]+) \|", text, re.MULTILINE)[1:] == list(READ)
    refused = text.split("Refused by name")[1].split("`attention_bias`")[0]
    assert all(kind in refused for kind in OTHERS)
