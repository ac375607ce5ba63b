"""What workers do, by name: from settings and a callback for steps to the bytes that are kept."""

import json

from mla_viz.player.payload import pack_rest, pack_run
from mla_viz.run.compare import compare
from mla_viz.run.decode import OnStep, generate
from mla_viz.run.layer import AnySettings, run_of
from mla_viz.run.settings import Settings


def packed_run(settings: AnySettings, on_step: OnStep) -> bytes:
    """A run as the player gets it."""
    return pack_run(run_of(settings, on_step))


def text(settings: Settings, on_step: OnStep) -> bytes:
    """What the left side writes, as UTF-8."""
    return generate(settings, on_step).encode()


def costs(settings: Settings, on_step: OnStep) -> bytes:
    """What every mechanism costs, as JSON."""
    return json.dumps([each.record() for each in compare(settings, on_step=on_step)]).encode()


def rest(settings: AnySettings, on_step: OnStep, layer: str) -> bytes:
    """The vectors of one layer of a run, from 0, that did not travel with it."""
    return pack_rest(run_of(settings, on_step), int(layer))


TASKS = {"run": packed_run, "text": text, "costs": costs, "rest": rest}


def do(task: str, settings: AnySettings, on_step: OnStep) -> bytes:
    """What a task of that name makes; "rest:3" is the task "rest" of 3."""
    name, *more = task.split(":")
    return TASKS[name](settings, on_step, *more)
