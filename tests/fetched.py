"""A tiny model in the place of the one that may be fetched, as if it had been."""

from hashlib import sha256

from mla_viz.model.sources import find_source
from mla_viz.pretrained import fetch, pins
from mla_viz.pretrained.pins import Pinned, Pretrained, Wheel
from tests import llamas
from tests.test_fetch import write_bases


def place_tiny(folder, data_folder, monkeypatch):
    """Its files in a cache folder, its pins in the table, bases that fit it; where it lies."""
    file = llamas.write_gguf(folder / "tiny.gguf", llamas.llama())
    raw = file.read_bytes()
    pinned = Pinned(file.name, len(raw), sha256(raw).hexdigest())
    made = Pretrained(
        "smollm2", "Tiny", "some/model", "0" * 40, (pinned,), Wheel("", pinned, "", pinned)
    )
    for where in (pins.PRETRAINED, fetch.PRETRAINED):
        monkeypatch.setitem(where, "smollm2", made)
    monkeypatch.setenv("MLA_VIZ_CACHE", str(folder / "cache"))
    place = folder / "cache" / "smollm2"
    place.mkdir(parents=True)
    file.rename(place / file.name)
    write_bases(data_folder, 2, 64)
    find_source.cache_clear()
    return place
