import csv
import io
from xml.etree import ElementTree

from mla_viz.figures.table import table_csv, table_html

ROWS = [{"model": "<b>", "loss": "2.10", "KiB": "8"}, {"model": "MHA", "loss": "2.05", "KiB": "64"}]


def test_a_table_holds_the_records_and_says_what_heads_what():
    table = ElementTree.fromstring(table_html(ROWS)).find("table")
    head, *rows = table.iter("tr")
    assert [cell.text for cell in head] == ["model", "loss", "KiB"]
    assert [(cell.tag, cell.get("scope")) for cell in head] == [("th", "col")] * 3
    assert [[cell.text for cell in row] for row in rows] == [list(row.values()) for row in ROWS]
    for row in rows:
        assert [(cell.tag, cell.get("scope")) for cell in row] == [
            ("th", "row"),
            ("td", None),
            ("td", None),
        ]
    for row in (head, *rows):
        sides = [cell.get("style").split("text-align:")[1].split(";")[0] for cell in row]
        assert sides == ["left", "right", "right"]


def test_names_may_wrap_and_figures_may_not():
    table = ElementTree.fromstring(table_html(ROWS)).find("table")
    for cell in (*table.iter("th"), *table.iter("td")):
        assert ("white-space:nowrap" in cell.get("style")) == (cell.tag == "td")


def test_a_wide_table_scrolls_by_keyboard_too():
    box = ElementTree.fromstring(table_html(ROWS))
    assert (box.get("style"), box.get("tabindex")) == ("overflow-x:auto", "0")
    assert (box.get("role"), box.get("aria-label")) == ("group", "Table: model, loss, KiB")
    odd = ElementTree.fromstring(table_html([{"it's": "1", '"<b>"': "2"}]))
    assert odd.get("aria-label") == 'Table: it\'s, "<b>"'


def test_csv_reads_back_as_the_records_to_the_last_digit():
    rows = [{"model": 'a "b", c', "loss": 0.1 + 0.2}, {"model": "␣⏎", "loss": None}]
    text = table_csv(rows)
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [
        {"model": 'a "b", c', "loss": "0.30000000000000004"},
        {"model": "␣⏎", "loss": ""},
    ]
