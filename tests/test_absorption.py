"""The Absorption page's sections: every count by hand at two sets of dims, every stage's parts."""

import re
import tomllib
from dataclasses import fields, replace
from html import unescape

import pytest

from mla_viz.config import MLAGeometry, ModelGeometry
from mla_viz.cost import Flow, flows, operations
from mla_viz.findings.lanes import joins, lane_matrices
from mla_viz.findings.lesson import GEOMETRY, HEADS, FormatError, make_lesson
from mla_viz.published.catalog import judged
from mla_viz.shipped import shipped
from mla_viz.ui.absorption import algebra, dims, parts, stages
from mla_viz.ui.absorption.parts import prose
from mla_viz.ui.absorption.stages import code_line
from mla_viz.words import flops_text
from tests.screens import bodies, drawings, said, section, tables

G = MLAGeometry(40, 6, 10, 4, 14, 25, q_lora_rank=20)
PLAIN = replace(G, q_lora_rank=None)

LESSON, CHOSEN = "in the lesson, 5 words cached", "chosen, 4,096 words cached"
# The products of each stage: of five words in the lesson (d_model 8, two heads of 2, RoPE 2, latent
# 4) and of 4,096 at G. FLOPs are two a multiply-add: 2·8·8, 2·20·84, 2·8·6, ...
LEDGER = {
    1: [
        (LESSON, "q = x·[W_UQ | W_QR]", "(1×8)·(8×8)", "128 FLOP"),
        (CHOSEN, "q = c_Q·[W_UQ | W_QR]", "(1×20)·(20×84)", "3.36 kFLOP"),
    ],
    2: [
        (LESSON, "c_KV, k_R = x·[W_DKV | W_KR]", "(1×8)·(8×6)", "96 FLOP"),
        (CHOSEN, "c_KV, k_R = x·[W_DKV | W_KR]", "(1×40)·(40×29)", "2.32 kFLOP"),
    ],
    3: [],
    4: [
        (LESSON, "q̃ = q·W_UKᵀ", "2×(1×2)·(2×4)", "32 FLOP"),
        (CHOSEN, "q̃ = q·W_UKᵀ", "6×(1×10)·(10×25)", "3 kFLOP"),
    ],
    5: [
        (LESSON, "[q̃ | q_R]·[c_KV | k_R]ᵀ / √4", "(2×6)·(6×5)", "120 FLOP"),
        (CHOSEN, "[q̃ | q_R]·[c_KV | k_R]ᵀ / √14", "(6×29)·(29×4,096)", "1.43 MFLOP"),
    ],
    6: [],
    7: [
        (LESSON, "õ = p·c_KV", "(2×5)·(5×4)", "80 FLOP"),
        (CHOSEN, "õ = p·c_KV", "(6×4,096)·(4,096×25)", "1.23 MFLOP"),
    ],
    8: [
        (LESSON, "o = õ·W_UV", "2×(1×4)·(4×2)", "32 FLOP"),
        (LESSON, "out = o·W_O", "(1×4)·(4×8)", "64 FLOP"),
        (CHOSEN, "o = õ·W_UV", "6×(1×25)·(25×14)", "4.2 kFLOP"),
        (CHOSEN, "out = o·W_O", "(1×84)·(84×40)", "6.72 kFLOP"),
    ],
}


@pytest.mark.parametrize("number", LEDGER)
def test_a_stage_shows_its_matrices_its_products_and_its_code(number):
    stage = prose()["step"][number - 1]
    app = section(stages.steps, G, step_stage=number)
    assert not app.exception
    texts = said(app)
    assert f"### {number}. {stage['title']}" in texts
    assert stage["text"] in texts
    assert stage["formula"] in app.latex[0].value
    ledger = [tuple(row.values()) for table in tables(app) for row in table]
    assert ledger == LEDGER[number]
    captions = [caption.value for caption in app.caption]
    assert ("No matrix product: nothing is counted." in captions) == (not LEDGER[number])
    assert app.code[0].value == stage["code"]
    assert captions[-1] == f"{stage['file']}, line {code_line(stage['file'], stage['code'])}"
    (record,) = drawings(app)
    assert record["run"] == f"Drawing of stage {number}"
    assert as_written(record) == as_written_in(stage["band"])
    assert_numbers_are_the_lessons(record)


def as_written(record):
    """Lanes of each band as the page's prose writes them, and what is equal between them."""
    return [
        {
            lane["name"]: [
                [[" | ".join(place) for place in row] for row in scheme]
                for scheme in lane["schemes"]
            ]
            for lane in band["lanes"]
        }
        | {"equal": [join["name"] for join in band["joins"]]}
        for band in record["bands"]
    ]


def as_written_in(bands):
    return [
        {"equal": []} | {key: value for key, value in band.items() if not key.endswith("_says")}
        for band in bands
    ]


def assert_numbers_are_the_lessons(record):
    lesson = make_lesson()
    for lane, drawn in record["matrices"].items():
        known = lane_matrices(lesson, lane)
        for name, matrix in drawn.items():
            assert matrix["values"] == known[name].values.tolist(), (lane, name)
            assert matrix["role"] == known[name].role, (lane, name)
    for found in (join for band in record["bands"] for join in band["joins"]):
        (measured,) = joins([found["name"]], lesson, lesson)
        assert (found["gaps"], found["apart"]) == (measured.gaps, False)


def test_the_numbers_said_to_be_cached_are_those_drawn_as_cached():
    (record,) = drawings(section(stages.steps, G, step_stage=3))
    for lane in record["bands"][1]["lanes"]:
        places = sum((sum(row, []) for scheme in lane["schemes"] for row in scheme), [])
        drawn = [record["matrices"][lane["name"]][name] for name in places]
        kept = [matrix["values"] for matrix in drawn if matrix["role"] == "cached"]
        count = sum(len(row) for values in kept for row in values)
        assert f"has cached {count} numbers" in lane["says"]


def test_a_changed_weight_is_said_drawn_on_one_side_and_breaks_what_it_reaches():
    app = section(stages.steps, G, step_stage=8, changed_weight="true")
    (record,) = drawings(app)
    found = [(join["name"], join["apart"]) for band in record["bands"] for join in band["joins"]]
    assert found == [("o head 1", True), ("o head 2", False), ("out", True)]
    said = "W_UK head 1, row 1, column 1: 1.5 on the naive side, 0.5 on the absorbed one."
    assert said in [caption.value for caption in app.caption]
    (record,) = drawings(section(stages.steps, G, step_stage=4, changed_weight="true"))
    naive, absorbed = (
        record["matrices"][lane]["W_UKᵀ head 1"]["values"][0][0] for lane in ("naive", "absorbed")
    )
    assert (naive, absorbed) == (1.5, 0.5)


STEPS = prose()["step"]


def names_of(bands, lanes):
    schemes = [scheme for band in bands for lane in lanes for scheme in band.get(lane, ())]
    places = [place for scheme in schemes for row in scheme for place in row if place]
    return {name for place in places for name in place.split(" | ")}


def test_what_makes_a_matrix_is_drawn_where_the_matrix_is_drawn_first():
    lesson, seen = make_lesson(), {"alike": set(), "naive": set(), "absorbed": set()}
    for stage in STEPS:
        for lane, told in seen.items():
            known, here = lane_matrices(lesson, lane), names_of(stage["band"], ("alike", lane))
            for name in names_of(stage["band"], (lane,)) - told - seen["alike"]:
                for part in known[name].made.of if known[name].made else ():
                    heads = {f"{part} {head}" for head in HEADS}
                    assert part in here or heads <= here, (stage["title"], lane, name, part)
            told |= names_of(stage["band"], (lane,))
    assert all(len(told) > 10 for told in seen.values())


NOT_MATRICES = {"i", "d_n", "d_R"}


def test_all_that_a_stages_formula_and_products_name_is_drawn_by_then_for_every_head():
    drawn = set()
    ledger = {line.name: line.formula for line in operations("mla_absorbed", GEOMETRY, 5, 1)}
    for stage in STEPS:
        drawn |= names_of(stage["band"], ("alike", "absorbed"))
        symbols = {name.split(" ")[0].removesuffix("ᵀ") for name in drawn}
        symbols |= {name.rpartition(" ")[2] for name in drawn if "head" not in name}
        formulas = [
            stage["formula"],
            *(ledger[name].replace("ᵀ", "") for name in stage["operations"]),
        ]
        for symbol in {name for formula in formulas for name in parts.symbols_in(formula)}:
            assert symbol in symbols | NOT_MATRICES, (symbol, stage["title"])
    heads = {name for name in drawn if name.endswith("head 1")}
    assert {name.replace("1", "2") for name in heads} <= drawn


def test_stages_step_and_go_round_at_the_ends():
    app = section(stages.steps, G)
    back, forward = (f"step_stage_{name}" for name in ("back", "next"))
    for number in (*range(1, 9), 1, 2):
        assert app.slider(key="step_stage").value == number
        assert app.query_params == ({"step_stage": str(number)} if number > 1 else {})
        assert app.button(key=back).label == ("To the end" if number == 1 else "Back")
        assert app.button(key=forward).label == ("To the start" if number == 8 else "Next")
        app.button(key=forward).click().run()
    for number in (2, 1, 8, 7):
        app.button(key=back).click().run()
        assert app.slider(key="step_stage").value == number
    assert any(text.startswith("### 7. ") for text in said(app))


def test_no_button_of_a_stage_is_ever_disabled():  # it would take the focus along
    for stage in (1, 4, 8):
        assert not any(
            button.disabled for button in section(stages.steps, G, step_stage=stage).button
        )


@pytest.mark.parametrize("place", range(4))
def test_a_guess_is_answered_with_a_reason(place):
    entry = prose()["question"][place]
    app = section(parts.ask, entry["before"])
    (radio,) = app.radio
    assert radio.label == f"Predict first, or read on: {entry['question']}"
    assert (radio.options, radio.value) == (entry["options"], None)
    assert not [*app.info, *app.success]
    for option in entry["options"]:
        app.radio(key=f"guess_{entry['before']}").set_value(option).run()
        answers = [text.value for text in (*app.success, *app.info)]
        right = option == entry["answer"]
        words = "Right." if right else f"No: {entry['answer']}."
        assert answers == [f"{words} {entry['reason']}"]
        assert len(app.success) == right


def test_a_question_stands_before_its_stage_alone():
    asked = {n: bool(section(stages.steps, G, step_stage=n).radio) for n in (3, 4, 5)}
    assert asked == {3: True, 4: True, 5: False}


# Plain MHA of G's heads at 4,096 tokens: with a cache one token goes through four projections and
# meets 4,096 keys and values of 6 heads; without one, all 4,096 tokens do.
CACHED = 2 * (4 * 40 * 84 + 4096 * 6 * (14 + 14))
BEFORE = {
    1: "Writing 4,096 tokens this way feeds 8,390,656 tokens",
    4: "one layer of plain MHA, 6 heads of 14 dims, at the 4,096th token:"
    f" {4096 * CACHED / 1e9:.3g} GFLOP without a cache, {CACHED / 1e6:.3g} MFLOP with one. That is"
    " 4,096 times less",
    6: "Plain MHA with 6 heads of 14 dims: 168 elements a token and layer",
    7: "value of 14 dims: 28 elements a token and layer, where MHA has 168",
    8: "With g = 2: 56 elements a token and layer, where MHA has 168 and MQA 28",
    9: "one latent of 25 numbers a word, shared by all heads, from which each head makes keys and"
    " values of its own by W_UK and W_UV. With a RoPE key of 4 beside it: 29 elements a token and"
    " layer, where MHA has 168",
}


def test_the_stages_before_the_latent_have_the_numbers_of_the_dims_chosen():
    app = section(stages.before_the_latent, G)
    for number, stage in enumerate(prose()["before"], 1):
        app.slider(key="before_stage").set_value(number).run()
        texts = said(app)
        assert f"### {number}. {stage['title']}" in texts
        assert any(BEFORE.get(number, stage["text"][:40]) in text for text in texts)
        assert stage["formula"] in app.latex[0].value
        assert app.caption[0].value == parts.meanings(parts.symbols_in(stage["formula"]))
        assert app.caption[-1].value == f"In this project: {stage['code']}"
        assert len(app.slider) == (6 if number == 5 else 1)  # the stage, and a slider a factor


@pytest.mark.parametrize(
    ("heads", "mha", "mqa", "gqa"), [(7, 196, 28, 196), (1, 28, 28, 28), (9, 252, 28, 84)]
)
def test_where_heads_have_no_groups_gqa_is_what_is_left(heads, mha, mqa, gqa):
    g = replace(G, n_heads=heads)
    for stage, elems in ((6, mha), (7, mqa), (8, gqa)):
        texts = said(section(stages.before_the_latent, g, before_stage=stage))
        assert any(f"{elems} elements a token and layer" in text for text in texts)
        assert not any("1 heads" in text for text in texts)


def test_the_factors_of_the_cache_are_as_many_as_the_text_says():
    (stage,) = (stage for stage in prose()["before"] if stage.get("sliders"))
    (text,) = said(section(stages.cache_factors))
    product, _ = text.split(" = ", 1)
    assert len(product.split(" · ")) == len(stage["formula"].split(r"\cdot")) == 7
    assert stage["text"].startswith("Seven factors ")


def test_the_cache_is_the_product_of_its_factors():
    (text,) = said(section(stages.cache_factors))
    v3 = judged("DeepSeek-V3")
    assert text.startswith(
        f"{v3.n_layers} · 1 · {v3.attention.n_heads} · {v3.attention.v_head_dim} ·"
    )
    assert text == ("61 · 1 · 128 · 128 · 100,000 · 2 · 2 = **399,769,600,000 bytes = 399.77 GB**")
    app = section(
        stages.cache_factors, factor_L=2, factor_B=3, factor_n=5, factor_h=14, factor_S=131072
    )
    total = 2 * 3 * 5 * 14 * 131072 * 2 * 2
    assert said(app) == [f"2 · 3 · 5 · 14 · 131,072 · 2 · 2 = **{total:,} bytes = 0.22 GB**"]
    assert [(s.label, s.min, s.max) for s in app.slider] == [
        ("Layers L", 1, 128),
        ("Sequences B", 1, 64),
        ("Heads n", 1, 128),
        ("Dims of a head d_h", 2, 256),
        ("Tokens S", 1, 131072),
    ]


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (0, "0 FLOP"),
        (7, "7 FLOP"),
        (999, "999 FLOP"),
        (1000, "1 kFLOP"),
        (1049, "1.05 kFLOP"),
        (281_700, "282 kFLOP"),
        (999_499, "999 kFLOP"),
        (999_500, "1 MFLOP"),
        (1_000_000, "1 MFLOP"),
        (12_340_000, "12.3 MFLOP"),
        (999_600_000, "1 GFLOP"),
        (1_520_000_000, "1.52 GFLOP"),
        (10**12, "1 TFLOP"),
        (144 * 10**15, "144 PFLOP"),
    ],
)
def test_flops_have_three_digits_and_the_unit_that_fits(flops, text):
    assert flops_text(flops) == text


def test_a_line_of_code_is_found_where_it_stands():
    file = "mla_viz/ui/absorption/stages.py"
    first, *_ = (stages.ROOT / file).read_text(encoding="utf-8").splitlines()
    assert code_line(file, first) == 1
    with pytest.raises(ValueError, match="is not in list"):
        code_line(file, "no such line")


def chosen_dims(found):
    found.append(dims.chosen_dims())


def test_counts_are_made_with_the_dims_chosen():
    found = []
    app = section(chosen_dims, found)
    offered = ["DeepSeek-V3", "DeepSeek-V2", "DeepSeek-V2-Lite", "the lesson's own", "other dims"]
    assert app.selectbox(key="dims").options == offered
    for name in offered[1:]:
        app.selectbox(key="dims").set_value(name).run()
    published = [judged(name).attention for name in offered[:3]]
    geometries = [*published, GEOMETRY, replace(GEOMETRY, rope_theta=1e4)]
    assert found == list(zip(offered, geometries, strict=True))


def test_own_dims_are_taken_field_by_field_and_refused_in_place():
    found = []
    values = {"d_model": 40, "n_heads": 6, "qk_nope_head_dim": 10, "qk_rope_head_dim": 4}
    values |= {"v_head_dim": 14, "kv_lora_rank": 25, "q_lora_rank": 20}
    app = section(chosen_dims, found, **{f"own_{name}": value for name, value in values.items()})
    app.selectbox(key="dims").set_value("other dims").run()
    assert found[-1] == ("other dims", G)
    assert [field.label for field in app.number_input] == [
        *list(values)[:-1],
        "q_lora_rank (0: none)",
    ]
    app.number_input(key="own_q_lora_rank").set_value(0).run()
    assert found[-1] == ("other dims", PLAIN)
    app.number_input(key="own_n_heads").set_value(0).run()
    assert app.error[0].value.startswith("n_heads: expected a whole number")
    assert found[-1] == ("other dims", PLAIN)


def test_four_flows_differ_in_what_they_keep_compute_and_throw_away():
    app = section(algebra.four_flows, G, flow_tokens=1000)
    # Projections and what moves or expands one token: 2·(800 + 1680 + 1160 + 3600 + 3360) FLOPs.
    naive, absorbed = 21_200 + 2 * 6 * (14 + 14) * 1000, 21_200 + 2 * 6 * (29 + 25) * 1000
    half = absorbed - 2 * 6 * 25 * (1000 + 14) + 2 * 6 * (25 * 14 + 14) * 1000
    rebuilt = naive + 2 * 6 * 25 * (10 + 14) * 999
    assert [tuple(row.values()) for row in tables(app)[0]] == [
        ("naive: every head's keys and values cached", "168", f"{naive / 1e3:.3g} kFLOP", "0 MB"),
        (
            "latent cached, keys and values rebuilt",
            "29",
            f"{rebuilt / 1e6:.3g} MFLOP",
            "0.336 MB",  # 6 heads, 14 + 14, 1,000 tokens, two bytes
        ),
        (
            "latent cached, W_UK absorbed, values rebuilt",
            "29",
            f"{half / 1e6:.3g} MFLOP",
            "0.168 MB",  # 6 heads, 14 values, 1,000 tokens, two bytes
        ),
        ("latent cached, W_UK and W_UV absorbed", "29", f"{absorbed / 1e3:.3g} kFLOP", "0 MB"),
    ]
    header = ["flow", "cached a token", "FLOPs of a step", "made and thrown away, 16 bits"]
    assert list(tables(app)[0][0]) == header
    gap = float(app.caption[0].value.removesuffix(".").rpartition(" ")[2])
    assert gap < 1e-12
    start = section(algebra.four_flows, G).slider(key="flow_tokens")
    assert (start.value, start.min, start.max) == (4096, 1, 131072)


def test_what_absorbing_saves_is_said_against_each_baseline():
    naive, rebuilt, half, absorbed = (Flow("", elems, flops, 0) for elems, flops in FLOWS)
    assert algebra.saving_words(naive, rebuilt, half, absorbed) == (
        "Against keys and values rebuilt from the same cache at each step, absorbing takes"
        " **4.0x fewer FLOPs**. Against those that the naive form keeps, it takes **2.5x more"
        " FLOPs** and caches 10.0x fewer elements."
    )
    same = algebra.saving_words(absorbed, absorbed, half, absorbed)
    assert same.count("as many") == 3
    app = section(algebra.four_flows, G, flow_tokens=1000)
    assert said(app) == [algebra.saving_words(*flows(G, 1000))]


FLOWS = [(100, 40), (10, 400), (10, 200), (10, 100)]


def test_a_product_of_three_is_counted_in_both_brackets():
    app = section(algebra.bracket, G)
    (record,) = drawings(app)
    assert record["run"] == "Drawing of both brackets"
    assert as_written(record) == as_written_in(prose()["bracket"])
    assert_numbers_are_the_lessons(record)
    assert said(app)[1:] == [
        f"**{name}**, one head, one new token, at the dims chosen" for name in ("Scores", "Values")
    ]
    scores, values = tables(app)
    # 2·(10·25 + 25t) against 2·(10·25·t + 10t), and the same with 14 in place of 10
    assert scores == [
        bracket_row("1", "(q·W_UKᵀ)·C_KVᵀ", "550 FLOP", "q·(C_KV·W_UK)ᵀ", "520 FLOP", "1×10"),
        bracket_row("100", "(q·W_UKᵀ)·C_KVᵀ", "5.5 kFLOP", "q·(C_KV·W_UK)ᵀ", "52 kFLOP", "100×10"),
        bracket_row(
            "100,000", "(q·W_UKᵀ)·C_KVᵀ", "5 MFLOP", "q·(C_KV·W_UK)ᵀ", "52 MFLOP", "100,000×10"
        ),
    ]
    assert values == [
        bracket_row("1", "(p·C_KV)·W_UV", "750 FLOP", "p·(C_KV·W_UV)", "728 FLOP", "1×14"),
        bracket_row("100", "(p·C_KV)·W_UV", "5.7 kFLOP", "p·(C_KV·W_UV)", "72.8 kFLOP", "100×14"),
        bracket_row(
            "100,000", "(p·C_KV)·W_UV", "5 MFLOP", "p·(C_KV·W_UV)", "72.8 MFLOP", "100,000×14"
        ),
    ]


def bracket_row(tokens, moved, moved_flops, rebuilt, rebuilt_flops, between):
    return {
        "cached": tokens,
        moved: moved_flops,
        "between": "1×25",
        rebuilt: rebuilt_flops,
        "in between": between,
    }


def test_merging_is_weighed_against_the_weights_kept_apart():
    app = section(algebra.merging, G)
    assert not app.warning
    assert [list(row.values()) for row in tables(app)[0]] == [
        [
            "W_UQ·W_UKᵀ",
            "2,700 (0.0054 MB)",  # 6·10·(20 + 25), two bytes each
            "3,000 (0.006 MB)",  # 6·20·25
            "1.11x",
            "d_n < d_q·d_c / (d_q + d_c) = 11.1",
            "10: grows",
        ],
        [
            "W_UV·W_O",
            "5,460 (0.01092 MB)",  # 6·14·(40 + 25)
            "6,000 (0.012 MB)",  # 6·40·25
            "1.10x",
            "d_v < d_model·d_c / (d_model + d_c) = 15.4",
            "14: grows",
        ],
    ]


def test_merging_warns_where_dims_teach_the_opposite():
    app = section(algebra.merging, replace(PLAIN, qk_nope_head_dim=16, v_head_dim=16))
    assert [row["growth"] for row in tables(app)[0]] == ["0.96x", "0.96x"]
    assert [row["here"] for row in tables(app)[0]] == ["16: shrinks", "16: shrinks"]
    assert "d_model·d_c / (d_model + d_c) = 15.4" in tables(app)[0][0]["grows where"]
    first, second = (warning.value for warning in app.warning)
    assert "merging W_UQ·W_UKᵀ shrinks the weights: d_n 16 is above 15.4" in first
    assert "merging W_UV·W_O shrinks the weights: d_v 16 is above 15.4" in second
    assert first.endswith("teach the opposite of DeepSeek-V3's.")


def test_merging_that_keeps_the_weights_as_many_does_not_grow():
    app = section(algebra.merging, replace(G, kv_lora_rank=20, v_head_dim=4))
    queries, values = tables(app)[0]
    assert (queries["growth"], queries["here"]) == ("1.00x", "10: shrinks")  # 20·20 / (20 + 20)
    assert values["here"] == "4: grows"
    assert len(app.warning) == 1


def test_rope_on_the_content_path_shows_the_damage(monkeypatch):
    monkeypatch.setattr(algebra, "rope_break", lambda distances: [d / 200 for d in distances])
    app = section(algebra.rope)
    (record,) = drawings(app)
    assert record["run"] == "Drawing of both parts of the scores"
    assert as_written(record) == as_written_in(prose()["rope"])
    assert_numbers_are_the_lessons(record)
    app = section(algebra.rope, rope_on_content="true")
    assert not drawings(app)
    distances = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    expected = [
        {"distance": str(d), "difference over true score": f"{d / 2:.0f}%"} for d in distances
    ]
    assert tables(app) == [expected]


def test_formats_tell_both_paths_and_where_they_overflow(monkeypatch):
    records = [FormatError("bfloat16", 0.00654, 0.0059, (None, 7))]
    records.append(FormatError("float16", 1e-3, 2e-3, (17, None)))
    monkeypatch.setattr(algebra, "format_errors", lambda: records)
    algebra._formats.clear()
    app = section(algebra.formats)
    algebra._formats.clear()
    assert tables(app)[0] == [
        {
            "format": "bfloat16",
            "expanded, from float64": "6.5e-03",
            "absorbed, from float64": "5.9e-03",
            "expanded overflows at": "never",
            "absorbed overflows at": "2^7",
        },
        {
            "format": "float16",
            "expanded, from float64": "1.0e-03",
            "absorbed, from float64": "2.0e-03",
            "expanded overflows at": "2^17",
            "absorbed overflows at": "never",
        },
    ]
    assert "(tried to 2^24)" in said(app)[0]


def test_prefill_pays_for_every_query_or_once_for_all():
    app = section(algebra.prefill, G, prefill=100)
    assert said(app) == [
        "They cross at **23.1** query tokens over an endless context,"  # 600 / 26
        " d_c·(d_n + d_v) / (2·d_c − d_n − d_v), and at 18.8 over 100 tokens."  # 600 / 32
    ]
    # absorbed: q·(2·25·6·24 + 100·648); rebuilt: 100·7,200 + q·100·336
    assert [list(row.values()) for row in tables(app)[0]] == [
        ["1", "72 kFLOP", "754 kFLOP", "absorbed, 10.5x"],
        ["16", "1.15 MFLOP", "1.26 MFLOP", "absorbed, 1.1x"],
        ["64", "4.61 MFLOP", "2.87 MFLOP", "rebuilt, 1.6x"],
        ["128", "9.22 MFLOP", "5.02 MFLOP", "rebuilt, 1.8x"],
        ["171", "12.3 MFLOP", "6.47 MFLOP", "rebuilt, 1.9x"],
        ["256", "18.4 MFLOP", "9.32 MFLOP", "rebuilt, 2.0x"],
        ["1,024", "73.7 MFLOP", "35.1 MFLOP", "rebuilt, 2.1x"],
        ["4,096", "295 MFLOP", "138 MFLOP", "rebuilt, 2.1x"],
    ]
    assert list(tables(app)[0][0]) == ["query tokens", "absorbed", "rebuilt", "fewer"]
    assert app.caption[0].value.startswith(
        "Attention FLOPs of one layer, projections left out. A cached token costs one query 648"
        " FLOP absorbed and 336 FLOP from ready keys and values. **d_c** dims of the latent"
    )
    start = section(algebra.prefill, G).slider(key="prefill")
    assert (start.value, start.min, start.max) == (32768, 1, 131072)


def test_prefill_says_where_there_is_no_crossover():
    app = section(algebra.prefill, replace(G, kv_lora_rank=12))  # 2·12 = 10 + 14
    assert not said(app)
    assert app.info[0].value.startswith("At these dims there is no crossover")


SYMBOLS = prose()["symbols"]
# A letter alone or with a subscript: S, d_h, W_UQ, q̃.
SYMBOL = r"(?<![\w'’`])([^\W\d_]\u0303?(?:_[A-Za-z]+)?)(?![\w'’\u0303])"
NO_SYMBOLS = {"a", "A", "ᵀ"}
NAMES = {field.name for field in (*fields(MLAGeometry), *fields(ModelGeometry))}


def written(app):
    """Everything a part of the page says, tables and matrices included."""
    told = [*said(app), *(text.value for text in (*app.caption, *app.info, *app.warning))]
    told += [unescape(re.sub("<[^>]*>", " ", body)) for body in bodies(app)]
    for record in drawings(app):
        told += [lane["says"] for band in record["bands"] for lane in band["lanes"]]
        told += [name for drawn in record["matrices"].values() for name in drawn]
    return [*told, *(option for radio in app.radio for option in radio.options)]


@pytest.mark.parametrize("g", [G, PLAIN, replace(G, kv_lora_rank=12)])
def test_every_symbol_on_the_page_is_in_the_table(g):
    shows = [(part, {}) for part in (algebra.four_flows, algebra.bracket, algebra.merging)]
    shows += [(algebra.prefill, {}), (stages.before_the_latent, {"before_stage": 1})]
    shows += [(stages.before_the_latent, {"before_stage": n}) for n in range(2, 10)]
    shows += [(stages.steps, {"step_stage": n}) for n in range(1, 9)]
    for show, query in shows:
        texts = written(section(show, g, **query))
        used = {name for text in texts for name in re.findall(SYMBOL, text)}
        assert used - NO_SYMBOLS <= set(SYMBOLS), (show, query)


def test_every_symbol_has_one_meaning_and_every_meaning_one_symbol():
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    formulas = [stage["formula"] for kind in ("before", "step") for stage in prose()[kind]]
    used = {name for formula in formulas for name in parts.symbols_in(formula)}
    assert used <= set(SYMBOLS)
    claims = tomllib.loads(shipped("claims.toml").read_text(encoding="utf-8"))["claim"]
    formulas = " ".join(claim.get("formula", "") for claim in claims)
    assert set(re.findall(SYMBOL, formulas)) <= set(SYMBOLS) | NAMES | NO_SYMBOLS


def test_the_glossary_has_the_pages_symbols():
    text = (stages.ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    section_text = text.split("## In formulas")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(.+?)` \| (.+?) \|$", section_text, re.MULTILINE)) == SYMBOLS


@pytest.mark.parametrize(
    ("formula", "symbols"),
    [
        (r"\tfrac{S(S+1)}{2}", ["S"]),
        (r"\tilde q^{(i)} = q^{(i)}\,W_{UK}^{(i)\top}", ["q̃", "i", "q", "W_UK"]),
        (r"\mathrm{out} = \sum_i \tilde o \operatorname{softmax}(s)", ["out", "i", "õ", "s"]),
        (r"\mathcal{O}(d_c) \;\text{bytes}", ["d_c"]),
    ],
)
def test_symbols_of_a_formula(formula, symbols):
    assert parts.symbols_in(formula) == symbols
