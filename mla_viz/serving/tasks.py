"""What workers do, by name: from settings and a callback for steps to the bytes that are kept."""

import json

from mla_viz.player.payload import pack_run
from mla_viz.run.compare import compare
from mla_viz.run.decode import OnStep, decode, generate
from mla_viz.run.settings import Settings


def packed_run(settings: Settings, on_step: OnStep) -> bytes:
    """A run as the player gets it."""
    return pack_run(decode(settings, on_step=on_step))


def text(settings: Settings, on_step: OnStep) -> bytes:
    """What the left side writes, as UTF-8."""
    return generate(settings, on_step).encode()


def costs(settings: Settings, on_step: OnStep) -> bytes:
    """What every mechanism costs, as JSON."""
    return json.dumps([each.record() for each in compare(settings, on_step=on_step)]).encode()


TASKS = {"run": packed_run, "text": text, "costs": costs}
