"""Text to token ids and back, and how a single token is shown.

Knows the byte-level BPE file; knows no model.
"""

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from mla_viz.stories import SEPARATOR

END_OF_TEXT = SEPARATOR
TOKENIZER_FILE = Path(__file__).parent.parent / "data" / "tokenizer.json"


@cache
def load_tokenizer() -> Tokenizer:
    """The shipped tokenizer, read once. Treat it as read-only."""
    return Tokenizer.from_file(str(TOKENIZER_FILE))


@cache
def _byte_of_symbol() -> dict[str, int]:
    """Byte-level BPE spells each byte as one printable character; this reads it back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes that a token stands for; a special token gives its name."""
    symbol = tokenizer.id_to_token(token_id)
    if symbol == END_OF_TEXT:
        return END_OF_TEXT.encode()
    return bytes(_byte_of_symbol()[character] for character in symbol)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every shipped token as it is shown, by id."""
    tokenizer = load_tokenizer()
    return tuple(token_text(tokenizer, i) for i in range(tokenizer.get_vocab_size()))


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text; bytes that are no UTF-8 by themselves as hex: `\\xf0\\x9f`."""
    return token_bytes(tokenizer, token_id).decode("utf-8", errors="backslashreplace")
