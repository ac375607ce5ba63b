"""Training text: stories separated by `<|endoftext|>` lines, as tokens in a seeded order.

Knows files and token streams; knows no model.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from mla_viz.findings.stories import read_stories
from mla_viz.model.tokenizer import END_OF_TEXT, ByteTokenizer

VOCAB_SIZE = 2048


def train_tokenizer(stories: list[str]) -> Tokenizer:
    """Byte-level BPE of 2,048 tokens; any byte string encodes, no token is ever unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    return tokenizer


class StoryStream:
    """Windows of consecutive tokens, the stories shuffled anew each epoch.

    The window at a given index depends on the seed and the index alone, so that a run
    continues after a stop with the very tokens it would have seen.
    """

    def __init__(self, path: Path, tokenizer: ByteTokenizer, seq_len: int, seed: int) -> None:
        encoded = map(tokenizer.encode, read_stories(path))
        self._stories = [np.array([tokenizer.end, *ids], dtype=np.int64) for ids in encoded]
        self.n_tokens = sum(map(len, self._stories))
        self._windows = self.n_tokens // seq_len - 1
        self._seq_len, self._seed, self._epoch = seq_len, seed, -1
        self._tokens = np.empty(0, dtype=np.int64)

    def batch(self, first: int, rows: int) -> Int[Tensor, "rows seq_plus_1"]:
        """Rows `first` .. `first + rows - 1` of the endless stream, each seq_len + 1 tokens."""
        return torch.stack([self._window(first + row) for row in range(rows)])

    def _window(self, index: int) -> Int[Tensor, " seq_plus_1"]:
        epoch, window = divmod(index, self._windows)
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._stories))
            self._tokens = np.concatenate([self._stories[i] for i in order])
            self._epoch = epoch
        start = window * self._seq_len
        return torch.from_numpy(self._tokens[start : start + self._seq_len + 1])
