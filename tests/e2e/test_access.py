"""Every page for everyone: axe's rules, headings, keyboard, phone and paper, in a real browser."""

import os

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import ROOT
from tests.e2e.picture import open_painted

pytestmark = pytest.mark.filterwarnings("default")
AXE = ROOT / "mla_viz" / "player" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"viewport": {"width": 390, "height": 844}}
GROUND = """dark => {
  const [red] = getComputedStyle(document.querySelector('.stApp')).backgroundColor.match(/\\d+/);
  return (red < 128) === dark;
}"""
VIOLATIONS = """async () => {
  const late = new Promise((_, fail) => setTimeout(fail, 60_000, Error('axe has not ended')));
  const {violations} = await Promise.race([axe.run(document, {resultTypes: ['violations']}), late]);
  return violations.flatMap(
    ({id, nodes}) => nodes.map(node => `${id}: ${node.html.slice(0, 160)}`));
}"""
VIEWS = [
    ("decode", ""),
    ("decode", "?step=20&phase=3"),
    ("decode", "?source=synthetic&qk_rope_head_dim=7&left=mha&right=gqa&quality=true"),
    ("absorption", "?before_stage=5&step_stage=8&rope_on_content=true"),
    ("memory", "?part=The+formula&context=0"),
    ("memory", "?part=What+fits"),
    ("speed", "?speed_model=DeepSeek-V2-Lite"),
    ("speed", "?speed_model=DeepSeek-V2-Lite&speed_tab=On+an+accelerator&speed_context=0"),
    ("quality", "?section=Likeness+of+heads"),
    ("claims", "?claim_n_heads=0"),
    ("mistakes", "?museum_mistake=mscale+left+out"),
    ("mistakes", "?museum_mistake=key+turned+twice&museum_tab=Prompt+length"),
]


@pytest.fixture(scope="module")
def axe():
    """The rules' script, which `make lint` installs."""
    if not AXE.exists():
        message = f"axe-core is missing (npm ci --prefix {AXE.parents[2].relative_to(ROOT)})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "query"), VIEWS)
def test_axe_finds_nothing_light_or_dark_wide_or_narrow(visit, app_url, axe, name, query):
    page, found = visit.page, []
    open_painted(page, app_url, name, query)
    assert page.locator("h1").count() == 1
    page.evaluate(axe)
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 1000})
        for scheme, is_dark in (("light", False), ("dark", True)):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(GROUND, arg=is_dark)
            visit.settle()
            found += [f"{width} {scheme}: {line}" for line in page.evaluate(VIOLATIONS)]
    assert not found, "\n".join(found)


def test_axe_finds_nothing_in_tables_and_under_the_cell_cursor(visit, app_url, axe):
    visit.open(app_url)
    visit.page.evaluate(axe)
    visit.player.locator(".growth canvas").press("ArrowLeft")
    assert visit.player.locator(".cell").count() == 1
    for switch in visit.player.locator(".panel [data-action=table]").all():
        switch.evaluate("e => e.click()")  # without the focus, which the cursor has
    assert visit.player.locator("td").count() > 1000
    assert visit.page.evaluate(VIOLATIONS) == []


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_on_a_phone_prompt_and_pages_are_one_tap_away(visit, app_url, axe):
    visit.open(app_url)
    behind = visit.page.get_by_test_id("stExpandSidebarButton")
    words = behind.evaluate("e => getComputedStyle(e, '::after').content")
    assert words == '"Prompt, settings, pages"'
    behind.click()
    for part in (visit.page.get_by_label("Prompt"), visit.page.get_by_role("link", name="Claims")):
        expect(part.first).to_be_in_viewport()
    visit.page.wait_for_timeout(400)  # it slides in
    visit.page.evaluate(axe)
    assert visit.page.evaluate(VIOLATIONS) == []


# What a printed page has: parts wider than it, controls, all of its length, dark ink on white.
PAPER = """() => {
  const wide = [...document.querySelectorAll('.stMain table, .stMain .stPlotlyChart')]
    .filter(e => e.scrollWidth > document.documentElement.clientWidth).length;
  const shown = name => !!document.querySelector(`[data-testid=${name}]`)?.offsetParent;
  const main = document.querySelector('.stMain');
  const style = e => getComputedStyle(e);
  return {
    wide,
    hidden: !shown('stSidebar') && !shown('stHeader'),
    flows: document.documentElement.scrollHeight > 3 * innerHeight,
    ink: style(main.querySelector('p')).color,
    ground: style(document.querySelector('.stApp')).backgroundColor,
  };
}"""


@pytest.mark.parametrize("visit", [{"color_scheme": "dark"}], indirect=True)
def test_on_paper_a_page_flows_without_its_controls_in_dark_ink_on_white(visit, app_url):
    for name in ("absorption", "claims"):
        open_painted(visit.page, app_url, name)
        visit.page.emulate_media(media="print")
        visit.page.set_viewport_size({"width": 720, "height": 1000})
        assert visit.page.evaluate(PAPER) == {
            "wide": 0,
            "hidden": True,
            "flows": True,
            "ink": "rgb(22, 27, 38)",
            "ground": "rgb(255, 255, 255)",
        }, name
        visit.page.emulate_media(media="screen")


def test_each_page_has_a_title_of_its_own(visit, app_url):
    open_painted(visit.page, app_url, "claims")
    titles = [visit.page.title()]
    for name in ("Absorption", "Decode"):
        visit.page.get_by_role("link", name=name).first.click()
        visit.page.wait_for_function("name => document.title.startsWith(name)", arg=name)
        titles.append(visit.page.title())
    assert titles == ["Claims · mla-viz", "Absorption · mla-viz", "Decode · mla-viz"]
