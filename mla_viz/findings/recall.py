"""Name recall of a model on the prompts. Knows models; knows no screen.

The score is the share of prompts at which the right name is the likeliest of the ten: CHANCE for a
model that knows nothing, and 0.5 for one that knows who is in the story but not who did what.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from mla_viz.findings.prompts import NAMES, PROMPTS, recall_items
from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.tokenizer import ByteTokenizer


@torch.inference_mode()
def recall_by_prompt(
    weights: ModelWeights, mechanism: str, tokenizer: ByteTokenizer
) -> list[float]:
    """Share of the names that each prompt of PROMPTS got right; their mean is the name recall."""
    names = _name_ids(tokenizer)
    right = [0] * len(PROMPTS)
    for number, (prompt, answer) in enumerate(recall_items()):
        ids = [tokenizer.end, *tokenizer.encode(prompt)]
        logits = Decoder(weights, mechanism).feed(torch.tensor(ids)).logits[-1]
        right[number // len(NAMES)] += NAMES[int(logits[names].argmax())] == answer
    return [count / len(NAMES) for count in right]


def _name_ids(tokenizer: ByteTokenizer) -> Int[Tensor, " names"]:
    """The one token of each name as it follows a blank."""
    return torch.tensor([tokenizer.encode(f" {name}")[0] for name in NAMES])
