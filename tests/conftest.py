"""What several test files share: one thread, one hypothesis profile, a tiny trained model."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from mla_viz import family
from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.model import weights
from train.model import TrainableModel

settings.register_profile("house", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("house")
torch.set_num_threads(1)

SHIPPED = weights.DATA / f"{weights.TRAINED}.safetensors"
TINY = ModelGeometry(
    name=weights.TRAINED,
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


SMALL_FAMILY = {
    "mha": GQAGeometry(32, 4, 4, 8, 1000.0),
    "gqa-2": GQAGeometry(32, 4, 2, 8, 1000.0),
    "mqa": GQAGeometry(32, 4, 1, 8, 1000.0),
    "mla-8": MLAGeometry(32, 4, 8, 4, 8, 8, rope_theta=1000.0),
}


def seed_score(seed, nats):
    return {
        "seed": seed,
        "nats_per_token": nats,
        "bits_per_byte": nats / 2,
        "repeated": nats - 0.5,
        "novel": nats + 0.5,
        "name_recall": 0.5,
        "keys": 0.6,
        "content_keys": None,
        "values": 0.4,
    }


@pytest.fixture
def small_family(tmp_path, monkeypatch):
    """Four small members with random weights; returns the modules they were saved from."""
    modules, records = {}, []
    for name, attention in SMALL_FAMILY.items():
        geometry = ModelGeometry(name, attention, 2, 24, 2048, 64)
        torch.manual_seed(3)
        module = modules[name] = TrainableModel(geometry)
        tensors = {k: v.detach().contiguous() for k, v in module.state_dict().items()}
        metadata = {"geometry": json.dumps(asdict(geometry))}
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata=metadata)
        runs = [seed_score(0, 2.0), seed_score(1, 2.2)]
        records.append({"geometry": asdict(geometry), "lr_scale": 1.0, "runs": runs})
    trials = [
        {"name": name, "lr_scale": 0.5, "seed": seed, "nats_per_token": nats}
        for name, losses in (("mla-8", (3.2, 3.4, 3.6)), ("mha", (3.0, 3.1, 3.2)))
        for seed, nats in enumerate(losses)
    ]
    results = {"tokens": 100, "trial_tokens": 25, "planned": 5, "stories": 2, "scored_tokens": 50}
    results |= {"members": records, "swapped": records[:1], "trials": trials}
    (tmp_path / "family.json").write_text(json.dumps(results))
    monkeypatch.setattr(family, "FAMILY_FILE", tmp_path / "family.json")
    monkeypatch.setattr(family, "WEIGHTS_FOLDER", tmp_path)
    forget_family()
    yield modules
    forget_family()


def forget_family():
    family.load_family.cache_clear()
    family.shipped_members.cache_clear()
