"""The pages whole: what their parts are given, what the address restores, what is refused."""

import json
from dataclasses import fields
from itertools import combinations

import pytest

from mla_viz.findings.lesson import DTYPES
from mla_viz.findings.scores import load_grid
from mla_viz.run.settings import Settings
from mla_viz.ui import claims
from mla_viz.ui import quality as sections
from mla_viz.ui.absorption import dims
from mla_viz.ui.absorption.parts import prose
from mla_viz.ui.decode import progress
from mla_viz.ui.memory.asked import GQA
from tests.instant import InstantPool
from tests.screens import bodies, elements, page, said, tables

pytestmark = [pytest.mark.usefixtures("shipped"), pytest.mark.filterwarnings("default")]


def decode_page(**query):
    return page("mla_viz/ui/frame.py", **query)


def shown(app):
    assert not app.exception
    assert not app.error
    return app.session_state.shown[0]


def test_the_example_is_shown_at_first():
    app = decode_page()
    assert shown(app) == Settings()
    assert app.title[0].value == "One model, decoded two ways"
    assert app.caption[0].value.startswith("Same weights, same tokens, same attention")
    assert [s.label for s in app.sidebar.slider] == ["Heads", "Latent dim", "New tokens"]


def test_every_setting_of_the_sliders():
    app = decode_page(heads=1, latent=4, max_new_tokens=2)
    assert (shown(app).heads, shown(app).latent) == (1, 4)
    for heads, latent in ((8, 64), (5, 17)):
        app.slider(key="heads").set_value(heads)
        app.slider(key="latent").set_value(latent).run()
        assert (shown(app).heads, shown(app).latent) == (heads, latent)


def test_what_is_not_legal_is_refused_in_place_and_the_view_stays():
    app = decode_page(max_new_tokens=2)
    before = shown(app)
    app.text_area(key="prompt").set_value(" ")
    app.slider(key="heads").set_value(3).run()
    assert app.sidebar.error[0].value.startswith("prompt: expected some text")
    assert not app.exception
    assert app.session_state.shown[0] == before
    assert app.title[0].value == "One model, decoded two ways"
    assert app.main.warning[0].value == (
        "prompt: expected some text, got nothing  \n"
        "Shown is the last good view. It has Prompt: the one below; Heads: 8."
    )
    app.text_area(key="prompt").set_value("word " * 300).run()
    assert app.sidebar.error[0].value.startswith("prompt: expected at most")
    assert app.session_state.shown[0] == before
    app.text_area(key="prompt").set_value(before.prompt).run()
    assert not app.main.warning


def test_a_first_view_that_is_refused_shows_why_its_field_and_the_example():
    app = decode_page(source="synthetic", qk_rope_head_dim=7, layers=2)
    assert not app.exception
    assert app.session_state.more
    assert app.sidebar.error[0].value.startswith("qk_rope_head_dim: expected an even number")
    first, second = app.main.warning[0].value.split("  \n")
    assert first == app.sidebar.error[0].value
    assert second == "Shown is the example. It has Weights: Trained on short stories."
    assert app.session_state.shown[0] == Settings()


def test_other_weights_keep_prompt_and_legal_values_and_offer_geometry():
    app = decode_page(heads=6, max_new_tokens=2)
    app.text_area(key="prompt").set_value("The cat").run()
    app.selectbox(key="source").set_value("synthetic").run()
    assert (shown(app).prompt, shown(app).heads, shown(app).layers) == ("The cat", 6, 5)
    app.slider(key="heads").set_value(16).run()
    assert shown(app).heads == 16
    app.selectbox(key="left").set_value("mha").run()
    assert (shown(app).left, shown(app).right) == ("mha", "mla_absorbed")
    assert app.title[0].value == "Two models, one prompt"
    assert app.caption[0].value.startswith("These mechanisms have weights of their own.")
    app.selectbox(key="source").set_value("trained").run()
    assert shown(app).heads == 8


def test_each_source_is_decoded_and_shown():
    for source in ("trained", "mla-8", "mha", "synthetic"):
        app = decode_page(max_new_tokens=2, source=source)
        assert shown(app).source == source
        folded = [section.label for section in app.main.expander]
        beside = [] if source == "mha" else ["Every mechanism side by side: bytes, FLOPs, time"]
        loss = ["What this setting costs in quality"] if source == "trained" else []
        assert folded == beside + loss


def test_a_run_that_was_stopped_leaves_the_last_good_view_and_says_so():
    app = decode_page(max_new_tokens=2)
    app.session_state.stopped = Settings(max_new_tokens=3)
    app.slider(key="max_new_tokens").set_value(3).run()
    assert app.main.warning[0].value == (
        "This run is not made: the sidebar says why.  \n"
        "Shown is the last good view. It has New tokens: 2."
    )


@pytest.mark.parametrize(("heads", "counted"), [(1, "1 head"), (3, "3 heads")])
def test_the_quality_map_shows_the_loss_of_the_setting(heads, counted):
    app = decode_page(max_new_tokens=2, heads=heads, latent=7, quality="true")
    loss = load_grid().loss(heads, 7)
    assert any(text.startswith(f"**{loss:.3f} nats/token** at {counted} and") for text in said(app))
    (chart,) = app.get("plotly_chart")
    heatmap, here = json.loads(chart.proto.spec)["data"]
    assert (here["x"], here["y"]) == ([7], [heads])
    assert heatmap["z"][heatmap["y"].index(heads)][heatmap["x"].index(7)] == loss


def quality_page(**query):
    return page("pages/quality.py", **query)


@pytest.mark.usefixtures("small_family")
def test_the_quality_page_shows_its_members_and_opens_a_section_by_a_link():
    app = quality_page()
    assert not app.exception
    assert app.title[0].value == "What the small cache costs"
    assert app.caption[0].value.startswith("4 small language models, trained alike")
    assert app.info[0].value.startswith("4 of 5 models have finished")
    sections = ["All figures", "Every setting", "Likeness of heads", "A pretrained model"]
    sections += ["One prompt", "How far this reaches", "How they were trained"]
    assert [tab.label for tab in app.tabs] == sections
    assert "bits/byte" in bodies(app)[0]
    signs = {
        "A pretrained model": "Against the same weights uncut",
        "Every setting": "The frame marks where the page starts",
        "Likeness of heads": "from the least alike to the most",
        "How far this reaches": "DeepSeek",
        "How they were trained": "Attention swapped",
    }
    for name in signs:
        app = quality_page(section=name)
        assert not app.exception
        texts = [*said(app), *(caption.value for caption in app.caption)]
        assert {s for s, sign in signs.items() if any(sign in t for t in texts)} == {name}


@pytest.fixture
def told(monkeypatch):
    """Every member says what it was asked, and writes nothing."""

    def asked(s):
        return (
            f" {s.source} {s.left} {s.right} {s.seed} {s.temperature} {s.top_k} {s.max_new_tokens}"
        )

    pool = InstantPool(asked)
    monkeypatch.setattr(sections, "workers", lambda: pool)
    return pool


@pytest.mark.usefixtures("small_family")
def test_every_member_continues_the_readers_prompt(told):
    app = quality_page(section="One prompt", story="The cat", story_seed=3)
    assert not app.exception
    assert app.caption[-1].value == "One seed for all, temperature 0.7, top-k 40, 48 tokens."
    assert [text.value for text in app.text] == [
        "The cat mha mha mha 3 0.7 40 48",
        "The cat gqa-2 gqa gqa 3 0.7 40 48",
        "The cat mqa mqa mqa 3 0.7 40 48",
        "The cat mla-8 mla_absorbed mla_absorbed 3 0.7 40 48",
    ]
    assert [text for text in said(app) if " cached · " in text] == [
        "**MHA** · 64 cached · 2.10 nats",
        "**GQA-2** · 32 cached · 2.10 nats",
        "**MQA** · 16 cached · 2.10 nats",
        "**MLA-8** · 12 cached · 2.10 nats",
    ]
    app.text_input(key="story").set_value(" ").run()
    assert not app.exception
    assert app.error[0].value.startswith("prompt: expected some text")
    assert not app.text
    told.error = "the process that worked on it has ended"
    app.text_input(key="story").set_value("The dog").run()
    assert not app.exception
    assert [error.value for error in app.error] == ["the process that worked on it has ended"]


def test_the_claims_page_judges_by_the_sidebars_numbers():
    app = page("pages/claims.py")
    assert not app.exception
    assert any("56.9 times" in text for text in said(app))
    app.number_input(key="claim_n_heads").set_value(64).run()
    assert not app.exception
    assert any("28.4 times" in text for text in said(app))


def test_the_absorption_page_counts_every_section_with_the_dims_chosen():
    app = page("pages/absorption.py", before_stage=9, step_stage=8)
    assert not app.exception
    assert not app.error
    stages = [text[:6] for text in said(app) if text.startswith("###")]
    assert stages == ["### 9.", "### 8."]
    assert any("170.7" in text for text in said(app))
    of_v3 = tables(app)
    app.selectbox(key="dims").set_value("the lesson's own").run()
    assert not app.exception
    formats, *others = (a for a, b in zip(of_v3, tables(app), strict=True) if a == b)
    assert [row["format"] for row in formats] == list(DTYPES)
    assert others == []
    assert any("RoPE key of 2 beside it: 6 elements" in text for text in said(app))


# Numbers that are none, without end, negative, too long, between two, or written otherwise.
BAD = ("inf", "-inf", "nan", "1e999", "9" * 5000, "-1", "", "text", "7.5", "0", "0x10", "1e3", "٣")
SETTINGS = {field.name for field in fields(Settings)} - {"prompt", "source"}
DECODE = [*SETTINGS, "quality", "more", "step", "layer", "head"]
SECTIONS = ["step_stage", "changed_weight", "flow_tokens", "prefill", "rope_on_content", "dims"]
OWN = [*(f"factor_{letter}" for letter in "LBnhS"), *(f"own_{name}" for name in dims.OWN_LABELS)]
FACTORS = 1 + [stage.get("sliders", False) for stage in prose()["before"]].index(True)
MUSEUM = ["mistake", "prompt", "new_tokens", "layer", "head", "share", "query", "tab"]
ADDRESSES = {
    "decode": ("mla_viz/ui/frame.py", {}, ["source", *DECODE]),
    "trained": ("mla_viz/ui/frame.py", {"source": "trained"}, DECODE),
    "synthetic": ("mla_viz/ui/frame.py", {"source": "synthetic"}, DECODE),
    "member": ("mla_viz/ui/frame.py", {"source": "mla-8"}, DECODE),
    "prompt": ("mla_viz/ui/frame.py", {}, ["prompt"]),
    "absorption": ("pages/absorption.py", {}, ["before_stage", *SECTIONS]),
    "own dims": ("pages/absorption.py", {"before_stage": FACTORS}, [*SECTIONS, *OWN]),
    "quality": ("pages/quality.py", {}, ["section"]),
    "story": ("pages/quality.py", {"section": "One prompt"}, ["story", "story_seed"]),
    "claims": ("pages/claims.py", {}, [*(f"claim_{name}" for name in claims.LABELS), "verdicts"]),
    "mistakes": ("pages/mistakes.py", {}, [f"museum_{name}" for name in MUSEUM]),
}


@pytest.fixture
def light(monkeypatch):
    """Pages without what takes long and is no part of the address."""
    monkeypatch.setattr(progress, "workers", lambda: InstantPool(repr))
    monkeypatch.setattr(claims, "judge", lambda _: [])


@pytest.mark.usefixtures("small_family", "told", "light")
@pytest.mark.parametrize("name", ADDRESSES)
def test_whatever_the_address_holds_a_page_is_shown(name):
    file, fixed, parameters = ADDRESSES[name]
    for bad in BAD:
        app = page(file, **fixed, **dict.fromkeys(parameters, bad))
        if "own_d_model" in parameters:
            assert app.slider(key="factor_L")
            app.selectbox(key="dims").set_value("other dims").run()
        assert not app.exception, bad
        assert app.title, bad
        for line in (*app.error, *app.warning):
            assert len(line.value.splitlines()[0]) < 200, bad


def widget_keys(app):
    for part in (app.main, app.sidebar):
        for element in elements(part):
            if getattr(element, "key", None):
                yield element.key


def test_no_two_pages_have_a_widget_of_one_key():
    """What one page leaves in the session would be another's choice."""
    opened = {
        "decode": page("pages/decode.py", source="synthetic", cache_dtype="int8", max_new_tokens=2),
        "absorption": page("pages/absorption.py", dims="other dims"),
        "memory": page("pages/memory.py", part="What fits", baseline=GQA),
        "quality": page("pages/quality.py", section="One prompt"),
        "claims": page("pages/claims.py"),
        "mistakes": page("pages/mistakes.py"),
    }
    keys = {name: {*widget_keys(app)} for name, app in opened.items()}
    assert {"cache_dtype"} <= keys["decode"]
    assert {"memory_dtype", "accelerator", "groups"} <= keys["memory"]
    for one, other in combinations(keys, 2):
        assert keys[one] & keys[other] == set(), (one, other)
