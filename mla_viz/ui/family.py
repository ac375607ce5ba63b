"""The sections of the Quality page: what the family's members lose, share and write."""

import streamlit as st

from mla_viz.catalog import ABLATIONS
from mla_viz.decode import generate
from mla_viz.family import LOSS, Family, Member, difference
from mla_viz.figures.quality import family_figure, likeness_figure, loss_grid_figure
from mla_viz.scores import load_grid
from mla_viz.settings import EXAMPLE_PROMPT, Settings
from mla_viz.ui.runs import run_store

PLAIN = {"displayModeBar": False}


def is_dark() -> bool:
    """Whether the reader's page is dark now."""
    return st.context.theme.type == "dark"


def seeds_words(family: Family) -> str:
    """How many trainings the points stand for."""
    counts = sorted({len(member.runs) for member in family.members})
    if counts == [1]:
        return "one training each, so that differences under 0.02 nats mean nothing"
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{span} trainings each, mean and standard deviation"


def comparison(family: Family) -> None:
    """Loss against cache: the chart, what it says, and the table behind it."""
    st.plotly_chart(
        family_figure(family, is_dark()), key="family", config=PLAIN, alt=_chart_words(family)
    )
    best, worst = family.extremes()
    st.markdown(
        f"**{worst.label}** loses {difference(worst, best)} than **{best.label}**, the largest"
        f" distance here; {seeds_words(family)}. " + _against_mha(family)
    )
    st.table(_table(family.members))


def _chart_words(family: Family) -> str:
    points = ", ".join(f"{m.label} {m.cache_elems}: {m.mean(LOSS):.2f}" for m in family.members)
    return f"Elements cached for a token and layer, and loss in nats per token: {points}"


def _against_mha(family: Family) -> str:
    names = {member.name: member for member in family.members}
    if "mha" not in names:
        return ""
    mha, words = names["mha"], []
    for member in family.members:
        if member.mechanism == "mla_absorbed":
            share = mha.cache_elems / member.cache_elems
            words.append(f"{member.label}: {share:.1f}x less cache, {difference(member, mha)}")
    return "Against MHA: " + "; ".join(words) + "." if words else ""


def _table(members: tuple[Member, ...]) -> list[dict[str, object]]:
    """A row a member; spread only where there is one."""
    spreads = [m.std(LOSS) for m in members]
    shown = any(spread is not None for spread in spreads)
    return [
        {
            "model": m.label,
            "cached a token and layer": m.cache_elems,
            "KiB at 256 tokens, float16": round(m.cache_bytes(256) / 1024, 1),
            "nats/token": round(m.mean(LOSS), 3),
            **({"±": spread and round(spread, 3)} if shown else {}),
            "bits/byte": round(m.mean("bits_per_byte"), 3),
            "repeated pairs": round(m.mean("repeated"), 3),
            "new pairs": round(m.mean("novel"), 3),
            "name recall": f"{m.mean('name_recall'):.0%}",
            "parameters": f"{m.params:,}",
            "MFLOP, last token": round(m.flops(m.geometry.context) / 1e6, 2),
            "seeds": len(m.runs),
        }
        for m, spread in zip(members, spreads, strict=True)
    ]


def slider_map() -> None:
    """Loss of the model that follows the sliders, at every setting of them."""
    grid = load_grid()
    st.plotly_chart(
        loss_grid_figure(grid, 8, 32),
        key="grid",
        config=PLAIN,
        alt="Map of validation loss over heads and latent dim: it falls towards more of either",
    )


def likeness(family: Family) -> None:
    """How alike the heads are, in every member."""
    words = ", ".join(f"{m.label} values {m.mean('values'):.2f}" for m in family.members)
    st.plotly_chart(likeness_figure(family, is_dark()), key="likeness", config=PLAIN, alt=words)


@st.cache_data(show_spinner=False, max_entries=256)
def _continuation(name: str, mechanism: str, prompt: str, seed: int) -> str:
    run_store()  # sets the threads of torch
    return generate(Settings(prompt, name, left=mechanism, right=mechanism, seed=seed))


def continuations(family: Family) -> None:
    """One prompt, continued by every member from one seed."""
    left, right = st.columns([3, 1])
    prompt = left.text_input("Prompt", EXAMPLE_PROMPT, key="story", bind="query-params")
    seed = right.number_input("Seed", 0, 999, 0, key="story_seed", bind="query-params")
    shipped = [member for member in family.members if member.shipped]
    try:
        told = [_continuation(m.name, m.mechanism, prompt, seed) for m in shipped]
    except ValueError as error:
        st.error(str(error))
        return
    cards = st.columns(2)
    for i, (member, text) in enumerate(zip(shipped, told, strict=True)):
        with cards[i % 2].container(border=True):
            st.markdown(
                f"**{member.label}** · {member.cache_elems} cached · {member.mean(LOSS):.2f} nats"
            )
            st.text(prompt + text)


def published() -> None:
    """The ablations of the DeepSeek-V2 paper."""
    rows = [
        {
            "comparison": row.comparison,
            "attention": row.attention,
            "cached a token": f"{row.cache_elems:,}" if row.cache_elems else "not printed",
            **row.scores,
            "source": row.source,
        }
        for row in ABLATIONS
    ]
    st.table(rows)


def protocol(family: Family) -> None:
    """How the models were trained, the trials before, and the second table."""
    mha = family.members[0]
    st.markdown(
        f"Every model has {mha.geometry.n_layers} layers of width"
        f" {mha.geometry.attention.d_model}, a context of {mha.geometry.context} tokens and"
        f" {mha.params / 1e6:.2f}M parameters (the feed-forward width makes up for what attention"
        f" saves, within 0.5 %), and read the same {family.tokens / 1e6:.0f}M tokens in the same"
        f" order. Scores are taken from the float16 weights on {family.stories} held-out stories"
        f" ({family.scored_tokens:,} tokens)."
    )
    st.markdown("**Trials before it**, a quarter of the tokens each, one seed:")
    trials = [
        {"model": t.name, "learning rate": f"x{t.lr_scale:g}", "nats/token": t.nats_per_token}
        for t in family.trials
    ]
    st.table(trials)
    if family.swapped:
        st.markdown(
            f"**Attention swapped and nothing else changed**: the feed-forward of MHA for all,"
            f" {family.trial_tokens / 1e6:.0f}M tokens, one seed."
        )
        st.table(_table(family.swapped))
