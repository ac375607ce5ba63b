"""The fields of a config.json, each checked as it is read.

Knows the names of fields and their bounds; knows neither layouts nor files.
"""

from dataclasses import dataclass
from typing import Any, NoReturn

from mla_viz.config import check_int, told
from mla_viz.published.layers import CachedModel, Layer

WIDEST, MOST_LAYERS = 1 << 20, 1024


def refuse(field: str, expected: str, got: str) -> NoReturn:
    """Say in one line what stands there instead."""
    raise ValueError(f"config.json{field}: expected {expected}, got {got}")


@dataclass(frozen=True)
class Fields:
    """The fields of one config.json, each checked as it is read; null is as good as missing."""

    record: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """A field as it stands there."""
        value = self.record.get(name)
        return default if value is None else value

    def nested(self, name: str) -> "Fields":
        """The fields of an object among them; of none where it is missing."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            refuse(f" {name}", "an object", told(value))
        return Fields(value)

    def whole(self, *names: str, default: int | None = None, low: int = 1) -> int:
        """A whole number under the first of the names that is there."""
        for name in names:
            if self.get(name) is not None:
                return check_int(f"config.json {name}", self.record[name], low, WIDEST)
        if default is None:
            refuse(f" {names[0]}", "a whole number", "none; add the field")
        return default

    def numbers(self, name: str, count: int) -> list[int]:
        """At least `count` whole numbers from 0, the first `count` of them."""
        values = self.entries(name, count)
        return [check_int(f"config.json {name}", value, 0, WIDEST) for value in values]

    def kinds(self, name: str, count: int) -> list[str]:
        """The first `count` names of a list that holds at least so many."""
        return [
            value if isinstance(value, str) else told(value) for value in self.entries(name, count)
        ]

    def entries(self, name: str, count: int) -> list[Any]:
        """The first `count` entries of a list that holds at least so many."""
        values = self.get(name)
        if not isinstance(values, list) or len(values) < count:
            got = told(values) if not isinstance(values, list) else f"{len(values)} entries"
            refuse(f" {name}", f"a list with an entry for each of {count} layers", got)
        return values[:count]

    @property
    def n_layers(self) -> int:
        """Layers of the decoder, those of multi-token prediction apart."""
        names = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
        return check_int("config.json num_hidden_layers", self.whole(*names), 1, MOST_LAYERS)

    @property
    def n_heads(self) -> int:
        """Query heads."""
        return self.whole("num_attention_heads", "n_head", "n_heads")

    @property
    def d_model(self) -> int:
        """Width of the hidden state."""
        return self.whole("hidden_size", "n_embd", "n_embed", "d_model")

    def n_kv_heads(self, default: int | None = None) -> int:
        """Key/value heads; a class may have a number of its own where the file names none."""
        return self.whole("num_key_value_heads", default=default or self.n_heads)

    def head_dim(self, default: int | None = None) -> int:
        """Width of a head: the file's, the class's own, or the hidden state's share."""
        share = self.d_model // self.n_heads
        return self.whole("head_dim", default=default or max(share, 1))

    def made(self, attention: str, layers: list[Layer], qk: int, v: int) -> CachedModel:
        """The model of these layers."""
        name = self.get("model_type")
        heads, d_model = self.n_heads, self.d_model
        return CachedModel(name, attention, tuple(layers), heads, qk, v, d_model, "config.json")
