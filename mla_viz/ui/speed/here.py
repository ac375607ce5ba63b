"""Measuring here: what may be asked of the bench, its progress, its stop."""

import json
import os
from dataclasses import fields

import streamlit as st

from mla_viz.bench.settings import TIMED
from mla_viz.figures.speed import label_of
from mla_viz.serving.benches import BenchAsked, BenchRun
from mla_viz.ui.server import benches, cores, may_bench
from mla_viz.ui.speed.asked import SpeedAsked
from mla_viz.words import count_text

CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384)
MOST_CONTEXTS, MOST_TOKENS = 4, 16_384  # of a run; sequences times tokens
QUERIES, QUERY_CONTEXT = (1, 16, 64, 256), 4096  # what many queries are timed with, and how far
DTYPES = ("bfloat16", "float32")
POLL_SECONDS = 1.0  # the page's own work is measured along
OFF = (
    "Its operator lets no bench run on this server. On your own machine: `python -m mla_viz bench`."
)


def measure_here(asked: SpeedAsked) -> None:
    """A folded form; a run in progress in its place."""
    running = benches().running
    if (mine := st.session_state.get("speed_run")) is not None and mine is running:
        _watch(mine)
        return
    if mine is not None:
        _ended(mine)
    with st.expander("Measure here", icon=":material/timer:", key="speed_here", expanded=False):
        if not may_bench():
            st.info(OFF)
        elif running is not None:
            st.info(
                "Another visitor's bench is running here, and two would disturb both. Look again"
                " in a minute."
            )
            st.button("Look again", key="speed_again")
        else:
            _form(asked)


def _form(asked: SpeedAsked) -> None:
    st.caption(
        f"Times one layer of {asked.model} in {asked.dtype}, batch {asked.batch:,}, on this server,"
        " in a process of its own. Whatever else the server does meanwhile, other visitors'"
        " decoding too, is measured with it: the result says when the machine was busy."
        f" Over the last minute {os.getloadavg()[0]:.1f} processes wanted one of its"
        f" {count_text(cores(), 'core')}."
    )
    left, right = st.columns(2)
    contexts = left.multiselect(
        "Contexts, tokens",
        CONTEXTS,
        [1024, 4096],
        key="speed_ask_contexts",
        max_selections=MOST_CONTEXTS,
        format_func=lambda tokens: f"{tokens:,}",
    )
    mechanisms = right.multiselect(
        "Mechanisms",
        TIMED,
        ["mha", "mla_expanded", "mla_absorbed"],
        key="speed_ask_mechanisms",
        format_func=label_of,
    )
    repeats = left.slider("Repetitions of each", 3, 15, 7, key="speed_ask_repeats")
    queries = right.checkbox(
        f"Many query tokens too (contexts up to {QUERY_CONTEXT:,})", key="speed_ask_queries"
    )
    peers = right.checkbox("Others' code too (a step of it takes seconds)", key="speed_ask_peers")
    ask = asked, contexts, mechanisms, repeats, queries, peers
    if st.button("Measure", key="speed_measure", type="primary"):
        try:
            st.session_state.speed_run = benches().start(bench_asked(*ask))
        except ValueError as error:
            st.error(str(error))
            return
        st.rerun()


def bench_asked(
    asked: SpeedAsked,
    contexts: list[int],
    mechanisms: list[str],
    repeats: int,
    queries: bool,
    peers: bool,
) -> BenchAsked:
    """What is asked of the bench.

    Raises:
        ValueError: more than this page may ask for, or nothing.
    """
    if not contexts or not mechanisms:
        raise ValueError("contexts and mechanisms: expected one of each at least, got none")
    if asked.dtype not in DTYPES:
        raise ValueError(
            f"dtype: expected {' or '.join(DTYPES)}, in which torch multiplies here, got"
            f" {asked.dtype}"
        )
    if (tokens := asked.batch * max(contexts)) > MOST_TOKENS:
        raise ValueError(
            f"contexts: expected {MOST_TOKENS:,} tokens of all sequences at most on a shared"
            f" server, got {tokens:,}; `python -m mla_viz bench` takes more"
        )
    if queries and max(contexts) > QUERY_CONTEXT:
        raise ValueError(
            f"contexts: expected {QUERY_CONTEXT:,} at most where many query tokens are timed, got"
            f" {max(contexts):,}"
        )
    return BenchAsked(
        asked.model,
        layer_config(asked),
        tuple(sorted(contexts)),
        asked.batch,
        asked.dtype,
        tuple(mechanisms),
        repeats,
        QUERIES if queries else (),
        peers,
    )


def layer_config(asked: SpeedAsked) -> str:
    """The layer in the fields of a config.json, as the bench reads one."""
    g = asked.geometry
    names = {"d_model": "hidden_size", "n_heads": "num_attention_heads"}
    kept = ("d_model", "n_heads", "q_lora_rank", "kv_lora_rank")
    widths = [each.name for each in fields(g) if each.name.endswith("head_dim")]
    return json.dumps({names.get(name, name): getattr(g, name) for name in (*kept, *widths)})


@st.fragment(run_every=POLL_SECONDS)
def _watch(run: BenchRun) -> None:
    """Progress and a way to stop it; the page is built anew once it has ended."""
    run.look()
    if run.ended:
        st.rerun()
    what, done, rounds = run.progress
    text = f"Measuring {what}: round {done} of {rounds}" if done or rounds > 1 else "Loading torch"
    st.progress(done / rounds, text)
    st.button("Stop", key="speed_stop", on_click=run.stop, help="It ends after the round.")


def _ended(run: BenchRun) -> None:
    """What came of it, once; where something did, it is shown from now on."""
    st.session_state.pop("speed_run")
    if run.error:
        st.error(run.error)
        return
    stopped = "" if run.found.complete else " Stopped: the rounds that were whole are kept."
    steps = count_text(len(run.found.points), "step")
    st.toast(f"Measured {steps} of {run.asked.label}.{stopped}")
    st.session_state.speed_show_here = True
    st.rerun()
