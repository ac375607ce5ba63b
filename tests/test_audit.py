"""What engines report, taken apart: against their own lines, and against caches made by hand."""

import io
import json
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mla_viz
from mla_viz.cli import main
from mla_viz.findings.audit import AS_EXPECTED, TOLERANCE, TOLERANCE_OF_TWO, audit
from mla_viz.findings.engine_log import essence, read_measurements
from mla_viz.findings.memory import memory
from mla_viz.published.layers import CachedModel, Kept, grouped_layer, latent_layer
from tests.test_cli import refusal

GIB, MIB = 2**30, 2**20
GPT_OSS_120B = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 36,
    "hidden_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
}
V2_LITE_LLAMA = (
    "llama_kv_cache: size =  540.00 MiB (  2048 cells,  27 layers,  1/1 seqs),"
    " K (f16):  324.00 MiB, V (f16):  216.00 MiB"
)
R1_IK_LLAMA = """
llama_new_context_with_model: n_ctx      = 32768
llama_kv_cache_init: layer 60: n_embd_head_qk_rope = 64, kv_lora_rank = 512
llama_kv_cache_init:      CUDA0 KV buffer size =  1166.65 MiB
llama_new_context_with_model: KV self size  = 1166.62 MiB, c^KV (q8_0): 1166.62 MiB, kv^T: not used
"""
QWEN3_VLLM = "Available KV cache memory: 8.11 GiB\nGPU KV cache size: 178,880 tokens"
QWEN3_SGLANG = "KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB"


def made(*layers, heads=16, qk=192, v=128, d=4096):
    return CachedModel("made", "made", layers, heads, qk, v, d, "a test")


@pytest.mark.parametrize(
    ("model", "reported", "tp", "ratio", "cause"),
    [
        # ollama 13789: 800 MiB and 6.6 GiB for 8,192 tokens of a build without MLA
        ("GLM-4.7-Flash", "7.38 GiB @ 8192", 1, 17.87, "expanded K and V"),
        # a GGUF without wk_b and wv_b: llama.cpp keeps every head
        ("DeepSeek-V2-Lite", V2_LITE_LLAMA, 1, 8.889, "expanded K and V"),
        # ik_llama.cpp 259: -mla 2 -ctk q8_0
        ("DeepSeek-V3", R1_IK_LLAMA, 1, 0.5312, "q8_0 instead of bfloat16"),
        # llama.cpp 11446: 244 MiB of K_R and 1,952 of c_KV at 32,768 tokens
        ("DeepSeek-V3", "2196.00 MiB @ 32768", 1, 1.0, AS_EXPECTED),
        # vllm 21348: one model in two engines on four GPUs; both are right
        ("Qwen3-235B-A22B", QWEN3_VLLM, 4, 1.011, AS_EXPECTED),
        ("Qwen3-235B-A22B", QWEN3_SGLANG, 4, 0.9995, AS_EXPECTED),
        # hf-mem 60: vLLM keeps windows of 128 whole, 73,728 bytes a token in place of 36,864
        (
            GPT_OSS_120B,
            'msg="Available KV cache memory: 5.38 GiB"\nmsg="GPU KV cache size: 78,384 tokens"',
            1,
            1.996,
            "windows kept whole",
        ),
    ],
)
def test_what_threads_report_has_the_cause_that_they_found(model, reported, tp, ratio, cause):
    found = audit(model, reported, tp=tp)
    assert found.ratio == pytest.approx(ratio, rel=1e-3)
    assert found.causes[0].name == cause
    assert found.causes[0].fits
    assert len(found.causes[0].changes) == (cause != AS_EXPECTED)


@pytest.mark.parametrize(
    ("text", "engine", "size", "tokens", "context"),
    [
        ("70272 B @ 1", "measured", 70272, 1, 1),
        ("12.5 GiB @ 131,072 tokens", "measured", 12.5 * GIB, 131072, 131072),
        (" 7.03 gb@100_000", "measured", 7.03e9, 100_000, 100_000),
        (QWEN3_SGLANG, "SGLang", 16.46 * GIB, 367404, 367404),
        (
            "[2025-11-04 05:27:13 DP0 TP0 EP0] KV Cache is allocated. dtype: torch.bfloat16,"
            " #tokens: 524288, KV size: 17.16 GB",
            "SGLang",
            17.16 * GIB,
            524288,
            524288,
        ),
        # vllm 20665: pipeline and tensor parallelism; the smallest rank bounds the tokens
        (
            "(VllmWorker rank=3 pid=19834) INFO 07-09 09:47:45 [gpu_worker.py:233] Available KV"
            " cache memory: 11.33 GiB\n(VllmWorker rank=1 pid=19832) INFO 07-09 09:47:45"
            " [gpu_worker.py:233] Available KV cache memory: 12.13 GiB\nINFO 07-09 09:47:46"
            " [kv_cache_utils.py:716] GPU KV cache size: 807,792 tokens\nINFO 07-09 09:47:46"
            " [kv_cache_utils.py:720] Maximum concurrency for 1,024 tokens per request: 788.86x\n",
            "vLLM",
            11.33 * GIB,
            807792,
            1024,
        ),
        # what vLLM prints now, in one line
        (
            "Available KV cache memory: 2.00 GiB\nGPU KV cache size: 34,952 tokens, Maximum"
            " concurrency for 8,192 tokens per request: 4.27x",
            "vLLM",
            2 * GIB,
            34952,
            8192,
        ),
        # and what it printed before it named the tokens
        (
            "the rest of the memory reserved for KV Cache is 8.69GiB.\nMaximum concurrency for"
            " 4096 tokens per request: 2.50x",
            "vLLM",
            8.69 * GIB,
            10240,
            4096,
        ),
        # vllm 44376
        (
            "To serve at least one request with the model's max seq len (30000), (6.66 GiB KV"
            " cache is needed, which is larger than the available KV cache memory (5.44 GiB).",
            "vLLM",
            6.66 * GIB,
            30000,
            30000,
        ),
        (V2_LITE_LLAMA, "llama.cpp", 540 * MIB, 2048, 2048),
        (V2_LITE_LLAMA.replace("1/1", "4/2"), "llama.cpp", 540 * MIB, 4096, 2048),
        (V2_LITE_LLAMA.replace("1/1 seqs", "4 seqs"), "llama.cpp", 540 * MIB, 2048, 2048),
        (R1_IK_LLAMA, "llama.cpp", 1166.62 * MIB, 32768, 32768),
        (
            "llama_kv_cache_init: kv_size = 512, offload = 1, type_k = 'f16', type_v = 'f16'\n"
            "llama_kv_cache_init:        CPU KV buffer size =     9.00 MiB\n"
            "llama_kv_cache_init:      CUDA0 KV buffer size =     3.00 MiB",
            "llama.cpp",
            12 * MIB,
            512,
            512,
        ),
        (
            "llama_model_load_internal: n_ctx      = 512\n"
            "llama_init_from_file: kv self size  = 1560.00 MB",
            "llama.cpp",
            1560 * MIB,
            512,
            512,
        ),
        # a hybrid: its states are no part of the line
        (
            "llama_kv_cache: size = 4224.00 MiB (135168 cells,   8 layers,  4/1 seqs), K (f16):"
            " 2112.00 MiB, V (f16): 2112.00 MiB\nllama_memory_recurrent: size =  201.00 MiB"
            " (     4 cells,  32 layers,  4 seqs), R (f32):    9.00 MiB, S (f32):  192.00 MiB",
            "llama.cpp",
            4224 * MIB,
            135168,
            135168,
        ),
    ],
)
def test_lines_as_engines_print_them(text, engine, size, tokens, context):
    (m,) = read_measurements(text)
    assert (m.engine, m.tokens, m.context) == (engine, tokens, context)
    assert m.bytes == pytest.approx(size, abs=1)
    assert read_measurements(essence(f"load_tensors: done\n{text}\nready")) == (m,)
    assert "ready" not in essence(f"{text}\nready")


def test_windows_of_llama_cpp_are_one_measurement_with_the_rest():
    text = (
        "llama_kv_cache_iswa: creating non-SWA KV cache, size = 8192 cells\n"
        "llama_kv_cache: size =  416.00 MiB (  8192 cells,  13 layers,  4/1 seqs),"
        " K (f16):  208.00 MiB, V (f16):  208.00 MiB\n"
        "llama_kv_cache_iswa: creating     SWA KV cache, size = 1536 cells\n"
        "llama_kv_cache: size =   78.00 MiB (  1536 cells,  13 layers,  4/1 seqs),"
        " K (f16):   39.00 MiB, V (f16):   39.00 MiB\n"
    )
    (m,) = read_measurements(text)
    assert (m.bytes, m.tokens, m.window_rows) == (494 * MIB, 8192, 1536)
    assert m.split == {"K": 247 * MIB, "V": 247 * MIB}
    whole, near = grouped_layer(8, 128, 128), grouped_layer(8, 128, 128, 1024)
    found = audit(made(*[whole, near] * 13, heads=8, qk=128, v=128), text)
    assert found.causes[0].name == "windows of 1,536 rows"


# Models are made in the tests: jaxtyping's checks draw random numbers, which a strategy may not.
FEW = settings(max_examples=12)  # each tries every pair of causes
LATENTS = st.builds(
    lambda n, rank, rope, indexed, heads: (
        lambda: made(
            *[latent_layer(32 * rank, 32 * rope, 128 * (i < indexed)) for i in range(n)],
            heads=heads,
            qk=128 + 32 * rope,
            d=heads * 112,
        )
    ),
    st.integers(4, 40),
    st.integers(4, 20),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([16, 20, 64]),
)
GROUPED = st.builds(
    lambda n, kv, groups, width, window: (
        lambda: made(
            *[grouped_layer(kv, width, width, window if i % 2 else None) for i in range(n)],
            heads=kv * groups,
            qk=width,
            v=width,
            d=kv * groups * 96,
        )
    ),
    st.integers(4, 40),
    st.integers(2, 8),
    st.integers(2, 8),
    st.sampled_from([64, 128, 256]),
    st.none() | st.integers(500, 2000),
)
HYBRIDS = st.builds(
    lambda model, state: lambda: with_states(model(), state),
    LATENTS | GROUPED,
    st.integers(1 << 14, 1 << 18),
)


def with_states(model, state):
    """Nine layers of a recurrent state beside the model's own."""
    layer = (Kept("state", state, 32, fixed=True, dtype="float32"),)
    return replace(model, layers=(*model.layers, *[layer] * 9))


def kept_by(model, change):
    return replace(model, layers=tuple(tuple(change(layer)) for layer in model.layers))


def expanded(model):
    """Written apart from the audit's own changes, as the layers of an engine without MLA."""

    def layer(parts):
        if not any(p.part == "latent" for p in parts):
            return parts
        rest = [p for p in parts if p.part not in ("latent", "rope key")]
        return [*grouped_layer(model.n_heads, model.qk_head_dim, model.v_head_dim), *rest]

    return kept_by(model, layer)


def copied(model):
    def layer(parts):
        return [*parts, *[Kept("latent", p.width) for p in parts if p.part == "latent"]]

    return kept_by(model, layer)


def indexed(model):
    def layer(parts):
        wants = any(p.part in ("latent", "keys") for p in parts)
        bare = [p for p in parts if p.part != "indexer key"]
        return [*bare, Kept("indexer key", 128)] if wants else parts

    return kept_by(model, layer)


def whole(model):
    return kept_by(model, lambda parts: [replace(p, window=None) for p in parts])


def repeated(model):
    n = model.n_heads
    return kept_by(
        model, lambda parts: [replace(p, vectors=n) if p.part != "state" else p for p in parts]
    )


TRUTHS = {
    "expanded K and V": (expanded, 1, 1),
    "V copied beside the latent": (copied, 1, 1),
    "indexer on every layer": (indexed, 1, 1),
    "windows kept whole": (whole, 1, 1),
    "K and V for every query head": (repeated, 1, 1),
    "float32 instead of bfloat16": (lambda model: model, 2, 1),
    "copies of 4 ranks counted together": (lambda model: model, 1, 4),
}


def said_by(engine, size, tokens, layers):
    mib = f"{size / MIB:.2f} MiB"
    return {
        "vLLM": f"(Worker_TP0 pid=1) INFO 11-04 05:27:13 [gpu_worker.py:1] Available KV cache"
        f" memory: {size / GIB:.2f} GiB\nINFO GPU KV cache size: {tokens:,} tokens",
        "SGLang": f"[2026-11-04 05:27:13 TP0] KV Cache is allocated. #tokens: {tokens}, KV size:"
        f" {size / GIB:.2f} GB",
        "llama.cpp": f"llama_kv_cache: size = {mib} ({tokens} cells, {layers} layers,  1/1 seqs),"
        f" K (f16): {mib}, V (f16): 0.00 MiB",
        "old llama.cpp": f"llama_new_context_with_model: n_ctx = {tokens}\nx: KV self size = {mib}",
        "measured": f"{size} B @ {tokens:,}",
    }[engine]


ENGINES = st.sampled_from(["vLLM", "SGLang", "llama.cpp", "old llama.cpp", "measured"])


@given(
    LATENTS | GROUPED | HYBRIDS,
    st.sampled_from(list(TRUTHS)),
    ENGINES,
    st.integers(1 << 17, 1 << 21),
)
@FEW
def test_the_cause_is_named_first_or_one_that_gives_the_same_number(model, name, engine, tokens):
    change, widths, ranks = TRUTHS[name]
    model = model()
    if engine not in ("vLLM", "measured"):  # their lines leave states out
        model = kept_by(model, lambda parts: [p for p in parts if not p.fixed])
    if name.startswith("indexer"):
        assume(any(p.part == "indexer key" for p in model.kept))
    elif name.startswith("copies"):
        assume(not any(p.part == "keys" for p in model.kept))
        model = kept_by(model, lambda parts: [p for p in parts if not p.fixed])
    elif name.startswith("K and V"):
        assume(not any(p.part == "latent" for p in model.kept))
    dtype = "float32" if widths == 2 else "bfloat16"
    right = memory(model, tokens).total_bytes
    size = ranks * memory(change(model), tokens, cache_dtype=dtype).total_bytes
    text = said_by(engine, size, tokens, len(model.layers))
    assume(said_by(engine, right, tokens, len(model.layers)) != text)
    found = audit(model, text)
    first = found.causes[0]
    assert first.fits
    assert abs(first.bytes - found.measurements[0].bytes) <= found.measurements[0].rounding_bytes
    assert len(first.changes) == 1
    assert any(cause.changes == (name,) and cause.bytes == size for cause in found.causes)


@given(LATENTS | GROUPED | HYBRIDS, ENGINES, st.integers(1 << 17, 1 << 21))
@FEW
def test_what_is_right_is_said_to_be_right(model, engine, tokens):
    model = model()
    if engine not in ("vLLM", "measured"):
        model = kept_by(model, lambda parts: [p for p in parts if not p.fixed])
    size = memory(model, tokens).total_bytes
    found = audit(model, said_by(engine, size, tokens, len(model.layers)))
    assert found.causes[0].name == AS_EXPECTED
    assert found.verdict.startswith("It is what it should be")
    rounding = found.measurements[0].rounding_bytes
    assert found.ratio == pytest.approx(1, abs=1e-9 + rounding / size)
    assert sum(part.bytes for part in found.parts) == pytest.approx(size, abs=len(found.parts))


@given(
    LATENTS | HYBRIDS,
    st.integers(2000, 10**6),
    st.integers(1, 10**6),
    st.integers(0, 10**12),
)
@FEW
def test_two_measurements_give_slope_and_fixed_part_exactly(model, tokens, more, beside):
    model = model()
    sizes = [memory(model, n).total_bytes + beside for n in (tokens, tokens + more)]
    text = f"{sizes[1]} B @ {tokens + more}; {sizes[0]:,} B @ {tokens:,}"
    found, due = audit(model, text), memory(model, tokens)
    fixed = due.fixed_bytes + due.window_bytes
    assert (found.bytes_per_token, found.fixed_bytes) == (due.bytes_per_token, fixed + beside)
    assert found.expected_bytes_per_token == due.bytes_per_token
    assert found.expected_fixed_bytes == fixed
    assert (found.causes[0].name, found.ratio) == (AS_EXPECTED, 1)
    assert found.causes[0].fixed_fits == (beside <= TOLERANCE * (fixed + beside))
    assert found.verdict.endswith("in none of its parts.") != found.causes[0].fixed_fits


def test_one_measurement_says_that_it_assumes_the_fixed_part():
    state = (Kept("state", 1000, 4, fixed=True, dtype="float32"),)
    found = audit(made(latent_layer(512, 64), state), "27520 B @ 10")
    assert (found.bytes_per_token, found.fixed_bytes) == (1152, 16000)
    assert "16,000 bytes" in found.assumption
    assert [(p.part, p.bytes) for p in found.parts] == [
        ("latent", 10240),
        ("rope key", 1280),
        ("state", 16000),
    ]


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        (f"{10 * 1152} B @ 10", "fixed states left out"),
        ("llama_kv_cache: size = 1.46 MiB (1024 cells, 1 layers, 1/1 seqs)", "states folded in"),
    ],
)
def test_states_that_are_missing_or_folded_in_are_named(reported, name):
    state = (Kept("state", 25000, 4, fixed=True, dtype="float32"),)
    found = audit(made(latent_layer(512, 64), state), reported)
    assert name in found.causes[0].name


def test_two_measurements_find_states_in_the_fixed_part():
    state = (Kept("state", 25000, 4, fixed=True, dtype="float32"),)
    model = made(latent_layer(512, 64), state)
    lines = [
        f"x: size = {(n * 1152 + 400_000) / MIB:.5f} MiB ({n} cells, 1 layers, 1/1 seqs)"
        for n in (1000, 2000)
    ]
    found = audit(model, "\n".join(lines))
    assert found.causes[0].name == "fixed states folded in"
    assert found.fixed_bytes == pytest.approx(400_000, abs=30)


@pytest.mark.parametrize(
    ("model", "settings", "size", "name"),
    [
        ("DeepSeek-V3", {"tp": 8}, 8 * 70272, "copies of 8 ranks counted together"),
        ("DeepSeek-V3", {"tp": 8}, 70272 // 8, "tokens dealt out to the ranks"),
        ("Qwen3-235B-A22B", {"tp": 8}, 192512, "not divided among ranks"),
        ("Llama-3-70B", {}, 327680 // 8, "one rank of 8"),
        ("DeepSeek-V2", {}, 60 * 128 * 512 * 2, "expanded K and V, padded to 256"),
        ("DeepSeek-V3", {}, 61 * 1088 * 2, "V copied beside the latent"),
        ("DeepSeek-V3", {}, 62 * 1152, "a layer of multi-token prediction"),
        ("DeepSeek-V3", {}, 61 * 2 * 7168 * 2, "billed as plain MHA"),
        ("DeepSeek-V3.2-Exp", {}, 61 * 1152, "indexer's keys left out"),
        ("Qwen3-0.6B", {}, 28 * 8 * 2 * 64 * 2, "head_dim guessed"),  # LMCache 688
        ("DeepSeek-V3", {"cache_dtype": "float32"}, 70272, "16 bits instead of float32"),
        ("DeepSeek-V3", {"cache_dtype": "fp8"}, 61 * 656, "fp8_ds_mla instead of fp8"),
    ],
)
def test_each_cause_by_its_bytes_a_token(model, settings, size, name):
    found = audit(model, f"{size * 1000} B @ 1000", **settings)
    assert found.causes[0].name == name
    assert found.causes[0].error == 0
    assert f"{size:,} bytes a further token" in found.causes[0].sentence


def test_tokens_rounded_to_pages_and_gb_that_means_gib():
    assert audit("DeepSeek-V3", f"{1024 * 70272} B @ 1000").causes[0].name == "pages of 32"
    gib = f"{7_027_200_000 / GIB:.3f} GB @ 100,000"
    assert audit("DeepSeek-V3", gib).causes[0].name == "GB that means GiB"


@given(LATENTS, st.integers(1 << 10, 1 << 20))
@FEW
def test_two_causes_are_found_where_no_one_of_them_is_enough(model, tokens):
    model = model()
    size = memory(expanded(model), tokens, cache_dtype="float32").total_bytes
    found = audit(model, f"{size} B @ {tokens}")
    first = found.causes[0]
    assert first.fits
    if len(first.changes) == 2:
        assert (first.error, first.bytes) == (0, size)
    else:
        assert len(first.changes) == 1
        assert first.error <= TOLERANCE


def test_a_coincidence_of_two_comes_after_one_cause_that_comes_near():
    four_copies_in_int8 = 4 * 61 * (516 + 68)  # float32 is 1.4 % less
    found = audit("DeepSeek-V3", f"{four_copies_in_int8 * 1000} B @ 1000")
    assert found.causes[0].name == "float32 instead of bfloat16"
    assert found.causes[0].error > TOLERANCE_OF_TWO
    assert any(len(cause.changes) == 2 and cause.error == 0 for cause in found.causes)


def test_what_is_near_the_expected_is_no_layer_more():
    one_in_a_hundred_more = 70975 * 1024  # a layer of multi-token prediction is 1.6 % more
    found = audit("DeepSeek-V3", f"{one_in_a_hundred_more} B @ 1024")
    assert [cause.name for cause in found.causes[:2]] == [
        AS_EXPECTED,
        "a layer of multi-token prediction",
    ]


@given(st.floats(0.01, 500).filter(lambda x: abs(x - 1) > TOLERANCE), st.integers(1, 10**6))
@FEW
def test_nothing_is_said_to_fit_that_does_not(ratio, tokens):
    size = max(1, round(ratio * 70272 * tokens))
    found = audit("DeepSeek-V3", f"{size} B @ {tokens}")
    for cause in found.causes:
        assert cause.error == pytest.approx(abs(cause.bytes / size - 1), abs=1e-6)
        assert cause.fits == (cause.error <= (TOLERANCE_OF_TWO if cause.changes[1:] else TOLERANCE))
    fits = [cause.fits for cause in found.causes]
    assert len(set(fits)) == 1
    assert found.verdict.startswith("Nothing on the list") != fits[0]


def test_nothing_fits_is_said_plainly():
    found = audit("DeepSeek-V3", "3310000000 B @ 10,000")
    assert found.verdict.startswith("Nothing on the list gives 4.71 times the expected bytes")
    assert not any(cause.fits for cause in found.causes)


@pytest.mark.parametrize(
    ("reported", "says"),
    [
        ("", "expected lines of vLLM"),
        ("a large cache", "got 'a large cache'"),
        ("7,03 GB @ 100000", "expected lines of vLLM"),
        ("7.03 GB @ 128k", "expected lines of vLLM"),
        ("GPU KV cache size: 178,880 tokens", "'Available KV cache memory' too; got tokens"),
        ("Available KV cache memory: 8.11 GiB", "GPU KV cache size: ... tokens' too; got bytes"),
        ("KV self size  = 10.00 MiB", "'n_ctx = ' too; got bytes"),
        ("1 B @ 1; 2 B @ 2; 3 B @ 3", "one or two measurements, got 3"),
        ("0 B @ 10", "expected bytes and tokens from 1"),
        ("10 B @ 0", "expected bytes and tokens from 1"),
        ("20 B @ 10; 10 B @ 20", "expected more bytes for more tokens"),
        ("20 B @ 10; 30 B @ 10", "expected more bytes for more tokens"),
        (f"{QWEN3_VLLM}\n{QWEN3_SGLANG}", "lines of one engine, got vLLM and SGLang"),
        (f"{'9' * 5000} B @ 10", "expected lines of vLLM"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(reported, says, capsys):
    assert says in refusal(["audit", "DeepSeek-V3", "--reported", reported], capsys)


@given(st.text(max_size=80) | st.from_regex(r"[\d.,_]{1,9} ?(GiB|B|)? ?@ ?[\d,.]{1,9}"))
def test_any_text_is_read_or_refused_with_a_sentence(text):
    try:
        audit("DeepSeek-V3", text)
    except ValueError as error:
        assert "expected" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tp": 0}, "tp: expected"),
        ({"page": 0}, "page: expected"),
        ({"batch": 0}, "batch: expected"),
        ({"cache_dtype": "fp4"}, "cache_dtype: expected"),
        ({"model": "GPT-9"}, "expected a config.json or one of"),
        ({"model": made(())}, "expected one whose cache grows"),
        ({"page": 64, "reported": "5 B @ 65; 6 B @ 70"}, "enough tokens for the cache to grow"),
        ({"cache_dtype": "q8_0", "model": made(latent_layer(33, 1))}, "multiple of 32 values"),
    ],
)
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        audit(**{"model": "DeepSeek-V3", "reported": "7 GB @ 100000"} | settings)


def test_a_batch_multiplies_the_tokens_of_a_measurement_but_not_of_a_log():
    found = audit("DeepSeek-V3", f"{4 * 70272 * 1000} B @ 1000", batch=4)
    assert (found.ratio, found.measurements[0].tokens) == (1, 4000)
    assert audit("Qwen3-235B-A22B", QWEN3_SGLANG, tp=4, batch=4).causes[0].name == AS_EXPECTED


def test_command_line_file_and_python_print_the_same(capsys, tmp_path, monkeypatch):
    path = tmp_path / "server.log"
    path.write_text(QWEN3_VLLM, encoding="utf-8")
    ask = ["audit", "Qwen3-235B-A22B", "--tp", "4", "--json"]
    main([*ask, "--log", str(path)])
    printed = json.loads(capsys.readouterr().out)
    record = mla_viz.audit("Qwen3-235B-A22B", QWEN3_VLLM, tp=4).record()
    assert printed == json.loads(json.dumps(record))
    lines = QWEN3_VLLM.splitlines()
    main([*ask, "--reported", lines[0], "--reported", lines[1]])
    assert json.loads(capsys.readouterr().out) == printed
    monkeypatch.setattr("sys.stdin", io.StringIO(QWEN3_VLLM))
    main([*ask, "--log", "-"])
    assert json.loads(capsys.readouterr().out) == printed
    main(["audit", "DeepSeek-V3", "--reported", "4,997,120 B @ 1"])
    out = capsys.readouterr().out
    assert "71.11 times the expected bytes: expanded K and V." in out
    assert "61 x 49,152 bytes of keys (128 x 192)" in out
    assert "cannot" not in refusal(["audit", "DeepSeek-V3", "--log", str(tmp_path)], capsys)
