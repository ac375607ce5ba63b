import re

import pytest
from streamlit.testing.v1 import AppTest

from mla_viz.model.sources import source_names
from mla_viz.run.settings import Settings
from mla_viz.run.store import Store
from mla_viz.ui.server import KEPT_BYTES

pytestmark = [pytest.mark.usefixtures("shipped"), pytest.mark.filterwarnings("default")]


def page(**query):
    app = AppTest.from_file("../app.py", default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = str(value)
    return app.run()


def shown(app):
    return app.session_state.shown[0]


def test_the_example_is_shown_at_first():
    app = page()
    assert not app.exception
    assert not app.error
    assert shown(app) == Settings()
    assert [s.label for s in app.sidebar.slider][:3] == ["Heads", "Latent dim", "New tokens"]


@pytest.mark.parametrize(("heads", "latent"), [(1, 4), (8, 64), (5, 17)])
def test_every_setting_of_the_sliders(heads, latent):
    app = page(heads=heads, latent=latent, max_new_tokens=3)
    assert not app.exception
    assert not app.error
    assert (shown(app).heads, shown(app).latent) == (heads, latent)


def test_an_empty_prompt_is_refused_in_place_and_the_view_stays():
    app = page(max_new_tokens=2)
    before = shown(app)
    app.text_area(key="prompt").set_value(" ").run()
    assert app.error[0].value.startswith("prompt: expected some text")
    assert not app.exception
    assert shown(app) == before


def test_other_weights_keep_prompt_and_legal_values_and_offer_geometry():
    app = page(heads=6, max_new_tokens=2)
    app.text_area(key="prompt").set_value("The cat").run()
    app.selectbox(key="source").set_value("synthetic").run()
    assert not app.error
    assert (shown(app).prompt, shown(app).heads) == ("The cat", 6)
    app.slider(key="heads").set_value(16).run()
    assert shown(app).heads == 16
    app.selectbox(key="left").set_value("mha").run()
    assert not app.error
    assert app.header[0].value.startswith("Two models")
    app.selectbox(key="source").set_value("trained").run()
    assert not app.exception
    assert not app.error
    assert shown(app).heads == 8


def test_the_address_names_options_by_name():
    app = page(source="synthetic", left="mha", right="recompute", max_new_tokens=2)
    assert (shown(app).source, shown(app).left, shown(app).right) == (
        "synthetic",
        "mha",
        "recompute",
    )
    app.selectbox(key="right").set_value("mla_merged").run()
    assert app.query_params["right"] == "mla_merged"
    app.selectbox(key="right").set_value("mla_absorbed").run()
    assert "right" not in app.query_params
    assert not page(left="nonsense", max_new_tokens=2).error


@pytest.mark.usefixtures("small_family")
def test_each_source_offers_what_its_weights_can_run():
    for source, count in (("trained", 8), ("mla-8", 8), ("mha", 3), ("synthetic", 8)):
        app = page(max_new_tokens=2, source=source, seed=1)
        assert not app.exception
        assert not app.error
        assert len(app.selectbox(key="left").options) == count
        assert shown(app).source == source


@pytest.mark.usefixtures("small_family")
def test_a_member_keeps_the_sliders_values_for_later():
    app = page(max_new_tokens=2, heads=6, latent=20)
    app.selectbox(key="source").set_value("mla-8").run()
    assert (shown(app).heads, shown(app).latent) == (4, 8)
    app.selectbox(key="source").set_value("trained").run()
    assert (shown(app).heads, shown(app).latent) == (6, 20)


def test_own_weights_need_a_family():
    offered = page(max_new_tokens=2, right="mla_merged").selectbox(key="left").options
    assert len(offered) == 5 + len({"mha", "gqa-2", "mqa"} & set(source_names()))


def test_the_quality_map_opens():
    app = page(max_new_tokens=2, quality="true")
    assert not app.exception


def test_the_store_drops_the_oldest_run_past_its_bound():
    store = Store(KEPT_BYTES)
    half = bytes(KEPT_BYTES // 2)
    for seed in range(3):
        store.keep(Settings(seed=seed), half)
    assert store.find(Settings(seed=0)) is None
    assert store.find(Settings(seed=2)) is half


def quality_page(**query):
    app = AppTest.from_file("../pages/quality.py", default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = str(value)
    return app.run()


@pytest.mark.usefixtures("small_family")
def test_the_quality_page_shows_every_member_and_what_they_say():
    app = quality_page()
    assert not app.exception
    assert not app.error
    assert app.info[0].value.startswith("4 of 5 models")
    rows = re.findall(r"scope='row'[^>]*>([^<]+)", app.get("html")[0].proto.body)
    assert rows == ["MHA", "GQA-2", "MQA", "MLA-8"]
    said = app.markdown[0].value
    assert "MHA against MHA" not in said
    assert "**At no more cache than GQA-2** (32 elements): MLA-8 with 12, no measurable" in said
    assert "**Where it is lost**: MLA-8 against MHA, +0.00 nats/token" in said


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize(
    ("section", "shows"),
    [
        ("Likeness of heads", "from the least alike to the most"),
        ("How far this reaches", "DeepSeek"),
        ("How they were trained", "Attention swapped"),
        ("How they were trained", "up to 0.283"),
    ],
)
def test_the_sections_of_the_quality_page_open_by_a_link(section, shows):
    app = quality_page(section=section)
    assert not app.exception
    assert any(shows in text.value for text in app.markdown)


@pytest.mark.usefixtures("small_family")
def test_trials_with_other_seeds_are_compared_seed_by_seed():
    app = quality_page(section="How they were trained")
    table = app.get("html")[1].proto.body
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    cells = [re.findall(r">([^<]+)<", row) for row in rows]
    assert cells[1] == ["mha", "3.000", "3.100", "3.200", "3.100", "0.100"]
    assert cells[3] == ["mla-8 less mha", "0.200", "0.300", "0.400", "0.300", "0.100"]


@pytest.mark.usefixtures("small_family")
def test_every_member_continues_the_readers_prompt():
    app = quality_page(section="One prompt", story="The cat")
    assert not app.exception
    told = [text.value for text in app.text]
    assert len(told) == 4
    assert all(text.startswith("The cat") for text in told)


@pytest.mark.usefixtures("small_family")
def test_the_quality_page_refuses_an_empty_prompt_in_place():
    app = quality_page(section="One prompt", story=" ")
    assert not app.exception
    assert app.error[0].value.startswith("prompt: expected some text")


def claims_page(**query):
    app = AppTest.from_file("../pages/claims.py", default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = str(value)
    return app.run()


def test_the_claims_page_judges_by_the_sidebars_numbers():
    app = claims_page()
    assert not app.exception
    assert any("56.9 times" in text.value for text in app.markdown)
    app.number_input(key="claim_n_heads").set_value(64).run()
    assert not app.exception
    assert any("28.4 times" in text.value for text in app.markdown)


def test_the_claims_page_refuses_in_place_and_keeps_the_last_numbers():
    app = claims_page(claim_n_heads=64)
    app.number_input(key="claim_qk_rope_head_dim").set_value(3).run()
    assert not app.exception
    assert app.error[0].value.startswith("qk_rope_head_dim: expected an even number")
    assert any("28.4 times" in text.value for text in app.markdown)


def absorption_page(**query):
    app = AppTest.from_file("../pages/absorption.py", default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = str(value)
    return app.run()


@pytest.mark.parametrize(("before", "step"), [(1, 1), (5, 3), (9, 8)])
def test_the_absorption_page_at_its_stages(before, step):
    app = absorption_page(before_stage=before, step_stage=step)
    assert not app.exception
    assert not app.error
    titles = [text.value for text in app.markdown if text.value.startswith("####")]
    assert [title[5] for title in titles] == [str(before), str(step)]
    assert any("170.7" in text.value for text in app.markdown)


def test_stages_step_and_stop_at_the_ends():
    app = absorption_page()
    assert app.button(key="step_stage_back").disabled
    for _ in range(7):
        app.button(key="step_stage_next").click().run()
    assert any(text.value.startswith("#### 8.") for text in app.markdown)
    assert app.button(key="step_stage_next").disabled


def test_a_guess_is_answered_with_a_reason():
    app = absorption_page()
    app.radio(key="guess_bracket").set_value("the same").run()
    assert app.info[0].value.startswith("No: (q·W_UKᵀ)·Cᵀ.")
    app.radio(key="guess_bracket").set_value("(q·W_UKᵀ)·Cᵀ").run()
    assert app.success[0].value.startswith("Right.")


def test_other_dims_warn_where_they_teach_the_opposite():
    app = absorption_page()
    app.selectbox(key="dims").set_value("other dims").run()
    assert not app.warning
    app.number_input(key="own_qk_nope_head_dim").set_value(16).run()
    assert "teach the opposite" in app.warning[0].value
    app.number_input(key="own_n_heads").set_value(0).run()
    assert app.error[0].value.startswith("n_heads: expected a whole number")
    assert not app.exception


def test_rope_on_the_content_path_shows_the_damage():
    app = absorption_page()
    app.toggle(key="rope_on_content").set_value(True).run()
    assert not app.exception
    assert any("difference</th>" in block.proto.body for block in app.get("html"))
