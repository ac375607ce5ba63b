"""A run without a browser: its record as plain data, its lines, and the command `layer`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mla_viz.checkpoints.layer import load_attention
from mla_viz.run.inside import Inside
from mla_viz.run.layer import LayerSettings, read_hidden, run_of
from mla_viz.run.trace import DIFFERENCES, Run, Side
from mla_viz.words import gap_text

NO_LOGITS = {"logits": None}


def layer_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `layer`."""
    parser.add_argument("folder", help="config.json and safetensors")
    parser.add_argument("--layer", type=int, default=0, help="an attention, from 0")
    parser.add_argument("--left", default="mla_expanded")
    parser.add_argument("--right", default="mla_absorbed")
    parser.add_argument("--tokens", type=int, default=24, help="random hidden states")
    parser.add_argument("--seed", type=int, default=0, help="of those")
    parser.add_argument("--hidden", type=Path, metavar="FILE", help="safetensors with `hidden`")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    output_arguments(parser)


def output_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a run goes."""
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the player as one file")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the run, for load_run")


def run_layer(args: dict[str, Any]) -> None:
    """Step through one layer of a checkpoint."""
    as_json, html, saved, hidden = (args.pop(x) for x in ("json", "html", "save", "hidden"))
    s = LayerSettings(**args)
    if hidden:
        layer = load_attention(s.folder, s.layer, s.dtype, s.device)
        note = f"Hidden states of {hidden.name}."
        run = layer.run(read_hidden(hidden), s.left, s.right, note)
    else:
        run = run_of(s)
    give(run, html, saved)
    print(json.dumps(run_record(run), allow_nan=False)) if as_json else print_run(run)


def give(run: Run, html: Path | None, saved: Path | None) -> None:
    """Write the files that are asked for."""
    if html:
        run.save_html(html)
    if saved:
        run.save(saved)


def run_record(run: Run) -> dict[str, Any]:
    """A run as plain data: what `decode --json` prints."""
    return {
        "prompt": run.prompt,
        "text": run.text,
        "tokens": [asdict(token) for token in run.tokens],
        "model": {**run.model, "source": run.source, "dtype": run.dtype, "device": run.device},
        "left": _side_record(run.left, run.n_steps),
        "right": _side_record(run.right, run.n_steps),
        "steps": [_step_record(run, step) for step in range(run.n_steps)],
        "max_abs_diff": run.max_abs_diff,
        "same_tokens": run.same_tokens,
        "notes": list(run.notes),
    }


def inside_record(inside: Inside) -> dict[str, Any]:
    """The inside of a step as plain data: what `decode --json --inside STEP` adds."""
    record = dict(vars(inside))
    for name in ("left", "right"):
        vectors = vars(record[name])
        record[name] = {key: None if x is None else x.tolist() for key, x in vectors.items()}
    return record


def _side_record(side: Side, n_steps: int) -> dict[str, Any]:
    steps = [
        {
            "pos": step,
            "cache_bytes": int(side.cache_bytes[step]),
            "flops": side.flops(step),
            "time_us": float(side.time_us[step].sum()),
        }
        for step in range(n_steps)
    ]
    return {
        "mechanism": side.mechanism,
        "cache_elems_per_token_per_layer": side.cache_elems,
        "ranks": None if side.ranks is None else side.ranks.tolist(),
        "cache_dtype": side.cache_dtype,
        "cache_bytes": int(side.cache_bytes[-1]),
        "steps": steps,
    }


def _step_record(run: Run, step: int) -> dict[str, Any]:
    names = DIFFERENCES
    gaps = [None] * len(names) if run.differences is None else run.differences[step].tolist()
    return {
        "pos": step,
        "max_abs_diff": dict(zip(names, gaps, strict=True)) | ({} if run.chooses else NO_LOGITS),
        "top": {
            name: [[text, float(p)] for text, p in side.candidates(step)]
            for name, side in zip(("left", "right"), run.sides(), strict=True)
        },
    }


def print_run(run: Run) -> None:
    """A run in a few lines."""
    print(f"{run.prompt}|{run.text}" if run.chooses else run.prompt)
    for side in run.sides():
        print(
            f"{side.mechanism:13s} caches {side.cache_elems:,} values a token and layer"
            f"{'' if side.ranks is None else ' on average'}"
            f"{f' in {side.cache_dtype}' if side.cache_dtype else ''},"
            f" {side.cache_bytes[-1]:,} bytes after {run.n_steps} tokens;"
            f" attention {side.time_us.sum() / 1e3:.1f} ms in all, measured once"
        )
    gap = gap_text(run.max_abs_diff)
    same = f"; same tokens: {run.same_tokens}" if run.chooses else ""
    print(f"largest difference: {gap} ({run.dtype}){same}")
    for note in run.notes:
        print(note)
