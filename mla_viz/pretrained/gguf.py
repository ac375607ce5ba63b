"""GGUF files read without trust: header, metadata, tensors, each size held against the file.

Blocks of 32 numbers are multiplied out with NumPy. Layout: ggml-org/ggml docs/gguf.md (version 3)
and src/ggml-common.h. Knows nothing of models but what their metadata is called.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mla_viz.config import GQAGeometry, ModelGeometry, told
from mla_viz.pretrained.checkpoint import Checkpoint, check_shapes, known_architecture

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT = 32
BLOCK = 32  # numbers that share a scale
SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
TEXT, ARRAY = 8, 9
CONTROL = 3  # a token's type: one that stands for no text
PARTS = {
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
WHOLE = {"embed_tokens": "token_embd.weight", "norm": "output_norm.weight"}


@dataclass(frozen=True)
class Kind:
    """How numbers are kept: `fields` of a block of `numbers`, and what multiplies one out."""

    name: str
    numbers: int
    fields: np.dtype
    expand: Callable[[np.ndarray], np.ndarray]


def _nibbles(codes: np.ndarray) -> np.ndarray:
    """Sixteen bytes: the low halves are a block's first sixteen codes, the high ones its last."""
    return np.concatenate([codes & 15, codes >> 4], -1)


def _block(*fields: tuple[str, str] | tuple[str, str, tuple[int]]) -> np.dtype:
    return np.dtype([*fields])


KINDS = {
    0: Kind("F32", 1, _block(("x", "<f4")), lambda b: b["x"][:, None]),
    1: Kind("F16", 1, _block(("x", "<f2")), lambda b: b["x"][:, None]),
    2: Kind(
        "Q4_0",
        BLOCK,
        _block(("d", "<f2"), ("codes", "u1", (BLOCK // 2,))),
        lambda b: b["d"][:, None].astype("f4") * (_nibbles(b["codes"]).astype("f4") - 8),
    ),
    3: Kind(
        "Q4_1",
        BLOCK,
        _block(("d", "<f2"), ("m", "<f2"), ("codes", "u1", (BLOCK // 2,))),
        lambda b: (
            b["d"][:, None].astype("f4") * _nibbles(b["codes"]).astype("f4")
            + b["m"][:, None].astype("f4")
        ),
    ),
    8: Kind(
        "Q8_0",
        BLOCK,
        _block(("d", "<f2"), ("codes", "i1", (BLOCK,))),
        lambda b: b["d"][:, None].astype("f4") * b["codes"].astype("f4"),
    ),
    30: Kind(
        "BF16",
        1,
        _block(("x", "<u2")),
        lambda b: (b["x"].astype("u4") << 16).view("f4")[:, None],
    ),
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: its shape, rows first, and the blocks that it takes there."""

    shape: tuple[int, ...]
    kind: Kind
    offset: int

    @property
    def blocks(self) -> int:
        return prod(self.shape) // self.kind.numbers

    @property
    def end(self) -> int:
        """Byte behind its last one."""
        return self.offset + self.blocks * self.kind.fields.itemsize


class GGUF:
    """The metadata of a file and where its tensors lie.

    Raises:
        ValueError: it is no such file, is cut, or says what cannot be.
    """

    def __init__(self, file: Path) -> None:
        self.name = file.name
        try:
            with file.open("rb") as opened:
                self._bytes = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: expected a GGUF file, got {error}") from None
        self._at = 0
        if self._take(4) != MAGIC:
            raise ValueError(f"{self.name}: expected a GGUF file, got another kind")
        version = self._number("I")
        if version not in VERSIONS:
            raise ValueError(f"{self.name}: expected GGUF version 2 or 3, got {version}")
        n_tensors, n_fields = self._number("Q"), self._number("Q")
        self._room(n_tensors, 24), self._room(n_fields, 12)
        self.metadata = dict(self._field() for _ in range(n_fields))
        stored = dict(self._stored() for _ in range(n_tensors))
        first = -(-self._at // ALIGNMENT) * ALIGNMENT
        self.tensors = {name: self._within(name, first, each) for name, each in stored.items()}

    def read(self, name: str) -> Float[np.ndarray, "*shape"]:
        """A tensor in float32."""
        stored = self.tensors[name]
        blocks = np.frombuffer(self._bytes, stored.kind.fields, stored.blocks, stored.offset)
        return np.array(stored.kind.expand(blocks), np.float32).reshape(stored.shape)

    def value(self, key: str, *kinds: type) -> Any:
        """A field of the metadata.

        Raises:
            ValueError: it is missing or of another kind.
        """
        value = self.metadata.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool):
            kind = " or ".join(each.__name__ for each in kinds)
            raise ValueError(f"{self.name}: expected {key} of kind {kind}, got {told(value)}")
        return value

    def _field(self) -> tuple[str, Any]:
        return self._text(), self._value(self._number("I"))

    def _value(self, kind: int) -> Any:
        if kind == TEXT:
            return self._text()
        if kind == ARRAY:
            return self._array(self._number("I"), self._number("Q"))
        return self._number(self._scalar(kind))

    def _array(self, kind: int, length: int) -> list[Any]:
        if kind == TEXT:
            self._room(length, 8)
            return [self._text() for _ in range(length)]
        code = self._scalar(kind)
        self._room(length, struct.calcsize(code))
        return [*struct.unpack(f"<{length}{code}", self._take(length * struct.calcsize(code)))]

    def _scalar(self, kind: int) -> str:
        if kind not in SCALARS:
            raise ValueError(f"{self.name}: expected a known kind of metadata, got {kind}")
        return SCALARS[kind]

    def _stored(self) -> tuple[str, Stored]:
        name, n_dims = self._text(), self._number("I")
        self._room(n_dims, 8)
        shape = tuple(self._number("Q") for _ in range(n_dims))[::-1]
        kind, offset = self._number("I"), self._number("Q")
        if kind not in KINDS:
            known = ", ".join(each.name for each in KINDS.values())
            raise ValueError(f"{self.name}: expected {name} in one of {known}, got kind {kind}")
        return name, Stored(shape, KINDS[kind], offset)

    def _within(self, name: str, first: int, stored: Stored) -> Stored:
        placed = Stored(stored.shape, stored.kind, first + stored.offset)
        row = stored.shape[-1] if stored.shape else 0
        if not row or row % stored.kind.numbers or placed.end > len(self._bytes):
            raise ValueError(
                f"{self.name}: expected {name} within {len(self._bytes):,} bytes,"
                f" got {stored.kind.name} of shape {told(stored.shape)} at {placed.offset:,}"
            )
        return placed

    def _number(self, code: str) -> int | float:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]

    def _text(self) -> str:
        try:
            return self._take(self._number("Q")).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{self.name}: expected text in UTF-8, got other bytes") from None

    def _take(self, count: int) -> bytes:
        self._room(count, 1)
        self._at += count
        return self._bytes[self._at - count : self._at]

    def _room(self, count: int, size: int) -> None:
        """Refuse to read on past the end: `count` things of `size` bytes at the least."""
        left = len(self._bytes) - self._at
        if count * size > left:
            raise ValueError(f"{self.name}: expected {count:,} entries more, got the file's end")


def open_gguf(file: Path) -> Checkpoint:
    """A Llama-style model in a GGUF file.

    llama.cpp lays queries and keys for RoPE on pairs of neighbours.

    Raises:
        ValueError: it is another architecture, damaged, or does not fit itself.
    """
    gguf = GGUF(file)
    known_architecture(gguf.name, gguf.value("general.architecture", str))
    geometry = _geometry(gguf)
    shapes = {name: stored.shape for name, stored in gguf.tensors.items()}
    check_shapes(gguf.name, geometry, shapes, _spelt)
    return Checkpoint(
        geometry,
        interleaved=True,
        read=lambda name: gguf.read(_spelt(name)),
        tokenizer=lambda: _tokenizer(gguf),
    )


def _spelt(name: str) -> str:
    """`layers.3.mlp.up_proj` as GGUF spells it: `blk.3.ffn_up.weight`."""
    if name in WHOLE:
        return WHOLE[name]
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{PARTS[part]}.weight"


def _geometry(gguf: GGUF) -> ModelGeometry:
    def field(key: str, *kinds: type) -> Any:
        return gguf.value(f"llama.{key}", *kinds)

    if told_scaling := gguf.metadata.get("llama.rope.scaling.type"):
        raise ValueError(f"{gguf.name}: expected RoPE as it is, got scaling {told(told_scaling)}")
    heads, width = field("attention.head_count", int), field("embedding_length", int)
    try:
        attention = GQAGeometry(
            d_model=width,
            n_heads=heads,
            n_kv_heads=field("attention.head_count_kv", int),
            head_dim=field("rope.dimension_count", int),
            rope_theta=field("rope.freq_base", float),
        )
        return ModelGeometry(
            name=gguf.value("general.name", str),
            attention=attention,
            n_layers=field("block_count", int),
            d_ff=field("feed_forward_length", int),
            vocab_size=len(gguf.value("tokenizer.ggml.tokens", list)),
            context=field("context_length", int),
            norm_eps=field("attention.layer_norm_rms_epsilon", float),
        )
    except ValueError as error:
        raise ValueError(f"{gguf.name}: {str(error).removeprefix(f'{gguf.name}: ')}") from None


def _tokenizer(gguf: GGUF) -> Tokenizer:
    """The byte-level BPE of the metadata; digits are cut one by one, as SmolLM's are."""
    for key, expected in (("model", "gpt2"), ("pre", "smollm")):
        got = gguf.value(f"tokenizer.ggml.{key}", str)
        if got != expected:
            raise ValueError(
                f"{gguf.name}: expected a tokenizer whose {key} is {expected}, got {told(got)}"
            )
    tokens, kinds, merges = (
        gguf.value(f"tokenizer.ggml.{key}", list) for key in ("tokens", "token_type", "merges")
    )
    try:
        pairs = [tuple(pair.split(" ")) for pair in merges]
        tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
        tokenizer.add_special_tokens(
            [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
        )
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(
            f"{gguf.name}: expected a byte-level BPE, got {told(str(error))}"
        ) from None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
