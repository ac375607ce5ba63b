"""A model's weights counted from the fields of its config.json: all of them, and those at work.

Counts the decoder alone: input table, layers, norms, and an output table that is not the input's.
Vision towers and layers of multi-token prediction are left out. At work for a token are all but
the experts that it is not sent to; the input table counts in full, as on the cards of DeepSeek,
Mistral and Qwen (gpt-oss's card leaves it out: 5.1 of its 5.7 billion).

`BUILDS` says what a class builds beside what its fields say; what it does not list is not counted.

Worked: Llama-3.1-8B has two tables of 128,256 x 4,096, and 32 layers of 4,096 (4,096 + 1,024 +
1,024 + 4,096 + 3 x 14,336 + 2) weights; with its last norm 8,030,261,248.
"""

from mla_viz.published.build import Build, grouped, on
from mla_viz.published.builds import BUILDS
from mla_viz.published.fields import Fields
from mla_viz.published.layers import CachedModel


def count(name: str, fields: Fields, model: CachedModel) -> tuple[int, int] | tuple[None, None]:
    """All weights and those at work for a token; None where the class or a field is not known.

    DeepSeek-V3: 671,026,404,352 and 37,552,282,624.
    """
    build, d = BUILDS.get(name), fields.d_model
    if build is None or any(fields.get(field) for field in build.unknown):
        return None, None
    try:
        vocab = fields.whole("vocab_size")
        tables = vocab * d * (1 if on(fields, ("tie_word_embeddings", build.tied)) else 2)
        tables += vocab * on(fields, build.head_bias) + d * build.norm
        tables += build.apart(fields)
        tables += d * fields.whole(build.positions) if build.positions else 0
        attention = build.attention or grouped
        layers = sum(
            attention(build, fields, model, layer) + d * build.norm * build.norms + build.further
            for layer in model.layers
        )
        every, working = _blocks(build, fields)
    except ValueError:
        return None, None
    return tables + layers + every, tables + layers + working


def _blocks(build: Build, fields: Fields) -> tuple[int, int]:
    """Feed-forward blocks of all layers: all their weights, and those at work."""
    experts, d = build.experts, fields.d_model
    kinds = experts.sparse(fields) if experts else [False] * fields.n_layers
    sparse, plain = kinds.count(True), kinds.count(False)
    dense = 0
    if plain:
        width = fields.whole(build.width, default=build.times * d or None)
        dense = plain * _block(build, fields, width)
    if experts is None or not sparse:
        return dense, dense
    number, width = fields.whole(experts.count), fields.whole(experts.width)
    shared = experts.shared(fields)
    beside = number * (d + experts.router) + d * (experts.shared_gate + experts.norms)
    beside += _block(build, fields, shared) if shared else 0
    one = _block(build, fields, width)
    chosen = min(fields.whole(experts.chosen, "num_experts_per_tok"), number)
    return dense + sparse * (beside + number * one), dense + sparse * (beside + chosen * one)


def _block(build: Build, fields: Fields, width: int) -> int:
    """One feed-forward block of that width."""
    biases = (build.matrices - 1) * width + fields.d_model if on(fields, build.mlp_bias) else 0
    return build.matrices * fields.d_model * width + biases + width * build.sub_norms
