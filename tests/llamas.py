"""Tiny Llamas in files of every known format, made here, and the same in transformers."""

import json
import struct

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from mla_viz.model.tokenizer import END_OF_TEXT, END_OF_TURN, TURN

SPECIAL = [END_OF_TEXT, TURN, END_OF_TURN]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("h", "e"), ("Ġ", "t"), ("Ġt", "he")]
VOCAB = [*SPECIAL, *ALPHABET, *map("".join, MERGES)]
THETA, EPS = 5000.0, 1e-5


def llama(seed=0, *, heads=4, kv_heads=2, width=64, layers=2, d_ff=96):
    """A random model of transformers, whose every gain differs from 1."""
    config = LlamaConfig(
        vocab_size=len(VOCAB),
        hidden_size=width,
        intermediate_size=d_ff,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=256,
        rms_norm_eps=EPS,
        rope_parameters={"rope_theta": THETA, "rope_type": "default"},
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def tensors_of(model):
    state = model.model.state_dict()
    return {name.removesuffix(".weight"): tensor.detach().numpy() for name, tensor in state.items()}


def bpe():
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(VOCAB)}, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def write_folder(folder, model, dtype=torch.float32, **changes):
    """As the hub has it: two shards, config.json in the older spelling of RoPE's fields."""
    folder.mkdir(exist_ok=True)
    config = model.config.to_dict()
    config |= {"rope_theta": THETA, "rope_parameters": None, "rope_scaling": None} | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    state = {f"model.{k}": v.to(dtype).contiguous() for k, v in model.model.state_dict().items()}
    for shard in range(2):
        part = dict(sorted(state.items())[shard::2])
        save_file(part, folder / f"model-{shard}.safetensors")
    bpe().save(str(folder / "tokenizer.json"))
    return folder


# GGUF, written from its description alone.

SPELT = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def field(key, kind, raw):
    return text(key) + struct.pack("<I", kind) + raw


def array(kind, values, pack):
    return struct.pack("<IQ", kind, len(values)) + b"".join(map(pack, values))


def fields_of(model, **changes):
    c = model.config
    words = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
    }
    numbers = {
        "llama.block_count": c.num_hidden_layers,
        "llama.context_length": c.max_position_embeddings,
        "llama.embedding_length": c.hidden_size,
        "llama.feed_forward_length": c.intermediate_size,
        "llama.attention.head_count": c.num_attention_heads,
        "llama.attention.head_count_kv": c.num_key_value_heads,
        "llama.rope.dimension_count": c.hidden_size // c.num_attention_heads,
    }
    floats = {"llama.rope.freq_base": THETA, "llama.attention.layer_norm_rms_epsilon": EPS}
    made = {key: field(key, 8, text(changes.get(key, value))) for key, value in words.items()}
    for key, value in numbers.items():
        made[key] = field(key, 4, struct.pack("<I", changes.get(key, value)))
    for key, value in floats.items():
        made[key] = field(key, 6, struct.pack("<f", value))
    kinds = [3] * len(SPECIAL) + [1] * (len(VOCAB) - len(SPECIAL))
    merges = [" ".join(pair) for pair in MERGES]
    made["tokens"] = field("tokenizer.ggml.tokens", 9, array(8, VOCAB, text))
    made["merges"] = field("tokenizer.ggml.merges", 9, array(8, merges, text))
    number = struct.Struct("<i").pack
    made["types"] = field("tokenizer.ggml.token_type", 9, array(5, kinds, number))
    return made


def gguf_name(name):
    if name in ("embed_tokens", "norm"):
        return {"embed_tokens": "token_embd", "norm": "output_norm"}[name] + ".weight"
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{SPELT[part]}.weight"


def for_pairs(name, tensor, head_dim):
    """Rows of queries and keys as llama.cpp lays them: i and i + head_dim/2 become neighbours."""
    if not name.endswith(("q_proj", "k_proj")):
        return tensor
    halves = tensor.reshape(-1, 2, head_dim // 2, tensor.shape[-1])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def packed_f32(tensor):
    return 0, tensor.astype("<f4").tobytes()


def write_gguf(file, model, pack=packed_f32, more=(), **changes):
    """`pack` makes (kind, bytes) of a matrix; vectors are F32. Fields of `changes` are replaced."""
    head_dim = model.config.hidden_size // model.config.num_attention_heads
    made = [*fields_of(model, **changes).values(), *more]
    infos, body = b"", b""
    tensors = tensors_of(model)
    for name, tensor in tensors.items():
        kind, raw = (pack if tensor.ndim > 1 else packed_f32)(for_pairs(name, tensor, head_dim))
        dims = tensor.shape[::-1]
        infos += text(gguf_name(name)) + struct.pack(
            f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body)
        )
        body += raw + bytes(-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(made)) + b"".join(made) + infos
    file.write_bytes(head + bytes(-len(head) % 32) + body)
    return file


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]
