"""The one HTML file in a real browser, from disk, without a network."""

import base64
import gzip
import re

import pytest
from playwright.sync_api import expect

from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.e2e.conftest import Visit
from tests.e2e.firefox import Firefox, find_firefox

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def run():
    return decode(Settings(max_new_tokens=6))


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "run.html"
    run.save_html(path)
    return path


@pytest.fixture
def offline(chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, offline=True)
    yield Visit(context.new_page())
    context.close()


def test_every_step_shows_what_the_run_holds(offline, file, run):
    offline.page.goto(f"{file.as_uri()}?step=1")
    for step in range(run.n_steps):
        offline.wait_for(step=step)
        sides = run.left.cache_bytes[step], run.right.cache_bytes[step]
        assert (int(offline.value("left-bytes")), int(offline.value("right-bytes"))) == sides
        offline.player.press("ArrowRight")
    offline.player.press("[")
    gap = run.gaps.scores[run.n_steps - 1, 0, 0]
    joined = offline.player.locator(".joined")
    expect(joined).to_contain_text("scores = ")
    told = joined.inner_text()
    assert float(told.split("scores = ")[1].split(",")[0]) == pytest.approx(gap, rel=0.06)
    assert offline.errors == []
    assert offline.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_asks_nobody_and_runs_no_script_but_its_own(offline, file, tmp_path):
    text = file.read_text(encoding="utf-8")
    added = tmp_path / "added.html"
    added.write_text(
        text.replace("<h1>", "<script>window.added = 1</script><h1>"), encoding="utf-8"
    )
    offline.page.goto(added.as_uri())
    offline.wait_for(step=0)
    assert "inline script" in offline.errors.pop()
    assert offline.page.evaluate("window.added") is None
    asked = "fetch('data:,').then(() => 'answered', (error) => error.name)"
    assert offline.page.evaluate(asked) == "TypeError"
    assert "data:," in offline.errors.pop(0)


def test_the_player_is_hidden_until_it_is_unpacked(offline, file, tmp_path):
    started = tmp_path / "started.html"
    started.write_text(file.read_text(encoding="utf-8").split("<script", 1)[0], encoding="utf-8")
    offline.page.goto(started.as_uri())
    expect(offline.page.get_by_role("alert")).to_have_text(re.compile("is being unpacked"))
    expect(offline.player).to_be_hidden()
    offline.page.goto(file.as_uri())
    expect(offline.player).to_be_visible()
    expect(offline.page.get_by_role("alert")).to_have_count(0)


@pytest.fixture
def firefox(tmp_path):
    path = find_firefox()
    if path is None:
        pytest.skip("no Firefox on this machine (apt-get install firefox-esr)")
    browser = Firefox(path, tmp_path)
    yield browser
    browser.close()


UNTIL = """new Promise((done) => {
  const look = () => requestAnimationFrame(() => (%s ? setTimeout(done) : look()));
  look();
})"""
PRESS = "player.dispatchEvent(new KeyboardEvent('keydown', { key: '%s' }))"
COLOURS = """[...document.querySelectorAll("canvas")].filter((canvas) => canvas.offsetHeight)
  .map((canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height))
  .map((image) => new Set(new Uint32Array(image.data.buffer)).size)"""


def test_firefox_shows_every_step_too(firefox, file, run):
    firefox.ask("WebDriver:Navigate", url=f"{file.as_uri()}?step=1")
    firefox.evaluate(UNTIL % "document.querySelector('[data-steps]')")
    firefox.evaluate("(window.player = document.querySelector('.player')).dataset.step")
    for step in range(run.n_steps):
        data = firefox.evaluate("({ ...player.dataset })")
        sides = run.left.cache_bytes[step], run.right.cache_bytes[step]
        assert (int(data["leftBytes"]), int(data["rightBytes"])) == sides
        firefox.evaluate(PRESS % "ArrowRight")
    firefox.evaluate(PRESS % "[")
    joined = "player.querySelector('.joined').textContent"
    firefox.evaluate(UNTIL % f"{joined}.includes('scores = ')")
    told = firefox.evaluate(joined)
    gap = run.gaps.scores[run.n_steps - 1, 0, 0]
    assert float(told.split("scores = ")[1].split(",")[0]) == pytest.approx(gap, rel=0.06)
    firefox.evaluate(UNTIL % f"({COLOURS}).every((colours) => colours > 10)")
    # The step; two caches, heads, triangles; the growth.
    assert len(firefox.evaluate(COLOURS)) == 8
    assert firefox.evaluate("document.querySelector('.state')") is None


def test_in_a_notebooks_frame_it_steps_and_saves_too(offline, run):
    offline.page.set_content(f"<p>cell</p>{run._repr_html_()}")
    player = offline.page.frame_locator("iframe").get_by_test_id("player")
    player.press("Home")
    player.press("ArrowRight")
    assert player.get_attribute("data-step") == "1"
    growth = player.locator(".growth")
    growth.get_by_role("button", name="Save").click()
    with offline.page.expect_download() as download:
        growth.get_by_role("button", name="CSV of").click()
    assert download.value.suggested_filename == "mla-viz-growth-step-1.csv"
    offline.page.wait_for_timeout(400)  # the address is written behind a pause
    assert offline.errors == []


NO_RUN = base64.b64encode(gzip.compress(bytes(16))).decode()


@pytest.mark.parametrize(
    "damage", [lambda t: t[: len(t) // 2], lambda t: "x" + t[1:], lambda _: "", lambda _: NO_RUN]
)
def test_damaged_data_are_told_in_a_line(offline, file, tmp_path, damage):
    head, rest = file.read_text(encoding="utf-8").split('id="run">', 1)
    data, tail = rest.split("</script>", 1)
    broken = tmp_path / "broken.html"
    broken.write_text(f'{head}id="run">{damage(data)}</script>{tail}', encoding="utf-8")
    offline.page.goto(broken.as_uri())
    alert = offline.page.get_by_role("alert")
    expect(alert).to_have_text(
        re.compile(r"cannot be shown: its data are damaged .*; save it again")
    )
    expect(offline.player).to_be_hidden()
    assert offline.errors == []


def test_a_browser_that_cannot_unpack_is_told(offline, file):
    offline.page.add_init_script("delete window.DecompressionStream")
    offline.page.goto(file.as_uri())
    alert = offline.page.get_by_role("alert")
    expect(alert).to_have_text(re.compile("this browser cannot unpack gzip; take a newer one"))
