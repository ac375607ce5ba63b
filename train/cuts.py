"""What a pretrained model loses where its caches are cut, on held-out text.

    python -m train.cuts --stories stories_train.txt.gz --held-out stories_val.txt.gz

Writes mla_viz/data/smollm2-cuts.json, after train.conversion; continues where it stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mla_viz.findings.cuts import CUTS_FILE, Cut
from mla_viz.model.decoder import ModelWeights
from mla_viz.model.latent import Basis
from mla_viz.run.against import against
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.conversion import (
    CHECKPOINTS,
    WINDOWS,
    arguments,
    basis,
    fitted,
    logits_with,
    original,
    windows,
)
from train.run import write_json

RANKS = (384, 320, 256, 192, 128, 64)
POOLED = (256, 192, 128)


def pooled(costs: Sequence[Float[np.ndarray, " both"]], rank: int) -> list[int]:
    """A rank for each layer, `rank` on average: the costliest columns of all layers are kept."""
    everywhere = np.sort(np.concatenate(costs))[::-1]
    least = everywhere[rank * len(costs) - 1]
    return [max(1, int((each >= least).sum())) for each in costs]


def cut_logits(
    weights: ModelWeights, bases: list[Basis], ranks: list[int], ids: Int[Tensor, " seq"]
) -> Float[Tensor, "seq vocab"]:
    """Logits where each layer's keys and values go through a latent of its rank."""
    through = [
        (b.encoder[:, :r] @ b.decoder[:r]).float() for b, r in zip(bases, ranks, strict=True)
    ]
    means = [b.mean.float() for b in bases]
    return logits_with(weights, ids, lambda i, z: means[i] + (z - means[i]) @ through[i])


def compared(
    own: Float[Tensor, "seq vocab"], cut: Float[Tensor, "seq vocab"], ids: Int[Tensor, " seq"]
) -> dict[str, float]:
    """Sums over tokens: KL(own || cut) in nats, agreements, and nats of the text by each."""
    p, q = own.log_softmax(-1), cut.log_softmax(-1)
    labels, (kl, agreed) = ids[1:, None], against(own, cut)
    return {
        "kl": kl.sum().item(),
        "agreed": agreed.sum().item(),
        "own_nats": -p[:-1].gather(-1, labels).double().sum().item(),
        "cut_nats": -q[:-1].gather(-1, labels).double().sum().item(),
    }


@torch.inference_mode()
def main() -> None:
    """Score what is not scored yet, write the results."""
    args, weights = arguments(), original()
    with torch.inference_mode(False):
        sums = fitted(args, weights)
    bases, costs = zip(*(basis(sums, i) for i in range(weights.geometry.n_layers)), strict=True)
    plans = {(rank, False): [rank] * len(bases) for rank in RANKS}
    plans |= {(rank, True): pooled(costs, rank) for rank in POOLED}
    part = CHECKPOINTS / "cuts.json"
    done = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
    for kind in WINDOWS:
        for i, ids in enumerate(windows(kind, True, args)):
            if all(f"{kind} {i} {plan}" in done for plan in plans):
                continue
            own = logits_with(weights, ids, lambda _, z: z)
            for plan, ranks in plans.items():
                found = compared(own, cut_logits(weights, list(bases), ranks, ids), ids)
                done[f"{kind} {i} {plan}"] = found | {"tokens": len(ids)}
            write_json(part, done)
            print(kind, i, flush=True)
    rows = [asdict(row(kind, plan, plans, done)) for kind in WINDOWS for plan in plans]
    text = json.dumps({"model": weights.geometry.name, "rows": rows})
    shipped(CUTS_FILE).write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")
    write_checksums()


def row(
    kind: str,
    plan: tuple[int, bool],
    plans: dict[tuple[int, bool], list[int]],
    done: dict[str, dict[str, float]],
) -> Cut:
    """The means of one plan over the windows of one kind of text."""
    each = [done[f"{kind} {i} {plan}"] for i in range(WINDOWS[kind][1])]
    total = {name: sum(window[name] for window in each) for name in each[0]}
    tokens, labels = total["tokens"], total["tokens"] - len(each)
    kls = np.array([window["kl"] / window["tokens"] for window in each])
    return Cut(
        text=kind,
        rank=plan[0],
        pooled=plan[1],
        ranks=plans[plan] if plan[1] else None,
        tokens=tokens,
        kl=round(total["kl"] / tokens, 5),
        kl_error=round(float(kls.std(ddof=1) / len(each) ** 0.5), 5),
        perplexity=round(float(np.exp(total["cut_nats"] / labels)), 3),
        own_perplexity=round(float(np.exp(total["own_nats"] / labels)), 3),
        agreement=round(total["agreed"] / tokens, 4),
    )


if __name__ == "__main__":
    main()
