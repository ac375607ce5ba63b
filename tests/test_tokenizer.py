"""Any text comes back; partial bytes and hostile text show as what they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.model.tokenizer import (
    END_OF_TEXT,
    END_OF_TURN,
    SYSTEM,
    TURN,
    ByteTokenizer,
    ChatTokenizer,
    stories_tokenizer,
)
from tests import llamas
from train.text import VOCAB_SIZE, train_tokenizer

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


# Turns of a chat.

CHAT = ChatTokenizer(llamas.bpe())
TEMPLATE = f"{TURN}system\n{SYSTEM}{END_OF_TURN}\n{TURN}user\n{{}}{END_OF_TURN}\n{TURN}assistant\n"


@given(st.text())
def test_what_is_typed_is_a_turn_of_the_template(text):
    shown = b"".join(map(CHAT.bytes_of, CHAT.prompt(text)))
    assert shown == TEMPLATE.format(text).encode()


@given(st.text(), st.sampled_from([TURN, END_OF_TURN, END_OF_TEXT]), st.text())
def test_nobody_types_a_turn_of_their_own(before, special, after):
    ids = CHAT.prompt(f"{before}{special}{after}")
    special_ids = [i for i in ids if i < len(llamas.SPECIAL)]
    assert special_ids == [1, 2, 1, 2, 1]


def test_the_end_of_a_turn_ends_a_run_and_no_text_shows_it():
    assert CHAT.bytes_of(CHAT.end) == END_OF_TURN.encode()
    assert CHAT.bytes_of(CHAT.separator) == END_OF_TEXT.encode()
    assert CHAT.decode([*CHAT.encode("the"), CHAT.end]) == "the"
    assert TOKENIZER.prompt("the") == TOKENIZER.encode("the")


def test_a_tokenizer_without_turns_is_refused():
    with pytest.raises(ValueError, match=r"^tokenizer: expected one with the token <.im_start.>"):
        ChatTokenizer(train_tokenizer(["the fox ran home"] * 3))
    assert ByteTokenizer(train_tokenizer(["the fox ran home"] * 3)).end == 0
