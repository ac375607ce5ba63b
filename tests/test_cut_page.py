"""A pretrained model on the Decode page: offered, decoded beside its cut, held against it."""

import json
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
import torch

from mla_viz.cli import main
from mla_viz.findings import cuts as findings
from mla_viz.findings.cuts import LIKE, ROUNDING, kl_at, looping, nearest, verdict
from mla_viz.model import sources
from mla_viz.player.layout import Cut
from mla_viz.player.payload import cut_of, pack_run
from mla_viz.run.decode import decode, generate
from mla_viz.run.settings import Settings
from mla_viz.serving import worker
from mla_viz.ui import cuts as ui_cuts
from mla_viz.ui.decode import cut as room
from mla_viz.ui.decode import progress
from mla_viz.ui.decode.sidebar import CHAT
from tests.fetched import place_tiny
from tests.instant import HerePool
from tests.screens import page, said
from tests.test_fetch import write_bases, write_components

pytestmark = pytest.mark.filterwarnings("default")


SIDES = ("gqa", "gqa_latent")


@pytest.fixture
def tiny(tmp_path, data_folder, monkeypatch):
    pool = HerePool()
    for each in (room, progress):
        monkeypatch.setattr(each, "workers", lambda: pool)
    return place_tiny(tmp_path, data_folder, monkeypatch)


def decoded(**query):
    app = page("mla_viz/ui/frame.py", source="smollm2", max_new_tokens=4, prompt="the", **query)
    assert not app.exception
    assert not app.error
    return app


def captions(app):
    return [each.value for each in app.caption]


@pytest.mark.usefixtures("tiny")
def test_it_is_offered_and_decoded_beside_its_cut():
    app = decoded(latent=20)
    settings, payload = app.session_state.shown
    assert (settings.source, settings.latent, settings.temperature) == ("smollm2", 20, 0.0)
    assert app.title[0].value == "One model, its cache cut to 20 of 64 numbers"
    assert CHAT in captions(app)
    assert "At 64 nothing is cut off." in captions(app)
    texts = [each.value for each in app.text]
    alone = [Settings("the", "smollm2", left=x, latent=20, max_new_tokens=4) for x in SIDES]
    assert texts == [generate(each).strip() for each in alone]  # as Streamlit shows it
    told = cut_of(payload)
    assert f"KL(original || cut) is **{told['kl']:.4f} nats**" in said(app)[-1]
    assert f"**{told['agreement']:.0%}**" in said(app)[-1]


@pytest.mark.usefixtures("tiny")
def test_ranks_may_be_pooled_over_layers_and_the_page_says_how_far_they_go(data_folder):
    costs = np.zeros((2, 64))
    costs[0, :31], costs[1, :9] = 1, 2
    write_bases(data_folder, 2, 64, torch.from_numpy(costs))
    app = decoded(latent=20, ranks="pooled")
    settings, payload = app.session_state.shown
    assert (settings.ranks, cut_of(payload)["pooled"]) == ("pooled", True)
    assert app.title[0].value == "One model, its cache cut to 20 of 64 numbers"
    between = "of 20 numbers a token on average, 9 in layer 2 to 31 in layer 1. The left"
    assert between in app.caption[0].value
    kinds = [words.split(", ")[1] for words in captions(app) if "by itself" in words]
    assert kinds == ["64 numbers a token and layer", "20 numbers a token and layer on average"]
    app.selectbox(key="ranks").set_value("each").run()
    assert app.session_state.shown[0].ranks == "each"
    assert "of 20 numbers a token. The left" in app.caption[0].value
    assert not cut_of(app.session_state.shown[1])["pooled"]


@pytest.mark.usefixtures("tiny")
def test_at_full_width_the_page_says_that_nothing_is_cut():
    app = decoded(latent=64)
    assert app.title[0].value == "One model, its cache in another basis"
    assert cut_of(app.session_state.shown[1])["kl"] < ROUNDING
    assert "Nothing is lost" in said(app)[-1]
    assert "word for word" in said(app)[-1]


@pytest.mark.usefixtures("tiny")
def test_sides_may_change_places_and_no_verdict_is_said():
    app = decoded(latent=20, left="gqa_latent", right="gqa")
    assert "KL(left || right)" in said(app)[-1]
    assert "held-out" not in said(app)[-1]
    kinds = [words.split(" by itself")[0] for words in captions(app) if "by itself" in words]
    assert kinds == ["The cut", "The original"]


@pytest.mark.usefixtures("tiny")
def test_one_side_twice_is_one_model_as_ever():
    app = decoded(right="gqa")
    assert app.title[0].value == "One model, decoded two ways"
    assert not app.text


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("left", "title"),
    [
        ("mla_expanded", "One model, decoded two ways"),
        ("gqa", "One model, and its attention as MLA"),
    ],
)
def test_decoupled_it_is_mla_twice_or_beside_the_original(data_folder, left, title):
    write_components(data_folder, 2, 4, 2, 16)
    asked = {"source": "smollm2-decoupled", "left": left, "prompt": "the", "max_new_tokens": 4}
    app = page("mla_viz/ui/frame.py", **asked)
    assert not app.exception
    assert not app.error
    assert app.title[0].value == title
    settings, _ = app.session_state.shown
    assert (settings.latent, settings.right) == (32, "mla_absorbed")
    kinds = [words.split(" by itself")[0] for words in captions(app) if "by itself" in words]
    assert kinds == (["The original", "The cut"] if left == "gqa" else [])
    assert any(words.startswith("With 32 of RoPE") for words in captions(app))
    assert ("an approximation" in app.caption[0].value) == (left != "gqa")
    with patch.object(ui_cuts.st, "session_state", {"shown": (settings, b"")}):
        assert ui_cuts.rank_in_sight() == 32 + 16


@pytest.mark.usefixtures("tiny")
def test_a_rank_of_other_weights_outside_the_slider_begins_anew():
    app = page("mla_viz/ui/frame.py", latent=64, max_new_tokens=2)
    app.slider(key="latent").set_value(5).run()
    app.selectbox(key="source").set_value("smollm2").run()
    assert app.session_state.shown[0].latent == 42


def test_damaged_files_are_said_beside_the_choice_and_the_view_stays(tiny):
    app = page("mla_viz/ui/frame.py", max_new_tokens=2)
    before = app.session_state.shown[0]
    for file in tiny.iterdir():
        file.write_bytes(b"GGUF")
    app.selectbox(key="source").set_value("smollm2").run()
    assert not app.exception
    assert "damaged files (python -m mla_viz fetch smollm2)" in app.sidebar.error[0].value
    assert app.session_state.shown[0] == before
    app.selectbox(key="source").set_value("trained").run()
    assert not app.error


@pytest.mark.usefixtures("tiny")
def test_a_template_of_workers_loads_it_once(monkeypatch):
    loaded, read = set(), []
    real = sources.load_llama
    monkeypatch.setattr(sources, "load_llama", lambda file: read.append(file) or real(file))
    worker._load_fetched(loaded)
    worker._load_fetched(loaded)
    assert (loaded, len(read)) == ({"smollm2"}, 1)


@pytest.mark.usefixtures("tiny")
def test_labels_do_not_call_them_different_models():
    run = decode("the", source="smollm2", max_new_tokens=2)
    packed = pack_run(run)
    assert b"weights of its own" not in packed
    assert b"own weights" not in packed
    assert cut_of(packed) == {
        "kl": run.mean_kl,
        "agreement": run.agreement,
        "tokens": run.n_steps,
        "text": run.text,
        "whole": False,
        "elems": 42,
        "pooled": False,
        "decoupled": False,
    }


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("latent", "turned", "whole"), [(32, 32, True), (48, 16, False), (16, 16, False)]
)
def test_decoupled_nothing_is_left_out_where_all_keys_are_turned(
    data_folder, latent, turned, whole
):
    write_components(data_folder, 2, 4, 2, 16)
    shape = {"latent": latent, "qk_rope_head_dim": turned}
    run = decode("the", source="smollm2-decoupled", left="gqa", max_new_tokens=2, **shape)
    told = cut_of(pack_run(run))
    assert (told["whole"], told["decoupled"]) == (whole, not whole and latent + turned == 64)
    assert (run.mean_kl < ROUNDING) == whole


@pytest.mark.usefixtures("tiny")
def test_the_command_line_prints_the_same_figures(capsys):
    asked = ["decode", "the", "--source", "smollm2", "--latent", "20", "--max-new-tokens", "4"]
    main([*asked, "--json"])
    printed = json.loads(capsys.readouterr().out)
    run = decode("the", source="smollm2", latent=20, max_new_tokens=4)
    own = generate(Settings("the", "smollm2", left="gqa_latent", latent=20, max_new_tokens=4))
    assert printed["cut"] == {"kl": run.mean_kl, "agreement": run.agreement, "right_text": own}
    main(asked)
    assert f"KL(left || right) {run.mean_kl:.4f} nats a token" in capsys.readouterr().out
    main(["decode", "the", "--max-new-tokens", "1", "--json"])
    assert "cut" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("rank", LIKE)
def test_a_loss_as_measured_is_nearest_to_its_rank(rank):
    assert nearest(kl_at(rank)) == rank


KLS = [0.0, 9e-4, 0.0011, 0.01, 0.02, 0.05, 0.1, 0.3, 0.6, 1.0, 2.0, 9.0]
ROUND = "I'm not sure. " * 5
TEXTS = ["", "The sky is blue.", ROUND, "a b c d e f g h i j k"]


@pytest.mark.parametrize(("kl", "text", "own"), list(product(KLS, TEXTS, TEXTS)))
def test_what_is_said_of_a_text_is_true_of_it(kl, text, own):
    told = verdict(kl, text, own)
    assert ("Nothing is lost" in told) == (kl < ROUNDING)
    assert ("word for word" in told) == (text == own)
    assert ("in circles" in told) == (text == ROUND != own)
    if kl >= ROUNDING:
        (rank,) = (rank for rank, words in LIKE.items() if words in told)
        others = [abs(findings.sqrt(kl_at(other) / kl) - 1) for other in LIKE if other != rank]
        assert f"a cut to {rank} " in told
        assert max(kl_at(rank) / kl, kl / kl_at(rank)) <= 1e-9 + min(
            max(kl_at(other) / kl, kl / kl_at(other)) for other in LIKE if other != rank
        )
        assert others
    else:
        assert not any(words in told for words in LIKE.values())


@pytest.mark.parametrize("kl", KLS)
def test_more_loss_is_never_said_to_be_less(kl):
    assert kl < ROUNDING or all(nearest(more) <= nearest(kl) for more in KLS if more >= kl)


def test_loops_are_seen_and_plain_text_is_none():
    assert looping("le pays de la France, " * 4) == "le pays de"
    assert looping(ROUND) == "I'm not sure"
    assert looping("one two three four five six seven eight") is None
    assert looping("x") is looping("") is None


def told(kl=0.05, agreement=0.9):
    return Cut(kl=kl, agreement=agreement, tokens=40, text="own", whole=False)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("rank", [64, 100, 128, 384])
@pytest.mark.parametrize("way", ["each", "decoupled"])
def test_held_out_figures_are_those_around_the_rank(rank, way):
    words = room.held_out_words(rank, way)
    rows = {r.rank: r for r in findings.load_cuts() if (r.text, r.way) == ("chat", way)}
    around = {64: (64,), 100: (64, 128), 128: (128,), 384: (384,)}[rank]
    for each in rows:
        assert (f"at {each}" in words) == (each in around)
    assert all(f"{rows[each].kl:.4f} ± {rows[each].kl_error:.4f}" in words for each in around)


@pytest.mark.usefixtures("tiny")
def test_figures_of_a_prompt_are_those_of_the_run():
    settings = Settings("the", "smollm2", latent=20)
    assert "**0.0500 nats**" in room.told_words(settings, told(), "text")
    assert "**90%**" in room.told_words(settings, told(), "text")


@pytest.mark.usefixtures("tiny")
def test_what_a_model_wrote_is_no_markdown():
    settings = Settings("the", "smollm2", latent=20)
    words = room.told_words(settings, told(), "**so** [it](x) `goes` " * 5)
    assert r"\*\*so\*\* \[it\](x) \`goes\`" in words
