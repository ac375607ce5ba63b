"""Reading a text of stories: separators, gzip, and the words said where it cannot be read."""

import contextlib
import gzip
import os
from pathlib import Path
from threading import Thread

import pytest

from mla_viz.findings import stories
from mla_viz.findings.stories import read_stories

TEXT = "One day.\nThe end.\n<|endoftext|>\n\nA fox. 🦊\n<|endoftext|>\n<|endoftext|>\n  Last  \n"
STORIES = ["One day.\nThe end.", "A fox. 🦊", "Last"]


def test_plain_text(tmp_path):
    file = tmp_path / "stories.txt"
    file.write_text(TEXT, encoding="utf-8")
    assert read_stories(file) == STORIES


def test_gzipped_text(tmp_path):
    file = tmp_path / "stories.txt.gz"
    file.write_bytes(gzip.compress(TEXT.encode()))
    assert read_stories(file) == STORIES


def test_one_story_without_separator(tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("Only one.", encoding="utf-8")
    assert read_stories(file) == ["Only one."]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_one_text_gives_the_same_stories_in_every_spelling(tmp_path, end, mark, packed):
    file = tmp_path / ("stories.txt.gz" if packed else "stories.txt")
    raw = (mark + TEXT.replace("\n", end)).encode()
    file.write_bytes(gzip.compress(raw) if packed else raw)
    assert read_stories(file) == STORIES


def endless_file(_):
    return Path("/dev/zero")


def endless_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    Thread(target=pipe_words, args=(pipe,), daemon=True).start()
    return pipe


def pipe_words(pipe):
    with contextlib.suppress(BrokenPipeError), pipe.open("wb") as end:
        while True:
            end.write(b"word " * 1000)


def packed_zeros(tmp_path):
    file = tmp_path / "zeros.gz"
    file.write_bytes(gzip.compress(bytes(3 << 20)))
    return file


@pytest.mark.parametrize("endless", [endless_file, endless_pipe, packed_zeros])
def test_a_text_without_end_is_refused(tmp_path, monkeypatch, endless):
    monkeypatch.setattr(stories, "TEXT_BYTES", 2 << 20)
    with pytest.raises(ValueError, match=r"^text: expected .*, got .* \(longer than 2 MiB\)$"):
        read_stories(endless(tmp_path))


def test_a_text_may_be_as_long_as_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "TEXT_BYTES", 8)
    file = tmp_path / "eight.txt"
    file.write_bytes(b"12345678")
    assert read_stories(file) == ["12345678"]


@pytest.mark.parametrize("text", ["", " \n\t", "<|endoftext|>\n<|endoftext|>\n"])
def test_no_story_is_refused(tmp_path, text):
    file = tmp_path / "empty.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="expected at least one story, got none in .*empty.txt"):
        read_stories(file)


@pytest.mark.parametrize("name", ["missing.txt", "missing.txt.gz"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"text: expected a readable UTF-8 file, got .*{name}"):
        read_stories(tmp_path / name)


@pytest.mark.parametrize("path", [Path("/"), Path("a\0b")])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(ValueError, match="^text: expected a readable UTF-8 file"):
        read_stories(path)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("latin1.txt", "Märchen".encode("latin-1")),
        ("not_gzip.txt.gz", b"plain text"),
        ("cut_short.txt.gz", gzip.compress(b"a long enough story " * 50)[:-12]),
        ("damaged.txt.gz", gzip.compress(b"a story")[:10] + b"\xff" * 30),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path, name, raw):
    file = tmp_path / name
    file.write_bytes(raw)
    with pytest.raises(ValueError, match="expected a readable UTF-8 file"):
        read_stories(file)
