"""The layer against transformers' DeepseekV2Attention and DeepseekV3Attention."""

from dataclasses import replace

import pytest
import torch

from mla_viz.attention.implementation import implementation
from mla_viz.attention.ops import PASSING, Watch, rope_angles
from mla_viz.attention.weights import MLAWeights
from mla_viz.config import MLAGeometry

transformers = pytest.importorskip("transformers")

VERSIONS = ("V2", "V3")
Q_RANKS = [None, 24]
PATHS = ("mla_expanded", "mla_reexpand", "mla_absorbed", "mla_merged", "recompute")
SEQ, BATCH, TOLERANCE = 11, 2, 1e-5


def geometry(q_lora_rank):
    return MLAGeometry(64, 4, 16, 8, 12, 32, q_lora_rank)


def hf_classes(version):
    if version == "V2":
        from transformers.models.deepseek_v2 import modeling_deepseek_v2 as module
    else:
        from transformers.models.deepseek_v3 import modeling_deepseek_v3 as module
    kinds = ("Config", "Attention", "RotaryEmbedding")
    return [getattr(module, f"Deepseek{version}{kind}") for kind in kinds]


def hf_config(version, g):
    return hf_classes(version)[0](
        hidden_size=g.d_model,
        num_attention_heads=g.n_heads,
        num_key_value_heads=g.n_heads,
        num_hidden_layers=1,
        first_k_dense_replace=1,
        q_lora_rank=g.q_lora_rank,
        kv_lora_rank=g.kv_lora_rank,
        qk_nope_head_dim=g.qk_nope_head_dim,
        qk_rope_head_dim=g.qk_rope_head_dim,
        v_head_dim=g.v_head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": g.rope_theta},
        attn_implementation="eager",
    )


class HFLayer:
    """One attention layer with random weights of a spread that makes scores matter."""

    def __init__(self, version, g):
        _, attention, rotary = hf_classes(version)
        self.config = hf_config(version, g)
        self.layer, self.rotary = attention(self.config, 0).eval(), rotary(self.config)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.layer.parameters():
            parameter.requires_grad_(False)
            noise = torch.randn(parameter.shape, generator=generator)
            gain = 1 + 0.3 * noise
            matrix = parameter.ndim == 2
            parameter.copy_(1.3 * noise * parameter.shape[-1] ** -0.5 if matrix else gain)
        self.x = torch.randn(BATCH, SEQ, g.d_model, generator=generator)

    def feed(self, first, stop, cache=None):
        x = self.x[:, first:stop]
        positions = self.rotary(x, torch.arange(first, stop)[None])
        mask = torch.full((stop - first, stop), -torch.inf).triu(first + 1)[None, None]
        return self.layer(
            hidden_states=x,
            position_embeddings=positions,
            attention_mask=mask,
            past_key_values=cache,
        )[0]


def our_weights(layer, g):
    matrices = {name: p.mT if p.ndim == 2 else p for name, p in layer.named_parameters()}
    widths = [g.qk_nope_head_dim, g.qk_rope_head_dim]
    query = matrices["q_proj.weight" if g.q_lora_rank is None else "q_b_proj.weight"]
    W_UQ, W_QR = per_head(query, g).split(widths, -1)  # noqa: N806
    expansion = per_head(matrices["kv_b_proj.weight"], g)
    W_UK, W_UV = expansion.split([g.qk_nope_head_dim, g.v_head_dim], -1)  # noqa: N806
    down = matrices["kv_a_proj_with_mqa.weight"]
    W_DKV, W_KR = down.split([g.kv_lora_rank, g.qk_rope_head_dim], -1)  # noqa: N806
    return MLAWeights(
        geometry=g,
        W_DQ=matrices.get("q_a_proj.weight"),
        q_norm=matrices.get("q_a_layernorm.weight"),
        W_UQ=W_UQ,
        W_QR=W_QR,
        W_DKV=W_DKV,
        kv_norm=matrices["kv_a_layernorm.weight"],
        W_KR=W_KR,
        W_UK=W_UK,
        W_UV=W_UV,
        W_O=matrices["o_proj.weight"].unflatten(0, (g.n_heads, -1)),
    )


def per_head(matrix, g):
    return matrix.unflatten(-1, (g.n_heads, -1)).transpose(0, 1)


class OurLayer:
    """The same layer run by one of our mechanisms."""

    def __init__(self, mechanism, weights):
        self.row, g = implementation(mechanism), weights.geometry
        self.weights = self.row.prepare(weights)
        self.cache = self.row.new_cache(self.weights, (BATCH,))
        self.rope = rope_angles(torch.arange(SEQ), g.qk_rope_head_dim, g.rope_theta, torch.float32)

    def feed(self, x, first, stop):
        if self.row.whole_prefix:
            first = 0
        rope = self.rope[first:stop]
        return self.row.attend(self.weights, self.cache, x[:, first:stop], rope, Watch(*PASSING))


def gap(ours, reference):
    return ((ours - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("mechanism", PATHS)
@pytest.mark.parametrize("q_lora_rank", Q_RANKS)
@pytest.mark.parametrize("version", VERSIONS)
def test_layer_output_all_at_once(version, q_lora_rank, mechanism):
    g = geometry(q_lora_rank)
    theirs = HFLayer(version, g)
    ours = OurLayer(mechanism, our_weights(theirs.layer, g)).feed(theirs.x, 0, SEQ)
    assert ours.seen["scores"].std() >= 1
    assert gap(ours.out, theirs.feed(0, SEQ)) < TOLERANCE


@pytest.mark.parametrize("mechanism", PATHS)
@pytest.mark.parametrize("q_lora_rank", Q_RANKS)
@pytest.mark.parametrize("version", VERSIONS)
def test_layer_output_step_by_step(version, q_lora_rank, mechanism):
    g = geometry(q_lora_rank)
    theirs = HFLayer(version, g)
    hf_cache = transformers.DynamicCache(config=theirs.config)
    ours = OurLayer(mechanism, our_weights(theirs.layer, g))
    for pos in range(SEQ):
        out = ours.feed(theirs.x, pos, pos + 1).out[:, -1:]
        assert gap(out, theirs.feed(pos, pos + 1, hf_cache)) < TOLERANCE


@pytest.mark.parametrize("mechanism", ["mla_reexpand", "mla_absorbed", "mla_merged"])
@pytest.mark.parametrize("version", VERSIONS)
def test_cached_latent_and_shared_key(version, mechanism):
    g = geometry(24)
    theirs = HFLayer(version, g)
    hf_cache = transformers.DynamicCache(config=theirs.config)
    theirs.feed(0, SEQ, hf_cache)
    ours = OurLayer(mechanism, our_weights(theirs.layer, g))
    ours.feed(theirs.x, 0, SEQ)
    k_rope = ours.cache.k_rope
    if version == "V3":  # stored as evens, then odds
        k_rope = torch.cat([k_rope[..., 0::2], k_rope[..., 1::2]], -1)
    stored = hf_cache.layers[0]
    assert gap(ours.cache.c_kv, stored.keys[:, 0]) < TOLERANCE
    assert gap(k_rope, stored.values[:, 0]) < TOLERANCE


def wrong_scale(weights):
    g = weights.geometry
    wrong = (g.kv_lora_rank + g.qk_rope_head_dim) ** -0.5
    return replace(weights, geometry=replace(g, softmax_scale_override=wrong))


def scale_without_rope_dims(weights):
    g = weights.geometry
    return replace(weights, geometry=replace(g, softmax_scale_override=g.qk_nope_head_dim**-0.5))


def no_rope(weights):
    return replace(weights, geometry=replace(weights.geometry, rope_theta=1e300))


def values_before_keys(weights):
    both = torch.cat([weights.W_UK, weights.W_UV], -1).transpose(0, 1).flatten(-2)
    g = weights.geometry
    keys, values = both.split([g.n_heads * g.qk_nope_head_dim, g.n_heads * g.v_head_dim], -1)
    return replace(weights, W_UK=per_head(keys, g), W_UV=per_head(values, g))


def gains_forgotten(weights):
    return replace(weights, kv_norm=torch.ones_like(weights.kv_norm))


@pytest.mark.parametrize(
    "spoil",
    [wrong_scale, scale_without_rope_dims, no_rope, values_before_keys, gains_forgotten],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_oracle_sees_a_spoiled_layer_by_far(version, spoil):
    g = geometry(24)
    theirs = HFLayer(version, g)
    ours = OurLayer("mla_absorbed", spoil(our_weights(theirs.layer, g)))
    assert gap(ours.feed(theirs.x, 0, SEQ).out, theirs.feed(0, SEQ)) > 1000 * TOLERANCE
