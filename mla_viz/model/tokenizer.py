"""Text to token ids and back, and how a single token is shown.

Knows byte-level BPE and how a chat's turns are marked; knows no model.
"""

from functools import cache, cached_property

from tokenizers import Tokenizer

from mla_viz.shipped import intact, shipped

END_OF_TEXT = "<|endoftext|>"
TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class ByteTokenizer:
    """A byte-level BPE, which encodes any text: every byte is a token at the least."""

    def __init__(self, bpe: Tokenizer, end: str = END_OF_TEXT) -> None:
        self._bpe = bpe
        self.size: int = bpe.get_vocab_size()
        self.end: int = bpe.token_to_id(end)
        self.separator: int = bpe.token_to_id(END_OF_TEXT)
        added = bpe.get_added_tokens_decoder()
        self._special = {i: token.content for i, token in added.items() if token.special}

    def prompt(self, text: str) -> list[int]:
        """Token ids of what a model is to go on from, where somebody typed this text."""
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Its own characters only: no token is put before or behind."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, without special tokens."""
        return self._bpe.decode(ids)

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token stands for; a special token, as the end of the text, its name."""
        if token_id in self._special:
            return self._special[token_id].encode()
        return bytes(_byte_of_symbol()[symbol] for symbol in self._bpe.id_to_token(token_id))

    def text_of(self, token_id: int) -> str:
        """A token as it is shown; bytes that are no UTF-8 by themselves as hex: `\\xf0\\x9f`."""
        return self.bytes_of(token_id).decode("utf-8", errors="backslashreplace")

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every token as it is shown, by id."""
        return tuple(map(self.text_of, range(self.size)))


class ChatTokenizer(ByteTokenizer):
    """The tokenizer of a model that answers: what is typed is a user's turn, its end ends a run.

    Special tokens stand where the template has them and nowhere else: typed, their names are text.

    Raises:
        ValueError: it lacks a token that the template needs.
    """

    def __init__(self, bpe: Tokenizer) -> None:
        for token in (TURN, END_OF_TURN, END_OF_TEXT):
            if bpe.token_to_id(token) is None:
                raise ValueError(f"tokenizer: expected one with the token {token}, got none")
        bpe.encode_special_tokens = True
        super().__init__(bpe, END_OF_TURN)
        self._turn: int = bpe.token_to_id(TURN)

    def prompt(self, text: str) -> list[int]:
        """Template of the SmolLM2-Instruct models: a system's turn, the user's, an answer begun."""
        turns = [*self._said("system", SYSTEM), *self._said("user", text)]
        return [*turns, self._turn, *self.encode("assistant\n")]

    def _said(self, role: str, text: str) -> list[int]:
        return [self._turn, *self.encode(f"{role}\n{text}"), self.end, *self.encode("\n")]


@cache
def stories_tokenizer() -> ByteTokenizer:
    """The tokenizer of the shipped models, read once."""
    return ByteTokenizer(Tokenizer.from_file(str(intact(shipped("tokenizer.json")))))


@cache
def _byte_of_symbol() -> dict[str, int]:
    """Byte-level BPE spells each byte as one printable character; this reads it back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
