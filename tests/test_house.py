"""The README and the import contract hold."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import stdev

import pytest

import mla_viz
from mla_viz.findings.family import load_family
from mla_viz.findings.scores import load_grid
from mla_viz.words import share_text

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FAMILY_DOC = (ROOT / "docs" / "family.md").read_text(encoding="utf-8")


def test_every_path_of_the_tree_exists_and_none_is_missing():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## The rooms")[1].split("##")[0]
    named = set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))
    assert {p for p in named if not (ROOT / p).exists()} == set()
    modules = {
        f"mla_viz/{p.name}{'/' if p.is_dir() else ''}"
        for p in (ROOT / "mla_viz").iterdir()
        if not p.name.startswith("__")
    }
    assert modules - named == set()


def test_every_link_of_the_documents_leads_somewhere():
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), (file.name, target)


def test_the_readme_stays_short():
    assert README.count("\n") < 120


def test_no_text_is_read_or_written_in_the_encoding_of_the_place():
    rooms = ("mla_viz", "pages", "tests", "train")
    for file in (file for room in rooms for file in (ROOT / room).rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_bytes())):
            said = [keyword.arg for keyword in getattr(call, "keywords", ())]
            if getattr(getattr(call, "func", None), "attr", "") in ("read_text", "write_text"):
                assert "encoding" in said, f"{file.relative_to(ROOT)}:{call.lineno}"


def test_imports_run_one_way():
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([lint], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stdout


def test_the_readme_numbers_of_the_example_are_true():
    run = mla_viz.decode("Once upon a time", source="synthetic", max_new_tokens=2)
    for name, side in (("left", run.left), ("right", run.right)):
        printed = re.search(rf"run\.{name}\.cache_elems +# (\d+)", README)[1]
        assert int(printed) == side.cache_elems


def test_the_readme_commands_are_the_makefile_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = (file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md"))
    documents = [README, *texts]
    for target in re.findall(r"^    make (\w+)", "\n".join(documents), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_printed_scores_of_the_family_are_the_committed_ones():
    for m in load_family().members:
        losses = f"{m.mean('nats_per_token'):.3f} | {m.mean('bits_per_byte'):.3f}"
        pairs = f"{m.mean('repeated'):.2f} | {m.mean('novel'):.2f}"
        alike = f"{m.content_keys:.2f} | {m.mean('values'):.2f}"
        recall = share_text(m.mean("name_recall"), m.recall_error)
        row = f"{m.label} | {m.cache_elems} | {losses} | {pairs} | {recall} | {alike}"
        assert f"\n| {row} |\n" in FAMILY_DOC


@pytest.mark.parametrize(
    ("document", "read", "log"),
    [("family", load_family(), "family/member-mha-seed0"), ("sliders", load_grid(), "stories")],
)
def test_the_printed_passes_over_the_text_are_those_of_the_training(document, read, log):
    logged = json.loads((ROOT / "train" / "logs" / f"{log}.json").read_text(encoding="utf-8"))
    tokens, passes = logged["text_tokens"], logged["recipe"]["tokens"] / logged["text_tokens"]
    assert (read.text_tokens, read.passes) == (tokens, passes)
    text = " ".join((ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8").split())
    assert f"{passes:.2f} passes over a text of {tokens / 1e6:.2f}M" in text


def test_the_printed_map_is_the_committed_one():
    text = (ROOT / "docs" / "sliders.md").read_text(encoding="utf-8")
    latents = [int(n) for n in re.search(r"heads \\ latent dim \|(.+)\|\n", text)[1].split("|")]
    grid = load_grid()
    for heads in (1, 2, 4, 8):
        losses = " | ".join(f"{grid.loss(heads, latent):.3f}" for latent in latents)
        assert f"\n| {heads} | {losses} |\n" in text


def test_the_printed_spread_of_the_trials_is_the_measured_one():
    trials = load_family().repeated_trials()
    mha, mla = trials["mha"], trials["mla-32-rope16"]
    readme = " ".join(FAMILY_DOC.split())
    assert f"spread by {stdev(mha.values()):.3f} and {stdev(mla.values()):.3f} nats" in readme
    behind = [f"{mla[seed] - mha[seed]:.3f}" for seed in (0, 1, 2)]
    assert f"behind by {behind[0]}, {behind[1]} and {behind[2]}" in readme
