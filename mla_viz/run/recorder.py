"""One side of a run while it decodes: the model, and the arrays that fill step by step."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from mla_viz.attention.cache import Cache, LatentCache
from mla_viz.attention.weights import MLAWeights
from mla_viz.config import LatentGQAGeometry
from mla_viz.mechanisms.formats import Format
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.model.decoder import AnyWeights, Forward
from mla_viz.run.inside import KEPT, Vectors, step_bytes
from mla_viz.run.record import sealed
from mla_viz.run.sampling import choice_logits
from mla_viz.run.settings import Settings
from mla_viz.run.trace import TRACE_BYTES, AttentionRows, Side, kept_steps, quantise_cells

CANDIDATES = 8
ROWS = ("scores", "probs")
WATCHED = (
    *ROWS,
    *("q", "q_nope", "q_rope", "q_latent"),
    *("c_kv", "k_rope", "o_latent", "o_head"),
)


class Recorder:
    """Feeds one mechanism token by token and keeps what a Side is made of.

    What a cache in a format is recorded to hold is what comes out of it again.
    """

    def __init__(
        self,
        mechanism: str,
        weights: AnyWeights,
        n_steps: int,
        settings: Settings,
        kept: Format | None = None,
    ) -> None:
        self.mechanism, self.geometry = mechanism, weights.geometry
        g = weights.geometry
        first_token = torch.zeros(1, dtype=torch.long, device=weights.embedding.device)
        # wakes the kernels, so that step 0 is timed
        forward = weights.decoder(mechanism, kept).feed(first_token)
        self._candidates = min(CANDIDATES, forward.logits.shape[-1])
        self._decoder = weights.decoder(mechanism, kept)
        self._format = kept if MECHANISMS[mechanism].segments(g.attention) else None
        self.settings = settings
        self._elem_bytes = weights.embedding.element_size()
        both_sides = 2 * step_bytes(g.widest, g.n_layers)
        self._kept = kept_steps(n_steps, g.n_layers, g.attention.n_heads, both_sides)
        self._place = {step: at for at, step in enumerate(self._kept)}
        self._rows = {
            name: AttentionRows(self._kept, g.n_layers, g.attention.n_heads) for name in ROWS
        }
        self._n_steps = n_steps
        self._vectors: dict[str, np.ndarray] = {}
        self._watched = WATCHED
        if isinstance(g.attention, LatentGQAGeometry):
            self._watched = (*WATCHED, "k", "v")  # biases and turns are between latents and these
        self._rebuilt: list[Tensor] = []
        self._bytes = np.zeros((3, n_steps), dtype=np.int64)
        self._time_us = np.zeros((n_steps, g.n_layers), dtype=np.float32)
        self._top_ids = np.zeros((n_steps, self._candidates), dtype=np.int32)
        self._top_probs = np.zeros((n_steps, self._candidates), dtype=np.float32)

    @property
    def block(self) -> int:
        """How many tokens are best fed at once, where they are known."""
        return self._decoder.block

    def feed(self, ids: list[int], steps: range) -> list[dict[str, Tensor]]:
        """Feed the tokens of these steps, record them; what the sides are compared by, of each."""
        first = 0 if self._decoder.whole_prefix else steps.start
        device = self._decoder.weights.embedding.device
        tokens = torch.tensor(ids[first : steps.stop], device=device)
        if self.block > 1:
            forwards = self._decoder.feed_each(tokens, self._watched)
        else:
            forwards = [self._decoder.feed(tokens, self._watched, newest=True)]
        return [self._taken(*each) for each in zip(forwards, steps, strict=True)]

    def _taken(self, forward: Forward, step: int) -> dict[str, Tensor]:
        """Record a step; what the sides are compared by, and choose from."""
        if "k" in forward.layers[0].seen:
            self._rebuilt = [_rows(layer.seen["k"], layer.seen["v"]) for layer in forward.layers]
        newest = _newest(forward)
        if self._format and isinstance(self._decoder.caches[0], LatentCache):
            newest["latents"] = _read_back(self._decoder.caches, step)
        newest["choice"] = choice_logits(newest["logits"], self.settings)
        self._record(forward, newest, step)
        return newest

    def keeps(self, step: int) -> bool:
        """Whether what this step made is kept."""
        return step in self._place

    def _record(self, forward: Forward, newest: dict[str, Tensor], step: int) -> None:
        if self.keeps(step):
            for name, rows in self._rows.items():
                rows.row(step)[:] = _numpy(newest[name])
            for name in KEPT:
                self._keep(name, newest, self._place[step], len(self._kept))
        self._keep("latents", newest, step, self._n_steps)
        self._bytes[:, step] = (
            forward.filled_bytes,
            forward.allocated_bytes,
            max(layer.working_bytes for layer in forward.layers),
        )
        self._time_us[step] = forward.attention_us
        top = newest["choice"].softmax(-1).topk(self._candidates)
        self._top_ids[step] = top.indices
        self._top_probs[step] = top.values

    def _keep(self, name: str, newest: dict[str, Tensor], place: int, rows: int) -> None:
        if name not in newest:
            return
        if name not in self._vectors:
            self._vectors[name] = np.empty((rows, *newest[name].shape), dtype=np.float32)
        self._vectors[name][place] = _numpy(newest[name])

    def side(self, n_steps: int, token_texts: Sequence[str]) -> Side:
        """The finished record of the steps that were run."""
        tables = [cache.table() for cache in self._decoder.caches]
        empty = np.empty((n_steps, 0), dtype=np.float32)
        tables = [empty if table is None else _numpy(table) for table in tables]
        arrays = [*self._bytes, self._time_us, self._top_probs]
        filled, allocated, working, time_us, top_probs = (sealed(x[:n_steps]) for x in arrays)
        ranks = self.geometry.ranks
        return Side(
            mechanism=self.mechanism,
            geometry=self.geometry.attention,
            n_layers=self.geometry.n_layers,
            elem_bytes=self._elem_bytes,
            cache_bytes=filled,
            allocated_bytes=allocated,
            working_bytes=working,
            time_us=time_us,
            top_text=tuple(tuple(token_texts[i] for i in ids) for ids in self._top_ids[:n_steps]),
            top_probs=top_probs,
            scores=self._rows["scores"].cut(n_steps),
            probs=self._rows["probs"].cut(n_steps),
            cells=quantise_cells(tables),
            vectors=self._finished(n_steps, tables),
            cache_dtype=self._format and self._format.name,
            ranks=ranks if ranks is None else sealed(np.array(ranks, dtype=np.int32)),
        )

    def _finished(self, n_steps: int, tables: list[np.ndarray]) -> Vectors:
        steps = np.array([step for step in self._kept if step < n_steps], dtype=np.int32)
        found = {
            name: sealed(self._vectors[name][: len(steps)])
            for name in KEPT
            if name in self._vectors
        }
        latents = self._vectors.get("latents")
        layers = self._decoder.weights.attention
        ups = dict.fromkeys(("W_UK", "W_UV"))
        if isinstance(layers[0], MLAWeights):
            ups = {name: sealed([_numpy(getattr(w, name)) for w in layers]) for name in ups}
        return Vectors(
            steps=sealed(steps),
            **{name: found.get(name) for name in KEPT},
            latents=None if latents is None else sealed(latents[:n_steps]),
            heads=self._heads(tables),
            **ups,
        )

    def _heads(self, tables: list[np.ndarray]) -> np.ndarray | None:
        """Keys and values of every head, cached or turned after the latent, up to TRACE_BYTES."""
        if self._rebuilt:
            return sealed([_numpy(rows) for rows in self._rebuilt])
        segments = MECHANISMS[self.mechanism].segments(self.geometry.attention)
        if not segments or not segments[0].parts or sum(t.nbytes for t in tables) > TRACE_BYTES:
            return None
        return sealed([table.reshape(len(table), len(segments), -1) for table in tables])


class Played:
    """A side that was recorded before, in a recorder's place, to hold other models against."""

    def __init__(
        self, recorder: Recorder, logits: Float[Tensor, "steps vocab"], side: Side
    ) -> None:
        self.geometry, self.block = recorder.geometry, recorder.block
        self._settings, self._logits, self._side = recorder.settings, logits, side

    def feed(self, _: list[int], steps: range) -> list[dict[str, Tensor]]:
        """What these steps gave, as far as different models are compared by it."""
        rows = self._logits[steps.start : steps.stop]
        return [{"logits": row, "choice": choice_logits(row, self._settings)} for row in rows]

    def side(self, *_: object) -> Side:
        """The record."""
        return self._side


def _newest(forward: Forward) -> dict[str, Tensor]:
    """What the newest token made in every layer, by the names of `Vectors`, and its logits."""
    layers = forward.layers
    seen = {
        name: _of_layers([layer.seen[name][..., -1, :] for layer in layers])
        for name in WATCHED
        if name in layers[0].seen
    }
    seen["x"] = torch.stack([x[-1] for x in forward.inputs])
    seen["out"] = torch.stack([layer.out[-1] for layer in layers])
    seen["logits"] = forward.logits[-1]
    q_rope = seen.pop("q_rope", None)
    for name, nope in (("q", "q_nope"), ("q_latent", "q_latent")):
        if nope in seen:
            seen[name] = torch.cat([seen.pop(nope), q_rope], -1)
    if "c_kv" in seen:
        c_kv = seen.pop("c_kv")
        seen["latents"] = torch.cat([c_kv, seen.pop("k_rope", c_kv[..., :0])], -1)
    seen["mix"] = seen.pop("o_latent", seen.get("o_head"))
    return seen


def _of_layers(rows: list[Float[Tensor, "*lead _"]]) -> Float[Tensor, "n_layers *lead widest"]:
    """Of all layers; what is narrower than the widest is filled with zeros."""
    widths = [row.shape[-1] for row in rows]
    if min(widths) < max(widths):
        rows = [F.pad(row, (0, max(widths) - row.shape[-1])) for row in rows]
    return torch.stack(rows)


def _rows(
    k: Float[Tensor, "n_kv_heads tokens qk"], v: Float[Tensor, "n_kv_heads tokens v"]
) -> Float[Tensor, "tokens n_kv_heads k_and_v"]:
    return torch.cat([k, v], -1).transpose(0, 1)


def _read_back(caches: list[Cache], step: int) -> Float[Tensor, "n_layers both"]:
    """A step's row of every layer's cache, multiplied out."""
    return _of_layers([cache.table()[step] for cache in caches])


def _numpy(x: Tensor) -> Float[np.ndarray, "*shape"]:
    return x.float().cpu().numpy()
