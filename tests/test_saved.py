"""A saved run: it comes back equal, and what is no saved run is refused in one line.

`python -m tests.test_saved` makes the file of this VERSION that has to load for ever.
"""

import json
import os
from dataclasses import field, make_dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from safetensors import safe_open
from safetensors.numpy import save

import mla_viz
from mla_viz import load_run
from mla_viz.cli import main
from mla_viz.player.payload import pack_run
from mla_viz.run import saved
from mla_viz.run.files import write_whole
from mla_viz.run.saved import ENTRY, VERSION
from mla_viz.run.trace import Run
from mla_viz.shipped import DATA
from tests import golden
from tests.test_cli import refusal
from tests.test_trace import arrays_of

KEPT = sorted(Path(__file__).parent.glob("run_v*.safetensors"))
OLD = Path(__file__).parent / f"run_v{VERSION}.safetensors"
TINY = {"heads": 2, "latent": 3, "qk_nope_head_dim": 2, "qk_rope_head_dim": 2, "v_head_dim": 2}
TINY |= {"source": "synthetic", "layers": 1}
PAIRS = [
    {"left": "mla_expanded", "right": "mla_absorbed", "layers": 2},
    {"left": "mla_reexpand", "right": "mla_merged", "dtype": "bfloat16"},
    {"left": "recompute", "right": "recompute", "q_lora_rank": 5},
    {"left": "gqa", "right": "gqa", "heads": 4, "dtype": "float64"},
    {"left": "mha", "right": "mla_absorbed", "heads": 3},
    {"left": "mqa", "right": "recompute", "qk_rope_head_dim": 0},
    {"left": "mla_expanded", "right": "mla_absorbed", "cache_dtype": "int4_all"},
    {"left": "mla_absorbed", "right": "mla_expanded", "cache_dtype": "fp8"},
]


def small(**more):
    return mla_viz.decode("A fox", **(TINY | {"max_new_tokens": 2} | more))


def written(run, folder):
    run.save(folder / "run.safetensors")
    return folder / "run.safetensors"


def same(run, twin):
    """Equal in all values, those measured by the clock too, and read-only."""
    assert twin == run
    for one, other in zip(run.sides(), twin.sides(), strict=True):
        assert np.array_equal(one.time_us, other.time_us)
    pairs = [*zip(arrays_of(run), arrays_of(twin), strict=True)]
    assert len(pairs) > 20
    assert all(one.dtype == other.dtype and other.flags.owndata for one, other in pairs)
    assert not any(other.flags.writeable for _, other in pairs)
    return True


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(map(str, pair.values())))
def test_a_run_comes_back_and_does_all_that_it_did(pair, tmp_path):
    run = small(**pair)
    twin = load_run(written(run, tmp_path))
    assert same(run, twin)
    assert pack_run(twin) == pack_run(run)
    last = run.n_steps - 1, run.n_layers - 1, 0
    assert twin.inside(*last) == run.inside(*last)
    for one, other in zip(run.sides(), twin.sides(), strict=True):
        assert one.operations(last[0]) == other.operations(last[0])
        assert one.candidates(last[0]) == other.candidates(last[0])
    run.save_html(tmp_path / "run.html")
    twin.save_html(tmp_path / "twin.html")
    assert (tmp_path / "run.html").read_bytes() == (tmp_path / "twin.html").read_bytes()


def test_trained_models_of_two_kinds_come_back(shipped, tmp_path):  # noqa: ARG001
    run = mla_viz.decode("Once", left="mqa", right="mla_absorbed", max_new_tokens=2)
    assert run.differences is None
    assert same(run, load_run(written(run, tmp_path)))


@pytest.mark.parametrize("run", [golden.SAME, golden.MODELS], ids=["all", "some"])
def test_odd_texts_and_steps_that_were_dropped_come_back(run, tmp_path):
    twin = load_run(written(run, tmp_path))
    assert twin == run
    assert pack_run(twin) == pack_run(run)


def test_an_array_of_another_order_comes_back(tmp_path):
    run = replace(golden.SAME, differences=np.asfortranarray(golden.SAME.differences))
    assert load_run(written(run, tmp_path)) == run


def test_equal_runs_give_equal_files(tmp_path):
    first = written(golden.SAME, tmp_path).read_bytes()
    assert written(golden.SAME, tmp_path).read_bytes() == first


def told(path):
    """What is said of a file, in one line that names it."""
    with pytest.raises(ValueError, match="expected") as refusal:
        load_run(path)
    words = str(refusal.value)
    assert "\n" not in words
    assert words.startswith(f"{path}: ")
    assert words.endswith("again)") or "install a newer mla-viz" in words
    assert len(words) < 800
    return words


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("saved") / "damaged.safetensors"


WHOLE = OLD.read_bytes() if OLD.exists() else b""
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")
# Half of the bytes are the header's; a damage there is the one that may go unseen.
PLACES = st.integers(0, max(0, HEADER - 1)) | st.integers(0, max(0, len(WHOLE) - 1))


@settings(max_examples=400)
@given(PLACES, st.integers(1, 255))
def test_a_byte_that_changed_is_never_another_run(place, at, flip):
    place.write_bytes(WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :])
    try:
        assert same(load_run(OLD), load_run(place)), "only a blank of the header may be another"
        assert WHOLE[at : at + 1] == b" "
    except ValueError:
        assert ("damaged" in told(place)) or at < HEADER


@settings(max_examples=100)
@given(PLACES)
def test_a_file_that_was_cut_is_refused(place, at):
    place.write_bytes(WHOLE[:at])
    assert "cannot be read" in told(place)


def opened(path):
    """The entry and the arrays of a saved run."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()[ENTRY]), arrays


def forged(path, change, version=VERSION):
    """The old file with a change in its record or arrays, and a digest that fits."""
    entry, arrays = opened(OLD)
    change(entry["run"], arrays)
    digest = saved._digest(entry["run"], BytesIO(save(arrays)))
    entry |= {"version": version, "blake2b": digest}
    path.write_bytes(save(arrays, {ENTRY: json.dumps(entry)}))
    return path


def test_what_a_newer_mla_viz_wrote_is_told(place):
    words = told(forged(place, lambda record, _: record.update(more=1), version=VERSION + 1))
    assert words.endswith(
        f"expected version {VERSION}, got {VERSION + 1} (install a newer mla-viz)"
    )


def put(where, value):
    """A change of the record: `left.n_layers`."""

    def change(record, _):
        *path, last = where.split(".")
        for name in path:
            record = record[int(name) if name.isdigit() else name]
        record[last] = value

    return change


def array(where, value):
    """A change of an array, in the record too."""

    def change(record, arrays):
        arrays[where] = value
        about = {"dtype": saved.NAMES[value.dtype.name], "shape": list(value.shape)}
        put(where, about)(record, arrays)

    return change


def drop(where):
    """Without a field of the run, or without an array."""

    def change(record, arrays):
        (arrays if where in arrays else record).pop(where)

    return change


def together(*changes):
    """All of them."""

    def change(record, arrays):
        for one in changes:
            one(record, arrays)

    return change


F32 = np.zeros((3, 1, 2), dtype=np.float32)
DOWN = np.array([1, 0], dtype=np.int32)
FORGERIES = {
    "a field too many": (put("more", 1), "run: expected prompt, text, tokens"),
    "a field too few": (drop("notes"), "run: expected prompt, text, tokens"),
    "an array too many": (
        lambda _, arrays: arrays.update(more=F32),
        "expected no other arrays, got ['more']",
    ),
    "an array too few": (drop("left.vectors.x"), "left.vectors.x: expected an array, got none"),
    "an array for none": (put("left.vectors.x", None), "left.vectors.x: expected Float"),
    "no text": (put("prompt", 5), "prompt: expected str, got 5"),
    "a number that is no whole one": (put("top_k", 1.5), "top_k: expected int, got 1.5"),
    "true for a number": (put("top_k", True), "top_k: expected int, got True"),
    "a token that is none": (put("tokens", [[]]), "tokens.0: expected id, text, pos, source"),
    "a number for a list": (put("notes", 1), "notes: expected list, got 1"),
    "a geometry that is none": (put("left.geometry.rope_theta", -1.0), "rope_theta: expected"),
    "a format that is none": (
        put("right.cache_dtype", "q8"),
        "cache_dtype: expected one of int8, fp8, int4, int8_all, fp8_all, int4_all, got 'q8'",
    ),
    "a mechanism of others": (put("left.mechanism", "mqa"), "left: expected one of mla_expanded"),
    "integers for floats": (
        array("left.top_probs", np.zeros((2, 8), dtype=np.int32)),
        "left.top_probs: expected Float[ndarray, 'steps candidates'] as {'dtype': 'I32'",
    ),
    "an axis too many": (array("left.top_probs", F32), "left.top_probs: expected Float"),
    "another shape than told": (
        lambda _, arrays: arrays.update({"left.top_probs": F32}),
        "left.top_probs: expected Float",
    ),
    "an array of another kind": (
        together(
            array("left.cells.data", np.zeros((1, 2, 12), np.uint8)),
            lambda _, arrays: arrays.update({"left.cells.data": np.zeros((1, 2, 12), np.int8)}),
        ),
        "left.cells.data: expected UInt8[ndarray, 'n_layers rows elems'] as {'dtype': 'U8'",
    ),
    "another size than beside it": (
        array("left.top_probs", np.zeros((9, 8), dtype=np.float32)),
        "left.top_probs: expected 2 (steps), got 9",
    ),
    "a size that is no size of the model": (
        array("left.vectors.x", np.zeros((2, 1, 3), dtype=np.float32)),
        "left.vectors.x: expected 128 (d_model), got 3",
    ),
    "a fixed size": (
        array("left.cells.low_high", np.zeros((1, 3), dtype=np.float32)),
        "left.cells.low_high: expected 2 (2), got 3",
    ),
    "layers without end": (put("n_layers", 10**30), f"gaps.x: expected {10**30} (n_layers), got 1"),
    "rows too few": (
        together(array("left.probs.data", F32[0, 0]), array("left.scores.data", F32[0, 0])),
        "data: expected 6 values for these steps, got 2",
    ),
    "rows without end": (
        array("left.cells.data", np.zeros((1, 2**40, 0), dtype=np.uint8)),
        f"left.cells: expected (1, 2, 12) cells, got (1, {2**40}, 0) for every 1",
    ),
    "cells of no token": (
        put("left.cells.every", 0),
        "left.cells: expected (1, 2, 12) cells, got (1, 2, 12) for every 0",
    ),
    "steps that differ": (
        array("left.probs.steps", DOWN),
        "left: expected the same kept steps, ascending, got array([1, 0]",
    ),
    "steps that do not ascend": (
        together(*(array(f"left.{x}.steps", DOWN) for x in ("probs", "scores", "vectors"))),
        "left: expected the same kept steps, ascending, got array([1, 0]",
    ),
    "more tokens than steps": (
        lambda record, _: record["tokens"].append(record["tokens"][0]),
        "left: expected 3 steps, got 2",
    ),
    "nesting without end": (
        put("model", json.loads("[" * 900 + "]" * 900)),
        "model: expected dict, got",
    ),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", FORGERIES)
def test_a_record_that_does_not_fit_is_told_by_its_place(name, place):
    change, words = FORGERIES[name]
    assert words in told(forged(place, change))


OTHERS = {
    "nothing": b"",
    "text": b"Once upon a time there was a little fox",
    "picture": (DATA / "icon.png").read_bytes(),
    "no JSON": save({"x": F32}, {ENTRY: "{"}),
    "no record": save({"x": F32}, {ENTRY: "[]"}),
    "no version": save({"x": F32}, {ENTRY: '{"version": "1", "blake2b": "", "run": {}}'}),
    "deep": save({"x": F32}, {ENTRY: "[" * 100_000}),
    "weights": (DATA / "family/mqa.safetensors").read_bytes(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_no_run_is_told(name, place):
    place.write_bytes(OTHERS[name])
    words = told(place)
    assert ("one of other tensors" in words) == (name == "weights")


def test_a_file_that_is_none_is_told(tmp_path):
    told(tmp_path)
    assert "No such file" in told(tmp_path / "none.safetensors")
    told(Path("/dev/null"))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_a_file_of_every_version_still_gives_its_figures(file):
    assert len(KEPT) == VERSION
    run = load_run(file)
    assert file.stat().st_size < 30_000
    assert [side.cache_dtype for side in run.sides()] == [None, None]
    assert (run.prompt, run.source, run.n_steps, run.n_layers) == ("A", "synthetic", 2, 1)
    assert (run.left.mechanism, run.right.mechanism) == ("mla_expanded", "mla_absorbed")
    assert run.left.cache_bytes.tolist() == [4 * 12, 4 * 24]  # 2 (2 + 2 + 2) elements a token
    assert run.right.cache_bytes.tolist() == [4 * 5, 4 * 10]  # 3 + 2
    assert run.left.probs.row(1)[0, 0].tolist() == [0.8367962837219238, 0.16320380568504333]
    assert run.max_abs_diff == 2.0**-20
    assert run.text == " jam remembered"
    lane = run.inside(1, 0, 1).right
    assert lane.keys @ lane.q_latent * 4**-0.5 == pytest.approx(lane.scores, abs=1e-6)


def layout(node):
    """Names and kinds of all that a record holds, whatever it says."""
    if isinstance(node, dict):
        return {name: layout(child) for name, child in node.items() if name != "shape"}
    return [layout(child) for child in node[:1]] if isinstance(node, list) else type(node)


def test_another_layout_is_another_version(tmp_path):
    """Where this fails: raise VERSION, keep the old file and its test, make one of the new."""
    now = opened(written(first(), tmp_path))
    then = opened(OLD)
    assert layout(now[0]["run"]) == layout(then[0]["run"])
    assert [(name, x.dtype) for name, x in now[1].items()] == [
        (name, x.dtype) for name, x in then[1].items()
    ]


LATER = make_dataclass(
    "Later",
    [("extra", Float[np.ndarray, " steps"] | None, field(default=None)), ("pace", int, 7)],
    bases=(Run,),
    frozen=True,
    eq=False,
)


@pytest.mark.usefixtures("untyped")
def test_a_new_field_needs_its_default_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(saved, "Run", LATER)
    old = load_run(OLD)
    assert (old.extra, old.pace, old.text) == (None, 7, " jam remembered")
    later = replace(old, extra=np.array([1.5, 2.5]), pace=9)
    twin = load_run(written(later, tmp_path))
    assert twin == later
    assert twin.extra.tolist() == [1.5, 2.5]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"before")

    def full(part, content):
        with part.open("wb") as file:
            file.write(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"safetensors: expected .* got No space left on device"):
        golden.SAME.save(path)
    assert [x.name for x in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("where", ["no/such/run.html", "", "file/run.html", "x" * 300])
@pytest.mark.parametrize("kind", ["save", "save_html"])
def test_where_nothing_can_be_written_one_line_says_so(where, kind, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a file that can be written, got") as refusal:
        getattr(golden.SAME, kind)(tmp_path / where)
    assert "\n" not in str(refusal.value)
    assert [x.name for x in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    write_whole(tmp_path / "link", b"one")
    write_whole(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "run").read_bytes() == b"two"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"three")
    assert os.read(reader, 9) == b"three"
    os.close(reader)


def test_the_command_line_saves_it_and_prints_as_before(tmp_path, capsys):
    options = ["decode", "A fox", "--source", "synthetic", "--max-new-tokens", "2", "--layers", "1"]
    main([*options, "--save", str(tmp_path / "run.safetensors")])
    printed = capsys.readouterr().out
    main(options)
    assert printed.splitlines()[0] == capsys.readouterr().out.splitlines()[0]
    run = mla_viz.decode("A fox", source="synthetic", max_new_tokens=2, layers=1)
    assert load_run(tmp_path / "run.safetensors") == run


@pytest.mark.parametrize("option", ["--save", "--html"])
def test_the_command_line_refuses_in_one_line(option, tmp_path, capsys):
    command = ["decode", "Hi", "--source", "synthetic", "--max-new-tokens", "1"]
    assert "expected a file that can be" in refusal([*command, option, str(tmp_path)], capsys)


def first():
    """The run of the file that is kept."""
    return mla_viz.decode("A", **TINY, max_new_tokens=2)


if __name__ == "__main__":
    first().save(OLD)
