"""One decode step of a mechanism over a filled cache, made so that it can be repeated.

Weights and rows are random: a product's time does not depend on them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mla_viz.attention.cache import Cache, LatentCache
from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import Watch, attend_grouped, rope_angles
from mla_viz.attention.weights import AttentionWeights, cast, random_gqa, random_mla
from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.timing import Work
from mla_viz.config import GQAGeometry, MLAGeometry
from mla_viz.model.device import parse_dtype

CHUNK = 1024  # rows drawn at a time
NO_CORE = ("mla_reexpand", "mla_merged")  # that of mla_expanded, and that of mla_absorbed


class Layer:
    """A mechanism's layer whose cache holds all but the newest of `context` tokens."""

    def __init__(self, s: BenchSettings, mechanism: str, context: int) -> None:
        self._row, self._lead, self._context = implementation(mechanism), (s.batch,), context
        self.weights = random_layer(s, mechanism)
        self._prepared = self._row.prepare(self.weights)
        self._cache = self._row.new_cache(self._prepared, self._lead)
        g, self._dtype = self.weights.geometry, parse_dtype(s.dtype)
        fill(self._cache, g, self._lead, context - 1, self._dtype)
        self._x = torch.randn(*self._lead, 1, g.d_model).to(self._dtype)
        pos = torch.tensor([context - 1])
        self._rope = rope_angles(pos, g.rope_width, g.rope_theta, self._dtype)

    def step(self) -> Tensor:
        """The whole layer: projections, the newest token's row, attention, output."""
        attended = self._row.attend(self._prepared, self._cache, self._x, self._rope, Watch())
        self._cache.forget(1)
        return attended.out

    def core(self) -> Work:
        """Scores, softmax and mix of random queries over a full cache, by itself."""
        cache, g = self._cache, self.weights.geometry
        fill(cache, g, self._lead, 1, self._dtype)
        if isinstance(cache, LatentCache):
            k, v = cache.latent_and_rope.unsqueeze(-3), cache.c_kv.unsqueeze(-3)
        else:
            k, v = cache.k, cache.v
        cache.forget(1)
        q = torch.randn(*self._lead, g.n_heads, 1, k.shape[-1]).to(self._dtype)
        return lambda: attend_grouped(q, k, v, g.softmax_scale, Watch())


def random_layer(s: BenchSettings, mechanism: str) -> AttentionWeights:
    """Weights of the layer that a mechanism runs, the same for all of MLA's."""
    g, generator = s.geometry_of(mechanism), torch.Generator().manual_seed(0)
    random = random_gqa if isinstance(g, GQAGeometry) else random_mla
    return cast(random(g, generator), parse_dtype(s.dtype), "cpu")


def fill(
    cache: Cache,
    g: GQAGeometry | MLAGeometry,
    lead: tuple[int, ...],
    tokens: int,
    dtype: torch.dtype,
) -> None:
    """Put random rows of so many tokens behind those that a cache has."""
    if isinstance(cache, LatentCache):
        shapes = [(*lead, g.kv_lora_rank), (*lead, g.qk_rope_head_dim)]
    elif isinstance(g, GQAGeometry):
        shapes = [(*lead, g.n_kv_heads, g.head_dim)] * 2
    else:
        shapes = [(*lead, g.n_heads, g.qk_head_dim), (*lead, g.n_heads, g.v_head_dim)]
    for first in range(0, tokens, CHUNK):
        new = min(CHUNK, tokens - first)
        cache.append(*(torch.randn(*rows, new, width).to(dtype) for *rows, width in shapes))


def steps(s: BenchSettings, context: int) -> Iterator[tuple[str, str, Work]]:
    """Mechanism, part and work of all that is timed at a context."""
    for mechanism in s.mechanisms:
        layer = Layer(s, mechanism, context)
        if mechanism not in NO_CORE:
            yield mechanism, "core", layer.core()
        yield mechanism, "layer", layer.step
