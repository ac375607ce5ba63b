"""What this machine allows: the work whose times say what it reads a second, and multiplies."""

from collections.abc import Mapping

import torch

from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.timing import Times, Work
from mla_viz.findings.measured import Roofline
from mla_viz.model.device import parse_dtype

READ = 1 << 28  # bytes of the array that is read, beyond the caches
SQUARE, SQUARE_ON_CUDA = 2048, 4096  # enough to keep every core busy
PARTS = ("read", "square", "queries first", "latents first")


def roofline_works(s: BenchSettings) -> dict[str, Work]:
    """One work of each kind, to be timed in turn with all else: names are those in PARTS."""
    g, dtype = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype)
    width, tokens = g.kv_lora_rank + g.qk_rope_head_dim, max(s.contexts)
    read = torch.ones(READ // 4)
    a, b = (torch.randn(2 * [_side(s)]).to(dtype) for _ in range(2))
    q, latents = torch.randn(g.n_heads, width).to(dtype), torch.randn(tokens, width).to(dtype)
    works = read.amax, lambda: a @ b, lambda: q @ latents.T, lambda: latents @ q.T
    return dict(zip(PARTS, works, strict=True))


def roofline(s: BenchSettings, times: Mapping[str, Times]) -> Roofline:
    """The rates that those times come to."""
    g = s.geometry_of("mla_absorbed")
    ns = {name: times[name].median * 1e3 for name in PARTS}
    width, tokens = g.kv_lora_rank + g.qk_rope_head_dim, max(s.contexts)
    skinny = 2 * g.n_heads * width * tokens / min(ns["queries first"], ns["latents first"])
    busy = any(times[name].busy for name in PARTS)
    square = 2 * _side(s) ** 3 / ns["square"]
    return Roofline(READ / ns["read"], square, skinny, torch.get_num_threads(), busy)


def _side(s: BenchSettings) -> int:
    return SQUARE_ON_CUDA if s.on_cuda else SQUARE
