"""A Run as one block of bytes, the form in which the player gets it.

Layout: header length (u32, little-endian), the header as UTF-8 JSON, zeros up to a multiple of 8,
then the arrays, each at a multiple of 8. The header names each array by offset, dtype and shape.
Attention travels as float32 up to EXACT_BYTES a run and as one byte a value past that.
"""

import json
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

import numpy as np

from mla_viz.config import MECHANISM_NAMES, GQAGeometry, MLAGeometry
from mla_viz.cost import baselines, shape_text
from mla_viz.figures.theme import COLOURS
from mla_viz.trace import DIFFERENCES, AttentionRows, Run, Side

EXACT_BYTES = 16 << 20
DTYPES = {"float64": "f64", "float32": "f32", "int32": "i32", "uint8": "u8"}


class _Blobs:
    """The arrays of a payload, in order."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._offset = 0

    def add(self, array: np.ndarray) -> dict[str, Any]:
        """Append an array; returns its entry in the header."""
        entry = {
            "offset": self._offset,
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
        }
        raw = np.ascontiguousarray(array).tobytes()
        self.parts.append(_padded(raw))
        self._offset += len(self.parts[-1])
        return entry

    def numbers(self, values: object) -> dict[str, Any]:
        """Append numbers as float64."""
        return self.add(np.asarray(values, dtype=np.float64))


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 8)


def pack_run(run: Run) -> bytes:
    """Pack a run for the player."""
    blobs = _Blobs()
    exact = sum(side.probs.data.nbytes for side in run.sides()) <= EXACT_BYTES
    left, right = (_side(side, run, blobs, exact) for side in run.sides())
    _mark_shared(left["operations"], right["operations"])
    header = {
        "dtype": run.dtype,
        "device": run.device,
        "temperature": run.temperature,
        "same_model": run.differences is not None,
        "same_tokens": run.same_tokens,
        "n_layers": run.n_layers,
        "prompt_len": run.prompt_len,
        "n_steps": run.n_steps,
        "notes": list(run.notes),
        "tokens": [asdict(token) for token in run.tokens],
        "differences": _differences(run, blobs),
        "baselines": _baselines(run),
        "left": left,
        "right": right,
    }
    body = b"".join(blobs.parts)
    header["run"] = blake2b(json.dumps(header).encode() + body, digest_size=8).hexdigest()
    text = json.dumps(header).encode()
    return _padded(len(text).to_bytes(4, "little") + text) + body


def _differences(run: Run, blobs: _Blobs) -> dict[str, Any] | None:
    if run.differences is None:
        return None
    return {name: blobs.numbers(run.differences[:, i]) for i, name in enumerate(DIFFERENCES)}


def _baselines(run: Run) -> list[dict[str, Any]]:
    g = run.left.geometry
    v_head_dim = g.v_head_dim if isinstance(g, MLAGeometry) else g.head_dim
    each_elem = run.n_layers * run.left.elem_bytes
    return [
        {"label": b.label, "detail": b.detail, "bytes_per_token": b.elems * each_elem}
        for b in baselines(g.n_heads, v_head_dim)
    ]


def _side(side: Side, run: Run, blobs: _Blobs, exact: bool) -> dict[str, Any]:
    name = MECHANISM_NAMES[side.mechanism]
    return {
        "mechanism": side.mechanism,
        "label": name.label,
        "short": name.short,
        "color": asdict(COLOURS[side.mechanism]),
        "n_heads": side.geometry.n_heads,
        "elem_bytes": side.elem_bytes,
        "cache_elems": side.cache_elems,
        "segments": segments(side),
        "cache_bytes": blobs.numbers(side.cache_bytes),
        "allocated_bytes": blobs.numbers(side.allocated_bytes),
        "working_bytes": blobs.numbers(side.working_bytes),
        "time_us": blobs.add(side.time_us),
        "operations": _operations(side, run.n_steps, blobs),
        "attention": _attention(side.probs, blobs, exact),
        "cells": _cells(side, blobs),
        "top": {"text": side.top_text, "probs": blobs.add(side.top_probs)},
    }


def segments(side: Side) -> list[dict[str, Any]]:
    """What the columns of the cache are, left to right, as the cache's table() lays them."""
    g = side.geometry
    if isinstance(g, GQAGeometry):
        return [_head(i, g.head_dim, g.head_dim) for i in range(g.n_kv_heads)]
    if side.mechanism == "mla_expanded":
        return [_head(i, g.qk_head_dim, g.v_head_dim) for i in range(g.n_heads)]
    if not side.cache_elems:
        return []
    parts = [("latent c_KV", g.kv_lora_rank), ("rope key k_R", g.qk_rope_head_dim)]
    return [{"label": label, "elems": n, "parts": []} for label, n in parts if n]


def _head(index: int, k: int, v: int) -> dict[str, Any]:
    parts = [{"label": "k", "elems": k}, {"label": "v", "elems": v}]
    return {"label": f"head {index + 1}", "elems": k + v, "parts": parts}


def _operations(side: Side, n_steps: int, blobs: _Blobs) -> list[dict[str, Any]]:
    ledgers = [side.operations(step) for step in range(n_steps)]
    return [
        {
            "name": line[-1].name,
            "formula": line[-1].formula,
            "shapes": shape_text(line[0], line[-1]),
            "flops": blobs.numbers([op.flops for op in line]),
            "bytes_read": blobs.numbers([op.bytes_read for op in line]),
            "bytes_written": blobs.numbers([op.bytes_written for op in line]),
        }
        for line in zip(*ledgers, strict=True)
    ]


def _mark_shared(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    """Operations that both sides do alike are drawn muted."""
    kinds = [{(op["name"], op["formula"]) for op in side} for side in (left, right)]
    for op in left + right:
        op["shared"] = all((op["name"], op["formula"]) in kind for kind in kinds)


def _attention(probs: AttentionRows, blobs: _Blobs, exact: bool) -> dict[str, Any]:
    data = probs.data if exact else np.rint(probs.data * 255).astype(np.uint8)
    return {"exact": exact, "rows": blobs.add(probs.steps), "data": blobs.add(data)}


def _cells(side: Side, blobs: _Blobs) -> dict[str, Any]:
    cells = side.cells
    return {
        "layers": blobs.add(cells.low_high),
        "data": blobs.add(cells.data),
        "tokens": cells.data.shape[1],
        "every": cells.every,
        "elems": cells.data.shape[2],
    }
