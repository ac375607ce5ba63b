"""Why a cache is larger than that: the Memory page's section for what an engine reports."""

import json
from collections.abc import Mapping

import streamlit as st

from mla_viz.config import check_int
from mla_viz.figures.memory import UNITS
from mla_viz.figures.table import table_csv, table_html
from mla_viz.findings.audit import Audit, audit
from mla_viz.findings.engine_log import essence
from mla_viz.findings.memory import MOST_RANKS, Memory
from mla_viz.published.catalog import cached_model, model_names
from mla_viz.ui.memory.asked import Asked
from mla_viz.ui.numbers import whole_number
from mla_viz.words import count_text, number_text

# What llama.cpp prints for a file without the matrices that absorbing needs.
EXAMPLE = {
    "audit_model": "DeepSeek-V2-Lite",
    "report": "llama_kv_cache: size =  540.00 MiB (  2048 cells,  27 layers,  1/1 seqs),"
    " K (f16):  324.00 MiB, V (f16):  216.00 MiB",
}
LONGEST_LINK = 2000  # characters of a report that the address holds


def audit_section(asked: Asked, _: Mapping[str, Memory]) -> None:
    """A field for the report, and what it comes to; the last good one where it cannot be read."""
    st.caption(
        "Paste what an engine says of its cache: a log of vLLM, SGLang or llama.cpp, or one or two"
        " measurements such as `7.03 GB @ 100,000`. Of several ranks, what one of them says. Dtype,"
        " page and batch are those of the sidebar."
    )
    left, right = st.columns([3, 1])
    names = [*asked.models, *(name for name in model_names() if name not in asked.models)]
    name = left.selectbox("Model", names, key="audit_model", bind="query-params")
    tp = whole_number(right, "Ranks of tensor parallelism", "audit_tp", 1, MOST_RANKS)
    text = _report()
    if text.strip():
        try:
            found = audit(
                asked.models.get(name) or cached_model(name),
                text,
                asked.cache_dtype,
                check_int("ranks", tp, 1, MOST_RANKS),
                asked.page,
                asked.batch,
            )
            st.session_state.audited = found
        except ValueError as error:
            st.error(str(error))
            if "audited" not in st.session_state:
                return
            found = st.session_state.audited
            st.caption(f"Below is the last report that could be read, of {found.model}.")
        _shown(found, asked)


def _report() -> str:
    """The text, and what of it the address holds."""
    if "report" not in st.session_state:
        st.session_state.report = st.query_params.get("report", "")
    text = st.text_area("What it says", key="report", height=130, placeholder=EXAMPLE["report"])
    st.button("An example", on_click=lambda: st.session_state.update(EXAMPLE, audit_tp=1.0))
    link = essence(text)
    if link and len(link) <= LONGEST_LINK:
        st.query_params["report"] = link
    else:
        st.query_params.pop("report", None)
        if link:
            st.caption("The link does not hold it: too many of its lines speak of the cache.")
    return text


def _shown(found: Audit, asked: Asked) -> None:
    st.markdown(f"**{found.verdict}**")
    st.caption(found.assumption)
    st.html(table_html(part_rows(found, asked)))
    st.html(table_html(cause_rows(found, asked)))
    st.markdown("\n".join(f"- **{cause.name}**: {cause.sentence}" for cause in found.causes))
    row = st.container(horizontal=True)
    row.download_button(
        "Causes as CSV",
        table_csv([{**vars(c), "changes": " and ".join(c.changes)} for c in found.causes]),
        "mla-viz-audit.csv",
        "text/csv",
        on_click="ignore",
    )
    row.download_button(
        "All of it as JSON",
        json.dumps(found.record(), indent=1),
        "mla-viz-audit.json",
        "application/json",
        on_click="ignore",
    )
    st.caption(f"Source of the geometry: {found.source}.")


def part_rows(found: Audit, asked: Asked) -> list[dict[str, str]]:
    """What is expected by part, what was measured of all of it, and of K and V where printed."""
    text, last = UNITS[asked.unit], found.measurements[-1]
    names = ("part", "expected a token", "measured a token", "expected in all", "measured in all")
    rows = [
        (part.part, text(part.bytes_per_token), "", text(part.bytes), "") for part in found.parts
    ]
    rows += [
        (f"{k}, as printed", "", text(size / last.tokens), "", text(size))
        for k, size in last.split.items()
    ]
    rows += [
        ("fixed", "", "", text(found.expected_fixed_bytes), text(found.fixed_bytes)),
        (
            f"all of it, {count_text(last.tokens, 'token')}",
            text(found.expected_bytes_per_token),
            text(found.bytes_per_token),
            text(found.expected_bytes),
            text(last.bytes),
        ),
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


def cause_rows(found: Audit, asked: Asked) -> list[dict[str, str]]:
    """A row a cause, the best first."""
    text = UNITS[asked.unit]
    return [
        {
            "cause": cause.name,
            "times the expected": number_text(cause.ratio),
            "a token": text(cause.bytes_per_token),
            "in all": text(cause.bytes),
            "off by": f"{cause.error:.2%}",
            "fits": "yes" if cause.fits else "no",
        }
        for cause in found.causes
    ]
