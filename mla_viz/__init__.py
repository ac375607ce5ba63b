"""Naive multi-head attention and absorbed multi-head latent attention, step by step.

>>> import mla_viz
>>> run = mla_viz.decode("Once upon a time", heads=8, latent=32, max_new_tokens=8)
>>> run.right.cache_bytes[-1], run.max_abs_diff
"""

from mla_viz.findings.evaluate import evaluate
from mla_viz.findings.scores import Score
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from mla_viz.run.trace import Run

__all__ = ["Run", "Score", "Settings", "decode", "evaluate"]
