"""A whole model of a folder: run by transformers, but for its attention, which is ours.

What a run needs of weights and of a decoder is offered as the shipped models offer it. Needs the
package transformers, which nothing else here does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, SupportsInt

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from mla_viz.attention.ops import Watch
from mla_viz.attention.quantised import keep_in
from mla_viz.attention.weights import MLAWeights
from mla_viz.checkpoints.folder import Folder
from mla_viz.checkpoints.layer import (
    AttentionLayer,
    Steps,
    described,
    load_attention,
    read_shape,
)
from mla_viz.checkpoints.weights import DOWN_KV, attention_prefix
from mla_viz.config import ModelGeometry, told
from mla_viz.mechanisms.formats import Format
from mla_viz.mechanisms.table import MLA_MECHANISMS
from mla_viz.model.decoder import Forward, timed
from mla_viz.model.device import usable_bytes
from mla_viz.model.sources import MLA_SIDES, Source, as_asked
from mla_viz.published.fields import refuse


class FolderTokenizer:
    """The tokenizer.json of a folder, as runs use tokenizers.

    Raises:
        ValueError: there is none that can be read.
    """

    def __init__(self, folder: Path, size: int, end: int | None) -> None:
        try:
            self._own = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the package raises no other class
            why = " ".join(str(error).split())
            raise ValueError(f"{folder}: expected a tokenizer.json, got none: {why}") from None
        self.size, self.end = size, end
        self.texts: Sequence[str] = _Texts(self)

    def prompt(self, text: str) -> list[int]:
        """Token ids of what the model is to go on from: the text, in no template."""
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with those that the tokenizer puts before it."""
        return self._own.encode(text).ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, without special tokens."""
        return self._own.decode(ids)

    def text_of(self, token_id: int) -> str:
        """A token as it is shown."""
        return self._own.decode([token_id], skip_special_tokens=False)


@dataclass(frozen=True)
class _Texts(Sequence):
    """Every token as it is shown, made when it is asked for: vocabularies are large."""

    tokenizer: FolderTokenizer

    def __len__(self) -> int:
        return self.tokenizer.size

    def __getitem__(self, token_id: SupportsInt) -> str:
        return self.tokenizer.text_of(int(token_id))


@dataclass(frozen=True, eq=False)
class FolderWeights:
    """A model of transformers and its attention layers, read by us, as a run takes weights.

    It is read once it is run: `to` costs nothing before.
    """

    geometry: ModelGeometry
    folder: Path
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def loaded(self) -> "Loaded":
        """What lies in the folder, read once.

        Raises:
            ValueError: transformers is missing or cannot read it, or it does not fit in memory.
        """
        return _loaded(self.folder, self.dtype, self.device)

    @property
    def embedding(self) -> Float[Tensor, "vocab d_model"]:
        """The input's matrix."""
        return self.loaded.model.get_input_embeddings().weight

    @property
    def attention(self) -> list[MLAWeights]:
        """Each layer's."""
        return [layer.weights for layer in self.loaded.layers]

    def to(self, dtype: torch.dtype, device: str) -> "FolderWeights":
        """The same weights in another dtype on another device."""
        return replace(self, dtype=dtype, device=device)

    def decoder(self, mechanism: str, kept: Format | None = None) -> "FolderDecoder":
        """The model run by one mechanism."""
        return FolderDecoder(self, mechanism, kept)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model of transformers, and the layers of its latent attention with their modules there."""

    model: Any
    layers: tuple[AttentionLayer, ...]
    outputs: int

    @property
    def modules(self) -> list[torch.nn.Module]:
        """In the order of the layers."""
        return [module for module in self.model.modules() if hasattr(module, "kv_a_proj_with_mqa")]


class _Attention:
    """What stands in for an attention module's forward: ours, timed and watched."""

    def __init__(self, layer: AttentionLayer, mechanism: str, outputs: int) -> None:
        self.steps, self._outputs = Steps(layer, mechanism), outputs
        self.watch, self.us = Watch(), 0.0

    def __call__(self, hidden_states: Tensor, *_: object, **__: object) -> tuple:
        self.x = hidden_states[0]
        self.attended, self.us = timed(partial(self.steps.feed, self.x, self.watch), self.x.is_cuda)
        return self.attended.out[None], *[None] * (self._outputs - 1)


class FolderDecoder:
    """A model run by one mechanism, as `mla_viz.model.decoder.Decoder` runs the shipped ones."""

    block = 1

    def __init__(self, weights: FolderWeights, mechanism: str, kept: Format | None = None) -> None:
        self.weights = weights
        self._model, self._modules = weights.loaded.model, weights.loaded.modules
        outputs = weights.loaded.outputs
        self._ours = [_Attention(layer, mechanism, outputs) for layer in weights.loaded.layers]
        self.whole_prefix = self._ours[0].steps.whole_prefix
        self.caches = [ours.steps.cache for ours in self._ours]
        if kept:
            for each in self.caches:
                keep_in(each, kept, weights.geometry.attention.qk_rope_head_dim)
        self._begin()

    def _begin(self) -> None:
        """Forget the states of layers without latent attention; caches are the mechanisms' own."""
        self._others = _transformers().DynamicCache(config=self._model.config)

    @torch.inference_mode()
    def feed(
        self, tokens: Int[Tensor, " seq"], watched: Sequence[str] = (), *, newest: bool = False
    ) -> Forward:
        """Run tokens through the model behind those fed before, as `Decoder.feed`."""
        if self.whole_prefix:
            self._begin()
        for ours, module in zip(self._ours, self._modules, strict=True):
            ours.watch = Watch(*watched, newest=newest)
            module.forward = ours
        logits = self._model(
            tokens[None],
            past_key_values=self._others,
            logits_to_keep=1 if newest else 0,
        ).logits[0]
        return Forward(
            logits=logits,
            inputs=[ours.x[-1:] if newest else ours.x for ours in self._ours],
            layers=[ours.attended for ours in self._ours],
            attention_us=[ours.us for ours in self._ours],
            filled_bytes=sum(cache.filled_bytes for cache in self.caches),
            allocated_bytes=sum(cache.allocated_bytes for cache in self.caches),
        )


def folder_source(name: str) -> Source:
    """The model in a folder, as a source of weights.

    Raises:
        ValueError: it is no folder of a family that is read, or damaged.
    """
    folder = Path(name).resolve()
    full = _geometry(folder)
    g = full.attention
    fields, _ = described(folder)
    ends = fields.get("eos_token_id")
    end = ends[0] if isinstance(ends, list) and ends else ends
    return Source(
        name=name,
        label=f"{full.name}, from a folder",
        mechanisms=MLA_MECHANISMS,
        start={"heads": g.n_heads, "latent": g.kv_lora_rank, **MLA_SIDES},
        dials={},
        geometry=lambda shape, _: as_asked(shape, full),
        load=lambda *_: FolderWeights(full, folder),
        tokenizer=partial(FolderTokenizer, folder, full.vocab_size, end),
    )


def _places(folder: Path) -> list[int]:
    """Which attentions of a folder are latent, counted as `load_attention` counts them."""
    fields, family = described(folder)
    files, found = Folder(folder), []
    for layer in range(fields.n_layers * family.attentions):
        try:
            attention_prefix(files, family, layer)
        except ValueError:
            continue
        found.append(layer)
    return found


def _geometry(folder: Path) -> ModelGeometry:
    fields, family = described(folder)
    attention, rope, _ = read_shape(fields, family)
    trained = fields.whole("max_position_embeddings", "model_max_length")
    places = _places(folder)
    if not places:
        raise ValueError(f"{folder}: expected a layer with {DOWN_KV}, found none")
    return ModelGeometry(
        name=str(fields.get("model_type")),
        attention=attention,
        n_layers=len(places),
        d_ff=fields.whole("intermediate_size", "ffn_hidden_size"),
        vocab_size=fields.whole("vocab_size"),
        context=min(trained, rope.most_tokens or trained),
    )


def _transformers() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError:
        raise ValueError(
            "source: expected the package transformers for a folder's whole model, found none"
            " (pip install transformers)"
        ) from None


@lru_cache(maxsize=1)
def _loaded(folder: Path, dtype: torch.dtype, device: str) -> Loaded:
    """As `FolderWeights.loaded`; the model that was read last is kept."""
    fields, family = described(folder)
    named = fields.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    kind = getattr(_transformers(), str(name), None)
    if kind is None or not str(name).startswith(family.architecture):
        refuse(
            " architectures",
            f"a class of transformers that begins {family.architecture}",
            told(name),
        )
    needed = dtype.itemsize * Folder(folder).elements()
    if needed > (free := usable_bytes("cpu")):
        raise ValueError(
            f"source: expected a model that fits {free:,} bytes of free memory, got one of"
            f" {needed:,}"
        )
    try:
        model, read = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{folder}: expected what transformers reads, got {why[:200]}") from None
    if missing := sorted(read["missing_keys"]):
        raise ValueError(f"{folder}: expected all weights of {name}, found no {missing[0]}")
    model = model.to(device).eval()
    layers = tuple(load_attention(folder, i, dtype, device) for i in _places(folder))
    return Loaded(model, layers, family.outputs)
