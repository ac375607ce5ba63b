"""Settings: what a source of weights gives by itself, what it refuses, and the geometry it runs."""

import json
import pickle
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from mla_viz.config import GQAGeometry, MLAGeometry, ModelGeometry
from mla_viz.model import weights
from mla_viz.model.sources import find_source, source_names
from mla_viz.run.decode import decode
from mla_viz.run.settings import Settings
from mla_viz.shipped import member_weights

pytestmark = pytest.mark.usefixtures("small_family", "tiny_trained")


def geometry(settings, mechanism):
    return replace(settings, left=mechanism).side("left").geometry


def test_the_defaults_are_those_of_the_first_view():
    assert {field.name: getattr(Settings(), field.name) for field in fields(Settings)} == {
        "prompt": "Once upon a time there was a little fox who",
        "source": "trained",
        "heads": 8,
        "latent": 32,
        "qk_nope_head_dim": None,
        "qk_rope_head_dim": None,
        "v_head_dim": None,
        "q_lora_rank": None,
        "layers": None,
        "ranks": "each",
        "left": "mla_expanded",
        "right": "mla_absorbed",
        "max_new_tokens": 48,
        "temperature": 0.7,
        "top_k": 40,
        "seed": 0,
        "dtype": "float32",
        "device": "auto",
        "cache_dtype": None,
    }


@pytest.mark.parametrize(
    ("source", "heads", "latent", "left", "right"),
    [
        ("trained", 8, 32, "mla_expanded", "mla_absorbed"),
        ("synthetic", 8, 32, "mla_expanded", "mla_absorbed"),
        ("mla-8", 4, 8, "mla_expanded", "mla_absorbed"),
        ("mha", 4, None, "mha", "mha"),
        ("gqa-2", 4, None, "gqa", "gqa"),
        ("mqa", 4, None, "mqa", "mqa"),
    ],
)
def test_a_source_gives_what_is_not_asked_for(source, heads, latent, left, right):
    starts = {"heads": heads, "latent": latent, "left": left, "right": right}
    assert find_source(source).start == starts
    s = Settings(source=source)
    assert {name: getattr(s, name) for name in starts} == starts
    assert Settings(source=source, left="recompute", heads=3).left == "recompute"
    assert Settings(source=source, left="recompute", heads=3).heads == 3


def test_sources_stand_in_the_order_of_the_page():
    assert source_names() == ("trained", "mha", "gqa-2", "mqa", "mla-8", "synthetic")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": " \n"}, "prompt: expected some text, got nothing"),
        ({"source": "gpt"}, "source: expected one of trained, mha, gqa-2, mqa, mla-8, synthetic"),
        ({"left": "magic"}, "left: expected one of mla_expanded"),
        ({"right": "magic"}, "right: expected one of mla_expanded"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected a whole number from 1 to 8192, got 0"),
        ({"max_new_tokens": 8193}, "max_new_tokens: expected a whole number from 1 to 8192"),
        ({"top_k": -1}, "top_k: expected a whole number from 0 to 2048, got -1"),
        ({"top_k": 2049}, "top_k: expected a whole number from 0 to 2048"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 9223372036854775807, got -1"),
        ({"temperature": -0.1}, "temperature: expected a number from 0 to 100, got -0.1"),
        ({"temperature": 100.1}, "temperature: expected a number from 0 to 100, got 100.1"),
        ({"temperature": float("inf")}, "temperature: expected a number from 0 to 100, got inf"),
        ({"dtype": "float8"}, "dtype: expected one of float64"),
        ({"device": "abacus"}, "device: expected one of auto, cpu"),
        ({"cache_dtype": "float16"}, "cache_dtype: expected one of int8, fp8, int4, int8_all"),
        ({"cache_dtype": ""}, "cache_dtype: expected one of int8, fp8, int4, int8_all"),
    ],
)
def test_a_field_that_is_not_legal_is_named(changes, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        Settings(**changes)


TEXTS = ("prompt", "source", "left", "right", "dtype", "device", "cache_dtype")
LONG = 10**5000  # Python itself refuses to write so long a number


def wrong_types(field):
    if field in TEXTS:
        return [5, b"text", ["mha"], np.zeros(2), object(), "lone \ud800"]
    return ["8", True, [8], np.ones(2), np.array(1), 1j, None, LONG, object()]


@pytest.mark.parametrize("field", [field.name for field in fields(Settings)])
@pytest.mark.usefixtures("untyped")
def test_a_wrong_type_is_one_line_that_names_the_field(field):
    optional = getattr(Settings, field) is None
    for value in wrong_types(field) + [1.5] * (field not in (*TEXTS, "temperature")):
        if not (optional and value is None):
            with pytest.raises(ValueError, match=f"^{field}: expected") as refusal:
                Settings(**{"source": "synthetic", field: value}).side("left")
            assert "\n" not in str(refusal.value)
            assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "device",
    ["", " cpu", "CPU", "cpu:", "cpu:1", "cpu:999", "cuda:", "cuda:-1", "cuda:999", "cuda:²"]
    + ["cuda:٣", "cuda:00", "meta", "mps", torch.device("cpu", 3), torch.device("meta"), 0, None],
)
@pytest.mark.usefixtures("untyped")
def test_a_device_that_is_not_there_is_refused(device):
    for one in (device, "cuda") if not torch.cuda.is_available() else (device,):
        with pytest.raises(ValueError, match="^device: expected one of auto, cpu.*, got"):
            Settings(device=one)


@pytest.mark.usefixtures("untyped")
def test_the_numbers_of_numpy_and_the_names_of_torch_are_kept_plain():
    whole = {"heads": 3, "latent": 7, "max_new_tokens": 5, "top_k": 9, "seed": 11}
    for kind in (np.int8, np.uint16, np.int64):
        s = Settings(
            np.str_("Hi"),
            **{name: kind(value) for name, value in whole.items()},
            temperature=np.float32(0.5),
            dtype=torch.float64,
            device=torch.device("cpu"),
        )
        plain = Settings("Hi", **whole, temperature=0.5, dtype="float64", device="cpu")
        assert s == plain
        assert hash(s) == hash(plain)
        assert [type(v) for v in vars(s).values()] == [type(v) for v in vars(plain).values()]
        json.dumps(s.side("left").geometry.describe())


@pytest.mark.usefixtures("untyped")
def test_decode_takes_a_text_or_settings_and_a_function():
    for value in (5, None, b"text", ["Hi"], Settings):
        with pytest.raises(ValueError, match="^prompt: expected some text, got"):
            decode(value)
    for value in (5, "print"):
        with pytest.raises(ValueError, match="^on_step: expected a function, got"):
            decode("Hi", on_step=value)


def test_settings_and_models_cross_to_another_process():
    s = Settings(heads=3, latent=7)
    for record in (s, s.side("left")):
        assert pickle.loads(pickle.dumps(record)) == record


def test_the_ends_of_every_range_are_legal():
    Settings(max_new_tokens=1, top_k=0, seed=0, temperature=0.0)
    Settings(max_new_tokens=8192, top_k=2048, seed=2**63 - 1, temperature=100.0)


# What the weights of each source have: the model of the sliders, an MLA member, an MHA member.
OWN = {
    "trained": {
        "qk_nope_head_dim": 6,
        "qk_rope_head_dim": 4,
        "v_head_dim": 5,
        "layers": 2,
        "q_lora_rank": "none",
    },
    "mla-8": {
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "layers": 2,
        "heads": 4,
        "latent": 8,
        "q_lora_rank": "none",
    },
    "mha": {
        "qk_nope_head_dim": "none",
        "qk_rope_head_dim": "none",
        "v_head_dim": "none",
        "layers": 2,
        "heads": 4,
        "latent": "none",
        "q_lora_rank": "none",
    },
}
SPELT = {"heads": "n_heads", "latent": "kv_lora_rank", "layers": "n_layers"}


@pytest.mark.parametrize(
    ("source", "field", "own"),
    [(source, field, own) for source, dims in OWN.items() for field, own in dims.items()],
)
def test_trained_weights_refuse_every_dim_that_they_have_not(source, field, own):
    other = 2 if own == "none" else own + 2
    s = Settings(source=source, **{field: other})
    words = f"^{SPELT.get(field, field)}: expected {own} for the trained model, got {other} "
    with pytest.raises(ValueError, match=words):
        s.side("left")
    if own != "none":
        same = Settings(source=source, **{field: own})
        assert same.side("left") == Settings(source=source).side("left")


def test_the_model_of_the_sliders_follows_them():
    g = geometry(Settings(heads=3, latent=7), "mla_reexpand")
    attention = MLAGeometry(32, 3, 6, 4, 5, 7, rope_theta=1000.0)
    assert (g.attention, g.n_layers, g.context) == (attention, 2, 24)


@pytest.mark.parametrize("mechanism", ["mla_expanded", "mla_merged", "recompute"])
def test_random_weights_take_any_geometry(mechanism):
    dims = {"qk_nope_head_dim": 10, "qk_rope_head_dim": 0, "v_head_dim": 14, "q_lora_rank": 20}
    s = Settings(source="synthetic", heads=6, latent=25, layers=3, **dims)
    attention = MLAGeometry(128, 6, 10, 0, 14, 25, 20)
    expected = ModelGeometry("synthetic", attention, 3, 256, 2048, 8192)
    assert geometry(s, mechanism) == expected


@pytest.mark.parametrize(("mechanism", "kv"), [("mha", 6), ("gqa", 2), ("mqa", 1)])
def test_random_weights_of_their_own_have_as_many_heads_of_the_values_width(mechanism, kv):
    s = Settings(source="synthetic", heads=6, v_head_dim=14, layers=3)
    expected = ModelGeometry("synthetic", GQAGeometry(128, 6, kv, 14), 3, 256, 2048, 8192)
    assert geometry(s, mechanism) == expected


def test_random_weights_start_like_the_trained_ones():
    attention = MLAGeometry(128, 8, 32, 16, 32, 32)
    s = Settings(source="synthetic")
    assert geometry(s, "mla_absorbed") == ModelGeometry("synthetic", attention, 5, 256, 2048, 8192)


def test_own_weights_beside_trained_ones_are_members_of_the_family():
    for source in ("trained", "mla-8", "mha"):
        s = Settings(source=source)
        named = [geometry(s, mechanism).name for mechanism in ("mha", "gqa", "mqa")]
        assert named == ["mha", "gqa-2", "mqa"]
    assert geometry(Settings(heads=3), "mha").attention.n_heads == 4  # the sliders move MLA


def test_a_side_whose_weights_are_not_there_is_named():
    for side in ("left", "right"):
        s = Settings(source="mha", **{side: "mla_absorbed"})
        words = f"^{side}: expected mha, gqa, mqa with source mha, .* got 'mla_absorbed'"
        with pytest.raises(ValueError, match=words):
            s.side(side)
    member_weights("gqa-2").unlink()
    for side in ("left", "right"):
        s = Settings(**{side: "gqa"})
        words = f"^{side}: expected a mechanism whose trained weights are there, got 'gqa'"
        with pytest.raises(ValueError, match=words):
            s.side(side)


def test_a_source_is_told_without_its_weights_being_read(monkeypatch):
    @cache
    def never(_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(weights, "_tensors", never)
    for name in source_names():
        source = find_source(name)
        assert source.label
        assert Settings(source=name).side("left").geometry.n_layers in (2, 5)
