"""Entry of `python -m mla_viz` and of `mla-viz`: a command, or the app where none is given.

Imports nothing slow before it has said what Ctrl-C does. A reader who leaves, a full disk and
Ctrl-C are no faults of the program: no traceback.
"""

import contextlib
import os
import signal
import sys
from typing import NoReturn

PIPE_CLOSED, STOPPED = 141, 130  # what a shell says of a process that such a signal has ended


def run() -> None:
    """Run what the arguments say; exit status 2 where the output cannot be written."""
    signal.signal(signal.SIGINT, _stop)
    try:
        if sys.stdout is None:
            raise OSError("expected an open standard output")
        sys.stdout.reconfigure(errors="backslashreplace")
        try:
            _command() if sys.argv[1:] else _app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os._exit(PIPE_CLOSED)  # at once: Python would try again to write, and say that it failed
    except OSError as error:
        place, words = error.filename or "output", error.strerror or error
        with contextlib.suppress(OSError):
            print(f"mla_viz: {place}: {words}", file=sys.stderr)
        os._exit(2)


def _command() -> None:
    from mla_viz.cli import main

    main()


def _app() -> None:
    from streamlit.web.cli import main

    from mla_viz.shipped import APP

    main(["run", str(APP / "app.py")])


def _stop(*_: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"\n" * os.isatty(2) + b"mla_viz: stopped\n")
    os._exit(STOPPED)


if __name__ == "__main__":
    run()
