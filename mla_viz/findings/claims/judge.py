"""Popular claims about MLA, judged: a rule each, and its prose from data/claims.toml.

Knows neither tensors nor screens.
"""

import tomllib
from dataclasses import asdict, dataclass, replace
from functools import cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from mla_viz.cost import attention_params, cache_elems, core_flops, crossover_query_tokens
from mla_viz.findings.claims.inputs import Inputs
from mla_viz.findings.claims.rules import (
    RULES,
    llama_kb,
    mha_intensity,
    mha_twins,
    mla_gains,
    shown,
    v2_elems,
)
from mla_viz.published.catalog import judged
from mla_viz.shipped import intact, shipped
from mla_viz.words import count_text, number_text

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
    return tomllib.loads(intact(shipped("claims.toml")).read_text(encoding="utf-8"))["claim"]


def judge(inputs: Inputs) -> list[Claim]:
    """Every claim under these inputs, in the order of the page."""
    figures = asdict(inputs) | asides(inputs)
    return [_judged(dict(entry), inputs, figures) for entry in _prose()]


def _judged(entry: dict[str, Any], i: Inputs, figures: dict[str, Any]) -> Claim:
    rule = RULES[entry["id"]]
    value = rule.value(i)
    holds = rule.holds(i, value)
    used = {name: getattr(i, name) for name in entry.pop("inputs", "").split()}
    figures = figures | {"value": value, "right": holds, "wrong": not holds}
    texts = _Texts(figures)
    said = [_sentence(sentence, figures) for sentence in entry.pop("say_instead")]
    return Claim(
        value=value,
        verdict=WRONG if not holds else CONDITIONAL if rule.condition else RIGHT,
        claim=entry.pop("claim").format_map(texts),
        baseline=entry.pop("baseline").format_map(texts),
        say_instead=" ".join(filter(None, said)).format_map(texts),
        inputs=used | rule.published,
        **entry,
    )


class _Texts(dict):
    """Figures by name, as they are written."""

    def __getitem__(self, name: str) -> str:
        figure = super().__getitem__(name)
        return figure if isinstance(figure, str) else number_text(figure)


def _sentence(sentence: str | dict[str, str], figures: dict[str, Any]) -> str:
    """The sentence where what makes it true is so, else nothing."""
    if isinstance(sentence, str):
        return sentence
    return sentence["say"] if met(sentence["when"], figures) else ""


COMPARISONS = {"<": lt, "<=": le, "==": eq, "!=": ne, ">": gt, ">=": ge}


def met(condition: str, figures: dict[str, Any]) -> bool:
    """Whether each part of `wrong and value > 1` is so, in the digits that are shown."""
    return all(_part_met(part.split(), figures) for part in condition.split(" and "))


def _part_met(part: list[str], figures: dict[str, Any]) -> bool:
    left, *right = (figures[x] if x in figures else float(x) for x in part[::2])
    return COMPARISONS[part[1]](shown(left), shown(*right)) if right else bool(left)


def asides(i: Inputs) -> dict[str, Any]:
    """Figures that the prose names, or depends on, beside a claim's own value."""
    return _cache_figures(i) | _cost_figures(i) | _published_figures(i)


def _cache_figures(i: Inputs) -> dict[str, Any]:
    plain, latent = (i.context_bytes(elems) for elems in (i.plain_elems, i.latent_elems))
    return {
        "latent_elems": i.latent_elems,
        "plain_elems": i.plain_elems,
        "expanded_elems": cache_elems("mla_expanded", i.mla),
        "own_latents_elems": i.n_heads * i.kv_lora_rank + i.qk_rope_head_dim,
        "true_ratio": i.plain_elems / i.latent_elems,
        "plain_gb": plain / 1e9,
        "plain_gib": plain / 2**30,
        "latent_gib": latent / 2**30,
        "no_rope_gb": i.context_bytes(i.kv_lora_rank) / 1e9,
    }


def _cost_figures(i: Inputs) -> dict[str, Any]:
    crossover = crossover_query_tokens(i.mla)
    return {
        "heads": count_text(i.n_heads, "head"),
        "context_tokens": count_text(i.context, "token"),
        "w_uq": "W_UQ" if i.q_lora_rank else "W_Q",
        "all_heads_dim": i.n_heads * i.v_head_dim,
        "qk_head_dim": i.mla.qk_head_dim,
        "core_ratio": core_flops("mla_absorbed", i.mla) / core_flops("mha", i.mha),
        "mha_intensity": mha_intensity(i),
        "params_ratio": attention_params(i.mla) / attention_params(i.mha),
        "uncompressed": attention_params(replace(i, q_lora_rank=0).mla) / i.equal_width_params,
        "crossover": "none" if crossover is None else crossover,
    }


def _published_figures(i: Inputs) -> dict[str, Any]:
    gains, llama = mla_gains(), judged("Llama-3.1-405B")
    return {
        "in_elements": 100 * (1 - v2_elems(i) / judged("DeepSeek-67B").cache_elems),
        "ahead": sum(gain > 0 for gain in gains),
        "cells": len(gains),
        "pairs": len(mha_twins()),
        "llama_kb": llama_kb(i),
        "llama_ratio": llama.cache_elems / (i.latent_elems * i.n_layers),
        "llama_layer_ratio": llama.cache_elems / llama.n_layers / i.latent_elems,
    }
