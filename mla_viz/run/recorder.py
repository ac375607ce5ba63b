"""One side of a run while it decodes: the model, and the arrays that fill step by step."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.model.decoder import Decoder, Forward, ModelWeights
from mla_viz.run.sampling import choice_logits
from mla_viz.run.settings import Settings
from mla_viz.run.trace import AttentionRows, Side, kept_steps, quantise_cells, sealed

CANDIDATES = 8
WATCHED = ("scores", "probs")


class Recorder:
    """Feeds one mechanism token by token and keeps what a Side is made of."""

    def __init__(
        self, mechanism: str, weights: ModelWeights, n_steps: int, settings: Settings
    ) -> None:
        self.mechanism, self.geometry = mechanism, weights.geometry
        g = weights.geometry
        first_token = torch.zeros(1, dtype=torch.long, device=weights.embedding.device)
        Decoder(weights, mechanism).feed(first_token)  # wakes the kernels, so that step 0 is timed
        self._decoder = Decoder(weights, mechanism)
        self._settings = settings
        self._elem_bytes = weights.embedding.element_size()
        rows = kept_steps(n_steps, g.n_layers, g.attention.n_heads)
        self._rows = {
            name: AttentionRows(rows, g.n_layers, g.attention.n_heads) for name in WATCHED
        }
        self._bytes = np.zeros((3, n_steps), dtype=np.int64)
        self._time_us = np.zeros((n_steps, g.n_layers), dtype=np.float32)
        self._top_ids = np.zeros((n_steps, CANDIDATES), dtype=np.int32)
        self._top_probs = np.zeros((n_steps, CANDIDATES), dtype=np.float32)

    def feed(self, ids: list[int], step: int) -> dict[str, Tensor]:
        """Feed token `step`, record it; what the sides are compared by, and choose from."""
        first = 0 if self._decoder.whole_prefix else step
        device = self._decoder.weights.embedding.device
        tokens = torch.tensor(ids[first : step + 1], device=device)
        forward = self._decoder.feed(tokens, WATCHED, newest=True)
        newest = _newest(forward)
        newest["choice"] = choice_logits(newest["logits"], self._settings)
        self._record(forward, newest, step)
        return newest

    def _record(self, forward: Forward, newest: dict[str, Tensor], step: int) -> None:
        for name, rows in self._rows.items():
            if rows.keeps(step):
                rows.row(step)[:] = _numpy(newest[name])
        caches = self._decoder.caches
        self._bytes[:, step] = (
            sum(cache.filled_bytes for cache in caches),
            sum(cache.allocated_bytes for cache in caches),
            max(layer.working_bytes for layer in forward.layers),
        )
        self._time_us[step] = forward.attention_us
        top = newest["choice"].softmax(-1).topk(CANDIDATES)
        self._top_ids[step] = top.indices
        self._top_probs[step] = top.values

    def side(self, n_steps: int, token_texts: Sequence[str]) -> Side:
        """The finished record of the steps that were run."""
        tables = [cache.table() for cache in self._decoder.caches]
        empty = np.empty((n_steps, 0), dtype=np.float32)
        arrays = [*self._bytes, self._time_us, self._top_probs]
        filled, allocated, working, time_us, top_probs = (sealed(x[:n_steps]) for x in arrays)
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
            cells=quantise_cells([empty if table is None else _numpy(table) for table in tables]),
        )


def _newest(forward: Forward) -> dict[str, Tensor]:
    """The newest token's attention in every layer, and its logits."""
    layers = forward.layers
    return {
        **{name: torch.stack([layer.seen[name][:, -1] for layer in layers]) for name in WATCHED},
        "out": torch.stack([layer.out[-1] for layer in layers]),
        "logits": forward.logits[-1],
    }


def _numpy(x: Tensor) -> Float[np.ndarray, "*shape"]:
    return x.float().cpu().numpy()
