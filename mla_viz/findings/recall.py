"""Name recall: which character does a story mean at its end? Knows models; knows no screen.

Each prompt introduces two of ten names and ends where one of them must follow. The score is the
share of prompts at which the right name is the likeliest of the ten: 0.1 is chance, and 0.5 what
a model gets that knows who is in the story but not who did what. The prompts are our own.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from mla_viz.model.decoder import Decoder, ModelWeights
from mla_viz.model.tokenizer import ByteTokenizer

NAMES = ("Lily", "Tim", "Tom", "Ben", "Max", "Sue", "Sam", "Mia", "Lucy", "Anna")
PROMPTS = (
    "{a} was a little fox. {b} was a big bear. One day the big bear was hungry. The bear's name"
    " was {b}. The fox's name was",
    "{a} had a red ball. {b} had a blue kite. The ball was lost, so they looked everywhere. They"
    " found the red ball and gave it back to",
    "Once upon a time there was a cat named {a}. The cat had a friend, a dog named {b}. The dog ran"
    ' away. The cat was sad. Mom asked, "What is wrong,',
    "One day {a} made a cake. {b} saw the cake and ate it all. When mom came home, she was angry."
    ' "I am sorry that I ate the cake," said {b}. "I made it for you," said',
    "{a} lived in a small house. {b} lived in a big castle. One night it rained. Water came into"
    " the small house of",
    'There was a boy called {a}. He had a sister called {b}. His sister was sick. "Get well'
    ' soon," said',
    '{b} wanted to play, but {a} was tired. "I want to sleep," said',
    "{a} liked to sing and {b} liked to dance. They put on a show. First came the dance of {b}."
    " Then came the song of",
    '{a} climbed the tall tree. {b} stayed on the ground. "Be careful up there!" called {b}. "I'
    ' can see the whole park," called',
    '{a} lost a shoe in the mud. {b} helped to look for it. Then {b} found the shoe. "Thank you'
    ' so much, {b}!" said',
    "A bird named {a} could not fly. A bird named {b} showed how to do it. Soon both could fly."
    ' "You are a good teacher, {b}," said',
    "{b} gave {a} a present. In the box was a toy car. {a} was very happy and hugged {b}. Now the"
    " toy car belonged to",
)


def recall_items() -> list[tuple[str, str]]:
    """Every prompt with every name as the answer, and another name, at a changing distance."""
    items = []
    for number, prompt in enumerate(PROMPTS):
        for place, answer in enumerate(NAMES):
            other = NAMES[(place + 1 + number % (len(NAMES) - 1)) % len(NAMES)]
            items.append((prompt.format(a=answer, b=other), answer))
    return items


@torch.inference_mode()
def name_recall(weights: ModelWeights, mechanism: str, tokenizer: ByteTokenizer) -> float:
    """Share of prompts at which the right one of the ten names is the likeliest."""
    names = _name_ids(tokenizer)
    right = 0
    for prompt, answer in recall_items():
        ids = [tokenizer.end, *tokenizer.encode(prompt)]
        logits = Decoder(weights, mechanism).feed(torch.tensor(ids)).logits[-1]
        right += NAMES[int(logits[names].argmax())] == answer
    return right / len(recall_items())


def _name_ids(tokenizer: ByteTokenizer) -> Int[Tensor, " names"]:
    """The one token of each name as it follows a blank."""
    return torch.tensor([tokenizer.encode(f" {name}")[0] for name in NAMES])
