import json
import re
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import pytest
import torch

from mla_viz.attention.cache import HeadCache, LatentCache
from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS, group_kv_heads
from mla_viz.player import layout, payload
from mla_viz.player.bundle import FOLDER as PLAYER
from mla_viz.player.payload import pack_run
from mla_viz.run.decode import decode
from mla_viz.run.trace import DIFFERENCES, AttentionRows
from tests import golden

WRITTEN = json.loads((golden.FOLDER / "golden.json").read_text(encoding="utf-8"))
DTYPES = {"f64": "<f8", "f32": "<f4", "i32": "<i4", "u8": "<u1"}


def unpack(packed):
    """The header with its arrays as nested lists, read by the layout's prose alone."""
    length = int.from_bytes(packed[:4], "little")
    start = -(-(4 + length) // 8) * 8
    assert set(packed[4 + length : start]) <= {0}

    def array(entry):
        if "offset" not in entry:
            return entry
        assert entry["offset"] % 8 == 0
        count = int(np.prod(entry["shape"]))
        at = start + entry["offset"]
        values = np.frombuffer(packed, DTYPES[entry["dtype"]], count, at)
        return values.reshape(entry["shape"]).tolist()

    return json.loads(packed[4 : 4 + length], object_hook=array)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_field_of_a_golden_run_is_what_was_worked_out_by_hand(name):
    header = unpack(golden.packed()[name])
    names = [bytes.fromhex(header.pop(kind)) for kind in ("run", "prompt")]
    assert [len(name) for name in names] == [8, 8]
    assert header == WRITTEN[name]


@pytest.mark.parametrize("name", golden.packed())
def test_the_golden_bytes_are_packed_as_they_were(name):
    kept = (golden.FOLDER / name).read_bytes()
    assert golden.packed()[name] == kept, "python -m tests.golden writes them anew"


def test_the_types_of_the_javascript_are_those_of_the_layout():
    kept = (PLAYER / "src" / "layout.d.ts").read_text(encoding="utf-8")
    assert layout.typescript() + "\n" == kept, "python -m mla_viz.player.layout prints them"


def test_what_the_layout_does_not_say_is_not_packed():
    side = replace(golden.NAIVE, time_us=np.zeros((4, 2)))
    with pytest.raises(ValueError, match="run.left.time_us: expected f32 with axes steps n_layers"):
        pack_run(replace(golden.SAME, left=side))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.zeros((4, 2)), Annotated[layout.Array, "f64", "steps"], r"float64 of shape \(4, 2\)"),
        (np.zeros(4), Annotated[layout.Array, "f64", "steps", "ends"], r"of shape \(4,\)"),
        (np.zeros(4), Annotated[layout.Array, "f32 u8", "values"], "expected f32 u8 with axes va"),
        (np.zeros(4, np.int64), Annotated[layout.Array, "i32", "kept"], "got int64"),
        (2.0, int, "x: expected <class 'int'>, got 2.0"),
        (True, int, "x: expected <class 'int'>, got True"),
        (np.float64(2), float, "x: expected <class 'float'>, got np.float64"),
        (["a", 1], list[str], r"x\[1\]: expected <class 'str'>, got 1"),
        ("guess", Literal["prompt", "generated"], "x: expected .* got 'guess'"),
        ({"label": "k"}, layout.Part, "x: expected label, elems, got label"),
        ({"label": "k", "elems": 1, "of": 2}, layout.Part | None, "got label, elems, of"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_place(value, kind, message):
    with pytest.raises(ValueError, match=message):
        payload._header(value, kind, "x", payload.Body())


def test_a_run_decoded_for_real_fits_the_layout():
    run = decode("Once upon a time", source="synthetic", heads=3, latent=6, max_new_tokens=3)
    header = unpack(pack_run(run))
    assert header["left"]["attention"]["data"] == run.left.probs.data.tolist()
    assert header["right"]["top"]["text"][2][0] == run.right.candidates(2)[0][0]
    assert list(header["differences"]) == list(DIFFERENCES)


def test_attention_is_exact_up_to_the_limit_and_says_so_past_it(monkeypatch):
    size = sum(side.probs.data.nbytes for side in golden.SAME.sides())
    monkeypatch.setattr(payload, "EXACT_BYTES", size)
    assert unpack(pack_run(golden.SAME))["left"]["attention"]["exact"]
    monkeypatch.setattr(payload, "EXACT_BYTES", size - 1)
    for side in ("left", "right"):
        attention = unpack(pack_run(golden.SAME))[side]["attention"]
        assert not attention["exact"]
        weights = WRITTEN["golden.bin"][side]["attention"]["data"]
        assert np.abs(np.array(attention["data"]) / 255 - weights).max() <= 0.5 / 255 + 1e-7


def head_cache(n_heads, k_width, v_width):
    """A cache of one token: head h holds keys h.1 and values h.2."""
    cache = HeadCache((n_heads,), (k_width, v_width), torch.float64, "cpu")
    heads = torch.arange(1, n_heads + 1, dtype=torch.float64)[:, None, None]
    cache.append((heads + 0.1).expand(-1, 1, k_width), (heads + 0.2).expand(-1, 1, v_width))
    return cache


@pytest.mark.parametrize(
    ("side", "widths"), [(golden.NAIVE, (3, 6, 5)), (golden.GROUPED, (2, 4, 4))]
)
def test_segments_name_every_column_of_a_cache_of_heads(side, widths):
    columns = head_cache(*widths).table()[0].tolist()
    names = [
        float(segment["label"].removeprefix("head ")) + {"k": 0.1, "v": 0.2}[part["label"]]
        for segment in payload._side(side, 0, True, (1, 1))["layers"][0]["segments"]
        for part in segment["parts"]
        for _ in range(part["elems"])
    ]
    assert names == columns


@pytest.mark.parametrize("mechanism", ["mla_absorbed", "mla_merged", "mla_reexpand"])
def test_segments_name_every_column_of_a_cache_of_latents(mechanism):
    cache = LatentCache((), 7, 2, torch.float64, "cpu")
    cache.append(torch.full((1, 7), 0.0), torch.full((1, 2), 1.0))
    side = replace(golden.ABSORBED, mechanism=mechanism)
    names = [
        ["latent c_KV", "rope key k_R"].index(segment["label"])
        for segment in payload._side(side, 0, True, (1, 1))["layers"][0]["segments"]
        for _ in range(segment["elems"])
    ]
    assert names == cache.table()[0].tolist()


def test_a_latent_without_a_rope_key_is_one_segment():
    side = replace(golden.NO_CACHE, mechanism="mla_absorbed")
    assert [
        (s["label"], s["elems"])
        for s in payload._side(side, 0, True, (1, 1))["layers"][0]["segments"]
    ] == [("latent c_KV", 3)]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_grows_in_a_ledger_is_the_number_of_tokens(mechanism):
    own = {"mha": 4, "gqa": 2, "mqa": 1}
    mla, n_kv_heads = golden.MLA, own.get(mechanism)
    geometry = GQAGeometry(6, 4, n_kv_heads, 4) if n_kv_heads else mla
    if mechanism == "gqa_latent":
        geometry = LatentGQAGeometry(6, 4, 2, 4, kv_lora_rank=5)
    side = replace(golden.NAIVE, mechanism=mechanism, geometry=geometry)
    ledgers = [side.operations(step) for step in range(13)]
    for packed, line in zip(payload._operations(ledgers), zip(*ledgers, strict=True), strict=True):
        for name, size in packed["shape"].items():
            sizes = [getattr(op, name) for op in line]
            assert sizes == ([size] * 13 if size is not None else list(range(1, 14)))


def sides(n_heads, dim):
    """A side of every mechanism with so many heads of one width."""
    for name, row in MECHANISMS.items():
        own = row.kv_heads and GQAGeometry(6, n_heads, row.kv_heads(n_heads), dim)
        geometry = own or MLAGeometry(6, n_heads, 3, 2, dim, 4)
        if name == "gqa_latent":
            geometry = LatentGQAGeometry(6, n_heads, group_kv_heads(n_heads), dim, kv_lora_rank=4)
        yield replace(golden.NAIVE, mechanism=name, geometry=geometry)


OWN_HEADS = [(8, 32), (7, 6), (1, 2), (16, 16)]
SIDES = [side for heads in OWN_HEADS for side in sides(*heads)]


@pytest.mark.parametrize(("n", "dim"), OWN_HEADS)
def test_a_reference_has_the_heads_of_its_own_side_and_names_them(n, dim):
    group = group_kv_heads(n)
    kv_heads = {f"MHA {n}×{dim}": n, f"GQA {group}×{dim}": group, f"MQA 1×{dim}": 1}
    for side in sides(n, dim):
        references = payload._side(side, 2, True, (1, 1))["baselines"]
        assert references[0]["label"] == f"MHA {n}×{dim}"
        for one in references:
            count = kv_heads[one["label"]]
            assert one["bytes_per_token"] == 2 * count * dim * side.n_layers * side.elem_bytes
            assert one["counted"].startswith(f"2·{count}·{dim} values")
            assert re.search(rf" of {n} heads?, head dim {dim}$", one["what"])


def test_lines_of_one_name_are_of_one_height():
    heights = {}
    for side in SIDES:
        packed = payload._side(side, 2, True, (1, 1))
        own = {"label": packed["sized"]}
        own["bytes_per_token"] = side.cache_elems * side.n_layers * side.elem_bytes
        named_by_heads = side.mechanism not in MLA_MECHANISMS
        for line in [*packed["baselines"], *([own] if named_by_heads else [])]:
            height = line["bytes_per_token"]
            assert heights.setdefault(line["label"], height) == height, line


@pytest.mark.parametrize("left", SIDES[: len(MECHANISMS)], ids=list(MECHANISMS))
def test_operations_are_shared_where_all_that_is_said_of_them_is_equal(left):
    def told(op):
        return json.dumps(op | {"shared": None}, default=np.ndarray.tolist)

    for right in [*SIDES[: 2 * len(MECHANISMS)], replace(left, elem_bytes=4)]:
        layers = [payload._side(side, 3, True, (1, 1))["layers"] for side in (left, right)]
        payload._mark_shared(*layers)
        both = [layer["operations"] for (layer,) in layers]
        for ops, others in (both, both[::-1]):
            for op in ops:
                assert op["shared"] == (told(op) in map(told, others)), op


def test_a_run_names_its_prompt_whatever_else_it_is():
    other = replace(golden.SAME, left=replace(golden.NAIVE, elem_bytes=4))
    third = replace(golden.SAME, prompt="Once")
    names = [unpack(pack_run(run))["prompt"] for run in (golden.SAME, other, third)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("what", ["header", "body"])
def test_another_run_has_another_name(what):
    probs = AttentionRows(range(4), 2, 3)
    probs.data[:] = golden.NAIVE.probs.data
    probs.data[59] = 0
    changed = {"header": {"elem_bytes": 4}, "body": {"probs": probs}}[what]
    other = replace(golden.SAME, left=replace(golden.NAIVE, **changed))
    names = [unpack(pack_run(run))["run"] for run in (golden.SAME, other, golden.SAME)]
    assert names[0] == names[2] != names[1]


def test_what_the_clock_measured_changes_no_name():
    slower = replace(golden.NAIVE, time_us=golden.NAIVE.time_us * 2)
    runs = golden.SAME, replace(golden.SAME, left=slower)
    one, other = (unpack(pack_run(run)) for run in runs)
    assert one["run"] == other["run"]
    assert one["left"]["time_us"] != other["left"]["time_us"]


def test_vectors_travel_for_as_many_layers_and_then_steps_as_the_bound_holds(monkeypatch):
    run = decode("A fox ran", source="synthetic", layers=3, heads=2, latent=4, max_new_tokens=9)
    whole = payload._layer_bytes(run, run.n_steps)
    for bound, layers, kept in [
        (3 * whole, 3, run.n_steps),
        (3 * whole - 1, 2, run.n_steps),
        (whole, 1, run.n_steps),
        (whole - 1, 1, run.n_steps * 3 // 4),
        (1, 1, 1),
    ]:
        monkeypatch.setattr(payload, "VECTOR_BYTES", bound)
        header = unpack(pack_run(run))
        for side in (header["left"], header["right"]):
            assert side["vectors"]["n_layers"] == layers
            assert side["vectors"]["steps"] == list(range(run.n_steps))[-kept:]
            assert len(side["vectors"]["x"]) == kept
            assert len(side["vectors"]["latents"]) == run.n_steps
            rows = sum(step + 1 for step in side["vectors"]["steps"])
            assert len(side["vectors"]["scores"]) == rows * layers * 2
        assert bool(header["notes"]) == ((layers, kept) != (3, run.n_steps))


def test_an_array_that_is_there_already_is_not_packed_again():
    body = payload.Body()
    places = [body.place(raw) for raw in (b"abc", b"abcdefgh9", b"abc", b"")]
    assert places == [0, 8, 0, 24]
    assert bytes(body.bytes) == b"abc" + bytes(5) + b"abcdefgh9" + bytes(7)
