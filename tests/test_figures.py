"""Figures as objects from hand-made records: values, places, colours, axes, words of a point."""

from colorsys import rgb_to_hls
from dataclasses import astuple, fields, replace

import pytest

from mla_viz.figures.quality import (
    family_figure,
    family_numbers,
    likeness_figure,
    likeness_numbers,
    loss_grid_figure,
    loss_grid_numbers,
)
from mla_viz.findings.scores import LossGrid, load_grid
from mla_viz.mechanisms.table import MECHANISMS, Colour
from tests.test_family import FAMILY, GQA, MHA, MLA, MQA, made

GRID = LossGrid(
    "m", 2, 100, 3_000_000, 1_200_000, [1, 2], [4, 8, 16], [[3.0, 2.9, 2.8], [2.7, 2.6, 2.5]]
)


def test_loss_grid_shows_the_values_and_the_setting():
    heatmap, here = loss_grid_figure(GRID, 2, 8).data
    assert heatmap.type == "heatmap"
    assert [list(row) for row in heatmap.z] == GRID.nats_per_token
    assert (list(heatmap.x), list(heatmap.y)) == (GRID.latents, GRID.heads)
    words = "heads %{y}, latent dim %{x}: %{z:.3f} nats/token<extra></extra>"
    assert heatmap.hovertemplate == words
    assert (list(here.x), list(here.y), here.mode) == ([8], [2], "markers")
    assert (here.marker.symbol, here.hoverinfo) == ("square-open", "skip")


def test_loss_grid_axes_name_quantity_and_unit():
    figure = loss_grid_figure(GRID, 1, 4)
    assert figure.layout.xaxis.title.text == "latent dim (kv_lora_rank)"
    assert figure.layout.yaxis.title.text == "heads"
    assert figure.data[0].colorbar.title.text == "nats/token"
    (_, lowest), *_, (_, highest) = figure.data[0].colorscale
    assert luminance(lowest) > luminance(highest)  # the brighter, the better


def test_a_setting_finds_its_loss():
    for row, heads in enumerate(GRID.heads):
        for column, latent in enumerate(GRID.latents):
            assert GRID.loss(heads, latent) == GRID.nats_per_token[row][column]
    shipped = load_grid()
    assert (shipped.heads, shipped.latents) == (list(range(1, 9)), list(range(4, 65)))
    assert f"{shipped.loss(1, 64):.3f} {shipped.loss(8, 4):.3f}" == "2.255 2.491"


# Hue of each mechanism's ink on a light page; its three other shades stay near it.
HUES = {
    "mla_expanded": 22,  # orange
    "mla_absorbed": 195,  # blue
    "mla_reexpand": 266,  # violet
    "mla_merged": 144,  # green
    "recompute": 217,  # slate
    "mha": 338,  # red
    "gqa": 57,  # olive
    "gqa_latent": 179,  # teal
    "mqa": 28,  # brown
}


def channels(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_a_mechanism_has_one_hue_in_all_its_shades():
    assert set(HUES) == set(MECHANISMS)
    for name, row in MECHANISMS.items():
        ink, *others = (rgb_to_hls(*channels(shade))[0] * 360 for shade in astuple(row.colour))
        assert ink == pytest.approx(HUES[name], abs=2)
        assert others == pytest.approx([ink] * 3, abs=10)


def test_inks_are_legible_on_their_tint_and_on_the_page():
    assert [field.name for field in fields(Colour)] == ["light", "light_tint", "dark", "dark_tint"]
    colours = [row.colour for row in MECHANISMS.values()]
    for colour in colours:
        assert contrast(colour.light, colour.light_tint) >= 4.5
        assert contrast(colour.dark, colour.dark_tint) >= 4.5
        assert contrast(colour.light, "#ffffff") >= 4.5
        assert contrast(colour.dark, "#0e1117") >= 4.5
        assert contrast(colour.light_tint, "#ffffff") < 1.2
        assert contrast(colour.dark_tint, "#0e1117") < 1.2
    for shade in ("light", "dark"):
        assert len({getattr(colour, shade) for colour in colours}) == len(colours)


def contrast(ink, ground):
    high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("dark", "shade"), [(False, "light"), (True, "dark")])
def test_the_family_is_a_point_a_member_with_its_spread(dark, shade):
    edge, *points = family_figure(FAMILY, dark).data
    assert [(p.name, p.text[0]) for p in points] == [(m.label, m.label) for m in FAMILY.members]
    assert [p.x[0] for p in points] == [64, 32, 16, 12]
    assert [p.y[0] for p in points] == pytest.approx([2.1, 2.4, 2.9, 2.45])
    wide, narrow = 0.2 / 2**0.5, 0.1 / 2**0.5
    assert [p.error_y.array[0] for p in points] == pytest.approx([wide, wide, wide, narrow])
    inks = [
        getattr(MECHANISMS[name].colour, shade) for name in ("mha", "gqa", "mqa", "mla_absorbed")
    ]
    assert [p.marker.color for p in points] == [p.textfont.color for p in points] == inks
    assert (edge.mode, edge.hoverinfo) == ("lines", "skip")
    assert list(zip(edge.x, edge.y, strict=True)) == [
        (12, pytest.approx(2.45)),
        (32, pytest.approx(2.4)),
        (64, pytest.approx(2.1)),
    ]


def test_the_family_axes_name_quantity_and_unit():
    layout = family_figure(FAMILY, dark=False).layout
    assert layout.xaxis.title.text == "elements cached for a token in a layer"
    assert (layout.xaxis.type, list(layout.xaxis.tickvals)) == ("log", [12, 16, 32, 64])
    assert layout.yaxis.title.text == "loss on held-out stories, nats/token"
    assert layout.showlegend is False


def test_a_point_tells_all_its_figures():
    *_, point = family_figure(FAMILY, dark=False).data
    layer = 32 * 4 * 12 + 32 * 12 + 8 + 8 * 4 * 16 + 4 * 8 * 32 + 3 * 32 * 24 + 2 * 32
    flops = 32 * 4 * 12 + 32 * 12 + 2 * 4 * 8 * 8 + 64 * 4 * (12 + 8) + 4 * 8 * 32 + 3 * 32 * 24
    assert point.hovertemplate.removesuffix("<extra></extra>").split("<br>") == [
        "<b>MLA-8</b>, 2 seeds",
        "2.450 ± 0.071 nats/token",
        f"{2.45 / 4:.3f} bits/byte",
        "repeated pairs 1.960, new ones 2.940",
        f"name recall {24.5:.0f}% ± 10, chance 10%",
        "12 elements cached a token and layer, 12 KiB at 256 tokens in float16",
        f"{2048 * 32 + 2 * layer + 32:,} parameters",
        f"{2 * (2 * flops + 32 * 2048) / 1e6:.2f} MFLOP for the last token",
    ]


def test_one_training_has_a_bar_too_and_says_that_it_is_one():
    _, point = family_figure(replace(FAMILY, members=(made("mha", "MHA", 2.0),)), dark=False).data
    assert point.error_y.array[0] == 0.02
    assert point.hovertemplate.startswith("<b>MHA</b>, 1 seed<br>2.000 nats/token<br>")


def test_labels_keep_off_the_edge_and_off_one_another():
    twin = made("mla-8", "twin", 1.9, 1.9)  # as little cache as MLA-8, less loss
    family = replace(FAMILY, members=(MHA, GQA, MQA, MLA, twin))
    places = {p.name: p.textposition for p in family_figure(family, dark=False).data[1:]}
    assert places == {
        "MHA": "bottom left",  # the right end
        "GQA-2": "top right",
        "MQA": "top right",
        "MLA-8": "top right",
        "twin": "bottom left",
    }


@pytest.mark.parametrize(("dark", "shade"), [(False, "light"), (True, "dark")])
def test_likeness_has_keys_and_values_of_every_member(dark, shade):
    figure = likeness_figure(FAMILY, dark)
    keys, values = figure.data
    assert (keys.name, keys.marker.symbol) == ("keys before RoPE", "circle")
    assert (values.name, values.marker.symbol) == ("values", "diamond-open")
    assert list(keys.x) == pytest.approx([2.1 / 5, 2.4 / 5, 2.9 / 5, 2.45 / 5])
    assert list(values.x) == pytest.approx([2.1 / 8, 2.4 / 8, 2.9 / 8, 2.45 / 8])
    inks = [
        getattr(MECHANISMS[name].colour, shade) for name in ("mha", "gqa", "mqa", "mla_absorbed")
    ]
    for dots in (keys, values):
        assert list(dots.y) == ["MHA", "GQA-2", "MQA", "MLA-8"]
        assert list(dots.marker.color) == inks
        assert dots.hovertemplate == f"%{{y}}: {dots.name} %{{x:.2f}}<extra></extra>"


def test_likeness_reads_from_none_to_one_and_from_the_top():
    layout = likeness_figure(FAMILY, dark=False).layout
    assert layout.xaxis.title.text == "mean linear CKA between heads"
    assert list(layout.xaxis.range) == [0, 1.04]
    bottom, top = layout.yaxis.range
    assert bottom > 3 > 0 > top


def test_numbers_beside_a_chart_are_those_that_it_draws():
    heatmap, _ = loss_grid_figure(GRID, 1, 4).data
    drawn = [
        {"heads": y, "latent_dim": x, "nats_per_token": z}
        for y, row in zip(heatmap.y, heatmap.z, strict=True)
        for x, z in zip(heatmap.x, row, strict=True)
    ]
    assert loss_grid_numbers(GRID) == drawn
    edge, *points = family_figure(FAMILY, dark=False).data
    for row, point in zip(family_numbers(FAMILY), points, strict=True):
        assert (row["model"], row["cache_elems"]) == (point.name, point.x[0])
        assert (row["nats_per_token"], row["half_width"]) == (point.y[0], point.error_y.array[0])
        assert row["on_pareto_edge"] == (point.x[0] in edge.x and point.y[0] in edge.y)
    assert [(row["mechanism"], row["seeds"]) for row in family_numbers(FAMILY)] == [
        (member.mechanism, len(member.runs)) for member in FAMILY.members
    ]
    keys, values = likeness_figure(FAMILY, dark=False).data
    rows = likeness_numbers(FAMILY)
    assert [row["model"] for row in rows] == list(keys.y)
    assert [row["keys_before_rope_cka"] for row in rows] == list(keys.x)
    assert [row["values_cka"] for row in rows] == list(values.x)
