"""Shipped files: each is held against its checksum when it is loaded, once."""

import shutil

import pytest

from mla_viz import shipped
from mla_viz.cli import main
from mla_viz.config import GQAGeometry
from mla_viz.findings.claims import judge
from mla_viz.findings.cuts import CUTS_FILE, load_cuts
from mla_viz.findings.family import FAMILY_FILE, load_family
from mla_viz.findings.measured import SPEED_FILE, shipped_benches
from mla_viz.findings.quantised import QUANTISED_FILE, load_quantised
from mla_viz.findings.scores import GRID_FILE, load_grid
from mla_viz.model.decoupled import COMPONENTS, components
from mla_viz.model.latent import BASES, bases
from mla_viz.model.sources import MEMBERS, find_source, source_names
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.published.accelerators import accelerators
from mla_viz.published.catalog import published_models
from mla_viz.shipped import CHECKSUMS, DATA, checksums, intact
from mla_viz.ui.absorption.parts import prose
from tests.conftest import forget
from train.checksums import write_checksums

SMOLLM2 = GQAGeometry(576, 9, 3, 64, 100_000.0)

# Who loads each file, past what is kept of an earlier load.
LOADERS = {
    "accelerators.toml": accelerators.__wrapped__,
    "absorption.toml": prose.__wrapped__,
    "claims.toml": judge._prose.__wrapped__,
    FAMILY_FILE: load_family.__wrapped__,
    GRID_FILE: load_grid.__wrapped__,
    QUANTISED_FILE: load_quantised.__wrapped__,
    SPEED_FILE: shipped_benches.__wrapped__,
    "models.toml": published_models.__wrapped__,
    "tokenizer.json": stories_tokenizer.__wrapped__,
    CUTS_FILE: load_cuts.__wrapped__,
    BASES.format("smollm2"): lambda: bases.__wrapped__("smollm2", 30, 384),
    COMPONENTS.format("smollm2"): lambda: components.__wrapped__("smollm2", 30, SMOLLM2),
    "stories.safetensors": lambda: find_source.__wrapped__("trained"),
    **{
        f"family/{name}.safetensors": lambda name=name: find_source.__wrapped__(name)
        for name in MEMBERS
    },
}


def missing(file):
    file.unlink()


def cut(file):
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])


def emptied(file):
    file.write_bytes(b"")


def flipped(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def foreign(file):
    file.write_bytes((DATA / "icon.png").read_bytes())


def folder_in_its_place(file):
    file.unlink()
    file.mkdir()


FAULTS = {
    missing: "got none at",
    cut: "got another at",
    emptied: "got another at",
    flipped: "got another at",
    foreign: "got another at",
    folder_in_its_place: "got one that cannot be read (Is a directory) at",
}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the shipped files in their place."""
    folder = shutil.copytree(DATA, tmp_path / "data")
    monkeypatch.setattr(shipped, "DATA", folder)
    for kept in (forget, checksums.cache_clear):
        kept()
    yield folder
    for kept in (forget, checksums.cache_clear):
        kept()


def test_the_checksums_are_those_of_every_file_that_is_shipped(copied):
    committed = (copied / CHECKSUMS).read_text(encoding="utf-8")
    write_checksums()
    assert committed == (copied / CHECKSUMS).read_text(encoding="utf-8"), "make checksums"
    assert {*checksums()} == {*LOADERS, "icon.png"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_file_of_any_kind_is_one_line_that_names_it(copied, fault):
    for name, load in LOADERS.items():
        load()
        fault(copied / name)
        with pytest.raises(ValueError, match=f"^{name}: expected the file that came") as refusal:
            load()
        words = str(refusal.value)
        assert "\n" not in words
        assert f"{FAULTS[fault]} {copied / name} (install mla-viz again" in words


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("claims.toml", ["claims", "--json"]),
        (FAMILY_FILE, ["quality"]),
        ("models.toml", ["memory", "Llama-3-8B"]),
        ("stories.safetensors", ["decode", "Hi"]),
        ("family/mqa.safetensors", ["decode", "Hi", "--right", "mqa"]),
        ("family/mla-8.safetensors", ["evaluate", "--text", "no.txt", "--source", "mla-8"]),
        (CHECKSUMS, ["claims"]),
    ],
)
def test_the_command_line_says_it_in_one_line(copied, capsys, name, command):
    (copied / name).unlink()
    with pytest.raises(SystemExit) as stop:
        main(command)
    out, errors = capsys.readouterr()
    assert (stop.value.code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"mla_viz: {name}: expected the ")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_without_the_checksums_nothing_is_loaded(copied, fault):
    fault(copied / CHECKSUMS)
    with pytest.raises(ValueError, match=r"^(SHA256SUMS|\S+\.\w+): expected") as refusal:
        for file in copied.rglob("*.*"):
            intact(file)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_listed_is_refused(copied):
    (copied / "more.toml").touch()
    with pytest.raises(ValueError, match=r"^more\.toml: expected"):
        intact(copied / "more.toml")


def test_a_member_that_is_missing_is_missed_where_it_is_asked_for(copied):
    (copied / "family" / "mla-8.safetensors").unlink()
    assert "mla-8" in source_names()
    assert load_family().member("mla-8").shipped


def test_a_file_is_looked_at_once(copied, monkeypatch):
    looked = []
    monkeypatch.setattr(shipped, "_fault", looked.append)
    for _ in range(2):
        find_source("trained"), find_source("mla-8"), load_family()
    names = ["stories.safetensors", "family/mla-8.safetensors", "family.json"]
    assert looked == [copied / name for name in names]
