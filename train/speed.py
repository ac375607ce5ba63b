"""Measures the benches that come with the package.

    python -m train.speed [NAME ...]

Writes mla_viz/data/speed.json, each of BENCHES in turn; with names, those alone are measured anew.
"""

import json
import sys
from typing import Any

from mla_viz.bench.points import bench
from mla_viz.bench.settings import BenchSettings
from mla_viz.findings.measured import SPEED_FILE
from mla_viz.shipped import shipped
from train.checksums import write_checksums

LATENT = ("mla_expanded", "mla_absorbed")
ALL = ("mha", "gqa", "mqa", "mla_expanded", "mla_reexpand", "mla_absorbed", "mla_merged")
REAL = {"contexts": (256, 1024, 4096, 16384), "mechanisms": ALL, "repeats": 11}
POWERS = tuple(128 << i for i in range(11))  # to 131,072 tokens
ALONE = {"with_peers": False, "repeats": 9}

BENCHES: dict[str, dict[str, Any]] = {
    "DeepSeek-V3, bfloat16": {"dtype": "bfloat16", **REAL},
    # Its merged weights beside all others take more memory than a machine of 16 GiB has.
    "DeepSeek-V3, float32": {**REAL, "dtype": "float32", "mechanisms": ALL[:-1]},
    "DeepSeek-V2-Lite, bfloat16": {"geometry": "v2-lite", "dtype": "bfloat16", **REAL},
    "DeepSeek-V2-Lite, float32": {"geometry": "v2-lite", "dtype": "float32", **REAL},
    "the Decode page's layer, float32": {
        "geometry": "demo",
        "dtype": "float32",
        "contexts": (16, 64, 256, 1024),
        "mechanisms": ALL,
    },
    "DeepSeek-V3, bfloat16, 8 sequences": {
        **{"batch": 8, "contexts": (256, 1024, 4096), "mechanisms": ("mha", *LATENT)},
        **ALONE,
    },
    "DeepSeek-V2-Lite, bfloat16, many queries": {
        **{"geometry": "v2-lite", "contexts": (1024, 4096), "mechanisms": LATENT},
        "query_tokens": (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 512, 1024, 2048, 4096),
        **ALONE,
    },
    "DeepSeek-V3, bfloat16, many queries": {
        **{"contexts": (4096,), "mechanisms": LATENT},
        "query_tokens": (1, 4, 16, 64, 128, 192, 256, 512, 1024),
        **ALONE,
    },
    "growth of mla_absorbed": {"contexts": POWERS, "mechanisms": ("mla_absorbed",), **ALONE},
    "growth of mla_expanded": {"contexts": POWERS[:-1], "mechanisms": ("mla_expanded",), **ALONE},
    "growth of mha": {"contexts": POWERS[:-1], "mechanisms": ("mha",), **ALONE},
}
# The same on a processor whose cores multiply matrices of bfloat16: measured by name alone.
MATRIX_UNITS = {
    f"{name}, matrix units": BENCHES[name]
    for name in ("DeepSeek-V3, bfloat16", "DeepSeek-V3, float32")
}
NAMED = BENCHES | MATRIX_UNITS


def main(names: list[str]) -> None:
    """Measure, and write after each bench."""
    file = shipped(SPEED_FILE)
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in names or BENCHES:
        found = bench(BenchSettings(**NAMED[name]), lambda *told, n=name: print(n, *told))
        if not found.complete:
            sys.exit("stopped: what was measured before stays")
        kept[name] = found.record()
        ordered = {each: kept[each] for each in NAMED if each in kept}
        file.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        write_checksums()
        print(f"{name}: {'busy' if found.busy else 'quiet'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
