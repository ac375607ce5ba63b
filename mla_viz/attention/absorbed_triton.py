"""Absorbed decode as one Triton kernel that reads each latent once, for its score and its value.

Tokens are divided over programs, each with a softmax of its own that goes on from block to block;
a second kernel joins them. Imported only where Triton is; under its interpreter on the CPU too.
Knows no mechanism and no cache.
"""

from math import e, log2
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from triton import next_power_of_2

GRAIN = 64  # tokens: what a program is given is a multiple of it
EDGE = 4  # blocks of tokens that a program could read while it begins and ends
INTERPRETED = triton.knobs.runtime.interpret
NONE = tl.constexpr(-1e30)  # below any score, and finite
LN2 = tl.constexpr(0.6931471805599453)

# The first two fill the shared memory of a Hopper device with 64 heads, the others smaller ones.
TILES = [
    triton.Config({"BLOCK_T": tokens}, num_warps=warps, num_stages=stages)
    for tokens, warps, stages in ((64, 8, 2), (32, 8, 4), (32, 8, 2), (32, 4, 3), (16, 8, 2))
]


@no_type_check
@triton.jit
def attend_split(
    q,
    rows,
    lengths,
    out,
    lse,
    scale,
    total,
    chunk,
    heads,
    q_batch,
    q_head,
    q_width,
    rows_batch,
    rows_token,
    rows_width,
    LATENT: tl.constexpr,
    ROPE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_T: tl.constexpr,
    LONG: tl.constexpr,  # noqa: ARG001 - tiles are chosen by it
    WIDE: tl.constexpr,
):
    """Some heads of a sequence over `chunk` of its tokens: softmax(q k^T) c and log-sum-exp.

    `scale` holds log2(e) too, for a softmax in base 2. Behind the branch, the compiler no longer
    sees that one product feeds the other, and divides both over all warps.
    """
    head = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)
    split, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    first = split * chunk
    length = total if lengths is None else tl.minimum(tl.load(lengths + batch), total)
    if (first >= length) & (split > 0):
        return
    count = tl.minimum(chunk, length - first)
    c, r, t = tl.arange(0, BLOCK_C)[None], tl.arange(0, BLOCK_R)[None], tl.arange(0, BLOCK_T)
    is_head, is_c, is_r = head[:, None] < heads, c < LATENT, r < ROPE
    q += batch * q_batch + head[:, None] * q_head
    q_latent = tl.load(q + c * q_width, mask=is_head & is_c, other=0.0)
    q_rope = tl.load(q + (LATENT + r) * q_width, mask=is_head & is_r, other=0.0)
    if WIDE:
        q_latent, q_rope = q_latent.to(tl.float32), q_rope.to(tl.float32)
    rows += batch * rows_batch + first.to(tl.int64) * rows_token
    largest = tl.full([BLOCK_H], NONE, tl.float32)
    total_p = tl.zeros([BLOCK_H], tl.float32)
    mixed = tl.zeros([BLOCK_H, BLOCK_C], tl.float32)
    for start in range(0, count, BLOCK_T):
        is_token = (start + t)[:, None] < count
        row = rows + (start + t)[:, None] * rows_token
        c_kv = tl.load(row + c * rows_width, mask=is_token & is_c, other=0.0)
        k_rope = tl.load(row + (LATENT + r) * rows_width, mask=is_token & is_r, other=0.0)
        if WIDE:
            c_kv, k_rope = c_kv.to(tl.float32), k_rope.to(tl.float32)
        content = tl.dot(q_latent, c_kv.T, input_precision="ieee")
        turned = tl.dot(q_rope, k_rope.T, input_precision="ieee")
        if start + BLOCK_T > count:
            scores = tl.where((start + t)[None] < count, content + turned, float("-inf"))
        else:
            scores = content + turned
        larger = tl.maximum(largest, tl.max(scores, 1) * scale)
        p = tl.exp2(scores * scale - larger[:, None])
        shrink = tl.exp2(largest - larger)
        total_p = total_p * shrink + tl.sum(p, 1)
        mixed *= shrink[:, None]
        mixed = tl.dot(p.to(c_kv.dtype), c_kv, mixed, input_precision="ieee")
        largest = larger
    place = (batch * tl.num_programs(1) + split) * heads + head
    mixed /= tl.maximum(total_p, 1.0)[:, None]
    tl.store(out + place[:, None] * LATENT + c, mixed, mask=is_head & is_c)
    tl.store(lse + place, (largest + tl.log2(total_p)) * LN2, mask=head < heads)


@no_type_check
@triton.jit
def join_splits(
    parts,
    parts_lse,
    lengths,
    out,
    lse,
    total,
    chunk,
    heads,
    splits,
    LATENT: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """One head of a sequence: its parts, each as heavy as its share of the sum of exponentials."""
    head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    length = total if lengths is None else tl.minimum(tl.load(lengths + batch), total)
    used = tl.cdiv(length, chunk)
    first = batch * splits * heads + head
    split, c = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_C)
    each = tl.load(parts_lse + first + split * heads, mask=split < used, other=float("-inf"))
    largest = tl.maximum(tl.max(each, 0), NONE)
    sum_exp = tl.sum(tl.exp(each - largest), 0)
    mixed = tl.zeros([BLOCK_C], tl.float32)
    for i in range(used):
        place = first + i * heads
        part = tl.load(parts + place * LATENT + c, mask=c < LATENT, other=0.0)
        mixed += part * tl.exp(tl.load(parts_lse + place) - largest)
    place = batch * heads + head
    tl.store(out + place * LATENT + c, mixed / tl.maximum(sum_exp, 1.0), mask=c < LATENT)
    tl.store(lse + place, largest + tl.log(sum_exp))


if INTERPRETED:  # nothing is timed
    _tuned, TILE = attend_split, TILES[1].kwargs
else:
    _tuned, TILE = triton.autotune(TILES, key=["heads", "LATENT", "ROPE", "LONG"])(attend_split), {}


def decode(
    q: Float[Tensor, "batch n_heads both"],
    rows: Float[Tensor, "batch total both"],
    kv_lora_rank: int,
    scale: float,
    lengths: Int[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch n_heads kv_lora_rank"], Float[Tensor, "batch n_heads"]]:
    """Softmax(q rows^T scale) c of every head, and log sum exp of its scores in float32.

    Args:
        q: one query a head, [q_latent | q_rope].
        rows: [c_kv | k_rope] of every token, of any strides; `c_kv` are the values too.
        kv_lora_rank: how wide `c_kv` is.
        scale: of the scores.
        lengths: int32 tokens of each sequence, all of them without; what is behind is never read.

    A sequence without tokens leaves zeros, and -inf.

    Source: Flash-Decoding (Dao et al. 2023), on the softmax of Milakov and Gimelshein (2018).
    """
    (batch, heads, both), total = q.shape, rows.shape[1]
    block_h = 16 if q.dtype == torch.float32 else min(64, max(16, next_power_of_2(heads)))
    groups = triton.cdiv(heads, block_h)
    chunk = tokens_each(total, groups * batch, slots(q.device))
    splits = triton.cdiv(total, chunk)
    # Half precision is stored by the kernel on a device alone: the interpreter would cut it off.
    made = torch.float32 if INTERPRETED else q.dtype
    out = q.new_empty(batch, heads, kv_lora_rank, dtype=made)
    lse = q.new_empty(batch, heads, dtype=torch.float32)
    parts = out, lse
    if splits > 1:
        parts = [x.new_empty(batch, splits, *x.shape[1:], dtype=torch.float32) for x in parts]
    latent = {"LATENT": kv_lora_rank, "BLOCK_C": max(16, next_power_of_2(kv_lora_rank))}
    with torch.cuda.device_of(q):
        _tuned[groups, splits, batch](
            q,
            rows,
            lengths,
            *parts,
            scale * log2(e),
            total,
            chunk,
            heads,
            *(*q.stride(), *rows.stride()),
            **latent,
            ROPE=both - kv_lora_rank,
            BLOCK_R=max(16, next_power_of_2(both - kv_lora_rank)),
            BLOCK_H=block_h,
            LONG=chunk >= 16 * GRAIN,
            WIDE=INTERPRETED and q.dtype == torch.bfloat16,
            **TILE,
        )
        if splits > 1:
            many = {"splits": splits, "BLOCK_S": next_power_of_2(splits)}
            sizes = total, chunk, heads
            join_splits[heads, batch](*parts, lengths, out, lse, *sizes, **latent, **many)
    return out.to(q.dtype), lse


def slots(device: torch.device) -> int:
    """How many programs run at a time: one on each multiprocessor, whose memory it fills."""
    if device.type != "cuda":
        return 8
    return torch.cuda.get_device_properties(device).multi_processor_count


def tokens_each(total: int, groups: int, slots: int) -> int:
    """How many tokens of a sequence a program is given, so that all end soonest together.

    `groups` programs share the tokens that each reads, `slots` run at a time.

    Worked: 128 groups on 132 slots read whole sequences, 16 an eighth each.
    """
    blocks = triton.cdiv(total, GRAIN)

    def time(splits: int) -> int:
        return triton.cdiv(groups * splits, slots) * (triton.cdiv(blocks, splits) + EDGE)

    most = min(blocks, triton.cdiv(4 * slots, groups))
    return GRAIN * triton.cdiv(blocks, min(range(1, most + 1), key=time))
