"""Reads a text of stories separated by `<|endoftext|>` lines, plain or gzipped.

Knows files; knows no model.
"""

import gzip
import zlib
from pathlib import Path

from mla_viz.model.tokenizer import END_OF_TEXT


def read_stories(path: Path) -> list[str]:
    """Return the stories of a text file, in order, outer white space removed.

    Raises:
        ValueError: the file is missing, is no UTF-8 text, or holds no story.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"text: expected a readable UTF-8 file, got {path} ({error})") from None
    stories = [story.strip() for story in text.split(END_OF_TEXT)]
    stories = [story for story in stories if story]
    if not stories:
        raise ValueError(f"text: expected at least one story, got none in {path}")
    return stories
