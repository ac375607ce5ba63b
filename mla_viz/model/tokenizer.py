"""Text to token ids and back, and how a single token is shown.

Knows byte-level BPE files; knows no model.
"""

from functools import cache, cached_property
from pathlib import Path

from tokenizers import Tokenizer

from mla_viz.shipped import intact, shipped

END_OF_TEXT = "<|endoftext|>"


class ByteTokenizer:
    """A byte-level BPE, which encodes any text: every byte is a token at the least."""

    def __init__(self, file: Path) -> None:
        self._bpe = Tokenizer.from_file(str(file))
        self.size: int = self._bpe.get_vocab_size()
        self.end: int = self._bpe.token_to_id(END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Its own characters only: no token is put before or behind."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, without special tokens."""
        return self._bpe.decode(ids)

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token stands for; the end-of-text token gives its name."""
        if token_id == self.end:
            return END_OF_TEXT.encode()
        return bytes(_byte_of_symbol()[symbol] for symbol in self._bpe.id_to_token(token_id))

    def text_of(self, token_id: int) -> str:
        """A token as it is shown; bytes that are no UTF-8 by themselves as hex: `\\xf0\\x9f`."""
        return self.bytes_of(token_id).decode("utf-8", errors="backslashreplace")

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every token as it is shown, by id."""
        return tuple(map(self.text_of, range(self.size)))


@cache
def stories_tokenizer() -> ByteTokenizer:
    """The tokenizer of the shipped models, read once."""
    return ByteTokenizer(intact(shipped("tokenizer.json")))


@cache
def _byte_of_symbol() -> dict[str, int]:
    """Byte-level BPE spells each byte as one printable character; this reads it back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
