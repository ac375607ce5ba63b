"""What is taken along, in a real browser: each file opened, and held against the run that it shows.

On the page and in the standalone file, which has no network.
"""

import csv
import io
import re
from base64 import b64encode
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from mla_viz.figures.quality import family_numbers, likeness_numbers, loss_grid_numbers
from mla_viz.findings.family import load_family
from mla_viz.findings.scores import load_grid
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.e2e.conftest import TWO_FRAMES, Visit

pytestmark = pytest.mark.filterwarnings("default")
STEP, LAYER, HEAD = 20, 1, 2
OPEN = f"?step={STEP + 1}&layer={LAYER + 1}&head={HEAD + 1}&phase=6"
SVG = "{http://www.w3.org/2000/svg}"
GUTTER, MARGIN = 34, 16
PICTURES = {
    ".inside": f"inside-step-{STEP}-layer-{LAYER}-head-{HEAD}",
    ".growth": f"growth-step-{STEP}",
    ".panel.left .cache": f"cache-left-step-{STEP}-layer-{LAYER}",
    ".panel.right .heads": f"heads-right-step-{STEP}-layer-{LAYER}",
    ".panel.right .triangle": f"triangle-right-step-{STEP}-layer-{LAYER}-head-{HEAD}",
}


@pytest.fixture(scope="module")
def run():
    return decode(Settings())


@pytest.fixture(scope="module", params=["page", "file"])
def visit(request, chromium, run, tmp_path_factory) -> Iterator[Visit]:
    """The step opened on the app's page, and in the file that a run is taken along as."""
    offline = request.param == "file"
    context = chromium.new_context(viewport={"width": 1440, "height": 1400}, offline=offline)
    visit = Visit(context.new_page())
    if offline:
        path = tmp_path_factory.mktemp("take") / "run.html"
        run.save_html(path)
        visit.page.goto(path.as_uri() + OPEN)
        visit.wait_for(step=STEP)
        visit.page.evaluate(TWO_FRAMES)
    else:
        visit.open(request.getfixturevalue("app_url") + OPEN)
    yield visit
    assert visit.errors == []
    assert [url for url in visit.foreign if not url.startswith("file:")] == []
    context.close()


def take(visit, picture, kind) -> tuple[str, bytes]:
    """A file's name and content, through the picture's menu."""
    place, sent = visit.player.locator(picture), visit.sent
    place.get_by_role("button", name="Save").click()
    with visit.page.expect_download() as download:
        place.get_by_role("button", name=f"{kind} of").click()
    assert visit.sent == sent
    return download.value.suggested_filename, download.value.path().read_bytes()


def rows_of(visit, picture) -> dict[str, list[str]]:
    """The lines of a picture's CSV below its head, by their names."""
    _, content = take(visit, picture, "CSV")
    _, *lines = csv.reader(io.StringIO(content.decode(), newline=""))
    return {name: cells for name, *cells in lines}


def numbers(cells) -> list[float]:
    return [float(cell) for cell in cells if cell]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_as_png_is_twice_as_large_and_opaque_and_not_blank(visit, picture):
    name, content = take(visit, picture, "PNG")
    assert name == f"mla-viz-{PICTURES[picture]}.png"
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    box = visit.player.locator(f"{picture} canvas").bounding_box()
    assert image.width == 2 * (round(box["width"]) + 2 * MARGIN)
    assert 2 * 70 < image.height - 2 * box["height"] < 2 * 300  # the words above it
    pixels = np.asarray(image)
    assert (pixels[..., 3] == 255).all()
    assert tuple(pixels[1, 1, :3]) == (255, 255, 255)
    picture_rows = pixels[-round(2 * (box["height"] + MARGIN)) :]
    assert len(np.unique(picture_rows.reshape(-1, 4), axis=0)) > 10
    assert (picture_rows != 255).any(axis=-1).mean() > 0.03


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_as_svg_holds_its_shapes_and_says_what_it_is(visit, run, picture):
    name, content = take(visit, picture, "SVG")
    assert name == f"mla-viz-{PICTURES[picture]}.svg"
    root = ElementTree.fromstring(content)
    assert root.find(f".//{SVG}image") is None
    kinds = {node.tag.removeprefix(SVG) for node in root.iter()}
    assert {"title", "rect", "path", "text"} <= kinds
    said = " ".join(node.text for node in root.iter(f"{SVG}text"))
    assert f"Step {STEP + 1} of {run.n_steps} feeds token {STEP + 1}" in said
    sides = [side for side in ("left", "right") if f".{side} " in picture] or ["left", "right"]
    for side in sides:
        assert MECHANISMS[getattr(run, side).mechanism].label in said
    ground = root.find(f"{SVG}rect")
    size = [root.get("width"), root.get("height")]
    assert [ground.get("width"), ground.get("height"), ground.get("fill")] == [*size, "#ffffff"]


def colours(group, points) -> list[tuple[int, ...]]:
    """What an image that became rectangles has at points of its own pixels."""
    cells = [
        (*map(int, re.fullmatch(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", cell).groups()), path)
        for path in group.iter(f"{SVG}path")
        for cell in re.findall(r"M[^M]+", path.get("d"))
    ]
    found = []
    for x, y in points:
        (path,) = [p for left, top, w, h, p in cells if 0 <= x - left < w and 0 <= y - top < h]
        found.append(tuple(bytes.fromhex(path.get("fill")[1:])))
    return found


def test_the_rectangles_of_an_attention_map_have_the_colours_of_its_weights(visit, run):
    root = ElementTree.fromstring(take(visit, ".panel.right .triangle", "SVG")[1])
    (group,) = [g for g in root.iter(f"{SVG}g") if g.get("shape-rendering")]
    along, down = map(float, re.search(r"scale\((\S+) (\S+)\)", group.get("transform")).groups())
    canvas = visit.player.locator(".panel.right .triangle canvas").bounding_box()
    width, height = canvas["width"] - GUTTER - 2, canvas["height"] - 4
    rows = (0, 7, STEP)
    for row in rows:
        y = int((row + 0.4) * height / run.n_steps / down)
        xs = [int((key + 0.4) * width / run.n_steps / along) for key in range(row + 1)]
        levels = np.round(run.right.probs.row(row)[LAYER, HEAD] * 255)
        found = np.array(colours(group, [(x, y) for x in xs]), dtype=float)
        faint, strong = np.array(palette(visit))
        wanted = faint + (strong - faint) * levels[:, None] / 255
        assert np.abs(found - wanted).max() <= 1.5


def palette(visit) -> list[list[int]]:
    """The two ends of the right side's scale, as the style sheet has them."""
    panel = visit.player.locator(".panel.right .ramp")
    said = panel.evaluate("e => getComputedStyle(e).backgroundImage")
    return [
        [int(x) for x in re.findall(r"\d+", end)] for end in re.findall(r"rgb\(([^)]+)\)", said)
    ]


def test_csv_of_attention_is_the_runs_own(visit, run):
    probs = run.right.probs
    heads = rows_of(visit, ".panel.right .heads")
    assert np.float32([numbers(cells) for cells in heads.values()]).shape == (8, STEP + 1)
    for head, cells in enumerate(heads.values()):
        assert np.array_equal(np.float32(numbers(cells)), probs.row(STEP)[LAYER, head])
    queries = list(rows_of(visit, ".panel.right .triangle").values())
    assert len(queries) == STEP + 1
    for back, cells in enumerate(queries):
        weights = probs.row(STEP - back)[LAYER, HEAD]
        assert np.array_equal(np.float32(numbers(cells)), weights)


def test_csv_of_caches_is_the_runs_own(visit, run):
    lines = list(rows_of(visit, ".growth").values())
    left, right = run.left.cache_bytes, run.right.cache_bytes
    wanted = [[left[step], right[step]] for step in range(STEP, -1, -1)]
    assert [[int(cell) for cell in cells[:2]] for cells in lines] == wanted
    cells = run.left.cells
    low, high = map(float, cells.low_high[LAYER])
    told = [x for cells in rows_of(visit, ".panel.left .cache").values() for x in numbers(cells)]
    wanted = low + (high - low) * cells.data[LAYER, STEP] / 255
    assert told == pytest.approx(wanted, rel=1e-6, abs=1e-7)


def test_csv_of_the_open_step_is_what_python_reads_out(visit, run):
    inside, rows = run.inside(STEP, LAYER, HEAD), rows_of(visit, ".inside")
    naive, absorbed = inside.left, inside.right
    wanted = {
        "naive: x": naive.x,
        "naive: q": naive.q,
        f"naive: K, head {HEAD + 1}, token 3": naive.keys[2],
        "naive: V, token 3": naive.values[2],
        "naive: score": naive.scores,
        "naive: weight": naive.probs,
        "absorbed: q̃ | q_R": absorbed.q_latent,
        "absorbed: latents, for all heads, token 21": absorbed.keys[20],
        "absorbed: õ": absorbed.mix,
        "absorbed: o": absorbed.o_head,
        "absorbed: out": absorbed.out,
    }
    assert wanted.keys() <= rows.keys(), rows.keys()
    for name, values in wanted.items():
        assert numbers(rows[name]) == pytest.approx(values, rel=1e-4, abs=1e-5), name


def test_the_menu_is_reached_by_keys_lies_over_the_page_and_gives_the_focus_back(visit):
    place = visit.player.locator(".panel.left .cache")
    toggle, menu = place.get_by_role("button", name="Save"), place.locator(".formats")
    toggle.focus()
    canvas = place.locator("canvas").bounding_box()
    visit.page.keyboard.press("Space")
    expect(menu).to_be_visible()
    assert place.locator("canvas").bounding_box() == canvas
    visit.page.keyboard.press("Tab")
    expect(menu.get_by_role("button", name="PNG")).to_be_focused()
    visit.page.keyboard.press("Escape")
    expect(toggle).to_be_focused()
    expect(menu).to_be_hidden()
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Shift+Tab")
    expect(menu).to_be_hidden()
    assert visit.step == STEP


def test_on_a_phone_every_menu_lies_within_the_page(visit):
    visit.page.set_viewport_size({"width": 390, "height": 844})
    for place in visit.player.locator(".save").all():
        place.get_by_role("button", name="Save").click()
        box = place.locator(".formats").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        visit.page.keyboard.press("Escape")
    visit.page.set_viewport_size({"width": 1440, "height": 1400})


# A film and a picture, as base64: what the browser says of the film, and how far its last frame is
# from the picture, its first one too, in shades of 255.
PLAYED = """async ([film, picture]) => {
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const video = document.createElement('video');
  video.muted = true;
  video.src = URL.createObjectURL(new Blob([bytes(film)], {type: 'video/webm'}));
  await new Promise((done, failed) => {
    video.onloadeddata = done;
    video.onerror = () => failed(Error(video.error.message));
  });
  const {videoWidth: width, videoHeight: height, duration} = video;  // before it is played
  const shades = source => {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d');
    context.drawImage(source, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
  const image = shades(await createImageBitmap(new Blob([bytes(picture)])));
  const far = frame =>
    frame.reduce((sum, x, at) => sum + Math.abs(x - image[at]), 0) / frame.length;
  video.currentTime = 0.1;
  await new Promise(done => { video.onseeked = done; });
  const first = far(shades(video));
  await video.play();
  await new Promise(done => { video.onended = done; });
  return {duration, width, height, first, last: far(shades(video))};
}"""


def film_form(visit):
    """The form of the film, open."""
    place = visit.player.locator(".inside")
    if not place.locator(".film").is_visible():
        place.get_by_role("button", name="Film of the phases").click()
    return place.locator(".film")


def test_a_film_plays_and_ends_as_the_picture_of_its_step(visit):
    visit.player.get_by_label("Speed").select_option("8")
    form, sent = film_form(visit), visit.sent
    expect(form.get_by_label("First step of the film")).to_have_value(str(STEP + 1))
    expect(form.get_by_label("Last step of the film")).to_have_value(str(STEP + 1))
    with visit.page.expect_download(timeout=60_000) as download:
        form.get_by_role("button", name="Record WebM").click()
        expect(form.get_by_role("progressbar")).to_be_visible()
    expect(form.get_by_role("button")).to_have_text("Record WebM")
    name = f"mla-viz-inside-step-{STEP}-layer-{LAYER}-head-{HEAD}.webm"
    assert download.value.suggested_filename == name
    expect(form.get_by_role("status")).to_have_text(f"Saved {name}.")
    film = download.value.path().read_bytes()
    assert film[:4] == b"\x1a\x45\xdf\xa3"  # EBML
    _, picture = take(visit, ".inside", "PNG")
    cinema = visit.page.context.new_page()  # the file itself lets no media in
    played = cinema.evaluate(PLAYED, [b64encode(data).decode() for data in (film, picture)])
    cinema.close()
    image = Image.open(io.BytesIO(picture))
    assert played["width"] / played["height"] == pytest.approx(image.width / image.height, rel=0.01)
    seconds = 6 / (0.5 * 8) + 1
    assert seconds - 0.1 < played["duration"] < seconds + 11  # a slow recorder is waited for
    assert played["last"] < 2 < played["first"], played
    assert played["first"] > 2 * played["last"], played  # a wide page's film has fewer pixels
    assert visit.sent == sent
    assert visit.step == STEP


def test_a_film_of_several_steps_may_be_stopped_and_keeps_what_it_has(visit):
    form = film_form(visit)
    form.get_by_label("Last step of the film").fill("40")
    with visit.page.expect_download(timeout=60_000) as download:
        button = form.get_by_role("button")
        button.click()
        expect(form.locator(".remarks").first).to_contain_text(f"Step {STEP + 2}", timeout=30_000)
        expect(button).to_have_text("Stop and save")
        visit.page.keyboard.press("Enter")  # the focus has stayed on it
    name = f"mla-viz-inside-steps-{STEP}-{STEP + 1}-layer-{LAYER}-head-{HEAD}.webm"
    assert download.value.suggested_filename == name
    form.get_by_label("Last step of the film").fill("99")
    form.get_by_role("button").click()
    expect(form.get_by_role("status")).to_have_text(
        "Expected whole steps from 1 to 57, the first not after the last; got 21 to 99."
    )


def test_without_a_recorder_the_control_says_so(chromium, run, tmp_path):
    run.save_html(tmp_path / "run.html")
    visit = Visit(chromium.new_page())
    visit.page.add_init_script("delete window.MediaRecorder")
    visit.page.goto((tmp_path / "run.html").as_uri() + OPEN)
    visit.wait_for(step=STEP)
    expect(film_form(visit).get_by_role("status")).to_contain_text("cannot record a film")
    visit.page.close()


CHARTS = {
    "family": ("quality", family_numbers(load_family())),
    "likeness": ("quality?section=Likeness+of+heads", likeness_numbers(load_family())),
    "loss_map": ("quality?section=Every+setting", loss_grid_numbers(load_grid())),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_saved_by_its_camera_and_its_numbers_by_a_button(chromium, app_url, name):
    context = chromium.new_context(viewport={"width": 1440, "height": 1400})
    page = context.new_page()
    address, numbers = CHARTS[name]
    page.goto(app_url + address)
    chart = page.locator(f".st-key-{name}")
    width = chart.bounding_box(timeout=60_000)["width"]
    stem = f"mla-viz-{name.replace('_', '-')}"

    def saved(button) -> tuple[str, bytes]:
        with page.expect_download() as download:
            button.click()
        return download.value.suggested_filename, download.value.path().read_bytes()

    camera = chart.get_by_role("button", name="Download plot")
    file, content = saved(camera)
    assert file == f"{stem}.png"
    image = Image.open(io.BytesIO(content))
    assert image.width == 2 * round(width)
    assert len(image.convert("RGB").getcolors(2**24)) > 20
    page.get_by_role("button", name="Save").last.click()
    file, content = saved(page.get_by_role("button", name="Numbers as CSV").last)
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert file == f"{stem}.csv"
    assert rows == [{key: str(x) for key, x in row.items()} for row in numbers]
    page.get_by_role("radio", name="SVG").last.click()
    page.get_by_role("button", name="Save").last.click()
    expect(chart.get_by_role("button", name="Download plot", exact=True)).to_be_visible()
    file, content = saved(camera)
    assert file == f"{stem}.svg"
    root = ElementTree.fromstring(content)
    assert f"{SVG}image" not in {node.tag for node in root.iter()} or name == "loss_map"
    assert {f"{SVG}path", f"{SVG}text"} <= {node.tag for node in root.iter()}
    context.close()
