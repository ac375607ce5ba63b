"""What several test files share: one thread, one hypothesis profile, a tiny trained model."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from mla_viz.config import MLAGeometry, ModelGeometry
from mla_viz.model import weights
from train.model import TrainableModel

settings.register_profile("house", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("house")
torch.set_num_threads(1)

SHIPPED = weights.DATA / f"{weights.TRAINED}.safetensors"
TINY = ModelGeometry(
    name="tiny",
    attention=MLAGeometry(
        d_model=32,
        n_heads=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
        kv_lora_rank=64,
        rope_theta=1000.0,
    ),
    n_layers=2,
    d_ff=48,
    vocab_size=2048,
    context=24,
)


@pytest.fixture
def shipped():
    if not SHIPPED.exists():
        pytest.skip(f"{SHIPPED.name} is not there yet")


@pytest.fixture
def tiny_trained(tmp_path, monkeypatch):
    torch.manual_seed(7)
    model = TrainableModel(TINY)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(0.3 * torch.randn_like(parameter))
            if name == "embedding":
                parameter.mul_(8)
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    file = tmp_path / f"{weights.TRAINED}.safetensors"
    save_file(tensors, file, metadata={"geometry": json.dumps(asdict(TINY))})
    monkeypatch.setattr(weights, "DATA", tmp_path)
    weights._tensors.cache_clear()
    yield model
    weights._tensors.cache_clear()
