"""The kernel of absorbed decode: its cases as they can run here, and what it is compiled to."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.attention import mla
from mla_viz.attention.core import LARGE

triton = pytest.importorskip("triton", reason="Triton is not installed: torch does its work")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from mla_viz.attention import absorbed_triton  # noqa: E402
from mla_viz.attention.absorbed_triton import GRAIN, TILES, tokens_each  # noqa: E402

CASES = Path(__file__).with_name("kernel.py")
HOPPER = GPUTarget("cuda", 90, 32)
SHARED_BYTES = 227 << 10  # that a block may use there (CUDA C++ Programming Guide, 9.0)


def run_cases(interpret):
    ways = {"TRITON_INTERPRET": "1"} if interpret else {}
    command = [sys.executable, "-m", "pytest", "-x", str(CASES)]
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | ways
    return subprocess.run(command, env=env, capture_output=True, encoding="utf-8", check=False)


def test_under_the_interpreter():
    result = run_cases(interpret=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_cuda_device():
    result = run_cases(interpret=False)
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module", params=TILES[:2], ids=str)
def compiled(request, tmp_path_factory):
    """Tile, and the kernel for DeepSeek-V3's shape on a Hopper device, which need not be here."""
    tile, kernel = request.param, absorbed_triton.attend_split
    fixed = {"LATENT": 512, "ROPE": 64, "BLOCK_C": 512, "BLOCK_R": 64, "BLOCK_H": 64}
    fixed |= {"LONG": True, "WIDE": False, "q_width": 1, "rows_width": 1, **tile.kwargs}
    types = {"lengths": "*i32", "lse": "*fp32", "scale": "fp32"}
    types |= dict.fromkeys(("q", "rows", "out"), "*bf16") | dict.fromkeys(fixed, "constexpr")
    names = kernel.arg_names
    free = (i for i, name in enumerate(names) if name not in (*fixed, "scale", "total"))
    aligned = {(i,): [["tt.divisibility", 16]] for i in free}
    source = ASTSource(kernel, {n: types.get(n, "i32") for n in names}, fixed, aligned)
    how = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton.knobs.cache, "dir", str(tmp_path_factory.mktemp("compiled")))
        return tile, triton.compile(source, target=HOPPER, options=how)


def test_on_hopper_it_fits_and_keeps_its_sums_in_registers(compiled, tmp_path):
    _, made = compiled
    assert made.metadata.shared <= SHARED_BYTES
    (tmp_path / "kernel.cubin").write_bytes(made.asm["cubin"])
    dump = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", tmp_path / "kernel.cubin"]
    told = subprocess.run(dump, capture_output=True, encoding="utf-8", check=True).stdout
    assert re.search(r"attend_split:\n.* STACK:0 .* LOCAL:0 ", told), told


def test_each_latent_is_read_once_and_no_product_is_made_twice(compiled):
    tile, made = compiled
    loop = made.asm["ttir"].split("scf.for")[1]
    assert loop.count("tt.load") == 2  # latents, rope keys
    assert loop.count("tt.dot") == 3
    divided = re.findall(r"nvidia_mma<.*warpsPerCTA = \[(\d), (\d)\]", made.asm["ttgir"])
    assert divided  # 64 heads are 4 warps of rows: more would do the same work again
    assert set(divided) == {("4", str(tile.num_warps // 4))}


@given(st.integers(1, 1 << 20), st.integers(1, 1000), st.sampled_from([1, 8, 108, 132]))
def test_splits_cover_all_tokens_and_none_is_empty(total, groups, slots):
    chunk = tokens_each(total, groups, slots)
    splits = -(-total // chunk)
    assert chunk % GRAIN == 0
    assert splits <= max(1, 4 * slots // groups + 1)
    assert (splits - 1) * chunk < total


def test_work_is_divided_until_the_device_is_full():
    assert [tokens_each(32768, 128, 132), tokens_each(131072, 16, 132)] == [32768, 16384]
    assert tokens_each(131072, 2, 132) == 2048  # 64 splits of both groups
    assert tokens_each(1, 2, 132) == GRAIN


@pytest.mark.parametrize(
    ("changed", "serves"),
    [
        ({}, True),
        ({"is_cuda": False}, False),
        ({"element_size": lambda: 4}, False),
        ({"numel": lambda: LARGE - 1}, False),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_the_kernel_serves_long_rows_in_half_precision_on_cuda(changed, serves, monkeypatch):
    monkeypatch.setattr(mla, "_triton_runs", lambda: True)
    rows = {"is_cuda": True, "element_size": lambda: 2, "numel": lambda: LARGE} | changed
    assert mla.served(SimpleNamespace(**rows), 512) is serves
    assert not mla.served(SimpleNamespace(**rows), 513)


def test_where_triton_finds_no_driver_or_is_not_installed_torch_does_it(monkeypatch):
    if not torch.cuda.is_available():
        assert not mla._triton_runs.__wrapped__()
    monkeypatch.setattr(mla, "find_spec", lambda _: None)
    assert not mla._triton_runs.__wrapped__()
