"""What this machine allows, measured: bytes it reads a second, and products it makes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.timing import in_turn
from mla_viz.model.device import parse_dtype

READ = 1 << 28  # bytes of the array that is read, beyond the caches
SQUARE = 2048


@dataclass(frozen=True)
class Roofline:
    """Best of the repetitions: `gflops` is the better of a square product and a skinny one.

    The skinny one is (heads x latent and rope) by (latent and rope x context), in either order.
    """

    gb_s: float
    square_gflops: float
    skinny_gflops: float
    threads: int
    busy: bool

    @property
    def gflops(self) -> float:
        """The roof over products."""
        return max(self.square_gflops, self.skinny_gflops)

    def limit_us(self, flops: int, moved_bytes: int) -> float:
        """The least that so much work takes here: the longer of reading and multiplying."""
        return max(moved_bytes / self.gb_s, flops / self.gflops) / 1e3


@torch.inference_mode()
def roofline(s: BenchSettings, told: Callable[[int, int], object]) -> Roofline:
    """Measure it, with the threads that everything else runs with."""
    g, dtype = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype)
    width, tokens = g.kv_lora_rank + g.qk_rope_head_dim, max(s.contexts)
    read = torch.ones(READ // 4)
    a, b = (torch.randn(SQUARE, SQUARE).to(dtype) for _ in range(2))
    q, latents = torch.randn(g.n_heads, width).to(dtype), torch.randn(tokens, width).to(dtype)
    works = {
        "read": read.amax,
        "square": lambda: a @ b,
        "queries first": lambda: q @ latents.T,
        "latents first": lambda: latents @ q.T,
    }
    times = in_turn(works, s.repeats, told)
    best = {name: min(of.us) * 1e3 for name, of in times.items()}
    skinny = 2 * g.n_heads * width * tokens / min(best["queries first"], best["latents first"])
    busy = any(of.busy for of in times.values())
    square = 2 * SQUARE**3 / best["square"]
    return Roofline(READ / best["read"], square, skinny, torch.get_num_threads(), busy)
