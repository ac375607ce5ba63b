"""The engine's quantities, measured: `python -m mla_viz.bench`.

Times are wall-clock medians with the range over repetitions; every ratio is of runs made in turn,
so that a machine whose speed drifts shifts both alike.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from mla_viz.cost import operations
from mla_viz.model.decoder import Decoder
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.player.payload import pack_run
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings

REPETITIONS = 7
NEW_TOKENS = 64


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def summary(values: list[float], unit: str, scale: float = 1.0) -> str:
    """Median and range: `12.3 ms (11.9-14.0, n=7)`."""
    low, middle, high = (scale * f(values) for f in (min, statistics.median, max))
    return f"{middle:.3g} {unit} ({low:.3g}-{high:.3g}, n={len(values)})"


def report(name: str, goal: str, result: str) -> None:
    """One line of the table."""
    print(f"{name:58s} goal {goal:14s} measured {result}", flush=True)


def bench_decode() -> None:
    """A whole run of the shipped model, and the same steps without a trace."""
    settings = Settings(latent=64, max_new_tokens=NEW_TOKENS, seed=1)
    ids = [token.id for token in decode(settings).tokens]

    def untraced() -> None:
        weights = settings.side("left").load(settings.seed)
        sides = [Decoder(weights, name) for name in (settings.left, settings.right)]
        for step in range(len(ids) - 1):
            for side in sides:
                side.feed(torch.tensor(ids[step : step + 1]))

    pairs = [(seconds(lambda: decode(settings)), seconds(untraced)) for _ in range(REPETITIONS)]
    traced = [pair[0] for pair in pairs]
    shares = [1 - bare / full for full, bare in pairs]
    report(f"decode {len(ids) - 1} steps, both sides, full trace", "1.0 s", summary(traced, "s"))
    report("share of it that is tracing and sampling", "under 50 %", summary(shares, "%", 100))


def bench_context() -> None:
    """Absorbed step time at two context lengths, against the counted work."""
    settings = Settings(source="synthetic", latent=64, layers=1)
    weights = settings.side("right").load(0)
    geometry = weights.geometry
    lengths = (1024, 8192)
    decoders = {n: Decoder(weights, "mla_absorbed") for n in lengths}
    for n, decoder in decoders.items():
        for _ in range(0, n, 256):
            decoder.feed(torch.arange(256))
    times: dict[int, list[float]] = {n: [] for n in lengths}
    for _ in range(64):
        for n, decoder in decoders.items():
            times[n].append(decoder.feed(torch.tensor([1])).attention_us[0])
    counted = [
        sum(op.flops for op in operations("mla_absorbed", geometry.attention, n, 4))
        for n in lengths
    ]
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    for n in lengths:
        report(f"absorbed attention of one step at {n} tokens", "", summary(times[n], "us"))
    report(
        f"its growth from {lengths[0]} to {lengths[1]} tokens",
        f"<= {counted[1] / counted[0]:.2f}x counted",
        summary(ratios, "x"),
    )


def bench_payload() -> None:
    """Bytes that a full context sends to the browser."""
    prompt = stories_tokenizer().decode([500] * 230)
    sizes = []
    for seed in range(40):
        settings = Settings(prompt, latent=64, max_new_tokens=26, seed=seed)
        run = decode(settings)
        sizes.append((run.n_steps, len(pack_run(run)) / 1e6))
        if run.n_steps == 255:
            break
    steps, size = max(sizes)
    report(f"payload of {steps} steps, 5 layers, 8 heads, exact", "14 MB", f"{size:.1f} MB")


def main() -> None:
    """Run every engine benchmark."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, python {sys.version.split()[0]}")
    bench_decode()
    bench_context()
    bench_payload()
