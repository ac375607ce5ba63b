"""A model's cache in closed form, against published figures and against real tensors."""

import json
import math
import tomllib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mla_viz
from mla_viz.cli import main
from mla_viz.config import ModelGeometry
from mla_viz.cost import cache_elems
from mla_viz.findings.memory import memory
from mla_viz.mechanisms.table import mechanism_of, runs_weights_of
from mla_viz.model.decoder import Decoder
from mla_viz.model.weights import random_weights
from mla_viz.published.catalog import judged, judged_models
from mla_viz.published.layers import (
    CACHE_DTYPES,
    CachedModel,
    Kept,
    cache_bytes,
    grouped_layer,
    latent_layer,
    mechanism_layer,
)
from mla_viz.shipped import shipped
from tests.test_cli import refusal
from tests.test_cost import gqa_geometries, mla_geometries

CATALOG = tomllib.loads(shipped("models.toml").read_text(encoding="utf-8"))["model"]


def made(*layers, heads=16, qk=192, v=128):
    return CachedModel("made", "made", layers, heads, qk, v, 64, "a test")


GLM_5_2 = made(*[latent_layer(512, 64, 128 * (i < 21)) for i in range(78)])


def test_deepseek_v3_grows_by_70272_bytes_a_token():
    m = memory("DeepSeek-V3", 100_000)
    assert (m.elems_per_token_per_layer, m.elems_per_token, m.bytes_per_token) == (
        576,
        35136,
        70272,
    )
    assert m.total_bytes == 7_027_200_000
    assert (m.fixed_bytes, m.window_bytes, m.attention) == (0, 0, "MLA")
    assert m.baselines["plain MHA of the same heads"].ratio == pytest.approx(56.89, abs=0.005)
    assert m.baselines["own expanded cache"].ratio == pytest.approx(71.11, abs=0.005)


def test_v2_lite_is_8_9_times_smaller_than_its_own_expanded_cache():
    assert memory("DeepSeek-V2-Lite").baselines["own expanded cache"].ratio == 5120 / 576


def test_v2_is_compared_with_the_67b_that_its_paper_names():
    beside = memory("DeepSeek-V2").baselines["DeepSeek-67B"]
    assert beside.elems_per_token == 95 * 2 * 8 * 128
    assert "own expanded cache" not in memory("DeepSeek-67B").baselines


def test_the_example_of_flashmla_is_8_72_gib():
    total = memory("DeepSeek-V3", 128 * 1024, mtp_layers=1).total_bytes
    assert total / 2**30 == pytest.approx(8.72, abs=0.005)


def test_glm_5_2_in_fp8_is_what_was_measured():
    grows = memory(GLM_5_2, cache_dtype="fp8").bytes_per_token
    assert grows == 78 * 576 + 21 * 132
    assert grows == pytest.approx(47_702, rel=1e-3)


@pytest.mark.parametrize(
    ("dtype", "size"),
    {
        "bfloat16": 1152,
        "float16": 1152,
        "float32": 2304,
        "fp8": 576,
        "fp8_ds_mla": 656,  # 512 + 4 scales of 4 bytes + 64 in bfloat16
        "int8": 584,  # a scale for the latent, one for the rope key
        "q8_0": 18 * 34,
        "q4_0": 18 * 18,
    }.items(),
)
def test_bytes_of_a_latent_of_512_with_a_rope_key_of_64(dtype, size):
    assert memory(made(latent_layer(512, 64)), cache_dtype=dtype).bytes_per_token == size


@pytest.mark.parametrize(
    ("dtype", "layer", "says"),
    [
        ("fp8_ds_mla", grouped_layer(8, 128, 128), "expected latents, got keys"),
        ("q8_0", grouped_layer(1, 24, 24), "multiple of 32 values, got 24"),
        ("fp4", latent_layer(512, 64), "expected one of bfloat16"),
    ],
)
def test_a_dtype_that_does_not_apply_is_refused(dtype, layer, says):
    with pytest.raises(ValueError, match=says):
        memory(made(layer), cache_dtype=dtype)


def test_windows_states_and_compressed_entries_are_counted_apart():
    window, full = grouped_layer(2, 8, 4, window=10), grouped_layer(1, 16, 16)
    state = (Kept("state", 64, 4, fixed=True, dtype="float32"),)
    compressed = (Kept("compressed entries", 32, every=4),)
    m = memory(made(window, full, state, compressed, ()), 101, batch=3)
    assert m.elems_per_token_per_layer is None
    assert (m.elems_per_token, m.bytes_per_token) == (32 + 8, 80)
    assert m.fixed_bytes == 4 * 64 * 4
    assert m.window_bytes == 10 * 24 * 2
    assert m.total_bytes == 3 * (101 * 64 + 101 // 4 * 64 + m.fixed_bytes + m.window_bytes)
    assert sum(f.bytes for f in m.factors) == m.total_bytes
    assert m.baselines["MQA"].elems_per_token == 2 * 2 * 128  # two layers grow


def test_kv_heads_are_dealt_out_until_there_are_none_left_and_latents_are_copied():
    gqa, mla = made(grouped_layer(8, 128, 128)), made(latent_layer(512, 64))
    shares = [memory(gqa, 1, tp=tp).per_rank_bytes for tp in (1, 3, 8, 64)]
    assert shares == [4096, 3 * 512, 512, 512]
    assert [memory(mla, 1, tp=tp).per_rank_bytes for tp in (1, 8)] == [1152, 1152]


def test_tokens_are_rounded_up_to_whole_pages():
    assert memory(made(latent_layer(512, 64)), 65, page=64).total_bytes == 128 * 1152


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"context": 0}, "context: expected"),
        ({"batch": -1}, "batch: expected"),
        ({"tp": 0}, "tp: expected"),
        ({"page": 0}, "page: expected"),
        ({"mtp_layers": -1}, "mtp_layers: expected"),
        ({"model": "GPT-9"}, "expected a config.json or one of DeepSeek-V3"),
    ],
)
def test_bad_input_is_refused(what, says):
    with pytest.raises(ValueError, match=says):
        memory(**{"model": "DeepSeek-V3"} | what)


def allocated(mechanism, geometry, tokens):
    """Bytes of one layer's cache after so many tokens of the real engine, in float32."""
    model = ModelGeometry("", geometry, 2, 8, 11, 64)
    decoder = Decoder(random_weights(model, 0), mechanism)
    decoder.feed(torch.zeros(tokens, dtype=torch.long))
    return sum(cache.filled_bytes for cache in decoder.caches)


@given(mla_geometries | gqa_geometries, st.integers(1, 9), st.data())
def test_closed_forms_equal_nbytes_of_caches_that_the_engine_holds(geometry, tokens, data):
    mechanism = data.draw(st.sampled_from(runs_weights_of(geometry)))
    layers = (mechanism_layer(mechanism, geometry),) * 2
    ours = cache_bytes([part for layer in layers for part in layer], tokens, "float32")
    assert ours == allocated(mechanism, geometry, tokens)


@pytest.mark.parametrize("name", judged_models())
def test_a_judged_models_geometry_and_its_layers_agree(name):
    row, g = judged(name), judged(name).attention
    assert row.n_layers * cache_elems(mechanism_of(g), g) == row.cache_elems
    assert memory(name).source.startswith(row.source)


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row["name"])
def test_every_row_of_the_catalog_grows_by_the_elements_that_its_source_implies(row):
    m = memory(row["name"])
    assert m.elems_per_token == row["elems_per_token"]
    assert m.source.startswith(row["source"])


@given(
    st.lists(
        st.builds(
            Kept,
            st.just("keys"),
            st.integers(1, 9).map(lambda x: 32 * x),
            st.integers(1, 9),
            every=st.sampled_from([1, 4, 128]),
            window=st.none() | st.integers(1, 300),
            fixed=st.booleans(),
        ),
        min_size=1,
    ),
    st.integers(1, 2000),
    st.sampled_from([d for d in CACHE_DTYPES if d != "fp8_ds_mla"]),
    st.integers(1, 16),
)
def test_growth_explains_totals_beyond_every_window(kept, context, dtype, tp):
    model = made(tuple(kept))
    start, end = (
        memory(model, 300 * 128 + 128 * n, cache_dtype=dtype, tp=tp) for n in (0, context)
    )
    assert end.total_bytes - start.total_bytes == 128 * context * start.bytes_per_token
    assert start.total_bytes / tp <= start.per_rank_bytes <= start.total_bytes
    assert math.isclose(sum(f.bytes for f in end.factors), end.total_bytes)


def test_command_line_and_python_print_the_same(capsys, tmp_path):
    main(
        [
            "memory",
            "DeepSeek-V2",
            "--context",
            "1000",
            "--cache-dtype",
            "fp8",
            "--tp",
            "8",
            "--json",
        ]
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(
        json.dumps(mla_viz.memory("DeepSeek-V2", 1000, cache_dtype="fp8", tp=8).record())
    )
    fields = "model attention elems_per_token_per_layer elems_per_token bytes_per_token fixed_bytes"
    assert {*fields.split(), "total_bytes", "baselines", "per_rank_bytes"} <= set(printed)
    path = tmp_path / "config.json"
    path.write_text(
        '{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64,'
        ' "num_attention_heads": 4, "num_key_value_heads": 2}',
        encoding="utf-8",
    )
    main(["memory", str(path), "--context", "10", "--tp", "2"])
    out = capsys.readouterr().out
    assert "GQA-2: 2,560 bytes for 1 x 10 tokens" in out
    assert "each of 2 ranks: 1,280 bytes" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.json"], "cannot read it: No such file"),
        (["GPT-9"], "expected a config.json or one of"),
        (["DeepSeek-V3", "--cache-dtype", "q9"], "expected one of bfloat16"),
        (["DeepSeek-V3", "--context", "many"], "invalid int value"),
    ],
)
def test_command_line_refuses_in_one_line(arguments, says, capsys):
    assert says in refusal(["memory", *arguments], capsys)
