"""A run as one HTML file: it holds the run and the player, and nothing else is needed."""

import base64
import re
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from mla_viz.cli import main
from mla_viz.player import standalone as room
from mla_viz.player.payload import pack_run
from mla_viz.player.standalone import framed, standalone
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from tests.golden import ABSORBED, MODELS, NAIVE, SAME
from tests.node import node

HOSTILE = '</title><script>alert(1)</script> <!--data--> "quoted" & \u202e'
SMALL = {"source": "synthetic", "max_new_tokens": 2}


def inside(page, opening, closing):
    return page.split(opening, 1)[1].split(closing, 1)[0]


def data_of(page):
    return inside(page, '<script type="text/plain" id="run">', "</script>")


def any_bits(array):
    """An array of the same shape whose bits are any, not those of numbers alone."""
    bits = np.random.default_rng(0).integers(0, 2**32, array.shape, dtype=np.uint32)
    return bits.view(np.float32)


def altered(**vectors):
    return replace(SAME, right=replace(ABSORBED, vectors=replace(ABSORBED.vectors, **vectors)))


RUNS = {
    "one model": SAME,
    "two models": MODELS,
    "any bits": altered(x=any_bits(ABSORBED.vectors.x), q=any_bits(ABSORBED.vectors.q)),
    # The place of left's `out` is written as a difference, and right's `out` as one from it.
    "an array of the other side": altered(
        x=NAIVE.vectors.out, out=any_bits(ABSORBED.vectors.out), q=2 * NAIVE.vectors.q
    ),
}
UNPACK = """
globalThis.document = { addEventListener: () => {} };
SCRIPT
unpacked("DATA").then((bytes) => console.log(Buffer.from(bytes).toString("base64")));
"""


@pytest.mark.parametrize("name", RUNS)
def test_the_file_holds_the_payload_bit_for_bit(name):
    payload = pack_run(RUNS[name])
    page = standalone(payload, "x")
    script = UNPACK.replace("SCRIPT", inside(page, "<script>", "</script>"))
    result = node("--input-type=commonjs", "-", text=script.replace("DATA", data_of(page)))
    assert result.stderr == ""
    assert base64.b64decode(result.stdout) == payload


def test_two_models_have_nothing_alike():
    assert "const TWINS = [];" in standalone(pack_run(MODELS), "x")


def test_equal_runs_give_equal_files():
    assert standalone(pack_run(SAME), "x") == standalone(pack_run(SAME), "x")


def test_it_asks_nobody_and_a_prompt_is_text():
    page = standalone(pack_run(SAME), HOSTILE)
    assert not re.search(r"<[^>]+ (?:src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org)", page)
    assert page.count("</script>") == 2
    title = inside(page, "<title>", "</title>")
    assert title.startswith("mla-viz: &lt;/title&gt;&lt;script&gt;alert(1)")
    assert not re.search("<!--[a-z]+-->", page)


def test_its_policy_lets_its_own_script_and_style_in_and_nothing_else():
    page = standalone(pack_run(SAME), HOSTILE)
    texts = [inside(page, f"<{tag}>", f"</{tag}>") for tag in ("script", "style")]
    script, style = (base64.b64encode(sha256(text.encode()).digest()).decode() for text in texts)
    policy = f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert not re.search(r"<[^>]+ (?:on\w+|style)=", page)


COLOURS = """
[theme.light]
primaryColor = "#010203"
secondaryBackgroundColor = "#040506"
[theme.dark]
primaryColor = "#070809"
"""


def test_its_colours_are_those_of_the_app(tmp_path, monkeypatch):
    assert "--st-background-color: #0e131a;" in standalone(pack_run(SAME), "x")
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text(COLOURS, encoding="utf-8")
    monkeypatch.setattr(room, "APP", tmp_path)
    style = inside(standalone(pack_run(SAME), "x"), "<style>", "</style>")
    light = "--st-primary-color: #010203; --st-secondary-background-color: #040506;"
    dark = "@media (prefers-color-scheme: dark) { :root { --st-primary-color: #070809; } }"
    assert style.startswith(f":root {{ {light} }}\n{dark}\n")


def test_the_example_takes_less_than_two_and_a_half_megabytes(tmp_path):
    decode(Settings()).save_html(tmp_path / "run.html")
    assert 1e6 < (tmp_path / "run.html").stat().st_size < 2.5e6


def test_a_notebook_shows_it_in_a_frame():
    run = decode("Hi", **SMALL)
    shown = run._repr_html_()
    assert shown == framed(standalone(pack_run(run), "Hi"))
    assert shown.count("<") == 2
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert shown.partition('" ')[2].startswith('sandbox="allow-scripts allow-downloads" ')


def test_the_command_line_writes_it_and_prints_as_before(tmp_path, capsys):
    file = tmp_path / "run.html"
    options = ["decode", "Hi", "--source", "synthetic", "--max-new-tokens", "2"]
    main([*options, "--html", str(file)])
    printed = capsys.readouterr().out
    main(options)
    assert printed.splitlines()[0] == capsys.readouterr().out.splitlines()[0]
    assert "mlaVizPlayer" in file.read_text(encoding="utf-8")
