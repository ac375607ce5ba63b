"""Records: what is kept, how it is packed, and that nobody can write to it."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mla_viz.run import trace
from mla_viz.run.decode import decode
from mla_viz.run.trace import (
    CELL_BYTES,
    TRACE_BYTES,
    AttentionRows,
    CacheCells,
    kept_steps,
    quantise_cells,
)


def bytes_of(steps, n_layers, n_heads):
    return sum(4 * (step + 1) * n_layers * n_heads for step in steps) * 4


@given(st.integers(1, 1000), st.integers(1, 12), st.integers(1, 16), st.integers(10**4, 10**8))
def test_kept_steps_stay_in_the_bound_and_end_with_the_last(n_steps, n_layers, n_heads, limit):
    kept = kept_steps(n_steps, n_layers, n_heads, limit=limit)
    assert kept == sorted(set(kept))
    assert 0 <= kept[0] <= kept[-1] == n_steps - 1
    last_alone = bytes_of([n_steps - 1], n_layers, n_heads)
    assert bytes_of(kept, n_layers, n_heads) <= max(limit, limit // 2 + last_alone)


@given(st.integers(2, 1000), st.integers(10**4, 10**7))
def test_all_steps_are_kept_where_they_fit(n_steps, limit):
    fits = bytes_of(range(n_steps), 2, 4) <= limit
    assert (kept_steps(n_steps, 2, 4, limit=limit) == list(range(n_steps))) == fits


def test_past_the_bound_the_last_steps_stay_whole_and_the_others_thin_out():
    kept = np.array(kept_steps(500, 5, 8, limit=10 << 20))
    gaps = np.diff(kept)
    thin = int(gaps[0])
    tail = len(kept) - np.flatnonzero(gaps > 1)[-1] - 1
    assert thin > 1
    assert (gaps[: -tail - 1] == thin).all()
    assert (gaps[-tail + 1 :] == 1).all()
    assert 4 << 20 < bytes_of(kept[-tail:], 5, 8) <= 5 << 20


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (880, list(range(10))),  # 16 (1 + 2 + ... + 10) bytes are all
        (879, [0, 2, 4, 6, 7, 8, 9]),  # half is 439: 160 + 144 + 128 = 432 are steps 9, 8 and 7
        (608, [0, 2, 4, 6, 8, 9]),  # half is 304 = 160 + 144; 0, 2, 4, 6 take 16 (1 + 3 + 5 + 7)
        (606, [0, 3, 6, 9]),  # 303 is less than 304, and 0, 2, 4, 6, 8 take 16 25 = 400
        (400, [0, 3, 6, 9]),  # 16 (1 + 4 + 7) = 192
        (300, [0, 5, 9]),  # 0, 4, 8 take 16 (1 + 5 + 9) = 240, 0 and 5 take 16 (1 + 6) = 112
        (32, [0, 9]),  # half is 16, the first step alone
    ],
)
def test_kept_steps_by_hand(limit, kept):
    assert kept_steps(10, 1, 1, limit=limit) == kept


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (1880, list(range(10))),  # 100 bytes more for each step
        (1879, [0, 2, 4, 6, 7, 8, 9]),  # half is 939: 260 + 244 + 228 fit, 212 more do not
        (600, [0, 9]),  # half is 300: 260 for the last, 212 + 100 for 0 and 5
        (50, [0, 9]),  # the first and the last step, whatever they take
    ],
)
def test_what_a_step_takes_whatever_its_number_counts_too(limit, kept):
    assert kept_steps(10, 1, 1, 100, limit) == kept


def test_the_shipped_context_is_kept_whole():
    assert kept_steps(256, 5, 8) == list(range(256))
    assert round(bytes_of(range(256), 5, 8) / 1e6) == 21
    assert TRACE_BYTES == 128 * 2**20


def filled_rows(steps, n_layers=2, n_heads=3):
    rows = AttentionRows(steps, n_layers, n_heads)
    for step in steps:
        rows.row(step)[:] = (
            np.arange(n_layers * n_heads * (step + 1)).reshape(n_layers, n_heads, step + 1)
            + 1000 * step
        )
    return rows


@given(st.integers(1, 40), st.integers(1, 5))
def test_rows_do_not_run_into_each_other(n_steps, every):
    steps = range((n_steps - 1) % every, n_steps, every)
    rows = filled_rows(steps)
    for step in steps:
        assert rows.row(step).shape == (2, 3, step + 1)
        assert rows.row(step)[0, 0, 0] == 1000 * step
        assert rows.row(step)[1, 2, step] == 1000 * step + 6 * (step + 1) - 1
    packed = [np.arange(6 * (step + 1)) + 1000 * step for step in steps]
    assert np.array_equal(rows.data, np.concatenate(packed))


def test_a_dropped_step_is_told_apart():
    rows = filled_rows(range(1, 8, 3))
    assert [step for step in range(8) if rows.keeps(step)] == [1, 4, 7]
    with pytest.raises(KeyError):
        rows.row(2)


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 4))
def test_a_cut_keeps_the_first_steps_bit_for_bit(n_steps, short, every):
    rows = filled_rows(range((n_steps - 1) % every, n_steps, every))
    cut = rows.cut(short)
    assert [step for step in rows.steps if step < short] == list(cut.steps)
    assert not cut.keeps(short)
    for step in cut.steps:
        assert np.array_equal(cut.row(int(step)), rows.row(int(step)))


def test_a_cut_is_read_only():
    cut = filled_rows(range(5)).cut(3)
    with pytest.raises(ValueError, match="read-only"):
        cut.row(1)[0, 0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        cut.data[0] = 1.0


def one_run():
    return decode("Hi", source="synthetic", layers=2, heads=3, latent=4, max_new_tokens=3)


def arrays_of(record):
    """Every array that a record holds, and those of the records in it."""
    for value in vars(record).values():
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, trace.Record):
            yield from arrays_of(value)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda run: pickle.loads(pickle.dumps(run)),
    "replace": replace,
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_a_run_is_equal_and_as_read_only(kind):
    run = one_run()
    twin = COPIES[kind](run)
    assert twin == run
    assert len([*arrays_of(twin)]) == len([*arrays_of(run)]) > 20
    for array in (*arrays_of(run), *arrays_of(twin)):
        assert not array.flags.writeable
    for record in (twin, twin.left, twin.left.probs, twin.left.cells):
        with pytest.raises(FrozenInstanceError):
            record.data = None
    assert np.array_equal(twin.left.probs.row(1), run.left.probs.row(1))


def test_two_runs_are_equal_where_all_but_their_times_is():
    run, again = one_run(), one_run()
    assert not np.array_equal(run.left.time_us, again.left.time_us)
    assert run == again


@pytest.mark.usefixtures("untyped")
def test_every_value_of_a_run_counts_when_it_is_compared():
    run = one_run()
    for record in (run, run.left, run.left.cells):
        for name in {*vars(record)} - {"time_us"}:
            assert record != replace(record, **{name: changed(getattr(record, name))}), name
    rows = copy.deepcopy(run.left.probs)
    vars(rows).update(data=changed(rows.data))
    assert rows != run.left.probs
    assert run.left != run.left.probs


def changed(value):
    """Nothing, a name where there was nothing, or an array whose last value alone is another."""
    if not isinstance(value, np.ndarray):
        return None if value is not None else "int8"
    other = value.copy()
    other.flat[-1] += 1
    return other


def values_of(cells: CacheCells):
    low, high = cells.low_high.astype(float).T[..., None, None]
    return low + (high - low) * cells.data / 255


tables = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 9)),
    elements=st.floats(-1000, 1000, width=32),
)


@given(tables)
def test_cells_come_back_within_half_a_step(layers):
    cells = quantise_cells(list(layers))
    low, high = cells.low_high.T
    half_step = (high - low).astype(float)[:, None, None] / 510
    assert (np.abs(values_of(cells) - layers) <= half_step + 1e-4).all()
    assert np.array_equal(low, layers.min((1, 2)))
    assert np.array_equal(high, layers.max((1, 2)))


def test_equal_cells_do_not_divide_by_zero():
    cells = quantise_cells([np.full((4, 3), 2.5, dtype=np.float32)])
    assert (values_of(cells) == 2.5).all()


def test_nothing_cached_gives_no_cells():
    cells = quantise_cells([np.empty((7, 0), dtype=np.float32)] * 2)
    assert cells.data.shape == (2, 7, 0)
    assert np.array_equal(cells.low_high, np.zeros((2, 2)))


def test_a_large_cache_is_shown_by_every_kth_token():
    table = np.linspace(0, 1, 3000 * 1000, dtype=np.float32).reshape(3000, 1000)
    cells = quantise_cells([table, table])
    assert cells.every == 2
    assert cells.data.nbytes <= CELL_BYTES
    assert np.abs(values_of(cells) - table[::2]).max() < 1 / 500


@pytest.mark.parametrize(
    ("limit", "every"), [(1000, 1), (28, 1), (27, 2), (14, 2), (13, 3), (4, 7), (1, 28)]
)
def test_as_many_tokens_are_shown_as_fit(monkeypatch, limit, every):
    # Two layers of seven tokens with two elements are 28 bytes. The first layer runs from 0 to 255,
    # the second from 0 to 510: its byte 1 is 2.
    monkeypatch.setattr(trace, "CELL_BYTES", limit)
    table = np.array([[0, 255], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 255]], np.float32)
    cells = quantise_cells([table, 2 * table])
    assert cells.every == every
    shown = table[::every].astype(np.uint8)
    assert np.array_equal(cells.data, [shown, shown])
    assert np.array_equal(cells.low_high, [[0, 255], [0, 510]])


def test_cells_are_read_only():
    cells = quantise_cells([np.eye(3, dtype=np.float32)])
    for array in (cells.data, cells.low_high):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
