"""The player under a finger, on a phone, by the keyboard, on paper and under a new prompt."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import TWO_FRAMES, Visit

pytestmark = pytest.mark.filterwarnings("default")
WIDE, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
LONG_PROMPT = quote("Once there was a fox. " * 12)

# The nodes of the player that hold more than they show: the tab stops in each, its role and name.
SCROLLING = """player => [...player.querySelectorAll('*')]
  .filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowY))
  .filter(e => e.scrollHeight > e.clientHeight || e.scrollWidth > e.clientWidth)
  .map(e => [e.className,
    [e, ...e.querySelectorAll('*')].filter(({tabIndex}) => tabIndex === 0).length,
    e.getAttribute('role'), e.ariaLabel ?? ''])"""
# What has the focus, by its own class or that of the part around it.
FOCUSED = """() => {
  let at = document.activeElement;
  while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at.matches('canvas') ? at.closest('.cache, .heads, .triangle, .card').className
    : at.className || at.dataset.action || at.name || at.type || at.localName;
}"""
PICTURES = ("cache", "heads", "triangle")
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
    switch_tables(long)
    scrolling = long.player.evaluate(SCROLLING)
    wide = long.page.eval_on_selector(".stMain", "e => e.scrollWidth - e.clientWidth")
    switch_tables(long)
    assert {name for name, *_ in scrolling} == {"lane prompt", "lane generated", "scroller"}
    for name, stops, role, label in scrolling:
        assert (stops, role) == (1, "group"), name
        assert label, name
    assert wide <= 0


def switch_tables(visit):
    """Show every picture as a table, or as a picture again."""
    for switch in visit.player.locator("[data-action=table]:visible").all():
        switch.click()


def test_keys_reach_every_picture_and_its_values_and_the_focus_is_never_lost(visit, app_url):
    visit.open(app_url)
    step, pictures = visit.step, []
    told, tooltip = visit.player.locator(".told"), visit.player.locator(".tooltip")
    visit.player.focus()
    while "card growth" not in pictures:
        visit.page.keyboard.press("Tab")
        focused = visit.page.evaluate(FOCUSED)
        assert focused != "body", pictures
        if focused not in (*PICTURES, "card growth"):
            continue
        pictures.append(focused)
        visit.page.keyboard.press("ArrowLeft")
        visit.page.keyboard.press("Home")
        expect(told).to_contain_text(", ".join(tooltip.inner_text().split("\n")))
        visit.page.keyboard.press("Escape")
        assert (visit.page.evaluate(FOCUSED), tooltip.is_visible()) == (focused, False)
    assert pictures == [*PICTURES, *PICTURES, "card growth"]
    assert visit.step == step


def test_a_value_leads_to_its_step_by_click_and_by_key(visit, app_url):
    visit.open(app_url)
    triangle = visit.player.locator(".panel.right .triangle canvas")
    box = triangle.bounding_box()
    triangle.click(position={"x": 36, "y": box["height"] / 2})
    middle = visit.step
    assert 0 < middle < int(visit.value("steps")) / 2 + 1
    visit.page.keyboard.press("ArrowRight")  # the arrows of a mouse's user stay the player's
    assert visit.step == middle + 1
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Control+Home")
    visit.page.keyboard.press("Enter")
    assert visit.step == 0


def test_a_second_tap_goes_where_the_first_one_told_of(phone):
    phone.player.press("End")
    last = phone.step
    canvas = phone.player.locator(".panel.left .triangle canvas")
    canvas.tap(position={"x": 36, "y": 1})
    expect(phone.player.locator(".tooltip")).to_contain_text("query 1")
    assert phone.step == last
    canvas.tap(position={"x": 40, "y": 4})
    assert phone.step == 0
    phone.player.press("End")


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
    assert len(drawn) == 11
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
