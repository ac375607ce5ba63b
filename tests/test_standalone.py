"""A run as one HTML file: it holds the run and the player, and nothing else is needed."""

import base64
import gzip
import re
import tomllib

import numpy as np
import pytest

from mla_viz.cli import main
from mla_viz.player.payload import pack_run
from mla_viz.player.standalone import COLOURS, THEMES, framed, standalone
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.golden import SAME
from tests.screens import ROOT

HOSTILE = '</title><script>alert(1)</script> <!--data--> "quoted" & \u202e'
SMALL = {"source": "synthetic", "max_new_tokens": 2}


def inside(page, opening, closing):
    return page.split(opening, 1)[1].split(closing, 1)[0]


@pytest.mark.parametrize("length", [*range(40, 49), 100_003])
def test_the_file_holds_the_payload_bit_for_bit(length):
    payload = np.random.default_rng(length).bytes(length)
    page = standalone(payload, "x")
    squeezed = base64.b64decode(inside(page, '<script type="text/plain" id="run">', "</script>"))
    planes = np.frombuffer(gzip.decompress(squeezed), dtype=np.uint8).reshape(4, -1)
    assert planes.T.tobytes()[:length] == payload
    assert f"const SIZE = {length};" in page


def test_equal_runs_give_equal_files():
    assert standalone(pack_run(SAME), "x") == standalone(pack_run(SAME), "x")


def test_it_asks_nobody_and_a_prompt_is_text():
    page = standalone(pack_run(SAME), HOSTILE)
    outside = r"(?:src|href)\s*=(?! URL\.createObjectURL)|@import|url\(|https?://(?!www\.w3\.org)"
    assert not re.search(outside, page)
    assert page.count("</script>") == 2
    title = inside(page, "<title>", "</title>")
    assert title.startswith("mla-viz: &lt;/title&gt;&lt;script&gt;alert(1)")
    assert not re.search("<!--[a-z]+-->", page)


def test_its_colours_are_those_of_the_app():
    text = (ROOT / ".streamlit/config.toml").read_text(encoding="utf-8")
    theme = tomllib.loads(text)["theme"]
    names = [re.sub("-(.)", lambda m: m[1].upper(), f"{name}-color") for name in COLOURS]
    for kind, colours in THEMES.items():
        assert [theme[kind][name] for name in names] == list(colours)


def test_the_example_takes_less_than_four_megabytes(tmp_path):
    decode(Settings()).save_html(tmp_path / "run.html")
    assert 1e6 < (tmp_path / "run.html").stat().st_size < 4e6


def test_a_notebook_shows_it_in_a_frame():
    run = decode("Hi", **SMALL)
    shown = run._repr_html_()
    assert shown == framed(standalone(pack_run(run), "Hi"))
    assert shown.count("<") == 2
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')


def test_the_command_line_writes_it_and_prints_as_before(tmp_path, capsys):
    file = tmp_path / "run.html"
    options = ["decode", "Hi", "--source", "synthetic", "--max-new-tokens", "2"]
    main([*options, "--html", str(file)])
    printed = capsys.readouterr().out
    main(options)
    assert printed.splitlines()[0] == capsys.readouterr().out.splitlines()[0]
    assert "mlaVizPlayer" in file.read_text(encoding="utf-8")
