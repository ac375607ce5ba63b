"""The token loop: a prompt goes in, two mechanisms decode it side by side, a Run comes out.

The left side leads: it chooses every token and both sides are fed the same ones. Knows models and
records; knows no screen.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.config import VOCAB_SIZE, ModelGeometry
from mla_viz.cost import cache_elems, model_params
from mla_viz.model.decoder import Decoder, Forward, ModelWeights
from mla_viz.model.device import free_bytes, parse_dtype, pick_device
from mla_viz.model.tokenizer import END_OF_TEXT, load_tokenizer, vocabulary
from mla_viz.model.weights import load_named
from mla_viz.settings import Settings, side_geometry
from mla_viz.trace import (
    TRACE_BYTES,
    AttentionRows,
    Run,
    Side,
    Token,
    kept_steps,
    quantise_cells,
    sealed,
)

CANDIDATES = 8


def decode(
    prompt: str | Settings, *, on_step: Callable[[int, int], None] | None = None, **settings: object
) -> Run:
    """Decode a prompt by two mechanisms and return the whole trace.

    Args:
        prompt: the text; or Settings by themselves.
        **settings: fields of Settings, where prompt is a text.
        on_step: called with (steps done, steps at most) after each step; may raise to stop.

    Raises:
        ValueError: a setting is not legal; the message says what was expected and got.

    Example:
        >>> run = decode("Once upon a time", heads=8, latent=32, max_new_tokens=4)
        >>> run.left.cache_elems, run.right.cache_elems
        (640, 48)
    """
    s = prompt if isinstance(prompt, Settings) else Settings(prompt, **settings)
    left_geometry, right_geometry = (side_geometry(s, name) for name in (s.left, s.right))
    prompt_ids = load_tokenizer().encode(s.prompt, add_special_tokens=False).ids
    new_tokens, notes = _room(s, left_geometry.context, len(prompt_ids))
    device = pick_device(s.device)
    n_steps = len(prompt_ids) + new_tokens - 1
    _check_memory(s, (left_geometry, right_geometry), n_steps, device)
    sides = []
    for name, geometry in ((s.left, left_geometry), (s.right, right_geometry)):
        weights = load_named(geometry, s.seed).to(parse_dtype(s.dtype), device)
        sides.append(_Recorder(name, weights, n_steps, s))
    same_model = left_geometry == right_geometry
    ids, differences, same_tokens = _loop(s, prompt_ids, n_steps, sides, same_model, on_step)
    return _run(s, ids, len(prompt_ids), sides, differences, same_tokens, notes, device)


@torch.inference_mode()
def generate(s: Settings) -> str:
    """The text that the left side of a run writes, by itself and without a trace.

    Raises:
        ValueError: a setting is not legal.
    """
    geometry = side_geometry(s, s.left)
    ids = load_tokenizer().encode(s.prompt, add_special_tokens=False).ids
    prompt_len, (new_tokens, _) = len(ids), _room(s, geometry.context, len(ids))
    device = pick_device(s.device)
    decoder = Decoder(load_named(geometry, s.seed).to(parse_dtype(s.dtype), device), s.left)
    end = load_tokenizer().token_to_id(END_OF_TEXT)
    generator = torch.Generator().manual_seed(s.seed)
    fed = 0
    for _ in range(new_tokens):
        first = 0 if decoder.whole_prefix else fed
        logits = decoder.feed(torch.tensor(ids[first:], device=device)).logits[-1]
        _check_finite(logits, len(ids) - 1, s.dtype)
        fed = len(ids)
        ids.append(_choose(logits, _noise(generator), s))
        if ids[-1] == end:
            break
    return load_tokenizer().decode(ids[prompt_len:])


def _noise(generator: torch.Generator) -> Float[Tensor, " vocab"]:
    return torch.rand(VOCAB_SIZE, generator=generator, dtype=torch.float64)


def _room(s: Settings, context: int, prompt_len: int) -> tuple[int, list[str]]:
    """New tokens that fit behind the prompt, and what to say where they are fewer than asked."""
    room = context - prompt_len
    if room < 1:
        raise ValueError(
            f"prompt: expected at most {context - 1} tokens (context {context}), got {prompt_len}"
        )
    if s.max_new_tokens <= room:
        return s.max_new_tokens, []
    return room, [f"{s.max_new_tokens} new tokens asked, {room} fit the context of {context}."]


def _check_memory(
    s: Settings, geometries: tuple[ModelGeometry, ...], n_steps: int, device: str
) -> None:
    """Refuse what will not fit: weights (made in float32, then cast), caches, the trace."""
    elem_bytes = parse_dtype(s.dtype).itemsize
    needed = TRACE_BYTES
    for name, g in zip((s.left, s.right), geometries, strict=True):
        needed += model_params(g) * (4 + elem_bytes)
        needed += 2 * cache_elems(name, g.attention) * g.n_layers * n_steps * elem_bytes
    free = free_bytes(device)
    if needed > 0.8 * free:
        raise ValueError(
            f"geometry: expected one that fits {free / 2**30:.1f} GiB of free memory,"
            f" got one that needs {needed / 2**30:.1f} GiB"
        )


class _Recorder:
    """One side while it decodes: the model, and the arrays that fill step by step."""

    def __init__(self, mechanism: str, weights: ModelWeights, n_steps: int, s: Settings) -> None:
        self.mechanism, self.geometry = mechanism, weights.geometry
        g = weights.geometry
        first_token = torch.zeros(1, dtype=torch.long, device=weights.embedding.device)
        Decoder(weights, mechanism).feed(first_token)  # wakes the kernels, so that step 0 is timed
        self._decoder = Decoder(weights, mechanism)
        self._temperature = s.temperature or 1.0
        self._elem_bytes = weights.embedding.element_size()
        rows = kept_steps(n_steps, g.n_layers, g.attention.n_heads)
        self._scores, self._probs = (
            AttentionRows(rows, g.n_layers, g.attention.n_heads) for _ in range(2)
        )
        self._bytes = np.zeros((3, n_steps), dtype=np.int64)
        self._time_us = np.zeros((n_steps, g.n_layers), dtype=np.float32)
        self._top_ids = np.zeros((n_steps, CANDIDATES), dtype=np.int32)
        self._top_probs = np.zeros((n_steps, CANDIDATES), dtype=np.float32)

    def feed(self, ids: list[int], step: int) -> dict[str, Tensor]:
        """Feed token `step`, record it, and return what the sides are compared by."""
        first = 0 if self._decoder.whole_prefix else step
        device = self._decoder.weights.embedding.device
        forward = self._decoder.feed(torch.tensor(ids[first : step + 1], device=device))
        seen = _last_rows(forward)
        self._record(forward, seen, step)
        return seen

    def _record(self, forward: Forward, seen: dict[str, Tensor], step: int) -> None:
        if self._probs.keeps(step):
            self._probs.row(step)[:] = _numpy(seen["probs"])
            self._scores.row(step)[:] = _numpy(seen["scores"])
        caches = self._decoder.caches
        self._bytes[:, step] = (
            sum(cache.filled_bytes for cache in caches),
            sum(cache.allocated_bytes for cache in caches),
            max(layer.working_bytes for layer in forward.layers),
        )
        self._time_us[step] = forward.attention_us
        top = (seen["logits"].double() / self._temperature).softmax(-1).topk(CANDIDATES)
        self._top_ids[step] = top.indices.cpu()
        self._top_probs[step] = top.values.cpu()

    def side(self, n_steps: int) -> Side:
        """The finished record of the steps that were run."""
        tables = [cache.table() for cache in self._decoder.caches]
        empty = np.empty((n_steps, 0), dtype=np.float32)
        arrays = [*self._bytes, self._time_us, self._top_probs]
        filled, allocated, working, time_us, top_probs = (sealed(x[:n_steps]) for x in arrays)
        return Side(
            mechanism=self.mechanism,
            geometry=self.geometry.attention,
            elem_bytes=self._elem_bytes,
            cache_bytes=filled,
            allocated_bytes=allocated,
            working_bytes=working,
            time_us=time_us,
            top_text=tuple(tuple(vocabulary()[i] for i in ids) for ids in self._top_ids[:n_steps]),
            top_probs=top_probs,
            scores=self._scores.cut(n_steps),
            probs=self._probs.cut(n_steps),
            cells=quantise_cells([empty if table is None else _numpy(table) for table in tables]),
        )


def _last_rows(forward: Forward) -> dict[str, Tensor]:
    """The newest token's attention in every layer, and its logits."""
    layers = forward.layers
    return {
        "scores": torch.stack([layer.scores[:, -1] for layer in layers]),
        "probs": torch.stack([layer.probs[:, -1] for layer in layers]),
        "out": torch.stack([layer.out[-1] for layer in layers]),
        "logits": forward.logits[-1],
    }


def _numpy(x: Tensor) -> Float[np.ndarray, "*shape"]:
    return x.float().cpu().numpy()


def _loop(
    s: Settings,
    prompt_ids: list[int],
    n_steps: int,
    sides: list[_Recorder],
    same_model: bool,
    on_step: Callable[[int, int], None] | None,
) -> tuple[list[int], list[list[float]] | None, bool]:
    """Feed token after token to both sides; the left one chooses those behind the prompt."""
    ids, differences, same_tokens = list(prompt_ids), [], True
    end = load_tokenizer().token_to_id(END_OF_TEXT)
    generator = torch.Generator().manual_seed(s.seed)
    for step in range(n_steps):
        left, right = (side.feed(ids, step) for side in sides)
        for seen in (left, right):
            _check_finite(seen["logits"], step, s.dtype)
        if same_model:
            gaps = [(left[key] - right[key]).abs().max() for key in left]
            differences.append(torch.stack(gaps).tolist())
        if on_step:
            on_step(step + 1, n_steps)
        if step < len(prompt_ids) - 1:
            continue
        noise = _noise(generator)
        chosen = [_choose(seen["logits"], noise, s) for seen in (left, right)]
        same_tokens &= chosen[0] == chosen[1]
        ids.append(chosen[0])
        if chosen[0] == end:
            break
    return ids, differences if same_model else None, same_tokens


def _check_finite(logits: Float[Tensor, " vocab"], step: int, dtype: str) -> None:
    if not logits.isfinite().all():
        raise ValueError(
            f"dtype: expected one that holds this model's numbers, got {dtype},"
            f" which overflowed at step {step} (try bfloat16 or float32)"
        )


def _choose(logits: Float[Tensor, " vocab"], noise: Float[Tensor, " vocab"], s: Settings) -> int:
    """Sample by the Gumbel trick: one noise for both sides, so that equal logits choose alike."""
    scaled = logits.double().cpu()
    if s.temperature == 0:
        return int(scaled.argmax())
    scaled = scaled / s.temperature
    if s.top_k:
        scaled = scaled.masked_fill(scaled < scaled.topk(s.top_k).values[-1], -torch.inf)
    return int((scaled - (-noise.log()).log()).argmax())


def _run(
    s: Settings,
    ids: list[int],
    prompt_len: int,
    sides: list[_Recorder],
    differences: list[list[float]] | None,
    same_tokens: bool,
    notes: list[str],
    device: str,
) -> Run:
    tokenizer = load_tokenizer()
    n_steps = len(ids) - 1
    tokens = tuple(
        Token(i, vocabulary()[i], pos, "prompt" if pos < prompt_len else "generated")
        for pos, i in enumerate(ids)
    )
    left, right = (side.side(n_steps) for side in sides)
    rows = left.probs.steps
    if len(rows) < n_steps:
        notes = [
            *notes,
            f"To bound memory, attention is kept at {len(rows):,} of {n_steps:,} steps:"
            f" at every {rows[1] - rows[0]}th, and at all of the last ones.",
        ]
    return Run(
        prompt=s.prompt,
        text=tokenizer.decode(ids[prompt_len:]),
        tokens=tokens,
        model=sides[0].geometry.describe(),
        n_layers=sides[0].geometry.n_layers,
        source=s.source,
        dtype=s.dtype,
        device=device,
        temperature=s.temperature,
        left=left,
        right=right,
        differences=None if differences is None else sealed(np.array(differences)),
        same_tokens=same_tokens,
        notes=tuple(notes),
    )
