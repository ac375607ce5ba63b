"""Every mechanism side by side: its numbers against runs of two, as records, figure and section."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from mla_viz.figures.costs import costs_figure, costs_numbers
from mla_viz.mechanisms.table import MECHANISMS, MLA_MECHANISMS
from mla_viz.run.compare import REPEATS, compare, compare_bill, compared
from mla_viz.run.costs import Costs, costs_from
from mla_viz.run.decode import decode
from mla_viz.run.record import sealed
from mla_viz.run.settings import Settings
from mla_viz.serving.tasks import TASKS
from mla_viz.ui.decode import compare as ui
from mla_viz.words import bytes_text, flops_text, micros_text
from tests.screens import section

SHAPE = {"source": "synthetic", "layers": 2, "heads": 3, "latent": 6, "max_new_tokens": 5}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"source": "trained"}, MLA_MECHANISMS),
        ({"source": "trained", "right": "gqa"}, {*MLA_MECHANISMS, "gqa"}),
        ({"source": "synthetic"}, MECHANISMS),
        ({"source": "mha"}, {"mha"}),
        ({"source": "mla-8", "left": "mqa"}, {*MLA_MECHANISMS, "mqa"}),
    ],
)
def test_all_that_run_these_weights_are_compared_the_two_sides_first(settings, names):
    s = Settings("A", **settings)
    found = compared(s)
    assert set(found) == set(names)
    assert [*found][: len({s.left, s.right})] == [*dict.fromkeys((s.left, s.right))]


@pytest.mark.parametrize("left", ["mla_absorbed", "recompute", "gqa"])
def test_bytes_and_flops_are_those_of_a_run_that_shows_the_mechanism(left):
    s = Settings("A fox ran", left=left, **SHAPE)
    costs = compare(s)
    chosen = [token.id for token in decode(s).tokens]
    for each in costs:
        beside = decode(Settings("A fox ran", left=left, right=each.mechanism, **SHAPE))
        assert [token.id for token in beside.tokens] == chosen
        assert np.array_equal(each.cache_bytes, beside.right.cache_bytes)
        assert each.flops.tolist() == [beside.right.flops(step) for step in range(beside.n_steps)]
        assert each.own_weights == (beside.differences is None)
        assert each.time_us.shape == (REPEATS, beside.n_steps)
        assert (each.time_us > 0).all()


def test_a_comparison_goes_through_json_unchanged_and_is_read_only():
    costs = compare("A fox", **SHAPE)
    again = [costs_from(json.loads(json.dumps(each.record()))) for each in costs]
    assert again == [*costs]
    assert [each.time_us.tolist() for each in again] == [each.time_us.tolist() for each in costs]
    with pytest.raises(ValueError, match="read-only"):
        again[0].flops[0] = 1
    made = TASKS["costs"](Settings("A fox", **SHAPE), lambda *_: None)
    assert [costs_from(record) for record in json.loads(made)] == [*costs]


def test_progress_is_told_and_may_stop_it():
    told = []
    compare("A fox", on_step=lambda *at: told.append(at), **SHAPE)
    total = told[-1][1]
    assert told == [(done, total) for done in range(1, total + 1)]

    def stops(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare("A fox", on_step=stops, **SHAPE)


def test_its_bill_holds_every_mechanism_and_is_asked_before_anything_is_made(monkeypatch):
    two = compare_bill(Settings("A fox", source="mla-8"))
    more = compare_bill(Settings("A fox", source="mla-8", right="mqa"))
    assert more.bytes > two.bytes
    assert more.seconds > two.seconds
    monkeypatch.setattr("mla_viz.run.compare.usable_bytes", lambda _: two.bytes)
    compare(Settings("A fox", source="mla-8", max_new_tokens=1))
    with pytest.raises(ValueError, match="geometry: expected one that fits"):
        compare(Settings("A fox", source="mla-8", right="mqa", max_new_tokens=48))


def costs_of(mechanism, *values, own=False):
    numbers = sealed(np.array(values))
    time_us = sealed(np.array([2.0 * numbers + 1, 4.0 * numbers + 1, 9.0 * numbers + 1]))
    return Costs(mechanism, own, numbers, sealed(numbers * 3 + 1), time_us)


COSTS = [
    costs_of("mla_expanded", 100, 2000, 4096),
    costs_of("mla_absorbed", 10, 20, 30),
    costs_of("gqa", 0, 0, 0, own=True),
]


@pytest.mark.parametrize("dark", [False, True])
def test_the_figure_has_a_row_a_mechanism_and_one_scale_a_column(dark):
    figure = costs_figure(COSTS, dark)
    drawn = [trace for trace in figure.data if trace.name]
    assert [trace.name for trace in drawn] == ["naive", "absorbed", "GQA"] * 3
    for trace, quantity in zip(
        drawn,
        [getattr(c, n) for n in ("cache_bytes", "flops", "median_us") for c in COSTS],
        strict=True,
    ):
        assert list(trace.y) == quantity.tolist()
        assert list(trace.x) == [1, 2, 3]
    colour = MECHANISMS["mla_absorbed"].colour
    assert drawn[1].line.color == (colour.dark if dark else colour.light)
    axes = [figure.layout[f"yaxis{i}" if i > 1 else "yaxis"] for i in range(1, 10)]
    for column in range(3):
        assert len({(axis.type, axis.range) for axis in axes[column::3]}) == 1
    assert [axis.type for axis in axes[:3]] == ["linear", "log", "log"]
    for axis, traces in ((axes[0], drawn[:3]), (axes[1], drawn[3:6]), (axes[2], drawn[6:])):
        low, high = axis.range if axis.type == "linear" else np.power(10, axis.range)
        assert all(low <= value <= high for trace in traces for value in trace.y)
    behind = [trace for trace in figure.data if not trace.name][0]
    assert [y for y in behind.y if y is not None] == [10, 20, 30, 0, 0, 0]
    words = {note.text for note in figure.layout.annotations}
    assert {"<b>naive</b><br>4.0 KiB", "<b>GQA</b><br>0 B", "<br>91 FLOP"} <= words
    assert "<br>16.4 ms" in words  # the middle of 8,193, 16,385 and 36,865 µs


def test_the_numbers_of_the_figure_are_a_row_a_mechanism_and_step():
    rows = costs_numbers(COSTS)
    assert len(rows) == 9
    expected = {"mechanism": "mla_absorbed", "tokens": 3, "cache_bytes": 30, "flops": 91}
    assert rows[5] == expected | {"median_us": 121.0}


def test_one_mechanism_alone_is_drawn_too():
    assert isinstance(costs_figure(COSTS[2:], dark=False), go.Figure)


def test_the_caption_says_how_it_was_measured_and_which_are_other_models():
    assert "GQA: models with weights of their own." in ui.costs_caption(COSTS)
    assert "models with weights" not in ui.costs_caption(COSTS[:2])
    assert f"median of {REPEATS}" in ui.costs_caption(COSTS)
    assert ui.costs_words(COSTS).startswith(
        "Cached bytes, FLOPs and time of step 3 by mechanism: naive 4.0 KiB, 12.3 kFLOP, 16.4 ms;"
    )


def show(settings):
    ui.compare_section(settings)


def test_nothing_is_run_until_the_section_is_opened(monkeypatch):
    asked = []

    def made(wanted, settings, _):
        asked.append((wanted.task, settings))
        return json.dumps([each.record() for each in COSTS]).encode()

    monkeypatch.setattr(ui, "made", made)
    s = Settings("A fox", max_new_tokens=2)
    assert section(show, s).expander[0].label.startswith("Every mechanism side by side")
    assert asked == []
    app = section(show, s, compare="true")
    assert asked == [("costs", s)]
    assert app.caption[0].value == ui.costs_caption(COSTS)
    assert not section(show, Settings("A", source="mha"), compare="true").expander


def test_what_cannot_be_compared_is_one_line(monkeypatch):
    def made(*_):
        raise ValueError("geometry: expected one that fits")

    monkeypatch.setattr(ui, "made", made)
    app = section(show, Settings("A fox"), compare="true")
    assert app.error[0].value == "geometry: expected one that fits"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        (bytes_text, 0, "0 B"),
        (bytes_text, 1023, "1023 B"),
        (bytes_text, 1024, "1.0 KiB"),
        (bytes_text, 345600, "337.5 KiB"),
        (bytes_text, 1 << 40, "1.0 TiB"),
        (bytes_text, 1 << 52, "4096.0 TiB"),
        (micros_text, 0.5, "0.50 µs"),
        (micros_text, 12.34, "12.3 µs"),
        (micros_text, 999.6, "1.00 ms"),
        (micros_text, 1250, "1.25 ms"),
        (micros_text, 2.4e6, "2.40 s"),
        (micros_text, 0, "0.00 µs"),
        (micros_text, 99.96, "100 µs"),
        (flops_text, 91, "91 FLOP"),
    ],
)
def test_numbers_are_written_in_one_way(text, value, expected):
    assert text(value) == expected
