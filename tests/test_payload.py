import json

import numpy as np
import pytest

from mla_viz import trace
from mla_viz.decode import decode
from mla_viz.player import payload
from mla_viz.player.payload import pack_run, segments

DTYPES = {"f64": np.float64, "f32": np.float32, "i32": np.int32, "u8": np.uint8}


def unpack(packed):
    length = int.from_bytes(packed[:4], "little")
    header = json.loads(packed[4 : 4 + length])
    start = -(-(4 + length) // 8) * 8

    def array(entry):
        dtype = DTYPES[entry["dtype"]]
        count = int(np.prod(entry["shape"]))
        at = start + entry["offset"]
        return np.frombuffer(packed, dtype, count, at).reshape(entry["shape"])

    return header, array


@pytest.fixture(scope="module")
def run():
    return decode("Once upon a time", source="synthetic", heads=3, latent=6, max_new_tokens=5)


def test_attention_arrives_bit_for_bit(run):
    header, array = unpack(pack_run(run))
    for name, side in (("left", run.left), ("right", run.right)):
        entry = header[name]["attention"]
        assert entry["exact"]
        assert array(entry["data"]).tobytes() == side.probs.data.tobytes()
        assert array(entry["rows"]).tolist() == side.probs.steps.tolist()


def test_past_the_limit_attention_is_one_byte_and_says_so(run, monkeypatch):
    monkeypatch.setattr(payload, "EXACT_BYTES", 100)
    header, array = unpack(pack_run(run))
    entry = header["left"]["attention"]
    assert not entry["exact"]
    rounded = array(entry["data"]) / 255
    assert np.abs(rounded - run.left.probs.data).max() <= 0.5 / 255 + 1e-7


def test_bytes_tokens_and_candidates_are_those_of_the_run(run):
    header, array = unpack(pack_run(run))
    assert [t["text"] for t in header["tokens"]] == [t.text for t in run.tokens]
    right = header["right"]
    assert array(right["cache_bytes"]).tolist() == run.right.cache_bytes.tolist()
    assert right["top"]["text"][2][0] == run.right.candidates(2)[0][0]
    assert array(header["differences"]["logits"]).tolist() == run.differences[:, 3].tolist()


def test_thinned_cache_cells_say_how_many_rows_they_have(monkeypatch):
    monkeypatch.setattr(trace, "CELL_BYTES", 2000)
    run = decode("Once upon a time", source="synthetic", heads=1, layers=1, max_new_tokens=60)
    header, array = unpack(pack_run(run))
    cells = header["left"]["cells"]
    assert cells["every"] == run.left.cells.every > 1
    assert array(cells["data"]).shape == (1, cells["tokens"], cells["elems"])
    assert (cells["tokens"] - 1) * cells["every"] < run.n_steps <= cells["tokens"] * cells["every"]


def test_operations_count_what_cost_counts(run):
    header, array = unpack(pack_run(run))
    for name, side in (("left", run.left), ("right", run.right)):
        sums = sum(array(op["flops"]) for op in header[name]["operations"]) * run.n_layers
        assert sums.tolist() == [side.flops(step) for step in range(run.n_steps)]


def test_shapes_name_the_growing_axis_and_no_other(run):
    header, _ = unpack(pack_run(run))
    shapes = {op["name"]: op["shapes"] for op in header["left"]["operations"]}
    assert shapes["score"] == "3×(1×48)·(48×t)"
    assert shapes["expand new"] == "(1×6)·(6×192)"


def test_operations_of_both_sides_are_marked_shared(run):
    header, _ = unpack(pack_run(run))
    shared = {op["name"] for op in header["right"]["operations"] if op["shared"]}
    assert shared == {"query", "latent", "output"}


def test_segments_cover_the_cache(run):
    for side in run.sides():
        assert sum(part["elems"] for part in segments(side)) == side.cache_elems


def test_different_models_have_no_differences():
    run = decode("Once", source="synthetic", right="mqa", heads=2, max_new_tokens=2)
    header, _ = unpack(pack_run(run))
    assert header["differences"] is None
    assert not header["same_model"]
    assert header["right"]["cache_elems"] == 64


def test_another_run_has_another_name(run):
    other = decode("Once upon a time", source="synthetic", heads=3, latent=7, max_new_tokens=5)
    names = {unpack(pack_run(r))[0]["run"] for r in (run, other)}
    assert len(names) == 2
