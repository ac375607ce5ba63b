"""Published models and figures, each with its source. Knows neither arrays nor screens."""

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from mla_viz.config import AttentionGeometry, GQAGeometry, MLAGeometry
from mla_viz.published.config_json import read_config
from mla_viz.published.layers import CachedModel, elems_per_token
from mla_viz.shipped import intact, shipped


@dataclass(frozen=True)
class Ablation:
    """One published model of a comparison of attentions, everything else alike.

    `cache_elems` are elements a token in all layers, None where the source prints none; `scores`
    are benchmark accuracies in percent.
    """

    comparison: str
    attention: str
    cache_elems: int | None
    scores: dict[str, float]
    source: str


V2_PAPER = "DeepSeek-V2 paper (arXiv 2405.04434)"
_TABLE_8, _TABLE_9 = f"{V2_PAPER}, Table 8", f"{V2_PAPER}, Table 9"


def _row(
    comparison: str, attention: str, cache_elems: int | None, source: str, *scores: float
) -> Ablation:
    names = ("BBH", "MMLU", "C-Eval", "CMMLU")
    return Ablation(
        comparison, attention, cache_elems, dict(zip(names, scores, strict=True)), source
    )


_DENSE, _SMALL, _LARGE = "7B dense, 1.33T tokens", "small MoE", "large MoE"
ABLATIONS = (
    _row(_DENSE, "MQA", None, _TABLE_8, 33.2, 37.9, 30.0, 34.6),
    _row(_DENSE, "GQA-8", None, _TABLE_8, 35.6, 41.2, 37.7, 38.4),
    _row(_DENSE, "MHA", None, _TABLE_8, 37.0, 45.2, 42.9, 43.5),
    _row(_SMALL, "MHA", 110_600, _TABLE_9, 37.9, 48.7, 51.6, 52.3),
    _row(_SMALL, "MLA", 15_600, _TABLE_9, 39.0, 50.0, 50.9, 53.4),
    _row(_LARGE, "MHA", 860_200, _TABLE_9, 46.6, 57.5, 57.9, 60.7),
    _row(_LARGE, "MLA", 34_600, _TABLE_9, 50.7, 59.0, 59.2, 62.5),
)


@dataclass(frozen=True)
class PublishedModel:
    """A row of the table: a model's fields, as config.json spells them, and what is read from them.

    Claims are judged by the geometry of those that are `judged`.
    """

    cached: CachedModel
    config: dict[str, Any]
    judged: bool

    @property
    def source(self) -> str:
        """Where its numbers are printed."""
        return self.cached.source

    @property
    def n_layers(self) -> int:
        """Layers of the decoder."""
        return len(self.cached.layers)

    @property
    def attention(self) -> AttentionGeometry:
        """One layer's attention, where all its layers have MHA, GQA, MQA or MLA."""
        field, model = self.config.get, self.cached
        if "kv_lora_rank" not in self.config:
            heads = (model.n_heads, field("num_key_value_heads"))
            return GQAGeometry(model.d_model, *heads, model.qk_head_dim)
        names = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
        rank = field("q_lora_rank") or None
        widths = {name: field(name) for name in names}
        return MLAGeometry(model.d_model, model.n_heads, **widths, q_lora_rank=rank)

    @property
    def cache_elems(self) -> int:
        """Elements that its cache holds for a token, all layers together."""
        return int(elems_per_token(self.cached.kept))


LLAMA_3_1_WINDOWED_LAYERS = 0  # config.json of meta-llama/Meta-Llama-3.1-8B names no window
V2_THROUGHPUT_RATIO = 5.76  # V2 paper, abstract and Figure 1b: maximum generation throughput


@cache
def published_models() -> dict[str, PublishedModel]:
    """The rows of data/models.toml by name, each read as a config.json is."""
    rows = tomllib.loads(intact(shipped("models.toml")).read_text(encoding="utf-8"))["model"]
    return {row["name"]: _published(row) for row in rows}


def _published(row: dict[str, Any]) -> PublishedModel:
    """What a row says beside its fields stands over what is read from them."""
    said = {name: row[name] for name in ("compared_with", "params", "active_params") if name in row}
    source = row["source"]
    if "params" in row:
        source = f"{source}; weights as published: {row['params_source']}"
    label = row.get("label", row["name"])
    model = replace(read_config(row["config"]), label=label, source=source, **said)
    return PublishedModel(model, row["config"], row.get("judged", False))


def judged_models() -> dict[str, PublishedModel]:
    """Those whose geometry claims are judged by."""
    return {name: model for name, model in published_models().items() if model.judged}


def judged(name: str) -> PublishedModel:
    """One of them by its name."""
    return judged_models()[name]


def model_names() -> list[str]:
    """Every model whose cache is known by its name."""
    return list(published_models())


def cached_model(name: str) -> CachedModel:
    """A published model as the list of what its layers keep; see `model_names`."""
    return published_models()[name].cached
