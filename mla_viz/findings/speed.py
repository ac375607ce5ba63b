"""What a decode step must take at least: counted work against what a machine reads and multiplies.

Counted by closed forms; nothing here was timed. The limit of a step is the longer of reading all
that must be read and making all products, as if the other cost nothing. Each cached value is read
once and scores stay on the chip, as in a fused kernel: no kernel can move less. Knows neither
tensors nor screens.
"""

from dataclasses import dataclass

from mla_viz.config import MLAGeometry, check_choice, check_int
from mla_viz.cost import (
    CORE,
    attention_params,
    cache_elems,
    core_flops,
    geometry_beside,
    moved_bytes,
    operations,
)
from mla_viz.findings.measured import Bench
from mla_viz.mechanisms.table import CUT_MECHANISMS, MECHANISMS
from mla_viz.published.accelerators import accelerators
from mla_viz.words import Number

ELEM_BYTES = {"bfloat16": 2, "fp8": 1, "tf32": 4, "float32": 4}  # of weights and cached values
# recompute keeps no cache, and a model that is cut is no layer of these widths.
COUNTED = tuple(name for name in MECHANISMS if name not in ("recompute", *CUT_MECHANISMS))
PARTS = {"core": "attention over the cache", "layer": "the whole attention layer"}
BANDWIDTH, PRODUCTS = "bandwidth", "products"
MOST_CONTEXT, MOST_BATCH = 1 << 20, 1 << 12


@dataclass(frozen=True)
class Rates:
    """What a machine reads and multiplies a second in one dtype, and where that is from."""

    name: str
    bytes_per_second: float
    flops_per_second: float
    source: str

    @property
    def balance(self) -> float:
        """FLOPs that it makes while it reads a byte: the ridge of its roofline."""
        return self.flops_per_second / self.bytes_per_second

    def limit_us(self, flops: Number, moved: Number) -> float:
        """The least that so much work takes here: the longer of reading and multiplying."""
        return 1e6 * max(moved / self.bytes_per_second, flops / self.flops_per_second)

    def bound(self, flops: Number, moved: Number) -> str:
        """Which of the two it is; bandwidth where both take as long."""
        return PRODUCTS if flops > moved * self.balance else BANDWIDTH


def accelerator_rates(name: str, dtype: str) -> Rates:
    """An accelerator's printed bandwidth, and its printed rate of dense products in a dtype.

    Raises:
        ValueError: no such accelerator or dtype, or its source prints no rate in that dtype.
    """
    machine = accelerators()[check_choice("accelerator", name, [*accelerators()])]
    flops = machine.flops.get(check_choice("dtype", dtype, tuple(ELEM_BYTES)))
    if flops is None:
        printed = ", ".join(machine.flops) or "none"
        raise ValueError(
            f"dtype: expected one whose dense products are printed for {name} ({printed}),"
            f" got {dtype}"
        )
    return Rates(name, float(machine.bytes_per_second), flops, machine.source)


def measured_rates(bench: Bench) -> Rates | None:
    """What a measured machine read and multiplied; None where it was stopped before."""
    if (roof := bench.roofline) is None:
        return None
    source = f"measured with torch {bench.torch}"
    return Rates(bench.machine, roof.gb_s * 1e9, roof.gflops * 1e9, source)


@dataclass(frozen=True)
class Step:
    """One decode step of a layer: its products, the bytes that must move, and what is cached.

    `part` is one of `PARTS`; `bytes` hold weights once, and each sequence's rows, queries and
    results.
    """

    mechanism: str
    part: str
    context: int
    batch: int
    flops: int
    bytes: int
    cache_bytes: int

    @property
    def intensity(self) -> float:
        """FLOPs for each byte that moves."""
        return self.flops / self.bytes


def step(
    mechanism: str,
    g: MLAGeometry,
    context: int = 4096,
    batch: int = 1,
    elem_bytes: int = 2,
    part: str = "core",
) -> Step:
    """Count a step of a mechanism of this layer, or of plain heads as many and as wide beside it.

    Rebuilding keys and values belongs to the core of what rebuilds them. DeepSeek-V3 in bfloat16
    over 4,096 tokens: absorbed 1.14 GFLOP and 5.0 MB.

    Raises:
        ValueError: an unknown mechanism or part, or a number out of its bounds.
    """
    check_choice("mechanism", mechanism, COUNTED)
    check_choice("part", part, tuple(PARTS))
    context = check_int("context", context, 1, MOST_CONTEXT)
    batch = check_int("batch", batch, 1, MOST_BATCH)
    layer = geometry_beside(mechanism, g)
    ops = operations(mechanism, layer, context, elem_bytes)
    core = {op.name: op for op in ops if op.name in (*CORE, "expand all")}
    score, mix = (core[name] for name in CORE)
    rows = cache_elems(mechanism, layer) * context
    ends = score.batch * score.rows * score.inner + mix.elems_written
    moved = batch * (rows + ends) * elem_bytes
    if rebuilt := core.get("expand all"):
        moved += rebuilt.inner * rebuilt.columns * elem_bytes
    others = [] if part == "core" else [op for op in ops if op.name not in core]
    flops = batch * sum(op.flops for op in (*core.values(), *others))
    moved += moved_bytes(others, batch)
    return Step(mechanism, part, context, batch, flops, moved, batch * rows * elem_bytes)


def gain(absorbed: Step, other: Step, rates: Rates) -> float:
    """How many times as long another step must take as the absorbed one."""
    slow, quick = (rates.limit_us(each.flops, each.bytes) for each in (other, absorbed))
    return slow / quick


def needed_balance(g: MLAGeometry, baseline: str, elem_bytes: int) -> float | None:
    """FLOPs a byte above which the absorbed core is the quicker one, over an endless context.

    FLOPs of the absorbed core a cached token / bytes of the baseline's. 0 where it makes no more
    products and reads less, so that it always is; None where it never is. DeepSeek-V3 against its
    expanded cache: 278,528 / 81,920 = 3.4 in bfloat16, 1.7 in float32.
    """
    layer = geometry_beside(baseline, g)
    if cache_elems("mla_absorbed", g) >= cache_elems(baseline, layer):
        return None
    flops = core_flops("mla_absorbed", g)
    if flops <= core_flops(baseline, layer):
        return 0.0
    return flops / (cache_elems(baseline, layer) * elem_bytes)


@dataclass(frozen=True)
class Training:
    """Weights of one attention layer, and the FLOPs of training it on one token of a sequence.

    Six for each weight (forward, and twice that backward), and three times the forward pass of
    scores and values over the tokens before it, on average half of the sequence.
    """

    mechanism: str
    params: int
    weight_flops: int
    core_flops: int

    @property
    def flops(self) -> int:
        """All of them."""
        return self.weight_flops + self.core_flops


def training(mechanism: str, g: MLAGeometry, context: int) -> Training:
    """What a layer of a mechanism costs to train on sequences of so many tokens.

    MLA is trained with keys and values expanded: `mla_expanded`. Nothing recomputed is counted.
    """
    layer = geometry_beside(mechanism, g)
    params = attention_params(layer)
    core = 3 * core_flops(mechanism, layer) * (context + 1) // 2
    return Training(mechanism, params, 6 * params, core)


def training_crossing(g: MLAGeometry, baseline: str = "mha") -> float | None:
    """Tokens of a sequence at which MLA and a baseline take as many FLOPs to train.

    4 (P_baseline - P_MLA) / (core_MLA - core_baseline), less 1; None where they never do.
    DeepSeek-V3 against plain MHA: 69,006.
    """
    other = geometry_beside(baseline, g)
    weights = attention_params(other) - attention_params(g)
    core = core_flops("mla_expanded", g) - core_flops(baseline, other)
    return 4 * weights / core - 1 if weights * core > 0 else None
