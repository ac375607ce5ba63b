"""Where weights come from: each source is one record, and all have one interface.

A source says what it is called, which dials it follows, which mechanisms run its weights, how text
becomes tokens for it, and makes the weights of a geometry. Knows no run and no screen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache, partial
from importlib import import_module
from pathlib import Path

from mla_viz.config import (
    EACH,
    POOLED,
    GQAGeometry,
    MLAGeometry,
    ModelGeometry,
    check_int,
    told,
)
from mla_viz.mechanisms.table import (
    CUT_MECHANISMS,
    MECHANISMS,
    MLA_MECHANISMS,
    OWN_WEIGHTS,
    group_kv_heads,
    mechanism_of,
    model_label,
)
from mla_viz.model.decoder import ModelWeights
from mla_viz.model.decoupled import components, decoupled_geometry, to_decoupled
from mla_viz.model.latent import bases, latent_geometry, pooled_ranks, to_latent
from mla_viz.model.llama import load_llama
from mla_viz.model.tokenizer import ByteTokenizer, ChatTokenizer, stories_tokenizer
from mla_viz.model.weights import load_cut, load_weights, random_weights, read_geometry
from mla_viz.pretrained.fetch import fetched, is_fetched
from mla_viz.pretrained.files import open_checkpoint
from mla_viz.pretrained.pins import PRETRAINED
from mla_viz.shipped import belongs, intact, member_weights, shipped

TRAINED, SYNTHETIC = "trained", "synthetic"
MEMBERS = ("mha", "gqa-2", "mqa", "mla-8", "mla-16", "mla-32", "mla-64", "mla-32-wide")
OF_ITS_OWN = {"mha": "mha", "gqa": "gqa-2", "mqa": "mqa"}
SYNTHETIC_CONTEXT = 8192
SYNTHETIC_D_MODEL = 128
LEAST_LATENT = 4  # the narrowest latent that the sliders' model was trained at
START_LATENT = 32
TEMPERATURE = 0.7
MLA_SIDES = {"left": "mla_expanded", "right": "mla_absorbed"}
DECOUPLED = "-decoupled"  # behind the name of the pretrained model
_FOLDERS = "mla_viz.checkpoints.whole"  # above this room: asked for with a folder alone
IN_GEOMETRY = {"heads": "n_heads", "latent": "kv_lora_rank", "layers": "n_layers"}


@dataclass(frozen=True)
class Shape:
    """What may be asked of a source, in counts; None leaves a field to it.

    `ranks` says whether all layers' latents have one rank or, at equal bytes, each its own.
    """

    heads: int | None = None
    latent: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    q_lora_rank: int | None = None
    layers: int | None = None
    ranks: str = EACH


@dataclass(frozen=True)
class Dial:
    """A field of Shape that a source follows: `low` to `high`, begun at `start`.

    A slider goes in steps of `step` and over `slider` alone, where that is given. A start below
    `low` stands for nothing at all: no query latent.
    """

    low: int
    high: int
    start: int
    step: int = 1
    slider: tuple[int, int] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """Where a slider begins and ends."""
        return self.slider or (self.low, self.high)


@dataclass(frozen=True)
class Source:
    """One source of weights.

    `geometry(shape, mechanism)` is the model that a mechanism runs, `load(geometry, seed)` its
    weights in float32; `mechanisms` are those that can run them, `start` is what heads, latent,
    the two sides and, not always, the temperature are where nothing is asked. `alone`: its tokens
    are its own, and no other model's can stand beside them. `whole`: the largest shape, where dials
    bound one another. `ranks`: how latents can be cut over layers.
    """

    name: str
    label: str
    mechanisms: tuple[str, ...]
    start: Mapping[str, int | float | str | None]
    dials: Mapping[str, Dial]
    geometry: Callable[[Shape, str], ModelGeometry]
    load: Callable[[ModelGeometry, int], ModelWeights]
    tokenizer: Callable[[], ByteTokenizer]
    alone: bool = False
    whole: Shape | None = None
    ranks: tuple[str, ...] = (EACH,)

    def largest(self) -> Shape:
        """The shape of all that was trained."""
        return self.whole or Shape(**{name: dial.high for name, dial in self.dials.items()})


def source_names() -> tuple[str, ...]:
    """Every source that is there: the sliders' model, the family's, those fetched, random."""
    taken = [name for name, model in PRETRAINED.items() if is_fetched(model)]
    both = [name + form for name in taken for form in ("", DECOUPLED)]
    return TRAINED, *filter(is_shipped, MEMBERS), *both, SYNTHETIC


def pretrained_of(name: str) -> str | None:
    """The pretrained model that a source runs, as it is or decoupled; None for other sources."""
    model = name.removesuffix(DECOUPLED)
    return model if model in PRETRAINED else None


def is_shipped(member: str) -> bool:
    """Whether the weights of a member of the family came with the package."""
    return belongs(member_weights(member))


@cache
def find_source(name: str) -> Source:
    """The source of that name, or the model in the folder of that name.

    Raises:
        ValueError: there is none, its file is missing or not fetched, or the folder is none that
            is read.
    """
    if name in PRETRAINED:
        return _pretrained(name)
    if model := pretrained_of(name):
        return _decoupled(name, find_source(model))
    if name not in source_names():
        if _is_folder(name):
            return import_module(_FOLDERS).folder_source(name)
        raise ValueError(f"source: expected one of {', '.join(source_names())}, got {told(name)}")
    return {TRAINED: _trained, SYNTHETIC: _synthetic}.get(name, partial(_member, name))()


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except ValueError:  # a name that no path can have
        return False


def source_label(name: str) -> str:
    """What a source is called on screen; a pretrained one's files stay closed."""
    if model := pretrained_of(name):
        return f"{'Pretrained' if model == name else 'As MLA'}: {PRETRAINED[model].label}"
    return find_source(name).label


def source_of(name: str, mechanism: str, field: str) -> Source:
    """The source whose weights a mechanism runs where source `name` is asked for.

    A mechanism with weights of its own takes those of the family's member beside MLA weights.

    Raises:
        ValueError: there are no such weights; the message begins with `field`.
    """
    source = find_source(name)
    if mechanism in source.mechanisms:
        return source
    if source.alone:
        raise ValueError(
            f"{field}: expected {', '.join(source.mechanisms)} with source {name},"
            f" whose tokens are its own, got {mechanism!r}"
        )
    if name not in source_names():
        legal = ", ".join(source.mechanisms)
        raise ValueError(f"{field}: expected one of {legal} for a folder, got {mechanism!r}")
    if mechanism not in OWN_WEIGHTS:
        raise ValueError(
            f"{field}: expected {', '.join(OWN_WEIGHTS)} with source {name},"
            f" which has no MLA weights, got {mechanism!r}"
        )
    if not is_shipped(OF_ITS_OWN[mechanism]):
        raise ValueError(
            f"{field}: expected a mechanism whose trained weights are there,"
            f" got {mechanism!r} (random ones: source {SYNTHETIC})"
        )
    return find_source(OF_ITS_OWN[mechanism])


def offered_mechanisms(source: Source) -> list[str]:
    """What may stand left or right: what runs these weights, and models with weights of their own.

    Weights that are no MLA have only other models of their kind beside them.
    """
    if source.alone or source.name not in source_names():  # one of a folder
        return list(source.mechanisms)
    beside = [name for name in OWN_WEIGHTS if is_shipped(OF_ITS_OWN[name])]
    mla = [name for name in source.mechanisms if name in MLA_MECHANISMS]
    own = OWN_WEIGHTS if set(OWN_WEIGHTS) <= set(source.mechanisms) else beside
    return [*mla, *own]


def follows(source: Source, mechanism: str, field: str) -> bool:
    """Whether the model that a mechanism runs beside this source changes with one of its dials."""
    of_any_attention = field in ("heads", "v_head_dim", "layers")
    latent = (*MLA_MECHANISMS, *CUT_MECHANISMS)
    return mechanism in source.mechanisms and (of_any_attention or mechanism in latent)


def _trained() -> Source:
    """The model that follows the sliders: it works at every number of heads and latent dims."""
    file = intact(shipped("stories.safetensors"))
    full = read_geometry(file)
    heads, rank = full.attention.n_heads, full.attention.kv_lora_rank
    dials = {
        "heads": Dial(1, heads, heads),
        "latent": Dial(LEAST_LATENT, rank, START_LATENT),
    }

    def geometry(shape: Shape, _: str) -> ModelGeometry:
        cut = full.with_attention(
            n_heads=_within(dials, "heads", shape), kv_lora_rank=_within(dials, "latent", shape)
        )
        return as_asked(shape, cut)

    def load(geometry: ModelGeometry, _: int) -> ModelWeights:
        return load_cut(file, geometry.attention.n_heads, geometry.attention.kv_lora_rank)

    label, start = "Trained on short stories", _starts(dials)
    return Source(TRAINED, label, MLA_MECHANISMS, start, dials, geometry, load, stories_tokenizer)


def _member(name: str) -> Source:
    """A member of the family of one budget: it has one size."""
    file = intact(member_weights(name))
    full = read_geometry(file)
    g = full.attention
    own = None if isinstance(g, MLAGeometry) else mechanism_of(g)
    sides = {"left": own, "right": own} if own else MLA_SIDES
    return Source(
        name=name,
        label=f"Family of one budget: {model_label(full)}",
        mechanisms=(own,) if own else MLA_MECHANISMS,
        start={"heads": g.n_heads, "latent": getattr(g, "kv_lora_rank", None), **sides},
        dials={},
        geometry=lambda shape, _: as_asked(shape, full),
        load=lambda *_: load_weights(file),
        tokenizer=stories_tokenizer,
    )


def _pretrained(name: str) -> Source:
    """A model of others that was fetched: as its file has it, and its attention cut to a latent."""
    model = PRETRAINED[name]
    folder, files = fetched(model)
    checkpoint = open_checkpoint(folder, [file.name for file in files])
    full = checkpoint.geometry
    g, tokenizer = full.attention, ChatTokenizer(checkpoint.tokenizer())
    own, cut = mechanism_of(g), CUT_MECHANISMS[0]
    both = 2 * g.n_kv_heads * g.head_dim
    dials = {"latent": Dial(1, both, both * 2 // 3, slider=(both // 6, both))}
    original = cache(lambda: load_llama(checkpoint))

    def geometry(shape: Shape, mechanism: str) -> ModelGeometry:
        as_asked(replace(shape, latent=None), full)
        if mechanism == own:
            return full
        rank = _within(dials, "latent", shape)
        ranks = None if shape.ranks == EACH else pooled_ranks(name, full.n_layers, both, rank)
        return replace(full, attention=latent_geometry(g, rank), ranks=ranks)

    def load(geometry: ModelGeometry, _: int) -> ModelWeights:
        if geometry == full:
            return original()
        return to_latent(original(), bases(name, full.n_layers, both), geometry)

    return Source(
        name=name,
        label=source_label(name),
        mechanisms=(own, cut),
        start={
            "heads": g.n_heads,
            "latent": dials["latent"].start,
            "left": own,
            "right": cut,
            "temperature": 0.0,  # what two texts differ by is then the cut alone
        },
        dials=dials,
        geometry=geometry,
        load=load,
        tokenizer=lambda: tokenizer,
        alone=True,
        ranks=(EACH, POOLED),
    )


def _decoupled(name: str, plain: Source) -> Source:
    """A pretrained model's attention as MLA: some of its keys turned, apart from the latent."""
    own = plain.mechanisms[0]
    full = plain.geometry(Shape(), own)
    g = full.attention
    keys = g.n_kv_heads * g.head_dim
    dials = {
        "latent": Dial(1, 2 * keys, keys, slider=(keys // 6, 2 * keys - g.head_dim)),
        "qk_rope_head_dim": Dial(0, keys, g.head_dim, step=2),
    }

    def geometry(shape: Shape, mechanism: str) -> ModelGeometry:
        as_asked(replace(shape, latent=None, qk_rope_head_dim=None), full)
        if mechanism == own:
            return full
        rope = _within(dials, "qk_rope_head_dim", shape)
        rank = check_int("latent", _within(dials, "latent", shape), 1, 2 * keys - rope)
        return replace(full, attention=decoupled_geometry(g, rank, rope))

    @lru_cache(maxsize=1)
    def load(geometry: ModelGeometry, seed: int) -> ModelWeights:
        original = plain.load(full, seed)
        if geometry == full:
            return original
        return to_decoupled(original, components(plain.name, full.n_layers, g), geometry.attention)

    return Source(
        name=name,
        label=source_label(name),
        mechanisms=(*MLA_MECHANISMS, own),
        start={**plain.start, "latent": keys, **MLA_SIDES},
        dials=dials,
        geometry=geometry,
        load=load,
        tokenizer=plain.tokenizer,
        alone=True,
        whole=Shape(latent=keys, qk_rope_head_dim=keys),
    )


def _synthetic() -> Source:
    """Seeded random weights of any geometry; the tokens they choose mean nothing."""
    dials = {
        "heads": Dial(1, 1024, 8, slider=(1, 32)),
        "latent": Dial(1, 65536, START_LATENT, slider=(1, 512)),
        "qk_nope_head_dim": Dial(1, 4096, 32, slider=(1, 128)),
        "qk_rope_head_dim": Dial(0, 4096, 16, step=2, slider=(0, 64)),
        "v_head_dim": Dial(1, 4096, 32, step=2, slider=(2, 128)),
        "q_lora_rank": Dial(1, 65536, 0, slider=(0, 512)),
        "layers": Dial(1, 256, 5, slider=(1, 12)),
    }
    tokenizer = stories_tokenizer

    def geometry(shape: Shape, mechanism: str) -> ModelGeometry:
        value = partial(_within, dials, shape=shape)
        heads, v_head_dim = value("heads"), value("v_head_dim")
        if mechanism in CUT_MECHANISMS:
            plain = GQAGeometry(SYNTHETIC_D_MODEL, heads, group_kv_heads(heads), v_head_dim)
            attention = latent_geometry(plain, value("latent"))
        elif kv_heads := MECHANISMS[mechanism].kv_heads:
            attention = GQAGeometry(SYNTHETIC_D_MODEL, heads, kv_heads(heads), v_head_dim)
        else:
            attention = MLAGeometry(
                SYNTHETIC_D_MODEL,
                heads,
                value("qk_nope_head_dim"),
                value("qk_rope_head_dim"),
                v_head_dim,
                value("latent"),
                value("q_lora_rank") or None,
            )
        layers = value("layers")
        return ModelGeometry(SYNTHETIC, attention, layers, 256, tokenizer().size, SYNTHETIC_CONTEXT)

    label, every, start = "Random, any geometry", tuple(MECHANISMS), _starts(dials)
    return Source(SYNTHETIC, label, every, start, dials, geometry, random_weights, tokenizer)


def _starts(dials: Mapping[str, Dial]) -> dict[str, int | str | None]:
    return {name: dials[name].start for name in ("heads", "latent")} | MLA_SIDES


def _within(dials: Mapping[str, Dial], field: str, shape: Shape) -> int:
    """What is asked of a field, or where its dial starts; checked against the dial."""
    asked, dial = getattr(shape, field), dials[field]
    return dial.start if asked is None else check_int(field, asked, dial.low, dial.high)


def as_asked(shape: Shape, geometry: ModelGeometry) -> ModelGeometry:
    """The trained geometry, if no other is asked for.

    Raises:
        ValueError: another is; the message names the field and what it must be.
    """
    own = geometry.describe()
    for field in fields(Shape):
        name = IN_GEOMETRY.get(field.name, field.name)
        value = getattr(shape, field.name)
        if field.name != "ranks" and value not in (None, own.get(name)):
            there = "none" if own.get(name) is None else own[name]
            raise ValueError(
                f"{name}: expected {there} for the trained model, got {told(value)}"
                f" (free with source {SYNTHETIC})"
            )
    return geometry
