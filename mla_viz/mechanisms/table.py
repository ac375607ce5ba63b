"""The table of mechanisms: everything about one that needs no tensor stands in its row.

A mechanism is its row here, its file of the same name in `attention`, and the tests of both. One
colour per mechanism everywhere, legible on light and dark grounds: orange against blue, the pair of
the first view, is safe for every common colour blindness, and every use names its mechanism in
words too. Knows neither tensors nor screens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mla_viz.config import (
    AttentionGeometry,
    GQAGeometry,
    LatentGQAGeometry,
    MLAGeometry,
    ModelGeometry,
    told,
)
from mla_viz.mechanisms import ledger, segments
from mla_viz.mechanisms.ledger import Operation
from mla_viz.mechanisms.segments import Segment


@dataclass(frozen=True)
class Colour:
    """Ink and tinted ground of a mechanism, for a light page and for a dark one."""

    light: str
    light_tint: str
    dark: str
    dark_tint: str

    def ink(self, dark_page: bool) -> str:
        """The ink for such a page."""
        return self.dark if dark_page else self.light


@dataclass(frozen=True)
class Mechanism:
    """One row: what a mechanism is called, what it caches, what it computes, how it is drawn.

    `label` heads a panel, `short` stands in running text; `file` names the module in `attention`;
    `segments` tells the columns of a cached row, `ledger` the products of a step. `kv_heads` says
    how many key/value heads it has beside n query heads: it is None for mechanisms of MLA weights,
    since the others have weights of their own and are another model. `about` says in one line what
    is kept and why, with the field's words explained.
    """

    label: str
    short: str
    about: str
    file: str
    colour: Colour
    segments: Callable[..., list[Segment]]
    ledger: Callable[..., list[Operation]]
    kv_heads: Callable[[int], int] | None = None

    def same_weights(self) -> "Mechanism":
        """The row where the model beside is made of its weights: they are not its alone."""
        label, about = self.label.removesuffix(OWN), self.about.removesuffix(OWN_MODEL)
        return replace(self, label=label, about=about)


OWN, OWN_MODEL = ", own weights", " A model with weights of its own."
KEPT = "Kept are the latent, which all heads share, and the rope key, which alone tells places"


def group_kv_heads(n_heads: int) -> int:
    """Key/value heads of the GQA named beside `n_heads` heads: its smallest divisor above 1.

    8 heads -> 2; a prime number of heads has no true GQA and gives itself (MHA); 1 -> 1.
    """
    return next((g for g in range(2, n_heads + 1) if n_heads % g == 0), 1)


MECHANISMS = {
    "mla_expanded": Mechanism(
        "Naive: keys and values per head",
        "naive",
        "Every head's key and value is made of the latent once, and kept as plain attention does.",
        "mla_expanded",
        Colour("#b44d12", "#fdf3ec", "#f0935a", "#251a14"),
        segments.every_head,
        ledger.expanded,
    ),
    "mla_reexpand": Mechanism(
        "Re-expand: one latent, keys and values rebuilt",
        "re-expand",
        f"{KEPT}: keys and values are rebuilt at each step, then thrown away.",
        "mla_reexpand",
        Colour("#7446b0", "#f5f0fb", "#b99be8", "#1f1830"),
        segments.latent_and_rope,
        ledger.reexpand,
    ),
    "mla_absorbed": Mechanism(
        "Absorbed: one latent for all heads",
        "absorbed",
        f"{KEPT}: W_UK is absorbed by the query, W_UV by the output, nothing is rebuilt.",
        "mla_absorbed",
        Colour("#0b6e8f", "#eaf5f9", "#5ec3e0", "#0f222a"),
        segments.latent_and_rope,
        ledger.absorbed,
    ),
    "mla_merged": Mechanism(
        "Merged: absorbed, weights multiplied ahead",
        "merged",
        f"{KEPT}: as absorbed, with W_UQ·W_UKᵀ and W_UV·W_O multiplied ahead.",
        "mla_merged",
        Colour("#2b7a4b", "#edf7f1", "#6fca94", "#13251a"),
        segments.latent_and_rope,
        ledger.merged,
    ),
    "recompute": Mechanism(
        "Recompute: no cache",
        "recompute",
        "Nothing is kept: keys and values of the whole prefix are made anew at each step.",
        "recompute",
        Colour("#475a78", "#f0f3f8", "#a3b4d0", "#171d28"),
        segments.nothing,
        ledger.recompute,
    ),
    "mha": Mechanism(
        f"MHA: keys and values per head{OWN}",
        "MHA",
        f"Every head's key and value is kept.{OWN_MODEL}",
        "gqa",
        Colour("#b03060", "#fcf0f4", "#ee86a9", "#2a1620"),
        segments.every_kv_head,
        ledger.grouped,
        kv_heads=lambda n_heads: n_heads,
    ),
    "gqa": Mechanism(
        f"GQA: keys and values per group{OWN}",
        "GQA",
        f"Heads share keys and values in groups.{OWN_MODEL}",
        "gqa",
        Colour("#6f6a12", "#f7f6e6", "#c9c25a", "#222112"),
        segments.every_kv_head,
        ledger.grouped,
        kv_heads=group_kv_heads,
    ),
    "gqa_latent": Mechanism(
        "Latent GQA: one latent, rotated after it",
        "latent GQA",
        "Kept is one latent for all heads: keys and values are rebuilt and turned at each step.",
        "gqa_latent",
        Colour("#1b7a78", "#eaf6f5", "#5fcac6", "#102626"),
        segments.latent_alone,
        ledger.latent_grouped,
    ),
    "mqa": Mechanism(
        f"MQA: one key and value{OWN}",
        "MQA",
        f"All heads share one key and one value.{OWN_MODEL}",
        "gqa",
        Colour("#85552b", "#f8f2ec", "#cfa07a", "#241c15"),
        segments.every_kv_head,
        ledger.grouped,
        kv_heads=lambda _: 1,
    ),
}
OWN_WEIGHTS = tuple(name for name, row in MECHANISMS.items() if row.kv_heads)
CUT_MECHANISMS = ("gqa_latent",)  # another model's attention as a latent one
MLA_MECHANISMS = tuple(name for name in MECHANISMS if name not in (*OWN_WEIGHTS, *CUT_MECHANISMS))


def check_mechanism(field: str, name: str) -> str:
    """Return the name of a known mechanism, as given for a field.

    Raises:
        ValueError: no such mechanism; the message lists those there are.
    """
    if not isinstance(name, str) or name not in MECHANISMS:
        raise ValueError(f"{field}: expected one of {', '.join(MECHANISMS)}, got {told(name)}")
    return name


def mechanism_of(attention: AttentionGeometry) -> str:
    """The mechanism that decodes a geometry's weights with the least cache."""
    if isinstance(attention, MLAGeometry):
        return "mla_absorbed"
    if isinstance(attention, LatentGQAGeometry):
        return "gqa_latent"
    return {1: "mqa", attention.n_heads: "mha"}.get(attention.n_kv_heads, "gqa")


def runs_weights_of(attention: AttentionGeometry) -> tuple[str, ...]:
    """Every mechanism that can run weights of this geometry."""
    if isinstance(attention, LatentGQAGeometry):
        return CUT_MECHANISMS
    return OWN_WEIGHTS if isinstance(attention, GQAGeometry) else MLA_MECHANISMS


def model_label(model: ModelGeometry) -> str:
    """What a trained model is called on screen: `GQA-2`, `MLA-32`, `MLA-32, 16 heads`."""
    g = model.attention
    if isinstance(g, GQAGeometry):
        return {1: "MQA", g.n_heads: "MHA"}.get(g.n_kv_heads, f"GQA-{g.n_kv_heads}")
    return f"MLA-{g.kv_lora_rank}" + (f", {g.n_heads} heads" if "wide" in model.name else "")
