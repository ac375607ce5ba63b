"""What others do with the same layer: transformers' module, the paper's einsums, kernels.

vLLM's is for processors, FlashInfer's for CUDA devices.

Each is timed in turn with the mechanism that it stands beside.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mla_viz.bench.settings import BenchSettings
from mla_viz.bench.steps import Layer, random_layer
from mla_viz.bench.timing import Work
from mla_viz.model.device import parse_dtype

EINSUM, TRANSFORMERS = "einsum, two caches", "transformers DeepseekV3Attention"
WIDTHS = 512, 64  # of latent and RoPE key, which both kernels are made for
VLLM, VLLM_BLOCK = "vLLM mla_decode_kvcache", 16
FLASHINFER, FLASHINFER_PAGE, WORKSPACE = "FlashInfer BatchMLAPagedAttentionWrapper", 64, 128 << 20


def peers(s: BenchSettings, context: int) -> Iterator[tuple[str, str, Work, Work]]:
    """Name, part, its work, and that of `mla_absorbed` beside it."""
    weights = random_layer(s.geometry_of("mla_absorbed"), s.dtype)
    ours = Layer(s, "mla_absorbed", weights).over(context)
    yield EINSUM, "core", einsum_core(s, context), ours["core"]
    if vllm := vllm_core(s, context):
        yield VLLM, "core", vllm, ours["core"]
    if flashinfer := flashinfer_core(s, context):
        yield FLASHINFER, "core", flashinfer, ours["core"]
    if find_spec("transformers"):
        yield TRANSFORMERS, "layer", transformers_step(s, context), ours["layer"]


def einsum_core(s: BenchSettings, context: int) -> Work:
    """`absorbed_by_einsum` of random queries over two caches of random rows."""
    g, dtype = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype)
    widths = g.kv_lora_rank, g.qk_rope_head_dim
    queries = [torch.randn(s.batch, 1, g.n_heads, width).to(dtype) for width in widths]
    cached = [torch.randn(s.batch, context, width).to(dtype) for width in widths]
    return lambda: absorbed_by_einsum(*queries, *cached, g.softmax_scale)


def absorbed_by_einsum(
    q_latent: Float[Tensor, "batch seq n_heads kv_lora_rank"],
    q_rope: Float[Tensor, "batch seq n_heads qk_rope"],
    c_kv: Float[Tensor, "batch total kv_lora_rank"],
    k_rope: Float[Tensor, "batch total qk_rope"],
    scale: float,
) -> Float[Tensor, "batch seq n_heads kv_lora_rank"]:
    """Latents and rope keys scored apart, each product an einsum, softmax in float32.

    Source: deepseek-ai/DeepSeek-V3, inference/model.py, MLA.forward where it absorbs.
    """
    content = torch.einsum("bshc,btc->bsht", q_latent, c_kv)
    scores = (content + torch.einsum("bshr,btr->bsht", q_rope, k_rope)) * scale
    probs = scores.softmax(-1, dtype=torch.float32).to(c_kv.dtype)
    return torch.einsum("bsht,btc->bshc", probs, c_kv)


def vllm_core(s: BenchSettings, context: int) -> Work | None:
    """vLLM's kernel for processors over blocks of random rows; None where it does not run.

    Its library is loaded by itself: all of vLLM takes seconds to import, and is not needed.
    """
    g, dtype, found = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype), find_spec("vllm")
    places = (found and found.submodule_search_locations) or ()
    library = next((Path(place) / "_C.abi3.so" for place in places), None)
    fits = (g.kv_lora_rank, g.qk_rope_head_dim) == WIDTHS and not s.on_cuda
    if library is None or not library.exists() or not fits:
        return None
    torch.ops.load_library(library)
    latent, rope = WIDTHS
    blocks = torch.arange(s.batch * -(-context // VLLM_BLOCK), dtype=torch.int32).view(s.batch, -1)
    rows = torch.randn(blocks.numel(), VLLM_BLOCK, latent + rope).to(dtype)
    q = torch.randn(s.batch, g.n_heads, latent + rope).to(dtype)
    out, lengths = q.new_empty(*q.shape[:-1], latent), blocks.new_full((s.batch,), context)

    def work() -> Tensor:
        torch.ops._C.mla_decode_kvcache(out, q, rows, g.softmax_scale, blocks, lengths)
        return out

    return work


def flashinfer_core(s: BenchSettings, context: int) -> Work | None:
    """FlashInfer's kernel over pages of random rows; None where it does not run."""
    g, dtype = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype)
    fits = (g.kv_lora_rank, g.qk_rope_head_dim) == WIDTHS and dtype.itemsize == 2
    if not (fits and s.on_cuda and find_spec("flashinfer")):
        return None
    from flashinfer.mla import BatchMLAPagedAttentionWrapper

    each = -(-context // FLASHINFER_PAGE)  # pages of a sequence
    firsts, pages = torch.arange(s.batch + 1).int(), torch.arange(s.batch * each).int()
    lengths = torch.full((s.batch,), context).int()
    kernel = BatchMLAPagedAttentionWrapper(torch.empty(WORKSPACE, dtype=torch.int8))
    kernel.plan(
        *(firsts, firsts * each, pages, lengths),
        *(g.n_heads, *WIDTHS, FLASHINFER_PAGE),
        *(False, g.softmax_scale, dtype, dtype),
    )
    q = [torch.randn(s.batch, g.n_heads, width).to(dtype) for width in WIDTHS]
    rows = [torch.randn(len(pages), FLASHINFER_PAGE, width).to(dtype) for width in WIDTHS]
    return lambda: kernel.run(*q, *rows)


def transformers_step(s: BenchSettings, context: int) -> Work:
    """Its layer and its growing cache, filled with rows of the shapes that it keeps itself."""
    from transformers import DynamicCache
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
        DeepseekV3Attention,
        DeepseekV3Config,
        DeepseekV3RotaryEmbedding,
    )

    g, dtype = s.geometry_of("mla_absorbed"), parse_dtype(s.dtype)
    config = DeepseekV3Config(
        hidden_size=g.d_model,
        num_attention_heads=g.n_heads,
        num_key_value_heads=g.n_heads,
        num_hidden_layers=1,
        q_lora_rank=g.q_lora_rank,
        kv_lora_rank=g.kv_lora_rank,
        qk_nope_head_dim=g.qk_nope_head_dim,
        qk_rope_head_dim=g.qk_rope_head_dim,
        v_head_dim=g.v_head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": g.rope_theta},
        max_position_embeddings=context,
        attn_implementation="sdpa",
    )
    layer = DeepseekV3Attention(config, 0).to(dtype).eval()
    x, pos = torch.randn(s.batch, 1, g.d_model).to(dtype), torch.tensor([[context - 1]])
    angles, cache = DeepseekV3RotaryEmbedding(config)(x, pos), DynamicCache()
    feed = {"hidden_states": x, "position_embeddings": angles, "attention_mask": None}
    layer(**feed, past_key_values=cache)
    kept = cache.layers[0]
    full = [
        torch.randn(*rows.shape[:-2], context - 1, rows.shape[-1]).to(dtype)
        for rows in (kept.keys, kept.values)
    ]

    def work() -> Tensor:
        kept.keys, kept.values = full
        return layer(**feed, past_key_values=cache)[0]

    return work
