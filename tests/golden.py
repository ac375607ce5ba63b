"""Three runs by hand, small and with every value of its own; `python -m tests.golden` packs them.

What both ends must find in the bytes is written in tests/player/golden.json.
"""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from mla_viz.config import GQAGeometry, LatentGQAGeometry, MLAGeometry
from mla_viz.player import payload
from mla_viz.run.inside import Gaps, Vectors
from mla_viz.run.trace import AttentionRows, CacheCells, Run, Side, Token

FOLDER = Path(__file__).parent / "player"


def rows(steps, n_layers, n_heads, first, unit):
    """Attention that counts up: a value of its own for every layer, head, query and key."""
    record = AttentionRows(steps, n_layers, n_heads)
    record.data[:] = first + np.arange(len(record.data), dtype=np.float32) / unit
    return record


def cells(low_high, n_rows, elems, every):
    """Cached bytes that count up in steps of seven."""
    count = len(low_high) * n_rows * elems
    data = (7 * np.arange(count) % 256).astype(np.uint8)
    ends = np.array(low_high, dtype=np.float32)
    return CacheCells(ends, data.reshape(len(low_high), n_rows, elems), every)


def numbers(*values):
    return np.array(values, dtype=np.float32)


def counting(first, *shape):
    """Numbers that count up from the first."""
    count = int(np.prod(shape))
    return (first + np.arange(count)).reshape(shape).astype(np.float32)


def mla_vectors(g, kept, n_steps, n_layers, *, absorbed):
    """Vectors of MLA weights, each counting up from a thousand of its own."""
    each = len(kept), n_layers, g.n_heads
    both, ups = g.kv_lora_rank + g.qk_rope_head_dim, (n_layers, g.n_heads, g.kv_lora_rank)
    head = g.qk_head_dim + g.v_head_dim
    return Vectors(
        steps=np.array(kept, dtype=np.int32),
        x=counting(1000, *each[:2], g.d_model),
        q=counting(2000, *each, g.qk_head_dim),
        q_latent=counting(3000, *each, both) if absorbed else None,
        mix=counting(4000, *each, g.kv_lora_rank if absorbed else g.v_head_dim),
        o_head=counting(5000, *each, g.v_head_dim),
        out=counting(6000, *each[:2], g.d_model),
        latents=counting(7000, n_steps, n_layers, both),
        heads=None if absorbed else counting(8000, n_layers, n_steps, g.n_heads, head),
        W_UK=counting(9000, *ups, g.qk_nope_head_dim),
        W_UV=counting(10000, *ups, g.v_head_dim),
    )


def tokens(texts, prompt_len):
    return tuple(
        Token(100 + pos, text, pos, "prompt" if pos < prompt_len else "generated")
        for pos, text in enumerate(texts)
    )


MLA = MLAGeometry(
    d_model=10,
    n_heads=3,
    qk_nope_head_dim=4,
    qk_rope_head_dim=2,
    v_head_dim=5,
    kv_lora_rank=7,
)
NAIVE = Side(
    mechanism="mla_expanded",
    geometry=MLA,
    n_layers=2,
    elem_bytes=2,
    cache_bytes=np.array([132, 264, 396, 528]),
    allocated_bytes=np.array([2112, 2113, 2114, 2115]),
    working_bytes=np.array([0, 0, 0, 0]),
    time_us=numbers((0.5, 1.5), (20, 21), (300, 301), (4000, 4500)),
    top_text=(("a", " b", "c"), ("d", "e", "f"), ("g", "h", "i"), (" j", "k", "l")),
    top_probs=numbers((0.5, 0.25, 0.125), (0.75, 0.125, 0.0625), (0.375, 0.25, 0.125), (1, 0, 0)),
    scores=rows(range(4), 2, 3, -1, 8),
    probs=rows(range(4), 2, 3, 0, 64),
    cells=cells([(-1, 1.5), (-2, 2.5)], 4, 33, 1),
    vectors=mla_vectors(MLA, range(4), 4, 2, absorbed=False),
)
ABSORBED = Side(
    mechanism="mla_absorbed",
    geometry=MLA,
    n_layers=2,
    elem_bytes=2,
    cache_bytes=np.array([36, 72, 108, 144]),
    allocated_bytes=np.array([576, 577, 578, 579]),
    working_bytes=np.array([11, 12, 13, 2048]),
    time_us=numbers((0.25, 2.5), (30, 31), (500, 501), (6000, 6500)),
    top_text=((" b", "a", "m"), ("d", "e", "f"), ("g", "h", "n"), (" j", "k", "o")),
    top_probs=numbers(
        (0.625, 0.25, 0.0625), (0.75, 0.125, 0.03125), (0.5, 0.125, 0.0625), (1, 0, 0)
    ),
    scores=rows(range(4), 2, 3, -2, 8),
    probs=rows(range(4), 2, 3, 0.015625, 64),
    cells=cells([(-3, 3.5), (-4, 4.5)], 4, 9, 1),
    vectors=mla_vectors(MLA, range(4), 4, 2, absorbed=True),
)
SAME = Run(
    prompt="Once \n🦊",
    text="\\xf0 day",
    tokens=tokens(("Once", " \n", "🦊", "\\xf0", " day"), 3),
    model={},
    n_layers=2,
    source="synthetic",
    dtype="bfloat16",
    device="cpu",
    temperature=0.75,
    top_k=5,
    left=NAIVE,
    right=ABSORBED,
    differences=np.array([[0, 2e-7, 3e-6, 4e-5], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]),
    gaps=Gaps(
        x=counting(0, 4, 2),
        latents=counting(10, 4, 2),
        q=counting(20, 4, 2, 3),
        scores=counting(50, 4, 2, 3),
        probs=counting(80, 4, 2, 3),
        o_head=None,
        out=counting(110, 4, 2),
    ),
    same_tokens=True,
    notes=(),
)
GROUPED = replace(
    NAIVE,
    mechanism="gqa",
    geometry=GQAGeometry(d_model=6, n_heads=4, n_kv_heads=2, head_dim=4),
    n_layers=1,
    elem_bytes=4,
    cache_bytes=np.array([64, 128, 192]),
    allocated_bytes=np.array([1024, 1025, 1026]),
    working_bytes=np.array([1, 2, 3]),
    time_us=numbers((7,), (8,), (9,)),
    top_text=(("a", "b"), ("c", "d"), ("e", "f")),
    top_probs=numbers((0.5, 0.25), (0.5, 0.125), (0.5, 0.0625)),
    scores=rows([0, 2], 1, 4, -3, 16),
    probs=rows([0, 2], 1, 4, 0, 16),
    cells=cells([(-2, 3)], 2, 16, 2),
    vectors=Vectors(
        steps=np.array([0, 2], dtype=np.int32),
        x=counting(100, 2, 1, 6),
        q=counting(200, 2, 1, 4, 4),
        q_latent=None,
        mix=counting(300, 2, 1, 4, 4),
        o_head=counting(400, 2, 1, 4, 4),
        out=counting(500, 2, 1, 6),
        latents=None,
        heads=counting(600, 1, 3, 2, 8),
        W_UK=None,
        W_UV=None,
    ),
)
NO_ROPE = MLAGeometry(
    d_model=6,
    n_heads=2,
    qk_nope_head_dim=2,
    qk_rope_head_dim=0,
    v_head_dim=2,
    kv_lora_rank=3,
    q_lora_rank=4,
)
NO_CACHE = replace(
    ABSORBED,
    mechanism="recompute",
    geometry=NO_ROPE,
    n_layers=1,
    elem_bytes=4,
    cache_bytes=np.array([0, 0, 0]),
    allocated_bytes=np.array([0, 0, 0]),
    working_bytes=np.array([32, 64, 96]),
    time_us=numbers((17,), (18,), (19,)),
    top_text=(("u", "v"), ("w", "x"), ("y", "z")),
    top_probs=numbers((0.25, 0.125), (0.25, 0.0625), (0.25, 0.03125)),
    scores=rows([0, 2], 1, 2, -4, 8),
    probs=rows([0, 2], 1, 2, 0.0625, 8),
    cells=cells([(0, 0)], 2, 0, 2),
    vectors=replace(mla_vectors(NO_ROPE, [0, 2], 3, 1, absorbed=False), heads=None),
)
MODELS = replace(
    SAME,
    tokens=tokens(("one", " two", "<b>", "\u200d"), 1),
    n_layers=1,
    dtype="float32",
    device="cuda",
    temperature=0.0,
    top_k=0,
    left=GROUPED,
    right=NO_CACHE,
    differences=None,
    gaps=None,
    same_tokens=False,
    notes=("first note", "second note"),
)
VECTORS = Vectors(
    steps=np.arange(3, dtype=np.int32),
    x=counting(100, 3, 2, 6),
    q=counting(200, 3, 2, 4, 4),
    q_latent=None,
    mix=counting(300, 3, 2, 4, 4),
    o_head=counting(400, 3, 2, 4, 4),
    out=counting(500, 3, 2, 6),
    latents=None,
    heads=counting(600, 2, 3, 2, 8),
    W_UK=None,
    W_UV=None,
)
UNCUT = replace(
    GROUPED,
    n_layers=2,
    time_us=counting(7, 3, 2),
    scores=rows(range(3), 2, 4, -3, 16),
    probs=rows(range(3), 2, 4, 0, 128),
    cells=cells([(-2, 3), (-4, 5)], 3, 16, 1),
    vectors=VECTORS,
)
POOLED = replace(
    UNCUT,
    mechanism="gqa_latent",
    geometry=LatentGQAGeometry(**vars(GROUPED.geometry), kv_lora_rank=5),
    cache_bytes=np.array([40, 80, 120]),
    cells=cells([(-1, 1), (-3, 3)], 3, 7, 1),
    vectors=replace(VECTORS, latents=counting(700, 3, 2, 7)),
    ranks=np.array([3, 7], dtype=np.int32),
)
CUT = replace(
    MODELS,
    n_layers=2,
    left=UNCUT,
    right=POOLED,
    kl=np.array([0.5, 0.25, 0.25]),
    agreed=np.array([1, 0, 1], dtype=np.uint8),
)


def packed():
    """All runs as bytes, by file name: the second with its attention rounded; a layer's rest."""
    with patch.object(payload, "EXACT_BYTES", 0):
        rounded = payload.pack_run(MODELS)
    return {
        "golden.bin": payload.pack_run(SAME),
        "golden_models.bin": rounded,
        "golden_rest.bin": payload.pack_rest(SAME, 1),
        "golden_cut.bin": payload.pack_run(CUT),
    }


if __name__ == "__main__":
    for name, content in packed().items():
        (FOLDER / name).write_bytes(content)
