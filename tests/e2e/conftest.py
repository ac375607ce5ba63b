"""A running server and a real browser: without Chromium skipped, under CI failed."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TWO_FRAMES = """new Promise(done =>
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"""
QUIET_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find_chromium() -> str | None:
    """Path of a Chromium on this machine; MLA_VIZ_CHROMIUM names another."""
    named = os.environ.get("MLA_VIZ_CHROMIUM")
    return named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(port: int, folder: Path = ROOT) -> subprocess.Popen:
    """Start the app of a folder and wait until it answers."""
    command = [sys.executable, "-m", "streamlit", "run", "app.py"]
    options = ["--server.port", str(port), "--server.headless", "true"]
    server = subprocess.Popen([*command, *options], cwd=folder, stdout=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://localhost:{port}/_stcore/health").close()
        except OSError:
            time.sleep(0.2)
        else:
            return server
    server.kill()
    raise RuntimeError("the app did not answer within a minute")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        message = "no Chromium on this machine (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def app_url(chromium: Browser) -> Iterator[str]:  # noqa: ARG001
    port = free_port()
    server = start_server(port)
    yield f"http://localhost:{port}/"
    server.terminate()
    server.wait()


DRAWN = """player => [...player.querySelectorAll("canvas")].every(canvas => {
    const width = canvas.parentElement.clientWidth * devicePixelRatio;
    return canvas.width === Math.round(width) || width === 0;
})"""  # at the size of its place: what is out of sight is drawn last


class Visit:
    """A page of the app, what went wrong in it, and what it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.sent = 0
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)
        page.on("websocket", lambda socket: socket.on("framesent", self._count))

    def _console(self, message) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _request(self, request) -> None:
        if not request.url.startswith(("http://localhost", "data:", "blob:")):
            self.foreign.append(request.url)

    def _count(self, _) -> None:
        self.sent += 1

    def open(self, url: str, *, first: bool = False) -> "Visit":
        """The page, at the run's last step where the address names none; `first`: as it is."""
        if not first and "step=" not in url:
            url += f"{'&' if '?' in url else '?'}step=9999"
        self.page.goto(url)
        self.page.wait_for_selector("[data-testid=player][data-steps]", timeout=60_000)
        self.settle()
        self.page.wait_for_function(DRAWN, arg=self.player.element_handle(), timeout=60_000)
        self.page.evaluate(TWO_FRAMES)
        return self

    def settle(self) -> None:
        """Wait until the server has answered everything."""
        self.page.wait_for_selector(
            "[data-testid=stApp][data-test-connection-state=CONNECTED]"
            "[data-test-script-state=notRunning]",
            timeout=60_000,
        )

    @property
    def player(self):
        return self.page.get_by_test_id("player")

    def value(self, name: str) -> str:
        return self.player.get_attribute(f"data-{name}")

    @property
    def step(self) -> int:
        """The step in sight, once what was pressed before is drawn."""
        self.page.evaluate(TWO_FRAMES)
        return int(self.value("step"))

    def wait_for(self, **values: object) -> None:
        """Wait until the player's data attributes have these values."""
        for name, value in values.items():
            selector = f'[data-testid=player][data-{name.replace("_", "-")}="{value}"]'
            self.page.wait_for_selector(selector, timeout=60_000)

    def button(self, name: str):
        return self.player.get_by_label(name, exact=True)


@pytest.fixture
def visit(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A fresh visitor; an indirect parameter sets the browser context."""
    options = {"viewport": {"width": 1440, "height": 1000}} | getattr(request, "param", {})
    context = chromium.new_context(**options)
    yield Visit(context.new_page())
    context.close()
