"""Trains the family of the Quality page: one budget, one text, one recipe, attention swapped.

    python -m train.family --text stories_train.txt.gz --val stories_val.txt.gz [--seeds 0 1 2]

One process a run, two at a time; continues where it stopped. A finished run is known by the score
in its log under train/logs/family, which is committed; so are the weights of seed 0.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import torch

from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.cost import model_params
from mla_viz.findings.evaluate import score_stories
from mla_viz.findings.likeness import head_likeness
from mla_viz.findings.recall import recall_by_prompt
from mla_viz.findings.stories import read_stories
from mla_viz.model.decoder import ModelWeights
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.model.weights import load_weights
from train.export import export
from train.run import CHECKPOINTS, LOGS, Recipe, Training, write_json
from train.text import VOCAB_SIZE

TOKENS = 8_000_000
TRIAL_TOKENS = TOKENS // 4
TOLERANCE = 0.02  # nats per token within which a cheaper setting is as good as the best
LIKENESS_STORIES = 40
RATES = (1.0, 0.5, 2.0)  # the recipe's own first
ROPE_WIDTHS = (8, 16, 32)  # the least cache first
SPREAD_SEEDS = (1, 2)
SWAP_SEED = 0
MHA_D_FF = 341
Setting = TypeVar("Setting")
D_MODEL, HEADS, HEAD_DIM, ROPE_THETA = 128, 8, 16, 1000.0


def grouped(n_kv_heads: int) -> GQAGeometry:
    """MHA, GQA or MQA of the family's heads."""
    return GQAGeometry(D_MODEL, HEADS, n_kv_heads, HEAD_DIM, ROPE_THETA)


def latent(kv_lora_rank: int, rope_width: int, n_heads: int = HEADS) -> MLAGeometry:
    """MLA with content and value heads as wide as the others'."""
    widths = (HEAD_DIM, rope_width, HEAD_DIM)
    return MLAGeometry(D_MODEL, n_heads, *widths, kv_lora_rank, rope_theta=ROPE_THETA)


def members(rope_width: int) -> dict[str, GQAGeometry | MLAGeometry]:
    """The attention of every member, by its name."""
    return {
        "mha": grouped(HEADS),
        "gqa-2": grouped(2),
        "mqa": grouped(1),
        **{f"mla-{rank}": latent(rank, rope_width) for rank in (8, 16, 32, 64)},
        "mla-32-wide": latent(32, rope_width, 2 * HEADS),
    }


def model(name: str, attention: GQAGeometry | MLAGeometry, d_ff: int) -> ModelGeometry:
    """The family's model around an attention."""
    return ModelGeometry(name, attention, 5, d_ff, VOCAB_SIZE, 256)


def matched(name: str, attention: GQAGeometry | MLAGeometry) -> ModelGeometry:
    """The model whose feed-forward width brings its parameters nearest to MHA's."""
    budget = model_params(model("mha", grouped(HEADS), MHA_D_FF))
    none, one = (model_params(model(name, attention, d_ff)) for d_ff in (1, 2))
    return model(name, attention, 1 + round((budget - none) / (one - none)))


@dataclass(frozen=True)
class Run:
    """One training: the purpose opens its name, since a trial is no member."""

    purpose: str
    geometry: ModelGeometry
    tokens: int
    lr_scale: float
    seed: int = 0

    @property
    def name(self) -> str:
        """Unique, and the name of its log and checkpoint."""
        parts = [self.purpose, self.geometry.name]
        if self.purpose == "trial":
            parts.append(f"lr{self.lr_scale:g}")
        return "family/" + "-".join([*parts, f"seed{self.seed}"])

    @property
    def log(self) -> Path:
        """Where its log lies."""
        return LOGS / f"{self.name}.json"

    @property
    def weights(self) -> Path:
        """Where its weights are exported to, outside the repository."""
        return CHECKPOINTS / f"{self.name}.safetensors"

    @property
    def score(self) -> float | None:
        """Nats per token on the validation stories once it has finished."""
        log = json.loads(self.log.read_text(encoding="utf-8")) if self.log.exists() else {}
        return log.get("score", {}).get("nats_per_token")


def trial(attention: GQAGeometry | MLAGeometry, name: str, lr_scale: float) -> Run:
    """A quarter of the tokens, to choose by."""
    return Run("trial", matched(name, attention), TRIAL_TOKENS, lr_scale)


def rope_trials() -> dict[int, Run]:
    """MLA-32 at every RoPE width."""
    return {r: trial(latent(32, r), f"mla-32-rope{r}", 1.0) for r in ROPE_WIDTHS}


def rate_trials(kind: str) -> dict[float, Run]:
    """MHA, or MLA-32 at the chosen RoPE width, at every learning rate."""
    rope = chosen(rope_trials()) if kind == "mla" else 0
    attention = latent(32, rope) if kind == "mla" else grouped(HEADS)
    name = f"mla-32-rope{rope}" if kind == "mla" else "mha"
    return {rate: trial(attention, name, rate) for rate in RATES}


def chosen(trials: dict[Setting, Run]) -> Setting:
    """The first setting as good as the best within TOLERANCE; all trials must have finished."""
    best = min(run.score for run in trials.values())
    return next(setting for setting, run in trials.items() if run.score < best + TOLERANCE)


def tried(kind: str) -> Run:
    """The trial of MHA or MLA-32 that was chosen."""
    trials = rate_trials(kind)
    return trials[chosen(trials)]


def spread_trials() -> list[Run]:
    """The chosen trials with other seeds: how far one training may lie from another."""
    return [replace(run, seed=seed) for run in map(tried, ("mha", "mla")) for seed in SPREAD_SEEDS]


def member_runs(purpose: str, seed: int) -> Iterator[Run]:
    """Every member, parameters matched; or with MHA's feed-forward, at a quarter of the tokens."""
    trials = {kind: tried(kind) for kind in ("mha", "mla")}
    for name, attention in members(chosen(rope_trials())).items():
        rate = trials["mla" if isinstance(attention, MLAGeometry) else "mha"].lr_scale
        run = Run(purpose, matched(name, attention), TOKENS, rate, seed)
        if purpose == "swap":
            run = replace(run, geometry=model(name, attention, MHA_D_FF), tokens=TRIAL_TOKENS)
        if purpose == "swap" and name == "mha":
            run = trials["mha"]  # MHA with its own feed-forward has been tried already
        yield run


def stages(seeds: list[int]) -> Iterator[list[Run]]:
    """Runs that may go side by side; what follows may depend on their scores."""
    yield [*rope_trials().values(), *rate_trials("mha").values()]
    yield list(rate_trials("mla").values())
    yield [*member_runs("swap", SWAP_SEED), *spread_trials()]
    for seed in seeds:
        yield list(member_runs("member", seed))


def likeness(weights: ModelWeights, stories: list[str]) -> dict[str, float]:
    """How alike the heads are, as a log keeps it."""
    return asdict(head_likeness(weights, stories[:LIKENESS_STORIES], stories_tokenizer()))


def train(run: Run, text: Path, val: Path, device: str) -> None:
    """Train one run to its end, export it, and put its score into its log."""
    torch.set_num_threads(1)
    recipe = Recipe(
        run.name, run.tokens, False, run.seed, lr_scale=run.lr_scale, geometry=run.geometry
    )
    Training(recipe, text, val, device).run()
    weights = load_weights(export(run.name, run.geometry, run.weights))
    mechanism = "mla_expanded" if isinstance(run.geometry.attention, MLAGeometry) else "gqa"
    stories, tokenizer = read_stories(val), stories_tokenizer()
    recall = recall_by_prompt(weights, mechanism, tokenizer)
    measured = {
        "stories": len(stories),
        "score": asdict(score_stories(weights, mechanism, stories, tokenizer)),
        "name_recall": fmean(recall),
        "recall_by_prompt": recall,
        "likeness": likeness(weights, stories),
    }
    write_json(run.log, json.loads(run.log.read_text(encoding="utf-8")) | measured)
    run.weights.with_suffix(".pt").unlink()


def main() -> None:
    """Read the command line; train what has not finished, or the one run that is named."""
    parser = argparse.ArgumentParser(description="Train the family of the Quality page.")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--run", help="train this run alone")
    args = parser.parse_args()

    if args.run:
        every = (run for stage in stages(args.seeds) for run in stage)
        run = next(run for run in every if run.name == args.run)
        train(run, args.text, args.val, args.device)
        return

    def start(run: Run) -> None:
        command = [sys.executable, "-m", "train.family", *sys.argv[1:], "--run", run.name]
        subprocess.run(command, check=True)

    for stage in stages(args.seeds):
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(start, [run for run in stage if run.score is None]))


if __name__ == "__main__":
    main()
