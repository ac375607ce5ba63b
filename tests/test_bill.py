"""What a run will take, counted beforehand: held against what it then takes."""

import subprocess
import sys

import pytest

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.model.device import free_bytes, usable_bytes
from mla_viz.run import decode as decode_room
from mla_viz.run.bill import Bill
from mla_viz.run.decode import bill_of, decode, generate
from mla_viz.run.settings import Settings, SideModel

PROMPT = " a" * 300
MEASURED = """
import sys, warnings
import torch
from mla_viz.player.payload import pack_run
from mla_viz.run.decode import bill_of, decode
from mla_viz.run.settings import Settings

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

warnings.simplefilter("ignore")
torch.set_num_threads(1)
pack_run(decode(Settings(source="synthetic", max_new_tokens=1, dtype=sys.argv[3])))
before = peak()
settings = Settings(
    sys.argv[4], "synthetic", heads=32, latent=256, layers=1, max_new_tokens=2,
    left=sys.argv[1], right=sys.argv[2], dtype=sys.argv[3],
)
pack_run(decode(settings))
print(peak() - before, bill_of(settings).bytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("left", "right", "dtype"),
    [
        ("recompute", "mla_absorbed", "float32"),
        ("mla_merged", "mla_expanded", "float64"),
    ],
)
def test_a_run_takes_no_more_memory_than_its_bill_says(left, right, dtype):
    command = [sys.executable, "-c", MEASURED, left, right, dtype, PROMPT[:240]]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    taken, counted = map(int, told.split())
    assert taken <= counted
    assert counted < 4 * taken + (64 << 20)


def costs(**settings):
    base = {"prompt": PROMPT, "source": "synthetic", "layers": 2, "max_new_tokens": 8}
    return bill_of(Settings(**(base | settings)))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    "more",
    [{"heads": 16}, {"layers": 5}, {"prompt": 2 * PROMPT}, {"max_new_tokens": 200}],
)
def test_more_of_anything_costs_more(mechanism, more):
    less, many = costs(left=mechanism), costs(left=mechanism, **more)
    assert many.bytes > less.bytes
    assert many.seconds > less.seconds


def test_the_scores_of_a_prefix_that_is_run_again_are_in_the_bill():
    heads, tokens = 8, 8 * 300
    again, cached = (costs(prompt=8 * PROMPT, left=name) for name in ("recompute", "mla_absorbed"))
    assert again.bytes - cached.bytes > 3 * heads * tokens**2 * 4


def test_twice_the_layers_take_twice_the_time_and_recompute_most():
    assert costs(layers=8).seconds == pytest.approx(4 * costs(layers=2).seconds, rel=1e-9)
    times = {name: costs(left=name, right="mla_absorbed").seconds for name in MECHANISMS}
    assert max(times, key=times.get) == "recompute"
    assert times["mla_reexpand"] > times["mla_absorbed"]


@pytest.mark.parametrize("make", [decode, generate])
def test_what_will_not_fit_is_refused_before_anything_is_made(monkeypatch, make):
    settings = Settings(source="synthetic", max_new_tokens=2, device="cpu")
    needed = bill_of(settings).bytes

    def made(*_):
        raise InterruptedError

    monkeypatch.setattr(SideModel, "load", made)
    monkeypatch.setattr(decode_room, "usable_bytes", lambda _: needed - 1)
    with pytest.raises(ValueError, match=r"geometry: expected .* 0\.\d GiB of free memory, got "):
        make(settings)
    monkeypatch.setattr(decode_room, "usable_bytes", lambda _: needed)
    with pytest.raises(InterruptedError):
        make(settings)


def test_a_bill_that_fits_exactly_passes():
    Bill(100, 1.0).check(100)
    with pytest.raises(ValueError, match=r"3\.0 GiB of free memory, got one that needs 5\.0 GiB"):
        Bill(5 << 30, 1.0).check(3 << 30)


MEMINFO = "MemTotal: 900 kB\nMemFree: 200 kB\nMemAvailable: 700 kB\nBuffers: 5 kB\n"


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [
        (None, None, 700 << 10),
        ("max", "5", 700 << 10),
        ("500000", "100000", 400000),
        ("500000", "600000", 0),
        ("999999999", "0", 700 << 10),
    ],
)
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_free_memory_is_the_systems_or_what_a_container_leaves(tmp_path, limit, used, free, kind):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(MEMINFO, encoding="utf-8")
    names = {
        "v1": ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        "v2": ("memory.max", "memory.current"),
    }
    for name, text in zip(names[kind], (limit, used), strict=True):
        if text is not None:
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n", encoding="utf-8")
    assert free_bytes(tmp_path) == free


def test_where_nobody_can_tell_memory_is_without_end(tmp_path):
    assert free_bytes(tmp_path) > 2**60
    assert 0 < usable_bytes("cpu") <= free_bytes() * 0.9
