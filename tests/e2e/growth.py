"""How a traced run and its page grow with the tokens: `python -m tests.e2e.growth`.

Writes docs/growth.csv, and docs/growth.png from it and from the shipped decode steps.
"""

import csv
import statistics
import tempfile
import time
from pathlib import Path

import plotly.graph_objects as go
import torch
from playwright.sync_api import Browser, sync_playwright
from plotly.subplots import make_subplots

from mla_viz.findings.measured import shipped_benches
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.player.payload import pack_run
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.e2e.bench import PRESS_AND_WAIT
from tests.e2e.conftest import QUIET_FLAGS, ROOT, find_chromium

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
LAST = 32  # steps whose median is told
COLUMNS = ("tokens", "left_step_us", "right_step_us", "run_s", "payload_mb", "paint_ms")
SIZE = (1200, 840)
NEUTRAL = "#5d6673"
ABOVE, BELOW = "top right", "bottom right"  # lines that end side by side
BESIDE = {
    "mla_expanded": ABOVE,
    "mla_absorbed": BELOW,
    "a step painted, ms": ABOVE,
    "payload, MB": BELOW,
}
SIDES = {"left_step_us": "mla_expanded", "right_step_us": "mla_absorbed"}


def measure(browser: Browser, tokens: int) -> dict[str, float]:
    """A run of one layer and 16 heads, every attention weight kept, then its page at its end."""
    settings = {"source": "synthetic", "heads": 16, "layers": 1, "latent": 64}
    began = time.perf_counter()
    run = decode(Settings(" a" * (tokens - 33), max_new_tokens=33, **settings))
    took = time.perf_counter() - began
    left, right = (statistics.median(side.time_us[-LAST:].sum(1)) for side in (run.left, run.right))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.html"
        run.save_html(file)
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        page.goto(file.as_uri())
        player = page.locator("[data-testid=player][data-steps]")
        player.press("End", timeout=120_000)
        player.evaluate(PRESS_AND_WAIT, "ArrowLeft")
        paint = statistics.median(player.evaluate(PRESS_AND_WAIT, "ArrowRight"))
        page.context.close()
    values = run.n_steps, left, right, took, len(pack_run(run)) / 1e6, paint
    return dict(zip(COLUMNS, values, strict=True))


def figure(rows: list[dict[str, float]]) -> go.Figure:
    """The decode step as shipped above, the traced run and its page below, all axes logarithmic."""
    titles = (
        "Decode step of DeepSeek-V3, bfloat16: core",
        "Tensors that one such step makes",
        "Traced step of 16 heads, one layer",
        "Its page",
    )
    panels = make_subplots(2, 2, subplot_titles=titles, vertical_spacing=0.16)
    for bench in shipped_benches().values():
        points = [p for p in bench.points if p.part == "core"]
        if len(bench.mechanisms) > 1:
            continue
        tokens, mechanism = [p.context for p in points], points[0].mechanism
        for column, field in ((1, "time_us"), (2, "working_bytes")):
            values = [getattr(p, field) for p in points]
            _draw(panels, (1, column), tokens, values, mechanism)
    tokens = [row["tokens"] for row in rows]
    for field, mechanism in SIDES.items():
        _draw(panels, (2, 1), tokens, [row[field] for row in rows], mechanism)
    for field, words in (("paint_ms", "a step painted, ms"), ("payload_mb", "payload, MB")):
        _draw(panels, (2, 2), tokens, [row[field] for row in rows], words)
    for i, unit in enumerate(("microseconds", "bytes", "microseconds", "ms; MB")):
        at = {"row": i // 2 + 1, "col": i % 2 + 1, "type": "log"}
        panels.update_yaxes(title=unit, dtick=1 if i < 2 else "D2", **at)
        panels.update_xaxes(title="tokens", dtick=1, range=[1.7, 6.2 if i < 2 else 4.5], **at)
    size = {"width": SIZE[0], "height": SIZE[1], "margin": {"t": 50, "r": 20, "b": 50}}
    return panels.update_layout(**size, template="plotly_white", showlegend=False)


def _draw(
    panels: go.Figure, at: tuple[int, int], tokens: list[int], values: list[float], name: str
) -> None:
    """A line that is named at its end; a mechanism has its colour."""
    known = MECHANISMS.get(name)
    text = [""] * (len(values) - 1) + [f" {name}"]
    style = {"color": known.colour.light if known else NEUTRAL}
    line = go.Scatter(x=tokens, y=values, mode="lines+markers+text", text=text)
    line.update(textposition=BESIDE.get(name, "middle right"), line=style, textfont=style)
    panels.add_trace(line, *at)


def main() -> None:
    """Measure every length, and write what came of it."""
    file = ROOT / "docs" / "growth.csv"
    torch.set_num_threads(1)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=QUIET_FLAGS)
        rows = [measure(browser, tokens) for tokens in LENGTHS]
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, COLUMNS)
            writer.writeheader()
            writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
        page = browser.new_page(viewport=dict(zip(("width", "height"), SIZE, strict=True)))
        page.set_content(figure(rows).to_html(include_plotlyjs=True))
        page.wait_for_selector(".main-svg")
        page.screenshot(path=file.with_suffix(".png"))
        browser.close()


if __name__ == "__main__":
    main()
