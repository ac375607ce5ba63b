"""What stages and algebra both show: the page's texts, its questions, the lesson's matrices."""

import tomllib
from functools import cache
from typing import Any

import streamlit as st

from mla_viz.figures.matrix import matrix_html
from mla_viz.findings.lesson import make_lesson, stage_matrices
from mla_viz.shipped import shipped


@cache
def prose() -> dict[str, list[dict[str, Any]]]:
    """The page's texts, read once."""
    return tomllib.loads(shipped("absorption.toml").read_text())


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


def show_matrices(names: list[str]) -> None:
    """Matrices of the lesson side by side; the caches with their newest row framed."""
    shown = stage_matrices(make_lesson())
    for column, name in zip(st.columns(len(names)), names, strict=True):
        matrix = shown[name]
        new_row = name in ("C_KV", "K_R")
        column.html(matrix_html(name, matrix.values, matrix.role, matrix.rows, new_row))
