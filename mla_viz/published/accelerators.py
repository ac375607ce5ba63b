"""Accelerators: memory, bandwidth and dense products a second, each with its source.

Knows neither arrays nor screens.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mla_viz.shipped import intact, shipped


@dataclass(frozen=True)
class Accelerator:
    """One accelerator as its source prints it; a GB is read as 10^9 bytes.

    `flops` are those of dense products a second, by dtype; a dtype that is not printed is missing.
    Where a maker's GB means 2^30, up to 7 % more bytes are there.
    """

    name: str
    memory_bytes: int
    bytes_per_second: int
    flops: Mapping[str, float]
    source: str


@cache
def accelerators() -> dict[str, Accelerator]:
    """Those of data/accelerators.toml, by name."""
    text = intact(shipped("accelerators.toml")).read_text(encoding="utf-8")
    return {
        row["name"]: Accelerator(
            row["name"],
            row["memory_gb"] * 10**9,
            row["bandwidth_gb_s"] * 10**9,
            {dtype: tflops * 1e12 for dtype, tflops in row["tflops"].items()},
            row["source"],
        )
        for row in tomllib.loads(text)["accelerator"]
    }
