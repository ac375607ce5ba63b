"""A Run as one block of bytes, the form in which the player gets it.

Header length (u32, little-endian), the header as UTF-8 JSON, zeros up to a multiple of 8, then the
arrays, each at a multiple of 8. Which fields and arrays there are says layout.py. Attention travels
as float32 up to EXACT_BYTES a run and as one byte a value past that; the vectors of a step travel
for as many layers, and then for as many of the last steps, as VECTOR_BYTES hold, and the rest of
them layer by layer when it is asked for (pack_rest). An array that was there before is not written
again.
"""

import json
from dataclasses import asdict, replace
from hashlib import blake2b
from itertools import chain
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

import numpy as np
from jaxtyping import Float, Float64, Int

from mla_viz.config import AttentionGeometry, LatentGQAGeometry, MLAGeometry
from mla_viz.cost import baselines, cache_elems, cache_reads
from mla_viz.findings.family import TOLD_APART
from mla_viz.findings.scores import load_grid
from mla_viz.mechanisms.ledger import Operation
from mla_viz.mechanisms.segments import Segment
from mla_viz.mechanisms.table import MECHANISMS, OWN_MODEL
from mla_viz.player import layout
from mla_viz.run.record import MEASURED
from mla_viz.run.trace import DIFFERENCES, AttentionRows, Run, Side
from mla_viz.words import count_text, mb_text

EXACT_BYTES = 16 << 20
VECTOR_BYTES = 2_900_000
REST_BYTES = 24_000_000


class Body:
    """Arrays behind one another; one that is there already keeps its place."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self._places: dict[bytes, int] = {}
        self.names = b""  # of all that no clock measured

    def place(self, raw: bytes, *, measured: bool = False) -> int:
        """Where these bytes lie."""
        name = blake2b(raw, digest_size=16).digest()
        self.names += b"" if measured else name
        if measured or name not in self._places:
            self._places[name] = len(self.bytes)
            self.bytes += _padded(raw)
        return self._places[name]


def pack_run(run: Run) -> bytes:
    """Pack a run for the player."""
    body = Body()
    header = _header(_run(run), layout.Run, "run", body)
    header["run"] = _name(json.dumps(header).encode() + body.names)
    return _whole(header, body)


def pack_rest(run: Run, layer: int) -> bytes:
    """Pack the vectors of one layer, from 0, of as many last kept steps as REST_BYTES hold."""
    kept, body = _kept_within(run, REST_BYTES), Body()
    left, right = (_vectors(side, range(layer, layer + 1), kept) for side in run.sides())
    name = run_name(pack_run(run))
    rest = {"version": layout.VERSION, "run": name, "left": left, "right": right}
    return _whole(_header(rest, layout.Rest, "rest", body), body)


def run_name(packed: bytes) -> str:
    """What a packed run calls itself."""
    return _read(packed)["run"]


def cut_of(packed: bytes) -> layout.Cut | None:
    """What a packed run says of a cut against its model; None where it is none."""
    return _read(packed)["cut"]


def _read(packed: bytes) -> dict[str, Any]:
    return json.loads(packed[4 : 4 + int.from_bytes(packed[:4], "little")])


def _whole(header: dict[str, Any], body: Body) -> bytes:
    text = json.dumps(header).encode()
    return _padded(len(text).to_bytes(4, "little") + text) + body.bytes


def _name(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 8)


def _header(value: Any, kind: Any, where: str, body: Body) -> Any:
    """What stands in the header for a value of this kind; arrays go to the end of the body.

    Raises:
        ValueError: the value is not what the layout says; the message names its place.
    """
    if is_typeddict(kind):
        fields = kind.__annotations__
        if value.keys() != fields.keys():
            raise ValueError(f"{where}: expected {', '.join(fields)}, got {', '.join(value)}")
        return {k: _header(value[k], each, f"{where}.{k}", body) for k, each in fields.items()}
    if get_origin(kind) is list:
        each = get_args(kind)[0]
        return [_header(child, each, f"{where}[{i}]", body) for i, child in enumerate(value)]
    if get_origin(kind) in (Union, UnionType):
        inner, _ = get_args(kind)
        return None if value is None else _header(value, inner, where, body)
    if get_origin(kind) is Annotated:
        return _append(value, *get_args(kind)[1:], where=where, body=body)
    fits = value in get_args(kind) if get_origin(kind) is Literal else type(value) is kind
    if not fits:
        raise ValueError(f"{where}: expected {kind}, got {value!r}")
    return value


def _append(array: np.ndarray, dtypes: str, *axes: str, where: str, body: Body) -> dict[str, Any]:
    names = {np.dtype(dtype): name for name, dtype in layout.DTYPES.items()}
    dtype = names.get(array.dtype)
    if dtype not in dtypes.split() or array.ndim != len(axes):
        got = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{where}: expected {dtypes} with axes {' '.join(axes)}, got {got}")
    place = body.place(array.tobytes(), measured=where.rpartition(".")[2] in MEASURED)
    return {"offset": place, "dtype": dtype, "shape": list(array.shape)}


def _run(run: Run) -> layout.Run:
    exact = sum(side.probs.data.nbytes for side in run.sides()) <= EXACT_BYTES
    reach = _reach(run)
    left, right = (_side(side, run.n_steps, exact, reach) for side in run.sides())
    if run.kl is not None:
        for side in (left, right):
            row = MECHANISMS[side["mechanism"]].same_weights()
            side["label"] = row.label
            side["about"] = side["about"].replace(OWN_MODEL, "")
    _mark_shared(left["layers"], right["layers"])
    return {
        "version": layout.VERSION,
        "run": "",
        "prompt": _name(run.prompt.encode(errors="surrogatepass")),
        "dtype": run.dtype,
        "device": run.device,
        "temperature": float(run.temperature),
        "top_k": run.top_k,
        "same_model": run.differences is not None,
        "same_tokens": run.same_tokens,
        "n_layers": run.n_layers,
        "prompt_len": run.prompt_len,
        "n_steps": run.n_steps,
        "notes": [*run.notes, *_left_out(run, *reach)],
        "tokens": [asdict(token) for token in run.tokens],
        "differences": _differences(run),
        "gaps": None if run.gaps is None else dict(vars(run.gaps)),
        "loss": _loss(run),
        "cut": _cut(run),
        "left": left,
        "right": right,
    }


def _numbers(values: object) -> Float64[np.ndarray, " steps"]:
    return np.asarray(values, dtype=np.float64)


def _differences(run: Run) -> layout.Differences | None:
    if run.differences is None:
        return None
    return {name: _numbers(run.differences[:, i]) for i, name in enumerate(DIFFERENCES)}


def _loss(run: Run) -> layout.Loss | None:
    """What was measured for the slider-following model; other models have no such grid."""
    grid, g = load_grid(), run.left.geometry
    if run.model.get("name") != grid.model or run.differences is None:
        return None
    full = grid.heads[-1], grid.latents[-1]
    return {
        "here": grid.loss(g.n_heads, g.kv_lora_rank),
        "full": grid.loss(*full),
        "setting": _setting(g.n_heads, g.kv_lora_rank),
        "full_setting": _setting(*full),
        "apart": TOLD_APART,
        "stories": grid.stories,
        "tokens": grid.tokens,
    }


def _cut(run: Run) -> layout.Cut | None:
    if run.kl is None:
        return None
    alike = run.left.cache_elems == run.right.cache_elems
    whole = alike and all(all_turned(side.geometry) for side in run.sides())
    return {
        "kl": run.mean_kl,
        "agreement": run.agreement,
        "tokens": run.n_steps,
        "text": run.text,
        "whole": whole,
        "elems": min(side.cache_elems for side in run.sides()),
        "pooled": any(side.ranks is not None for side in run.sides()),
        "decoupled": alike and not whole,
    }


def all_turned(g: AttentionGeometry) -> bool:
    """Whether all keys are turned: as MLA, a latent of the values alone is as wide as they are."""
    return not isinstance(g, MLAGeometry) or g.qk_rope_head_dim == g.kv_lora_rank


def _setting(heads: int, latent: int) -> str:
    return f"{count_text(heads, 'head')}, latent dim {latent}"


def _baselines(side: Side) -> list[layout.Baseline]:
    g = side.geometry
    v_head_dim = g.v_head_dim if isinstance(g, MLAGeometry) else g.head_dim
    each_elem = side.n_layers * side.elem_bytes
    return [
        {
            "label": baseline.sized,
            "what": baseline.what,
            "counted": baseline.counted,
            "bytes_per_token": baseline.elems * each_elem,
        }
        for baseline in baselines(g.n_heads, v_head_dim)
    ]


def _side(side: Side, n_steps: int, exact: bool, reach: tuple[int, int]) -> layout.Side:
    row, kept, alike = MECHANISMS[side.mechanism], _kept(side), side.ranks is None
    short = f"{row.short} {kept['name']}" if kept else row.short
    return {
        "mechanism": side.mechanism,
        "label": row.label,
        "short": short,
        "about": f"{row.about} {kept['about']}" if kept else row.about,
        "sized": _sized(short, side.geometry),
        "color": asdict(row.colour),
        "n_heads": side.geometry.n_heads,
        "elem_bytes": side.elem_bytes,
        "kept": kept,
        "layers": [_layer(side, layer, n_steps) for layer in range(1 if alike else side.n_layers)],
        "baselines": _baselines(side),
        "cache_bytes": _numbers(side.cache_bytes),
        "allocated_bytes": _numbers(side.allocated_bytes),
        "working_bytes": _numbers(side.working_bytes),
        "time_us": side.time_us,
        "attention": _attention(side.probs, exact),
        "cells": {
            "every": side.cells.every,
            "low_high": side.cells.low_high,
            "data": side.cells.data,
        },
        "vectors": _vectors(side, range(reach[0]), reach[1]),
        "top": {"text": side.top_text, "probs": side.top_probs},
    }


def _layer(side: Side, layer: int, n_steps: int) -> layout.Layer:
    g = side.of_layer(layer)
    return {
        "dims": _dims(g),
        "cache_elems": cache_elems(side.mechanism, g),
        "row_bytes": side.layer_bytes(layer),
        "cache_reads": cache_reads(side.mechanism, g),
        "segments": [_segment(segment) for segment in MECHANISMS[side.mechanism].segments(g)],
        "operations": _operations([side.operations(step, layer) for step in range(n_steps)]),
    }


def _kept(side: Side) -> layout.Kept | None:
    """The format of a cache in words; the RoPE key is told of where there is one of its own."""
    if side.kept is None:
        return None
    segments = MECHANISMS[side.mechanism].segments(side.geometry)
    own = any(stretch.rope for segment in segments for stretch in segment.stretches)
    rope = "; the RoPE key stays as it is" if own and side.kept.keep_rope else ""
    return {"name": side.kept.name, "about": f"Kept in {side.kept.about}{rope}."}


def _sized(short: str, g: AttentionGeometry) -> str:
    """`absorbed`, `MQA 1×32`, `latent GQA 1×256`."""
    if isinstance(g, LatentGQAGeometry):
        return f"{short} 1×{g.kv_lora_rank}"
    return short if isinstance(g, MLAGeometry) else f"{short} {g.n_kv_heads}×{g.head_dim}"


def _segment(segment: Segment) -> layout.Segment:
    parts = [{"label": part.label, "elems": part.elems} for part in segment.parts]
    return {"label": segment.label, "elems": segment.elems, "parts": parts}


def _operations(ledgers: list[list[Operation]]) -> list[layout.Operation]:
    return [
        {
            "name": line[-1].name,
            "phase": line[-1].phase,
            "formula": line[-1].formula,
            "shape": _shape(line[0], line[-1]),
            "shared": False,
            "flops": _numbers([op.flops for op in line]),
            "bytes_read": _numbers([op.bytes_read for op in line]),
            "bytes_written": _numbers([op.bytes_written for op in line]),
        }
        for line in zip(*ledgers, strict=True)
    ]


def _shape(first: Operation, last: Operation) -> layout.Product:
    """The sizes of an operation; None for what grew between two steps."""
    names = ("batch", "rows", "inner", "columns")
    sizes = {name: (getattr(first, name), getattr(last, name)) for name in names}
    return {name: before if before == after else None for name, (before, after) in sizes.items()}


def _mark_shared(left: list[layout.Layer], right: list[layout.Layer]) -> None:
    """Operations that both sides do alike, in the same shapes and amounts, are drawn muted."""
    for layer in range(max(len(left), len(right))):
        sides = [side[min(layer, len(side) - 1)]["operations"] for side in (left, right)]
        kinds = [{_counted(op) for op in side} for side in sides]
        for op in chain(*sides):
            op["shared"] = all(_counted(op) in kind for kind in kinds)


def _counted(op: layout.Operation) -> tuple[object, ...]:
    """All that tells one operation from another."""
    counts = op["flops"], op["bytes_read"], op["bytes_written"]
    shape = op["shape"].values()
    return op["name"], op["formula"], *shape, *(count.tobytes() for count in counts)


def _dims(g: AttentionGeometry) -> layout.Dims:
    mla = isinstance(g, MLAGeometry)
    return {
        "d_model": g.d_model,
        "qk": g.qk_head_dim if mla else g.head_dim,
        "rope": 0 if isinstance(g, LatentGQAGeometry) else g.rope_width,
        "v": g.v_head_dim if mla else g.head_dim,
        "latent": getattr(g, "kv_lora_rank", 0),
        "kv_heads": 0 if mla else g.n_kv_heads,
        "scale": g.softmax_scale,
    }


def _reach(run: Run) -> tuple[int, int]:
    """How many layers, from the first on, and how many of the last kept steps, have vectors."""
    kept = _kept_within(run, VECTOR_BYTES)
    layers = VECTOR_BYTES // _layer_bytes(run, kept)
    return max(1, min(run.n_layers, layers)), kept


def _kept_within(run: Run, limit: int) -> int:
    """How many of the last kept steps have vectors where those of one layer take `limit` bytes."""
    kept = len(run.left.probs.steps)
    while kept > 1 and _layer_bytes(run, kept) > limit:
        kept = kept * 3 // 4
    return kept


def _layer_bytes(run: Run, kept: int) -> int:
    """What the vectors of one layer take, of both sides."""
    steps = run.left.probs.steps[-kept:].astype(np.int64)
    size = 0
    for side in run.sides():
        vectors = _vectors(replace(side, scores=AttentionRows([], 1, 1)), range(1), kept)
        size += 4 * side.geometry.n_heads * int((steps + 1).sum())
        size += sum(x.nbytes for x in vectors.values() if isinstance(x, np.ndarray))
    return size


def _left_out(run: Run, layers: int, kept: int) -> list[str]:
    """What to say where the vectors of some layers or steps do not travel."""
    if (layers, kept) == (run.n_layers, len(run.left.probs.steps)):
        return []
    last = "" if kept == len(run.left.probs.steps) else f", at its last {kept:,} kept steps"
    some = "layer 1" if layers == 1 else f"layers 1 to {layers}"
    return [
        f"Inside a step opens at once in {some}{last}: the vectors of more pass"
        f" {mb_text(VECTOR_BYTES)}. Opened elsewhere, it asks the server for them."
    ]


def _vectors(side: Side, layers: range, kept: int) -> layout.Vectors:
    """All but copies: what follows from latents and weights in the browser does not travel."""
    v, steps = side.vectors, side.probs.steps[-kept:]
    these = slice(layers.start, layers.stop)
    return {
        "first": layers.start,
        "n_layers": len(layers),
        "steps": steps,
        "x": v.x[-kept:, these],
        "q": None if v.q is None else v.q[-kept:, these],
        "q_latent": v.q_latent[-kept:, these] if v.q is None and v.q_latent is not None else None,
        "out": v.out[-kept:, these],
        "scores": _layers_of(side.scores, these, steps),
        "latents": None if v.latents is None else v.latents[:, these],
        "heads": v.heads[these] if v.heads is not None and _travel(side) else None,
        "W_UK": None if v.W_UK is None else v.W_UK[these],
        "W_UV": None if v.W_UV is None else v.W_UV[these],
    }


def _travel(side: Side) -> bool:
    """Whether cached keys and values travel: where they do not follow from latents and weights."""
    return side.vectors.W_UK is None or side.kept is not None


def _layers_of(
    rows: AttentionRows, layers: slice, steps: Int[np.ndarray, " some"]
) -> Float[np.ndarray, " values"]:
    """The rows of some layers, one step behind another."""
    kept = [rows.row(int(step))[layers].ravel() for step in steps if rows.keeps(int(step))]
    return np.concatenate([rows.data[:0], *kept])


def _attention(probs: AttentionRows, exact: bool) -> layout.Attention:
    data = probs.data if exact else np.rint(probs.data * 255).astype(np.uint8)
    return {"exact": exact, "steps": probs.steps, "data": data}
