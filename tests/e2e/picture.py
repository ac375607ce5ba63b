"""Pictures of a page: `python -m tests.e2e.picture claims [--width 390] [--dark] [--to FILE]`."""

import argparse
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.e2e.conftest import QUIET_FLAGS, ROOT, Visit, find_chromium, free_port, start_server

# What each page shows once it is painted.
PAINTED = {
    "decode": "[data-testid=player][data-steps]",
    "absorption": ".st-key-prefill",
    "memory": ".st-key-memory .main-svg",
    "speed": ".st-key-speed_time .main-svg",
    "quality": ".st-key-family .main-svg",
    "claims": ".st-key-verdicts",
    "mistakes": ".st-key-museum_scores .main-svg, .st-key-museum_length .main-svg",
}


# The address of the picture in docs/, and what stands at its top where that is not the beginning.
SHOWN = {"decode": ("?step=57", None), "absorption": ("?step_stage=5", "#step")}


def open_painted(page: Page, url: str, name: str, query: str = "") -> Visit:
    """Open a page of the app and wait until it is there."""
    visit = Visit(page)
    page.add_init_script("localStorage.setItem('mla-viz-tour', 'declined')")  # no offer in it
    page.goto(f"{url}{'' if name == 'decode' else name}{query}")
    page.locator(PAINTED[name]).first.wait_for(timeout=60_000)
    visit.settle()
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    page.wait_for_timeout(400)  # the canvases out of sight are painted once stepping rests
    return visit


def main() -> None:
    """Start the app, open the page, take its picture."""
    parser = argparse.ArgumentParser(description="Take the picture of a page.")
    parser.add_argument("page", choices=PAINTED)
    parser.add_argument("--query", help="address behind the page: ?heads=4")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--whole", action="store_true", help="the whole length of the page")
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    query, top = SHOWN.get(args.page, ("", None)) if args.query is None else (args.query, None)
    file = args.to or ROOT / "docs" / f"{args.page}.png"
    port = free_port()
    server = start_server(port)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=QUIET_FLAGS)
            size = {"width": args.width, "height": args.height}
            scheme = "dark" if args.dark else "light"
            page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
            open_painted(page, f"http://localhost:{port}/", args.page, query)
            if top:
                page.locator(top).evaluate("e => e.scrollIntoView()")
                page.wait_for_timeout(400)
            if args.whole:
                # Streamlit scrolls within the page: a window as high as its content shows it all
                height = page.evaluate("document.querySelector('.stMain').scrollHeight")
                page.set_viewport_size({"width": args.width, "height": height + 20})
                page.wait_for_timeout(800)
            page.screenshot(path=file)
            browser.close()
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
