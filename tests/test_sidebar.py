"""The Decode page's sidebar: what each source offers, what the address says, where a message is."""

from dataclasses import fields, replace

import pytest

from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.model.device import available_devices
from mla_viz.model.sources import find_source, follows, offered_mechanisms
from mla_viz.run.settings import Settings
from mla_viz.shipped import member_weights
from mla_viz.ui.decode.sidebar import Sidebar
from tests.screens import elements, section

pytestmark = pytest.mark.usefixtures("small_family")

OPEN = {"seed": 1}  # what stands under "More" is made where the address names something of it
SAMPLING = {
    "temperature": ("Temperature (0: always the likeliest)", 0.0, 2.0, 0.1, 0.7),
    "top_k": ("Top-k (0: all)", 0, 200, 1, 40),
    "seed": ("Seed", 0, 999, 1, 0),
}
SLIDERS = {
    "trained": {
        "heads": ("Heads", 1, 8, 1, 8),
        "latent": ("Latent dim", 4, 64, 1, 32),
        "max_new_tokens": ("New tokens", 1, 240, 1, 48),
        **SAMPLING,
    },
    "synthetic": {
        "heads": ("Heads", 1, 32, 1, 8),
        "latent": ("Latent dim", 1, 512, 1, 32),
        "max_new_tokens": ("New tokens", 1, 240, 1, 48),
        "qk_nope_head_dim": ("Content dims of a head (qk_nope)", 1, 128, 1, 32),
        "qk_rope_head_dim": ("RoPE dims (qk_rope)", 0, 64, 2, 16),
        "v_head_dim": ("Value dims of a head (v)", 2, 128, 2, 32),
        "q_lora_rank": ("Query latent (q_lora_rank, 0: none)", 0, 512, 1, 0),
        "layers": ("Layers", 1, 12, 1, 5),
        **SAMPLING,
    },
    "mla-8": {"max_new_tokens": ("New tokens", 1, 240, 1, 48), **SAMPLING},
    "mha": {"max_new_tokens": ("New tokens", 1, 240, 1, 48), **SAMPLING},
}


def sidebar(made):
    made.append(Sidebar())


def opened(**query):
    """The sidebar of a page with these values in its address, and the settings that it makes."""
    made = []
    app = section(sidebar, made, **query)
    assert not app.exception
    return app, made


@pytest.mark.parametrize("source", SLIDERS)
def test_each_source_has_its_sliders_their_limits_and_starts(source):
    app, made = opened(source=source, **OPEN)
    found = {s.key: (s.label, s.min, s.max, s.step, s.value) for s in app.slider}
    assert found == SLIDERS[source] | {"seed": ("Seed", 0, 999, 1, 1)}
    starts = {"seed": 1, "source": source}
    if source == "synthetic":
        starts |= {"qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "layers": 5}
    assert made[-1].settings() == Settings(**starts)


MLA_KINDS = ["mla_expanded", "mla_reexpand", "mla_absorbed", "mla_merged", "recompute"]


@pytest.mark.parametrize(
    ("source", "mechanisms", "left", "right"),
    [
        ("trained", [*MLA_KINDS, "mha", "gqa", "mqa"], "mla_expanded", "mla_absorbed"),
        ("mla-8", [*MLA_KINDS, "mha", "gqa", "mqa"], "mla_expanded", "mla_absorbed"),
        ("synthetic", [*MLA_KINDS, "mha", "gqa", "mqa"], "mla_expanded", "mla_absorbed"),
        ("mha", ["mha", "gqa", "mqa"], "mha", "mha"),
        ("gqa-2", ["mha", "gqa", "mqa"], "gqa", "gqa"),
    ],
)
def test_each_source_offers_what_its_weights_can_run(source, mechanisms, left, right):
    app, _ = opened(source=source, **OPEN)
    for key, start in (("left", left), ("right", right)):
        box = app.selectbox(key=key)
        labels = {name: MECHANISMS[name].label for name in mechanisms}
        assert sorted(box.options) == sorted(labels.values())
        assert box.value == start


def test_own_weights_are_offered_only_where_they_are_shipped():
    member_weights("gqa-2").unlink()
    app, _ = opened(**OPEN)
    assert app.selectbox(key="left").options == [
        MECHANISMS[name].label for name in (*MLA_KINDS, "mha", "mqa")
    ]
    assert "Family of one budget: GQA-2" not in app.selectbox(key="source").options


def test_choices_are_called_by_their_labels():
    app, _ = opened(source="synthetic")
    assert app.selectbox(key="source").options == [
        "Trained on short stories",
        "Family of one budget: MHA",
        "Family of one budget: GQA-2",
        "Family of one budget: MQA",
        "Family of one budget: MLA-8",
        "Random, any geometry",
    ]
    assert app.selectbox(key="dtype").options == ["float32", "float64", "bfloat16", "float16"]
    assert app.selectbox(key="device").options == available_devices()
    assert [box.label for box in app.selectbox] == [
        "Weights",
        "Left",
        "Right",
        "Right cache kept in",
        "Dtype",
        "Device",
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mla-8", "4 heads, latent dim 8: this model has one size."),
        ("mha", "4 heads: this model has one size."),
    ],
)
def test_a_member_says_its_one_size(source, words):
    app, _ = opened(source=source, **OPEN)
    captions = [caption.value for caption in app.caption]
    belong = "Head dims, RoPE dim, q_lora_rank and layers belong to the trained model."
    assert captions == [words, belong]


def test_more_is_made_only_once_it_is_needed():
    closed, made = opened()
    assert [s.key for s in closed.slider] == ["heads", "latent", "max_new_tokens"]
    assert made[-1].settings() == Settings()
    for query in ({"left": "mla_merged"}, {"dtype": "float64"}, {"device": "cpu"}, {"top_k": 9}):
        app, _ = opened(**query)
        assert "seed" in {s.key for s in app.slider}, query
    app.slider(key="top_k").set_value(40).run().run()
    assert "seed" not in {s.key for s in app.slider}


ASKED = {
    "prompt": "The cat",
    "source": "synthetic",
    "heads": 12,
    "latent": 99,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 4,
    "v_head_dim": 14,
    "q_lora_rank": 20,
    "layers": 3,
    "left": "mha",
    "right": "recompute",
    "max_new_tokens": 7,
    "temperature": 0.2,
    "top_k": 9,
    "seed": 11,
    "dtype": "float64",
    "device": "cpu",
    "cache_dtype": "int4_all",
    "ranks": "each",
}


def test_an_address_restores_every_setting():
    assert set(ASKED) == {field.name for field in fields(Settings)}
    _, made = opened(**ASKED)
    assert made[-1].settings() == Settings(**ASKED)


def test_every_setting_goes_into_the_address_and_its_start_does_not():
    app, made = opened(source="synthetic")
    for name in ("heads", "latent", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        app.slider(key=name).set_value(ASKED[name])
    for name in ("q_lora_rank", "layers", "max_new_tokens", "temperature", "top_k", "seed"):
        app.slider(key=name).set_value(ASKED[name])
    for name in ("left", "right", "dtype", "device", "cache_dtype"):
        app.selectbox(key=name).set_value(ASKED[name])
    app.text_area(key="prompt").set_value(ASKED["prompt"]).run()
    assert made[-1].settings() == Settings(**ASKED)
    bound = {widget.key: widget.proto.query_param_key for widget in (*app.slider, *app.text_area)}
    assert bound == {key: key for key in bound}  # the browser writes these
    chosen = ("source", "left", "right", "dtype", "device", "cache_dtype")
    named = {name: ASKED[name] for name in chosen}
    assert named.items() <= app.query_params.items()
    assert {*bound, *named, "ranks"} == set(ASKED)  # ranks: of a pretrained model alone
    app.selectbox(key="right").set_value("mla_absorbed").run()
    assert "right" not in app.query_params
    app.selectbox(key="source").set_value("trained").run()
    assert "source" not in app.query_params
    assert app.query_params["left"] == "mha"
    app.selectbox(key="cache_dtype").set_value("as it is").run()
    assert "cache_dtype" not in app.query_params
    assert made[-1].settings().cache_dtype is None


@pytest.mark.parametrize("right", ["recompute", "mla_absorbed", "mqa"])
def test_a_format_of_no_cache_decides_nothing_and_says_so(right):
    app, made = opened(right=right, cache_dtype="fp8")
    assert made[-1].settings().cache_dtype == "fp8"
    said = [x.value for x in app.caption if "the right side keeps no cache" in x.value]
    assert len(said) == (right == "recompute")


def test_what_a_source_cannot_have_moves_to_what_it_can():
    app, made = opened(source="synthetic", heads=20, latent=2, left="gqa")
    app.selectbox(key="source").set_value("trained").run()
    assert (made[-1].values["heads"], made[-1].values["latent"]) == (8, 4)
    app.selectbox(key="source").set_value("mqa").run()
    assert made[-1].values["left"] == "gqa"
    assert made[-1].values["right"] == "mqa"
    _, made = opened(left="nonsense", dtype="float8")
    assert made[-1].settings() == Settings()


def test_a_member_keeps_the_sliders_values_for_later():
    app, made = opened(heads=6, latent=20)
    app.selectbox(key="source").set_value("mla-8").run()
    assert (made[-1].settings().heads, made[-1].settings().latent) == (4, 8)
    app.selectbox(key="source").set_value("trained").run()
    assert made[-1].settings() == replace(Settings(), heads=6, latent=20)


def refused(messages):
    shown = Sidebar()
    for message in messages:
        shown.refuse(ValueError(message))


def places(app):
    """The message that stands under each widget of the sidebar; None for the sidebar's end."""
    found, key = {}, None
    *before, end = elements(app.sidebar)
    for element in before:
        key = getattr(element, "key", None) or key
        if element.type == "error":
            found[key] = element.value
    return found | ({None: end.value} if end.type == "error" else {})


def test_a_message_stands_under_the_widget_whose_field_it_names():
    names = {field.name for field in fields(Settings)} - {"ranks"}  # of a pretrained model
    messages = {name: f"{name}: expected less, got 7" for name in sorted(names)}
    app = section(refused, list(messages.values()), source="synthetic")
    assert places(app) == messages


def test_messages_in_the_models_words_find_their_widgets():
    spelt = {"heads": "n_heads", "latent": "kv_lora_rank", "layers": "n_layers"}
    spelt["v_head_dim"] = "head_dim"
    messages = {key: f"{name}: expected less" for key, name in spelt.items()}
    assert places(section(refused, list(messages.values()), source="synthetic")) == messages


def test_what_has_no_widget_is_said_at_the_end():
    for message in ("v_head_dim: expected 5", "memory: not enough", "no colon"):
        assert places(section(refused, [message])) == {None: message}


def test_a_message_about_a_folded_widget_opens_its_fold():
    for field in ("layers", "left", "seed"):
        app = section(refused, [f"{field}: expected less"], source="synthetic")
        assert app.session_state.more, field
    for field in ("heads", "latent", "prompt"):
        assert not section(refused, [f"{field}: no"], source="synthetic").session_state.more


@pytest.mark.parametrize("name", SLIDERS)
def test_a_model_changes_with_the_dials_that_its_mechanism_follows_and_with_no_other(name):
    source = find_source(name)
    for mechanism in offered_mechanisms(source):
        for field, dial in source.dials.items():
            models = {
                Settings(source=name, left=mechanism, **{field: value}).side("left")
                for value in (dial.high // 4 * 2, dial.high // 8 * 2)
            }
            assert (len(models) == 2) == follows(source, mechanism, field), (mechanism, field)


MLA_ONLY = {"latent", "qk_nope_head_dim", "qk_rope_head_dim", "q_lora_rank"}


@pytest.mark.parametrize(
    ("query", "idle"),
    [
        ({}, {}),
        ({"left": "mha"}, {}),
        ({"left": "mha", "right": "gqa"}, dict.fromkeys(("heads", "latent"), "both sides have")),
        ({"source": "synthetic", "left": "mha"}, {}),
        (
            {"source": "synthetic", "left": "mha", "right": "mqa"},
            dict.fromkeys(MLA_ONLY, "neither side is MLA"),
        ),
        ({"temperature": 0}, dict.fromkeys(("top_k", "seed"), "at temperature 0")),
        ({"temperature": 0, "source": "synthetic"}, {"top_k": "at temperature 0"}),
    ],
)
def test_what_decides_nothing_is_disabled_says_why_and_keeps_its_value(query, idle):
    app, _ = opened(**OPEN, heads=5, **query)
    assert {slider.key for slider in app.slider if slider.disabled} == set(idle)
    found, key = {}, None
    for element in elements(app.sidebar):
        key = getattr(element, "key", None) or key
        if element.type == "caption" and element.value.startswith("Decides nothing"):
            found[key] = element.value
    assert set(found) == set(idle)
    assert all(idle[key] in words for key, words in found.items())
    assert app.slider(key="heads").value == 5


def test_the_value_of_a_dial_waits_while_it_decides_nothing():
    app, made = opened(heads=5, left="mha", right="gqa")
    app.selectbox(key="right").set_value("mla_absorbed").run()
    assert made[-1].settings().heads == 5
    assert not app.slider(key="heads").disabled


def test_what_a_view_shows_in_the_place_of_the_widgets_is_named():
    _, made = opened(source="synthetic", heads=5, qk_rope_head_dim=4, left="mha", seed=2)
    assert made[-1].instead(made[-1].settings()) == ""
    other = Settings("x", "synthetic", heads=5, q_lora_rank=8, temperature=0.1)
    assert made[-1].instead(other) == (
        f"Prompt: the one below; Left: {MECHANISMS['mla_expanded'].label}; RoPE dims: 16;"
        " Query latent: 8; Temperature: 0.1; Seed: 0"
    )
