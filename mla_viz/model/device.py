"""Which dtype and which device a run uses, and how much memory is there."""

from contextlib import suppress
from pathlib import Path

import torch

from mla_viz.config import told

DTYPES = ("float64", "float32", "bfloat16", "float16")


def parse_dtype(dtype: object) -> torch.dtype:
    """The torch dtype of a name in DTYPES, or that dtype itself.

    Raises:
        ValueError: another.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {told(dtype)}")
    return getattr(torch, name)


def pick_device(device: object) -> str:
    """The name of a device, or of a torch.device; `auto` takes CUDA where there is one.

    Raises:
        ValueError: no such device is there; the message lists those that are.
    """
    name, offered = str(device), available_devices()
    cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if cuda else "cpu"
    if name not in (*offered, "cpu:0") and not (name == "cuda" and cuda):
        raise ValueError(f"device: expected one of {', '.join(offered)}, got {told(device)}")
    return name


def usable_bytes(device: str) -> int:
    """Memory that a new run may take on a device: four fifths of what is free there.

    A very large number where nobody can tell.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else free_bytes()
    return free * 4 // 5


def free_bytes(root: Path = Path("/")) -> int:
    """Main memory that the system has free, or less where a container's limit leaves less."""
    groups = root / "sys/fs/cgroup"
    rooms = [_available_bytes(root / "proc/meminfo")]
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            rooms.append(_number(groups / limit) - _number(groups / used))
    return max(0, min(rooms))


_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def _number(file: Path) -> int:
    return int(file.read_text(encoding="utf-8"))


def _available_bytes(file: Path) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable")) << 10
    except (OSError, StopIteration):
        return 1 << 62


def available_devices() -> list[str]:
    """Names that `pick_device` takes here."""
    return ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
