"""What decides a bench, checked before anything is allocated."""

import os
from dataclasses import dataclass

from mla_viz.config import GQAGeometry, MLAGeometry, check_choice, check_int, told
from mla_viz.cost import AttentionGeometry, attention_params, cache_elems
from mla_viz.mechanisms.table import CUT_MECHANISMS, MECHANISMS
from mla_viz.model.device import parse_dtype
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


@dataclass(frozen=True)
class BenchSettings:
    """The layer, what is timed of it, and how often.

    `geometry` is deepseek-v3, v2-lite, demo (what the Decode page begins with) or the path of a
    config.json of an MLA model. `threads` None takes every core that this process may use.
    """

    geometry: str = "deepseek-v3"
    contexts: tuple[int, ...] = (1024, 4096, 16384)
    batch: int = 1
    dtype: str = "bfloat16"
    mechanisms: tuple[str, ...] = FIRST
    repeats: int = 15
    threads: int | None = None
    with_peers: bool = True

    def __post_init__(self) -> None:
        for field, several in (("contexts", MOST), ("mechanisms", len(TIMED))):
            if not 1 <= len(getattr(self, field)) <= several:
                got = len(getattr(self, field))
                raise ValueError(f"{field}: expected from 1 to {several} of them, got {got}")
        contexts = [check_int("contexts", tokens, 2, LONGEST) for tokens in self.contexts]
        names = [check_choice("mechanisms", name, TIMED) for name in self.mechanisms]
        cores = len(os.sched_getaffinity(0))
        plain = {
            "contexts": tuple(sorted(set(contexts))),
            "mechanisms": tuple(dict.fromkeys(names)),
            "batch": check_int("batch", self.batch, 1, 1024),
            "repeats": check_int("repeats", self.repeats, 3, 1000),
            "threads": cores if self.threads is None else self.threads,
            "dtype": str(self.dtype).removeprefix("torch."),
            "layer": layer_geometry(self.geometry),
        }
        parse_dtype(plain["dtype"])
        check_int("threads", plain["threads"], 1, 1024)
        vars(self).update(plain)

    def geometry_of(self, mechanism: str) -> AttentionGeometry:
        """The layer that a mechanism runs: MLA's own, or plain heads of the same number and width.

        Worked: mha beside DeepSeek-V3 has 128 heads of 128, which keep 32,768 values a token.
        """
        g: MLAGeometry = vars(self)["layer"]
        kv_heads = MECHANISMS[mechanism].kv_heads
        if kv_heads is None:
            return g
        return GQAGeometry(g.d_model, g.n_heads, kv_heads(g.n_heads), g.v_head_dim)

    @property
    def memory_bytes(self) -> int:
        """Main memory that the longest context takes at most, all mechanisms beside each other."""
        tokens, elem = self.batch * max(self.contexts), parse_dtype(self.dtype).itemsize
        g = self.geometry_of("mla_absorbed")
        expanded = cache_elems("mla_expanded", g) * tokens * elem
        sizes = [self._mechanism_bytes(name, tokens, elem) for name in self.mechanisms]
        roofline = ROOFLINE_BYTES + 2 * tokens * (g.kv_lora_rank + g.qk_rope_head_dim) * elem
        scores = 6 * g.n_heads * tokens * max(4, elem)
        peers = attention_params(g) * 3 * elem + 4 * expanded if self.with_peers else 0
        return PROCESS_BYTES + sum(sizes) + roofline + scores + peers

    def _mechanism_bytes(self, mechanism: str, tokens: int, elem: int) -> int:
        """Weights drawn and cast, and a cache that has grown by doubling."""
        g = self.geometry_of(mechanism)
        size = attention_params(g) * (4 + elem) + 3 * tokens * cache_elems(mechanism, g) * elem
        if mechanism == "mla_reexpand":
            size += 3 * tokens * cache_elems("mla_expanded", g) * elem
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
