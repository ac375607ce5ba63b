"""Llama-style files: read as transformers reads them, and refused in one line where they lie."""

import json
import struct
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mla_viz.model.decoder import Decoder
from mla_viz.model.llama import load_llama
from mla_viz.pretrained.gguf import KINDS, open_gguf
from mla_viz.pretrained.hf import open_folder
from tests import llamas

IDS = [1, 70, 9, 11, 200, 31, 5, 5, 2, 90]
SHAPES = [{}, {"heads": 4, "kv_heads": 4}, {"heads": 6, "kv_heads": 1, "width": 96, "layers": 1}]


def logits(checkpoint):
    weights = load_llama(checkpoint)
    g = weights.geometry.attention
    mechanism = "mha" if g.n_kv_heads == g.n_heads else "gqa"
    return Decoder(weights, mechanism).feed(torch.tensor(IDS)).logits


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gguf_gives_the_logits_of_transformers(tmp_path, shape):
    model = llamas.llama(**shape)
    checkpoint = open_gguf(llamas.write_gguf(tmp_path / "m.gguf", model))
    close(logits(checkpoint), llamas.logits_of(model, IDS))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folder_of_the_hub_gives_the_logits_of_transformers(tmp_path, shape):
    model = llamas.llama(**shape)
    checkpoint = open_folder(llamas.write_folder(tmp_path / "m", model))
    close(logits(checkpoint), llamas.logits_of(model, IDS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_in_safetensors_are_read_as_they_are(tmp_path, dtype):
    model = llamas.llama()
    checkpoint = open_folder(llamas.write_folder(tmp_path / "m", model, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
    close(logits(checkpoint), llamas.logits_of(model, IDS))


def test_the_newer_spelling_of_rope_is_read(tmp_path):
    model = llamas.llama()
    rope = {"rope_type": "default", "rope_theta": llamas.THETA}
    folder = llamas.write_folder(tmp_path / "m", model, rope_parameters=rope, rope_theta=None)
    assert open_folder(folder).geometry.attention.rope_theta == llamas.THETA


# Blocks of numbers: each kind by a formula of single numbers.


def q4_1(raw):
    d, m = struct.unpack("<2e", raw[:4])
    codes = [byte & 15 for byte in raw[4:]] + [byte >> 4 for byte in raw[4:]]
    return [np.float32(d) * np.float32(code) + np.float32(m) for code in codes]


def q4_0(raw):
    d = struct.unpack("<e", raw[:2])[0]
    codes = [byte & 15 for byte in raw[2:]] + [byte >> 4 for byte in raw[2:]]
    return [d * (code - 8) for code in codes]


def q8_0(raw):
    d, *codes = struct.unpack("<e32b", raw)
    return [d * code for code in codes]


def bf16(raw):
    return list(struct.unpack("<f", b"\0\0" + raw))


BY_HAND = {
    0: (4, lambda raw: list(struct.unpack("<f", raw))),
    1: (2, lambda raw: list(struct.unpack("<e", raw))),
    2: (18, q4_0),
    3: (20, q4_1),
    8: (34, q8_0),
    30: (2, bf16),
}


def packed(kind, rng):
    """A matrix as random blocks, scales near 1; (kind, bytes), and what it is in numbers."""
    size, expand = BY_HAND[kind]
    halves = {2: 1, 3: 2, 8: 1}.get(kind, 0)

    def block():
        if not halves:
            return np.array(rng.normal(), {0: "<f4", 1: "<f2", 30: "<f4"}[kind]).tobytes()[-size:]
        scales = (rng.normal(size=halves) * 0.05).astype("<f2").tobytes()
        return scales + rng.bytes(size - len(scales))

    made = {}

    def pack(tensor):
        numbers = KINDS[kind].numbers
        raw = b"".join(block() for _ in range(prod(tensor.shape) // numbers))
        values = [x for i in range(0, len(raw), size) for x in expand(raw[i : i + size])]
        made[tensor.shape] = np.array(values, np.float32).reshape(tensor.shape)
        return kind, raw

    return pack, made


@pytest.mark.parametrize("kind", BY_HAND)
def test_every_kind_of_block_is_multiplied_out(tmp_path, kind):
    assert set(BY_HAND) == set(KINDS)
    pack, made = packed(kind, np.random.default_rng(kind))
    model = llamas.llama(layers=1)
    checkpoint = open_gguf(llamas.write_gguf(tmp_path / "m.gguf", model, pack))
    for name in ("layers.0.mlp.down_proj", "embed_tokens"):
        read = checkpoint.read(name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, made[read.shape])


# The tokenizer.


@given(st.text())
def test_the_tokenizer_of_the_metadata_is_that_of_the_file(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "tokenizer"
    if not folder.exists():
        llamas.write_folder(folder, llamas.llama())
        llamas.write_gguf(folder / "m.gguf", llamas.llama())
    ours = open_gguf(folder / "m.gguf").tokenizer().encode(text)
    theirs = open_folder(folder).tokenizer().encode(text)
    assert ours.ids == theirs.ids
    assert open_gguf(folder / "m.gguf").tokenizer().decode(ours.ids) == text


# What is refused.


def refusal(call):
    with pytest.raises(ValueError, match="expected .*, got") as refused:
        call()
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    return str(refused.value)


GGUF_FAULTS = [
    ({"general.architecture": "qwen2"}, "expected the architecture llama, got 'qwen2'"),
    ({"llama.attention.head_count_kv": 3}, "n_kv_heads: expected a divisor of n_heads 4, got 3"),
    ({"llama.embedding_length": 65}, "expected token_embd.weight of shape"),
    ({"llama.block_count": 3}, r"expected blk.2.attn_norm.weight of shape (64,), got none"),
    ({"llama.block_count": 1}, "expected the tensors of a Llama, got 'blk.1.attn_k.weight'"),
    ({"llama.block_count": 1 << 30}, "n_layers: expected a whole number from 1 to 256"),
    ({"llama.feed_forward_length": 1 << 19}, "expected blk.0.ffn_gate.weight of shape"),
]


@pytest.mark.parametrize(("changes", "words"), GGUF_FAULTS)
def test_a_gguf_that_does_not_fit_itself_is_one_line(tmp_path, changes, words):
    file = llamas.write_gguf(tmp_path / "m.gguf", llamas.llama(), **changes)
    said = refusal(lambda: open_gguf(file))
    assert said.startswith("m.gguf: ")
    assert words in said


def test_scaled_rope_is_refused(tmp_path):
    scaling = llamas.field("llama.rope.scaling.type", 8, llamas.text("yarn"))
    file = llamas.write_gguf(tmp_path / "m.gguf", llamas.llama(), more=[scaling])
    assert "got scaling 'yarn'" in refusal(lambda: open_gguf(file))


@pytest.mark.parametrize("key", ["tokenizer.ggml.model", "tokenizer.ggml.pre"])
def test_an_unknown_tokenizer_is_refused_by_name(tmp_path, key):
    file = llamas.write_gguf(tmp_path / "m.gguf", llamas.llama(), **{key: "other"})
    assert "got 'other'" in refusal(open_gguf(file).tokenizer)


def test_an_unknown_kind_of_numbers_is_refused_by_the_tensor(tmp_path):
    file = llamas.write_gguf(tmp_path / "m.gguf", llamas.llama(), lambda _: (12, bytes(64)))
    assert "Q4_1" in refusal(lambda: open_gguf(file))


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "m.gguf"
    return llamas.write_gguf(file, llamas.llama(layers=1, width=32, d_ff=32))


@given(st.floats(0, 1, exclude_max=True))
def test_a_cut_gguf_is_refused(small_gguf, share):
    raw = small_gguf.read_bytes()
    cut = small_gguf.with_name("cut.gguf")
    cut.write_bytes(raw[: int(len(raw) * share)])
    refusal(lambda: open_gguf(cut))


@given(st.data())
def test_a_changed_head_is_read_or_refused_and_nothing_else(small_gguf, data):
    raw = bytearray(small_gguf.read_bytes())
    head = raw.index(b"output_norm") + 40
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, head))
        raw[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    changed = small_gguf.with_name("changed.gguf")
    changed.write_bytes(raw)
    try:
        checkpoint = open_gguf(changed)
        load_llama(checkpoint)
        checkpoint.tokenizer()
    except ValueError as error:
        assert ("\n" in str(error), len(str(error)) < 400) == (False, True)


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\3\4" + bytes(40), b"GGUF" + bytes(40)])
def test_what_is_no_gguf_is_refused(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    refusal(lambda: open_gguf(tmp_path / "m.gguf"))


CONFIG_FAULTS = [
    ({"model_type": "mistral"}, "expected the architecture llama, got 'mistral'"),
    ({"hidden_act": "gelu"}, "hidden_act: expected silu"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings: expected True"),
    ({"attention_bias": True}, "attention_bias: expected False"),
    ({"rope_scaling": {"type": "yarn"}}, "rope_scaling: expected None"),
    ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type: expected default"),
    ({"num_hidden_layers": 3}, "expected model.layers.2.input_layernorm.weight"),
    ({"num_attention_heads": 0}, "n_heads: expected a whole number from 1 to 1024, got 0"),
    ({"hidden_size": None}, "config.json: d_model: expected a whole number"),
    ({"rope_theta": "x"}, "config.json: rope_theta: expected a positive number"),
    ({"rms_norm_eps": []}, "config.json: norm_eps: expected a number from 0"),
    ({"vocab_size": 1 << 19}, "expected model.embed_tokens.weight of shape"),
]


@pytest.mark.parametrize(("changes", "words"), CONFIG_FAULTS)
@pytest.mark.usefixtures("untyped")
def test_a_folder_that_does_not_fit_itself_is_one_line(tmp_path, changes, words):
    folder = llamas.write_folder(tmp_path / "m", llamas.llama(), **changes)
    assert words in refusal(lambda: open_folder(folder))


@pytest.mark.parametrize("file", ["config.json", "model-0.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_cut_file_of_a_folder_is_refused(tmp_path, file, share):
    folder = llamas.write_folder(tmp_path / "m", llamas.llama())
    raw = (folder / file).read_bytes()
    (folder / file).write_bytes(raw[: int(len(raw) * share)])
    said = refusal(lambda: open_folder(folder).tokenizer())
    assert said.startswith(f"{file}: expected")


def test_a_pickle_is_never_opened(tmp_path):
    folder = llamas.write_folder(tmp_path / "m", llamas.llama())
    for file in folder.glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    assert "got none" in refusal(lambda: open_folder(folder))


def test_whole_numbers_as_weights_are_refused(tmp_path):
    folder = llamas.write_folder(tmp_path / "m", llamas.llama())
    shard = folder / "model-0.safetensors"
    save_file({name: x.to(torch.int32) for name, x in load_file(shard).items()}, shard)
    assert "F32, F16, BF16, got I32" in refusal(lambda: open_folder(folder))


def test_a_config_of_another_kind_is_refused(tmp_path):
    folder = llamas.write_folder(tmp_path / "m", llamas.llama())
    for content in ("[]", "{", json.dumps("llama"), "[" * 100_000):
        (folder / "config.json").write_text(content, encoding="utf-8")
        assert refusal(lambda: open_folder(folder)).startswith("config.json: expected")
