"""The counted side of the Speed page: limits, crossings, training, a headline's ingredients."""

import json
from itertools import product
from math import inf, isclose

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mla_viz.cli import main
from mla_viz.config import MLAGeometry
from mla_viz.cost import cache_elems, core_flops, geometry_beside
from mla_viz.findings.fits import SHARE, fits
from mla_viz.findings.served import (
    DENSE,
    V2,
    Served,
    from_layers,
    ingredients,
    mla_models,
    served_model,
    throughput,
)
from mla_viz.findings.speed import (
    BANDWIDTH,
    COUNTED,
    PARTS,
    PRODUCTS,
    Rates,
    accelerator_rates,
    gain,
    needed_balance,
    step,
    training,
    training_crossing,
)
from mla_viz.published.accelerators import accelerators
from mla_viz.published.catalog import published_models
from tests.test_cli import refusal

V3 = published_models()["DeepSeek-V3"].attention
GLM = published_models()["GLM-4.7-Flash"].attention
WIDTHS = st.integers(1, 16).map(lambda n: 2 * n)
DIMS = st.tuples(st.integers(1, 8), WIDTHS, WIDTHS, WIDTHS, st.integers(1, 64))


def layer(dims, d_model=16, q_lora_rank=None):
    return MLAGeometry(d_model, *dims, q_lora_rank=q_lora_rank)


def rates(bytes_per_second=1e9, flops_per_second=1e11):
    return Rates("made", float(bytes_per_second), float(flops_per_second), "a test")


@pytest.mark.parametrize(
    ("mechanism", "flops", "elems"),
    [
        ("mla_absorbed", 278_528, 576),
        ("mla_expanded", 81_920, 40_960),
        ("mha", 65_536, 32_768),
        ("mqa", 65_536, 256),
    ],
)
def test_a_step_of_deepseek_v3_by_hand(mechanism, flops, elems):
    far = step(mechanism, V3, 100_000, 3, 2)
    assert far.flops == 3 * 100_000 * flops
    assert far.cache_bytes == 3 * 100_000 * elems * 2
    queries = 128 * (128 if mechanism[0] == "m" and "mla" not in mechanism else 192)
    results = 128 * 128
    if mechanism == "mla_absorbed":
        queries, results = 128 * 576, 128 * 512
    assert far.bytes == far.cache_bytes + 3 * 2 * (queries + results)


def test_rebuilding_reads_latents_and_makes_every_key_and_value():
    far = step("mla_reexpand", V3, 1000)
    assert far.flops == 1000 * 33_636_352
    weights = 512 * 128 * 256
    assert far.bytes == 2 * (1000 * 576 + 128 * 192 + 128 * 128 + weights)


@given(DIMS, st.sampled_from(COUNTED), st.integers(1, 300), st.integers(1, 9))
def test_a_layer_is_its_core_and_weights_that_a_batch_shares(dims, mechanism, context, batch):
    g = layer(dims)
    core, whole = (step(mechanism, g, context, batch, 4, part) for part in PARTS)
    assert core.flops < whole.flops
    assert core.bytes < whole.bytes
    assert core.cache_bytes == whole.cache_bytes
    one = step(mechanism, g, context, 1, 4, "layer")
    assert whole.flops == batch * one.flops
    assert whole.bytes <= batch * one.bytes


def test_the_limit_is_the_longer_of_reading_and_multiplying():
    machine = rates(20e9, 400e9)
    assert machine.balance == 20
    assert machine.limit_us(8e6, 20_000) == 20
    assert machine.limit_us(8e3, 20_000) == 1
    assert machine.bound(8e6, 20_000) == PRODUCTS
    assert machine.bound(400_000, 20_000) == machine.bound(1, 20_000) == BANDWIDTH


@example((1, 2, 2, 2, 4), 2, "mla_expanded")  # a latent as large as the keys and values
@given(DIMS, st.sampled_from([1, 2, 4]), st.sampled_from(["mla_expanded", "mha", "gqa", "mqa"]))
def test_the_needed_balance_is_where_the_winner_changes(dims, elem_bytes, baseline):
    g = layer(dims)
    other = geometry_beside(baseline, g)
    needed = needed_balance(g, baseline, elem_bytes)

    def wins(balance):
        times = []
        for mechanism, of in (("mla_absorbed", g), (baseline, other)):
            moved = cache_elems(mechanism, of) * elem_bytes
            times.append(max(core_flops(mechanism, of) / balance, moved))
        return times[0] < times[1]

    for balance in (1e-3, 1e-1, 1.0, 10.0, 1e3, 1e6):
        if needed is None:
            assert not wins(balance)
        elif needed == 0:
            assert not wins(balance) or cache_elems("mla_absorbed", g) < cache_elems(
                baseline, other
            )
        elif not isclose(balance, needed):
            assert wins(balance) == (balance > needed)


def test_the_balance_of_deepseek_v3_and_what_real_machines_gain():
    assert needed_balance(V3, "mla_expanded", 2) == 3.4
    assert needed_balance(V3, "mla_expanded", 4) == 1.7
    gains = {}
    for name in ("H800 SXM", "H100 SXM", "H200 SXM", "A100 80GB SXM"):
        steps = [step(m, V3, 1 << 20) for m in ("mla_absorbed", "mla_expanded")]
        gains[name] = round(gain(*steps, accelerator_rates(name, "bfloat16")))
    assert gains == {"H800 SXM": 71, "H100 SXM": 71, "H200 SXM": 61, "A100 80GB SXM": 45}


def test_a_rate_that_no_source_prints_is_refused_in_one_line():
    with pytest.raises(ValueError, match="expected one whose dense products are printed for H100"):
        accelerator_rates("H100 SXM", "float32")
    with pytest.raises(ValueError, match=r"printed for RTX 5090 \(none\), got bfloat16"):
        accelerator_rates("RTX 5090", "bfloat16")
    with pytest.raises(ValueError, match="accelerator: expected one of"):
        accelerator_rates("H1000", "bfloat16")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mechanism": "recompute"}, "mechanism: expected one of"),
        ({"part": "head"}, "part: expected one of core, layer"),
        ({"context": 0}, "context: expected a whole number from 1"),
        ({"batch": 0}, "batch: expected a whole number from 1"),
    ],
)
def test_what_cannot_be_counted_is_one_line(changes, words):
    with pytest.raises(ValueError, match="^" + words):
        step(**{"mechanism": "mha", "g": V3} | changes)


@given(DIMS, st.sampled_from(["mha", "gqa", "mqa"]), st.integers(4, 200), st.booleans())
def test_training_crosses_where_both_take_as_many_flops(dims, baseline, d_model, compressed):
    g = layer(dims, d_model, 8 if compressed else None)
    crossing = training_crossing(g, baseline)

    def more(context):
        mla, other = (training(name, g, context) for name in ("mla_expanded", baseline))
        return mla.flops - other.flops

    if crossing is None or crossing < 1:
        assert more(2) * more(1 << 30) >= 0
    else:
        assert more(max(1, int(crossing) - 1)) * more(int(crossing) + 2) <= 0


def test_training_deepseek_v3_by_hand():
    mla, mha = (training(name, V3, 4095) for name in ("mla_expanded", "mha"))
    assert mha.params == 4 * 7168 * 128 * 128
    assert mla.params == 187_105_280 + 1536 + 512
    assert mha.core_flops == 3 * 65_536 * 2048
    assert mla.core_flops == 3 * 81_920 * 2048
    assert mla.flops == 6 * mla.params + mla.core_flops


def made(**changes):
    row = {"params": 100, "active_params": 40, "sent_to": 0.25, "weight_bits": 8.0}
    row |= {"cache_elems": 2, "cache_bits": 4.0, "core_flops": 10}
    return Served("made", **row | changes)


def test_weights_at_work_grow_from_one_token_s_to_all():
    served = made()
    at_work = [served.weights_at_work(batch) for batch in (1, 2, 10, 1000)]
    assert isclose(at_work[0], 40)
    assert isclose(at_work[1], 20 + 80 * (1 - 0.75**2))
    assert at_work == sorted(at_work)
    assert isclose(at_work[-1], 100)
    assert made(active_params=100, sent_to=1.0).weights_at_work(7) == 100


@given(st.integers(1, 1000), st.integers(1, 10**6), st.integers(1, 64))
def test_what_fits_fills_the_memory_and_no_more(context, room, ranks):
    served = made()
    batch = served.fits((100 + room) / SHARE, context)
    each = served.sequence_bytes(context)
    assert batch * each <= room * (1 + 1e-9) + 1e-6
    assert (batch + 1) * each > room * (1 - 1e-9) - 1e-6
    assume(batch)
    alone, shared = (throughput(served, batch, context, rates(), n) for n in (1, ranks))
    assert isclose(shared.tokens_per_second, ranks * alone.tokens_per_second)


def test_a_step_of_all_sequences_by_hand():
    flops, moved = made().step(2, 6)
    assert flops == 2 * (2 * 40 + 6 * 10)
    assert isclose(moved, (20 + 80 * (1 - 0.75**2)) + 2 * 6 * 2 * 4 / 8)
    found = throughput(made(), 2, 6, rates(1, 1e9), 1)
    assert found.bound == BANDWIDTH
    assert isclose(found.step_us, 1e6 * moved)


def test_a_model_of_timed_layers_by_hand():
    # 3 layers of 10 weights and 5 us; 70 - 30 other weights read for a batch of 1000, 10 multiplied
    tokens = from_layers(made(), 3, 10, 5.0, 1000, rates(1e6, 1e18))
    assert isclose(tokens, 1e6 * 1000 / (15 + 70))


def test_sequences_that_fit_are_those_of_the_memory_page():
    v3 = published_models()["DeepSeek-V3"]
    memory = 8 * accelerators()["H200 SXM"].memory_bytes
    here = served_model(v3, 8.0, 16.0).fits(memory, 4096)
    there = fits("DeepSeek-V3", "H200 SXM", 8, "fp8", context=4096, strategy="pp").sequences
    assert abs(there - here * 61 / 64) <= 1  # 61 layers in eight parts: the fullest rank has 8


@pytest.mark.parametrize("context", [256, 1024, 4096, 32_768, 131_072])
@pytest.mark.parametrize("name", [n for n, a in accelerators().items() if "bfloat16" in a.flops])
def test_ingredients_start_at_one_and_end_at_the_whole(name, context):
    shares = ingredients(name, 8, context)
    first, *alone, whole, rest = shares
    assert (first.label.split()[0], whole.label.split(":")[0]) == (DENSE, V2)
    assert len(alone) == 4
    for share in shares:
        assert (share.found is None) == (share.ratio is None) or first.found is None
    if first.found:
        assert first.ratio == 1
    if whole.found and rest.found:
        assert whole.found.sequences > rest.found.sequences


def test_the_counted_headline_on_eight_h800():
    whole = ingredients()[5]
    assert 5 < whole.ratio < 6  # the paper prints 5.76, measured, for a mix of lengths
    assert whole.found.tokens_per_second > 50_000


def test_models_whose_layers_are_all_mla():
    models = mla_models()
    assert models["DeepSeek-V3"] == V3
    assert "Kimi-K3" not in models  # most of its layers have a state
    assert "GLM-5" not in models  # an indexer's keys beside the latents
    assert GLM in models.values()
    assert all(isinstance(g, MLAGeometry) for g in models.values())


def test_every_pair_of_mechanism_and_part_has_a_finite_gain():
    absorbed = {part: step("mla_absorbed", GLM, 64, part=part) for part in PARTS}
    for mechanism, part in product(COUNTED, PARTS):
        found = gain(absorbed[part], step(mechanism, GLM, 64, part=part), rates())
        assert 0 < found < inf


def test_the_command_prints_what_is_counted(capsys):
    main(["speed", "DeepSeek-V3", "--context", "4096", "--query-tokens", "256", "--json"])
    found = json.loads(capsys.readouterr().out)
    steps = {(each["mechanism"], each["part"]): each for each in found["steps"]}
    rates = accelerator_rates("H800 SXM", "bfloat16")
    absorbed, naive = (step(name, V3) for name in ("mla_absorbed", "mla_expanded"))
    core = steps["mla_expanded", "core"]
    assert (core["flops"], core["bytes"]) == (naive.flops, naive.bytes)
    assert core["times_absorbed"] == gain(absorbed, naive, rates)
    assert found["needed_balance"]["mla_expanded"] == 3.4
    assert round(found["queries"]["endless_crossover"]) == 171
    assert found["headline"][5]["ratio"] == ingredients()[5].ratio
    main(["speed", "GLM-4.7-Flash"])
    assert "absorbed wins against mla_expanded: above" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Llama-3-8B"], "model: expected one of DeepSeek-V3"),
        (["DeepSeek-V3", "--dtype", "float32"], "dtype: expected one whose dense products"),
        (["DeepSeek-V3", "--query-tokens", "0"], "query_tokens: expected a whole number"),
        (["DeepSeek-V3", "--ranks", "0"], "ranks: expected a whole number"),
    ],
)
def test_what_the_command_refuses_is_one_line(arguments, says, capsys):
    assert says in refusal(["speed", *arguments], capsys)
