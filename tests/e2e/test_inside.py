"""The inside of a step in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.e2e.conftest import TWO_FRAMES, Visit

pytestmark = pytest.mark.filterwarnings("default")
OPEN = "?step=21&layer=2&head=3&phase=6"
STILL = {"reduced_motion": "reduce"}
DRAWN_PX = 300  # a flow is higher, the line in its place is not


@pytest.fixture(scope="module")
def open_step(chromium, app_url) -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": 1440, "height": 1400})
    visit = Visit(context.new_page()).open(app_url + OPEN)
    yield visit
    assert visit.errors == []
    context.close()


def at(visit):
    return float(visit.player.locator(".phases input").input_value())


def test_the_joins_print_what_the_engine_measured(open_step):
    gaps = decode(Settings()).gaps
    here = {
        "x": gaps.x[20, 1],
        "c_KV": gaps.latents[20, 1],
        "q": gaps.q[20, 1, 2],
        "scores": gaps.scores[20, 1, 2],
        "weights": gaps.probs[20, 1, 2],
        "o": gaps.o_head[20, 1, 2],
        "out": gaps.out[20, 1],
    }
    told = open_step.player.locator(".joined").inner_text()
    listed = dict(part.split(" = ") for part in told.rstrip(".").split(": ")[1].split(", "))
    assert listed.keys() == here.keys()
    for name, gap in here.items():
        assert float(listed[name]) == pytest.approx(gap, rel=0.06), name


def test_what_is_pointed_at_tells_its_sum_and_lights_its_lines_of_the_ledger(open_step):
    canvas = open_step.player.locator(".inside canvas")
    canvas.hover(position={"x": 300, "y": 262})
    tooltip = open_step.player.locator(".tooltip")
    expect(tooltip).to_contain_text("score of token")
    figures = tooltip.inner_text().replace("−", "-").splitlines()
    value = float(figures[0].rsplit(": ", 1)[1])
    terms = [float(line.split(" = ")[0]) for line in figures[2:]]
    assert len(terms) == 4
    assert sum(terms) == pytest.approx(value, abs=0.006)
    lit = open_step.player.locator(".ledger .lit b")
    expect(lit).to_have_text(["score", "absorb query", "score"])
    open_step.page.mouse.move(5, 5)
    expect(lit).to_have_text(["output", "absorb output", "output"])


def test_a_line_of_the_ledger_opens_its_phase(visit, app_url):
    visit.open(app_url)
    assert visit.player.locator(".inside").is_hidden()
    visit.player.locator(".panel.right .ledger tr", has_text="absorb query").click()
    expect(visit.player.locator(".inside")).to_be_visible()
    assert at(visit) == 3
    expect(visit.player.locator(".says .right")).to_contain_text("W_UK moves to the query")


def test_the_phases_play_without_the_server_and_stop_at_their_end(visit, app_url):
    visit.open(app_url + "?step=21&phase=6&speed=8")
    sent = visit.sent
    visit.player.press("[")
    visit.player.press("[")
    assert at(visit) == 4
    visit.player.get_by_label("Play the phases").click()
    visit.page.wait_for_function(
        """() => [...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean)
          .some(r => r.querySelector('.phases input')?.value === '6')"""
    )
    assert visit.sent == sent
    assert visit.step == 20


@pytest.mark.parametrize("visit", [STILL], indirect=True)
def test_without_motion_the_phases_are_steps(visit, app_url):
    visit.open(app_url + "?step=21&phase=2&speed=1")
    visit.player.press("]")
    visit.page.evaluate(TWO_FRAMES)
    assert at(visit) == 3


def test_on_a_phone_the_step_lies_within_the_page(chromium, app_url):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, is_mobile=True)
    visit = Visit(context.new_page()).open(app_url + OPEN)
    box = visit.player.locator(".inside").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    canvas = visit.player.locator(".inside canvas").bounding_box()
    assert canvas["height"] > canvas["width"]
    context.close()


def flow_height(visit):
    return visit.player.locator(".inside canvas").bounding_box()["height"]


def wait_for_flow(visit):
    for _ in range(300):
        if flow_height(visit) > DRAWN_PX:
            return
        visit.page.wait_for_timeout(100)
    raise AssertionError("the flow did not come")


def test_a_layer_that_did_not_travel_is_asked_for_in_one_call(visit, app_url):
    visit.open(app_url + "?max_new_tokens=240&step=30&phase=6&layer=1")
    wait_for_flow(visit)
    assert visit.player.locator(".notes").inner_text().startswith("Inside a step opens at once")
    visit.settle()
    sent = visit.sent
    visit.player.get_by_label("Layer", exact=True).select_option("3")
    visit.page.evaluate(TWO_FRAMES)
    assert flow_height(visit) < DRAWN_PX
    wait_for_flow(visit)
    assert "scores =" in visit.player.locator(".inside .joined").inner_text()
    visit.settle()
    assert visit.sent == sent + 1
    for _ in range(5):
        visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_timeout(800)
    assert flow_height(visit) > DRAWN_PX
    assert visit.sent == sent + 1
    assert visit.errors == []
