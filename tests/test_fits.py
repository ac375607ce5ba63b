"""What ranks hold of a cache, what fits beside weights, what is given up, and other attention."""

import json
import re
from dataclasses import asdict
from fractions import Fraction
from math import prod

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import mla_viz
from mla_viz.cli import main
from mla_viz.findings.alternatives import alternatives
from mla_viz.findings.fits import SHARE, WEIGHT_BITS, fits, weight_bytes
from mla_viz.findings.memory import DIVIDED, MHA, MQA, OWN_EXPANDED, memory, rank_bytes
from mla_viz.published.accelerators import accelerators
from mla_viz.published.catalog import cached_model, model_names
from mla_viz.published.layers import (
    CachedModel,
    Kept,
    bytes_per_token,
    cache_bytes,
    elems_per_token,
    grouped_layer,
    latent_layer,
)
from tests.test_cli import refusal


def made(*layers, heads=16, qk=192, v=128):
    return CachedModel("made", "made", layers, heads, qk, v, 64, "a test")


STATE = (Kept("state", 64, 4, fixed=True, dtype="float32"),)
# What makes a layer, with its arguments: it is built inside the tests, since the check of its
# types draws at random, which strategies may not.
window = st.none() | st.integers(1, 200)
layers = st.one_of(
    st.tuples(st.just(grouped_layer), st.integers(1, 16), st.just(64), st.just(32), window),
    st.tuples(
        st.just(latent_layer), st.integers(1, 512), st.integers(0, 64), st.sampled_from([0, 128])
    ),
    st.sampled_from([(lambda: STATE,), (lambda: (),)]),
)
stacks = st.lists(layers, min_size=1, max_size=9)


@given(
    stacks, st.integers(1, 1000), st.integers(1, 9), st.integers(1, 12), st.sampled_from(DIVIDED)
)
def test_ranks_hold_it_all_between_them_and_none_more_than_all(stack, context, batch, ranks, how):
    model = made(*(build(*arguments) for build, *arguments in stack))
    whole = rank_bytes(model.layers, context, batch, "bfloat16")
    assert whole == batch * cache_bytes(model.kept, context, "bfloat16")
    each = rank_bytes(model.layers, context, batch, "bfloat16", 1, ranks, how)
    assert whole / ranks <= each <= whole
    assert rank_bytes(model.layers, context, batch, "bfloat16", 1, 1, how) == whole


@pytest.mark.parametrize(
    ("strategy", "share"), [("tp", 8), ("dp", 1), ("cp", 1), ("pp", Fraction(8, 61) * 8)]
)
def test_eight_ranks_of_deepseek_v3(strategy, share):
    """Latents are copied by tp; 61 layers leave one of eight ranks with eight of them."""
    m = memory("DeepSeek-V3", 100_000, batch=8, tp=8, strategy=strategy)
    assert m.per_rank_bytes == share * 7_027_200_000
    assert m.strategy == strategy


def test_windows_and_states_are_whole_on_every_rank_that_shares_tokens():
    window, full = grouped_layer(1, 8, 8, window=10), grouped_layer(1, 16, 16)
    model = made(window, full, STATE)
    each = rank_bytes(model.layers, 101, 1, "bfloat16", 1, 4, "cp")
    assert each == 10 * 32 + 26 * 64 + 64 * 4 * 4


@given(
    stacks,
    st.integers(1, 10**12),
    st.sampled_from([*accelerators()]),
    st.integers(1, 16),
    st.integers(1, 10**6),
    st.sampled_from(DIVIDED),
)
def test_what_fits_fits_and_one_more_does_not(stack, params, name, ranks, context, how):
    model = made(*(build(*arguments) for build, *arguments in stack))
    found = fits(model, name, ranks, "fp8", params, context, strategy=how)
    room = int(SHARE * accelerators()[name].memory_bytes) - -(-params // ranks)

    def taken(batch):
        return rank_bytes(model.layers, context, batch, "bfloat16", 1, ranks, how)

    assert found.room_bytes == room
    if not found.sequence_bytes:
        assert found.sequences == 0  # nothing is cached: no cache bounds them
        return
    assert found.sequences == 0 or taken(found.sequences) <= room
    assert taken(found.sequences + 1) > room


def test_eight_accelerators_of_141_gb_hold_18_sequences_of_v3_by_heads_and_144_by_sequences():
    counted = {"params": 671e9, "context": 32_768, "page": 64}
    held = {how: fits("DeepSeek-V3", strategy=how, **counted).sequences for how in ("tp", "dp")}
    # 0.9 x 141 GB - 671 GB / 8 = 43.0 GB, by 2.30 GB a sequence
    assert held == {"tp": 18, "dp": 8 * 18}


def test_weights_in_every_dtype():
    sizes = {dtype: weight_bytes(32, dtype) for dtype in WEIGHT_BITS}
    assert sizes == {"bfloat16": 64, "fp8": 32, "int8": 32, "mxfp4": 17, "q4_0": 18}
    with pytest.raises(ValueError, match="weight_dtype: expected one of bfloat16"):
        weight_bytes(1, "fp3")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"strategy": "ep"}, "strategy: expected one of tp, dp, cp, pp, got 'ep'"),
        ({"ranks": 0}, "ranks: expected a whole number from 1"),
        ({"accelerator": "abacus"}, "accelerator: expected one of H100 SXM"),
        ({"weights": "fp3"}, "weight_dtype: expected one of bfloat16"),
        ({"params": -1}, "params: expected a number from 1"),
        ({"context": 0}, "context: expected a whole number"),
        ({"cache_dtype": "q9"}, "cache_dtype: expected one of"),
        ({"model": "GPT-9"}, "expected a config.json or one of"),
        ({"params": None}, "params: expected a number, since those of made cannot be counted"),
    ],
)
def test_bad_fits_are_refused(what, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        fits(**{"model": made(latent_layer(8, 8)), "params": 9} | what)


def test_command_line_and_python_fit_the_same(capsys):
    line = (
        "fits DeepSeek-V3 --params 671e9 --context 32768 --page 64 --strategy dp --ranks 16 --json"
    )
    main(line.split())
    printed = json.loads(capsys.readouterr().out)
    counted = {"params": 671e9, "context": 32_768, "page": 64, "strategy": "dp", "ranks": 16}
    assert printed == asdict(mla_viz.fits("DeepSeek-V3", **counted))
    assert "accelerator: expected one of" in refusal(
        ["fits", "DeepSeek-V3", "--accelerator", "abacus"], capsys
    )


@given(
    st.integers(1, 700),
    st.integers(0, 64),
    st.integers(2, 32),
    st.integers(1, 32),
    st.sampled_from([32, 64, 128]),
    st.sampled_from(DIVIDED),
)
@example(192, 64, 8, 8, 128, "tp")  # as large as one head's key and value
@example(448, 64, 8, 1, 32, "tp")  # as large as all of them
def test_a_latent_is_called_larger_exactly_where_it_is(rank, rope, groups, ranks, v, strategy):
    model = made(*[latent_layer(rank, rope)] * 3, heads=64, v=v)
    told = memory(model, tp=ranks, strategy=strategy, groups=groups).warnings
    shared = 2 * -(-groups // (ranks if strategy == "tp" else 1)) * v
    assert any("latent is the larger cache" in words for words in told) == (rank + rope > shared)
    everywhere = rank + rope > 2 * groups * v
    assert any(words.startswith("The latent is") for words in told) == everywhere


@given(st.integers(1, 64), st.integers(1, 10_000), st.integers(1, 100_000))
def test_a_state_is_worth_as_many_tokens_as_outweigh_it(states, width, context):
    state = (Kept("state", width, fixed=True, dtype="float32"),)
    model = made(*[state] * states, latent_layer(512, 64))
    (words,) = memory(model, context).warnings
    tokens = Fraction(4 * states * width, 1152)
    assert f"is worth {round(tokens):,} tokens" in words
    assert ("more than half" in words) == (context < tokens)


def test_kimi_k3_s_state_is_worth_16253_tokens():
    state = (Kept("state", 6_512_640 // 4, fixed=True, dtype="float32"),)
    model = made(*[state] * 69, *[latent_layer(512, 64)] * 24)
    assert "is worth 16,253 tokens" in memory(model).warnings[0]


@pytest.mark.parametrize("name", model_names())
def test_a_baseline_s_formula_comes_to_its_elements(name):
    for beside in memory(name, groups=4).baselines.values():
        product = re.sub("[a-z]+", "", beside.formula).replace("×", "*")
        assert eval(product) == beside.elems_per_token  # digits and signs alone


def test_what_is_given_up_names_its_layers():
    window = grouped_layer(2, 8, 8, window=128)
    compressed = (Kept("compressed entries", 512, every=4), Kept("indexer key", 128, every=4))
    told = memory(made(window, window, STATE, compressed, grouped_layer(2, 8, 8))).given_up
    starts = [words.partition(":")[0] for words in told]
    assert starts == [
        "In 2 of 5 layers only the last 128 tokens are kept",
        "In 1 of 5 layers a state of fixed size stands for all tokens",
        "In 1 of 5 layers one entry of 512 values stands for 4 tokens",
        "In 1 of 5 layers an indexer's key is kept beside every token and picks the few that a step"
        " reads",
    ]
    assert memory(made(STATE)).warnings[0].startswith("Nothing grows: 1.02 kB (1.0 KiB) a sequence")
    assert memory("Llama-3-8B").given_up == memory("Llama-3-8B").warnings == ()


@pytest.mark.parametrize("name", model_names())
def test_other_attention_keeps_the_layers_that_do_not_grow(name):
    model = cached_model(name)
    others = alternatives(model)
    assert next(iter(others.values())) is model
    for other in others.values():
        assert len(other.layers) == len(model.layers)
        pairs = zip(model.layers, other.layers, strict=True)
        assert all(ours == theirs for ours, theirs in pairs if not any(p.grows for p in ours))


def test_other_attention_of_deepseek_v3():
    v3 = cached_model("DeepSeek-V3")
    others = alternatives(v3, groups=4)
    elems = {name: elems_per_token(other.kept) for name, other in others.items()}
    assert elems == {
        "DeepSeek-V3": 61 * 576,
        OWN_EXPANDED: 61 * 128 * (192 + 128),
        MHA: 61 * 2 * 128 * 128,
        "GQA-4": 61 * 2 * 4 * 128,
        MQA: 61 * 2 * 128,
        "linear attention": 0,
        "windows of 4,096 in every layer": 0,
        "windows in 5 of 6 layers": 10 * 576,
        "sparse, with an indexer": 61 * (576 + 128),
    }
    state = others["linear attention"].layers[0][0]
    assert state.elems(10**6) == prod((192, 128, 128))
    mla = alternatives(cached_model("Llama-3-8B"))["MLA of 512 + 64"]
    assert bytes_per_token(mla.kept, "bfloat16") == 32 * 1152


def test_accelerators_are_as_large_and_fast_as_real_ones_and_name_their_source():
    assert "H100 SXM" in accelerators()
    for name, machine in accelerators().items():
        assert machine.name == name
        assert 10**10 <= machine.memory_bytes <= 10**12
        assert 10**11 <= machine.bytes_per_second <= 10**13
        assert all(10**13 < flops < 10**16 for flops in machine.flops.values())
        assert machine.source
        bf16, fp8 = (machine.flops.get(dtype) for dtype in ("bfloat16", "fp8"))
        assert fp8 is None or 1.9 < fp8 / bf16 < 2.1  # dense beside dense


def test_an_h200_is_an_h100_with_more_memory():
    h100, h200 = (accelerators()[name] for name in ("H100 SXM", "H200 SXM"))
    assert (h100.memory_bytes, h200.memory_bytes) == (80 * 10**9, 141 * 10**9)
    assert h100.flops == h200.flops
    # FLOP a byte in bf16
    assert round(h100.flops["bfloat16"] / h100.bytes_per_second) == 295
