"""Published models and figures, each with its source. Knows neither arrays nor screens."""

import tomllib
from dataclasses import dataclass, replace
from functools import cache

from mla_viz.config import AttentionGeometry, GQAGeometry, MLAGeometry
from mla_viz.cost import cache_elems
from mla_viz.mechanisms.table import mechanism_of
from mla_viz.published.config_json import read_config
from mla_viz.published.layers import CachedModel, grouped_label, mechanism_layer
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
    """A published model's layers and one layer's attention."""

    label: str
    n_layers: int
    attention: AttentionGeometry
    source: str
    compared_with: str | None = None

    @property
    def cache_elems(self) -> int:
        """Elements that its cache holds for a token, all layers together."""
        return self.n_layers * cache_elems(mechanism_of(self.attention), self.attention)


CONFIGS = "deepseek-ai/DeepSeek-V3, inference/configs"
_HEADS = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 512}
MODELS = {
    "DeepSeek-V3": PublishedModel(
        "DeepSeek-V3",
        61,
        MLAGeometry(7168, 128, q_lora_rank=1536, **_HEADS),
        f"{CONFIGS}/config_671B.json",
    ),
    "DeepSeek-V2": PublishedModel(
        "DeepSeek-V2",
        60,
        MLAGeometry(5120, 128, q_lora_rank=1536, **_HEADS),
        f"{CONFIGS}/config_236B.json",
        compared_with="DeepSeek-67B",
    ),
    "DeepSeek-V2-Lite": PublishedModel(
        "DeepSeek-V2-Lite", 27, MLAGeometry(2048, 16, **_HEADS), f"{CONFIGS}/config_16B.json"
    ),
    "DeepSeek-67B": PublishedModel(
        "DeepSeek-67B",
        95,
        GQAGeometry(8192, 64, 8, 128),
        "DeepSeek LLM paper (arXiv 2401.02954), Table 2",
    ),
    "Llama-3.1-405B": PublishedModel(
        "Llama-3.1-405B",
        126,
        GQAGeometry(16384, 128, 8, 128),
        "Lightning-AI/litgpt, litgpt/config.py",
    ),
    "large MHA": PublishedModel(
        "the large MHA model of the V2 paper (heads of 128 inferred from its printed 860.2K)",
        60,
        GQAGeometry(5120, 56, 56, 128),
        f"{V2_PAPER}, Table 9",
    ),
    "small MHA": PublishedModel(
        "the small MHA model of the V2 paper",
        27,
        GQAGeometry(2048, 16, 16, 128),
        f"{V2_PAPER}, Table 9",
    ),
}
LLAMA_3_1_WINDOWED_LAYERS = 0  # config.json of meta-llama/Meta-Llama-3.1-8B names no window
V2_THROUGHPUT_RATIO = 5.76  # V2 paper, abstract and Figure 1b: maximum generation throughput


@cache
def imported_models() -> dict[str, CachedModel]:
    """The geometries of data/models.toml, read as a config.json is."""
    rows = tomllib.loads(intact(shipped("models.toml")).read_text(encoding="utf-8"))["model"]
    return {
        row["name"]: replace(read_config(row["config"]), label=row["name"], source=row["source"])
        for row in rows
    }


def model_names() -> list[str]:
    """Every model whose cache is known by its name."""
    return [*MODELS, *imported_models()]


def cached_model(name: str) -> CachedModel:
    """A published model as the list of what its layers keep; see `model_names`."""
    if name not in MODELS:
        return imported_models()[name]
    row = MODELS[name]
    g = row.attention
    if isinstance(g, MLAGeometry):
        attention, widths = "MLA", (g.qk_head_dim, g.v_head_dim)
    else:
        attention, widths = grouped_label(g.n_heads, g.n_kv_heads), (g.head_dim, g.head_dim)
    return CachedModel(
        row.label,
        attention,
        (mechanism_layer(mechanism_of(g), g),) * row.n_layers,
        g.n_heads,
        *widths,
        g.d_model,
        row.source,
        row.compared_with,
    )
