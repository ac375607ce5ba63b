"""The program as a process: how it ends when it is stopped or cannot write, and other locales."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mla_viz.cli import main

ROOT = Path(__file__).parent.parent
BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}
# Files and arguments in ASCII, a console of CP1252, and Python is not to help itself.
CP1252 = BUFFERED | {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "cp1252",
}
# The program whose command is the Python of its first argument.
PROGRAM = """
import os, runpy, signal, sys, types
sys.modules["mla_viz.cli"] = types.SimpleNamespace(main=lambda: exec(sys.argv[1]))
runpy.run_module("mla_viz", run_name="__main__", alter_sys=True)
"""
# The real program; Ctrl-C is pressed at the import of the module of its first argument.
STOPPED_AT_AN_IMPORT = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
runpy.run_module("mla_viz", run_name="__main__", alter_sys=True)
"""


def ended(*python, shell='exec "$@"', env=BUFFERED):
    """Exit status, output and errors of a Python behind a shell's redirections."""
    command = ["sh", "-c", shell, "sh", sys.executable, *python]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("mla_viz.cli", ["claims"]), ("torch", ["claims"]), ("streamlit", [])],
)
def test_ctrl_c_during_the_imports_is_one_line(module, arguments):
    stopped = ended("-c", STOPPED_AT_AN_IMPORT, module, *arguments)
    assert stopped == (130, b"", "mla_viz: stopped\n")


def test_ctrl_c_during_a_command_is_one_line():
    command = "print('half'); os.kill(os.getpid(), signal.SIGINT); print('more')"
    assert ended("-c", PROGRAM, command) == (130, b"", "mla_viz: stopped\n")


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_reader_who_leaves_ends_it_quietly(size):
    shell = '{ "$@"; echo "status $?" >&2; } | exec true'
    command = f"import time; time.sleep(0.1); print('x' * {size})"
    assert ended("-c", PROGRAM, command, shell=shell)[1:] == (b"", "status 141\n")


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(
    ("redirection", "words"),
    [("> /dev/full", "No space left on device"), (">&-", "expected an open standard output")],
)
def test_what_cannot_be_written_is_one_line(redirection, words, size):
    shell = f'exec "$@" {redirection}'
    for command in (f"print('x' * {size})", f"print('x' * {size}); sys.exit(0)"):
        end = ended("-c", PROGRAM, command, shell=shell)
        assert end == (2, b"", f"mla_viz: output: {words}\n")


def test_a_refusal_that_nobody_can_read_keeps_its_status():
    for redirection in ("2> /dev/full", "> /dev/full 2>&1"):
        shell = f'exec "$@" {redirection}'
        command = "print('words'); sys.stdout.flush(); raise SystemExit(2)"
        assert ended("-c", PROGRAM, command, shell=shell)[0] == 2


def test_a_console_of_few_characters_gets_the_numbers_of_the_others():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["claims"])
    expected = out.getvalue().encode("cp1252", "backslashreplace")
    assert ended("-m", "mla_viz", "claims", env=CP1252) == (0, expected, "")
