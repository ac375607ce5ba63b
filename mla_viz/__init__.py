"""Naive multi-head attention and absorbed multi-head latent attention, step by step.

>>> import mla_viz
>>> run = mla_viz.decode("Once upon a time", heads=8, latent=32, max_new_tokens=8)
>>> run.right.cache_bytes[-1], run.max_abs_diff
"""

from importlib import import_module

_HOMES = {
    "AttentionLayer": "mla_viz.checkpoints.layer",
    "Audit": "mla_viz.findings.audit",
    "Costs": "mla_viz.run.costs",
    "ParallelRun": "mla_viz.ranks.parallel",
    "ParallelSettings": "mla_viz.ranks.settings",
    "RankLost": "mla_viz.ranks.parallel",
    "Run": "mla_viz.run.trace",
    "Score": "mla_viz.findings.scores",
    "Settings": "mla_viz.run.settings",
    "audit": "mla_viz.findings.audit",
    "compare": "mla_viz.run.compare",
    "decode": "mla_viz.run.decode",
    "evaluate": "mla_viz.findings.evaluate",
    "fits": "mla_viz.findings.fits",
    "load_attention": "mla_viz.checkpoints.layer",
    "load_run": "mla_viz.run.saved",
    "memory": "mla_viz.findings.memory",
    "parallel": "mla_viz.ranks.parallel",
}
__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    """What is named above, imported with torch behind it only once it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
