"""One colour per mechanism, everywhere the same, legible on light and dark grounds.

Orange against blue, the pair of the first view, is safe for every common colour blindness; every
use names its mechanism in words too.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """Ink and tinted ground of a mechanism, for a light page and for a dark one."""

    light: str
    light_tint: str
    dark: str
    dark_tint: str


_ORANGE = Colour("#b44d12", "#fdf3ec", "#f0935a", "#251a14")
_BLUE = Colour("#0b6e8f", "#eaf5f9", "#5ec3e0", "#0f222a")
_VIOLET = Colour("#7446b0", "#f5f0fb", "#b99be8", "#1f1830")
_GREEN = Colour("#2b7a4b", "#edf7f1", "#6fca94", "#13251a")
_RED = Colour("#b03060", "#fcf0f4", "#ee86a9", "#2a1620")
_OLIVE = Colour("#6f6a12", "#f7f6e6", "#c9c25a", "#222112")
_SLATE = Colour("#475a78", "#f0f3f8", "#a3b4d0", "#171d28")
_BROWN = Colour("#85552b", "#f8f2ec", "#cfa07a", "#241c15")

COLOURS = {
    "mla_expanded": _ORANGE,
    "mla_absorbed": _BLUE,
    "mla_reexpand": _VIOLET,
    "mla_merged": _GREEN,
    "recompute": _SLATE,
    "mha": _RED,
    "gqa": _OLIVE,
    "mqa": _BROWN,
}
