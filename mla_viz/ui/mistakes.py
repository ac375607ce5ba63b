"""The museum of mistakes: the sidebar, what a mistake is, and what it does to a layer and a text.

The one page to which `checkpoints.mistakes` comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from mla_viz.checkpoints.mistakes import MISTAKES, NOTICED, Effect
from mla_viz.figures.mistakes import attention_figure, length_figure, scores_figure, text_html
from mla_viz.figures.table import table_html
from mla_viz.findings.museum import (
    MOST_NEW_TOKENS,
    MuseumAsked,
    Texts,
    full_model,
    seen,
    summary,
    texts,
    yarn_factor,
)
from mla_viz.ui.chart import chart, is_dark
from mla_viz.words import count_text, share_text

SHARES = (NOTICED, 0.1, 0.5)
NO_THREAD = "No thread about it is cited: none was found."
_URL = "query-params"


def museum_asked() -> MuseumAsked:
    """The sidebar's widgets, and the last good question where the prompt is refused."""
    g = full_model().geometry
    with st.sidebar:
        mistake = st.selectbox("Mistake", list(MISTAKES), key="museum_mistake", bind=_URL)
        prompt = st.text_area("Prompt", MuseumAsked.prompt, key="museum_prompt", bind=_URL)
        slot = st.empty()
        new = _slider("New tokens", "new_tokens", 8, MOST_NEW_TOKENS, MuseumAsked.new_tokens)
        layer = _slider("Layer", "layer", 1, g.n_layers, MuseumAsked.layer + 1)
        head = _slider("Head", "head", 1, g.attention.n_heads, MuseumAsked.head + 1)
    last = st.session_state.get("museum_good", MuseumAsked())
    good = replace(last, mistake=mistake, new_tokens=new, layer=layer - 1, head=head - 1)
    try:
        good = replace(good, prompt=prompt)
    except ValueError as error:
        slot.error(f"{error}. The page goes on with “{good.prompt}”.")
    st.session_state.museum_good = good
    return good


def _slider(label: str, name: str, low: int, high: int, start: int) -> int:
    return st.slider(label, low, high, start, key=f"museum_{name}", bind=_URL)


def exhibit(asked: MuseumAsked) -> None:
    """What the mistake is, who reported it, and both texts."""
    row = asked.row
    st.header(asked.mistake.capitalize(), anchor="mistake", divider="gray")
    st.markdown(row.what)
    for place, name, code in zip(
        st.columns(2), ("Right", "Wrong"), (row.right, row.wrong), strict=True
    ):
        place.markdown(f"**{name}**")
        place.code(code, language=None, wrap_lines=True)
    st.markdown(
        f"{row.reported} [{thread_name(row.thread)}]({row.thread})" if row.thread else NO_THREAD
    )
    if row.of_yarn:
        st.info(
            f"The stories model has no YaRN. Here its queries are divided by DeepSeek-V3's m²,"
            f" {yarn_factor():.2f}, and its softmax scale is multiplied by it: the same scores and"
            " text, with a factor that can be got wrong."
        )
    _texts(texts(asked))


def thread_name(url: str) -> str:
    """`ollama/ollama#13893` of its address."""
    owner, project, _, number = url.split("/")[3:]
    return f"{owner}/{project}#{number}"


def _texts(both: Texts) -> None:
    prompt = "".join(both.prompt)
    places = zip(st.columns(2), ("Right", "Wrong"), (both.right, both.wrong), strict=True)
    for place, name, told in places:
        with place.container(border=True, height="stretch"):
            st.markdown(f"**{name}: what the model writes**")
            st.caption(prompt)
            st.html(text_html(told, both.differs_at))
    st.caption(f"{text_words(both)} The likeliest token is always taken.")


def text_words(both: Texts) -> str:
    """What a mistake does to the text, in a sentence or two."""
    if both.differs_at is None:
        return f"Both texts are the same for {count_text(len(both.right), 'token')}."
    return (
        f"New token {both.differs_at + 1}, framed, is the first that differs. Reading the right"
        f" text, the wrong model would choose its next token {sum(both.same_next)} of"
        f" {len(both.same_next)} times."
    )


def noticed_past() -> float:
    """From which error on one notices."""
    labels = {share_text(share): share for share in SHARES}
    chosen = st.segmented_control(
        "Noticed where the output is off by more than",
        list(labels),
        default=share_text(NOTICED),
        required=True,
        key="museum_share",
        bind=_URL,
    )
    return labels.get(chosen, NOTICED)  # an address may hold what is none of them


def cards(asked: MuseumAsked, found: Effect, share: float) -> None:
    """What is off at the whole text, and from which length on one notices."""
    n = len(found.out)
    noticed = found.noticed_at(share)
    told = (
        (
            "Noticed from",
            "never" if noticed is None else count_text(noticed, "token"),
            f"output of layer {asked.layer + 1} off by more than {share_text(share)}",
        ),
        (
            "Scores",
            share_text(float(found.scores[-1])),
            f"off at {n} tokens, of the largest right one",
        ),
        (
            "Attention",
            share_text(float(found.probs[-1])),
            "goes elsewhere, in the head where most does",
        ),
        ("Output", share_text(float(found.out[-1])), "off, of its largest right value"),
    )
    for place, (head, figure, words) in zip(st.columns(len(told)), told, strict=True):
        with place.container(border=True, height="stretch"):
            st.markdown(f"**{head}**")
            st.markdown(f"## {figure}")
            st.caption(words)


def scores_section(asked: MuseumAsked) -> None:
    """Scores wrong against right, and one query's attention."""
    tokens = _tokens(asked)
    if "museum_query" in st.session_state:  # of a longer text
        st.session_state.museum_query = min(st.session_state.museum_query, len(tokens))
    query = st.slider("Query: token", 1, len(tokens), len(tokens), key="museum_query", bind=_URL)
    both = seen(asked)
    scores = [x[asked.head, query - 1, :query].tolist() for x in (both.right, both.wrong)]
    attention = [x.tolist() for x in both.attention(asked.head, query - 1)]
    place = f"layer {asked.layer + 1}, head {asked.head + 1}, query {query}"
    numbers = [
        dict(
            zip(
                ("token", "score right", "score wrong", "attention right", "attention wrong"),
                row,
                strict=True,
            )
        )
        for row in zip(tokens, *scores, *attention, strict=False)
    ]
    left, right = st.columns(2)
    with left:
        chart(
            scores_figure(*scores, is_dark()),
            "museum_scores",
            numbers,
            f"Scores wrong against right: {place}",
        )
    with right:
        chart(
            attention_figure(tokens, *attention, is_dark()),
            "museum_attention",
            numbers,
            f"Attention right and wrong: {place}",
        )
    st.caption(f"{place.capitalize()}, {tokens[query - 1]!r}, and the tokens up to it.")
    _as_table(numbers, "museum_scores_table")


def _as_table(numbers: Sequence[Mapping[str, object]], key: str) -> None:
    with st.expander("As a table", key=key, on_change="rerun") as table:
        if table.open:
            st.html(table_html([_printed(row) for row in numbers]))


def _printed(row: Mapping[str, object]) -> dict[str, str]:
    return {
        name: f"{x:.3f}" if isinstance(x, float) else f"{x}" if isinstance(x, int) else repr(x)
        for name, x in row.items()
    }


def _tokens(asked: MuseumAsked) -> tuple[str, ...]:
    both = texts(asked)
    return both.prompt + both.right


def length_section(found: Effect, share: float) -> None:
    """How far it is off at every length of the prompt."""
    off = {
        "scores": found.scores.tolist(),
        "attention": found.probs.tolist(),
        "output": found.out.tolist(),
    }
    noticed = found.noticed_at(share)
    numbers = [
        {"tokens": n + 1, **{name: values[n] for name, values in off.items()}}
        for n in range(len(found.out))
    ]
    when = "never noticed" if noticed is None else f"noticed from {count_text(noticed, 'token')}"
    chart(
        length_figure(off, share, noticed, is_dark()),
        "museum_length",
        numbers,
        f"How far scores, attention and output are off by length: {when}",
    )
    st.caption(
        "Of the last token of each prompt, in the layer chosen. Dotted are the error that one"
        " notices and the first prompt that has it. One token alone has all the attention at any"
        " scale, and nothing is turned at position 0: a test of one token finds neither a wrong"
        " scale nor a wrong rotation."
    )
    _as_table(numbers, "museum_length_table")


def all_section(asked: MuseumAsked, share: float) -> None:
    """Every mistake on this prompt, in this layer."""
    bar = st.progress(0.0, "Every mistake writes…")
    rows = []
    for done, name in enumerate(MISTAKES, 1):
        rows.append(summary(replace(asked, mistake=name), share))
        bar.progress(done / len(MISTAKES), "Every mistake writes…")
    bar.empty()
    st.html(table_html([_all_row(row) for row in rows]))
    st.caption(
        f"Layer {asked.layer + 1}, at {rows[0]['tokens']} tokens. The two about m are shown in the"
        " model with that factor, in which nothing else differs."
    )


def _all_row(row: dict[str, object]) -> dict[str, str]:
    first = row["first_other_token"]
    return {
        "mistake": row["mistake"],
        "scores off": share_text(row["scores_off"]),
        "attention elsewhere": share_text(row["attention_elsewhere"]),
        "output off": share_text(row["output_off"]),
        "noticed from, tokens": f"{row['noticed_at_tokens'] or 'never'}",
        "first other new token": "none" if first is None else f"{first}",
        "same next token": f"{row['same_next_tokens']} of {row['of_tokens']}",
    }
