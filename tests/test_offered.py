"""Checkpoints that an operator offers: what is listed, what never is, and the page with them."""

import shutil

import numpy as np
import pytest

from mla_viz.checkpoints import offered as room
from mla_viz.checkpoints.offered import MOST, ROOT, offered
from mla_viz.player.payload import pack_run
from mla_viz.run.layer import LayerSettings, run_of
from mla_viz.run.settings import Settings
from mla_viz.ui.decode import folders
from tests.checkpoints import PLAIN, change_config
from tests.screens import page
from tests.test_folders import saved

pytestmark = [pytest.mark.usefixtures("shipped"), pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one whole checkpoint in it, which nobody may change."""
    folder = tmp_path_factory.mktemp("made") / "tiny"
    folder.mkdir()
    saved(folder, "deepseek_v3", PLAIN)
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The operator's folder."""
    root = tmp_path / "models"
    root.mkdir()
    monkeypatch.setenv(ROOT, str(root))
    folders.folders.clear()
    yield root
    folders.folders.clear()


def placed(made, place):
    shutil.copytree(made, place)
    return place


def test_without_a_root_none_are_offered(made, monkeypatch):
    for value in (None, "", "  ", str(made / "none"), str(made / "config.json")):
        monkeypatch.delenv(ROOT, raising=False)
        if value is not None:
            monkeypatch.setenv(ROOT, value)
        assert offered() == {}


def test_names_are_paths_below_the_root_which_may_be_one_itself(made, root, monkeypatch):
    one, deep = placed(made, root / "one"), placed(made, root / "a" / "b" / "two")
    assert offered() == {"./a/b/two": deep, "./one": one}
    placed(made, root / "1" / "2" / "3" / "4" / "5")
    assert len(offered()) == 2
    placed(made, root / "1" / "2" / "3" / "six")
    assert list(offered()) == ["./1/2/3/six", "./a/b/two", "./one"]
    monkeypatch.setenv(ROOT, str(made))
    assert offered() == {"./": made}


def test_what_cannot_be_read_is_not_listed(made, root):
    change_config(placed(made, root / "other"), model_type="llama")
    change_config(placed(made, root / "gone"), kv_lora_rank="wide")
    (placed(made, root / "empty") / "model.safetensors").unlink()
    (placed(made, root / "bare") / "config.json").unlink()
    (root / "file").write_text("no folder", encoding="utf-8")
    assert offered() == {}


def test_links_lead_no_further_than_the_root(made, root, tmp_path):
    inside = placed(made, root / "hub" / "one")
    outside = placed(made, tmp_path / "outside")
    (root / "link").symlink_to(outside)
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(inside)
    for file in ("config.json", "model.safetensors"):
        stolen = placed(made, root / f"stolen-{file}")
        (stolen / file).unlink()
        (stolen / file).symlink_to(outside / file)
    blob = root / "hub" / "blob"
    shutil.move(inside / "model.safetensors", blob)
    (inside / "model.safetensors").symlink_to(blob)
    assert offered() == {"./hub/one": inside}
    assert all(folder.is_relative_to(root) for folder in room._folders(root))


def test_no_more_folders_are_looked_at_than_some(made, root, monkeypatch):
    for i in range(5):
        placed(made, root / f"{i}")
    monkeypatch.setattr(room, "MOST", 3)
    assert list(offered()) == ["./0", "./1"]
    assert MOST > 100


def test_a_layer_of_it_is_a_run_like_any(made):
    settings = LayerSettings(str(made), 1, right="mla_merged", tokens=5, seed=3)
    told = []
    run = run_of(settings, lambda *step: told.append(step))
    assert told == [(i, 5) for i in range(1, 6)]
    assert (run.n_steps, run.right.mechanism) == (5, "mla_merged")
    assert run.max_abs_diff < 1e-4
    assert settings.prompt == "tiny layer 1"
    assert 0 < settings.bill.seconds < 1
    assert settings.bill.bytes > run.right.cache_bytes[-1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("layer", 2), ("tokens", 0), ("tokens", 10**6), ("left", "mha"), ("seed", -1), ("dtype", "x")],
)
def test_what_a_layer_has_not_is_refused_by_name(made, field, value):
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        LayerSettings(**{"folder": str(made), field: value})


# The page


def decode_page(**query):
    return page("mla_viz/ui/frame.py", **query)


def shown(app):
    assert not app.exception
    return app.session_state.shown


def test_the_page_lists_them_and_runs_one_layer(made, root):
    place = placed(made, root / "tiny")
    app = decode_page(source="./tiny", checkpoint_layer=1, hidden_states=6, right="mla_merged")
    settings, payload = shown(app)
    assert settings == LayerSettings(str(place), 1, "mla_expanded", "mla_merged", 6)
    assert not app.error
    assert app.title[0].value == "One layer, decoded two ways"
    assert "./tiny" in app.selectbox(key="source").options
    assert len(payload) == len(pack_run(run_of(settings)))
    assert not app.main.expander
    app.slider(key="hidden_states").set_value(3).run()
    assert shown(app)[0].tokens == 3


def test_the_page_runs_the_whole_model(made, root):
    place = placed(made, root / "tiny")
    app = decode_page(
        source="./tiny",
        checkpoint_part=folders.WHOLE,
        prompt="abc",
        max_new_tokens=2,
        temperature=0,
    )
    settings, _ = shown(app)
    assert settings == Settings(
        "abc", str(place), heads=4, latent=16, max_new_tokens=2, temperature=0.0
    )
    assert set(app.selectbox(key="left").options) == set(app.selectbox(key="right").options)
    assert len(app.selectbox(key="left").options) == 5


@pytest.mark.parametrize("name", ["", ".", "..", "/", "./other", "{place}", "./../outside"])
def test_an_address_names_no_path(made, root, tmp_path, name):
    placed(made, root / "tiny")
    place = placed(made, tmp_path / "outside")
    app = decode_page(source=name.format(place=place), max_new_tokens=2)
    assert shown(app)[0].source == "trained"
    assert not app.error


def test_without_transformers_there_are_layers_alone(made, root, monkeypatch):
    placed(made, root / "tiny")
    monkeypatch.setattr(folders, "find_spec", lambda _: None)
    app = decode_page(source="./tiny", checkpoint_part=folders.WHOLE, hidden_states=2)
    assert app.selectbox(key="checkpoint_part").options == [folders.LAYER]
    assert isinstance(shown(app)[0], LayerSettings)


@pytest.mark.parametrize("part", [folders.LAYER, folders.WHOLE])
def test_a_damaged_folder_gets_one_line_and_the_last_view_stays(made, root, part):
    place = placed(made, root / "tiny")
    content = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(content[: len(content) // 2])
    app = decode_page(max_new_tokens=2)
    before = shown(app)
    app.session_state["checkpoint_part"] = part
    app.selectbox(key="source").set_value("./tiny").run()
    assert shown(app) == before
    (line,) = app.sidebar.error
    assert line.value.startswith("./tiny/model.safetensors: expected a whole safetensors file")
    assert str(root) not in line.value + app.main.warning[0].value
    assert app.main.warning[0].value.startswith(line.value)
    app.selectbox(key="source").set_value("trained").run()
    assert not app.sidebar.error


def test_a_folder_that_goes_while_it_is_chosen(made, root):
    place = placed(made, root / "tiny")
    app = decode_page(source="./tiny", hidden_states=2)
    before = shown(app)
    shutil.rmtree(place)
    app.slider(key="hidden_states").set_value(3).run()
    assert shown(app) == before
    assert app.sidebar.error[0].value.startswith("./tiny")
    folders.folders.clear()
    app.run()
    assert app.selectbox(key="source").value == "trained"
    assert np.isscalar(shown(app)[0].heads)
