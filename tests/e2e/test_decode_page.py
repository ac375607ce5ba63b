"""The Decode page in a real browser."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.e2e.conftest import TWO_FRAMES

pytestmark = pytest.mark.filterwarnings("default")
PHONE = {"viewport": {"width": 390, "height": 844}}
HOSTILE = '<img src=x onerror="document.title=1"> \u202eabc\u202c \U0001f98a & "quotes"'


def query(visit) -> dict[str, list[str]]:
    return parse_qs(urlsplit(visit.page.url).query)


def luminance(visit, selector: str) -> float:
    colour = visit.page.eval_on_selector(selector, "e => getComputedStyle(e).backgroundColor")
    red, green, blue = (int(x) for x in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


# Pixels of a canvas, or of one row of it, that are orange and that are blue; ink is neither.
HUES = """(canvas, row) => {
  const [y, height] = row === null ? [0, canvas.height] : [row, 1];
  const {data} = canvas.getContext('2d').getImageData(0, y, canvas.width, height);
  const hues = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    const [red, , blue, alpha] = data.subarray(at, at + 4);
    if (alpha === 255 && Math.abs(red - blue) > 17) hues[red > blue ? 0 : 1] += 1;
  }
  return hues;
}"""


def hues(visit, side: str, part: str, row: int | None = None) -> list[int]:
    canvas = visit.player.locator(f".panel.{side} .{part} canvas")
    canvas.scroll_into_view_if_needed()  # what is out of sight is painted a little later
    visit.page.evaluate(TWO_FRAMES)
    return canvas.evaluate(HUES, row)


def test_first_paint_shows_the_example_without_errors_or_other_hosts(visit, app_url):
    visit.open(app_url)
    assert visit.errors == []
    assert visit.foreign == []
    assert int(visit.value("steps")) > 10
    assert int(visit.value("left-bytes")) > int(visit.value("right-bytes")) > 0


def test_each_side_is_painted_in_its_own_colour(visit, app_url):
    visit.open(app_url + "?left=mla_expanded&right=mla_absorbed")
    for part in ("cache", "heads", "triangle"):
        orange, blue = hues(visit, "left", part)
        assert orange > 500
        assert blue == 0
        orange, blue = hues(visit, "right", part)
        assert orange == 0
        assert blue > 500


def test_painted_caches_are_as_wide_as_a_token_takes_bytes(visit, app_url):
    visit.open(app_url + "?heads=8&latent=32&left=mla_expanded&right=mla_absorbed")
    (left, _), (_, right) = hues(visit, "left", "cache", 2), hues(visit, "right", "cache", 2)
    ratio = int(visit.value("right-bytes")) / int(visit.value("left-bytes"))
    assert ratio == 48 / 640
    assert left > 300
    assert abs(right - left * ratio) <= 1


def test_buttons_keys_and_scrubber_step(visit, app_url):
    visit.open(app_url)
    last = int(visit.value("steps")) - 1
    visit.button("First").click()
    assert visit.step == 0
    assert visit.button("Back").get_attribute("aria-disabled") == "true"
    visit.button("Back").click(force=True)
    assert visit.step == 0
    visit.button("Forward").click()
    assert visit.step == 1
    visit.player.press("End")
    assert visit.step == last
    assert visit.button("Forward").get_attribute("aria-disabled") == "true"
    visit.player.press("Home")
    visit.player.press("ArrowRight")
    visit.player.press("ArrowRight")
    visit.player.press("ArrowLeft")
    assert visit.step == 1
    scrubber = visit.player.get_by_label("Step", exact=True)
    scrubber.fill("7")
    assert visit.step == 7
    scrubber.press("ArrowRight")
    assert visit.step == 8


def test_cache_bytes_follow_the_step(visit, app_url):
    visit.open(app_url + "?heads=8&latent=32")
    for step in (0, 5):
        visit.player.get_by_label("Step", exact=True).fill(str(step))
        assert int(visit.value("left-bytes")) == (step + 1) * 5 * 640 * 4
        assert int(visit.value("right-bytes")) == (step + 1) * 5 * 48 * 4


def test_twenty_rapid_keys_lose_no_step_and_ask_nothing_of_the_server(visit, app_url):
    visit.open(app_url)
    visit.player.press("Home")
    before = visit.sent
    visit.player.focus()
    for _ in range(20):
        visit.page.keyboard.press("ArrowRight")
    assert visit.step == 20
    visit.page.wait_for_function("location.search.includes('step=21')")
    assert visit.sent == before


def test_plays_and_pauses(visit, app_url):
    visit.open(app_url)
    visit.button("First").click()
    visit.button("Play").click()
    assert visit.value("playing") == "true"
    visit.wait_for(step=2)
    visit.button("Pause").click()
    assert visit.value("playing") == "false"
    stopped = visit.step
    visit.page.wait_for_timeout(400)
    assert visit.step == stopped
    visit.player.press(" ")
    visit.wait_for(playing="true")


def test_a_slider_changes_the_cache_and_keeps_prompt_and_step(visit, app_url):
    visit.open(app_url + "?prompt=" + quote("The next day was bright"))
    visit.player.get_by_label("Step", exact=True).fill("6")
    heads = visit.page.get_by_role("slider", name="Heads")
    heads.press("ArrowLeft")
    visit.wait_for(left_bytes=7 * 5 * 7 * 80 * 4)
    visit.settle()
    assert visit.step == 6
    assert visit.page.get_by_label("Prompt").input_value() == "The next day was bright"
    assert query(visit)["heads"] == ["7"]
    visit.page.wait_for_function("location.search.includes('step=7')")  # written once it rests


def test_what_is_chosen_under_more_stays_when_it_is_folded(visit, app_url):
    visit.open(app_url)
    more = visit.page.get_by_text("More", exact=True)
    more.click()
    visit.page.get_by_role("slider", name="Seed").press("ArrowRight")
    visit.page.wait_for_function("location.search.includes('seed=1')")
    visit.settle()
    more.click()
    visit.settle()
    assert query(visit)["seed"] == ["1"]
    more.click()
    visit.settle()
    assert visit.page.get_by_role("slider", name="Seed").input_value() == "1"


def test_a_new_prompt_decodes(visit, app_url):
    visit.open(app_url)
    prompt = visit.page.get_by_label("Prompt")
    prompt.fill("Lily had a red ball")
    prompt.press("Control+Enter")
    visit.player.get_by_text("Lily").first.wait_for()
    assert visit.errors == []


def test_the_address_restores_the_view(visit, app_url, chromium):
    visit.open(app_url)
    visit.page.get_by_role("slider", name="Latent dim").press("ArrowRight")
    visit.wait_for(right_bytes=int(visit.value("steps")) * 5 * 49 * 4)
    visit.settle()
    visit.player.get_by_label("Layer", exact=True).select_option(label="3")
    visit.player.get_by_label("Step", exact=True).fill("9")
    visit.page.wait_for_function("location.search.includes('step=10')")
    other = type(visit)(chromium.new_context().new_page()).open(visit.page.url)
    for name in ("step", "steps", "left-bytes", "right-bytes"):
        assert other.value(name) == visit.value(name)
    assert query(other)["layer"] == ["3"]
    assert other.player.get_by_label("Layer", exact=True).input_value() == "2"
    assert other.page.get_by_role("slider", name="Latent dim").input_value() == "33"
    other.page.context.close()


def test_refused_input_says_so_in_place_and_keeps_the_view(visit, app_url):
    visit.open(app_url)
    steps = visit.value("steps")
    prompt = visit.page.get_by_label("Prompt")
    prompt.fill("   ")
    prompt.press("Control+Enter")
    said = visit.page.get_by_text("prompt: expected some text")
    visit.page.get_by_test_id("stSidebar").locator(said).wait_for()
    visit.page.get_by_test_id("stMain").locator(said).wait_for()
    assert visit.value("steps") == steps
    prompt.fill("word " * 400)
    prompt.press("Control+Enter")
    visit.page.get_by_text("prompt: expected at most 255 tokens").first.wait_for()
    assert visit.value("steps") == steps


def test_a_long_run_is_asked_about_shows_progress_and_stops(visit, app_url):
    visit.open(app_url + "?source=synthetic&layers=12")
    steps = visit.value("steps")
    prompt = visit.page.get_by_label("Prompt")
    prompt.fill("the " * 4000)
    prompt.press("Control+Enter")
    visit.page.get_by_text("This run will take about").wait_for()
    visit.page.get_by_role("button", name="Decode", exact=True).click()
    visit.page.get_by_text("Decoding: step").wait_for()
    visit.page.get_by_role("button", name="Stop", exact=True).click()
    visit.page.get_by_role("button", name="Decode", exact=True).wait_for()
    visit.settle()
    assert visit.value("steps") == steps
    assert visit.errors == []


@pytest.mark.parametrize("visit", [{"color_scheme": "dark"}], indirect=True)
def test_dark_is_dark(visit, app_url):
    visit.open(app_url)
    assert luminance(visit, "[data-testid=stApp]") < 0.2


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_nothing_scrolls_sideways_on_a_phone(visit, app_url):
    visit.open(app_url)
    widths = visit.page.eval_on_selector(
        "[data-testid=stMain]", "e => [e.scrollWidth, e.clientWidth]"
    )
    assert widths[0] <= widths[1]
    box = visit.button("Play").bounding_box()
    assert 0 <= box["y"] < PHONE["viewport"]["height"], "the transport is out of sight"


def test_hostile_text_is_text(visit, app_url):
    visit.open(app_url + "?prompt=" + quote(HOSTILE + "\0"))
    assert visit.page.title() == "Decode · mla-viz"
    assert visit.player.locator("img").count() == 0
    assert (
        visit.player.get_by_text("<", exact=True).count() + visit.player.get_by_text("<img").count()
    )
    assert visit.errors == []


def test_a_rounded_cache_is_smaller_and_the_badge_says_how_far_the_sides_are_apart(visit, app_url):
    visit.open(app_url + "?cache_dtype=int8&max_new_tokens=8")
    visit.player.get_by_text("one model, right cache rounded to int8").wait_for()
    visit.player.get_by_text("reads rounded values, so the sides differ").wait_for()
    visit.page.get_by_role("heading", name="One model, one cache rounded").wait_for()
    rounded = visit.value("right-bytes")
    visit.open(app_url + "?max_new_tokens=8")
    assert visit.player.get_by_text("rounded to").count() == 0
    assert visit.value("right-bytes") != rounded
