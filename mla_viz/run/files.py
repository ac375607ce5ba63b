"""Files that are written whole or not at all. Knows nothing of what they say."""

import os
from pathlib import Path
from secrets import token_hex


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file, or leave what was there as it was.

    Raises:
        ValueError: nothing can be written there.
    """
    path = Path(path).resolve()
    part = path.with_name(f".mla-viz-{token_hex(4)}.part")
    try:
        if path.exists() and not path.is_file():  # a device or a pipe keeps its place
            path.write_bytes(content)
            return
        try:
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"{path}: expected a file that can be written, got {error.strerror} (choose another)"
        ) from None
