"""The page's quantities, measured in a real browser: `python -m tests.e2e.bench`."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from mla_viz.bench.engine import report, summary
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.e2e.conftest import (
    QUIET_FLAGS,
    TWO_FRAMES,
    Visit,
    find_chromium,
    free_port,
    start_server,
)

SESSIONS, MINUTES = 10, 3
# A frame is done when the task behind its animation callbacks runs.
PRESS_AND_WAIT = """async (player, key) => {
  const times = [];
  for (let i = 0; i < 64; i += 1) {
    const began = performance.now();
    player.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  return times;
}"""


def p95(values: list[float]) -> float:
    """The 95th percentile, by the nearest rank."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def with_p95(values: list[float], unit: str) -> str:
    """Median, range and 95th percentile."""
    return f"p95 {p95(values):.3g} {unit}, median {summary(values, unit)}"


def bench_steps(visit: Visit, url: str) -> None:
    """Steps and playing at 4,096 cached tokens, 16 heads, one layer."""
    prompt = " a" * 4032
    visit.open(url + "?source=synthetic&heads=16&layers=1&latent=64&max_new_tokens=65")
    area = visit.page.get_by_label("Prompt")
    area.fill(prompt)
    area.press("Control+Enter")
    visit.page.get_by_text("This run will take about").or_(
        visit.page.get_by_text("Decoding: step")
    ).first.wait_for()
    if (agree := visit.page.get_by_role("button", name="Decode", exact=True)).count():
        agree.click()
    visit.page.wait_for_function(STEPS, arg="4096", timeout=300_000)
    visit.settle()
    page = visit.page
    visit.player.press("End")  # a new prompt starts at its start
    sent = visit.sent
    back = visit.player.evaluate(PRESS_AND_WAIT, "ArrowLeft")
    forward = visit.player.evaluate(PRESS_AND_WAIT, "ArrowRight")
    name = f"input to paint, step {visit.value('steps')}, 16 heads"
    report(name, "33 ms p95", with_p95(back + forward, "ms"))
    report("frames sent to the server in those steps", "0", str(visit.sent - sent))
    report("playing at speed 8 and over, frames a second", ">= 30", frame_rate(page, visit))


def frame_rate(page: Page, visit: Visit) -> str:
    """Paints a second while every frame shows another step."""
    scrub = """async () => {
      const root = [...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean)
        .map(r => r.querySelector('[data-testid=player]')).find(Boolean);
      const began = performance.now(), count = 120;
      for (let i = 0; i < count; i += 1) {
        const key = i < count / 2 ? 'ArrowLeft' : 'ArrowRight';
        root.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        await new Promise(requestAnimationFrame);
      }
      return count / (performance.now() - began) * 1000;
    }"""
    visit.player.focus()
    return f"{statistics.median(page.evaluate(scrub) for _ in range(5)):.1f} (median of 5)"


LONG = " a" * 180
FRAMES = """async player => {
  const [times, until] = [[], performance.now() + 11000];
  player.querySelector('[data-action=phases]').click();
  while (performance.now() < until) times.push(await new Promise(requestAnimationFrame));
  return times.slice(1).map((time, at) => time - times[at]);
}"""


def bench_phases(visit: Visit, url: str) -> None:
    """The inside of a step, all six phases played at speed 1, twice."""
    for query in ("?step=57", f"?prompt={LONG}&max_new_tokens=65&step=999"):
        visit.open(f"{url}{query}&phase=6")
        steps = visit.value("steps")
        visit.player.locator(".inside canvas").scroll_into_view_if_needed()
        sent = visit.sent
        frames = [ms for _ in range(2) for ms in visit.player.evaluate(FRAMES)]
        per_second = 1000 / statistics.mean(frames)
        name = f"phases played at {steps} tokens"
        report(f"{name}, a frame", "20 ms p95", with_p95(frames, "ms"))
        report(f"{name}, frames a second", ">= 50", f"{per_second:.1f}")
        report("frames sent to the server meanwhile", "0", str(visit.sent - sent))


def bench_rapid_keys(visit: Visit, url: str) -> None:
    """Twenty presses as fast as they come."""
    visit.open(url)
    visit.player.press("Home")
    for _ in range(20):
        visit.page.keyboard.press("ArrowRight")
    report("steps lost in 20 rapid key presses", "0", str(20 - visit.step))


def bench_slider(visit: Visit, url: str) -> None:
    """From a key on the Heads slider to the new run on the screen, 64 tokens, each decoded anew."""
    times = []
    for seed in (1, 2):
        visit.open(f"{url}?max_new_tokens=54&latent=64&seed={seed}")
        slider = visit.page.get_by_role("slider", name="Heads")
        for _ in range(7):
            before, began = visit.value("left-bytes"), time.perf_counter()
            slider.press("ArrowLeft")
            visit.page.wait_for_function(CHANGED, arg=before)
            visit.page.evaluate(A_FRAME)
            times.append(time.perf_counter() - began)
            visit.settle()
    report("slider moved to new run painted, 64 tokens", "2.0 s p95", with_p95(times, "s"))


STEPS = """steps => [...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean)
  .map(r => r.querySelector('[data-testid=player]'))
  .some(player => player && player.dataset.steps === steps)"""
CHANGED = """before => [...document.querySelectorAll('*')].map(e => e.shadowRoot).filter(Boolean)
  .map(r => r.querySelector('[data-testid=player]'))
  .some(player => player && player.dataset.leftBytes !== before)"""
A_FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


BARE_PAGE = """import streamlit
SCRIPT = "export default ({parentElement}) => {parentElement.querySelector('p').dataset.steps = 1}"
HTML = "<div data-testid='player'><p data-testid='player'>bare</p></div>"
streamlit.components.v2.component("bare", html=HTML, js=SCRIPT)()
"""


def first_paint(browser: Browser, url: str) -> tuple[float, int]:
    """Seconds until a new visitor sees the player, nothing kept in the browser; Plotly's files."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("[data-testid=player][data-steps]")
    took = time.perf_counter() - began
    context.close()
    return took, sum("lotly" in address for address in requests)


def bench_first_paint(browser: Browser, url: str) -> None:
    """Our page on a warm server, and in turn with it a bare page of one component."""
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(BARE_PAGE, encoding="utf-8")
        port = free_port()
        server = start_server(port, Path(folder))
        for _ in range(9):
            ours.append(first_paint(browser, url))
            bare.append(first_paint(browser, f"http://localhost:{port}/")[0])
        server.terminate()
    times = [seconds for seconds, _ in ours[1:]]
    report("first paint on a warm server", "2.0 s", summary(times, "s"))
    report("the same of a bare Streamlit page with one component", "-", summary(bare[1:], "s"))
    report("requests for Plotly in those", "0", str(sum(files for _, files in ours)))


def from_disk(browser: Browser, file: Path) -> float:
    """Seconds until a run's HTML file is painted, opened in a browser that kept nothing."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, offline=True)
    page = context.new_page()
    began = time.perf_counter()
    page.goto(file.as_uri(), wait_until="commit")
    page.wait_for_selector("[data-testid=player][data-steps]")
    page.evaluate(TWO_FRAMES)
    took = time.perf_counter() - began
    context.close()
    return took


def bench_standalone(browser: Browser) -> None:
    """The example of 57 steps, 5 layers and 8 heads as one HTML file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.html"
        decode(Settings()).save_html(file)
        report("the example as one HTML file", "2.5 MB", f"{file.stat().st_size / 1e6:.2f} MB")
        times = [from_disk(browser, file) for _ in range(12)]
    report("that file opened from disk until painted", "1.5 s", summary(times[1:], "s"))


PAINTED = {
    "quality": (".st-key-family .main-svg", "4.0 s"),
    "absorption": (".st-key-prefill", "-"),
    "claims": (".st-key-verdicts", "-"),
}


def bench_pages(browser: Browser, url: str) -> None:
    """The other pages for new visitors of a warm server."""
    for name, (selector, goal) in PAINTED.items():
        times = []
        for _ in range(6):
            context = browser.new_context(viewport={"width": 1440, "height": 1000})
            page = context.new_page()
            began = time.perf_counter()
            page.goto(url + name, wait_until="commit")
            page.locator(selector).first.wait_for(timeout=60_000)
            times.append(time.perf_counter() - began)
            context.close()
        report(f"{name} page painted on a warm server", goal, summary(times[1:], "s"))


def resident_mib(pid: int) -> float:
    """Memory of a process, as the kernel counts it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def bench_sessions(browser: Browser, url: str, pid: int) -> None:
    """Ten visitors, each moving a slider every five seconds."""
    visits = [Visit(browser.new_context().new_page()).open(url) for _ in range(SESSIONS)]
    start, waits, errors = resident_mib(pid), [], 0
    end, turn = time.monotonic() + 60 * MINUTES, 0
    while time.monotonic() < end:
        began = time.monotonic()
        for i, visit in enumerate(visits):
            key = "ArrowLeft" if (turn // 6 + i) % 2 else "ArrowRight"
            visit.page.get_by_role("slider", name="Latent dim").press(key)
        for visit in visits:
            visit.settle()
        waits.append(time.monotonic() - began)
        time.sleep(max(0.0, 5 - waits[-1]))
        turn += 1
    errors = sum(len(visit.errors) for visit in visits)
    name = f"{SESSIONS} sessions, {turn} rounds in {MINUTES} min: all answered after"
    report(name, "every change", with_p95(waits, "s"))
    report("errors in their consoles", "0", str(errors))
    report(
        "server memory before and after", "bounded", f"{start:.0f} and {resident_mib(pid):.0f} MiB"
    )


def main() -> None:
    """Run every browser benchmark."""
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium on this machine: browser benchmarks left out")
    port = free_port()
    server, url = start_server(port), f"http://localhost:{port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET_FLAGS)
        wide = {"viewport": {"width": 1440, "height": 1000}}
        for bench in (bench_rapid_keys, bench_phases, bench_slider, bench_steps):
            context = browser.new_context(**wide)
            bench(Visit(context.new_page()), url)
            context.close()
        bench_first_paint(browser, url)
        bench_standalone(browser)
        bench_pages(browser, url)
        bench_sessions(browser, url, server.pid)
        browser.close()
    server.terminate()


if __name__ == "__main__":
    main()
