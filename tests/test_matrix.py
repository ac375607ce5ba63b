from xml.etree import ElementTree

import numpy as np
import pytest

from mla_viz.figures.matrix import ROLE_COLOURS, equations_html, matrix_html
from mla_viz.findings.matrix import CACHED, FIXED, PASSING, Matrix
from mla_viz.words import cell_text

RULES = np.array([[1.0, -2], [0.5, 0]])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1.5, "1.5"),
        (-0.25, "−0.25"),
        (0.0, "0"),
        (-0.001, "0"),
        (10.0, "10"),
        (-100.0, "−100"),
        (0.126, "0.13"),
        (2.104, "2.1"),
    ],
)
def test_numbers_are_short(x, text):
    assert cell_text(x) == text


def table(*arguments):
    return ElementTree.fromstring(matrix_html(Matrix(*arguments)))


def test_a_table_says_name_shape_and_role():
    caption = table("C<b>", np.ones((3, 2)), "cached").find("caption")
    assert list(caption.itertext()) == ["C<b>", " 3×2", "cached"]


def test_a_table_has_every_value_in_its_place():
    rows = table("C", RULES, "cached", ("The", "<b>")).findall("tr")
    assert [[cell.text for cell in row] for row in rows] == [
        ["The", "1", "−2"],
        ["<b>", "0.5", "0"],
    ]
    assert [[cell.tag for cell in row] for row in rows] == [["th", "td", "td"]] * 2
    assert {row[0].get("scope") for row in rows} == {"row"}
    heads, *_ = table("C", RULES, "cached", ("The", "day"), ("x", "y")).findall("tr")
    assert [cell.text for cell in heads] == [None, "x", "y"]
    assert [cell.get("scope") for cell in heads] == [None, "col", "col"]
    heads, *_ = table("C", RULES, "cached", (), ("x", "y")).findall("tr")
    assert [cell.text for cell in heads] == ["x", "y"]
    bare = table("C", RULES, "cached").findall("tr")
    assert [[cell.text for cell in row] for row in bare] == [["1", "−2"], ["0.5", "0"]]


def test_only_the_newest_row_is_framed_and_only_where_asked():
    framed = [row.get("style") for row in table("C", RULES, "cached", (), (), True).findall("tr")]
    assert ["outline" in style for style in framed] == [False, True]
    assert not any(row.get("style") for row in table("C", RULES, "cached").findall("tr"))


def test_the_stronger_the_colour_the_larger_the_number():
    cells = table("C", RULES, "cached").findall("tr/td")
    shares = [8 + 26, 8 + 52, 8 + 13, 8]  # from 8 % at 0 to 60 % at the largest, here 2
    for cell, share in zip(cells, shares, strict=True):
        assert f"color-mix(in srgb, #1b87ab {share}%, transparent)" in cell.get("style")
    (zero,) = table("C", np.zeros((1, 1)), "cached").findall("tr/td")
    assert "8%" in zero.get("style")


def test_each_role_has_one_colour_in_caption_and_cells():
    assert ROLE_COLOURS == {
        FIXED: "#7d8799",
        CACHED: "#1b87ab",
        PASSING: "#c9702f",
    }
    for role, colour in ROLE_COLOURS.items():
        found = table("C", RULES, role)
        assert found.find("caption/span").get("style") == f"border-bottom:3px solid {colour}"
        assert colour in found.find("tr/td").get("style")


def test_an_equation_draws_each_matrix_once_and_then_names_it():
    matrices = {name: Matrix(name, RULES, "cached") for name in ("x", "W<1>", "y")}
    equations = [["x", "·", "W<1>", "=", "y"], ["y", "turned by", "x", "=", "W<1>"]]
    region = ElementTree.fromstring(equations_html(equations, matrices, "Stage <1>"))
    found = [[["".join(part.itertext()) for part in pair] for pair in row] for row in region[0]]
    drawn = "".join(ElementTree.fromstring(matrix_html(matrices["y"])).itertext())
    x, w, y = (drawn.replace("y", name, 1) for name in matrices)
    assert found == [[[x], ["·", w], ["=", y]], [["y"], ["turned by", "x"], ["=", "W<1>"]]]
    assert {name: region.get(name) for name in ("role", "aria-label", "tabindex")} == {
        "role": "region",
        "aria-label": "Stage <1>",
        "tabindex": "0",
    }
