import numpy as np
import pytest

from mla_viz.figures.matrix import matrix_html
from mla_viz.words import cell_text


@pytest.mark.parametrize(
    ("x", "text"), [(1.5, "1.5"), (-0.25, "−0.25"), (0.0, "0"), (-0.001, "0"), (10.0, "10")]
)
def test_numbers_are_short(x, text):
    assert cell_text(x) == text


def test_a_table_says_name_shape_role_and_every_value():
    html = matrix_html("C", np.array([[1.0, -2], [0.5, 0]]), "cached", ("The", "<b>"), True)
    assert "<b>C</b> 2×2" in html
    assert "cached" in html
    assert [f">{text}</td>" in html for text in ("1", "−2", "0.5", "0")] == [True] * 4
    assert "&lt;b&gt;" in html
    assert html.count("outline") == 1
    assert html.count("scope='row'") == 2
