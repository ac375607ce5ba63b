"""The files that come with the package: where each lies, and whether it is as it was shipped.

Knows nothing of what they say.
"""

from functools import cache
from hashlib import file_digest
from pathlib import Path

PACKAGE = Path(__file__).parent
DATA = PACKAGE / "data"
# app.py and pages/ lie beside the package in a checkout, in a folder of its own once installed.
APP = PACKAGE / "app" if (PACKAGE / "app").exists() else PACKAGE.parent
CHECKSUMS = "SHA256SUMS"  # in the form of `sha256sum`; `make checksums` writes it


def shipped(name: str) -> Path:
    """Where a file of the package lies, there or not: `shipped("claims.toml")`."""
    return DATA / name


def member_weights(name: str) -> Path:
    """Where the weights of a member of the family lie, if they are shipped."""
    return shipped(f"family/{name}.safetensors")


def belongs(file: Path) -> bool:
    """Whether a file is there, or should be."""
    return file.exists() or _name(file) in checksums()


def intact(file: Path) -> Path:
    """A file of the package, once its bytes are known to be those that were shipped.

    23 MB take 15 ms. Whoever loads a file asks once and keeps what it read.

    Raises:
        ValueError: it is missing, damaged or another; the message names it.
    """
    if fault := _fault(file):
        raise ValueError(
            f"{_name(file)}: expected the file that came with mla-viz, got {fault} at {file}"
            " (install mla-viz again; after a change of your own: make checksums)"
        )
    return file


@cache
def checksums() -> dict[str, str]:
    """The SHA-256 of every shipped file, by its name.

    Raises:
        ValueError: the list of them cannot be read.
    """
    file = shipped(CHECKSUMS)
    try:
        lines = [line.split("  ", 1) for line in file.read_text(encoding="utf-8").splitlines()]
        return {name: checksum for checksum, name in lines}
    except (OSError, ValueError):
        raise ValueError(
            f"{CHECKSUMS}: expected the checksums that came with mla-viz at {file}, got none that"
            " can be read (install mla-viz again)"
        ) from None


def checksum(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()


def _fault(file: Path) -> str | None:
    """What is wrong with a shipped file."""
    expected = checksums().get(_name(file))
    try:
        return None if checksum(file) == expected else "another"
    except FileNotFoundError:
        return "none"
    except OSError as error:
        return f"one that cannot be read ({error.strerror})"


def _name(file: Path) -> str:
    return file.relative_to(DATA).as_posix()
