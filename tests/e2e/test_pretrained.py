"""A pretrained model in a browser: its rank moved, its ranks pooled, its texts side by side."""

import os
import pickle
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from mla_viz.model.latent import bases, pooled_ranks
from mla_viz.model.sources import find_source
from mla_viz.pretrained import pins
from tests.conftest import SHIPPED
from tests.e2e.conftest import ROOT, free_port, start_server
from tests.fetched import place_tiny

# In the server and in its workers a tiny model stands in the pinned one's place.
STANDS_IN = """
import pickle
from pathlib import Path
from mla_viz import shipped
from mla_viz.pretrained import pins

pins.PRETRAINED["smollm2"] = pickle.loads({model!r})
shipped.DATA = Path({data!r})
shipped.checksums = dict
shipped._fault = lambda _: None
"""
ASKED = "?source=smollm2&latent=20&ranks=pooled&max_new_tokens=4&prompt=the&step=3"


@pytest.fixture(scope="module")
def tiny_url(chromium, tmp_path_factory) -> Iterator[str]:  # noqa: ARG001
    folder, port = tmp_path_factory.mktemp("tiny"), free_port()
    data = folder / "data"
    data.mkdir()
    for file in SHIPPED.iterdir():
        (data / file.name).symlink_to(file)
    with pytest.MonkeyPatch.context() as patch:
        place_tiny(folder, data, patch)
        words = STANDS_IN.format(model=pickle.dumps(pins.PRETRAINED["smollm2"]), data=str(data))
        (folder / "sitecustomize.py").write_text(words, encoding="utf-8")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        server = start_server(port)
    for cached in (find_source, bases, pooled_ranks):
        cached.cache_clear()
    yield f"http://localhost:{port}/"
    server.terminate()
    server.wait()


def cached_by(visit, layer):
    """Values that the right side caches of a token in a layer, as its caption has it."""
    visit.player.get_by_label("Layer", exact=True).select_option(label=str(layer))
    caption = visit.player.locator(".panel.right .cache .caption")
    expect(caption).to_have_text(re.compile(rf"Cache, layer {layer}: 3 tokens × \d+ values?$"))
    return int(caption.inner_text().split()[-2])


def test_a_rank_is_moved_and_pooled_and_every_layer_shows_its_own(visit, tiny_url):
    visit.open(tiny_url + ASKED)
    verdict = visit.player.locator(".verdict")
    expect(verdict).to_have_text("≈ one model, one cache cut to 20 on average")
    assert visit.page.get_by_text("by itself, ").count() == 2
    visit.page.get_by_role("slider", name="Latent dim").press("ArrowRight")
    expect(verdict).to_have_text("≈ one model, one cache cut to 21 on average")
    pooled = [cached_by(visit, layer) for layer in (1, 2)]
    assert (sum(pooled), pooled[0] < pooled[1]) == (42, True)
    assert int(visit.value("right-bytes")) == 4 * 3 * 42
    visit.page.get_by_label("Rank of a layer").click()
    visit.page.get_by_role("option", name="each the same").click()
    expect(verdict).to_have_text("≈ one model, one cache cut to 21")
    assert [cached_by(visit, layer) for layer in (1, 2)] == [21, 21]
    assert int(visit.value("right-bytes")) == 4 * 3 * 42
    assert "ranks=" not in visit.page.url
    assert visit.errors == []
