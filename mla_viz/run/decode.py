"""The token loop: a prompt goes in, two mechanisms decode it side by side, a Run comes out.

The left side leads: it chooses every token and both sides are fed the same ones. Knows models and
records; knows no screen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mla_viz.config import EACH, check_callback
from mla_viz.model.device import parse_dtype, pick_device, usable_bytes
from mla_viz.model.sources import find_source, follows
from mla_viz.run.against import against
from mla_viz.run.bill import Bill, bill, writing_bill
from mla_viz.run.comparison import Comparison
from mla_viz.run.record import sealed
from mla_viz.run.recorder import Played, Recorder
from mla_viz.run.sampling import Sampler, check_finite, choice_logits
from mla_viz.run.settings import Settings, SideModel
from mla_viz.run.trace import Run, Token, dropped_rows

OnStep = Callable[[int, int], None]


def decode(prompt: str | Settings, *, on_step: OnStep | None = None, **settings: object) -> Run:
    """Decode a prompt by two mechanisms and return the whole trace.

    Args:
        prompt: the text; or Settings, which the keywords then change.
        **settings: fields of Settings.
        on_step: called with (steps done, steps at most) after each step; may raise to stop.

    Raises:
        ValueError: a setting is not legal; the message says what was expected and got.

    Example:
        >>> run = decode("Once upon a time", heads=8, latent=32, max_new_tokens=4)
        >>> run.left.cache_elems, run.right.cache_elems
        (640, 48)
    """
    check_callback("on_step", on_step)
    if isinstance(prompt, Settings):
        return Session(replace(prompt, **settings)).run(on_step)
    return Session(Settings(prompt, **settings)).run(on_step)


class _Text:
    """A prompt as tokens, and the room behind it.

    Raises:
        ValueError: the prompt fills the context.
    """

    def __init__(self, s: Settings, model: SideModel) -> None:
        self.tokenizer = find_source(model.source).tokenizer()
        self.prompt_ids = self.tokenizer.prompt(s.prompt)
        context, length = model.geometry.context, len(self.prompt_ids)
        room = context - length
        if room < 1:
            raise ValueError(
                f"prompt: expected at most {context - 1} tokens (context {context}), got {length}"
            )
        self.new_tokens = min(s.max_new_tokens, room)
        asked = s.max_new_tokens
        cut = f"{asked} new tokens asked, {room} fit the context of {context}."
        self.notes = [cut] if asked > room else []

    @property
    def n_steps(self) -> int:
        """Steps of a run that no end of the text cuts short."""
        return len(self.prompt_ids) + self.new_tokens - 1


def bill_of(settings: Settings) -> Bill:
    """What a run of these settings takes at most, counted.

    Raises:
        ValueError: the settings are not legal.
    """
    return bill(settings, _Text(settings, settings.side("left")).n_steps)


def text_bill(settings: Settings) -> Bill:
    """What `generate` takes at most, counted.

    Raises:
        ValueError: the settings are not legal.
    """
    return writing_bill(settings, _Text(settings, settings.side("left")).n_steps)


@dataclass(frozen=True)
class _Lead:
    """The left side of a run and its text, for runs that have other right sides."""

    ids: tuple[int, ...]
    played: Played


_LEADS: dict[Settings, _Lead] = {}  # of the last run whose weights are large


class Session:
    """One decoding of a prompt by two mechanisms: made ready at first, then run once.

    Raises:
        ValueError: a setting is not legal, or the run would not fit in memory.
    """

    def __init__(self, settings: Settings) -> None:
        s = self._settings = settings
        models = s.side("left"), s.side("right")
        self._text = _Text(s, models[0])
        self._ids = list(self._text.prompt_ids)
        self._n_steps = self._text.n_steps
        self._device = pick_device(s.device)
        bill(s, self._n_steps).check(usable_bytes(self._device))
        self._same_model = models[0] == models[1]
        self._cut = s.weights_source.alone and not self._same_model
        self._lead = _LEADS.get(_left_alone(s)) if self._cut else None
        left = self._lead.played if self._lead else self._recorder("left", models[0])
        self._sides = [left, self._recorder("right", models[1])]
        self._block = min(side.block for side in self._sides)
        self._sampler = Sampler(s, models[0].geometry.vocab_size)
        self._comparison = Comparison()
        self._same_tokens = True
        self._logits: list[Tensor] = []
        self._against: list[tuple[float, bool]] = []

    def _recorder(self, field: str, model: SideModel) -> Recorder:
        s = self._settings
        weights = model.load(s.seed).to(parse_dtype(s.dtype), self._device)
        return Recorder(getattr(s, field), weights, self._n_steps, s, s.kept(field))

    def run(self, on_step: OnStep | None = None) -> Run:
        """Feed token after token to both sides; the left one chooses those behind the prompt.

        Where tokens are best fed some at once, the left side writes its text by itself before.
        """
        told, before = on_step or (lambda *_: None), 0
        if self._block > 1:
            before = 0 if self._lead else self._text.new_tokens
            self._ids = list(self._lead.ids) if self._lead else self._written(told, before)
            self._n_steps = len(self._ids) - 1
        done, ended = 0, False
        while done < self._n_steps and not ended:
            stop = min(done + self._block, self._n_steps, len(self._ids))
            ended = self._feed(range(done, stop))
            for step in range(done, stop):
                told(before + step + 1, before + self._n_steps)
            done = stop
        return self._record()

    def _written(self, told: OnStep, before: int) -> list[int]:
        return written(self._settings, lambda n, _: told(n, before + self._n_steps))

    def _feed(self, steps: range) -> bool:
        """Feed the tokens of these steps, compare the sides; whether they end the text."""
        sides = [side.feed(self._ids, steps) for side in self._sides]
        return any(self._step(*each) for each in zip(*sides, steps, strict=True))

    def _step(self, left: dict[str, Tensor], right: dict[str, Tensor], step: int) -> bool:
        """Compare the sides after a step, choose the next token; whether that ends the text."""
        for one in (left, right):
            check_finite(one["logits"], step, self._settings.dtype)
        if self._same_model:
            self._comparison.add(left, right, keep=self._sides[0].keeps(step))
        elif self._cut:
            self._logits.append(left["logits"])
            kl, agreed = against(left["logits"].float(), right["logits"].float())
            self._against.append((kl.item(), agreed.item()))
        if step < len(self._text.prompt_ids) - 1:
            return False
        noise = self._sampler.noise()
        chosen = [self._sampler.choose(one["choice"], noise) for one in (left, right)]
        self._same_tokens &= chosen[0] == chosen[1]
        if step + 1 == len(self._ids):
            self._ids.append(chosen[0])
        return self._ids[step + 1] == self._text.tokenizer.end

    def _record(self) -> Run:
        s, text = self._settings, self._text
        n_steps, prompt_len = len(self._ids) - 1, len(text.prompt_ids)
        texts = text.tokenizer.texts
        left, right = (side.side(n_steps, texts) for side in self._sides)
        if self._cut and self._block > 1 and not self._lead:
            played = Played(self._sides[0], torch.stack(self._logits), left)
            _LEADS.clear()
            _LEADS[_left_alone(s)] = _Lead(tuple(self._ids), played)
        kl, agreed = zip(*self._against, strict=True) if self._cut else (None, None)
        geometry = self._sides[0].geometry
        return Run(
            prompt=s.prompt,
            text=text.tokenizer.decode(self._ids[prompt_len:]),
            tokens=tuple(
                Token(i, texts[i], pos, "prompt" if pos < prompt_len else "generated")
                for pos, i in enumerate(self._ids)
            ),
            model=geometry.describe(),
            n_layers=geometry.n_layers,
            source=s.source,
            dtype=s.dtype,
            device=self._device,
            temperature=s.temperature,
            top_k=s.top_k,
            left=left,
            right=right,
            differences=self._comparison.differences if self._same_model else None,
            gaps=self._comparison.gaps if self._same_model else None,
            same_tokens=self._same_tokens,
            notes=(*text.notes, *dropped_rows(left.probs.steps, n_steps)),
            kl=sealed(np.array(kl)) if self._cut else None,
            agreed=sealed(np.array(agreed, dtype=np.uint8)) if self._cut else None,
        )


def _left_alone(s: Settings) -> Settings:
    """What decides the left side: runs of which this is equal have the same one."""
    cut = follows(s.weights_source, s.left, "latent")
    latent, ranks = (s.latent, s.ranks) if cut else (None, EACH)
    return replace(s, right=s.left, latent=latent, ranks=ranks, cache_dtype=None)


def generate(s: Settings, on_step: OnStep | None = None) -> str:
    """The text that the left side of a run writes, by itself and without a trace.

    `on_step` is called as in `decode`.

    Raises:
        ValueError: a setting is not legal.
    """
    text = _Text(s, s.side("left"))
    return text.tokenizer.decode(written(s, on_step)[len(text.prompt_ids) :])


@torch.inference_mode()
def written(s: Settings, on_step: OnStep | None = None) -> list[int]:
    """The prompt's tokens and those that the left side writes behind them, without a trace.

    `on_step` is called with (tokens written, tokens at most).

    Raises:
        ValueError: a setting is not legal.
    """
    model = s.side("left")
    text = _Text(s, model)
    device = pick_device(s.device)
    bill(s, text.n_steps).check(usable_bytes(device))
    decoder = model.load(s.seed).to(parse_dtype(s.dtype), device).decoder(s.left)
    sampler = Sampler(s, model.geometry.vocab_size)
    ids, fed = list(text.prompt_ids), 0
    for new in range(text.new_tokens):
        first = 0 if decoder.whole_prefix else fed
        logits = decoder.feed(torch.tensor(ids[first:], device=device), newest=True).logits[-1]
        check_finite(logits, len(ids) - 1, s.dtype)
        fed = len(ids)
        ids.append(sampler.choose(choice_logits(logits, s), sampler.noise()))
        if on_step:
            on_step(new + 1, text.new_tokens)
        if ids[-1] == text.tokenizer.end:
            break
    return ids
