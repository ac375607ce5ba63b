"""Popular claims about MLA, judged: a rule each, and its prose from data/claims.toml.

Knows neither tensors nor screens.
"""

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from mla_viz.cost import attention_params, crossover_query_tokens
from mla_viz.findings.claims.inputs import Inputs
from mla_viz.findings.claims.rules import RULES, mla_gains, v2_elems
from mla_viz.published.catalog import MODELS
from mla_viz.shipped import shipped

RIGHT, CONDITIONAL, WRONG = VERDICTS = ("right", "right with a condition", "wrong")


@dataclass(frozen=True)
class Claim:
    """One claim, what it comes to under some inputs, and what to say instead."""

    id: str
    group: str
    claim: str
    value: float | int | None
    unit: str
    baseline: str
    formula: str
    verdict: str
    say_instead: str
    source: str
    inputs: dict[str, int | float]


@cache
def _prose() -> list[dict[str, Any]]:
    return tomllib.loads(shipped("claims.toml").read_text())["claim"]


def judge(inputs: Inputs) -> list[Claim]:
    """Every claim under these inputs, in the order of the page."""
    return [_judged(dict(entry), inputs) for entry in _prose()]


def _judged(entry: dict[str, Any], i: Inputs) -> Claim:
    rule = RULES[entry["id"]]
    value = rule.value(i)
    right = CONDITIONAL if rule.condition else RIGHT
    used = {name: getattr(i, name) for name in entry.pop("inputs", "").split()}
    say = entry.pop("say_instead").format(value=value, **used, **asides(i))
    return Claim(
        value=value,
        verdict=right if rule.holds(i, value) else WRONG,
        say_instead=say,
        inputs=used | rule.published,
        **entry,
    )


def asides(i: Inputs) -> dict[str, Any]:
    """Figures that the prose names beside a claim's own value."""
    gains = mla_gains()
    crossover = crossover_query_tokens(i.mla)
    uncompressed = attention_params(replace(i, q_lora_rank=0).mla)
    return {
        "latent_elems": i.latent_elems,
        "plain_elems": i.plain_elems,
        "true_ratio": i.plain_elems / i.latent_elems,
        "plain_gib": i.context_bytes(i.plain_elems) / 2**30,
        "in_elements": 100 * (1 - v2_elems(i) / MODELS["DeepSeek-67B"].cache_elems),
        "ahead": sum(gain > 0 for gain in gains),
        "cells": len(gains),
        "uncompressed": uncompressed / i.equal_width_params,
        "crossover": "at every number of them" if crossover is None else f"below {crossover:.1f}",
    }
