"""The player under a finger, on a phone, by the keyboard, on paper and under a new prompt."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import TWO_FRAMES, Visit

pytestmark = pytest.mark.filterwarnings("default")
WIDE, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
LONG_PROMPT = quote("Once there was a fox. " * 12)

# The nodes of the player that hold more than they show, and what a keyboard finds of them.
SCROLLING = """player => [...player.querySelectorAll('*')]
  .filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowY))
  .filter(e => e.scrollHeight > e.clientHeight)
  .map(e => [e.className, e.tabIndex, e.getAttribute('role'), e.ariaLabel ?? ''])"""
# Whether a chip lies within its lane.
IN_VIEW = """chip => {
  const [inner, outer] = [chip, chip.closest('.lane')].map(e => e.getBoundingClientRect());
  return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
}"""
# Of each drawing and table: whether it is kept whole on a page, and whether something around it
# keeps the page from moving it to the next one.
ON_PAPER = """player => [...player.querySelectorAll('canvas, table, .candidates')].map(e => {
  const around = [];
  for (let at = e; at !== player; at = at.parentElement) around.push(getComputedStyle(at));
  return [around.some(s => s.breakInside === 'avoid'),
    around.some(s => s.contain.includes('layout')
      || s.display === 'grid' && s.gridTemplateRows.includes('subgrid'))];
})"""
# The ground of a panel's head, and the commonest colour of its cache.
COLOURS = """player => {
  const canvas = player.querySelector('.panel.left .cache canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const counts = new Map();
  for (const pixel of new Uint32Array(data.buffer).filter(Boolean))
    counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const [commonest] = [...counts].reduce((one, other) => other[1] > one[1] ? other : one);
  const head = player.querySelector('.panel.left .head');
  return [getComputedStyle(head).backgroundColor, commonest];
}"""


@pytest.fixture(scope="module")
def phone(chromium, app_url) -> Iterator[Visit]:
    """The example on a phone with a touch screen."""
    context = chromium.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    yield Visit(context.new_page()).open(app_url)
    context.close()


@pytest.fixture(scope="module")
def long(chromium, app_url) -> Iterator[Visit]:
    """A prompt of more lines than its lane has."""
    context = chromium.new_context(viewport=WIDE)
    yield Visit(context.new_page()).open(f"{app_url}?prompt={LONG_PROMPT}")
    context.close()


@pytest.mark.parametrize("part", ["cache", "heads", "triangle"])
def test_a_tap_tells_a_value_and_a_tap_elsewhere_puts_it_away(phone, part):
    tooltip = phone.player.locator(".tooltip")
    phone.player.locator(f".panel.right .{part} canvas").tap(position={"x": 36, "y": 1})
    expect(tooltip).to_contain_text("token 1")
    phone.player.locator(".narration").tap()
    expect(tooltip).to_be_hidden()


def test_a_finger_that_moves_over_a_drawing_scrolls_the_page(phone):
    canvas = phone.player.locator(".panel.left .cache canvas")
    canvas.scroll_into_view_if_needed()
    before = canvas.bounding_box()
    touch = phone.page.context.new_cdp_session(phone.page)
    finger = {"x": before["x"] + 100, "y": before["y"] + 20}
    for kind, up in [("touchStart", 0), *(("touchMove", 10 * i) for i in range(1, 16))]:
        points = [finger | {"y": finger["y"] - up}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    phone.page.evaluate("new Promise(requestAnimationFrame)")
    assert canvas.bounding_box()["y"] < before["y"] - 50
    assert phone.player.locator(".tooltip").is_hidden()


def test_on_a_phone_both_caches_are_in_one_view_to_one_scale(phone):
    parts = [phone.player.locator(f".panel.{side} .cache") for side in ("left", "right")]
    left, right = (part.bounding_box() for part in parts)
    bars = phone.player.locator(".transport").bounding_box()["height"] + 60  # and Streamlit's own
    assert left["y"] < right["y"]
    assert right["y"] + right["height"] - left["y"] < PHONE["height"] - bars
    assert (left["x"], left["width"]) == (right["x"], right["width"])


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_keyboard_reaches_what_scrolls(long, size):
    long.page.set_viewport_size(size)
    scrolling = long.player.evaluate(SCROLLING)
    assert {name for name, *_ in scrolling} == {"lane prompt", "lane generated"}
    for name, tab_index, role, label in scrolling:
        assert (tab_index, role) == (0, "group"), name
        assert label, name


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_strip_shows_the_current_token_and_the_end_of_the_prompt(long, size):
    long.page.set_viewport_size(size)
    chips = long.player.locator(".lane.prompt .chip")
    for key in ("Home", "End", "ArrowLeft", "Home", "ArrowRight"):
        long.player.press(key)
        long.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        assert long.player.locator("[aria-current]").evaluate(IN_VIEW), key
        if long.step >= chips.count():
            assert chips.last.evaluate(IN_VIEW), key


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "narrow"])
def test_on_paper_no_drawing_is_cut_and_no_token_left_out(long, size):
    long.page.set_viewport_size(size)
    long.page.emulate_media(media="print")
    drawn = long.player.evaluate(ON_PAPER)
    scrolling = long.player.evaluate(SCROLLING)
    moved = long.player.locator(".transport").is_visible()
    long.page.emulate_media(media="screen")
    assert len(drawn) == 10
    assert all(whole and not held for whole, held in drawn), drawn
    assert (scrolling, moved) == ([], False)


@pytest.mark.parametrize("visit", [{"color_scheme": "dark"}], indirect=True)
def test_a_dark_player_is_printed_dark_on_white_and_is_dark_again_afterwards(visit, app_url):
    visit.open(app_url)
    dark = visit.player.evaluate(COLOURS)
    visit.page.emulate_media(media="print")
    paper = visit.player.evaluate(COLOURS)
    visit.page.emulate_media(media="screen")
    assert visit.player.evaluate(COLOURS) == dark
    visit.page.emulate_media(color_scheme="light")
    visit.page.evaluate(TWO_FRAMES)
    assert paper == visit.player.evaluate(COLOURS) != dark


def test_a_new_prompt_starts_at_its_start_and_leaves_no_step_to_others(visit, app_url):
    visit.open(app_url)
    assert visit.step == int(visit.value("steps")) - 1
    visit.page.wait_for_function("location.search.includes('step=')")
    prompt = visit.page.get_by_label("Prompt")
    prompt.fill("Lily had a red ball")
    prompt.press("Control+Enter")
    visit.wait_for(step=0)
    visit.player.press("End")
    visit.page.wait_for_function("!/step=(1|57)&/.test(location.search)")
    visit.open(visit.page.url.replace("Lily", "Max"))
    assert visit.step == 0
