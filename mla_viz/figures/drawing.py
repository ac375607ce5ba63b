"""Stages of the worked example as records that the browser draws.

Knows which matrix stands where; knows neither how one is made nor how it is painted.

A drawing is bands, from top to bottom. In a band each lane has schemes: matrices in rows and
columns, so that a product stands right of its first factor and below its second. Matrices that
stand side by side in one place have " | " between their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mla_viz.findings.matrix import Join, Matrix
from mla_viz.mechanisms.table import MECHANISMS

Band = Mapping[str, Any]
Lanes = Mapping[str, Mapping[str, Matrix]]


def drawing(
    bands: Sequence[Band], label: str, lanes: Lanes, joins: Mapping[str, Join]
) -> dict[str, Any]:
    """Bands with every number in them; what a band calls equal is joined, as measured.

    Raises:
        KeyError: a band names a matrix or a join that there is none of.
    """
    return {
        "run": label,
        "left": {"color": asdict(MECHANISMS["mla_expanded"].colour)},
        "right": {"color": asdict(MECHANISMS["mla_absorbed"].colour)},
        "bands": [
            {
                "lanes": [_lane(name, band) for name in lanes if name in band],
                "joins": [asdict(joins[name]) for name in band.get("equal", ())],
            }
            for band in bands
        ],
        "matrices": {name: _matrices(bands, name, known) for name, known in lanes.items()},
    }


def _lane(name: str, band: Band) -> dict[str, Any]:
    """A place is the names in it, in order; none where it is empty."""
    schemes = [
        [[place.split(" | ") if place else [] for place in row] for row in scheme]
        for scheme in band[name]
    ]
    return {"name": name, "says": band.get(f"{name}_says", ""), "schemes": schemes}


def _matrices(bands: Sequence[Band], lane: str, known: Mapping[str, Matrix]) -> dict[str, Any]:
    """The matrices that a lane's schemes name."""
    schemes = [scheme for band in bands for scheme in band.get(lane, ())]
    places = [place for scheme in schemes for row in scheme for place in row if place]
    names = dict.fromkeys(name for place in places for name in place.split(" | "))
    return {name: asdict(known[name]) | {"values": known[name].values.tolist()} for name in names}
