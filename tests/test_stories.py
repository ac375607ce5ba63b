"""Reading a text of stories: separators, gzip, and the words said where it cannot be read."""

import gzip

import pytest

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


def test_windows_line_ends(tmp_path):
    file = tmp_path / "crlf.txt"
    file.write_bytes(b"One.\r\n<|endoftext|>\r\nTwo.\r\n<|endoftext|>\r\n")
    assert read_stories(file) == ["One.", "Two."]


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


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a readable UTF-8 file"):
        read_stories(tmp_path)


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
