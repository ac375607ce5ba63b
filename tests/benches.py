"""Benches made by hand, for the tests of what shows them."""

from mla_viz.findings.measured import Bench, Peer, Point, QueryPoint, Roofline
from mla_viz.findings.speed import step
from mla_viz.published.catalog import published_models

V3 = published_models()["DeepSeek-V3"].attention
LITE = published_models()["DeepSeek-V2-Lite"].attention
CONFIG = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 10,
}
ROOF = Roofline(20.0, 300.0, 400.0, 2, busy=False)


def made_point(mechanism="mla_absorbed", part="core", context=1024, share=0.8, g=V3, busy=False):
    counted = step(mechanism, g, context, part=part)
    flops, moved = counted.flops, counted.bytes
    limit = ROOF.limit_us(flops, moved)
    us = limit / share
    rates = flops / us / 1e3, moved / us / 1e3
    spread = us, 0.9 * us, 1.3 * us, 15
    held = 1000 * context
    return Point(
        *(mechanism, part, context, 1, "bfloat16", *spread, flops, moved),
        *(*rates, limit, share, held, busy),
    )


def made_query(form, tokens, us, context=1024):
    return QueryPoint(form, tokens, context, us, 0.9 * us, 1.2 * us, 5, 100, us / 2, 0.5, False)


def made_bench(g=V3, shares=None, contexts=(256, 1024), queries=(), peers=True, **changes):
    """Every mechanism at a share of its limit; `shares` default to 0.8 for all."""
    shares = shares or dict.fromkeys(("mha", "mla_expanded", "mla_absorbed"), 0.8)
    points = tuple(
        made_point(name, part, context, share, g)
        for context in contexts
        for name, share in shares.items()
        for part in ("core", "layer")
    )
    peer = Peer("others' code", "layer", 1024, 900.0, 800.0, 1000.0, 5, 30.0, 30.0, False)
    record = {
        "geometry": "deepseek-v3",
        "layer": g,
        "contexts": tuple(contexts),
        "batch": 1,
        "dtype": "bfloat16",
        "mechanisms": tuple(shares),
        "query_tokens": tuple(sorted({q.query_tokens for q in queries})),
        "repeats": 15,
        "threads": 2,
        "machine": "A machine, 2 threads",
        "torch": "2.13",
        "load": 0.1,
        "roofline": ROOF,
        "points": points,
        "queries": tuple(queries),
        "peers": (peer,) if peers else (),
        "complete": True,
    }
    return Bench(**record | changes)
