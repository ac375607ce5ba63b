"""The family of trained models: what each member is, and how every seed of it scored.

Counts come from `cost`, losses from the committed results. Knows neither torch nor screens.
"""

import json
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Any

from mla_viz.config import ModelGeometry, geometry_from
from mla_viz.cost import cache_elems, model_flops, model_params
from mla_viz.mechanisms.table import mechanism_of, model_label
from mla_viz.shipped import belongs, intact, member_weights, shipped
from mla_viz.words import loss_text, signed_text

FAMILY_FILE = "family.json"
LOSS = "nats_per_token"
TOLD_APART = 0.04  # nats per token past which two models of one training each differ measurably


@dataclass(frozen=True)
class SeedScore:
    """One training of a member, scored in float16 as it would be shipped.

    Losses in nats per token; `content_keys` and `values` are mean linear CKA of heads, the former
    None where it was not measured. `recall_by_prompt` is the share right at each prompt, where it
    was kept; its mean is `name_recall`.
    """

    seed: int
    nats_per_token: float
    bits_per_byte: float
    repeated: float
    novel: float
    name_recall: float
    content_keys: float | None
    values: float
    recall_by_prompt: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Member:
    """One kind of attention in the family's model, and its trainings."""

    name: str
    label: str
    geometry: ModelGeometry
    lr_scale: float
    runs: tuple[SeedScore, ...]

    @property
    def mechanism(self) -> str:
        """The mechanism that decodes these weights with the least cache."""
        return mechanism_of(self.geometry.attention)

    @property
    def params(self) -> int:
        """Weights of the whole model, embedding included."""
        return model_params(self.geometry)

    @property
    def cache_elems(self) -> int:
        """Elements cached for one token in one layer."""
        return cache_elems(self.mechanism, self.geometry.attention)

    def cache_bytes(self, tokens: int, elem_bytes: int = 2) -> int:
        """Bytes cached for some tokens in all layers."""
        return self.cache_elems * self.geometry.n_layers * tokens * elem_bytes

    def flops(self, seq_len: int) -> int:
        """FLOPs of decoding the seq_len-th token, feed-forward and output matrix included."""
        return model_flops(self.mechanism, self.geometry, seq_len)

    def mean(self, field: str) -> float:
        """Mean of a field of SeedScore over the seeds."""
        return fmean(getattr(run, field) for run in self.runs)

    @property
    def content_keys(self) -> float | None:
        """Mean likeness of the heads' keys before RoPE, over the seeds that have it."""
        found = [run.content_keys for run in self.runs if run.content_keys is not None]
        return fmean(found) if found else None

    def std(self, field: str) -> float | None:
        """Sample standard deviation over the seeds; None with one seed."""
        values = [getattr(run, field) for run in self.runs]
        return stdev(values) if len(values) > 1 else None

    @property
    def recall_error(self) -> float | None:
        """Standard error of the name recall over its prompts, which stand for all stories."""
        kept = [run.recall_by_prompt for run in self.runs if run.recall_by_prompt]
        shares = [fmean(shares) for shares in zip(*kept, strict=True)]
        return stdev(shares) / len(shares) ** 0.5 if shares else None

    @property
    def half_width(self) -> float:
        """Spread of the loss over the seeds; with one seed, half of what tells two models apart."""
        spread = self.std(LOSS)
        return TOLD_APART / 2 if spread is None else spread

    @property
    def interval(self) -> tuple[float, float]:
        """Mean loss give or take its half width."""
        return self.mean(LOSS) - self.half_width, self.mean(LOSS) + self.half_width

    @property
    def shipped(self) -> bool:
        """Whether the weights of the first seed came with the package."""
        return belongs(member_weights(self.name))


@dataclass(frozen=True)
class Difference:
    """How much more one member loses than another, in nats per token, seed by seed."""

    by_seed: tuple[float, ...]
    measurable: bool

    @property
    def mean(self) -> float:
        """Mean over the seeds that both have."""
        return fmean(self.by_seed)

    def __str__(self) -> str:
        """`0.12 nats/token more`, or that there is no measurable difference."""
        if not self.measurable:
            return f"no measurable difference ({signed_text(self.mean, 3)} nats/token)"
        return f"{loss_text(abs(self.mean), 2)} nats/token {'more' if self.mean > 0 else 'less'}"


def difference(one: Member, other: Member) -> Difference:
    """Loss of `one` less that of `other`, paired by seed; measurable where no interval overlaps."""
    losses = {run.seed: run.nats_per_token for run in other.runs}
    pairs = (run.nats_per_token - losses[run.seed] for run in one.runs if run.seed in losses)
    (low, high), (other_low, other_high) = one.interval, other.interval
    return Difference(tuple(pairs), high < other_low or other_high < low)


@dataclass(frozen=True)
class Trial:
    """A short training to choose by."""

    name: str
    lr_scale: float
    seed: int
    nats_per_token: float


@dataclass(frozen=True)
class Family:
    """All members, the trials before them, and the members with one feed-forward for all.

    `planned` counts the members there will be once all are trained. Every member reads `tokens`
    tokens, every trial `trial_tokens`, of a text of `text_tokens`.
    """

    tokens: int
    trial_tokens: int
    text_tokens: int
    planned: int
    stories: int
    scored_tokens: int
    members: tuple[Member, ...]
    swapped: tuple[Member, ...]
    trials: tuple[Trial, ...]

    @property
    def passes(self) -> float:
        """How many times a member's training goes over the text."""
        return self.tokens / self.text_tokens

    def pareto_edge(self) -> list[Member]:
        """The members that no other beats with as little cache, from the least cache up."""
        edge: list[Member] = []
        for member in sorted(self.members, key=lambda m: (m.cache_elems, m.mean(LOSS))):
            if not edge or member.mean(LOSS) < edge[-1].mean(LOSS):
                edge.append(member)
        return edge

    def repeated_trials(self) -> dict[str, dict[int, float]]:
        """Loss by seed of the trials that were made with more than one, by the trial's name."""
        losses: dict[tuple[str, float], dict[int, float]] = {}
        for trial in self.trials:
            by_seed = losses.setdefault((trial.name, trial.lr_scale), {})
            by_seed[trial.seed] = trial.nats_per_token
        return {name: by_seed for (name, _), by_seed in losses.items() if len(by_seed) > 1}

    def extremes(self) -> tuple[Member, Member]:
        """The members with the least and with the largest mean loss."""
        ranked = sorted(self.members, key=lambda member: member.mean(LOSS))
        return ranked[0], ranked[-1]

    def member(self, name: str) -> Member:
        """The member of that name.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(member.name for member in self.members)
        raise ValueError(f"source: expected one of {names}, got {name!r}")


@cache
def load_family() -> Family:
    """The committed results, read once."""
    record = json.loads(intact(shipped(FAMILY_FILE)).read_text(encoding="utf-8"))
    return Family(
        tokens=record["tokens"],
        trial_tokens=record["trial_tokens"],
        text_tokens=record["text_tokens"],
        planned=record["planned"],
        stories=record["stories"],
        scored_tokens=record["scored_tokens"],
        members=tuple(map(_member, record["members"])),
        swapped=tuple(map(_member, record["swapped"])),
        trials=tuple(Trial(**trial) for trial in record["trials"]),
    )


def _member(record: dict[str, Any]) -> Member:
    geometry = geometry_from(record["geometry"])
    runs = tuple(map(_seed_score, record["runs"]))
    return Member(geometry.name, model_label(geometry), geometry, record["lr_scale"], runs)


def _seed_score(record: dict[str, Any]) -> SeedScore:
    by_prompt = record.get("recall_by_prompt")
    return SeedScore(**record | {"recall_by_prompt": by_prompt and tuple(by_prompt)})
