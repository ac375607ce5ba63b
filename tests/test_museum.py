"""The museum: mistakes in the shipped model, their figures, their page, and who may import them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mla_viz.attention.ops import Watch
from mla_viz.checkpoints.layer import load_attention
from mla_viz.checkpoints.mistakes import MISTAKES, NOTHING, WrongDecoder, effect_of
from mla_viz.cli import main
from mla_viz.figures.mistakes import (
    LEAST,
    attention_figure,
    length_figure,
    scores_figure,
    text_html,
)
from mla_viz.findings import museum
from mla_viz.findings.museum import MuseumAsked, Texts, effect, model_for, seen, summary, texts
from mla_viz.run.decode import generate
from mla_viz.run.layer import seeded_hidden
from mla_viz.ui.mistakes import text_words, thread_name
from tests.checkpoints import YARN, tiny_model
from tests.screens import page, said, tables

pytestmark = [pytest.mark.usefixtures("shipped"), pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).parent.parent
SHORT = MuseumAsked(new_tokens=12)


# Findings


def test_the_right_text_is_that_of_the_decode_page():
    told = texts(SHORT)
    assert "".join(told.right) == generate(SHORT.settings)
    assert "".join(told.prompt) == SHORT.prompt


def test_the_model_with_yarns_factor_scores_and_writes_the_same():
    row = MISTAKES["mscale left out"]
    tokens = torch.arange(20) + 300
    plain, factored = (
        WrongDecoder(model, NOTHING).feed(tokens, ["scores"])
        for model in (museum.full_model(), model_for(row))
    )
    torch.testing.assert_close(factored.logits, plain.logits, atol=1e-3, rtol=1e-4)
    for one, other in zip(plain.layers, factored.layers, strict=True):
        torch.testing.assert_close(one.seen["scores"], other.seen["scores"], atol=1e-3, rtol=1e-4)
    scales = [m.geometry.attention.softmax_scale for m in (museum.full_model(),)]
    wrong = row.spoil(model_for(row).blocks[0].attention)
    assert wrong.geometry.softmax_scale == pytest.approx(scales[0])
    assert museum.yarn_factor() == pytest.approx((0.1 * np.log(40) + 1) ** 2)


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_changes_the_text_and_is_noticed(name):
    asked = replace(SHORT, mistake=name)
    told, found = texts(asked), summary(asked)
    assert told.right == texts(SHORT).right
    assert told.differs_at is not None
    assert told.wrong[: told.differs_at] == told.right[: told.differs_at]
    assert told.same_next[: told.differs_at] == (True,) * told.differs_at
    assert not told.same_next[told.differs_at]
    assert found["first_other_token"] == told.differs_at + 1
    assert found["noticed_at_tokens"] in (1, 2)
    assert found["tokens"] == len(told.prompt) + len(told.right)


def test_scores_are_those_of_the_layer_in_the_model():
    both = seen(SHORT)
    ids = torch.tensor(museum.written(SHORT.settings))
    layer = museum.full_model().decoder("mla_absorbed").feed(ids, ["scores", "probs"]).layers[2]
    causal = np.tril(np.ones(both.right.shape[1:], dtype=bool))
    np.testing.assert_allclose(
        both.right[:, causal], layer.seen["scores"].numpy()[:, causal], atol=1e-3
    )
    right, wrong = both.attention(3, 9)
    np.testing.assert_allclose(right, layer.seen["probs"][3, 9, :10], atol=1e-4)
    assert right.sum() == pytest.approx(wrong.sum()) == pytest.approx(1)
    assert abs(right - wrong).max() > 0.01


def test_a_text_that_ends_or_is_the_same():
    same = Texts(("a",), ("b", "c"), ("b", "c"), (True, True))
    assert same.differs_at is None
    assert text_words(same) == "Both texts are the same for 2 tokens."
    assert replace(same, wrong=("b",)).differs_at == 1
    assert "New token 2" in text_words(replace(same, wrong=("b",)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("mistake", "none"), ("layer", 5), ("head", 8), ("new_tokens", 97), ("prompt", " ")],
)
def test_what_is_not_legal_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        MuseumAsked(**{field: value})
    with pytest.raises(ValueError, match="^prompt: expected at most"):
        MuseumAsked(prompt="word " * 300)


def test_the_mistakes_decoder_watches_as_others_do():
    watch = WrongDecoder(museum.full_model(), NOTHING).feed(
        torch.arange(4), ["scores"], newest=True
    )
    assert watch.layers[0].seen["scores"].shape == (8, 1, 4)
    assert Watch("scores").wants("scores")


# Figures


def test_attention_has_a_bar_right_and_a_mark_wrong_for_each_token():
    bars, marks = attention_figure(["a", "<b>", "c"], [0.1, 0.9], [0.4, 0.6], dark=False).data
    assert (list(bars.x), list(bars.y)) == ([1, 2], [0.1, 0.9])
    assert list(marks.y) == [0.4, 0.6]
    assert list(bars.customdata) == ["'a'", "'<b>'"]


def test_scores_lie_on_the_line_where_nothing_changed():
    line, marks = scores_figure([1.0, -2.0], [0.5, -3.0], dark=True).data
    assert list(line.x) == list(line.y) == [-3.0, 1.0]
    assert (list(marks.x), list(marks.y)) == ([1.0, -2.0], [0.5, -3.0])


def test_length_has_a_line_each_and_draws_no_error_as_none():
    off = {"scores": [0.2, 0.2], "attention": [0.0, 0.1], "output": [LEAST / 2, 0.5]}
    figure = length_figure(off, 0.1, 2, dark=False)
    assert [list(trace.y) for trace in figure.data] == [[0.2, 0.2], [None, 0.1], [None, 0.5]]
    level, upright = figure.layout.shapes
    assert (level.y0, upright.x0) == (0.1, 2)
    assert len(length_figure(off, 0.9, None, dark=True).layout.shapes) == 1
    assert figure.layout.yaxis.range[0] < np.log10(0.1) < figure.layout.yaxis.range[1]


def test_the_first_other_token_is_marked_and_all_are_escaped():
    html = text_html(["a", "<b>", "c"], 1)
    assert re.search(r">a<mark style='[^']*'>&lt;b&gt;</mark>c</p>$", html)
    assert "<mark" not in text_html(["a"], 1) + text_html(["a"], None)


# The page


def museum_page(**query):
    return page("pages/mistakes.py", museum_new_tokens=8, **query)


def plotted(app):
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_the_page_shows_the_first_mistake_with_its_thread_and_both_texts():
    app = museum_page()
    assert not app.exception
    first, row = next(iter(MISTAKES.items()))
    assert app.header[0].value == first.capitalize()
    assert [code.value for code in app.code] == [row.right, row.wrong]
    assert any(f"[{thread_name(row.thread)}]({row.thread})" in text for text in said(app))
    scatter, attention = plotted(app)
    told = texts(MuseumAsked(new_tokens=8))
    n = len(told.prompt) + len(told.right)
    assert len(scatter["data"][1]["x"]) == len(attention["data"][0]["x"]) == n
    assert "framed, is the first that differs" in app.caption[3].value


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_a_link_of_its_own(name):
    row = MISTAKES[name]
    app = museum_page(museum_mistake=name, museum_tab="Prompt length", museum_share="10%")
    assert not app.exception
    assert app.header[0].value == name.capitalize()
    assert bool(app.info) == row.of_yarn
    assert any("No thread" in text for text in said(app)) == (row.thread is None)
    (length,) = plotted(app)
    found = effect(MuseumAsked(name, new_tokens=8))
    assert length["data"][2]["y"][-1] == pytest.approx(float(found.out[-1]))
    noticed = found.noticed_at(0.1)
    words = f"## {noticed} token" + ("s" if noticed > 1 else "")
    assert words in said(app)


def test_all_mistakes_stand_in_one_table():
    app = museum_page(museum_tab="All mistakes", museum_layer=1, museum_share="50%")
    (rows,) = tables(app)
    assert [row["mistake"] for row in rows] == list(MISTAKES)
    assert rows[-1]["scores off"] == "0%"
    found = effect(MuseumAsked(new_tokens=8, layer=0))
    assert rows[0]["noticed from, tokens"] == f"{found.noticed_at(0.5) or 'never'}"
    assert found.noticed_at(0.5) != found.noticed_at()
    assert not app.get("plotly_chart")


def test_a_prompt_that_is_refused_leaves_the_last_good_view():
    app = museum_page(museum_query=3)
    app.text_area(key="museum_prompt").set_value(" ").run()
    assert not app.exception
    assert app.sidebar.error[0].value.startswith(
        "prompt: expected some text, got nothing. The page"
    )
    assert any("Once upon a time" in caption.value for caption in app.caption)
    app.text_area(key="museum_prompt").set_value("The cat").run()
    assert not app.sidebar.error
    assert any("The cat" in caption.value for caption in app.caption)


def test_the_table_beside_the_scores_has_their_numbers():
    app = museum_page(museum_query=4)
    app.expander(key="museum_scores_table")
    both = seen(MuseumAsked(new_tokens=8))
    scatter, _ = plotted(app)
    np.testing.assert_allclose(scatter["data"][1]["y"], both.wrong[0, 3, :4], rtol=1e-6)


def test_the_query_stays_within_a_text_that_became_shorter():
    app = museum_page(museum_query=18)
    app.text_area(key="museum_prompt").set_value("The cat").run()
    assert not app.exception
    assert app.slider(key="museum_query").value == 10


# The command


def test_the_command_prints_what_the_page_shows(capsys):
    main(["mistakes", "keys first", "--new-tokens", "8", "--layer", "1", "--json"])
    (record,) = json.loads(capsys.readouterr().out)
    asked = MuseumAsked("keys first", new_tokens=8, layer=1)
    assert record == summary(asked) | {
        "right": "".join(texts(asked).right),
        "wrong": "".join(texts(asked).wrong),
    }
    main(["mistakes", "--new-tokens", "8"])
    out = capsys.readouterr().out
    assert out.count("noticed from") == len(MISTAKES)
    assert out.startswith(f"right: {record['right']}\n")
    assert record["wrong"] in out


def test_the_command_takes_a_checkpoints_layer_too(capsys, tmp_path):
    tiny_model("deepseek_v3", YARN).save_pretrained(tmp_path)
    options = ["--folder", str(tmp_path), "--layer", "1", "--tokens", "7", "--seed", "4"]
    main(["mistakes", "--json", *options])
    records = json.loads(capsys.readouterr().out)
    assert [record["mistake"] for record in records] == list(MISTAKES)
    layer = load_attention(tmp_path, 1)
    found = effect_of("mscale left out", layer, seeded_hidden(layer, 7, 4))
    assert records[1]["output_off"] == float(found.out[-1]) > 0
    assert records[1]["noticed_at_tokens"] == found.noticed_at() == 2
    assert records[1]["layer"] == "deepseek_v3 layer 1"
    main(["mistakes", "keys first", *options])
    assert capsys.readouterr().out.startswith("keys first: output of layer 1 off by")
    with pytest.raises(SystemExit):
        main(["mistakes", "--folder", str(tmp_path / "none")])
    assert capsys.readouterr().err.count("\n") == 1


# Who may know


def test_what_is_wrong_on_purpose_reaches_its_own_page_alone():
    files = [f for room in ("mla_viz", "pages", "train") for f in (ROOT / room).rglob("*.py")]
    wrong = re.compile(r"checkpoints\.mistakes|findings\.museum|import museum|import mistakes")
    told = {str(f.relative_to(ROOT)) for f in files if wrong.search(f.read_text(encoding="utf-8"))}
    assert told == {
        "mla_viz/cli_mistakes.py",
        "mla_viz/findings/museum.py",
        "mla_viz/ui/mistakes.py",
        "pages/mistakes.py",
    }
