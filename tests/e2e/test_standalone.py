"""The one HTML file in a real browser, from disk, without a network."""

import pytest
from playwright.sync_api import expect

from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.e2e.conftest import Visit

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


def test_in_a_notebooks_frame_it_steps_too(offline, run):
    offline.page.set_content(f"<p>cell</p>{run._repr_html_()}")
    player = offline.page.frame_locator("iframe").get_by_test_id("player")
    player.press("Home")
    player.press("ArrowRight")
    assert player.get_attribute("data-step") == "1"
    offline.page.wait_for_timeout(400)  # the address is written behind a pause
    assert offline.errors == []


@pytest.mark.parametrize(
    "damage", [lambda t: t[: len(t) // 2], lambda t: "x" + t[1:], lambda _: ""]
)
def test_damaged_data_are_told_in_a_line(offline, file, tmp_path, damage):
    head, rest = file.read_text(encoding="utf-8").split('id="run">', 1)
    data, tail = rest.split("</script>", 1)
    broken = tmp_path / "broken.html"
    broken.write_text(f'{head}id="run">{damage(data)}</script>{tail}', encoding="utf-8")
    offline.page.goto(broken.as_uri())
    offline.page.get_by_role("alert").wait_for()
    assert "The run in this file cannot be shown" in offline.page.get_by_role("alert").inner_text()
    assert offline.errors == []
