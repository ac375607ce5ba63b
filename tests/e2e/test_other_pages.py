"""The pages beside Decode in a real browser: reached by a link, whole, no wider than a phone."""

import json

import pytest

from mla_viz.findings.family import FAMILY_FILE
from mla_viz.shipped import shipped
from tests.e2e.conftest import TWO_FRAMES, free_port, start_server

pytestmark = pytest.mark.filterwarnings("default")
PHONE = {"viewport": {"width": 390, "height": 844}}
PAGES = {
    "absorption": "Absorption: the algebra",
    "claims": "What is true of what one reads",
    "memory": "What the cache takes",
    "mistakes": "What went wrong elsewhere",
    "speed": "What absorption saves in time",
    **({"quality": "What the small cache costs"} if shipped(FAMILY_FILE).exists() else {}),
}
# Streamlit looks for its server under the page's path first, then at the root (docs/serving.md).
STREAMLITS_OWN = "404 (Not Found)"


def open_page(visit, url, name):
    visit.page.goto(url + name)
    visit.page.get_by_role("heading", name=PAGES[name]).wait_for(timeout=60_000)
    visit.settle()
    assert [error for error in visit.errors if STREAMLITS_OWN not in error] == []
    assert visit.foreign == []
    assert visit.page.get_by_text("encountered an error").count() == 0


# Streamlit's own menu of the files in pages/, even if it is there for a moment.
WATCH_MENU = """new MutationObserver(() => {
  window.menu ||= !!document.querySelector('[data-testid=stSidebarNav]');
}).observe(document, {childList: true, subtree: true})"""


def test_a_fresh_server_has_one_menu_for_a_link_to_a_page_and_for_a_page_left_open(visit):
    port = free_port()
    visit.page.add_init_script(WATCH_MENU)
    server = start_server(port)
    try:
        open_page(visit, f"http://localhost:{port}/", "claims")
        server.terminate()
        server.wait()
        server = start_server(port)
        visit.settle()
        heads = visit.page.get_by_label("Heads", exact=True)
        heads.fill("64")
        heads.press("Enter")
        visit.page.get_by_role("heading", name="28.4 times").first.wait_for(timeout=60_000)
        links = visit.page.get_by_role("link", name="Absorption")
        links.first.click()
        visit.page.get_by_role("heading", name=PAGES["absorption"]).wait_for()
        assert not visit.page.evaluate("window.menu")
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("visit", [PHONE | {"color_scheme": "dark"}], indirect=True)
def test_a_page_is_whole_on_a_dark_phone(visit, app_url, name):
    open_page(visit, app_url, name)
    scroll, width = visit.page.eval_on_selector(
        "[data-testid=stMain]", "e => [e.scrollWidth, e.clientWidth]"
    )
    assert scroll <= width
    colour = visit.page.eval_on_selector(
        "[data-testid=stApp]", "e => getComputedStyle(e).backgroundColor"
    )
    assert max(int(x) for x in colour[4:-1].split(",")) < 60


ENDS = "all => all.map(e => e.getBoundingClientRect()).map(({left, right}) => [left, right])"


def test_no_matrix_is_cut_at_any_stage_and_the_focus_stays(visit, app_url):
    open_page(visit, app_url, "absorption")
    forward = visit.page.locator(".st-key-step_stage_next button")
    forward.focus()
    for number in (*range(2, 9), 1):
        visit.page.keyboard.press("Enter")
        picture = visit.page.get_by_role("group", name=f"Drawing of stage {number}")
        picture.wait_for()
        visit.settle()
        assert forward.evaluate("e => e === document.activeElement"), number
        for width in (390, 1440):
            visit.page.set_viewport_size({"width": width, "height": 1000})
            visit.page.evaluate(TWO_FRAMES)
            assert picture.locator("table").count() > 5
            ends = picture.locator("tbody").evaluate_all(ENDS)
            room = visit.page.locator(".stMain").evaluate("e => e.getBoundingClientRect()")
            for left, right in ends:
                assert room["left"] <= left < right <= room["right"], (number, width)
    assert "step_stage" not in visit.page.url
    back = visit.page.locator(".st-key-before_stage_back button")
    back.focus()
    for title in ("9. MLA", "8. GQA"):
        visit.page.keyboard.press("Enter")
        visit.page.get_by_role("heading", name=title).wait_for()
        assert back.evaluate("e => e === document.activeElement"), title


def test_a_number_changes_which_claims_survive(visit, app_url):
    open_page(visit, app_url, "claims")
    heads = visit.page.get_by_label("Heads", exact=True)
    heads.fill("64")
    heads.press("Enter")
    visit.page.get_by_role("heading", name="28.4 times").first.wait_for()
    assert "claim_n_heads=64" in visit.page.url


def test_a_pasted_config_is_counted_and_the_link_holds_it(visit, app_url):
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 10,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "kv_lora_rank": 100,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 28,
        "v_head_dim": 64,
        "rope_theta": 10000,
    }
    open_page(visit, app_url, "memory")
    visit.page.get_by_text("A config.json of your own").click()
    field = visit.page.get_by_label("Paste it", exact=True)
    field.fill(json.dumps(config))
    field.press("Control+Enter")
    card = visit.page.get_by_text("deepseek_v3 (yours)").first
    card.wait_for()
    # 10 layers x (100 + 28) values x 2 bytes x 131,072 tokens
    visit.page.get_by_role("heading", name="336 MB").wait_for()
    visit.page.wait_for_function("location.search.includes('config=')")
    link = visit.page.url
    field.fill('{"model_type": "nobody"}')
    field.press("Control+Enter")
    visit.page.get_by_text("which this does not read. The last one").wait_for()
    visit.page.goto(link)
    visit.page.get_by_role("heading", name="336 MB").wait_for()


def test_settings_wait_while_another_page_is_read(visit, app_url):
    visit.open(app_url + "?heads=5&seed=3&right=mla_merged&prompt=The+cat")
    visit.player.get_by_label("Step", exact=True).fill("4")
    visit.page.wait_for_function("location.search.includes('step=5&')")
    before = visit.value("left-bytes")
    visit.page.get_by_role("link", name="Claims").first.click()
    visit.page.get_by_role("heading", name=PAGES["claims"]).wait_for()
    visit.settle()
    visit.page.get_by_role("link", name="Decode").first.click()
    visit.page.wait_for_selector("[data-testid=player][data-steps]")
    visit.settle()
    assert visit.page.get_by_label("Prompt").input_value() == "The cat"
    assert visit.page.get_by_role("slider", name="Heads").input_value() == "5"
    assert visit.step == 4
    visit.page.get_by_text("More", exact=True).click()
    assert visit.page.get_by_role("slider", name="Seed").input_value() == "3"
    assert "right=mla_merged" in visit.page.url
    assert visit.value("left-bytes") == before


@pytest.mark.skipif("quality" not in PAGES, reason="no family is trained")
def test_a_section_of_quality_is_built_when_opened_and_in_the_link(visit, app_url):
    open_page(visit, app_url, "quality")
    assert visit.page.locator(".st-key-likeness").count() == 0
    visit.page.get_by_role("tab", name="Likeness of heads").click()
    visit.page.locator(".st-key-likeness .main-svg").first.wait_for()
    assert "section=Likeness" in visit.page.url
    visit.page.locator(".st-key-family .main-svg").first.wait_for()
