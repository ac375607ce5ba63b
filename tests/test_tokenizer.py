"""Any text comes back; partial bytes and hostile text show as what they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.model.tokenizer import END_OF_TEXT, stories_tokenizer
from train.text import VOCAB_SIZE

TOKENIZER = stories_tokenizer()
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert('x')</script>",
    "\u202eright to left\u202c",
    "שלום עולם",
    "NUL \x00 in the middle",
    "👩‍👩‍👧‍👦 🦊",
    "line\r\n\ttabs   and   spaces ",
    "\ufeffbom \ufffd",
    "${7*7} {{x}} %s",
]


def ids_of(text):
    return TOKENIZER.encode(text)


@given(st.text())
def test_any_text_comes_back(text):
    assert TOKENIZER.decode(ids_of(text)) == text


@given(st.text())
def test_token_bytes_join_to_the_text(text):
    assert b"".join(TOKENIZER.bytes_of(i) for i in ids_of(text)) == text.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_and_is_shown_unescaped(text):
    ids = ids_of(text)
    assert TOKENIZER.decode(ids) == text
    assert b"".join(TOKENIZER.bytes_of(i) for i in ids) == text.encode()
    if text.isascii():
        assert "".join(TOKENIZER.text_of(i) for i in ids) == text


def test_part_of_a_character_shows_as_hex():
    texts = [TOKENIZER.text_of(i) for i in ids_of("🦊")]
    assert "".join(texts) == r"\xf0\x9f\xa6\x8a"


def test_every_token_of_the_vocabulary_can_be_shown():
    assert TOKENIZER.size == VOCAB_SIZE
    texts = [TOKENIZER.text_of(i) for i in range(VOCAB_SIZE)]
    assert TOKENIZER.texts == tuple(texts)
    assert all(texts)
    assert all(text.isprintable() or text.isascii() or text.isspace() for text in texts)


def test_end_of_text_is_one_special_token():
    assert ids_of(END_OF_TEXT) == [TOKENIZER.end]
    assert TOKENIZER.text_of(ids_of(END_OF_TEXT)[0]) == END_OF_TEXT


def test_all_single_bytes_are_tokens():
    single = {TOKENIZER.bytes_of(i) for i in range(VOCAB_SIZE)}
    assert {bytes([byte]) for byte in range(256)} <= single
