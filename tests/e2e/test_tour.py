"""The tour in a real browser: offered once, linked, by keyboard, without the server, on a phone."""

import pytest

PHONE = {"viewport": {"width": 390, "height": 844}}


def title(visit):
    return visit.player.locator(".tour h3").inner_text()


def test_a_first_visit_opens_at_step_1_and_offers_the_tour_once(visit, app_url):
    visit.open(app_url, first=True)
    offer = visit.player.locator(".offer")
    assert (visit.step, offer.is_visible()) == (0, True)
    offer.get_by_text("Not now").click()
    assert not offer.is_visible()
    visit.open(app_url, first=True)
    assert not offer.is_visible()


def test_ten_stops_by_keyboard_without_the_server(visit, app_url):
    visit.open(app_url + "?tour=1", first=True)
    sent = visit.sent
    for stop in range(1, 11):
        assert title(visit).startswith(f"{stop} of 10 ")
        choices = visit.player.locator(".choice").count()
        visit.player.locator(".tour h3").focus()
        visit.page.keyboard.press(str(choices))
        assert visit.player.locator(".because").inner_text().startswith(("Yes. ", "No. "))
        assert visit.player.locator(".choice[data-mark=right]").count() == 1
        place = visit.player.locator(".pointed")
        visit.page.wait_for_timeout(250)  # it is scrolled to once it is drawn
        box, height = place.bounding_box(), visit.page.viewport_size["height"]
        assert box["y"] < height and box["y"] + box["height"] > 60, stop
        visit.page.keyboard.press("Enter")
    assert not visit.player.locator(".tour").is_visible()
    assert visit.sent == sent
    assert visit.errors == []


def test_the_place_is_in_the_address_and_the_tour_goes_on_where_it_was_left(visit, app_url):
    visit.open(app_url + "?heads=4&tour=4", first=True)
    assert title(visit) == "4 of 10 · Where the latent comes from"
    visit.page.wait_for_function("location.search.includes('tour=4')")
    visit.page.keyboard.press("Tab")
    visit.player.locator("[data-action=tour-next]").click()
    visit.page.wait_for_function("location.search.includes('tour=5')")
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_function("!location.search.includes('tour=')")
    assert "heads=4" in visit.page.url
    assert visit.player.locator("[data-action=tour-toggle]").evaluate(
        "node => node === node.getRootNode().activeElement"
    )
    visit.player.get_by_role("button", name="Tour", exact=True).click()
    assert title(visit) == "5 of 10 · The absorbed score"


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
def test_on_a_phone_the_card_leaves_its_place_in_sight(visit, app_url):
    visit.open(app_url + "?tour=1", first=True)
    for stop in range(1, 11):
        visit.page.wait_for_timeout(250)
        card = visit.player.locator(".tour").bounding_box()
        place = visit.player.locator(".pointed").bounding_box()
        assert card["y"] + card["height"] <= 845, stop
        assert (card["x"], card["x"] + card["width"]) >= (0, 0) and card["width"] <= 390
        assert place["y"] < card["y"] - 40, f"stop {stop}: hidden by the card"
        visit.player.locator("[data-action=tour-next]").click()
