"""The sections of the Quality page: what the family's members lose, share and write."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from statistics import fmean, stdev

import streamlit as st

from mla_viz.config import check_int
from mla_viz.cost import baselines, cache_elems
from mla_viz.figures.quality import (
    family_figure,
    family_numbers,
    likeness_figure,
    likeness_numbers,
)
from mla_viz.figures.table import table_html
from mla_viz.findings.claims.rules import mla_gains
from mla_viz.findings.family import LOSS, TOLD_APART, Family, Member, difference
from mla_viz.findings.prompts import CHANCE, NAMES, PROMPTS
from mla_viz.findings.scores import load_grid
from mla_viz.model.sources import TEMPERATURE, TRAINED, Shape, find_source
from mla_viz.published.catalog import ABLATIONS, Ablation
from mla_viz.run.decode import bill_of
from mla_viz.run.settings import EXAMPLE_PROMPT, Settings
from mla_viz.serving.pool import POLL_SECONDS, WorkerLost
from mla_viz.ui.chart import chart, is_dark
from mla_viz.ui.loss_map import loss_map
from mla_viz.ui.numbers import whole_number
from mla_viz.ui.server import workers
from mla_viz.words import (
    NATS,
    kib_text,
    loss_text,
    mega_text,
    number_text,
    share_text,
    signed_text,
)


def seeds_words(family: Family) -> str:
    """How many trainings the points stand for."""
    counts = sorted({len(member.runs) for member in family.members})
    if counts == [1]:
        return (
            f"Every point is one training, its bar {TOLD_APART / 2} nats up and down. Models within"
            f" {TOLD_APART} nats, whose bars overlap, are not told apart."
        )
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Every point is the mean of {span} trainings, with their standard deviation as a bar."


def comparison(family: Family) -> None:
    """Loss against cache: the chart, and what it says."""
    numbers = family_numbers(family)
    chart(family_figure(family, is_dark()), "family", numbers, _chart_words(family))
    st.caption(
        f"{seeds_words(family)} The dotted line joins the models that no other beats with as little"
        f" cache. {NATS}"
    )
    st.markdown("\n".join(f"- {finding}" for finding in findings(family)))
    for member in family.members:
        if member.mechanism == "mqa":
            st.caption(head_dims(member))


def head_dims(mqa: Member) -> str:
    """Why MQA and MLA stand in another order here than on the Decode page, where they do."""
    source = find_source(TRAINED)
    there, here = source.geometry(Shape(), "mla_absorbed").attention, mqa.geometry.attention
    plain = baselines(there.n_heads, there.v_head_dim)[-1]
    return (
        f"Heads have {here.head_dim} dims here and {there.v_head_dim} in the sliders' model of the"
        f" Decode page: MQA caches 2·1·{here.head_dim} = {mqa.cache_elems} values here and would"
        f" cache 2·1·{there.v_head_dim} = {plain.elems} there, where MLA with latent"
        f" {there.kv_lora_rank} caches {cache_elems('mla_absorbed', there)}."
    )


def _chart_words(family: Family) -> str:
    points = ", ".join(
        f"{m.label} {m.cache_elems}: {loss_text(m.mean(LOSS), 2)}" for m in family.members
    )
    return f"Elements cached for a token and layer, and loss in nats per token: {points}"


def findings(family: Family) -> Iterator[str]:
    """What the trained members show, each a sentence of Markdown with its numbers."""
    best, worst = family.extremes()
    yield f"**From end to end**: {worst.label} against {best.label}, {difference(worst, best)}."
    latent = [m for m in family.members if m.mechanism == "mla_absorbed"]
    for other in family.members:
        within = [m for m in latent if m.cache_elems <= other.cache_elems]
        if other in latent or not within:
            continue
        mla = min(within, key=lambda m: m.mean(LOSS))
        yield (
            f"**At no more cache than {other.label}** ({other.cache_elems} elements):"
            f" {mla.label} with {mla.cache_elems}, {difference(mla, other)}."
        )
    repeated, novel = (worst.mean(kind) - best.mean(kind) for kind in ("repeated", "novel"))
    yield (
        f"**Where it is lost**: {worst.label} against {best.label}, {signed_text(repeated, 2)}"
        " nats/token on pairs of tokens that the story had before,"
        f" {signed_text(novel, 2)} on new ones."
    )


def figures(family: Family) -> None:
    """The table behind the chart."""
    st.html(table_html(_table(family.members)))
    st.caption(
        f"Name recall: {len(PROMPTS)} beginnings of stories, each with {len(NAMES)} names in turn;"
        f" which of them does the model find likeliest where one must follow? {share_text(CHANCE)}"
        f" is chance. ± is one standard error over the {len(PROMPTS)} beginnings: their prompts"
        " share a story, so they do not count as single ones."
    )


def _table(members: tuple[Member, ...]) -> list[dict[str, str]]:
    """A row a member; a column for the spread only where there is one."""
    rows = [_table_row(m) for m in members]
    if not any(row["±"] for row in rows):
        for row in rows:
            del row["±"]
    return rows


def _table_row(m: Member) -> dict[str, str]:
    std = m.std(LOSS)
    return {
        "model": m.label,
        "cached a token and layer": f"{m.cache_elems}",
        "KiB at 256 tokens, float16": kib_text(m.cache_bytes(256)),
        "nats/token": loss_text(m.mean(LOSS)),
        "±": "" if std is None else loss_text(std),
        "bits/byte": loss_text(m.mean("bits_per_byte")),
        "repeated pairs": loss_text(m.mean("repeated")),
        "new pairs": loss_text(m.mean("novel")),
        f"name recall (chance {share_text(CHANCE)})": share_text(
            m.mean("name_recall"), m.recall_error
        ),
        "parameters": f"{m.params:,}",
        "MFLOP, last token": mega_text(m.flops(m.geometry.context)),
        "seeds": f"{len(m.runs)}",
    }


def slider_map(_: Family) -> None:
    """Loss of the model that follows the sliders, at every setting of them."""
    grid = load_grid()
    st.caption(
        "One more model, that of the Decode page: it works at every setting of its sliders, and"
        f" this is its loss at each. It read {grid.read_tokens / 1e6:.0f}M tokens,"
        f" {number_text(grid.passes)} passes over the text. The frame marks where the page starts."
    )
    start = find_source(TRAINED).start
    loss_map(start["heads"], start["latent"])


def likeness(family: Family) -> None:
    """How alike the heads are, in every member."""
    st.markdown(
        "In MQA all heads read one key and one value, in GQA those of a group do. In MLA all read"
        " one latent, but each through its own matrix. Linear CKA"
        " ([Kornblith et al., 2019](https://arxiv.org/abs/1905.00414)) tells how alike two heads'"
        " keys or values are over real tokens: 1 is the same up to rotation and scale. Keys are"
        " compared before RoPE in every model, since after it position is in the keys of all heads"
        " and makes them more alike; MLA's RoPE key, one for all heads by design, is left out. A"
        " latent no wider than a head leaves all heads the same few directions, and so makes them"
        " alike by itself."
    )
    rankings = likeness_words(family)
    alt = " ".join(rankings).replace("**", "")
    chart(likeness_figure(family, is_dark()), "likeness", likeness_numbers(family), alt)
    st.markdown("\n\n".join(rankings))


def likeness_words(family: Family) -> list[str]:
    """The members in the order of the likeness of their keys, and of their values."""
    kinds = (
        ("Keys before RoPE", [(m.content_keys, m.label) for m in family.members]),
        ("Values", [(m.mean("values"), m.label) for m in family.members]),
    )
    words = []
    for kind, found in kinds:
        known = sorted((alike, label) for alike, label in found if alike is not None)
        ranked = ", ".join(f"{label} {alike:.2f}" for alike, label in known)
        words.append(f"**{kind}, from the least alike to the most**: {ranked}.")
    return words


def continuations(family: Family) -> None:
    """One prompt, continued by every member from one seed."""
    st.caption(
        f"One seed for all, temperature {TEMPERATURE}, top-k {Settings.top_k},"
        f" {Settings.max_new_tokens} tokens."
    )
    left, right = st.columns([3, 1])
    prompt = left.text_input("Prompt", EXAMPLE_PROMPT, key="story", bind="query-params")
    seed = whole_number(right, "Seed", "story_seed", 0, 999)
    shipped = [member for member in family.members if member.shipped]
    try:
        seed = check_int("seed", seed, 0, 999)
        told = _continued(shipped, prompt, seed)
    except (ValueError, WorkerLost) as error:
        st.error(str(error))
        return
    places = [place for _ in shipped[::2] for place in st.columns(2)]
    for place, member, text in zip(places, shipped, told, strict=False):
        with place.container(border=True, height="stretch"):
            st.markdown(
                f"**{member.label}** · {member.cache_elems} cached"
                f" · {loss_text(member.mean(LOSS), 2)} nats"
            )
            st.text(prompt + text)


def _continued(members: list[Member], prompt: str, seed: int) -> list[str]:
    """What each member writes, all asked for at once."""
    asked = [
        Settings(prompt, m.name, left=m.mechanism, right=m.mechanism, seed=seed) for m in members
    ]
    with ExitStack() as stack, st.spinner("Every model writes…"):
        jobs = [stack.enter_context(workers().ask("text", s, bill_of(s))) for s in asked]
        while not all(job.wait(POLL_SECONDS) for job in jobs):
            st.session_state.get("story_seed")  # a look is enough for Streamlit to end the run
        return [job.result().decode() for job in jobs]


def published(_: Family) -> None:
    """The limits of these models, and the ablations of the DeepSeek-V2 paper beside them."""
    gains = mla_gains()
    st.markdown(
        "These models have a million parameters and read five megabytes of children's stories."
        " They show how the mechanisms trade cache for loss **here**, at this size and width of"
        " heads. They are no evidence about models a thousand times larger. For those there are"
        " the comparisons that DeepSeek published, in percent of benchmark questions answered: MLA"
        f" is above MHA in {sum(gain > 0 for gain in gains)} of {len(gains)} cells; the exception"
        " is C-Eval of the small models. The large MHA model even had more parameters at work for"
        " a token, 25.0 billion against 21.5."
    )
    for source, rows in groupby(ABLATIONS, lambda row: row.source):
        st.caption(source)
        st.html(table_html([_published_row(row) for row in rows]))


def _published_row(row: Ablation) -> dict[str, str]:
    return {
        "comparison": row.comparison,
        "attention": row.attention,
        "cached a token": f"{row.cache_elems:,}" if row.cache_elems else "not printed",
        **{name: f"{score:.1f}" for name, score in row.scores.items()},
    }


def protocol(family: Family) -> None:
    """How the models were trained, the trials before, and the second table."""
    mha = family.members[0]
    st.markdown(
        f"Every model has {mha.geometry.n_layers} layers of width"
        f" {mha.geometry.attention.d_model}, a context of {mha.geometry.context} tokens and"
        f" {mha.params / 1e6:.2f}M parameters (the feed-forward width makes up for what attention"
        f" saves, within 0.5 %), and read the same {family.tokens / 1e6:.0f}M tokens in the same"
        f" order, {number_text(family.passes)} passes over a text of"
        f" {mega_text(family.text_tokens)}M. Scores are taken from the float16 weights on"
        f" {family.stories} held-out stories ({family.scored_tokens:,} tokens)."
    )
    st.markdown("**Trials before it**, a quarter of the tokens each, one seed:")
    trials = [
        {
            "model": t.name,
            "learning rate": f"×{t.lr_scale:g}",
            "nats/token": loss_text(t.nats_per_token),
        }
        for t in family.trials
        if t.seed == 0
    ]
    st.html(table_html(trials))
    if repeated := family.repeated_trials():
        st.markdown("**Trials with other seeds**, which change the first weights and the order:")
        st.html(table_html(_repeated(repeated)))
        spread = max(stdev(losses.values()) for losses in repeated.values())
        st.markdown(
            "The difference of two single trainings of one model thus has a standard deviation of"
            f" up to {loss_text(2**0.5 * spread)}; here two models are told apart past"
            f" {TOLD_APART}."
        )
    if family.swapped:
        st.markdown(
            f"**Attention swapped and nothing else changed**: the feed-forward of MHA for all,"
            f" {family.trial_tokens / 1e6:.0f}M tokens, one seed; {len(family.swapped)} of"
            f" {family.planned} models.{_recall_spread(family)}"
        )
        st.html(table_html(_table(family.swapped)))


def _recall_spread(family: Family) -> str:
    """What to take for the spread of name recall where no prompt's share was kept."""
    errors = [100 * m.recall_error for m in family.members if m.recall_error is not None]
    if not errors or all(m.recall_error for m in family.swapped):
        return ""
    return (
        " Their name recall was kept only as a whole; its standard error is likely that of the"
        f" members, {min(errors):.0f} to {max(errors):.0f} points."
    )


def _repeated(trials: dict[str, dict[int, float]]) -> list[dict[str, str]]:
    """A row a trial, its loss by seed, the best first; then what each other loses more than it."""
    seeds = sorted(set.intersection(*map(set, trials.values())))
    rows = {name: [losses[seed] for seed in seeds] for name, losses in trials.items()}
    best, *others = sorted(rows, key=lambda name: fmean(rows[name]))
    rows = {name: rows[name] for name in (best, *others)}
    for name in others:
        pairs = zip(rows[name], rows[best], strict=True)
        rows[f"{name} less {best}"] = [loss - of_best for loss, of_best in pairs]
    return [
        {
            "nats/token": name,
            **{f"seed {seed}": loss_text(loss) for seed, loss in zip(seeds, losses, strict=True)},
            "mean": loss_text(fmean(losses)),
            "±": loss_text(stdev(losses)),
        }
        for name, losses in rows.items()
    ]
