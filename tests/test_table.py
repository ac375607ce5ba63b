from mla_viz.figures.table import table_html


def test_a_table_has_a_head_for_every_row_and_column_and_escapes_its_text():
    html = table_html([{"model": "<b>", "loss": "2.10"}, {"model": "MHA", "loss": "2.05"}])
    assert html.count("scope='col'") == 2
    assert html.count("scope='row'") == 2
    assert "&lt;b&gt;" in html
    assert html.index("MHA") < html.index("2.05")
    assert html.count("text-align:right") == 3
