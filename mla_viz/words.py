"""Numbers as text, each kind written in one way. Knows no record and no screen.

KiB is 1,024 bytes, MB a million.
"""

from math import floor, log, log10

Number = float | int
NATS = "A loss of L nats a token gives the right token the share e^−L, on average."


def flops_text(flops: Number) -> str:
    """`1.52 GFLOP`, `282 kFLOP`, `64 FLOP`: three digits."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if flops >= 0.9995 * size:  # what rounds to 1,000 of the smaller unit
            return f"{flops / size:.3g} {unit}FLOP"
    return f"{flops:.0f} FLOP"


def mega_text(number: Number) -> str:
    """Millions, two digits behind the point: `5.44` for 5,442,560."""
    return f"{number / 1e6:.2f}"


def mb_text(number_bytes: Number) -> str:
    """`33.6 MB`, `1,074 MB`: up to four digits."""
    return f"{number_bytes / 1e6:,.4g} MB"


def gb_text(number_bytes: Number) -> str:
    """`399.77 GB`: billions, two digits."""
    return f"{number_bytes / 1e9:,.2f} GB"


def kib_text(number_bytes: Number) -> str:
    """Whole KiB: `240` for 245,760."""
    return f"{number_bytes / 1024:.0f}"


def bytes_text(number_bytes: Number) -> str:
    """`0 B`, `337.5 KiB`, `8.7 GiB`: units of 1,024, as the player writes them."""
    power = min(4, int(log(max(1, number_bytes), 1024) + 1e-9))
    amount = number_bytes / 1024**power
    return f"{amount:.1f} {'KMGT'[power - 1]}iB" if power else f"{amount:.0f} B"


def decimal_bytes_text(number_bytes: Number) -> str:
    """`0 B`, `70.3 kB`, `7.03 GB`: units of 1,000, three digits."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number_bytes >= 0.9995 * size:
            return f"{_digits(number_bytes / size)} {unit}B"
    return f"{number_bytes:.0f} B"


def short_count(count: Number) -> str:
    """`671B`, `8.03B`, `135M`: three digits."""
    size, unit = (1e9, "B") if count >= 0.9995e9 else (1e6, "M")
    return f"{count / size:.3g}{unit}" if count < 999.5 * size else f"{count / size:,.0f}{unit}"


def micros_text(microseconds: Number) -> str:
    """`12.3 µs`, `1.25 ms`, `2.40 s`: three digits."""
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= 0.9995 * size:
            return f"{_digits(microseconds / size)} {unit}"
    return f"{_digits(microseconds)} µs"


def _digits(x: Number) -> str:
    """Three digits, or two behind the point: `0.50`, `12.3`, `123`."""
    return f"{x:.{2 if x < 9.995 else 1 if x < 99.95 else 0}f}"


def loss_text(nats: Number, digits: int = 3) -> str:
    """A loss in nats per token, or bits per byte: `2.223`."""
    return minus(f"{nats:.{digits}f}")


def gap_text(difference: Number | None) -> str:
    """A rounding difference: `4.8e-07`, `0`; what stands there for different models."""
    if difference is None:
        return "different models"
    return f"{difference:.1e}" if difference else "0"


def share_text(share: Number, error: Number | None = None) -> str:
    """A share in whole percent, with its standard error in points: `47%`, `47% ± 9`."""
    return f"{share:.0%}" if error is None else f"{share:.0%} ± {100 * error:.0f}"


def minus(text: str) -> str:
    """The text of a number with a true minus."""
    return text.replace("-", "−")


def signed_text(x: Number, digits: int) -> str:
    """A difference with its sign: `+0.64`, `−0.026`."""
    return minus(f"{x:+.{digits}f}")


def number_text(x: Number) -> str:
    """Whole, or with three digits or so: `7,808`, `56.9`, `2.25`, `0.0043`, `−53.8`."""
    if float(x).is_integer():
        return minus(f"{x:,.0f}")
    small = 1 - floor(log10(abs(x)))  # behind the point, for two digits that are not 0
    return minus(f"{x:,.{1 if abs(x) >= 20 else max(2, small)}f}")


def amount_text(value: Number, unit: str) -> str:
    """A number with its unit: `56.9 times`, `576 elements a token and layer`."""
    return f"{number_text(value)} {unit}"


def count_text(count: int, noun: str) -> str:
    """`1 head`, `8 heads`, `100,000 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def product_text(batch: int, left: tuple[int, int], right: tuple[int, int]) -> str:
    """The shapes of a matrix product: `8×(1×48)·(48×512)`."""
    heads = f"{batch:,}×" if batch > 1 else ""
    sides = "·".join(f"({rows:,}×{columns:,})" for rows, columns in (left, right))
    return heads + sides


def minutes_text(seconds: Number) -> str:
    """A rough time: `about 40 seconds`, `about 3 minutes`."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    return f"about {seconds / 60:.0f} minutes"
