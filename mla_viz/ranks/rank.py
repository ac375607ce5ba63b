"""One rank's process: `python -m mla_viz.ranks.rank FOLDER RANK PARENT`.

Finds in FOLDER what it is to decode, and the store where the ranks meet; leaves its results and
what it said there. Ends by itself, at any moment, once its parent or the folder is gone: it watches
for that before it imports anything slow.
"""

import json
import os
import shutil
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

SILENT_SECONDS = 60  # how long ranks wait for one that neither answers nor dies
LOOK_SECONDS = 0.2


def _end_with(parent: int, folder: Path) -> None:
    while os.getppid() == parent and folder.exists():
        time.sleep(LOOK_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _decode(folder: Path, rank: int) -> None:
    """Decode every job as one rank."""
    import torch
    import torch.distributed as dist

    from mla_viz.ranks.layer import decode_rank
    from mla_viz.ranks.settings import ParallelSettings

    torch.set_num_threads(1)
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    jobs = [ParallelSettings(**job) for job in task["jobs"]]
    device = "cpu"
    if task["backend"] == "nccl":
        device = f"cuda:{rank}"
        torch.cuda.set_device(rank)
    dist.init_process_group(
        task["backend"],
        store=dist.FileStore(str(folder / "store"), jobs[0].ranks),
        rank=rank,
        world_size=jobs[0].ranks,
        timeout=timedelta(seconds=SILENT_SECONDS),
    )
    done = [vars(decode_rank(job, device, rank)) for job in jobs]
    torch.save([each | {"out": each["out"].cpu()} for each in done], folder / f"{rank}.pt")
    dist.destroy_process_group()


def main() -> None:
    """Be the rank that the arguments name."""
    folder, rank, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with, args=(parent, folder), daemon=True).start()
    with open(folder / f"{rank}.log", "wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    _decode(folder, rank)


if __name__ == "__main__":
    main()
