"""Muon for the hidden matrices, AdamW for everything else, and one schedule for both.

`torch.optim.Muon` orthogonalises in bfloat16, which a CPU without bfloat16 units runs 25 times
slower than float32; this one keeps float32 and takes all matrices of one shape at a time.
Source: Keller Jordan, https://kellerjordan.github.io/posts/muon (coefficients and scaling).
"""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(
    g: Float[Tensor, "n rows columns"], steps: int = 5
) -> Float[Tensor, "n rows columns"]:
    """Push all singular values of each matrix towards 1 by a quintic Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every update of a matrix turns all its directions alike."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = orthogonalise(torch.stack([self._momentum(p, group) for p in params]))
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, update in zip(params, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)

    def _momentum(self, p: nn.Parameter, group: dict) -> Float[Tensor, "rows columns"]:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        return p.grad.lerp(state["momentum"], group["momentum"])


def make_optimizers(model: nn.Module, lr_scale: float) -> list[torch.optim.Optimizer]:
    """Muon 0.02 on hidden matrices, AdamW 3e-3 on the embedding, gains and powers."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and name != "embedding"]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or name == "embedding"]
    optimizers = [
        Muon(hidden, lr=0.02 * lr_scale, momentum=0.95, weight_decay=0.02),
        torch.optim.AdamW(others, lr=3e-3 * lr_scale, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_rate(optimizers: list[torch.optim.Optimizer], progress: float) -> None:
    """Warm up over 1 % of the tokens, hold to 40 %, then fall in a line to zero."""
    factor = min(1.0, progress / 0.01 + 1e-3, (1 - progress) / 0.6)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
