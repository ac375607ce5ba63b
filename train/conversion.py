"""How far a pretrained model's keys and values can be cut: bases for its caches, and what is lost.

    python -m train.conversion --stories stories_train.txt.gz --held-out stories_val.txt.gz

Keys before RoPE and values of a token are one vector z. With g the gradient of the loss with
respect to z, of labels that the model itself drew, F = E[g g^T] says what a change of z costs, and
S = Cov z what there is to keep. The eigenvectors U of F^1/2 S F^1/2 give an encoder F^1/2 U; its
first r columns keep what matters most in r numbers. Continues where it stopped.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pydoc_data import topics  # the reference of the Python language: technical prose

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from mla_viz.attention.ops import (
    Watch,
    attend_grouped,
    merge_heads,
    per_head,
    rms_norm,
    rope_angles,
    rotate,
)
from mla_viz.findings.stories import read_stories
from mla_viz.model.decoder import ModelWeights
from mla_viz.model.latent import BASES, Basis, joined
from mla_viz.model.sources import TEMPERATURE, Shape, find_source
from mla_viz.model.tokenizer import ByteTokenizer
from mla_viz.run.decode import written
from mla_viz.run.settings import Settings
from mla_viz.shipped import shipped
from train.checksums import write_checksums

SOURCE = "smollm2"
WINDOW = 512  # tokens
WINDOWS = {"prose": (24, 4), "stories": (8, 4), "chat": (24, 8)}  # to fit, held out
ANSWER = 160  # tokens
LEAST = 1e-6  # of the largest eigenvalue of F: none counts as less
EVERY = 5  # each fifth topic of the reference is held out
CHECKPOINTS = Path("train/checkpoints")

# The first WINDOWS["chat"][0] are fitted to, the rest held out.
QUESTIONS = (
    "What is the capital of France?",
    "Explain how photosynthesis works.",
    "Write a short poem about the sea.",
    "How do I boil an egg?",
    "What is the difference between a list and a tuple in Python?",
    "Give me three tips for learning a new language.",
    "Who wrote Romeo and Juliet, and what is it about?",
    "Why is the sky blue?",
    "Summarize the causes of the First World War.",
    "Write an email to my boss asking for a day off.",
    "What is 12 times 7?",
    "Tell me a story about a fox and a crow.",
    "How does a refrigerator keep food cold?",
    "What should I pack for a week in the mountains?",
    "Explain gravity to a five year old.",
    "What are the primary colors?",
    "Write a Python function that reverses a string.",
    "How can I sleep better at night?",
    "What happens when water freezes?",
    "Describe a busy market in the morning.",
    "What is a prime number?",
    "Recommend a simple dinner with rice.",
    "How do airplanes fly?",
    "What is the largest ocean on Earth?",
    "What is the boiling point of water, and why does it change with height?",
    "Write a short story about a lighthouse keeper.",
    "How do I make a cup of tea?",
    "Explain what a computer program is.",
    "Name three planets and say something about each.",
    "Why do leaves change color in autumn?",
    "Give me advice for a job interview.",
    "What is the difference between weather and climate?",
)

Change = Callable[[int, Float[Tensor, "seq both"]], Float[Tensor, "seq both"]]
Attend = Callable[[int, Float[Tensor, "seq d_model"]], Float[Tensor, "seq d_model"]]


def logits_by(
    weights: ModelWeights, ids: Int[Tensor, " seq"], attend: Attend
) -> Float[Tensor, "seq vocab"]:
    """Logits of a text where `attend` is each layer's attention."""
    eps = weights.geometry.norm_eps
    x = weights.embedding[ids]
    for layer, block in enumerate(weights.blocks):
        x = x + attend(layer, rms_norm(x, block.attn_norm, eps))
        h = rms_norm(x, block.mlp_norm, eps)
        x = x + (F.silu(h @ block.W_gate) * (h @ block.W_up)) @ block.W_down
    return rms_norm(x, weights.final_norm, eps) @ weights.embedding.T


def logits_with(
    weights: ModelWeights, ids: Int[Tensor, " seq"], change: Change
) -> Float[Tensor, "seq vocab"]:
    """Logits of a text whose keys and values `change` puts something in the place of."""
    g = weights.geometry.attention
    rope = rope_angles(torch.arange(len(ids)), g.rope_width, g.rope_theta, weights.embedding.dtype)

    def attend(layer: int, h: Tensor) -> Tensor:
        w = weights.blocks[layer].attention
        z = change(layer, h @ joined(w)).unflatten(-1, (2, g.n_kv_heads, -1))
        k, v = z.permute(1, 2, 0, 3)
        q = rotate(per_head(h.unsqueeze(-3), w.W_Q), rope)
        o = attend_grouped(q, rotate(k, rope), v, g.softmax_scale, Watch())
        return merge_heads(o, w.W_O)

    return logits_by(weights, ids, attend)


# The texts.


def windows(kind: str, held_out: bool, args: argparse.Namespace) -> list[Int[Tensor, " seq"]]:
    """The windows of one kind of text, to fit or held out."""
    tokenizer, count = find_source(SOURCE).tokenizer(), WINDOWS[kind][held_out]
    if kind == "chat":
        first = WINDOWS["chat"][0]
        asked = QUESTIONS[first:] if held_out else QUESTIONS[:first]
        return [torch.tensor(answered(question)) for question in asked[:count]]
    texts = read_stories(args.held_out if held_out else args.stories)
    if kind == "prose":
        each = enumerate(sorted(topics.topics.items()))
        texts = [text for i, (_, text) in each if (i % EVERY == 0) == held_out]
    stream = list(_stream(texts, tokenizer))
    starts = np.linspace(0, len(stream) - WINDOW, count).astype(int)
    return [torch.tensor(stream[start : start + WINDOW]) for start in starts]


def _stream(texts: list[str], tokenizer: ByteTokenizer) -> Iterator[int]:
    for text in texts:
        yield tokenizer.separator
        yield from tokenizer.encode(text)


def answered(question: str) -> list[int]:
    """A question in the model's template, and the answer that it writes."""
    drawn = {"temperature": TEMPERATURE, "seed": 1}
    return written(Settings(question, SOURCE, max_new_tokens=ANSWER, **drawn))


# What is captured.


@dataclass
class Sums:
    """Sums over tokens, by layer, in float64."""

    tokens: int
    z: np.ndarray
    zz: np.ndarray
    gg: np.ndarray

    @classmethod
    def none(cls, layers: int, width: int) -> "Sums":
        square = (layers, width, width)
        return cls(0, np.zeros((layers, width)), np.zeros(square), np.zeros(square))

    def __add__(self, other: "Sums") -> "Sums":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return type(self)(*(mine + theirs for mine, theirs in pairs))


def to_drawn(log_probs: Float[Tensor, "seq vocab"], seed: int) -> None:
    """Gradients of what labels cost that are drawn from these probabilities."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(log_probs.detach().exp(), 1, generator=generator)
    log_probs.gather(-1, drawn).sum().backward()


def captured(weights: ModelWeights, ids: Int[Tensor, " seq"], seed: int) -> Sums:
    """One window's sums; the labels are drawn from what the model itself says."""
    seen, leaves = [], []

    def watch(_: int, z: Tensor) -> Tensor:
        leaf = torch.zeros_like(z, requires_grad=True)
        seen.append(z.detach()), leaves.append(leaf)
        return z + leaf

    log_probs = logits_with(weights, ids, watch).log_softmax(-1)
    to_drawn(log_probs, seed)
    zs = np.stack([z.double().numpy() for z in seen])
    gs = np.stack([leaf.grad.double().numpy() for leaf in leaves])
    return Sums(len(ids), zs.sum(1), zs.swapaxes(1, 2) @ zs, gs.swapaxes(1, 2) @ gs)


def gathered(
    name: str, kind: str, none: Sums, one: Callable[[Tensor, int], Sums], args: argparse.Namespace
) -> Sums:
    """The sum of `one` over all windows of a kind, kept after each in a file of that name."""
    file = CHECKPOINTS / f"{name}-{kind}.npz"
    sums, done = none, 0
    if file.exists():
        kept = dict(np.load(file))
        done = int(kept.pop("windows"))
        sums = type(none)(int(kept.pop("tokens")), **kept)
    if done == WINDOWS[kind][0]:
        return sums
    for i, ids in enumerate(windows(kind, False, args)):
        if i >= done:
            sums += one(ids, i)
            np.savez(file.with_suffix(".part.npz"), windows=i + 1, **vars(sums))
            file.with_suffix(".part.npz").replace(file)
            print(f"{kind}: {i + 1} of {WINDOWS[kind][0]}", flush=True)
    return sums


# The bases.


def basis(sums: Sums, layer: int) -> tuple[Basis, Float[np.ndarray, " both"]]:
    """One layer's basis and its eigenvalues, largest first: what the loss of each column costs.

    Columns are scaled so that each number of a latent has variance 1 on the text. The encoder is
    rounded to half precision, as it is kept, and its inverse is that of what is kept.
    """
    mean = sums.z[layer] / sums.tokens
    S = sums.zz[layer] / sums.tokens - np.outer(mean, mean)  # noqa: N806
    values, vectors = np.linalg.eigh(sums.gg[layer] / sums.tokens)
    root = vectors * np.sqrt(values.clip(values.max() * LEAST)) @ vectors.T
    costs, U = np.linalg.eigh(root @ S @ root)  # noqa: N806
    costs, U = costs[::-1].clip(costs.max() * 1e-12), U[:, ::-1]  # noqa: N806
    encoder = torch.from_numpy(root @ U / np.sqrt(costs)).half().double()
    return Basis(encoder, encoder.inverse(), torch.from_numpy(mean).half().double()), costs


def fitted(args: argparse.Namespace, weights: ModelWeights) -> Sums:
    """All kinds of text together."""
    g = weights.geometry
    none = Sums.none(g.n_layers, 2 * g.attention.n_kv_heads * g.attention.head_dim)
    one = partial(captured, weights)
    kinds = [gathered("conversion", kind, none, one, args) for kind in WINDOWS]
    return sum(kinds[1:], kinds[0])


def arguments() -> argparse.Namespace:
    """Where the stories lie, to fit and held out."""
    parser = argparse.ArgumentParser(description="Bases for the caches of a pretrained model.")
    parser.add_argument("--stories", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    torch.set_num_threads(1)
    CHECKPOINTS.mkdir(exist_ok=True)
    return parser.parse_args()


def original() -> ModelWeights:
    """The pretrained model in float32."""
    source = find_source(SOURCE)
    return source.load(source.geometry(Shape(), source.mechanisms[0]), 0)


def main() -> None:
    """Capture what is not captured yet, write the bases."""
    args, weights = arguments(), original()
    sums = fitted(args, weights)
    layers = range(weights.geometry.n_layers)
    bases, costs = zip(*(basis(sums, layer) for layer in layers), strict=True)
    tensors = {
        name: torch.stack([getattr(each, name) for each in bases]).half()
        for name in ("encoder", "mean")
    }
    tensors["costs"] = torch.from_numpy(np.stack(costs)).float()
    save_file(tensors, shipped(BASES.format(SOURCE)))
    write_checksums()


if __name__ == "__main__":
    main()
