"""Published figures, each with its source. Knows no arrays, no models and no screens."""

from dataclasses import dataclass


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


_V2 = "DeepSeek-AI, DeepSeek-V2 (arXiv 2405.04434), appendix"
_TABLE_8, _TABLE_9 = f"{_V2}, Table 8", f"{_V2}, Table 9"


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
