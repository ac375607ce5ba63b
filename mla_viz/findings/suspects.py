"""What makes a cache another size than it should be, each as a change to the list of what is kept.

Knows closed forms alone; what was measured, and which change fits it, is `audit`'s.

Worked: DeepSeek-V3's 61 latents of 512 + 64 grow by 70,272 bytes a token in bfloat16. Where keys
and values of all 128 heads are kept instead, 61 x 128 x (192 + 128) x 2 = 4,997,120.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial

from mla_viz.published.layers import (
    CACHE_DTYPES,
    INDEXER_KEY,
    KEYS,
    LATENT,
    ROPE_KEY,
    STATE,
    VALUES,
    CachedModel,
    Kept,
    Layer,
)

RANKS = (2, 4, 8, 16)  # tried where nothing is said of ranks
PAGES = (16, 32, 64, 128, 256, 512, 1024)
UNITS = {"kb": 1, "mb": 2, "gb": 3, "tb": 4}  # powers of 1,000, or of 1,024 by mistake


@dataclass(frozen=True)
class Bill:
    """A cache that may be: what each layer keeps, in which dtype and pages, on how many ranks.

    `times` of it are counted: several ranks' copies, or a share.
    """

    layers: tuple[Layer, ...]
    dtype: str
    page: int = 1
    ranks: int = 1
    times: Fraction = Fraction(1)

    @cached_property
    def counted(self) -> Counter[Kept]:
        """Equal parts of all layers, counted."""
        return Counter(part for layer in self.layers for part in layer)

    def bytes(self, context: int, grows: bool | None = None) -> Fraction:
        """Bytes of one sequence; only of what grows, or of what does not, where asked."""
        return self.times * sum(
            count * part.rows(context, self.page) * part.row_bytes(self.dtype, self.ranks)
            for part, count in self.counted.items()
            if grows is None or part.grows == grows
        )

    @property
    def bytes_per_token(self) -> Fraction:
        """Bytes that a further token adds, beyond every window."""
        return self.times * sum(
            (
                Fraction(count * part.row_bytes(self.dtype, self.ranks), part.every)
                for part, count in self.counted.items()
                if part.grows
            ),
            Fraction(0),
        )

    def arithmetic(self) -> str:
        """`61 layers x 49,152 bytes of keys (128 x 192) + ...`: what a further token adds."""
        terms = []
        for part, count in self.counted.items():
            if part.grows:
                vectors = -(-part.vectors // self.ranks)
                every = f" / {part.every}" if part.every > 1 else ""
                terms.append(
                    f"{count} x {part.row_bytes(self.dtype, self.ranks):,} bytes of {part.part}"
                    f" ({vectors:,} x {part.width:,}){every}"
                )
        told = " + ".join(terms) or "nothing"
        return told if self.times == 1 else f"{_number(self.times)} x ({told})"


def _number(x: Fraction) -> str:
    return f"{x.numerator:,}" if x.denominator == 1 else f"{float(x):.4g}"


@dataclass(frozen=True)
class Suspect:
    """A change with its name and sentence; two of one axis exclude each other, but for `kept`."""

    name: str
    sentence: str
    axis: str
    change: Callable[[Bill], Bill]


def suspects(
    model: CachedModel,
    bill: Bill,
    states: bool = True,
    window_rows: int | None = None,
    unit: str = "B",
) -> Iterator[Suspect]:
    """What may be the matter with this model's cache, the likelier first.

    `states` says whether the bill has the model's fixed states, `window_rows` what an engine gave
    its windows, `unit` in what it counted.
    """
    yield from _kept_otherwise(model, window_rows)
    yield from _states(model, states)
    yield from _dtypes(bill)
    yield from _ranks(bill)
    if power := UNITS.get(unit.lower()):
        yield Suspect(
            f"{unit} that means {unit[0]}iB",
            f"the {unit} was counted in units of 1,024, as SGLang does",
            "unit",
            partial(_more, times=Fraction(1000, 1024) ** power),
        )
    for page in PAGES:
        if page > bill.page:
            words = f"tokens are rounded up to whole pages of {page}"
            yield Suspect(f"pages of {page}", words, "page", partial(replace, page=page))


def _kept_otherwise(model: CachedModel, window_rows: int | None) -> Iterator[Suspect]:
    """Another list of what is kept."""
    n, qk, v, d = model.n_heads, model.qk_head_dim, model.v_head_dim, model.d_model
    if any(part.part == LATENT for part in model.kept):
        yield Suspect(
            "expanded K and V",
            f"keys and values of all {n} heads are kept instead of the latent and its rope key",
            "kept",
            partial(_expanded, n=n, qk=qk, v=v),
        )
        yield Suspect(
            "V copied beside the latent",
            "the latent is kept a second time as V, as llama.cpp did until January 2026",
            "kept",
            partial(_each, change=lambda part: (part,) * (2 if part.part == LATENT else 1)),
        )
        wide = 1 << (max(qk, v) - 1).bit_length()
        if (qk, v) != (wide, wide):
            yield Suspect(
                f"expanded K and V, padded to {wide}",
                f"keys and values of all {n} heads are kept, each padded to {wide} values",
                "kept",
                partial(_expanded, n=n, qk=wide, v=wide),
            )
    indexer = next((part for part in model.kept if part.part == INDEXER_KEY), None)
    if indexer is not None:
        yield Suspect(
            "indexer on every layer",
            "every layer that grows keeps an indexer's key, not only those that have one",
            "kept",
            partial(_indexed, key=indexer),
        )
        yield _without(INDEXER_KEY, "indexer's keys left out", "the indexer's keys are not in it")
    if any(part.window for part in model.kept):
        yield Suspect(
            "windows kept whole",
            "layers with a window keep every token, as in vLLM with its hybrid cache manager off",
            "kept",
            partial(_each, change=lambda part: (replace(part, window=None),)),
        )
        if window_rows:
            yield Suspect(
                f"windows of {window_rows:,} rows",
                f"windows were given {window_rows:,} rows, room for a batch beside them",
                "kept",
                partial(_each, change=partial(_windowed, rows=window_rows)),
            )
    yield Suspect(
        "K and V for every query head",
        f"keys and values are repeated for all {n} query heads",
        "kept",
        partial(_each, change=partial(_repeated, n=n)),
    )
    if d % n == 0:
        yield Suspect(
            "head_dim guessed",
            f"head_dim is taken for hidden size over heads, {d:,} / {n} = {d // n}",
            "kept",
            partial(_each, change=partial(_guessed, width=d // n)),
        )
    yield Suspect(
        "billed as plain MHA",
        f"every layer is billed as plain attention, 2 x hidden size {d:,}",
        "kept",
        partial(_plain_attention, d=d),
    )
    if any(part.part == LATENT for part in model.kept):
        yield Suspect(
            "a layer of multi-token prediction",
            "a layer of multi-token prediction keeps as much as the last layer",
            "kept",
            _one_more,
        )


def _each(bill: Bill, change: Callable[[Kept], Iterable[Kept]]) -> Bill:
    layers = (tuple(new for part in layer for new in change(part)) for layer in bill.layers)
    return replace(bill, layers=tuple(layers))


def _more(bill: Bill, times: Fraction) -> Bill:
    return replace(bill, times=bill.times * times)


def _expanded(bill: Bill, n: int, qk: int, v: int) -> Bill:
    def change(part: Kept) -> Iterable[Kept]:
        if part.part == LATENT:
            yield replace(part, part=KEYS, width=qk, vectors=n)
            yield replace(part, part=VALUES, width=v, vectors=n)
        elif part.part != ROPE_KEY:
            yield part

    return _each(bill, change)


def _windowed(part: Kept, rows: int) -> Layer:
    return (part if part.window is None else replace(part, window=rows),)


def _repeated(part: Kept, n: int) -> Layer:
    return (replace(part, vectors=max(n, part.vectors)) if part.part in (KEYS, VALUES) else part,)


def _guessed(part: Kept, width: int) -> Layer:
    return (replace(part, width=width) if part.part in (KEYS, VALUES) else part,)


def _plain_attention(bill: Bill, d: int) -> Bill:
    return replace(bill, layers=((Kept(KEYS, d), Kept(VALUES, d)),) * len(bill.layers))


def _indexed(bill: Bill, key: Kept) -> Bill:
    def indexed(layer: Layer) -> Layer:
        wants = any(part.grows for part in layer) and key not in layer
        return (*layer, key) if wants else layer

    return replace(bill, layers=tuple(map(indexed, bill.layers)))


def _one_more(bill: Bill) -> Bill:
    growing = [layer for layer in bill.layers if any(part.grows for part in layer)]
    return replace(bill, layers=(*bill.layers, *growing[-1:]))


def _without(part: str, name: str, sentence: str) -> Suspect:
    change = partial(_each, change=lambda kept: () if kept.part == part else (kept,))
    return Suspect(name, sentence, "kept", change)


def _states(model: CachedModel, states: bool) -> Iterator[Suspect]:
    own = tuple(part for part in model.kept if part.part == STATE)
    if own and states:
        yield _without(STATE, "fixed states left out", "the fixed states are not in it")
    elif own:
        yield Suspect(
            "fixed states folded in",
            "the fixed states of a sequence are counted with its tokens",
            "kept",
            lambda bill: replace(bill, layers=(*bill.layers, own)),
        )


def _dtypes(bill: Bill) -> Iterator[Suspect]:
    short = {"bfloat16", "float16"}
    for dtype in CACHE_DTYPES:
        if dtype == "float16" or dtype == bill.dtype or {dtype, bill.dtype} <= short:
            continue
        name = "16 bits" if dtype in short else dtype
        yield Suspect(
            f"{name} instead of {bill.dtype}",
            f"values are kept in {name}, not in {bill.dtype}",
            "dtype",
            partial(replace, dtype=dtype),
        )


def _ranks(bill: Bill) -> Iterator[Suspect]:
    """How ranks are counted; without a number of ranks those that are common are tried."""
    for n in RANKS if bill.ranks == 1 else (bill.ranks,):
        yield Suspect(
            f"copies of {n} ranks counted together",
            f"what {n} ranks keep is added up, copies included",
            "ranks",
            lambda b, n=n: replace(b, ranks=n, times=b.times * n),
        )
    if bill.ranks == 1:
        for n in RANKS:
            words = f"it is the share of one of {n} ranks of tensor parallelism"
            yield Suspect(f"one rank of {n}", words, "ranks", partial(replace, ranks=n))
        return
    yield Suspect(
        "not divided among ranks",
        "each rank keeps all heads instead of its share",
        "ranks",
        partial(replace, ranks=1),
    )
    yield Suspect(
        "tokens dealt out to the ranks",
        f"each of {bill.ranks} ranks keeps a share of the tokens (context parallelism)",
        "ranks",
        lambda b: replace(b, ranks=1, times=b.times / bill.ranks),
    )
