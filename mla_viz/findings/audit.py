"""Why a cache is larger than that: what an engine reports, against what the closed forms give.

Fits a slope and a fixed part, and names what reproduces them. Knows neither tensors nor screens;
lines are read by `engine_log`, what may be the matter is listed by `suspects`.

Worked: GLM-4.7-Flash grows by 47 x (512 + 64) x 2 = 54,144 bytes a token. 7.38 GiB for 8,192 are
17.87 times that; keys and values of its 20 heads, 47 x 20 x (256 + 256) x 2, are 17.78 times.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Any

from mla_viz.config import check_int, check_text
from mla_viz.findings.engine_log import MEASURED, Measurement, read_measurements
from mla_viz.findings.memory import LARGEST_BATCH, MOST_RANKS, find_model
from mla_viz.findings.suspects import Bill, Suspect, suspects
from mla_viz.published.layers import CachedModel, check_dtype
from mla_viz.words import count_text, number_text

TOLERANCE = 0.02  # vLLM prints what was free; what it took is less by a block or a rank's slack
TOLERANCE_OF_TWO = 0.005  # two causes meet a number by chance more easily
MOST_CAUSES, NEAREST = 6, 3
AS_EXPECTED = "as expected"


@dataclass(frozen=True)
class Part:
    """What one part of a cache should take: bytes a further token adds, and bytes in all."""

    part: str
    bytes_per_token: int | float
    bytes: int


@dataclass(frozen=True)
class Cause:
    """What reproduces a number, or comes near: `changes` of what is kept, none where it is right.

    `bytes` are those of the last measurement, `ratio` is taken to the expected ones, `error` is
    how far from the measured ones; of two measurements both compare slopes, and `fixed_fits` says
    whether the fixed part is reproduced too.
    """

    name: str
    changes: tuple[str, ...]
    bytes_per_token: int | float
    bytes: int
    ratio: float
    error: float
    fits: bool
    fixed_fits: bool
    sentence: str


@dataclass(frozen=True)
class Audit:
    """What was reported, beside what it should be; the names are those that `audit --json` prints.

    `bytes_per_token` and `fixed_bytes` are fitted to two measurements. Of one, `fixed_bytes` are
    the expected ones and `assumption` says so. `causes` are those that fit, or the nearest.
    """

    model: str
    cache_dtype: str
    tp: int
    page: int
    measurements: tuple[Measurement, ...]
    bytes_per_token: int | float
    fixed_bytes: int | float
    expected_bytes_per_token: int | float
    expected_fixed_bytes: int | float
    expected_bytes: int
    ratio: float
    parts: tuple[Part, ...]
    causes: tuple[Cause, ...]
    tolerance: float
    assumption: str
    verdict: str
    source: str

    def record(self) -> dict[str, Any]:
        """As plain data: what `audit --json` prints."""
        return asdict(self)

    def told(self) -> Iterator[str]:
        """Line by line: what `audit` prints."""
        for m in self.measurements:
            yield f"{m.engine}: {m.bytes:,} bytes for {count_text(m.tokens, 'token')}"
        yield self.verdict
        fitted = (self.bytes_per_token, self.fixed_bytes)
        expected = (self.expected_bytes_per_token, self.expected_fixed_bytes)
        for name, mine, due in zip(("a further token", "fixed"), fitted, expected, strict=True):
            yield f"{name}: {number_text(mine)} bytes, expected {number_text(due)}"
        yield self.assumption
        for part in self.parts:
            growth = number_text(part.bytes_per_token)
            yield f"expected {part.part}: {growth} bytes a token, {part.bytes:,} in all"
        for cause in self.causes:
            yield f"{'fits' if cause.fits else 'near'}: {cause.name}. {cause.sentence}"


@dataclass(frozen=True)
class _Line:
    """Bytes against tokens: a slope, what stands at no token, and the totals that they go through.

    `blur` is how far each measured total may be from the true one.
    """

    slope: Fraction
    fixed: Fraction
    totals: tuple[Fraction, ...]
    blur: tuple[float, ...]

    def like(self, other: "_Line") -> bool:
        """Whether no total is told apart from the other's."""
        pairs = zip(self.totals, other.totals, self.blur, strict=True)
        return all(abs(mine - theirs) <= blur for mine, theirs, blur in pairs)

    def error(self, measured: "_Line") -> tuple[float, float, bool]:
        """How far from the measured line, how far beyond what was rounded, and the fixed part's.

        One measurement compares totals, two compare slopes.
        """
        mine, theirs, blur = self.totals[-1], measured.totals[-1], sum(self.blur)
        if len(self.totals) == 1:
            return (
                float(abs(mine / theirs - 1)),
                float(max(0, abs(mine - theirs) - blur)) / float(theirs),
                True,
            )
        run = float(measured.totals[1] - measured.totals[0])
        error = float(abs(self.slope / measured.slope - 1))
        tokens = float((measured.totals[0] - measured.fixed) / measured.slope)
        blur_fixed = blur + tokens * blur / run * float(measured.slope)
        off = float(abs(self.fixed - measured.fixed)) - blur_fixed
        return error, max(0.0, error - blur / run), off <= TOLERANCE * abs(float(measured.fixed))


@dataclass(frozen=True)
class _Found:
    """A combination of suspects, none of them included, and how near its line comes."""

    suspects: tuple[Suspect, ...]
    bill: Bill
    line: _Line
    error: float
    beyond: float
    fixed_fits: bool

    @property
    def fits(self) -> bool:
        return self.beyond <= (TOLERANCE if len(self.suspects) < 2 else TOLERANCE_OF_TWO)


def audit(
    model: str | dict[str, Any] | CachedModel,
    reported: str,
    cache_dtype: str = "bfloat16",
    tp: int = 1,
    page: int = 1,
    batch: int = 1,
) -> Audit:
    """Take apart what an engine says that a model's cache takes.

    `audit("DeepSeek-V3", "4997120 B @ 1").causes[0].name` is "expanded K and V".

    Args:
        model: a name of the catalog, a config.json as a dict or as text, or a CachedModel.
        reported: lines of an engine's log, or one or two measurements, `12.5 GiB @ 131,072`.
        cache_dtype: what it should be kept in, one of `published.layers.CACHE_DTYPES`.
        tp: ranks of tensor parallelism; what is reported is one rank's.
        page: tokens of a page.
        batch: sequences of that many tokens in a measurement; logs say it themselves.

    Raises:
        ValueError: a report that cannot be read, an unknown model or dtype, a number out of bounds.
    """
    dtype, found = check_dtype(cache_dtype), find_model(model)
    tp, page = check_int("tp", tp, 1, MOST_RANKS), check_int("page", page, 1, 1 << 16)
    batch = check_int("batch", batch, 1, LARGEST_BATCH)
    read = _measured_by(check_text("reported", reported), batch)
    bill = Bill(found.layers, dtype, page, tp)
    states = all(m.states for m in read)
    if not states:
        bill = replace(bill, layers=tuple(tuple(p for p in x if not p.fixed) for x in bill.layers))
    if not bill.bytes_per_token:
        raise ValueError(f"model: expected one whose cache grows, got {found.label}")
    expected = _line(bill, read)
    if not expected.slope:
        raise ValueError("reported: expected enough tokens for the cache to grow, got too few")
    measured = _fitted(read, expected)
    last = read[-1]
    listed = tuple(
        each
        for each in suspects(found, bill, states, last.window_rows, last.unit)
        if each.axis != "page" or last.engine == MEASURED  # an engine's pool is of whole pages
    )
    causes = [_cause(each, expected, read) for each in _ranked(bill, listed, read, measured)]
    ratio = _ratio(measured, expected)
    return Audit(
        model=found.label,
        cache_dtype=dtype,
        tp=tp,
        page=page,
        measurements=read,
        bytes_per_token=_plain(measured.slope),
        fixed_bytes=_plain(measured.fixed),
        expected_bytes_per_token=_plain(expected.slope),
        expected_fixed_bytes=_plain(expected.fixed),
        expected_bytes=round(expected.totals[-1]),
        ratio=ratio,
        parts=_parts(bill, last),
        causes=tuple(causes),
        tolerance=TOLERANCE,
        assumption=_assumption(read, expected),
        verdict=_verdict(causes, ratio) + _beside(causes[0], measured, expected),
        source=found.source,
    )


def _measured_by(reported: str, batch: int) -> tuple[Measurement, ...]:
    """The measurements by their tokens; those that no engine made are of `batch` sequences."""
    read = [
        replace(m, tokens=m.tokens * batch) if m.engine == MEASURED else m
        for m in read_measurements(reported)
    ]
    first, last = min(read, key=lambda m: m.tokens), max(read, key=lambda m: m.tokens)
    if len(read) == 2 and (first.tokens == last.tokens or first.bytes >= last.bytes):
        got = " and ".join(f"{m.bytes:,} bytes for {m.tokens:,}" for m in read)
        raise ValueError(
            f"reported: expected more bytes for more tokens, got {got}; leave one of them"
        )
    return tuple(read) if len(read) == 1 else (first, last)


def _line(bill: Bill, read: tuple[Measurement, ...]) -> _Line:
    """What a cache of this kind would have been measured as."""
    totals = [m.sequences * bill.bytes(m.context) for m in read]
    if len(read) == 1:
        fixed = read[0].sequences * bill.bytes(read[0].context, grows=False)
        slope = (totals[0] - fixed) / read[0].tokens
    else:
        slope, fixed = _through(read, totals)
    return _Line(slope, fixed, tuple(totals), tuple(m.rounding_bytes for m in read))


def _fitted(read: tuple[Measurement, ...], expected: _Line) -> _Line:
    """The line that was measured; through one measurement the one with the expected fixed part."""
    totals = [Fraction(m.bytes) for m in read]
    if len(read) == 1:
        slope, fixed = (totals[0] - expected.fixed) / read[0].tokens, expected.fixed
    else:
        slope, fixed = _through(read, totals)
    return _Line(slope, fixed, tuple(totals), tuple(m.rounding_bytes for m in read))


def _through(read: tuple[Measurement, ...], totals: list[Fraction]) -> tuple[Fraction, Fraction]:
    slope = (totals[1] - totals[0]) / (read[1].tokens - read[0].tokens)
    return slope, totals[0] - slope * read[0].tokens


def _ranked(
    bill: Bill, listed: tuple[Suspect, ...], read: tuple[Measurement, ...], measured: _Line
) -> list[_Found]:
    """What fits, the best first; else the nearest. Two causes come after one that fits."""
    found = [_found((), bill, read, measured)]
    for one in listed:
        with suppress(ValueError):  # a dtype that does not apply to a part
            found.append(_found((one,), one.change(bill), read, measured))
    plain = found[0].line
    found[1:] = [each for each in found[1:] if not each.line.like(plain)]
    alone = [each.line for each in found]
    for one, two in combinations(listed, 2):
        if "page" in (one.axis, two.axis) or one.axis == two.axis != "kept":
            continue
        with suppress(ValueError):
            both = _found((one, two), two.change(one.change(bill)), read, measured)
            if not any(both.line.like(line) for line in alone):
                found.append(both)
    fitting = sorted((each for each in found if each.fits), key=_rank)
    if not fitting:
        return sorted(found[1:], key=_rank)[:NEAREST]
    if not fitting[0].beyond and len(fitting[0].suspects) < 2:
        fitting = [each for each in fitting if not each.beyond]
    return fitting[:MOST_CAUSES]


def _rank(found: _Found) -> tuple[bool, bool, float, bool, int, float]:
    """One cause before two, what hits within the print's rounding before what comes near.

    Of those that only come near, that all is as expected comes first.
    """
    changes = len(found.suspects)
    near = found.beyond if changes or not found.fixed_fits else -1.0
    two = changes > 1 and found.fits
    return two, found.beyond > 0, near, not found.fixed_fits, changes, found.error


def _found(
    suspected: tuple[Suspect, ...], bill: Bill, read: tuple[Measurement, ...], measured: _Line
) -> _Found:
    line = _line(bill, read)
    return _Found(suspected, bill, line, *line.error(measured))


def _ratio(line: _Line, expected: _Line) -> float:
    if len(line.totals) == 1:
        return float(line.totals[0] / expected.totals[0])
    return float(line.slope / expected.slope)


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def _parts(bill: Bill, last: Measurement) -> tuple[Part, ...]:
    """Equal parts of all layers together, windows and states by their own names."""
    made: dict[str, tuple[Fraction, Fraction]] = {}
    for kept, count in bill.counted.items():
        own = replace(bill, layers=((kept,) * count,))
        name = f"{kept.part} in windows" if kept.window is not None else kept.part
        slope, total = made.get(name, (Fraction(0), Fraction(0)))
        total += last.sequences * own.bytes(last.context)
        made[name] = slope + own.bytes_per_token, total
    return tuple(Part(name, _plain(slope), round(total)) for name, (slope, total) in made.items())


def _cause(found: _Found, expected: _Line, read: tuple[Measurement, ...]) -> Cause:
    names = tuple(each.name for each in found.suspects)
    ratio, slope = _ratio(found.line, expected), _plain(found.bill.bytes_per_token)
    words = "; ".join(each.sentence for each in found.suspects) or "everything is as expected"
    total, tokens = round(found.line.totals[-1]), count_text(read[-1].tokens, "token")
    sentence = (
        f"{words[0].upper()}{words[1:]}. {found.bill.arithmetic()} = {number_text(slope)} bytes a"
        f" further token; {total:,} bytes for {tokens}: {ratio:.4g} times the expected,"
        f" {found.error:.2%} from the measured."
    )
    return Cause(
        " and ".join(names) or AS_EXPECTED,
        names,
        slope,
        total,
        ratio,
        found.error,
        found.fits,
        found.fixed_fits,
        sentence,
    )


def _assumption(read: tuple[Measurement, ...], expected: _Line) -> str:
    if len(read) == 2:
        return "Slope and fixed part are those of the line through both measurements."
    return (
        "One measurement does not tell a slope from a fixed part: the fixed part is taken to be"
        f" the expected {round(expected.fixed):,} bytes."
    )


def _beside(first: Cause, measured: _Line, expected: _Line) -> str:
    """What is said of a fixed part that the best cause leaves unexplained."""
    if first.fixed_fits:
        return ""
    return (
        f" That is the slope; of a fixed part of {number_text(_plain(measured.fixed))} bytes,"
        f" {number_text(_plain(expected.fixed))} expected, the rest is in none of its parts."
    )


def _verdict(causes: list[Cause], ratio: float) -> str:
    first, within = causes[0], f"{TOLERANCE:.0%} for one cause, {TOLERANCE_OF_TWO:.1%} for two"
    if not first.fits:
        return (
            f"Nothing on the list gives {ratio:.4g} times the expected bytes within {within}. The"
            f" nearest, {first.name}, is {first.error:.1%} off."
        )
    if not first.changes:
        return f"It is what it should be: {ratio:.4g} times the expected bytes."
    others = f" (the first of {len(causes)} that fit)" if len(causes) > 1 else ""
    return f"{ratio:.4g} times the expected bytes: {first.name}{others}."
