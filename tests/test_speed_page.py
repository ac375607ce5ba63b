"""The Speed page: its figures from hand-made records, its sentences, its bench, the page whole."""

import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_viz.cost import crossover_query_tokens, query_flops
from mla_viz.figures.speed import (
    Mark,
    growth_figure,
    log_axis,
    queries_figure,
    roofline_figure,
    time_figure,
    token_axis,
)
from mla_viz.figures.speed_counted import Gains, gains_figure, shares_figure, training_figure
from mla_viz.findings.served import ingredients, mla_models
from mla_viz.findings.speed import (
    Rates,
    accelerator_rates,
    needed_balance,
    training,
    training_crossing,
)
from mla_viz.mechanisms.table import MECHANISMS
from mla_viz.published.accelerators import accelerators
from mla_viz.serving.benches import BenchAsked, Benches
from mla_viz.ui.server import may_bench
from mla_viz.ui.speed import asked as asked_module
from mla_viz.ui.speed import headline, here, words
from mla_viz.ui.speed.asked import HERE, SpeedAsked
from mla_viz.words import micros_text, number_text
from tests.benches import CONFIG, LITE, ROOF, V3, made_bench, made_point, made_query
from tests.screens import page, said, tables

pytestmark = pytest.mark.filterwarnings("default")
MACHINE = "A machine, 2 threads"
TINY = BenchAsked(
    "tiny",
    json.dumps(CONFIG),
    (16,),
    1,
    "float32",
    ("mla_absorbed",),
    3,
)
ASKED = SpeedAsked(MACHINE, "DeepSeek-V3", V3, context=1024)


# Figures


def test_time_has_a_mark_for_each_context_with_its_spread_and_a_counted_line():
    bench = made_bench()
    points = [point for point in bench.points if point.part == "core"]
    figure = time_figure(points, 1024, dark=False)
    limits, marks = figure.data[::2], figure.data[1::2]
    names = ("mha", "mla_expanded", "mla_absorbed")
    for mechanism, limit, shown in zip(names, limits, marks, strict=True):
        rows = [point for point in points if point.mechanism == mechanism]
        assert list(shown.x) == [256, 1024]
        assert list(shown.y) == [row.time_us for row in rows]
        assert list(limit.y) == [row.limit_us for row in rows]
        for i, row in enumerate(rows):
            assert shown.y[i] + shown.error_y.array[i] == pytest.approx(row.slowest_us)
            assert shown.y[i] - shown.error_y.arrayminus[i] == pytest.approx(row.quickest_us)
        assert shown.line.color == limit.line.color == MECHANISMS[mechanism].colour.light
        assert (shown.line.dash, limit.line.dash) == (None, "dot")
    assert len({mark.marker.symbol for mark in marks}) == 3
    assert figure.layout.yaxis.title.text == "time of a step"


def test_the_roof_bends_at_the_ridge_and_open_marks_lie_on_it():
    rates = Rates("made", 20e9, 400e9, "a test")
    marks = [Mark("mha", 1.0, 20e9, 16e9), Mark("mla_absorbed", 100.0, 400e9)]
    figure = roofline_figure(rates, marks, dark=True)
    roof, first, timed, second = figure.data
    assert (roof.x[1], roof.y[1]) == (20, 400e9)
    assert roof.y[0] == pytest.approx(roof.x[0] * 20e9)
    assert (first.y[0], second.y[0]) == (20e9, 400e9)
    assert list(timed.y) == [20e9, 16e9]
    assert first.marker.symbol.endswith("-open")
    assert "80% of its limit" in timed.hovertemplate
    assert figure.layout.annotations[0].text == "ridge: 20 FLOP a byte"


def test_queries_are_lines_where_counted_and_marks_where_timed():
    limits = {form: [(1, 10.0), (64, 20.0)] for form in ("mla_absorbed", "mla_reexpand")}
    timed = [made_query("mla_absorbed", n, 30.0) for n in (1, 64)]
    figure = queries_figure(limits, timed, 170.0, 4, dark=False)
    modes = [(trace.mode, trace.showlegend) for trace in figure.data]
    assert modes == [("lines", False), ("markers", None), ("lines", True)]
    assert figure.layout.annotations[0].text == "as many FLOPs: 170"
    assert 10 ** figure.layout.annotations[0].x == pytest.approx(170)


def test_growth_draws_time_and_what_is_held_for_every_mechanism():
    lines = {name: [made_point(name, context=t) for t in (128, 256)] for name in ("mha", "mqa")}
    figure = growth_figure(lines, dark=False)
    held = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert [list(trace.y) for trace in held] == [[128_000, 256_000]] * 2
    assert len(figure.data) == 6


def test_gains_are_lines_where_counted_and_marks_where_timed():
    gains = [Gains("core", [(1, 2.0), (2, 3.0)]), Gains("timed", [(1, 0.5)], measured=True)]
    figure = gains_figure(gains, 1, dark=False)
    assert [trace.mode for trace in figure.data] == ["lines", "markers"]
    assert list(figure.data[0].y) == [2.0, 3.0]


def test_what_does_not_fit_has_no_bar():
    figure = shares_figure({"one": 1.0, "none": None}, ["gqa", "mla_absorbed"], dark=False)
    assert list(figure.data[0].x) == [1.0, 0]
    assert list(figure.data[0].text) == ["1×", "does not fit"]


def test_training_is_marked_at_the_chosen_length():
    rows = {name: [(t, training(name, V3, t)) for t in (512, 1024)] for name in ("mha", "mqa")}
    figure = training_figure(rows, 1024, dark=False)
    assert list(figure.data[0].y) == [each.flops for _, each in rows["mha"]]
    assert list(figure.data[0].marker.size) == [0, 11]


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=5))
def test_an_axis_holds_its_values_and_some_ticks(values):
    axis = log_axis(values, number_text, "")
    low, high = (10**end for end in axis["range"])
    assert low < min(values) <= max(values) < high
    inside = [tick for tick in axis["tickvals"] if low <= tick <= high]
    assert 1 <= len(inside) <= 24 or max(values) / min(values) < 1.3


@given(st.lists(st.integers(1, 1 << 20), min_size=1, max_size=9))
def test_an_axis_of_tokens_has_a_few_powers_of_two(tokens):
    ticks = token_axis(tokens)["tickvals"]
    assert 1 <= len(ticks) <= 16


# Sentences


@given(st.floats(1e-3, 1e4))
def test_a_pace_is_the_right_way_round(ratio):
    text = words.pace(ratio)
    assert text.endswith("quick") == (ratio > 1 / 1.005)
    assert ("times" in text) == (abs(ratio - 1) > 0.005) or 0.994 < ratio < 1.006


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_the_measured_speed_up_is_told_beside_the_predicted_one(predicted, measured):
    text = words.beside_limits(predicted, measured)
    assert number_text(predicted) in text
    assert text.startswith("more") == (measured >= 1.05 * predicted)
    assert text.startswith("less") == (predicted >= 1.05 * measured)


@pytest.mark.parametrize(("slow", "quick"), [*product((0.2, 0.5, 0.8), repeat=2)])
def test_who_is_further_from_its_limit_is_said(slow, quick):
    points = made_point("mha", share=slow), made_point(share=quick)
    text = words.fair_words(*points)
    assert text.startswith("Both") == (slow == quick)
    assert ("slow side is further" in text) == (slow < quick)
    assert ("absorbed side is further" in text) == (slow > quick)


@pytest.mark.parametrize("name", list(mla_models()))
@pytest.mark.parametrize("baseline", ["mla_expanded", "mha", "mqa"])
def test_the_balance_is_told_of_every_machine(name, baseline):
    needed = needed_balance(mla_models()[name], baseline, 2)
    for machine, printed in accelerators().items():
        if "bfloat16" in printed.flops:
            rates = accelerator_rates(machine, "bfloat16")
            text = words.balance_words(needed, rates, baseline)
            if needed is None:
                assert text.endswith("it wins on no machine.")
            else:
                wins = rates.balance > needed
                assert ("**wins**" in text, "**does not win**" in text) == (wins, not wins)


@given(st.integers(1, 4096), st.integers(1, 1 << 17), st.sampled_from([*mla_models()]))
def test_the_form_with_fewer_products_is_named(tokens, context, name):
    g = mla_models()[name]
    absorbed, rebuilt = (
        query_flops(form, g, tokens, context) for form in ("mla_absorbed", "mla_reexpand")
    )
    text = words.flops_words(absorbed, rebuilt, tokens)
    assert ("**absorbing**" in text, "**rebuilding**" in text) == (
        absorbed < rebuilt,
        rebuilt < absorbed,
    )
    here = crossover_query_tokens(g, context)
    crossing = words.crossing_words(crossover_query_tokens(g), here, context)
    assert ("however many" in crossing) == (here is None)
    assert here is None or f"from {number_text(here)} query tokens on" in crossing


@pytest.mark.parametrize(
    ("absorbed", "rebuilt", "expected"),
    [
        (
            [1, 2, 9],
            [5, 5, 5],
            "absorbing is the quicker one at first; it changes between 4 and 16",
        ),
        ([9, 9, 9], [5, 5, 5], "rebuilding is the quicker one at every"),
        ([1, 1, 1], [5, 5, 5], "absorbing is the quicker one at every"),
        ([9, 1, 9], [5, 5, 5], "between 1 and 4, then between 4 and 16"),
    ],
)
def test_where_the_timed_forms_cross(absorbed, rebuilt, expected):
    points = [
        made_query(form, tokens, float(us))
        for form, times in (("mla_absorbed", absorbed), ("mla_reexpand", rebuilt))
        for tokens, us in zip((1, 4, 16), times, strict=True)
    ]
    assert expected in words.measured_crossing(points)
    assert "were not timed" in words.measured_crossing(points[:3])


def test_growth_is_told_between_the_two_longest_contexts():
    points = [made_point(context=t) for t in (128, 1024, 4096)]
    text = words.growth_words(points, 4096 * 1152)
    assert text.startswith("from 1,024 to 4,096 tokens, 4 times as many, a step takes")
    assert "4.10 MB beside its cache then, 87% of its cache" in text


@pytest.mark.parametrize(("load", "busy"), [*product((0.1, 2.0), (0, 1))])
def test_other_work_is_told_where_there_was_some(load, busy):
    bench = made_bench(load=load)
    first, *others = bench.points
    bench = replace(bench, points=(replace(first, busy=bool(busy)), *others))
    text = words.busy_words(bench)
    assert bool(text) == bench.busy
    assert ("wanted a core" in text) == (load > 0.5)
    assert ("1 of 12 times" in text) == bool(busy)


@pytest.mark.parametrize("name", [n for n, a in accelerators().items() if "bfloat16" in a.flops])
@pytest.mark.parametrize("ranks", [1, 8, 32])
@pytest.mark.parametrize("context", [128, 4096, 131_072])
def test_the_headline_is_told_where_it_fits_and_where_it_does_not(name, ranks, context):
    shares = ingredients(name, ranks, context)
    here = replace(ASKED, accelerator=name, context=context)
    text = headline.headline_words(shares, here, ranks)
    dense, whole = shares[0], shares[5]
    assert ("weights of DeepSeek-67B, so" in text) == (dense.found is None)
    assert ("5.76" in text) == (whole.ratio is not None)
    if whole.ratio is not None:
        assert text.startswith(f"**{number_text(whole.ratio)} times**")
        assert ("longer step" in text) == (whole.found.step_us > dense.found.step_us)


@pytest.mark.parametrize("name", list(mla_models()))
def test_training_is_told_beside_plain_mha(name):
    g = mla_models()[name]
    both = [training(kind, g, 4096) for kind in ("mla_expanded", "mha")]
    crossing = training_crossing(g)
    text = headline.training_words(*both, crossing, replace(ASKED, context=4096))
    assert f"MLA has {number_text(both[0].params / both[1].params)} times the weights" in text
    never = crossing is None or crossing < 1
    assert text.endswith("at no length." if never else f"at {crossing:,.0f} tokens.")


# The bench of the page


def until_ended(run):
    for _ in range(600):
        run.look()
        if run.wait(0.1):
            return
    raise AssertionError(run.progress)


def test_a_bench_runs_in_a_process_of_its_own_and_is_kept():
    benches = Benches()
    run = benches.start(TINY)
    with pytest.raises(ValueError, match="Another visitor's bench is running"):
        benches.start(TINY)
    assert benches.running is run
    until_ended(run)
    assert run.error is None
    assert run.found.complete
    assert {p.context for p in run.found.points} == {16}
    assert run.found.geometry == "tiny"
    assert run.progress[1] == run.progress[2] > 0
    assert benches.running is None
    assert benches.kept == (run.found,)


def test_a_stop_keeps_whole_rounds_or_says_that_there_are_none():
    benches = Benches()
    run = benches.start(replace(TINY, contexts=(4096,), repeats=1000))
    while run.progress[1] < 5 and not run.ended:
        time.sleep(0.02)
    run.stop()
    until_ended(run)
    assert not run.found.complete
    assert 1 <= run.found.points[0].repeats < 1000
    early = benches.start(TINY)
    early.stop()
    until_ended(early)
    assert early.found is None
    assert early.error == "Stopped before a round was whole: nothing was measured"
    assert benches.kept == (run.found,)


def test_what_the_bench_refuses_is_one_line():
    benches = Benches()
    run = benches.start(replace(TINY, contexts=(1,)))
    until_ended(run)
    assert run.error.startswith("contexts: expected a whole number from 2")
    assert benches.kept == ()


def test_a_bench_that_nobody_looks_at_is_ended(monkeypatch):
    monkeypatch.setattr("mla_viz.serving.benches.PATIENCE", 0.0)
    run = Benches().start(replace(TINY, repeats=1000))
    assert run.wait(60.0)
    assert run.found is None or not run.found.complete


def test_a_server_that_ends_takes_its_bench_along():
    benches = Benches()
    run = benches.start(replace(TINY, repeats=1000))
    benches.close()
    assert run.ended
    assert run._process.poll() is not None


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        ({}, ([], ["mha"], 3, False, False), "contexts and mechanisms: expected one of each"),
        ({}, ([128], [], 3, False, False), "contexts and mechanisms: expected one of each"),
        (
            {"dtype": "fp8"},
            ([128], ["mha"], 3, False, False),
            "dtype: expected bfloat16 or float32",
        ),
        ({"batch": 9}, ([2048], ["mha"], 3, False, False), "contexts: expected 16,384 tokens"),
        ({}, ([8192], ["mha"], 3, True, False), "contexts: expected 4,096 at most where many"),
    ],
)
def test_more_than_a_shared_server_bears_is_refused(changes, arguments, expected):
    with pytest.raises(ValueError, match="^" + expected):
        here.bench_asked(replace(ASKED, **changes), *arguments)


@pytest.mark.parametrize(("value", "may"), [("off", False), (" OFF ", False), ("on", True)])
def test_an_operator_may_forbid_it(monkeypatch, value, may):
    monkeypatch.setenv("MLA_VIZ_BENCH", value)
    assert may_bench() == may


def test_a_layer_asked_for_is_the_one_that_is_timed():
    asked = here.bench_asked(replace(ASKED, geometry=LITE), [128], ["mha"], 3, True, True)
    fields = json.loads(asked.config)
    assert fields["hidden_size"] == LITE.d_model
    assert fields["q_lora_rank"] is None
    assert "--no-peers" not in asked.command(Path("x"))
    assert asked.query_tokens == here.QUERIES


# The page


@pytest.fixture
def shipped(monkeypatch):
    """What the page has as shipped benches: these, by name."""

    def put(*benches):
        named = {f"bench {i}": bench for i, bench in enumerate(benches)}
        monkeypatch.setattr(asked_module, "shipped_benches", lambda: named)
        monkeypatch.setattr(asked_module, "benches", Benches)

    queries = [made_query(f, n, 5.0) for f in ("mla_absorbed", "mla_reexpand") for n in (1, 64)]
    put(made_bench(shares={"mha": 0.6, "mla_expanded": 0.7, "mla_absorbed": 0.8}, queries=queries))
    return put


def speed_page(**query):
    app = page("pages/speed.py", **query)
    assert not app.exception
    return app


def headings(app):
    return [text.removeprefix("## ") for text in said(app) if text.startswith("## ")]


@pytest.mark.usefixtures("shipped")
def test_the_cards_show_what_was_measured():
    app = speed_page(speed_context=1024)
    assert not app.error
    found = {n: made_point(n, share=s) for n, s in (("mha", 0.6), ("mla_absorbed", 0.8))}
    ratio = found["mha"].time_us / found["mla_absorbed"].time_us
    assert headings(app)[0] == f"{number_text(ratio)}×"
    assert headings(app)[-1] == "80%"
    predicted = found["mha"].limit_us / found["mla_absorbed"].limit_us
    captions = [caption.value for caption in app.caption]
    assert any(f"more than the limits predict ({number_text(predicted)}" in c for c in captions)
    assert any("No CUDA device is among the machines measured" in c for c in captions)


@pytest.mark.usefixtures("shipped")
def test_a_context_that_was_not_timed_takes_the_nearest():
    app = speed_page(speed_context=2000)
    where = "1,024 tokens, the measured context nearest to 2,000"
    assert any(where in caption.value for caption in app.caption)


@pytest.mark.parametrize("part", ["Roofline", "Where it wins and loses", "One query or many"])
@pytest.mark.parametrize(
    "query", [{}, {"speed_model": "GLM-4.7-Flash"}, {"speed_dtype": "fp8"}, {"speed_batch": 7}]
)
def test_every_tab_is_there_whatever_was_timed(shipped, part, query):
    app = speed_page(speed_tab=part, **query)
    if query:
        assert "was not timed there" in app.info[0].value
        assert "It has DeepSeek-V3 in bfloat16, batch 1." in app.info[0].value
        counted = [c.value for c in app.caption if "not measured: " in c.value]
        assert len(counted) == 3 or query.get("speed_dtype") == "fp8"
    elif part == "Roofline":
        (rows,) = tables(app)
        assert [row["share of limit"] for row in rows] == ["60%", "70%", "80%"]
        assert rows[-1]["times absorbed's, limits"] == rows[-1]["times absorbed's, measured"] == "1"
    shipped()
    assert "was not timed there" in speed_page(speed_tab=part, **query).info[0].value


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    "part", ["On an accelerator", "The 5.76×", "Weights and training", "Growth", "Beside others"]
)
def test_further_tabs_show_their_part(part):
    app = speed_page(speed_tab=part)
    assert not app.error
    assert tables(app) or part == "Growth"


@pytest.mark.usefixtures("shipped")
def test_an_accelerator_without_a_printed_rate_is_refused_in_its_tab():
    app = speed_page(speed_tab="On an accelerator", speed_dtype="float32")
    (error,) = app.error
    assert error.value.startswith("dtype: expected one whose dense products are printed for H800")
    app = speed_page(speed_tab="The 5.76×", speed_accelerator="RTX 5090")
    assert "printed for RTX 5090 (none)" in app.error[0].value


@pytest.mark.usefixtures("shipped")
def test_an_accelerator_s_table_is_what_is_counted():
    app = speed_page(speed_tab="On an accelerator", speed_context=1 << 20)
    rows = {row["mechanism"]: row for row in tables(app)[0]}
    assert rows["naive"]["times absorbed's"] == "71.1"
    assert rows["absorbed"]["waits for"] == "reading"


@pytest.mark.usefixtures("shipped")
def test_a_bad_number_is_refused_and_the_last_good_one_stays():
    app = speed_page(speed_context=256)
    before = headings(app)
    app.number_input(key="speed_context").set_value(10.5).run()
    assert app.error[0].value.startswith("context: expected a whole number from 1 to")
    assert app.error[0].value.endswith("The page goes on with 256.")
    assert headings(app) == before


def test_a_cuda_device_that_was_measured_is_not_missed(shipped):
    shipped(made_bench(machine="NVIDIA H100, 1 device"))
    app = speed_page(speed_context=1024)
    assert not any("No CUDA device" in caption.value for caption in app.caption)


@pytest.mark.usefixtures("shipped")
def test_query_tokens_are_chosen_by_what_they_are_for():
    app = speed_page(speed_tab="One query or many")
    assert any("For 1 query token **absorbing**" in text for text in said(app))
    app.button(key="speed_spot_4096").click().run()
    assert any("For 4,096 query tokens **rebuilding**" in text for text in said(app))


def test_a_machine_that_was_not_quiet_is_warned_of(shipped):
    assert not speed_page().warning
    shipped(made_bench(load=3.0))
    assert speed_page().warning[0].value.startswith("The machine was not quiet: 3.0 processes")


@pytest.mark.usefixtures("shipped")
def test_where_nothing_may_be_run_it_is_said(monkeypatch):
    monkeypatch.setenv("MLA_VIZ_BENCH", "off")
    app = speed_page()
    assert any(info.value == here.OFF for info in app.info)
    assert not [button for button in app.button if button.key == "speed_measure"]


@pytest.mark.usefixtures("shipped")
def test_a_bench_of_the_page_is_run_watched_and_shown(monkeypatch):
    benches = Benches()
    for module in (asked_module, here):
        monkeypatch.setattr(module, "benches", lambda: benches)
    monkeypatch.setattr(here, "bench_asked", lambda *_: TINY)
    app = speed_page()
    app.button(key="speed_measure").click().run()
    assert not app.exception
    assert app.button(key="speed_stop")
    other = speed_page()
    assert any("Another visitor's bench" in info.value for info in other.info)
    for _ in range(300):
        if benches.running is None:
            break
        time.sleep(0.1)
    app.run()
    assert not app.exception
    assert app.selectbox(key="speed_source").value == HERE
    assert "tiny in float32" in app.info[0].value
    app.selectbox(key="speed_model").set_value("tiny").run()
    app.selectbox(key="speed_dtype").set_value("float32").run()
    assert any("one layer of tiny in float32, 16 tokens" in c.value for c in app.caption)


@pytest.mark.usefixtures("shipped")
def test_a_stopped_bench_says_so(monkeypatch):
    benches = Benches()
    for module in (asked_module, here):
        monkeypatch.setattr(module, "benches", lambda: benches)
    monkeypatch.setattr(here, "bench_asked", lambda *_: replace(TINY, repeats=1000))
    app = speed_page()
    app.button(key="speed_measure").click().run()
    app.button(key="speed_stop").click().run()
    for _ in range(300):
        if benches.running is None:
            break
        time.sleep(0.1)
    app.run()
    if benches.kept:  # a slow moment between the clicks: some rounds were whole
        assert not benches.kept[0].complete
        assert app.selectbox(key="speed_source").value == HERE
    else:
        assert app.error[0].value.startswith("Stopped before a round was whole")
        assert app.selectbox(key="speed_source").value == MACHINE


def test_the_roof_of_the_made_machine_is_the_better_of_two():
    assert ROOF.gflops == 400
    assert micros_text(ROOF.limit_us(8_000_000, 20_000)) == "20.0 µs"
