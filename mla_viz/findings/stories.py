"""Reads a text of stories separated by `<|endoftext|>` lines, plain or gzipped.

Knows files; knows no model.
"""

import gzip
import zlib
from pathlib import Path

from mla_viz.model.tokenizer import END_OF_TEXT

TEXT_BYTES = 64 << 20  # unpacked; ten times the training text


def read_stories(path: Path) -> list[str]:
    """Return the stories of a text file, in order, outer white space removed.

    How the file ends its lines, and whether it begins with a byte order mark, changes nothing.

    Raises:
        ValueError: the file cannot be read, is no UTF-8 text, passes TEXT_BYTES or has no story.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(TEXT_BYTES + 1)
        if len(raw) > TEXT_BYTES:
            raise ValueError(f"longer than {TEXT_BYTES >> 20} MiB")
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"text: expected a readable UTF-8 file, got {path} ({error})") from None
    stories = [story.strip() for story in text.split(END_OF_TEXT)]
    stories = [story for story in stories if story]
    if not stories:
        raise ValueError(f"text: expected at least one story, got none in {path}")
    return stories
