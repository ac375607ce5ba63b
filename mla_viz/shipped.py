"""The files that come with the package: where each lies. Knows nothing of what they say."""

from pathlib import Path

DATA = Path(__file__).parent / "data"


def shipped(name: str) -> Path:
    """Where a file of the package lies, there or not: `shipped("claims.toml")`."""
    return DATA / name


def member_weights(name: str) -> Path:
    """Where the weights of a member of the family lie, if they are shipped."""
    return shipped(f"family/{name}.safetensors")
