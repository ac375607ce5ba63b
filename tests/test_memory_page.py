"""The Memory page: its figures from hand-made records, its link, and the page whole."""

import base64
import json
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.figures.memory import (
    BINARY,
    DECIMAL,
    SYMBOLS,
    TICKS,
    UNITS,
    Line,
    byte_ticks,
    contexts,
    fits_figure,
    formula_html,
    memory_figure,
    memory_numbers,
    product_text,
)
from mla_viz.findings.fits import Fit, fits
from mla_viz.findings.memory import memory
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.published.catalog import cached_model, model_names
from mla_viz.published.config_json import read_config
from mla_viz.published.layers import CachedModel, Kept, grouped_layer, latent_layer
from mla_viz.ui.memory import sections
from mla_viz.ui.memory.asked import BASELINES, COMPARED, GQA, Asked
from mla_viz.ui.memory.fits import DIVIDED, what_fits
from mla_viz.ui.memory.link import essence, pack_config, unpack_config
from tests.screens import bodies, page, said, section, tables
from tests.test_imports import CONFIGS

pytestmark = pytest.mark.filterwarnings("default")

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "rms_norm_eps": 1e-5,
    "rope_scaling": {"type": "yarn", "factor": 8},
}


def made(*layers, heads=16, label="made"):
    return CachedModel(label, "made", layers, heads, 128, 128, 64, "a test")


def colour(mechanism):
    return MECHANISMS[mechanism].colour.light


@pytest.mark.parametrize(
    ("model", "hue"),
    [
        (made(latent_layer(512, 64), grouped_layer(8, 64, 64)), colour("mla_absorbed")),
        (made(grouped_layer(16, 64, 64)), colour("mha")),
        (made(grouped_layer(8, 64, 64)), colour("gqa")),
        (made(grouped_layer(1, 64, 64), grouped_layer(1, 64, 64, 100)), colour("mqa")),
        (made((Kept("compressed entries", 512, every=4),)), colour("mqa")),
        (made((Kept("state", 64, fixed=True),)), "#8a93a3"),
    ],
)
def test_a_model_has_the_colour_of_what_it_caches(model, hue):
    assert Line("", model, 0).colour(dark=False) == hue


def test_the_curve_is_counted_at_every_context_and_marked_at_the_chosen_one():
    models = [made(latent_layer(512, 64)), made(grouped_layer(8, 128, 128, window=1000))]
    lines = [Line(f"m{i}", model, i) for i, model in enumerate(models)]
    at = contexts(3000, log_scale=True)
    assert 3000 in at
    assert at == sorted(set(at))
    numbers = memory_numbers(lines, at, 2, "fp8", 64)
    figure = memory_figure(lines, numbers, 3000, True, DECIMAL, dark=False)
    for line, model, curve in zip(lines, models, figure.data, strict=True):
        expected = [memory(model, c, 2, "fp8", page=64).total_bytes for c in at]
        assert list(curve.y) == expected
        assert curve.name == line.label
        assert [x for x, size in zip(curve.x, curve.marker.size, strict=True) if size] == [3000]
    first, second = figure.data
    assert first.line.dash != second.line.dash
    assert first.marker.symbol != second.marker.symbol
    assert figure.layout.xaxis.title.text == "tokens of each sequence"
    assert figure.layout.yaxis.title.text == "bytes of all sequences"


def test_nothing_cached_is_no_point_on_a_logarithmic_scale():
    line = Line("none", made(()), 0)
    numbers = memory_numbers([line], contexts(10, True), 1, "bfloat16", 1)
    assert set(memory_figure([line], numbers, 10, True, BINARY, True).data[0].y) == {None}


def test_marks_suffice_for_every_other_attention():
    assert len(SYMBOLS) >= max(len(sections.alternatives(cached_model(n))) for n in model_names())


@given(st.integers(1, 10**16), st.integers(1, 10**16), st.booleans(), st.sampled_from([*UNITS]))
def test_ticks_are_few_round_and_within_what_is_drawn(one, other, log_scale, unit):
    low, high = sorted((one, other))
    ticks = byte_ticks(low, high, log_scale, unit)
    assert len(ticks) <= TICKS + 1
    assert all(0 <= tick <= high * (1 + 1e-8) for tick in ticks)
    assert log_scale or ticks[0] == 0 < ticks[-1]


@given(st.integers(1, 1 << 30), st.booleans())
def test_the_chosen_context_is_always_drawn_and_none_is_below_one(chosen, log_scale):
    at = contexts(chosen, log_scale)
    assert chosen in at
    assert at[0] >= 1
    assert at[-1] >= 2 * chosen or chosen < 1 << 20


def test_a_product_names_every_factor_and_comes_to_the_bytes():
    m = memory("DeepSeek-V3", 100_000)
    assert [product_text(f, m.context) for f in m.factors] == [
        "61 layers × 1 sequence × 100,000 tokens × 512 values × 2 bytes",
        "61 layers × 1 sequence × 100,000 tokens × 64 values × 2 bytes",
    ]
    grouped = memory(made(grouped_layer(8, 128, 128, window=10)), 99, 3, "q8_0").factors[0]
    assert product_text(grouped, 99) == (
        "1 layer × 3 sequences × 10 tokens × 8 heads × 128 values in 1,088 bytes with scales"
    )
    state = memory(made((Kept("state", 64, 4, fixed=True, dtype="float32"),)), 99).factors[0]
    assert product_text(state, 99) == "1 layer × 1 sequence × 4 heads × 64 values × 4 bytes"


def test_the_bars_of_all_models_are_on_one_scale():
    small, large = memory(made(latent_layer(512, 0))), memory(made(latent_layer(1024, 0)))
    widths = [formula_html(m, large.total_bytes, "#000000", DECIMAL) for m in (small, large)]
    assert "max(2px,50.0000%)" in widths[0]
    assert "max(2px,100.0000%)" in widths[1]


def test_what_does_not_fit_is_not_drawn():
    fits = [Fit(1, "tp", 10, 20, -10, 1, 0), Fit(2, "tp", 10, 5, 5, 1, 5)]
    figure = fits_figure([Line("m", made(latent_layer(1, 1)), 0)], [fits], 2, dark=False)
    assert list(figure.data[0].y) == [None, 5]
    assert figure.layout.yaxis.title.text == "sequences that fit"


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("baseline", BASELINES)
def test_every_ratio_names_its_baseline_and_says_the_right_way_round(name, baseline):
    asked = Asked({name: cached_model(name)}, baseline=baseline, groups=8)
    m = memory(cached_model(name))
    words, found = sections.against(m, asked), sections.beside(m, asked)
    if found is None:
        assert words == f"No baseline: it has none of the kind “{baseline}”."
        assert baseline in (GQA, COMPARED, "own expanded cache")
        return
    other, figures = found
    first = sections.ratio_words(other, figures)
    assert words.startswith(first)
    assert first.endswith((f"than {other}.", f"as {other}.", "nothing of it grows."))
    if figures.ratio is not None:
        assert ("smaller" in first, "larger" in first) == (figures.ratio > 1, figures.ratio < 1)
    expanded = m.baselines.get("own expanded cache")
    both = expanded is not None and other != "own expanded cache"
    assert ("expanded cache is" in words) == both


def test_a_link_holds_the_fields_that_decide_and_no_other():
    kept = essence(LLAMA)
    assert kept == {k: v for k, v in LLAMA.items() if k.startswith(("num", "hidden", "model"))}
    assert unpack_config(pack_config(kept)) == kept
    nested = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"hidden_size": 9}}
    assert essence(nested)["text_config"] == kept
    assert "vision_config" not in essence(nested)


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text(), max_size=40))
def test_whatever_else_a_file_says_its_model_is_read_from_the_link(noise):
    record = noise | LLAMA
    assert read_config(unpack_config(pack_config(essence(record)))) == read_config(record)


@given(st.text())
def test_what_is_no_link_is_refused_in_one_line(text):
    try:
        unpack_config(text)
    except ValueError as error:
        assert "\n" not in str(error)


def test_a_link_that_unpacks_to_gigabytes_is_refused():
    bomb = base64.urlsafe_b64encode(zlib.compress(b"[" + b" " * 50_000_000, 9)).decode()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"config\.json: expected"):
        unpack_config(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def memory_page(**query):
    app = page("pages/memory.py", **query)
    assert not app.exception
    return app


def heading(app):
    """The big number of every card."""
    return [text.removeprefix("## ") for text in said(app) if text.startswith("## ")]


def test_the_page_shows_what_the_command_line_prints():
    app = memory_page()
    assert not app.error
    names = app.multiselect(key="models").value
    state = memory("Kimi-Linear-48B-A3B", 131_072).warnings[0]
    assert f":material/warning: {state}" in [text.value for text in app.caption]
    assert heading(app) == [UNITS[DECIMAL](memory(name, 131_072).total_bytes) for name in names]
    assert (
        "**56.9 times smaller** a token than plain MHA of the same heads. Its own expanded cache is"
        " 71.1 times as large."
    ) in said(app)
    assert json.loads(app.get("plotly_chart")[0].spec)["data"][0]["name"] == "DeepSeek-V3"


def test_the_address_restores_everything():
    app = memory_page(
        models="GLM-5",
        context=100_000,
        batch=3,
        memory_dtype="fp8",
        unit=BINARY,
        page=64,
        mtp_layers=1,
        baseline=GQA,
        groups=2,
        config=pack_config(LLAMA),
    )
    counted = {"batch": 3, "cache_dtype": "fp8", "page": 64, "mtp_layers": 1}
    models = [read_config(LLAMA), "GLM-5"]
    assert heading(app) == [
        UNITS[BINARY](memory(m, 100_000, **counted).total_bytes) for m in models
    ]
    assert any("a token than GQA-2." in words for words in said(app))


def test_a_dtype_that_does_not_apply_is_said_in_the_card_of_its_model_alone():
    app = memory_page(memory_dtype="fp8_ds_mla", models="DeepSeek-V3")
    assert heading(app) == [UNITS[DECIMAL](131_072 * 61 * 656)]
    app.multiselect(key="models").set_value(["DeepSeek-V3", "Llama-3-8B"]).run()
    assert [error.value for error in app.error] == [
        "cache_dtype fp8_ds_mla: expected latents, got keys; use fp8"
    ]
    assert len(heading(app)) == 1


def test_a_bad_number_is_refused_under_its_field_and_the_last_good_one_stays():
    app = memory_page(models="DeepSeek-V3")
    app.number_input(key="context").set_value(1000.0).run()
    before = heading(app)
    app.number_input(key="context").set_value(10.5).run()
    assert app.error[0].value.startswith("context: expected a whole number from 1 to")
    assert app.error[0].value.endswith("The page goes on with 1,000.")
    assert heading(app) == before


@pytest.mark.parametrize(
    ("params", "active", "words"),
    [
        (None, None, ""),
        (8.03e9, 8.03e9, " · 8.03B parameters"),
        (671.03e9, 37.552e9, " · 671B parameters, 37.6B at work"),
        (1.026e12, None, " · 1,026B parameters"),
        (134_515_008, None, " · 135M parameters"),
    ],
)
def test_a_card_says_how_many_parameters_there_are(params, active, words):
    counts = {"params": params and int(params), "active_params": active and int(active)}
    assert sections.sized(replace(made(), **counts)) == words


def test_nothing_chosen_asks_for_a_model():
    app = memory_page(models="DeepSeek-V3")
    app.multiselect(key="models").set_value([]).run()
    assert app.info[0].value.startswith("Pick a model")
    assert not app.exception


def test_a_pasted_file_joins_the_models_and_a_bad_one_leaves_the_last_good():
    app = memory_page(models="DeepSeek-V3", own=True)
    app.session_state.own = True
    app.run()
    app.text_area(key="pasted").set_value(json.dumps(LLAMA)).run()
    assert "**llama (yours)**  \nGQA-2" in said(app)
    assert unpack_config(app.query_params["config"]) == essence(LLAMA)
    shown = heading(app)
    for bad in ('{"model_type": "llama"', '{"model_type": "nobody"}', "[1]", '{"a": 1, "a": 2}'):
        app.text_area(key="pasted").set_value(bad).run()
        assert not app.exception
        assert app.error[0].value.startswith("config.json")
        assert app.error[0].value.endswith("The last one that could be read stays.")
        assert heading(app) == shown


def test_a_bad_link_is_refused_in_one_line():
    app = memory_page(config="nonsense", models="DeepSeek-V3")
    assert app.error[0].value.startswith("config: expected a config.json as this page packs it")
    assert heading(app) == [UNITS[DECIMAL](memory("DeepSeek-V3", 131_072).total_bytes)]


def test_every_tab_shows_its_part():
    app = memory_page(part="Against others", models="DeepSeek-V2")
    (rows,) = tables(app)
    assert {row["against"] for row in rows} == set(memory("DeepSeek-V2").baselines)
    app = memory_page(part="What is given up", models="Gemma-3-27B")
    assert f"- {memory('Gemma-3-27B').given_up[0]}" in said(app)
    app = memory_page(part="The formula", models="Gemma-3-27B")
    assert sum("52 layers × 1 sequence × 1,024 tokens" in body for body in bodies(app)) == 1


@pytest.mark.parametrize("name", model_names())
def test_other_attention_is_drawn_for_every_model(name):
    asked = Asked({name: cached_model(name)})
    app = section(sections.curves, asked, {name: memory(name)}, drawn=sections.ATTENTIONS)
    assert not app.exception
    (chart,) = app.get("plotly_chart")
    assert len(json.loads(chart.spec)["data"]) >= 6


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_published_file_fits_in_a_link(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    packed = pack_config(essence(record))
    assert len(packed) < 500
    assert read_config(unpack_config(packed)) == read_config(record)


def test_what_fits_is_counted_from_the_model_s_own_weights_or_from_what_is_said():
    app = memory_page(part="What fits", models="DeepSeek-V3", **{"params_DeepSeek-V3": 671})
    rows, shares = tables(app)
    held = {
        how: fits("DeepSeek-V3", params=671e9, context=131_072, strategy=key)
        for how, key in DIVIDED.items()
    }
    for how, each in held.items():
        shown = rows[0][f"sequences, by {how.partition(' (')[0]}"]
        assert shown == (
            "no room for the weights" if each.room_bytes < 0 else f"{each.sequences:,}"
        )


def test_on_more_ranks_it_is_said_that_a_latent_is_copied():
    app = memory_page(
        part="What fits",
        models="DeepSeek-V3",
        accelerator="H200 SXM",
        **{"params_DeepSeek-V3": 671},
    )
    assert any("the latent is the larger cache" in warning.value for warning in app.warning)
    rows, _ = tables(app)
    by_heads, by_sequences = (
        int(rows[0][f"sequences, by {how}"]) for how in ("heads", "sequences")
    )
    assert by_sequences == 8 * by_heads  # each rank holds a copy, or sequences of its own
    app.selectbox(key="divided").set_value("sequences (data-parallel attention)").run()
    assert not app.warning


def test_a_model_of_unknown_size_is_asked_for():
    unknown = CachedModel("made", "MLA", (latent_layer(512, 64),), 16, 192, 128, 64, "a test")
    asked = Asked({"made": unknown})
    app = section(what_fits, asked, {"made": memory(unknown)})
    assert not app.exception
    assert not tables(app)
    app.number_input(key="params_made").set_value(7.0).run()
    assert tables(app)[0][0]["weights"] == "875 MB"  # 7 GB over 8
