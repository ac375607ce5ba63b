"""The drawn example of the Absorption page in a real browser."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from mla_viz.findings.lanes import joins
from mla_viz.findings.lesson import make_lesson
from tests.e2e.conftest import TWO_FRAMES

pytestmark = pytest.mark.filterwarnings("default")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LESSON = make_lesson()
LAST = "?step_stage=8"


def figure(text):
    return float(text.replace("−", "-"))


def open_stage(visit, app_url, query=LAST):
    visit.page.goto(app_url + "absorption" + query)
    picture = visit.page.get_by_test_id("lesson").first
    picture.locator("td").first.wait_for(timeout=60_000)
    visit.settle()
    visit.page.evaluate(TWO_FRAMES)  # the first sets the width, the second lays out
    return picture


def test_the_joins_print_what_the_lesson_measured(visit, app_url):
    picture = open_stage(visit, app_url)
    told = [join.inner_text().splitlines() for join in picture.locator(".join").all()]
    measured = joins([name for _, name, *_ in told], LESSON, LESSON)
    assert [join.name for join in measured] == ["o head 1", "o head 2", "out"]
    for (sign, _, *formats), join in zip(told, measured, strict=True):
        assert sign == "="
        for line, (name, gap) in zip(formats, join.gaps.items(), strict=True):
            told_name, value = line.split(" ")
            assert told_name == name
            assert (0 if value == "equal" else float(value)) == pytest.approx(gap, rel=0.06)
    assert max(join.gaps["float64"] for join in measured) > 0


# Terms and their sum in a tooltip: "−3.75 = −1.875 × 2", ..., "−9.6875 in all".
TERM = r"(−?[\d.]+) = (−?[\d.]+) × (−?[\d.]+)"


@pytest.mark.parametrize("number", range(1, 9))
def test_every_product_that_is_pointed_at_tells_a_sum_that_adds_up_to_it(visit, app_url, number):
    picture = open_stage(visit, app_url, f"?step_stage={number}")
    tooltip, told = picture.locator(".tooltip"), 0
    for table in picture.locator(".matrix.down, .matrix.across").all():
        cell = table.locator("td:not(.unseen)").last
        cell.scroll_into_view_if_needed()
        cell.hover()
        expect(tooltip).to_be_visible()
        text, printed = tooltip.inner_text(), figure(cell.inner_text())
        assert text.splitlines()[0].endswith(f": {cell.inner_text()}")
        if terms := re.findall(TERM, text):
            products = [[figure(x) for x in term] for term in terms]
            total = figure(re.search(r"(−?[\d.]+) in all", text)[1])
            assert sum(value for value, *_ in products) == pytest.approx(total, abs=1e-9)
            assert total == pytest.approx(printed, abs=0.00501)
            for value, one, other in products:
                assert one * other == pytest.approx(value, abs=0.006)
            assert picture.locator(".source").count() >= 2
            told += 1
    assert told > 0 or number == 6  # softmax has no products
    visit.page.mouse.move(5, 5)
    expect(picture.locator(".cell")).to_have_count(0)


def test_the_keyboard_goes_from_number_to_number_and_lights_what_makes_them(visit, app_url):
    picture = open_stage(visit, app_url, "?step_stage=4")
    assert picture.locator("td[tabindex='0']").count() == 1
    cell = picture.locator(".absorbed td", has_text="−1.88")
    picture.locator("td[tabindex='0']").focus()
    visit.page.keyboard.press("ArrowDown")
    focused = "e => e.getRootNode().activeElement.textContent"
    assert picture.evaluate(focused) == "0.25"
    for _ in range(30):
        if picture.evaluate(focused) == cell.inner_text():
            break
        visit.page.keyboard.press("PageDown")
    expect(picture.locator(".tooltip")).to_contain_text("= q head 1 · W_UKᵀ head 1")
    expect(picture.locator(".told")).to_contain_text("−1.875 in all")
    assert picture.locator(".source").count() == 2
    assert picture.locator("td[tabindex='0']").count() == 1


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_on_a_phone_lanes_stand_one_under_the_other_and_a_tap_tells_a_sum(visit, app_url):
    for number in range(1, 9):
        picture = open_stage(visit, app_url, f"?step_stage={number}")
        tops = [way.bounding_box()["y"] for way in picture.locator(".way").all()]
        assert tops == sorted(set(tops))
    picture.locator(".absorbed .matrix.down td").last.tap()
    expect(picture.locator(".tooltip")).to_contain_text("in all")
    picture.locator(".says").first.tap()
    expect(picture.locator(".tooltip")).to_be_hidden()


def test_a_changed_weight_turns_the_joins_that_it_reaches_red(visit, app_url):
    picture = open_stage(visit, app_url)
    signs = picture.locator(".join .sign")
    assert signs.all_inner_texts() == ["=", "=", "="]
    visit.page.get_by_text("Change one weight on the naive side").click()
    expect(signs).to_have_text(["≠", "=", "≠"])
    red, ink, _ = signs.evaluate_all("all => all.map(e => getComputedStyle(e).color)")
    assert red == "rgb(198, 40, 40)" != ink
    changed = LESSON.W_UK.copy()
    changed[0, 0, 0] += 1
    (join,) = joins(["o head 1"], replace(LESSON, W_UK=changed), LESSON)
    told = picture.locator(".join").first.inner_text().splitlines()[2]
    assert float(told.removeprefix("float64 ")) == pytest.approx(join.gaps["float64"], rel=0.06)
    assert "changed_weight=true" in visit.page.url
