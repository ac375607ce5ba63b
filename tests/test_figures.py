from dataclasses import fields, replace

import pytest

from mla_viz.figures.quality import family_figure, likeness_figure, loss_grid_figure
from mla_viz.findings.family import ONE_SEED_NOISE, load_family
from mla_viz.findings.scores import LossGrid
from mla_viz.mechanisms.table import MECHANISMS

GRID = LossGrid("m", 2, 100, [1, 2], [4, 8, 16], [[3.0, 2.9, 2.8], [2.7, 2.6, 2.5]])


def test_loss_grid_shows_the_values_and_the_setting():
    heatmap, here = loss_grid_figure(GRID, 2, 8).data
    assert [list(row) for row in heatmap.z] == GRID.nats_per_token
    assert (list(heatmap.x), list(heatmap.y)) == (GRID.latents, GRID.heads)
    assert (here.x[0], here.y[0]) == (8, 2)


def test_loss_grid_axes_name_quantity_and_unit():
    figure = loss_grid_figure(GRID, 1, 4)
    assert "latent dim" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text == "heads"
    assert figure.data[0].colorbar.title.text == "nats/token"


def test_a_setting_finds_its_loss():
    assert GRID.loss(2, 16) == 2.5


def test_every_mechanism_has_a_colour_of_its_own_legible_on_its_ground():
    colours = [row.colour for row in MECHANISMS.values()]
    for shade in ("light", "dark"):
        assert len({getattr(colour, shade) for colour in colours}) == len(colours)
    for colour in colours:
        assert contrast(colour.light, colour.light_tint) >= 4.5
        assert contrast(colour.dark, colour.dark_tint) >= 4.5
        assert {f.name for f in fields(colour)} == {"light", "light_tint", "dark", "dark_tint"}


def contrast(ink, ground):
    high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize("dark", [False, True])
def test_the_family_is_a_point_a_member_with_its_spread(dark):
    family = load_family()
    edge, *points = family_figure(family, dark).data
    assert [(p.name, p.x[0]) for p in points] == [(m.label, m.cache_elems) for m in family.members]
    assert all(p.y[0] == pytest.approx(2.1) for p in points)
    assert all(p.error_y.array[0] == pytest.approx(0.2 / 2**0.5) for p in points)
    assert all(name in points[0].hovertemplate for name in ("2 seeds", "bits/byte", "recall"))
    assert list(edge.x) == [12]
    assert len({p.marker.color for p in points}) == 4


@pytest.mark.usefixtures("small_family")
def test_one_training_has_a_bar_too():
    family = load_family()
    member = replace(family.members[0], runs=family.members[0].runs[:1])
    _, point = family_figure(replace(family, members=(member,)), dark=False).data
    assert point.error_y.array[0] == ONE_SEED_NOISE


@pytest.mark.usefixtures("small_family")
def test_labels_of_two_points_with_one_cache_stand_apart():
    family = load_family()
    mha, gqa, mqa, mla = family.members
    runs = tuple(replace(run, nats_per_token=1.9) for run in mla.runs)
    twin = replace(mla, label="twin", runs=runs)
    figure = family_figure(replace(family, members=(mha, gqa, mqa, mla, twin)), dark=False)
    places = {point.name: point.textposition for point in figure.data[1:]}
    assert places["MLA-8"] == "top right"
    assert places["twin"] == "bottom left"
    assert places["MHA"] == "bottom left"


@pytest.mark.usefixtures("small_family")
def test_likeness_has_keys_and_values_of_every_member():
    keys, values = likeness_figure(load_family(), dark=False).data
    assert (keys.name, values.name) == ("keys", "values")
    assert list(keys.x) == [0.6] * 4
    assert list(values.x) == [0.4] * 4
    assert list(keys.y) == ["MHA", "GQA-2", "MQA", "MLA-8"]
