"""The Quality page's sections and the loss map: every number of them from hand-made records."""

import json
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.published.catalog import ABLATIONS
from mla_viz.run.settings import Settings
from mla_viz.ui import loss_map
from mla_viz.ui import quality as sections
from mla_viz.ui.decode import loss
from mla_viz.ui.quality import findings, head_dims, seeds_words
from mla_viz.words import NATS
from tests.screens import bodies, said, section
from tests.test_family import FAMILY, GQA, MHA, MLA, MQA, made
from tests.test_figures import GRID


def html_rows(body):
    """Rows of an HTML table, its head first."""
    return [[cell.text or "" for cell in row] for row in ElementTree.fromstring(body).iter("tr")]


def chart(app):
    (found,) = app.get("plotly_chart")
    return found.proto


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            (1, 1),
            "Every point is one training, its bar 0.02 nats up and down. Models within 0.04 nats,",
        ),
        ((2, 2), "Every point is the mean of 2 trainings, with their standard deviation as a bar."),
        ((1, 3), "Every point is the mean of 1 to 3 trainings, with"),
    ],
)
def test_the_page_says_how_many_trainings_a_point_stands_for(counts, words):
    members = tuple(made("mha", "MHA", *[2.0] * count) for count in counts)
    assert seeds_words(replace(FAMILY, members=members)).startswith(words)


def test_findings_are_sentences_about_the_members():
    assert list(findings(FAMILY)) == [
        "**From end to end**: MQA against MHA, 0.80 nats/token more.",
        "**At no more cache than MHA** (64 elements): MLA-8 with 12, 0.35 nats/token more.",
        "**At no more cache than GQA-2** (32 elements): MLA-8 with 12,"
        " no measurable difference (+0.050 nats/token).",
        "**At no more cache than MQA** (16 elements): MLA-8 with 12, 0.45 nats/token less.",
        "**Where it is lost**: MQA against MHA, +0.64 nats/token on pairs of tokens that the story"
        " had before, +0.96 on new ones.",
    ]


def test_the_page_says_why_mqa_stands_elsewhere_than_on_the_decode_page():
    assert head_dims(MQA) == (
        "Heads have 8 dims here and 32 in the sliders' model of the Decode page: MQA caches"
        " 2·1·8 = 16 values here and would cache 2·1·32 = 64 there, where MLA with latent 32"
        " caches 48."
    )


def test_findings_take_the_best_mla_that_caches_as_little():
    worse = made("mla-8", "worse", 2.6, 2.7)
    wide = MLA.geometry.with_attention(kv_lora_rank=12)  # 12 + 4 elements
    better = replace(made("mla-8", "better", 2.0, 2.0), geometry=wide)
    *_, of_gqa, of_mqa, _ = findings(replace(FAMILY, members=(GQA, MQA, worse, MLA, better)))
    assert "(32 elements): better with 16, 0.40 nats/token less" in of_gqa
    assert "(16 elements): better with 16, 0.90" in of_mqa  # as many count as no more
    narrow = replace(MQA, geometry=MQA.geometry.with_attention(head_dim=4))
    only = list(findings(replace(FAMILY, members=(narrow, MLA))))
    assert len(only) == 2  # MLA-8 caches more than 8 elements: nothing to say


def test_the_chart_is_that_of_the_family_and_is_told_in_words():
    app = section(sections.comparison, FAMILY)
    points = json.loads(chart(app).spec)["data"]
    assert [p["name"] for p in points] == ["Pareto edge", "MHA", "GQA-2", "MQA", "MLA-8"]
    assert chart(app).alt == (
        "Elements cached for a token and layer, and loss in nats per token:"
        " MHA 64: 2.10, GQA-2 32: 2.40, MQA 16: 2.90, MLA-8 12: 2.45"
    )
    assert app.caption[0].value.startswith(seeds_words(FAMILY))
    assert said(app) == ["\n".join(f"- {finding}" for finding in findings(FAMILY))]


@pytest.mark.usefixtures("small_grid")
@pytest.mark.parametrize(
    ("show", "name"),
    [
        (sections.comparison, "family"),
        (sections.likeness, "likeness"),
        (sections.slider_map, "loss-map"),
    ],
)
def test_every_chart_has_a_camera_of_the_chosen_format_and_its_numbers(show, name):
    app = section(show, FAMILY)
    (download,) = app.get("download_button")
    assert download.proto.label == "Numbers as CSV"
    for kind in ("PNG", "SVG"):
        app.segmented_control[0].set_value(kind).run()
        config = json.loads(chart(app).config)
        assert config["modeBarButtons"] == [["toImage"]]
        assert config["toImageButtonOptions"] == {
            "format": kind.lower(),
            "filename": f"mla-viz-{name}",
            "scale": 2,
        }


@pytest.mark.parametrize(
    ("theme", "shade"), [("dark", "dark"), ("light", "light"), (None, "light")]
)
def test_charts_take_the_colours_of_the_readers_page(theme, shade, monkeypatch):
    context = SimpleNamespace(theme=SimpleNamespace(type=theme))
    monkeypatch.setattr(sections.st, "context", context)
    ink = getattr(MECHANISMS["mha"].colour, shade)
    assert sections.is_dark() == (shade == "dark")
    assert f'"color":"{ink}"' in chart(section(sections.comparison, FAMILY)).spec
    assert f'"color":["{ink}"' in chart(section(sections.likeness, FAMILY)).spec


HEAD = ["model", "cached a token and layer", "KiB at 256 tokens, float16", "nats/token"]
REST = ["bits/byte", "repeated pairs", "new pairs", "name recall (chance 10%)", "parameters"]
REST += ["MFLOP, last token", "seeds"]


def test_the_table_behind_the_chart_has_every_figure():
    one_seed = replace(MHA, runs=MHA.runs[:1])
    (body,) = bodies(section(sections.figures, replace(FAMILY, members=(one_seed, MLA))))
    head, mha, mla = html_rows(body)
    assert head == [*HEAD, "±", *REST]
    # 64 or 12 elements, 2 layers, 256 tokens, 2 bytes
    assert mha[:5] == ["MHA", "64", "64", "2.000", ""]
    assert mha[5:9] == ["0.500", "1.600", "2.400", "20% ± 10"]
    assert mha[9:] == [f"{one_seed.params:,}", f"{one_seed.flops(64) / 1e6:.2f}", "1"]
    assert mla[:5] == ["MLA-8", "12", "12", "2.450", "0.071"]
    assert mla[5:9] == [f"{2.45 / 4:.3f}", "1.960", "2.940", f"{24.5:.0f}% ± 10"]
    assert mla[9:] == [f"{MLA.params:,}", f"{MLA.flops(64) / 1e6:.2f}", "2"]


def test_a_table_of_single_trainings_has_no_spread():
    members = (made("mha", "MHA", 2.0), made("mqa", "MQA", 3.0))
    (body,) = bodies(section(sections.figures, replace(FAMILY, members=members)))
    assert html_rows(body)[0] == [*HEAD, *REST]


def test_likeness_is_ranked_in_the_order_of_what_the_chart_draws():
    unknown = replace(GQA, runs=(replace(GQA.runs[0], content_keys=None),))
    app = section(sections.likeness, replace(FAMILY, members=(MHA, unknown, MQA, MLA)))
    # a fifth and an eighth of the loss each
    keys, values = "MHA 0.42, MLA-8 0.49, MQA 0.58", "MHA 0.26, GQA-2 0.29, MLA-8 0.31, MQA 0.36"
    assert said(app)[1] == (
        f"**Keys before RoPE, from the least alike to the most**: {keys}.\n\n"
        f"**Values, from the least alike to the most**: {values}."
    )
    assert chart(app).alt == said(app)[1].replace("**", "").replace("\n\n", " ")
    for dots, ranking in zip(json.loads(chart(app).spec)["data"], (keys, values), strict=True):
        drawn = {f"{y} {x:.2f}" for x, y in zip(dots["x"], dots["y"], strict=True) if x is not None}
        assert drawn == set(ranking.split(", "))


PUBLISHED = {
    "Table 8": [
        ["7B dense, 1.33T tokens", "MQA", "not printed", "33.2", "37.9", "30.0", "34.6"],
        ["7B dense, 1.33T tokens", "GQA-8", "not printed", "35.6", "41.2", "37.7", "38.4"],
        ["7B dense, 1.33T tokens", "MHA", "not printed", "37.0", "45.2", "42.9", "43.5"],
    ],
    "Table 9": [
        ["small MoE", "MHA", "110,600", "37.9", "48.7", "51.6", "52.3"],
        ["small MoE", "MLA", "15,600", "39.0", "50.0", "50.9", "53.4"],
        ["large MoE", "MHA", "860,200", "46.6", "57.5", "57.9", "60.7"],
        ["large MoE", "MLA", "34,600", "50.7", "59.0", "59.2", "62.5"],
    ],
}


def test_the_papers_ablations_stand_under_their_tables():
    app = section(sections.published, FAMILY)
    assert "MLA is above MHA in 7 of 8 cells" in said(app)[0]
    head = ["comparison", "attention", "cached a token", "BBH", "MMLU", "C-Eval", "CMMLU"]
    for caption, body in zip(app.caption, bodies(app), strict=True):
        paper, _, table = caption.value.partition(", ")
        assert paper == "DeepSeek-V2 paper (arXiv 2405.04434)"
        assert html_rows(body) == [head, *PUBLISHED[table]]
    assert sum(map(len, PUBLISHED.values())) == len(ABLATIONS)


def test_the_protocol_tells_how_the_members_were_trained():
    app = section(sections.protocol, FAMILY)
    budget, trials_title, _, spread, swapped_title = said(app)
    assert budget.startswith("Every model has 2 layers of width 32, a context of 64 tokens and")
    assert f"and {MHA.params / 1e6:.2f}M parameters" in budget
    assert (
        "and read the same 8M tokens in the same order, 5.33 passes over a text of 1.50M." in budget
    )
    assert "on 250 held-out stories (58,602 tokens)" in budget
    assert trials_title.startswith("**Trials before it**")
    trials, repeated, swapped = map(html_rows, bodies(app))
    assert trials == [
        ["model", "learning rate", "nats/token"],
        ["mha", "×0.5", "2.950"],
        ["mla-8", "×1", "3.200"],
        ["mha", "×1", "3.000"],
    ]
    assert repeated == [
        ["nats/token", "seed 0", "seed 1", "seed 2", "mean", "±"],
        ["mha", "3.000", "3.100", "3.300", "3.133", "0.153"],
        ["mla-8", "3.200", "3.400", "3.600", "3.400", "0.200"],
        ["mla-8 less mha", "0.200", "0.300", "0.300", "0.267", "0.058"],
    ]
    assert "a standard deviation of up to 0.283;" in spread  # 0.200 times the root of 2
    assert spread.endswith("told apart past 0.04.")
    assert swapped_title.endswith("for all, 2M tokens, one seed; 2 of 5 models.")
    assert swapped[0] == [*HEAD, *REST]
    assert [row[:4] for row in swapped[1:]] == [
        ["MHA", "64", "64", "2.700"],
        ["MLA-8", "12", "12", "2.900"],
    ]


def test_the_protocol_leaves_out_what_was_not_done():
    bare = replace(FAMILY, swapped=(), trials=FAMILY.trials[:3])
    app = section(sections.protocol, bare)
    assert len(bodies(app)) == 1
    assert len(said(app)) == 2


def test_swaps_without_shares_by_prompt_say_where_their_spread_is_to_be_taken_from():
    swapped = tuple(
        replace(m, runs=tuple(replace(run, recall_by_prompt=None) for run in m.runs))
        for m in FAMILY.swapped
    )
    *_, title = said(section(sections.protocol, replace(FAMILY, swapped=swapped)))
    assert title.endswith("standard error is likely that of the members, 10 to 10 points.")


def test_trials_are_compared_on_the_seeds_that_all_have():
    rows = sections._repeated({"b": {0: 3.0, 1: 3.1, 2: 9.0}, "a": {1: 2.8, 0: 2.5}})
    assert [row["nats/token"] for row in rows] == ["a", "b", "b less a"]
    assert [row["seed 0"] for row in rows] == ["2.500", "3.000", "0.500"]
    assert "seed 2" not in rows[0]


@pytest.fixture
def small_grid(monkeypatch):
    for module in (loss, loss_map, sections):
        monkeypatch.setattr(module, "load_grid", lambda: GRID)


@pytest.mark.usefixtures("small_grid")
def test_the_quality_map_tells_the_loss_here_and_at_full_size():
    app = section(loss.loss_section, Settings(heads=1, latent=8), quality="true")
    assert app.expander[0].label == "What this setting costs in quality"
    (text,) = said(app)
    assert text.startswith("**2.900 nats/token** at 1 head and latent dim 8; 2.500 at the full")
    assert "on 2 held-out stories (100 tokens)" in text
    assert f"differences under 0.04 mean nothing. {NATS}" in text
    heatmap, here = json.loads(chart(app).spec)["data"]
    assert heatmap["z"] == GRID.nats_per_token
    assert (here["x"], here["y"]) == ([8], [1])
    assert chart(app).alt.startswith("Map of validation loss over heads and latent dim")


@pytest.mark.usefixtures("small_grid", "small_family")
def test_the_quality_map_is_made_only_when_open_and_only_for_the_model_of_the_sliders():
    folded = section(loss.loss_section, Settings(heads=1, latent=8))
    assert len(folded.expander) == 1
    assert not folded.get("plotly_chart")
    for source in ("synthetic", "mla-8"):
        other = section(loss.loss_section, Settings(source=source), quality="true")
        assert not other.expander


def test_the_slider_map_is_framed_where_the_page_starts():
    _, here = json.loads(chart(section(sections.slider_map, FAMILY)).spec)["data"]
    assert (here["x"], here["y"]) == ([32], [8])


@pytest.mark.usefixtures("small_grid")
def test_the_slider_map_says_how_often_its_model_read_the_text():
    (caption,) = section(sections.slider_map, FAMILY).caption
    assert "It read 3M tokens, 2.50 passes over the text." in caption.value


def test_what_name_recall_is_and_what_chance_gives_stands_under_the_table():
    (caption,) = section(sections.figures, FAMILY).caption
    assert caption.value.startswith("Name recall: 12 beginnings of stories, each with 10 names")
    assert "10% is chance. ± is one standard error over the 12 beginnings" in caption.value
