"""What several test files share: one thread, one hypothesis profile, a tiny trained model."""

import json
import os
from dataclasses import asdict
from itertools import cycle

import jaxtyping
import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from mla_viz import shipped as shipped_module
from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.findings import museum
from mla_viz.findings.claims import judge
from mla_viz.findings.cuts import load_cuts
from mla_viz.findings.family import load_family
from mla_viz.findings.measured import shipped_benches
from mla_viz.findings.quantised import load_quantised
from mla_viz.model import weights
from mla_viz.model.decoupled import components
from mla_viz.model.latent import bases
from mla_viz.model.sources import TRAINED, Shape, find_source
from mla_viz.model.tokenizer import stories_tokenizer
from mla_viz.published.accelerators import accelerators
from mla_viz.published.catalog import published_models
from mla_viz.run.settings import SideModel
from mla_viz.shipped import member_weights
from train.model import TrainableModel

settings.register_profile("house", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("house")
torch.set_num_threads(1)
os.environ["MLA_VIZ_CACHE"] = f"{os.devnull}/none"  # no test finds or keeps what was fetched

SHIPPED = shipped_module.DATA
TOKENIZER = stories_tokenizer()
TINY = ModelGeometry(
    name="stories",
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
    if not (SHIPPED / "stories.safetensors").exists():
        pytest.skip("the trained weights are not there yet")


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """A folder in the place of the shipped data: what is written there hides the shipped file."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in SHIPPED.iterdir():
        if file.name != "family":
            (folder / file.name).symlink_to(file)
    monkeypatch.setattr(shipped_module, "DATA", folder)
    monkeypatch.setattr(shipped_module, "checksums", dict)  # nothing is missed,
    monkeypatch.setattr(shipped_module, "_fault", lambda _: None)  # anything may stand there
    forget()
    yield folder
    forget()


@pytest.fixture
def untyped(monkeypatch):
    """Types are not checked at calls, as outside of tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def trained_weights(heads, latent):
    source = find_source(TRAINED)
    return source.load(source.geometry(Shape(heads, latent), "mla_expanded"), 0)


def forget():
    sources = (find_source, weights.read_geometry, weights._tensors, bases, components)
    results = (load_cuts, load_family, load_quantised, shipped_benches)
    museums = (museum.full_model, museum._with_factor, museum.written, museum._hidden)
    for kept in (*sources, *results, *museums, judge._prose, published_models, accelerators):
        kept.cache_clear()


def save(module, geometry, file):
    tensors = {name: p.detach().contiguous() for name, p in module.named_parameters()}
    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    save_file(tensors, file, metadata={"geometry": json.dumps(asdict(geometry))})


@pytest.fixture
def tiny_trained(data_folder):
    torch.manual_seed(7)
    model = TrainableModel(TINY)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(0.3 * torch.randn_like(parameter))
            if name == "embedding":
                parameter.mul_(8)
    save(model, TINY, data_folder / "stories.safetensors")
    return model


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
        "recall_by_prompt": [0.4, 0.6],
        "content_keys": 0.6,
        "values": 0.4,
    }


@pytest.fixture
def small_family(data_folder):
    """Four small members with random weights; returns the modules they were saved from."""
    modules, records = {}, []
    for name, attention in SMALL_FAMILY.items():
        geometry = ModelGeometry(name, attention, 2, 24, 2048, 64)
        torch.manual_seed(3)
        modules[name] = TrainableModel(geometry)
        save(modules[name], geometry, member_weights(name))
        runs = [seed_score(0, 2.0), seed_score(1, 2.2)]
        records.append({"geometry": asdict(geometry), "lr_scale": 1.0, "runs": runs})
    trials = [
        {"name": name, "lr_scale": 0.5, "seed": seed, "nats_per_token": nats}
        for name, losses in (("mla-8", (3.2, 3.4, 3.6)), ("mha", (3.0, 3.1, 3.2)))
        for seed, nats in enumerate(losses)
    ]
    results = {"tokens": 100, "trial_tokens": 25, "text_tokens": 40}
    results |= {"planned": 5, "stories": 2, "scored_tokens": 50}
    results |= {"members": records, "swapped": records[:1], "trials": trials}
    (data_folder / "family.json").unlink()
    (data_folder / "family.json").write_text(json.dumps(results), encoding="utf-8")
    return modules


@pytest.fixture
def change_weights(monkeypatch):
    """Take functions of weights, one a side in turn, and change what the sides load by them."""
    made = SideModel.load

    def change(*changes):
        turn = cycle(changes)

        def loaded(geometry, seed):
            return next(turn)(made(geometry, seed))

        monkeypatch.setattr(SideModel, "load", loaded)

    return change
