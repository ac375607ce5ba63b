"""One decode step of a mechanism over a filled cache, made so that it can be repeated.

Weights and rows are random: a product's time does not depend on them.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from mla_viz.attention.cache import Cache, LatentCache
from mla_viz.attention.implementation import implementation
from mla_viz.attention.mla import attend_latents, served
from mla_viz.attention.ops import Watch, attend_grouped, rope_angles
from mla_viz.attention.weights import AttentionWeights, cast, random_gqa, random_mla
from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.timing import Work
from mla_viz.config import AttentionGeometry, GQAGeometry
from mla_viz.model.device import parse_dtype

CHUNK = 1024  # rows drawn at a time
NO_CORE = ("mla_reexpand", "mla_merged")  # that of mla_expanded, and that of mla_absorbed


class Layer:
    """A mechanism's layer, which any number of contexts share."""

    def __init__(self, s: BenchSettings, mechanism: str, weights: AttentionWeights) -> None:
        self._mechanism, self._row, self._lead = mechanism, implementation(mechanism), (s.batch,)
        self._dtype, self.weights = parse_dtype(s.dtype), weights
        self._prepared = self._row.prepare(self.weights)

    def over(self, context: int) -> dict[str, Work]:
        """The parts at a context: `core`, unless another mechanism has the same, and `layer`.

        Where a kernel serves the core, `core_torch` is the same without it.
        """
        g, cache = self.weights.geometry, self._row.new_cache(self._prepared, self._lead)
        fill(cache, g, self._lead, context, self._dtype)
        cores = self._cores(cache)
        cache.forget(1)  # the step's own token
        x = torch.randn(*self._lead, 1, g.d_model).to(self._dtype)
        rope = rope_angles(torch.tensor([context - 1]), g.rope_width, g.rope_theta, self._dtype)

        def step() -> Tensor:
            attended = self._row.attend(self._prepared, cache, x, rope, Watch())
            cache.forget(1)
            return attended.out

        return {"layer": step} if self._mechanism in NO_CORE else {**cores, "layer": step}

    def _cores(self, cache: Cache) -> dict[str, Work]:
        """Scores, softmax and mix of random queries over a full cache, by itself."""
        g, latent = self.weights.geometry, isinstance(cache, LatentCache)
        if latent:
            k, v = cache.latent_and_rope.unsqueeze(-3), cache.c_kv.unsqueeze(-3)
            width = g.kv_lora_rank + g.qk_rope_head_dim
        else:
            k, v = cache.keys, cache.v
            width = g.head_dim if isinstance(g, GQAGeometry) else g.qk_head_dim
        q = torch.randn(*self._lead, g.n_heads, 1, width).to(self._dtype)

        rest = g.softmax_scale, Watch()
        by_torch = partial(attend_grouped, q, k, v, *rest)
        if not latent or not served(k, g.kv_lora_rank):
            return {"core": by_torch}
        by_kernel = partial(attend_latents, q, cache.latent_and_rope, g.kv_lora_rank, *rest)
        return {"core": by_kernel, "core_torch": by_torch}


def random_layer(g: AttentionGeometry, dtype: str) -> AttentionWeights:
    """Seeded weights of a layer, in a dtype, where tensors are made now."""
    random = random_gqa if isinstance(g, GQAGeometry) else random_mla
    with torch.device("cpu"):
        drawn = random(g, torch.Generator().manual_seed(0))
    return cast(drawn, parse_dtype(dtype), str(torch.get_default_device()))


def fill(
    cache: Cache,
    g: AttentionGeometry,
    lead: tuple[int, ...],
    tokens: int,
    dtype: torch.dtype,
) -> None:
    """Put random rows of so many tokens into an empty cache, and make no more room than that."""
    cache.reserve(tokens)
    if isinstance(cache, LatentCache):
        shapes = [(*lead, g.kv_lora_rank), (*lead, g.qk_rope_head_dim)]
    elif isinstance(g, GQAGeometry):
        shapes = [(*lead, g.n_kv_heads, g.head_dim)] * 2
    else:
        shapes = [(*lead, g.n_heads, g.qk_head_dim), (*lead, g.n_heads, g.v_head_dim)]
    for first in range(0, tokens, CHUNK):
        new = min(CHUNK, tokens - first)
        cache.append(*(torch.randn(*rows, new, width).to(dtype) for *rows, width in shapes))


def steps(s: BenchSettings) -> Iterator[tuple[str, str, int, Work]]:
    """Mechanism, part, context and work of all that is timed; MLA's weights are held once."""
    weights = {g: random_layer(g, s.dtype) for g in {*map(s.geometry_of, s.mechanisms)}}
    for mechanism in s.mechanisms:
        layer = Layer(s, mechanism, weights[s.geometry_of(mechanism)])
        for context in s.contexts:
            for part, work in layer.over(context).items():
                yield mechanism, part, context, work
