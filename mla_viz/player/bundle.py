"""The player's ES modules joined into one script, as they are when asked: nothing is built.

Each module becomes a function of its own scope that returns its exports. It knows the two forms
that these modules use, `import { a, b as c } from "./x.js";` and `export` before a function, class
or const, and refuses every other by name. Comments stay behind.
"""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
COMMENT = re.compile(r"^ *(?:/\*\*.*?\*/|//[^\n]*)\n", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
UNKNOWN = re.compile(r"^.*\b(?:import|export)\b.*", re.MULTILINE)


def bundle(entry: str = "player", folder: Path = FOLDER / "src") -> str:
    """A script that leaves what the entry module exports in the constant `mlaVizPlayer`.

    Raises:
        ValueError: imports run in a circle, name what is not there, or have an unknown form.
    """
    body = _joined(entry, folder, (), {})
    return f'const mlaVizPlayer = (() => {{\n"use strict";\n{body}return ${entry};\n}})();\n'


def _joined(name: str, folder: Path, trail: tuple[str, ...], exports: dict[str, list[str]]) -> str:
    """A module behind all that it imports; nothing where it was joined before."""
    if name in trail:
        raise ValueError(f"imports run in a circle: {' -> '.join([*trail, name])}")
    if name in exports:
        return ""
    file = folder / f"{name}.js"
    if not file.exists():
        raise ValueError(f"{' -> '.join([*trail, name])}: expected a file {file.name}")
    source = COMMENT.sub("", file.read_text(encoding="utf-8"))
    before = ""
    for names, other in IMPORT.findall(source):
        before += _joined(other, folder, (*trail, name), exports)
        for wanted in re.findall(r"(\w+)(?: as \w+)?,?", names):
            if wanted not in exports[other]:
                raise ValueError(f"{name}.js: expected {other}.js to export {wanted}")
    exports[name] = EXPORT.findall(source)
    return before + _scope(name, source, exports[name])


def _scope(name: str, source: str, exports: list[str]) -> str:
    body = IMPORT.sub(lambda m: f"const {{{m[1].replace(' as ', ': ')}}} = ${m[2]};\n", source)
    body = EXPORT.sub("", body)
    if unknown := UNKNOWN.search(body):
        raise ValueError(f"{name}.js: expected a known import or export, got {unknown[0]!r}")
    return f"const ${name} = (() => {{\n{body}return {{ {', '.join(exports)} }};\n}})();\n"
