"""The server as it starts: who can reach it, and that it asks nobody anything."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mla_viz.ui.server import cores
from tests.screens import ROOT

# The command line of Streamlit, with a word said for each look-up of an address.
WATCHED = """
import socket, sys
real = socket.getaddrinfo
def told(host, *rest, **more):
    print("asked for", host, flush=True)
    return real(host, *rest, **more)
socket.getaddrinfo = told
from streamlit.web.cli import main
main(["run", "app.py", "--server.headless", "true", *sys.argv[1:]])
"""
KNOCK = """GET /_stcore/stream HTTP/1.1\r
Host: localhost\r
Origin: http://foreign.example\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
\r
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer(port, host="127.0.0.1"):
    """What a server says to a page of a foreign origin; an OSError where none listens."""
    with socket.create_connection((host, port), timeout=10) as line:
        line.sendall(KNOCK.encode())
        return line.recv(99).decode()


@pytest.fixture
def started(tmp_path):
    """Starts the server with some options; gives its port and the file of what it says."""
    servers = []

    def start(*options):
        port, said = free_port(), tmp_path / "said.txt"
        command = [sys.executable, "-c", WATCHED, "--server.port", str(port), *options]
        with said.open("w", encoding="utf-8") as out:
            servers.append(subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out))
        for _ in range(300):
            try:
                return port, said, answer(port)
            except OSError:
                assert servers[-1].poll() is None, said.read_text(encoding="utf-8")
                time.sleep(0.1)
        raise AssertionError(said.read_text(encoding="utf-8"))

    yield start
    for server in servers:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("50000 100000", 1), ("200000 100000", 2), ("250000 100000", 3)]
    + [("9900000 100000", 8), ("", 8), (None, 8)],
)
def test_a_quota_of_cores_bounds_the_workers(monkeypatch, tmp_path, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if quota is not None:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota, encoding="utf-8")
    assert cores(tmp_path) == expected


def urls(said: Path):
    return [
        line.split()[-1] for line in said.read_text(encoding="utf-8").splitlines() if "URL" in line
    ]


def test_it_listens_to_this_machine_alone_and_asks_nobody(started):
    port, said, to_foreign_origin = started()
    with pytest.raises(OSError):  # noqa: PT011
        answer(port, "127.0.0.2")
    assert urls(said) == [f"http://localhost:{port}"]
    assert to_foreign_origin.startswith("HTTP/1.1 403")
    assert "asked for" not in said.read_text(encoding="utf-8")


def test_where_it_serves_others_it_asks_nobody_either(started):
    port, said, to_foreign_origin = started("--server.address", "0.0.0.0")
    assert answer(port, "127.0.0.2").startswith("HTTP/1.1 403")
    assert to_foreign_origin.startswith("HTTP/1.1 403")
    assert urls(said) == [f"http://localhost:{port}"]
    assert "asked for" not in said.read_text(encoding="utf-8")
