"""One layer on several processes: equal to one process, bytes counted, and how a group ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.elastic.multiprocessing import ProcessFailure, RunProcsResult

import mla_viz
from mla_viz.attention.cache import LatentCache
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Attended, Watch, rope_angles
from mla_viz.attention.weights import random_gqa, random_mla
from mla_viz.cli import main
from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.cost import (
    STRATEGIES,
    cache_elems,
    comm_bytes,
    even_shares,
    rank_cache_elems,
    tp_geometry,
)
from mla_viz.published.catalog import judged
from mla_viz.ranks import parallel as launch
from mla_viz.ranks.layer import Decoded, decode_alone, make_layer
from mla_viz.ranks.parallel import ParallelRun, RankLost, parallel, parallel_runs
from mla_viz.ranks.settings import PARALLEL_MECHANISMS, ParallelSettings
from mla_viz.ranks.shards import head_share, merge_by_lse, mixed_and_lse, project, token_share

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "mla_viz", "parallel"]
LONG = [*COMMAND, "--ranks", "3", "--strategy", "cp", "--tokens", "8192"]
RANKS = (1, 2, 4)
# 7 tokens and 5 sequences divide among neither 2 nor 4 ranks; 8 heads, 4 key/value heads of gqa.
SMALL = ParallelSettings(
    tokens=7, batch=5, latent=12, qk_nope_head_dim=10, qk_rope_head_dim=4, v_head_dim=6, d_model=24
)
ROW = {  # elements of a cached token: key and value of every head, or latent and rope key
    "mha": 8 * (6 + 6),
    "gqa": 2 * (6 + 6),
    "mqa": 6 + 6,
    "mla_expanded": 8 * (10 + 4 + 6),
    "mla_absorbed": 12 + 4,
}
every_run = pytest.mark.parametrize(
    ("ranks", "mechanism", "strategy"),
    [(n, m, s) for n in RANKS for m in PARALLEL_MECHANISMS for s in STRATEGIES],
)


@cache
def runs(ranks):
    """Every mechanism and strategy, by one group of processes."""
    names = [(m, s) for m in PARALLEL_MECHANISMS for s in STRATEGIES]
    jobs = [replace(SMALL, ranks=ranks, mechanism=m, strategy=s) for m, s in names]
    return dict(zip(names, parallel_runs(jobs), strict=True))


# Against one process


@every_run
def test_the_ranks_compute_what_one_process_computes(ranks, mechanism, strategy):
    run = runs(ranks)[mechanism, strategy]
    assert (run.mechanism, run.strategy, run.ranks) == (mechanism, strategy, ranks)
    assert run.max_abs_diff_last_step <= run.max_abs_diff < 1e-12


@every_run
def test_the_bytes_of_every_rank_are_those_of_the_formula(ranks, mechanism, strategy):
    run, row = runs(ranks)[mechanism, strategy], 8 * ROW[mechanism]
    heads = {"mha": 8, "gqa": 2, "mqa": 1, "mla_expanded": 8, "mla_absorbed": 1}[mechanism]
    by_hand = {
        "tp": [7 * 5 * row // min(heads, ranks)] * ranks,
        "dp": [7 * n * row for n in {1: [5], 2: [3, 2], 4: [2, 1, 1, 1]}[ranks]],
        "cp": [5 * n * row for n in {1: [7], 2: [4, 3], 4: [2, 2, 2, 1]}[ranks]],
    }[strategy]
    assert run.cache_bytes_per_rank == run.cache_bytes_formula == by_hand
    assert run.cache_bytes_one_process == 7 * 5 * row


@every_run
def test_the_bytes_that_were_sent_are_those_of_the_formula(ranks, mechanism, strategy):
    run = runs(ranks)[mechanism, strategy]
    width = 12 if mechanism == "mla_absorbed" else 6
    by_hand = {"tp": 8 * 24, "dp": 0, "cp": 8 * 8 * (width + 1)}[strategy]
    assert run.comm_bytes_per_token == run.comm_bytes_formula == by_hand * (ranks > 1)


def at_once(mechanism, weights, x):
    """The layer's output for all tokens in one call."""
    row = implementation(mechanism)
    g, new_cache = weights.geometry, row.new_cache(weights, x.shape[:1])
    rope = rope_angles(torch.arange(x.shape[1]), g.rope_width, g.rope_theta, x.dtype)
    return row.attend(weights, new_cache, x, rope, Watch("scores", "o_latent", "o_head"))


@pytest.mark.parametrize("mechanism", PARALLEL_MECHANISMS)
def test_the_one_process_runs_the_layer(mechanism):
    job = replace(SMALL, mechanism=mechanism)
    out = decode_alone(job, "cpu").out
    torch.testing.assert_close(out, at_once(mechanism, *make_layer(job, "cpu")).out)
    assert 0.1 < out.std() < 10


def test_a_difference_on_any_rank_at_any_step_is_seen():
    whole = torch.zeros(3, 4, 5, dtype=torch.float64)
    job = ParallelSettings(2, strategy="dp", tokens=4, batch=3, d_model=5)
    parts = [whole[:2].clone(), whole[2:].clone()]
    parts[1][0, 1, 3] = -0.25
    parts[0][1, 3, 0] = 0.125
    run = launch._compared(job, "gloo", Decoded(whole, 0, 0), [Decoded(x, 1, 2) for x in parts])
    assert (run.max_abs_diff, run.max_abs_diff_last_step) == (0.25, 0.125)


def test_half_precision_is_merged_in_float32_and_more_ranks_than_sequences_are_idle():
    jobs = [
        replace(SMALL, ranks=2, dtype="bfloat16", strategy="cp"),
        replace(SMALL, ranks=2, dtype="float16", strategy="dp", batch=1),
    ]
    halves, idle = parallel_runs(jobs)
    assert halves.comm_bytes_per_token == halves.comm_bytes_formula == 8 * (12 + 1) * 4
    assert halves.cache_bytes_per_rank == halves.cache_bytes_formula
    assert 0 < halves.max_abs_diff < 0.1
    assert idle.cache_bytes_per_rank == idle.cache_bytes_formula == [7 * (12 + 4) * 2, 0]


# The formulas


V3, GQA_8 = judged("DeepSeek-V3").attention, judged("Llama-3.1-405B").attention


def test_a_gpu_holds_more_of_mla_than_of_gqa_8_under_tp_8():
    assert rank_cache_elems("gqa", GQA_8, "tp", 8, tokens=1) == [2 * 128] * 8
    assert rank_cache_elems("mla_absorbed", V3, "tp", 8, tokens=1) == [512 + 64] * 8
    assert rank_cache_elems("gqa", GQA_8, "tp", 64, tokens=1) == [2 * 128] * 64
    assert rank_cache_elems("mla_absorbed", V3, "cp", 8, tokens=8) == [512 + 64] * 8
    assert cache_elems("gqa", GQA_8) > cache_elems("mla_absorbed", V3)  # on one GPU it is less


def test_what_is_sent_for_a_token_of_deepseek_v3():
    assert comm_bytes("mla_absorbed", V3, "tp", 8, 2) == 14_336
    assert comm_bytes("mla_absorbed", V3, "cp", 8, 2) == 262_656
    assert comm_bytes("mla_expanded", V3, "cp", 8, 8) == 128 * (128 + 1) * 8
    assert comm_bytes("gqa", GQA_8, "cp", 8, 2) == 128 * (128 + 1) * 4


@given(st.integers(0, 50), st.integers(1, 20))
def test_shares_are_those_of_the_tensors(total, ranks):
    shares = even_shares(total, ranks)
    assert sum(shares) == total
    assert shares == [len(part) for part in torch.zeros(total).tensor_split(ranks)]
    assert shares == [len(range(rank, total, ranks)) for rank in range(ranks)]


@pytest.mark.parametrize(
    ("geometry", "ranks", "words"),
    [
        (V3, 3, "a divisor of the 128 heads under tp, got 3"),
        (V3, 256, "a divisor of the 128 heads under tp, got 256"),
        (GQAGeometry(8, 12, 4, 2), 6, "a divisor or a multiple of the 4 key/value heads"),
    ],
)
def test_heads_that_cannot_be_divided_are_refused(geometry, ranks, words):
    with pytest.raises(ValueError, match=f"^ranks: expected {words}"):
        tp_geometry(geometry, ranks)


# Splits and merges

GENERATOR = torch.Generator().manual_seed(0)
split_gqa = st.builds(
    lambda ranks, own, kv, group: (
        GQAGeometry(6, ranks * own * kv * group, kv * own, 4),
        ranks,
    ),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 2),
).filter(lambda pair: pair[0].n_kv_heads % pair[1] == 0 or pair[1] % pair[0].n_kv_heads == 0)
split_mla = st.builds(
    lambda ranks, own, latent, rope, q: (
        MLAGeometry(6, ranks * own, 3, 2 * rope, 5, latent, q),
        ranks,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(0, 2),
    st.none() | st.integers(1, 4),
)


def random_layer(geometry, tokens=5):
    random = random_gqa if isinstance(geometry, GQAGeometry) else random_mla
    x = torch.randn(2, tokens, geometry.d_model, generator=GENERATOR)
    return random(geometry, GENERATOR), x


@given(split_gqa | split_mla, st.sampled_from(["mla_expanded", "mla_absorbed"]))
def test_outputs_of_divided_heads_sum_to_the_layers(split, mla):
    geometry, ranks = split
    mechanism = "gqa" if isinstance(geometry, GQAGeometry) else mla
    weights, x = random_layer(geometry)
    parts = [at_once(mechanism, head_share(weights, r, ranks), x).out for r in range(ranks)]
    whole = at_once(mechanism, weights, x).out
    torch.testing.assert_close(torch.stack(parts).sum(0), whole, atol=1e-5, rtol=1e-5)


@given(
    st.integers(1, 12),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.floats(0.1, 100),
)
def test_parts_merged_by_lse_are_attention_over_all_tokens(tokens, owners, spread):
    generator = torch.Generator().manual_seed(tokens)
    scores = spread * torch.randn(3, 1, tokens, generator=generator, dtype=torch.float64)
    v = torch.randn(3, tokens, 5, generator=generator, dtype=torch.float64)
    parts = []
    for rank in range(4):
        own = [i for i in range(tokens) if owners[i] == rank]
        seen = {"scores": scores[..., own], "o_head": scores[..., own].softmax(-1) @ v[:, own]}
        parts.append(mixed_and_lse(Attended(torch.zeros(1, 1), seen)))
        assert (parts[-1][..., -1].isinf() == (not own)).all()
    merged = merge_by_lse(torch.stack(parts))
    torch.testing.assert_close(merged, scores.softmax(-1) @ v, atol=1e-12, rtol=1e-12)


@given(st.integers(1, 5), st.integers(0, 40))
def test_every_token_is_kept_by_one_rank_in_turn(ranks, tokens):
    rows = torch.arange(3.0 * tokens).view(tokens, 3)
    for rank in range(ranks):
        share = token_share(LatentCache((), 2, 1, torch.float32, "cpu"), rank, ranks)
        for row in rows:
            share.append(row[None, :2], row[None, 2:])
        assert torch.equal(share.latent_and_rope, rows[rank::ranks])


@pytest.mark.parametrize("mechanism", PARALLEL_MECHANISMS)
def test_the_end_of_the_layer_is_the_layers_own(mechanism):
    weights, x = make_layer(replace(SMALL, mechanism=mechanism), "cpu")
    attended = at_once(mechanism, weights, x)
    latent = mechanism == "mla_absorbed"
    mixed = attended.seen["o_latent" if latent else "o_head"]
    assert torch.equal(project(weights, mixed, latent), attended.out)


# How a group ends


def alive(parent):
    """Processes that this one has started, by their numbers; their own too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, its_parent = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
            if state != "Z" and int(its_parent) == parent:
                found.append(int(stat.parent.name))
    return found + [grandchild for child in found for grandchild in alive(child)]


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def is_gone(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2][1] == "Z"
    return True


@contextlib.contextmanager
def started(tmp_path, command=LONG):
    """A long run, its ranks, and where it keeps its files."""
    program = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    ranks = []
    try:
        until(lambda: len(alive(program.pid)) == 3, 60)
        ranks = alive(program.pid)
        yield program, ranks
        until(lambda: all(map(is_gone, ranks)), 10)
        until(lambda: not list(tmp_path.iterdir()), 1)
    finally:
        for pid in (program.pid, *ranks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        program.communicate()


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


@linux
@pytest.mark.parametrize("decoding", [False, True], ids=["while they start", "while they decode"])
def test_a_rank_that_dies_ends_the_run_with_one_line(tmp_path, decoding):
    with started(tmp_path) as (program, ranks):
        if decoding:
            until(lambda: list(tmp_path.glob("*/store")), 60)  # there they meet
            time.sleep(1)
        os.kill(ranks[1], signal.SIGKILL)
        out, err = program.communicate(timeout=10)
        assert program.returncode == 1
        assert out == ""
        assert err == "mla_viz: rank 1 was ended by SIGKILL; the others were ended too\n"


@linux
@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, "mla_viz: stopped\n"), (signal.SIGKILL, "")]
)
def test_the_ranks_end_with_their_program(tmp_path, number, words):
    with started(tmp_path) as (program, ranks):
        assert len(ranks) == 3
        os.kill(program.pid, number)
        assert program.communicate(timeout=10)[1] == words


def test_a_rank_that_fails_is_quoted_and_not_those_that_were_ended_for_it(tmp_path):
    (tmp_path / "1.log").write_text("Traceback\nRuntimeError: no room\n\n", encoding="utf-8")
    codes = {0: -signal.SIGTERM, 1: 1, 2: -signal.SIGTERM}
    failures = {rank: ProcessFailure(rank, 0, code, "") for rank, code in codes.items()}
    with pytest.raises(RankLost) as lost:
        launch._check(RunProcsResult(failures=failures), tmp_path)
    assert str(lost.value) == "rank 1 failed: RuntimeError: no room; the others were ended too"


def test_a_port_in_use_and_the_variables_of_another_group_are_no_matter():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        others = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(taken.getsockname()[1]),
            "WORLD_SIZE": "7",
            "RANK": "5",
            "GLOO_SOCKET_IFNAME": "nowhere0",
        }
        done = subprocess.run(
            [*COMMAND, "--ranks", "2", "--strategy", "cp", "--json"],
            cwd=ROOT,
            env=os.environ | others,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    run = json.loads(done.stdout)
    assert run["cache_bytes_per_rank"] == [16 * 8 * 48 * 8] * 2
    assert run["max_abs_diff"] < 1e-12


# Command line and Python


RUN = ParallelRun(
    mechanism="gqa",
    strategy="tp",
    ranks=2,
    backend="gloo",
    dtype="float64",
    tokens=3,
    batch=1,
    geometry={"n_heads": 4},
    max_abs_diff=2e-15,
    max_abs_diff_last_step=1e-15,
    cache_bytes_one_process=4000,
    cache_bytes_per_rank=[2001, 2002],
    cache_bytes_formula=[2003, 2004],
    comm_bytes_per_token=1005.0,
    comm_bytes_formula=1006,
)


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr("mla_viz.cli.parallel", lambda **args: calls.append(args) or RUN)
    return calls


def test_the_command_passes_every_option_on(asked, capsys):
    main(["parallel", "--ranks", "4", "--kv-heads", "3", "--qk-rope-head-dim", "6", "--json"])
    expected = ParallelSettings(4, qk_rope_head_dim=6)
    assert asked == [vars(expected) | {"kv_heads": 3}]
    assert json.loads(capsys.readouterr().out) == asdict(RUN)


def test_the_command_prints_measured_and_counted_beside_each_other(asked, capsys):
    main(["parallel"])
    assert capsys.readouterr().out == (
        "gqa, tp, 2 ranks (gloo): 3 tokens of 1 sequence\n"
        "largest difference to one process: 2.0e-15 (float64)\n"
        "rank 0: 2,001 bytes cached, 2,003 by the formula\n"
        "rank 1: 2,002 bytes cached, 2,004 by the formula\n"
        "one process: 4,000 bytes cached\n"
        "1,005 bytes handed to collectives for a token, by each rank; 1,006 by the formula\n"
    )
    assert asked == [vars(ParallelSettings())]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ranks", "0"], "ranks: expected a whole number from 1 to 64, got 0"),
        (["--ranks", "16"], "ranks: expected a divisor of the 8 heads under tp, got 16"),
        (["--ranks", "3"], "ranks: expected a divisor of the 8 heads under tp, got 3"),
        (["--strategy", "pp"], "strategy: expected one of tp, dp, cp, got 'pp'"),
        (["--mechanism", "mla_merged"], "mechanism: expected one of mha, gqa, mqa, mla_expanded, "),
        (["--kv-heads", "2"], "kv_heads: expected none but with gqa, got 2"),
        (["--tokens", "0"], "tokens: expected a whole number from 1 to 8192, got 0"),
        (["--batch", "-1"], "batch: expected a whole number from 1 to 1024, got -1"),
        (["--dtype", "int8"], "dtype: expected one of float64, float32, bfloat16, float16, got"),
        (["--latent", "0", "--strategy", "cp"], "kv_lora_rank: expected a whole number from 1"),
        (["--device", "cuda:0"], "device: expected one of auto, cpu, cuda, got 'cuda:0'"),
        (["--d-model", "65536", "--heads", "1024", "--ranks", "64"], "ranks: expected what fits"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["parallel", *arguments])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"mla_viz: {words}")


def test_nccl_where_there_is_a_device_for_each_rank(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    two, three = ParallelSettings(2), ParallelSettings(4)
    assert [launch._backend(s) for s in (two, three)] == ["nccl", "gloo"]
    assert launch._backend(replace(two, device="cpu")) == "gloo"
    with pytest.raises(ValueError, match="a CUDA device for each of 4 ranks, got 2"):
        launch._backend(replace(three, device="cuda"))


def test_python_takes_settings_or_their_fields(monkeypatch):
    asked = []
    monkeypatch.setattr(launch, "parallel_runs", lambda jobs: asked.extend(jobs) or [RUN])
    assert mla_viz.parallel(16, heads=16) == RUN
    parallel(replace(asked[0], seed=4), seed=0)
    assert asked == [ParallelSettings(16, heads=16)] * 2
    with pytest.raises(ValueError, match="^jobs: expected the same ranks"):
        parallel_runs([ParallelSettings(1), ParallelSettings(2)])
