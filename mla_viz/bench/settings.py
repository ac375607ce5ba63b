"""What decides a bench, checked before anything is allocated."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mla_viz.attention.core import PAGE
from mla_viz.config import AttentionGeometry, MLAGeometry, check_choice, check_int, told
from mla_viz.cost import attention_params, cache_elems, geometry_beside
from mla_viz.mechanisms.table import CUT_MECHANISMS, MECHANISMS
from mla_viz.model.device import parse_dtype, pick_device
from mla_viz.published.catalog import judged
from mla_viz.published.config_json import open_config
from mla_viz.published.fields import Fields
from mla_viz.run.settings import Settings

NAMED = {"deepseek-v3": "DeepSeek-V3", "v2-lite": "DeepSeek-V2-Lite"}
# recompute keeps no cache, and a model that is cut has no weights here.
TIMED = tuple(name for name in MECHANISMS if name not in ("recompute", *CUT_MECHANISMS))
FIRST = ("mha", "mla_expanded", "mla_absorbed")
LONGEST, MOST = 1 << 20, 16  # tokens of a context; contexts
PROCESS_BYTES = 300 << 20  # a Python that has loaded torch
ROOFLINE_BYTES = 512 << 20  # what `roofline` holds at most beside operands as large as a cache
MOST_QUERIES = 4096
QUERIES_BYTES = 1 << 28  # scores of many queries, made for some at a time


@dataclass(frozen=True)
class BenchSettings:
    """The layer, what is timed of it, and how often.

    `geometry` is deepseek-v3, v2-lite, demo (what the Decode page begins with) or the path of a
    config.json of an MLA model. `query_tokens`: how many at a time over each context, beside the
    decode step. `threads` None takes every core that this process may use. `device` as
    `pick_device` takes it.
    """

    geometry: str = "deepseek-v3"
    contexts: tuple[int, ...] = (1024, 4096, 16384)
    batch: int = 1
    dtype: str = "bfloat16"
    mechanisms: tuple[str, ...] = FIRST
    query_tokens: tuple[int, ...] = ()
    repeats: int = 15
    threads: int | None = None
    with_peers: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        for field, several in (("contexts", MOST), ("mechanisms", len(TIMED))):
            if not 1 <= len(getattr(self, field)) <= several:
                got = len(getattr(self, field))
                raise ValueError(f"{field}: expected from 1 to {several} of them, got {got}")
        if len(self.query_tokens) > MOST:
            got = len(self.query_tokens)
            raise ValueError(f"query_tokens: expected {MOST} of them at most, got {got}")
        contexts = [check_int("contexts", tokens, 2, LONGEST) for tokens in self.contexts]
        names = [check_choice("mechanisms", name, TIMED) for name in self.mechanisms]
        queries = [check_int("query_tokens", n, 1, MOST_QUERIES) for n in self.query_tokens]
        cores = len(os.sched_getaffinity(0))
        plain = {
            "contexts": tuple(sorted(set(contexts))),
            "mechanisms": tuple(dict.fromkeys(names)),
            "query_tokens": tuple(sorted(set(queries))),
            "batch": check_int("batch", self.batch, 1, 1024),
            "repeats": check_int("repeats", self.repeats, 3, 1000),
            "threads": cores if self.threads is None else self.threads,
            "dtype": str(self.dtype).removeprefix("torch."),
            "layer": layer_geometry(self.geometry),
            "device": pick_device(self.device),
        }
        parse_dtype(plain["dtype"])
        check_int("threads", plain["threads"], 1, 1024)
        vars(self).update(plain)

    def geometry_of(self, mechanism: str) -> AttentionGeometry:
        """The layer that a mechanism runs."""
        return geometry_beside(mechanism, vars(self)["layer"])

    @property
    def on_cuda(self) -> bool:
        """Whether it runs on a CUDA device."""
        return self.device.startswith("cuda")

    def place(self) -> AbstractContextManager:
        """Inside it, tensors are made on the device; work is timed outside, where it costs."""
        return torch.device(self.device) if self.on_cuda else nullcontext()

    @property
    def memory_bytes(self) -> int:
        """The device's memory that it takes at most: its largest part, of those that take turns."""
        elem = parse_dtype(self.dtype).itemsize
        g, longest = self.geometry_of("mla_absorbed"), self.batch * max(self.contexts)
        rows = g.kv_lora_rank + g.qk_rope_head_dim
        layers = {self.geometry_of(name) for name in self.mechanisms}
        points = sum(attention_params(layer) * (4 + elem) for layer in layers)
        points += sum(self._mechanism_bytes(name, elem) for name in self.mechanisms)
        points += ROOFLINE_BYTES + 2 * longest * rows * elem
        weights = attention_params(g) * (4 + elem)
        expanded = cache_elems("mla_expanded", g) * longest * elem
        peers = self.with_peers * (2 * weights + 4 * expanded)
        many = max(self.query_tokens, default=0)
        vectors = 3 * many * g.n_heads * (rows + g.qk_head_dim + g.kv_lora_rank) * elem
        queries = (many > 0) * (weights + vectors + 3 * expanded + QUERIES_BYTES)
        scores = 6 * g.n_heads * longest * max(4, elem)
        return PROCESS_BYTES + scores + max(points, peers, queries)

    def _mechanism_bytes(self, mechanism: str, elem: int) -> int:
        """Its caches, and what it makes of the layer's weights or rebuilds."""
        g = self.geometry_of(mechanism)
        held = self.batch * (sum(self.contexts) + PAGE * len(self.contexts))
        size = held * cache_elems(mechanism, g) * elem
        if mechanism == "mla_reexpand":
            a_head = cache_elems("mla_expanded", g) // g.n_heads
            size += 2 * self.batch * max(self.contexts) * a_head * elem
        if mechanism == "mla_merged":
            inputs = (g.q_lora_rank or g.d_model) + g.d_model
            size += g.n_heads * g.kv_lora_rank * inputs * elem
        return size

    def check_room(self, room: int) -> None:
        """Hold it against the bytes of memory that there are.

        Raises:
            ValueError: it takes more.
        """
        if self.memory_bytes > room:
            raise ValueError(
                f"contexts: expected some that fit {room / 2**30:.1f} GiB of free memory, got"
                f" {max(self.contexts):,} tokens, which need {self.memory_bytes / 2**30:.1f} GiB"
                " (take fewer tokens, sequences or mechanisms, or leave peers out)"
            )


def layer_geometry(name: str) -> MLAGeometry:
    """The MLA layer of a name or of a config.json.

    Raises:
        ValueError: there is none of that name, or the file is none of an MLA model.
    """
    if name in NAMED:
        return judged(NAMED[name]).attention
    if name == "demo":
        return Settings().side("right").geometry.attention
    if not isinstance(name, str) or not name.endswith(".json"):
        known = ", ".join((*NAMED, "demo"))
        raise ValueError(f"geometry: expected {known} or a config.json, got {told(name)}")
    fields = Fields(open_config(name))
    widths = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
    q_lora_rank = fields.whole("q_lora_rank") if fields.get("q_lora_rank") else None
    return MLAGeometry(
        fields.d_model,
        fields.n_heads,
        **{width: fields.whole(width) for width in widths},
        q_lora_rank=q_lora_rank,
    )
