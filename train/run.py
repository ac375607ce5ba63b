"""Trains the slider-following model, or its dedicated yardstick, and logs what it did.

    python -m train.run --text stories_train.txt.gz --val stories_val.txt.gz [--dedicated]

Stops on tokens, never on time; continues from its checkpoint where one lies. The same text, seed
and token count give the same order of data whether or not it was stopped in between.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from mla_viz.config import MLAGeometry, ModelGeometry
from mla_viz.findings.stories import read_stories
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.shipped import shipped
from train.checksums import write_checksums
from train.model import TrainableModel
from train.optim import make_optimizers, set_rate
from train.text import VOCAB_SIZE, StoryStream, train_tokenizer

CHECKPOINTS = Path(__file__).parent / "checkpoints"
LOGS = Path(__file__).parent / "logs"

GEOMETRY = ModelGeometry(
    name="stories",
    attention=MLAGeometry(
        d_model=128,
        n_heads=8,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        kv_lora_rank=64,
        rope_theta=1000.0,
    ),
    n_layers=5,
    d_ff=256,
    vocab_size=VOCAB_SIZE,
    context=256,
)


@dataclass
class Recipe:
    """What a run is made of; its JSON opens the log."""

    name: str
    tokens: int
    sampled: bool
    seed: int = 0
    rows: int = 16
    small_rows: int = 6
    micro_rows: int = 2
    lr_scale: float = 1.0
    geometry: ModelGeometry = field(default_factory=lambda: GEOMETRY)


def small_sizes(recipe: Recipe, step: int) -> list[tuple[int, int]]:
    """The (heads, latent) of each small row: corners and edges in turn, the others log-uniform."""
    g = recipe.geometry.attention
    rng = random.Random(f"{recipe.seed}/{step}")
    least = 4

    def log_uniform(low: int, high: int) -> int:
        return round(low * (high / low) ** rng.random())

    def inside() -> tuple[int, int]:
        return log_uniform(1, g.n_heads), log_uniform(least, g.kv_lora_rank)

    corners = [(1, least), (g.n_heads, least), (1, g.kv_lora_rank)]
    edges = [(g.n_heads, inside()[1]), (inside()[0], g.kv_lora_rank)]
    sizes = [corners[step % 3], *edges] + [inside() for _ in range(recipe.small_rows)]
    return sizes[: recipe.small_rows]


def train_step(model: TrainableModel, rows: Tensor, recipe: Recipe, step: int) -> float:
    """One step's gradients: cross-entropy at full size, and small sizes distilled from it."""
    sizes = small_sizes(recipe, step) if recipe.sampled else []
    total = len(rows) + len(sizes)
    full_loss = 0.0
    for start in range(0, len(rows), recipe.micro_rows):
        part = rows[start : start + recipe.micro_rows]
        logits = model(part[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten())
        full_loss += loss.item() * len(part) / len(rows)
        (loss * len(part) / total).backward()
        teacher = logits.detach()
        for i in range(start, min(start + len(part), len(sizes))):
            student = model(rows[i : i + 1, :-1], *sizes[i])[0]
            target = teacher[i - start].softmax(-1)
            (F.cross_entropy(student, target) / total).backward()
    return full_loss


@torch.no_grad()
def quick_loss(model: TrainableModel, tokens: Tensor, *size: int) -> float:
    """Nats per token on fixed windows: a look at the course of training, not a score."""
    logits = model(tokens[:, :-1], *size)
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()


def write_json(file: Path, record: object) -> None:
    """Write a committed log, its folder made where missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class Training:
    """A run in progress: model, optimizers, data, and the log that is committed at its end."""

    def __init__(self, recipe: Recipe, text: Path, val: Path, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        g = recipe.geometry
        self.model = TrainableModel(g).to(device)
        self.optimizers = make_optimizers(self.model, recipe.lr_scale)
        self.stream = StoryStream(text, stories_tokenizer(), g.context, recipe.seed)
        self.val = StoryStream(val, stories_tokenizer(), g.context, 0).batch(0, 24).to(device)
        self.step, self.seconds, self.records = 0, 0.0, []
        self.file = CHECKPOINTS / f"{recipe.name}.pt"
        if self.file.exists():
            self._load()

    def run(self) -> None:
        """Train to the token count, saving a checkpoint every two minutes and at the end."""
        recipe = self.recipe
        per_step = recipe.rows * recipe.geometry.context
        steps = recipe.tokens // per_step
        began, saved = time.monotonic(), time.monotonic()
        before = self.seconds
        while self.step < steps:
            set_rate(self.optimizers, self.step / steps)
            rows = self.stream.batch(self.step * recipe.rows, recipe.rows).to(self.device)
            loss = train_step(self.model, rows, recipe, self.step)
            for optimizer in self.optimizers:
                optimizer.step()
            self.model.zero_grad(set_to_none=True)
            self.step += 1
            self.seconds = before + time.monotonic() - began
            if self.step % max(1, steps // 40) == 0 or self.step == steps:
                self._record(loss, self.step * per_step)
            if time.monotonic() - saved > 120 or self.step == steps:
                self._save()
                saved = time.monotonic()

    def _record(self, loss: float, tokens: int) -> None:
        record = {"tokens": tokens, "train": round(loss, 4), "seconds": round(self.seconds)}
        sizes = [(8, 64), (8, 32), (8, 8), (1, 64)] if self.recipe.sampled else [()]
        for size in sizes:
            name = "_".join(["val", *map(str, size)])
            record[name] = round(quick_loss(self.model, self.val, *size), 4)
        self.records.append(record)
        print(json.dumps(record), flush=True)
        log = {
            "recipe": asdict(self.recipe),
            "text_tokens": self.stream.n_tokens,
            "torch": torch.__version__,
            "device": self.device,
            "course": self.records,
        }
        write_json(LOGS / f"{self.recipe.name}.json", log)

    def _save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "records": self.records,
        }
        part = self.file.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.file)

    def _load(self) -> None:
        state = torch.load(self.file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.records = state["step"], state["seconds"], state["records"]


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the slider-following model.")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--dedicated", action="store_true", help="full size only: the yardstick")
    parser.add_argument("--tokens", type=int, default=16_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr-scale", type=float, default=1.0)
    parser.add_argument("--name")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer_file = shipped("tokenizer.json")
    if not tokenizer_file.exists():
        train_tokenizer(read_stories(args.text)).save(str(tokenizer_file))
        write_checksums()
    name = args.name or ("dedicated" if args.dedicated else "stories")
    recipe = Recipe(name, args.tokens, not args.dedicated, args.seed, lr_scale=args.lr_scale)
    Training(recipe, args.text, args.val, args.device).run()


if __name__ == "__main__":
    main()
