"""The Speed page's sentences about numbers, each true whatever the numbers are."""

from collections.abc import Sequence

from mla_viz.findings.measured import QUIET, Bench, Point, QueryPoint
from mla_viz.findings.speed import BANDWIDTH, Rates
from mla_viz.words import count_text, decimal_bytes_text, number_text, share_text

LEAST = 1.005  # ratios below round to one


def pace(ratio: float) -> str:
    """How quick something is beside a baseline: `5.1 times as quick`, `1.3 times as slow`."""
    if 1 / LEAST < ratio < LEAST:
        return "as quick"
    return f"{number_text(ratio)} times as quick" if ratio > 1 else f"{slow(ratio)} as slow"


def slow(ratio: float) -> str:
    """`1.3 times` for a ratio of 1 / 1.3."""
    return f"{number_text(1 / ratio)} times"


def beside_limits(predicted: float, measured: float) -> str:
    """The measured speed-up beside the one that the limits predict."""
    if 1 / 1.05 < measured / predicted < 1.05:
        return f"as the limits predict ({number_text(predicted)} times)"
    more = "more" if measured > predicted else "less"
    return f"{more} than the limits predict ({number_text(predicted)} times)"


def shares_words(shares: dict[str, float]) -> str:
    """What share of its own limit each side reaches: `MHA 71%, absorbed 82%`."""
    return ", ".join(f"{name} {share_text(share)}" for name, share in shares.items())


def fair_words(baseline: Point, absorbed: Point) -> str:
    """Whose code is nearer to its limit, and so which way the ratio leans."""
    gap = absorbed.fraction_of_limit / baseline.fraction_of_limit
    if 1 / 1.1 < gap < 1.1:
        return "Both sides come as near to their limits, so that the ratio is the mechanisms' own."
    if gap > 1:
        return "The slow side is further from its limit: some of the ratio is its code."
    return "The absorbed side is further from its limit: its code leaves some of the ratio behind."


def balance_words(needed: float | None, rates: Rates, baseline: str) -> str:
    """Whether the absorbed core beats a baseline on a machine, over an endless context."""
    has = f"{rates.name} makes {number_text(rates.balance)} FLOP while it reads a byte"
    if needed is None:
        return f"Absorbed reads no fewer bytes than {baseline}: it wins on no machine."
    if needed == 0:
        return f"Absorbed reads less than {baseline} and multiplies no more: it loses nowhere."
    verdict = "wins" if rates.balance > needed else "does not win"
    return (
        f"Against {baseline} absorbed needs a machine balance above {number_text(needed)} FLOP a"
        f" byte. {has}: it **{verdict}** there."
    )


def bound_words(bound: str) -> str:
    """What a step waits for."""
    return "reading" if bound == BANDWIDTH else "multiplying"


def flops_words(absorbed: int, rebuilt: int, tokens: int) -> str:
    """Which of the two makes fewer products for so many query tokens."""
    many = count_text(tokens, "query token")
    if absorbed == rebuilt:
        return f"For {many} both make as many products."
    one, other = ("absorbing", "rebuilding") if absorbed < rebuilt else ("rebuilding", "absorbing")
    low, high = sorted((absorbed, rebuilt))
    times = number_text(high / low)
    return f"For {many} **{one}** makes fewer products: {other} makes {times} times as many."


def crossing_words(endless: float | None, here: float | None, context: int) -> str:
    """From how many query tokens rebuilding makes fewer products."""
    if here is None:
        return f"Over {context:,} tokens absorbing never makes more products, however many queries."
    text = (
        f"Over {context:,} tokens rebuilding makes fewer products from {number_text(here)} query"
        " tokens on"
    )
    if endless is None:
        return f"{text}; over endless context it never does."
    return f"{text}; over endless context from {number_text(endless)} on."


def measured_crossing(points: list[QueryPoint]) -> str:
    """Between which numbers of query tokens the quicker form changes, as it was timed."""
    times = {(p.form, p.query_tokens): p.time_us for p in points}
    tokens = sorted({p.query_tokens for p in points})
    both = [n for n in tokens if all((f, n) in times for f in ("mla_absorbed", "mla_reexpand"))]
    wins = [times["mla_absorbed", n] < times["mla_reexpand", n] for n in both]
    if not both:
        return "Both forms were not timed for the same query tokens."
    changes = [i for i in range(1, len(both)) if wins[i] != wins[i - 1]]
    if not changes:
        who = "absorbing" if wins[0] else "rebuilding"
        return f"Measured, {who} is the quicker one at every number that was timed."
    between = ", then ".join(f"between {both[i - 1]:,} and {both[i]:,}" for i in changes)
    first = "absorbing" if wins[0] else "rebuilding"
    return f"Measured, {first} is the quicker one at first; it changes {between} query tokens."


def growth_words(points: Sequence[Point], cache_bytes: int) -> str:
    """How time grows between the two longest contexts that were timed, and what is held there."""
    first, last = points[-2:]
    share = last.working_bytes / cache_bytes
    held = f"{share_text(share)} of its cache" if share < 10 else "far more than its cache"
    return (
        f"from {first.context:,} to {last.context:,} tokens,"
        f" {number_text(last.context / first.context)} times as many, a step takes"
        f" {number_text(last.time_us / first.time_us)} times as long. It holds"
        f" {decimal_bytes_text(last.working_bytes)} beside its cache then, {held}."
    )


def busy_words(bench: Bench) -> str:
    """What other work the machine had while it was measured; nothing where it had none."""
    apart = sum(point.busy for point in bench.points)
    found = []
    if bench.load > QUIET:
        found.append(f"{bench.load:.1f} processes wanted a core before it began")
    if apart:
        of = count_text(len(bench.points), "time")
        found.append(f"{apart:,} of {of} lie so far apart that other work must have disturbed them")
    return f"The machine was not quiet: {'; '.join(found)}." if found else ""
