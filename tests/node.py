"""Runs the player's modules outside a browser, on a run that Python packed."""

import json
import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

from mla_viz.player.bundle import FOLDER
from mla_viz.player.payload import pack_run
from mla_viz.run.trace import Run

NODE = compute_driver_executable()[0]


def node(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    """What node did with these arguments, a script on its standard input."""
    command = [NODE, *arguments]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False)


def answer(folder: Path, run: Run, imports: dict[str, str], script: str, asked: object) -> object:
    """What `script` makes of a packed `run` and of `asked`; `imports` are names by module."""
    (folder / "run.bin").write_bytes(pack_run(run))
    lines = [
        f'import {{ {names} }} from "{(FOLDER / "src" / module).as_uri()}.js";'
        for module, names in {"payload": "readRun", **imports}.items()
    ]
    (folder / "script.mjs").write_text(
        'import { readFileSync } from "node:fs";\n'
        + "\n".join(lines)
        + "\nconst run = readRun(new Uint8Array(readFileSync(process.argv[2])));"
        + f"\nconst asked = JSON.parse(process.argv[3]);\n{script}",
        encoding="utf-8",
    )
    result = node(str(folder / "script.mjs"), str(folder / "run.bin"), json.dumps(asked))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
