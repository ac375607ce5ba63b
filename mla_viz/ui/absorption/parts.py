"""What stages and algebra both show: the page's texts and its questions."""

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from typing import Any
from unicodedata import normalize

import streamlit as st

from mla_viz.shipped import intact, shipped


@cache
def prose() -> dict[str, Any]:
    """The page's texts, read once."""
    return tomllib.loads(intact(shipped("absorption.toml")).read_text(encoding="utf-8"))


def ask(before: str) -> None:
    """Predict, then reveal: the question that stands before a stage, if there is one."""
    for entry in prose()["question"]:
        if entry["before"] != before:
            continue
        with st.container(border=True):
            key = f"guess_{before}"
            guess = st.radio(
                f"Predict first, or read on: {entry['question']}",
                entry["options"],
                index=None,
                key=key,
                horizontal=True,
            )
            if guess is not None:
                right = guess == entry["answer"]
                words = "Right." if right else f"No: {entry['answer']}."
                (st.success if right else st.info)(f"{words} {entry['reason']}")


def symbols_in(formula: str) -> list[str]:
    """The symbols of a KaTeX formula, in the order in which they come: `W_UQ`, `q̃`, `out`."""
    plain = normalize("NFC", re.sub(r"\\tilde (\w)", "\\1\u0303", formula))
    plain = re.sub(r"\\(operatorname|text|mathcal)\{\w+\}|\\[a-z]+", " ", plain)
    plain = re.sub("[{}]", "", plain)
    return list(dict.fromkeys(re.findall("out|[^\\W\\d_]\u0303?(?:_[A-Za-z]+)?", plain)))


def show_formula(formula: str) -> None:
    """A formula, and what its symbols stand for."""
    st.latex(formula)
    st.caption(meanings(symbols_in(formula)))


def meanings(symbols: Iterable[str]) -> str:
    """What symbols stand for, in Markdown."""
    return " · ".join(f"**{symbol}** {prose()['symbols'][symbol]}" for symbol in symbols)
