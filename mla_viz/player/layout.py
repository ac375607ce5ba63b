"""What a payload says of a run, field by field: written here once, for both ends.

The packer refuses what differs from these types. `python -m mla_viz.player.layout` prints them as
TypeScript, which is kept in src/layout.d.ts and which the player's JavaScript is checked against.
An array is annotated by its dtype (more than one where it may differ) and by its axes; in the
header it stands as offset, dtype and shape.
"""

import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, is_typeddict

import numpy as np

VERSION = 8
Array = np.ndarray
DTYPES = {"f64": np.float64, "f32": np.float32, "i32": np.int32, "u8": np.uint8}


class Token(TypedDict):
    """A token of the run."""

    id: int
    text: str
    pos: int
    source: Literal["prompt", "generated"]


class Differences(TypedDict):
    """Largest difference between the sides after each step, over all layers and heads."""

    scores: Annotated[Array, "f64", "steps"]
    probs: Annotated[Array, "f64", "steps"]
    out: Annotated[Array, "f64", "steps"]
    logits: Annotated[Array, "f64", "steps"]


class Baseline(TypedDict):
    """Plain attention of a side's own heads: what it is, what it counts, bytes of all layers."""

    label: str
    what: str
    counted: str
    bytes_per_token: int


class Colour(TypedDict):
    """Ink and tinted ground of a mechanism, on a light page and on a dark one."""

    light: str
    light_tint: str
    dark: str
    dark_tint: str


class Part(TypedDict):
    """A stretch of a segment's elements."""

    label: str
    elems: int


class Segment(TypedDict):
    """A stretch of a cached row, in the order of its elements; parts where it has more than one."""

    label: str
    elems: int
    parts: list[Part]


class Product(TypedDict):
    """`batch` products of (rows x inner)·(inner x columns); null is the number of tokens so far."""

    batch: int | None
    rows: int | None
    inner: int | None
    columns: int | None


class Operation(TypedDict):
    """A line of the ledger of one layer; `shared` where the other side counts the same."""

    name: str
    phase: Literal["project", "cache", "score", "softmax", "mix", "output"]
    formula: str
    shape: Product
    shared: bool
    flops: Annotated[Array, "f64", "steps"]
    bytes_read: Annotated[Array, "f64", "steps"]
    bytes_written: Annotated[Array, "f64", "steps"]


class Attention(TypedDict):
    """Weights of the kept steps, n_layers x n_heads x (step + 1) each, one step behind another.

    Exact as they are, otherwise in 255ths.
    """

    exact: bool
    steps: Annotated[Array, "i32", "kept"]
    data: Annotated[Array, "f32 u8", "values"]


class Cells(TypedDict):
    """Cached values in bytes: low + (high - low) * byte / 255; row i is token i * every.

    A layer that caches fewer elements than another has nothing behind them.
    """

    every: int
    low_high: Annotated[Array, "f32", "n_layers", "ends"]
    data: Annotated[Array, "u8", "n_layers", "rows", "elems"]


class Dims(TypedDict):
    """Widths of one side's vectors; `latent` is 0 where there is none, `qk` has the RoPE dims.

    `scale` is what a product is multiplied by to be a score.
    `rope` are those that RoPE has turned where a row is cached: 0 where it turns them afterwards.
    """

    d_model: int
    qk: int
    rope: int
    v: int
    latent: int
    kv_heads: int
    scale: float


class Vectors(TypedDict):
    """What attention made on its way at some steps, of `n_layers` layers from `first` on.

    `scores` are rows like those of Attention. `latents` and `heads` are those of every token;
    latents narrower than another layer's have nothing behind them. Where a mechanism has no such
    vector stands null.
    """

    first: int
    n_layers: int
    steps: Annotated[Array, "i32", "kept"]
    x: Annotated[Array, "f32", "kept", "layers", "d_model"]
    q: Annotated[Array, "f32", "kept", "layers", "n_heads", "qk"] | None
    q_latent: Annotated[Array, "f32", "kept", "layers", "n_heads", "both"] | None
    out: Annotated[Array, "f32", "kept", "layers", "d_model"]
    scores: Annotated[Array, "f32", "values"]
    latents: Annotated[Array, "f32", "steps", "layers", "both"] | None
    heads: Annotated[Array, "f32", "layers", "steps", "kv_heads", "k_and_v"] | None
    W_UK: Annotated[Array, "f32", "layers", "n_heads", "latent", "nope"] | None
    W_UV: Annotated[Array, "f32", "layers", "n_heads", "latent", "v"] | None


class Gaps(TypedDict):
    """The largest difference of each vector between the sides, at the kept steps of Attention."""

    x: Annotated[Array, "f32", "kept", "n_layers"]
    latents: Annotated[Array, "f32", "kept", "n_layers"] | None
    q: Annotated[Array, "f32", "kept", "n_layers", "n_heads"] | None
    scores: Annotated[Array, "f32", "kept", "n_layers", "n_heads"]
    probs: Annotated[Array, "f32", "kept", "n_layers", "n_heads"]
    o_head: Annotated[Array, "f32", "kept", "n_layers", "n_heads"] | None
    out: Annotated[Array, "f32", "kept", "n_layers"]


class Candidates(TypedDict):
    """The likeliest next tokens after each step, likeliest first, as `choice_logits` says."""

    text: list[list[str]]
    probs: Annotated[Array, "f32", "steps", "candidates"]


class Kept(TypedDict):
    """The format that a cache is kept in: its name, and what it takes in words."""

    name: str
    about: str


class Layer(TypedDict):
    """What one layer caches of a token, and counts.

    `cache_reads` are the cached elements that the ledger reads, each as often as it does.
    """

    dims: Dims
    cache_elems: int
    row_bytes: int
    cache_reads: int
    segments: list[Segment]
    operations: list[Operation]


class Side(TypedDict):
    """One mechanism's decoding. Bytes are of all layers.

    `working_bytes` alone are of one layer, since the next one needs them no more. `sized` is
    `short` with what tells its cache from that of other heads. `layers` is one for all where they
    are alike. `kept` is null where a cache keeps its elements as they are.
    """

    mechanism: str
    label: str
    short: str
    about: str
    sized: str
    color: Colour
    n_heads: int
    elem_bytes: int
    kept: Kept | None
    layers: list[Layer]
    baselines: list[Baseline]
    cache_bytes: Annotated[Array, "f64", "steps"]
    allocated_bytes: Annotated[Array, "f64", "steps"]
    working_bytes: Annotated[Array, "f64", "steps"]
    time_us: Annotated[Array, "f32", "steps", "n_layers"]
    attention: Attention
    cells: Cells
    vectors: Vectors
    top: Candidates


class Rest(TypedDict):
    """Vectors of a run that did not travel with it: those of one more layer."""

    version: Literal[VERSION]
    run: str
    left: Vectors
    right: Vectors


class Loss(TypedDict):
    """Validation loss of the run's model at its setting and at its full size, in nats per token.

    Losses less than `apart` from one another tell nothing; `stories` and `tokens` were scored.
    """

    here: float
    full: float
    setting: str
    full_setting: str
    apart: float
    stories: int
    tokens: int


class Cut(TypedDict):
    """A pretrained model beside a cut of it: the right side against the left, over `tokens`.

    `kl` is KL(left || right) in nats a token, `agreement` the share of tokens at which both find
    one likeliest; `text` is the left side's, and `whole` whether nothing was left out. `elems` are
    the fewest values that a side caches of a token, a layer on average; `pooled` is whether layers
    differ in it, `decoupled` whether keys differ and not their number.
    """

    kl: float
    agreement: float
    tokens: int
    text: str
    whole: bool
    elems: int
    pooled: bool
    decoupled: bool


class Run(TypedDict):
    """A prompt decoded by two mechanisms.

    `run` names its content, but for what the clock measured, `prompt` its prompt alone.
    """

    version: Literal[VERSION]
    run: str
    prompt: str
    dtype: str
    device: str
    temperature: float
    top_k: int
    same_model: bool
    same_tokens: bool
    n_layers: int
    prompt_len: int
    n_steps: int
    notes: list[str]
    tokens: list[Token]
    differences: Differences | None
    gaps: Gaps | None
    loss: Loss | None
    cut: Cut | None
    left: Side
    right: Side


_PLAIN = {str: "string", bool: "boolean", int: "number", float: "number", NoneType: "null"}
_ARRAYS = {"f64": "Float64Array", "f32": "Float32Array", "i32": "Int32Array", "u8": "Uint8Array"}


def typescript() -> str:
    """These types in TypeScript."""
    head = [
        "// Made by `python -m mla_viz.player.layout`.",
        'import type { NDArray } from "./ndarray.js";',
    ]
    return "\n".join([*head, *(_interface(t) for t in globals().values() if is_typeddict(t))])


def _interface(table: Any) -> str:
    about = " ".join(table.__doc__.split())
    fields = [f"  {name}: {_type(kind)};" for name, kind in table.__annotations__.items()]
    return "\n".join([f"\n/** {about} */", f"export interface {table.__name__} {{", *fields, "}"])


def _type(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        _, dtypes, *axes = get_args(kind)
        data = " | ".join(_ARRAYS[dtype] for dtype in dtypes.split())
        return f"NDArray<{data}, [{', '.join(f'{axis}: number' for axis in axes)}]>"
    if get_origin(kind) is list:
        return f"{_type(get_args(kind)[0])}[]"
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(map(_type, get_args(kind)))
    if get_origin(kind) is Literal:
        return " | ".join(f'"{x}"' if isinstance(x, str) else str(x) for x in get_args(kind))
    return _PLAIN.get(kind, kind.__name__)


if __name__ == "__main__":
    sys.stdout.write(typescript() + "\n")
