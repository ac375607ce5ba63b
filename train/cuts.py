"""What a pretrained model loses where its caches are cut, on held-out text.

    python -m train.cuts --stories stories_train.txt.gz --held-out stories_val.txt.gz

Writes into mla_viz/data/smollm2-cuts.json what it lacks, after train.conversion and
train.decoupled; continues where it stopped.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mla_viz.findings.cuts import CUTS_FILE, Cut, load_cuts
from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.decoupled import components, decoupled_geometry, to_decoupled
from mla_viz.model.latent import Basis, bases, pooled_ranks
from mla_viz.run.against import against
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.conversion import (
    CHECKPOINTS,
    SOURCE,
    WINDOWS,
    arguments,
    logits_with,
    original,
    windows,
)
from train.run import write_json


@dataclass(frozen=True)
class Plan:
    """How much is cached, as the fields of a Cut say it."""

    rank: int
    pooled: bool = False
    rope: int | None = None


RANKS = tuple(Plan(rank) for rank in (384, 320, 256, 192, 128, 64))
POOLED = tuple(Plan(rank, pooled=True) for rank in (320, 256, 192, 128, 64))
DECOUPLED = tuple(
    Plan(rope + latent, rope=rope)
    for latent, rope in ((192, 192), (320, 64), (240, 80), (192, 64), (144, 48), (96, 32), (48, 16))
)
PLANS = (*RANKS, *POOLED, *DECOUPLED)

Says = Callable[[Int[Tensor, " seq"]], Float[Tensor, "seq vocab"]]


def cut_logits(
    weights: ModelWeights, bases: list[Basis], ranks: Sequence[int], ids: Int[Tensor, " seq"]
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


def ranks_of(plan: Plan, layers: int, both: int) -> tuple[int, ...]:
    """Each layer's rank."""
    return pooled_ranks(SOURCE, layers, both, plan.rank) if plan.pooled else (plan.rank,) * layers


def decoupled(weights: ModelWeights, plan: Plan) -> Says:
    """What the model says as MLA, absorbed."""
    g = weights.geometry.attention
    parts = components(SOURCE, weights.geometry.n_layers, g)
    model = to_decoupled(weights, parts, decoupled_geometry(g, plan.rank - plan.rope, plan.rope))
    return lambda ids: Decoder(model, "mla_absorbed").feed(ids).logits


@torch.inference_mode()
def main() -> None:
    """Score what the results lack, put it among them; without a file of results, all."""
    args, weights = arguments(), original()
    kept = load_cuts() if shipped(CUTS_FILE).exists() else ()
    found = {(cut.text, Plan(cut.rank, cut.pooled, cut.rope)): cut for cut in kept}
    plans = [plan for plan in PLANS if any((kind, plan) not in found for kind in WINDOWS)]
    g = weights.geometry
    both = 2 * g.attention.n_kv_heads * g.attention.head_dim
    encoders = bases(SOURCE, g.n_layers, both)
    ranks = {plan: ranks_of(plan, g.n_layers, both) for plan in plans if plan.rope is None}
    says = {plan: decoupled(weights, plan) for plan in plans if plan.rope is not None}
    says |= {plan: partial(cut_logits, weights, encoders, each) for plan, each in ranks.items()}
    done = scored(weights, says, args)
    for kind in WINDOWS:
        found |= {(kind, plan): row(kind, plan, ranks.get(plan), done) for plan in plans}
    rows = [asdict(found[kind, plan]) for kind in WINDOWS for plan in PLANS]
    text = json.dumps({"model": weights.geometry.name, "rows": rows})
    shipped(CUTS_FILE).write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")
    write_checksums()


def scored(
    weights: ModelWeights, says: dict[Plan, Says], args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Each plan's sums over each held-out window, kept after each."""
    part = CHECKPOINTS / "cuts.json"
    done = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
    for kind in WINDOWS:
        for i, ids in enumerate(windows(kind, True, args)):
            missing = [plan for plan in says if f"{kind} {i} {plan}" not in done]
            if not missing:
                continue
            own = logits_with(weights, ids, lambda _, z: z)
            for plan in missing:
                one = compared(own, says[plan](ids), ids)
                done[f"{kind} {i} {plan}"] = one | {"tokens": len(ids)}
            write_json(part, done)
            print(kind, i, flush=True)
    return done


def row(
    kind: str, plan: Plan, ranks: tuple[int, ...] | None, done: dict[str, dict[str, float]]
) -> Cut:
    """The means of one plan over the windows of one kind of text."""
    each = [done[f"{kind} {i} {plan}"] for i in range(WINDOWS[kind][1])]
    total = {name: sum(window[name] for window in each) for name in each[0]}
    tokens, labels = total["tokens"], total["tokens"] - len(each)
    kls = np.array([window["kl"] / window["tokens"] for window in each])
    return Cut(
        text=kind,
        rank=plan.rank,
        pooled=plan.pooled,
        ranks=ranks if plan.pooled else None,
        tokens=tokens,
        kl=round(total["kl"] / tokens, 5) + 0.0,  # rounding leaves -0.0
        kl_error=round(float(kls.std(ddof=1) / len(each) ** 0.5), 5),
        perplexity=round(float(np.exp(total["cut_nats"] / labels)), 3),
        own_perplexity=round(float(np.exp(total["own_nats"] / labels)), 3),
        agreement=round(total["agreed"] / tokens, 4),
        rope=plan.rope,
    )


if __name__ == "__main__":
    main()
