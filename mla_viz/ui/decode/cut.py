"""A pretrained model beside its cut: what each writes by itself, and how far they are apart."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from mla_viz.config import EACH
from mla_viz.cost import cache_elems
from mla_viz.findings.cuts import DECOUPLED, load_cuts, verdict
from mla_viz.mechanisms.table import CUT_MECHANISMS, MLA_MECHANISMS
from mla_viz.model.sources import pretrained_of
from mla_viz.player.layout import Cut
from mla_viz.player.payload import all_turned, cut_of
from mla_viz.pretrained.pins import PRETRAINED
from mla_viz.run.decode import text_bill
from mla_viz.run.layer import AnySettings
from mla_viz.run.settings import Settings
from mla_viz.ui.decode.progress import Wanted, made
from mla_viz.ui.server import workers
from mla_viz.words import count_text

CUT = (*CUT_MECHANISMS, *MLA_MECHANISMS)
WANTED = Wanted("text", text_bill, "text", "Write", "Its own text is not shown here")
_MARKS = re.compile(r"([\\`*_\[\]$~<#|:])")  # a text that a model wrote is no Markdown
HELD_OUT = "chat"  # the kind of held-out text that a prompt here is most alike


def has_cut(settings: AnySettings) -> bool:
    """Whether the sides are a pretrained model and a cut of it."""
    if not isinstance(settings, Settings):
        return False
    return settings.weights_source.alone and settings.side("left") != settings.side("right")


def kept_by(settings: Settings, side: str) -> int:
    """Numbers that a side caches for a token and layer."""
    return cache_elems(getattr(settings, side), settings.side(side).geometry.attention)


def cut_words(settings: Settings) -> tuple[str, str]:
    """Title and caption of a pretrained model beside a cut of it."""
    label = PRETRAINED[pretrained_of(settings.source)].label
    left, right = (kept_by(settings, side) for side in ("left", "right"))
    fed = "The left one chooses, both are fed its tokens."
    if decoupled(settings):
        return "One model, and its attention as MLA", (
            f"{label}: one side as it is, the other with its RoPE decoupled. Some components of its"
            f" keys are turned and shared by all heads, all else is made of a latent. Cached are"
            f" {left} numbers a token and layer on the left, {right} on the right. {fed}"
        )
    if left == right:
        return "One model, its cache in another basis", (
            f"{label} twice: the latent of {right} numbers loses nothing of its keys and values."
            f" {fed}"
        )
    least, most = sorted((left, right))
    return f"One model, its cache cut to {least} of {most} numbers", (
        f"{label}: one side as it is, the other with each layer's keys and values made of a latent"
        f" of {least} numbers a token{spread_words(settings)}. {fed}"
    )


def spread_words(settings: Settings) -> str:
    """How far layers differ in what they keep, where they do."""
    models = settings.side("left"), settings.side("right")
    ranks = next((m.geometry.ranks for m in models if m.geometry.ranks), None)
    if ranks is None:
        return ""
    few, many = min(ranks), max(ranks)
    return (
        f" on average, {few} in layer {ranks.index(few) + 1} to {many} in layer"
        f" {ranks.index(many) + 1}"
    )


def decoupled(settings: Settings) -> bool:
    """Whether a side runs the pretrained model as MLA."""
    return not {settings.left, settings.right}.isdisjoint(MLA_MECHANISMS)


def approximate_words(settings: Settings) -> str:
    """What is to be said where both sides run a pretrained model as MLA."""
    model = pretrained_of(settings.source)
    if model is None or not decoupled(settings):
        return ""
    g = settings.side("right").geometry.attention
    said = f" The model is {PRETRAINED[model].label} with RoPE decoupled"
    if all_turned(g):
        return f"{said}: all its keys are turned and nothing is lost."
    return f"{said}, an approximation. With GQA on the left, under “More”, one sees how near."


@contextmanager
def text_begun(settings: AnySettings) -> Iterator[None]:
    """The right side's own text is asked for while the run is made, where both will be shown."""
    with ExitStack() as stack:
        own = replace(settings, left=settings.right) if has_cut(settings) else None
        if own and st.session_state.get(WANTED.state("stopped")) != own:
            with suppress(ValueError):  # said where the text would stand
                stack.enter_context(workers().ask(WANTED.task, own, text_bill(own)))
        yield


def cut_section(settings: Settings, payload: bytes, place: DeltaGenerator) -> None:
    """Both texts side by side, and what one loses, where a run is one of a model and its cut."""
    if not has_cut(settings):
        return
    told = cut_of(payload)
    with place:
        left, right = st.columns(2)
        _text(left.container(border=True), settings, "left", told["text"])
        box = right.container(border=True)
        try:
            own = made(WANTED, replace(settings, left=settings.right), box.empty())
        except ValueError as error:
            box.error(str(error))
            return
        if own is not None:
            _text(box, settings, "right", own.decode())
            st.markdown(told_words(settings, told, own.decode()))


def _text(box: DeltaGenerator, settings: Settings, side: str, text: str) -> None:
    cached = count_text(kept_by(settings, side), "number")
    cut = getattr(settings, side) in CUT
    mean = " on average" if settings.side(side).geometry.ranks else ""
    plain = ", not rounded" if settings.cache_dtype and side == "right" else ""
    kind = "The cut" if cut else "The original"
    box.caption(f"{kind} by itself, {cached} a token and layer{mean}{plain}")
    box.text(text or "(no text: it ended at once)")


def told_words(settings: Settings, told: Cut, text: str) -> str:
    """The figures of this prompt, what they mean, and those of held-out text beside them."""
    plain = settings.right in CUT and settings.left not in CUT
    whose = "the original's" if plain else "the left side's"
    sides = "original || cut" if plain else "left || right"
    figures = (
        f"Over the {count_text(told['tokens'], 'token')} here, prompt and {whose} text,"
        f" KL({sides}) is **{told['kl']:.4f} nats** a token, and both find the same next token"
        f" likeliest at **{told['agreement']:.0%}**."
    )
    if not plain:
        return figures
    said = _MARKS.sub(r"\\\1", verdict(told["kl"], text, told["text"]))
    way = DECOUPLED if decoupled(settings) else settings.ranks
    return f"{figures} {said} {held_out_words(kept_by(settings, 'right'), way)}"


def held_out_words(rank: int, way: str = EACH) -> str:
    """What was measured on held-out text at this rank, or around it, cut this way."""
    rows = {row.rank: row for row in load_cuts() if row.text == HELD_OUT and row.way == way}
    wider = min((r for r in rows if r >= rank), default=max(rows))
    narrower = max((r for r in rows if r <= rank), default=min(rows))
    ranks = sorted({wider, narrower})
    figures = " and ".join(
        f"{rows[r].kl:.4f} ± {rows[r].kl_error:.4f} nats and {rows[r].agreement:.0%} at {r}"
        for r in ranks
    )
    return (
        f"A prompt is a small sample: on held-out questions it is {figures}. The"
        " [Quality page](/quality?section=A+pretrained+model) has the whole curve."
    )
