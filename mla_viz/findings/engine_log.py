"""What an engine says of its cache, read from its log: bytes, and the tokens that they are for.

Reads lines of vLLM, SGLang and llama.cpp with any prefix, or measurements such as `7.03 GB @
100,000`. Knows no model. llama.cpp's MB and SGLang's GB are units of 1,024, and are read so.

Worked: "KV Cache is allocated. #tokens: 383872, KV size: 19.36 GB" is 19.36 x 2^30 bytes, give or
take half a hundredth, for 383,872 tokens.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from mla_viz.config import told

LONGEST = 1_000_000  # characters of a log
MOST_TOKENS = 1 << 40
_NUMBER = r"(?:\d{1,3}(?:[,_]\d{3}){1,5}|\d{1,18})(?:\.\d{1,9})?"
_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_UNIT = r"[kKMGT]i?B|B|bytes"
_PLAIN = re.compile(rf"\s*({_NUMBER})\s*({_UNIT})?\s*@\s*({_NUMBER})(?:\s*tokens?)?\s*", re.I)
_VLLM_BYTES = re.compile(
    rf"(?:Available KV cache memory: |reserved for KV Cache is )({_NUMBER})\s*GiB"
)
_VLLM_TOKENS = re.compile(rf"KV cache size: ({_NUMBER}) tokens")
_VLLM_REQUESTS = re.compile(rf"concurrency for ({_NUMBER}) tokens per request: ({_NUMBER})x")
_VLLM_NEEDS = re.compile(rf"seq len \(({_NUMBER})\), \(({_NUMBER}) GiB KV cache is needed")
_SGLANG = re.compile(
    rf"KV Cache is allocated\..*#tokens: ({_NUMBER}), "
    rf"(?:K(?: size:)? ({_NUMBER}) GB, V(?: size:)? ({_NUMBER}) GB|KV size: ({_NUMBER}) GB)"
)
_LLAMA = re.compile(
    rf"size =\s*({_NUMBER}) MiB \(\s*(\d+) cells(?:,\s*(\d+) layers)?(?:,\s*\d+(?:/(\d+))? seqs)?\)"
    rf"(?:, K \(\w+\):\s*({_NUMBER}) MiB, V \(\w+\):\s*({_NUMBER}) MiB)?"
)
_LLAMA_SELF = re.compile(rf"KV self size\s*=\s*({_NUMBER}) Mi?B", re.I)
_LLAMA_BUFFER = re.compile(rf"KV buffer size =\s*({_NUMBER}) MiB")
_LLAMA_CONTEXT = re.compile(r"\b(?:n_ctx|kv_size)\s*= (\d+)")
_LLAMA_WINDOW = re.compile(r"creating\s+(non-)?SWA KV cache")
_TELLING = (
    _VLLM_BYTES,
    _VLLM_TOKENS,
    _VLLM_REQUESTS,
    _VLLM_NEEDS,
    _SGLANG,
    _LLAMA,
    _LLAMA_SELF,
    _LLAMA_BUFFER,
    _LLAMA_CONTEXT,
    _LLAMA_WINDOW,
)
MEASURED = "measured"  # by no engine
EXPECTED = (
    "lines of vLLM ('Available KV cache memory' and 'GPU KV cache size'), SGLang ('KV Cache is"
    " allocated') or llama.cpp ('llama_kv_cache: size ='), or BYTES @ TOKENS such as"
    " 7.03 GB @ 100,000"
)


@dataclass(frozen=True)
class Measurement:
    """What was read: `bytes` for `tokens` tokens in all, in sequences of `context` tokens.

    `rounding_bytes` is how far the printed number may be from the true one. `states` says whether
    fixed states are in it; `window_rows` what windows were given, `split` the shares of K and V.
    """

    engine: str
    bytes: int
    tokens: int
    context: int
    unit: str
    rounding_bytes: float = 0.0
    states: bool = True
    window_rows: int | None = None
    split: dict[str, int] = field(default_factory=dict)

    @property
    def sequences(self) -> Fraction:
        """Sequences of that context; a pool need not hold a whole number of them."""
        return Fraction(self.tokens, self.context)


@dataclass(frozen=True)
class _Amount:
    bytes: int
    rounding: float

    def __add__(self, other: "_Amount") -> "_Amount":
        return _Amount(self.bytes + other.bytes, self.rounding + other.rounding)


@dataclass(frozen=True)
class _Piece:
    """One of the caches that llama.cpp makes for a run: of all tokens, or of the windows."""

    size: _Amount
    cells: int
    layers: int
    streams: int
    split: dict[str, int]
    windows: bool | None


def read_measurements(text: str) -> tuple[Measurement, ...]:
    """The one or two measurements that a text tells, each once however many ranks print it.

    Raises:
        ValueError: it tells none, half of one, or more than two.
    """
    if len(text) > LONGEST:
        raise ValueError(f"reported: expected at most {LONGEST:,} characters, got {len(text):,}")
    lines = [line for part in text.splitlines() for line in part.split(";")]
    found = [*_plain(lines), *_vllm(lines), *_sglang(lines), *_llama(lines)]
    unique = list({(m.engine, m.bytes, m.tokens): m for m in found}.values())
    if not unique:
        raise ValueError(f"reported: expected {EXPECTED}; got {told(text)}")
    if len(unique) > 2:
        raise ValueError(
            f"reported: expected one or two measurements, got {len(unique)}; leave two of them"
        )
    if len({m.engine for m in unique}) > 1:
        raise ValueError(
            f"reported: expected lines of one engine, got {unique[0].engine} and"
            f" {unique[1].engine}; leave one of them"
        )
    for m in unique:
        if not 1 <= m.context <= MOST_TOKENS or not 1 <= m.tokens <= MOST_TOKENS or m.bytes < 1:
            raise ValueError(
                f"reported: expected bytes and tokens from 1, got {m.bytes:,} bytes for"
                f" {m.tokens:,} tokens; paste the lines of a start that succeeded"
            )
    return tuple(unique)


def essence(text: str) -> str:
    """The lines of a text that tell something: a long log in a few, for a link."""
    lines = [
        line
        for line in text.splitlines()
        if any(_PLAIN.fullmatch(part) for part in line.split(";"))
        or any(pattern.search(line) for pattern in _TELLING)
    ]
    return "\n".join(lines)


def _amount(number: str, unit: str) -> _Amount:
    """A printed number in bytes, with half a unit of its last digit."""
    digits = re.sub("[,_]", "", number)
    base = 1024 if "i" in unit.lower() else 1000
    size = base ** _PREFIXES["" if unit.lower() in ("b", "bytes") else unit[0].lower()]
    decimals = len(digits.partition(".")[2])
    rounding = 0.0 if size == 1 and not decimals else size / 10**decimals / 2 + 0.5
    return _Amount(round(Fraction(digits) * size), rounding)


def _count(number: str) -> int:
    return int(Fraction(re.sub("[,_]", "", number)))


def _plain(lines: list[str]) -> Iterator[Measurement]:
    for line in lines:
        if match := _PLAIN.fullmatch(line):
            number, unit, tokens = match.groups()
            size, n = _amount(number, unit or "B"), _count(tokens)
            yield Measurement(MEASURED, size.bytes, n, n, unit or "B", size.rounding)


def _vllm(lines: list[str]) -> Iterator[Measurement]:
    """Memory of every rank, then tokens and requests: of several ranks the smallest counts."""
    sizes: list[_Amount] = []
    pools: list[tuple[int, int]] = []
    for line in lines:
        if match := _VLLM_NEEDS.search(line):
            n, size = _count(match[1]), _amount(match[2], "GiB")
            yield Measurement("vLLM", size.bytes, n, n, "GiB", size.rounding)
        if match := _VLLM_BYTES.search(line):
            if sizes and pools:
                yield _pool(sizes, pools)
                sizes, pools = [], []
            sizes.append(_amount(match[1], "GiB"))
        tokens, requests = _VLLM_TOKENS.search(line), _VLLM_REQUESTS.search(line)
        if tokens:
            pools.append((_count(tokens[1]), 0))
        if requests:
            context = _count(requests[1])
            times = Fraction(re.sub("[,_]", "", requests[2]))
            known = [total for total, _ in pools if total]
            pools.append((known[-1] if known else int(times * context), context))
    if sizes and pools:
        yield _pool(sizes, pools)
    elif sizes:
        raise ValueError("reported: expected vLLM's 'GPU KV cache size: ... tokens' too; got bytes")
    elif pools:
        raise ValueError("reported: expected vLLM's 'Available KV cache memory' too; got tokens")


def _pool(sizes: list[_Amount], pools: list[tuple[int, int]]) -> Measurement:
    size = min(sizes, key=lambda each: each.bytes)
    tokens = min(total for total, _ in pools)
    context = max(context for _, context in pools) or tokens
    return Measurement("vLLM", size.bytes, tokens, context, "GiB", size.rounding)


def _sglang(lines: list[str]) -> Iterator[Measurement]:
    for line in lines:
        if match := _SGLANG.search(line):
            tokens, *sizes = match.groups()
            parts = [_amount(size, "GiB") for size in sizes if size]
            size = parts[0] if len(parts) == 1 else parts[0] + parts[1]
            split = dict(zip("KV", [p.bytes for p in parts], strict=True)) if sizes[0] else {}
            n = _count(tokens)
            yield Measurement(
                "SGLang", size.bytes, n, n, "GiB", size.rounding, states=False, split=split
            )


def _llama(lines: list[str]) -> Iterator[Measurement]:
    """Its summary of each cache; from versions without one the older summary, or the buffers."""
    pieces = list(_llama_pieces(lines))
    if not pieces:
        yield from _llama_older(lines)
    while pieces:
        own = [pieces.pop(0)]
        if pieces and _one_run(own[0], pieces[0]):
            own.append(pieces.pop(0))
        own.sort(key=lambda piece: (piece.windows is True, -piece.cells))
        size = own[0].size if len(own) == 1 else own[0].size + own[1].size
        split = {k: sum(p.split.get(k, 0) for p in own) for k in own[0].split}
        yield Measurement(
            "llama.cpp",
            size.bytes,
            own[0].cells * own[0].streams,
            own[0].cells,
            "MiB",
            size.rounding,
            False,
            own[1].cells if len(own) == 2 else None,
            split,
        )


def _one_run(first: _Piece, second: _Piece) -> bool:
    """Whether one run made both: one of them for windows, or of other layers."""
    if first.windows is not None and second.windows is not None:
        return first.windows != second.windows
    return first.layers != second.layers


def _llama_pieces(lines: list[str]) -> Iterator[_Piece]:
    windows: bool | None = None
    for line in lines:
        if match := _LLAMA_WINDOW.search(line):
            windows = match[1] is None
        if (match := _LLAMA.search(line)) and "recurrent" not in line:
            size, cells, layers, streams, k, v = match.groups()
            split = {"K": _amount(k, "MiB").bytes, "V": _amount(v, "MiB").bytes} if k else {}
            amount = _amount(size, "MiB")
            if amount.bytes:
                yield _Piece(
                    amount, int(cells), int(layers or 0), int(streams or 1), split, windows
                )


def _llama_older(lines: list[str]) -> Iterator[Measurement]:
    context, whole, buffers = 0, None, _Amount(0, 0.0)
    for line in lines:
        if match := _LLAMA_CONTEXT.search(line):
            if whole is not None and context:
                yield _llama_made(whole, context)
                whole = None
            context = int(match[1])
        if match := _LLAMA_SELF.search(line):
            whole, buffers = _amount(match[1], "MiB"), _Amount(0, 0.0)
        elif match := _LLAMA_BUFFER.search(line):
            buffers += _amount(match[1], "MiB")
    whole = whole or (buffers if buffers.bytes else None)
    if whole is not None:
        if not context:
            raise ValueError("reported: expected llama.cpp's line with 'n_ctx = ' too; got bytes")
        yield _llama_made(whole, context)


def _llama_made(size: _Amount, context: int) -> Measurement:
    made = Measurement("llama.cpp", size.bytes, context, context, "MiB", size.rounding)
    return replace(made, states=False)
