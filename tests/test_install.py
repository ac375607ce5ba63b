"""`pip install .` into a fresh environment: the program works there from any folder."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from dataclasses import asdict
from pathlib import Path

import pytest

from mla_viz.findings.claims.inputs import Inputs
from mla_viz.findings.claims.judge import judge
from tests.e2e.conftest import free_port

ROOT = Path(__file__).parent.parent
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
NOT_SOURCE = (".git", ".venv", ".*cache", "__pycache__", "node_modules", "build", "*.egg-info")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The program built and installed into an environment that has the other packages already."""
    folder = tmp_path_factory.mktemp("install")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--no-compile", str(folder / "source")]
    subprocess.run([*pip, *options], cwd=folder, check=True)
    shutil.rmtree(folder / "source")
    return packages


@pytest.fixture
def started(environment, tmp_path):
    """Starts a program of the environment in a folder of its own."""

    def start(name, *arguments, **variables):
        command = [environment.parents[2] / "bin" / name, *arguments]
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
        return subprocess.Popen(command, cwd=tmp_path, env=kept, **PIPES)

    return start


def test_all_that_runs_is_in_the_package_and_nothing_else(environment):
    there = {p.relative_to(environment / "mla_viz") for p in environment.glob("mla_viz/**/*.*")}
    sources = [p for p in (ROOT / "mla_viz").rglob("*.*") if "node_modules" not in p.parts]
    own = {
        p.relative_to(ROOT / "mla_viz")
        for p in sources
        if p.suffix in (".py", ".js", ".css", ".html") or "data" in p.parts
    }
    app = ["app.py", ".streamlit/config.toml", *(ROOT / "pages").glob("*.py")]
    app = {Path("app") / (ROOT / file).relative_to(ROOT) for file in app}
    assert {p for p in there if (environment / "mla_viz" / p).is_file()} == own | app


WHERE = """
from importlib.metadata import requires
from mla_viz.shipped import APP
print(APP, *(x for x in requires("mla-viz") if "extra ==" not in x))
"""


def test_it_knows_its_dependencies_and_where_its_pages_lie(environment, started):
    app, *needed = started("python", "-c", WHERE).communicate()[0].decode().split()
    assert Path(app) == environment / "mla_viz" / "app"
    assert needed == (ROOT / "requirements.txt").read_text(encoding="utf-8").split()


def test_a_command_prints_what_it_prints_in_the_checkout(started):
    claims = started("mla-viz", "claims", "--json")
    decode = started("mla-viz", "decode", "Once upon a time", "--max-new-tokens", "1", "--json")
    judged = [asdict(claim) for claim in judge(Inputs())]
    assert json.loads(claims.communicate()[0]) == judged
    run = json.loads(decode.communicate()[0])
    assert run["left"]["cache_elems_per_token_per_layer"] == 640
    assert (claims.returncode, decode.returncode) == (0, 0)


def test_without_a_command_it_opens_the_app_with_its_own_settings(started):
    port = free_port()
    settings = {"STREAMLIT_SERVER_PORT": str(port), "STREAMLIT_SERVER_HEADLESS": "true"}
    app = started("mla-viz", **settings)
    for _ in range(300):
        with contextlib.suppress(OSError):
            page = urllib.request.urlopen(f"http://localhost:{port}/claims")
            break
        time.sleep(0.2)
    app.send_signal(signal.SIGINT)
    said = app.communicate()[0].decode()
    assert page.status == 200
    assert "usage statistics" not in said  # as .streamlit/config.toml has it
    assert "Traceback" not in said
