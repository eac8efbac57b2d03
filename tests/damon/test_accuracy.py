"""The error of an access picture: its definition, page by page, and its integral over time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.damon.accuracy import PIECE, picture_error
from kml_envs.envs.damon_monitor import DamonMonitorSubsystem, MonitorArguments

PIECES = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 0.1, 0.5, 0.5, 1.0])), min_size=1, max_size=8)


def pieces(parts, size, unit=1):
    """Parts (length, share) up to `size` pages, the last one longer where they do not reach it."""
    ends = np.minimum(np.cumsum([length for length, _ in parts]), size)
    ends[-1] = size
    made = np.zeros(len(parts), PIECE)
    made["end"], made["share"] = ends * unit, [share for _, share in parts]
    return made[np.diff(ends, prepend=0) > 0]


def by_page(made):
    return np.repeat(made["share"], np.diff(made["end"], prepend=0))


def error(one, other):
    return picture_error(one, len(one), other, len(other))


@given(PIECES, PIECES, st.integers(1, 40))
@settings(deadline=None)
def test_the_error_is_the_difference_over_the_sum_page_by_page(first, second, size):
    one, other = pieces(first, size), pieces(second, size)
    apart, together = np.abs(by_page(one) - by_page(other)).sum(), (by_page(one) + by_page(other)).sum()
    assert error(one, other) == pytest.approx(apart / together if together else 0.0)
    assert error(one, other) == pytest.approx(error(other, one))
    assert error(one, one) == 0.0


@given(PIECES, PIECES)
@settings(deadline=None)
def test_one_minus_the_error_is_the_f1_score_of_touched_memory(first, second):
    touched = [[(length, float(share > 0.1)) for length, share in parts] for parts in (first, second)]
    one, other = (by_page(pieces(parts, 30)).astype(bool) for parts in touched)
    if one.any() and other.any() and (one & other).any():
        precision, recall = (one & other).sum() / one.sum(), (one & other).sum() / other.sum()
        f1 = 2 * precision * recall / (precision + recall)
        assert 1.0 - error(*(pieces(parts, 30) for parts in touched)) == pytest.approx(f1)


def test_the_error_has_no_scale_of_memory():
    first, second = [(3, 0.2), (4, 0.0), (5, 1.0)], [(6, 0.5), (1, 0.1)]
    large = error(pieces(first, 12, unit=1 << 30), pieces(second, 12, unit=1 << 30))
    assert large == pytest.approx(error(pieces(first, 12), pieces(second, 12)))


@pytest.fixture(scope="module")
def programs():
    arguments = MonitorArguments(workloads=["bursts-2-1", "mixture-2-1"], warm_s=20.0, max_nr_regions=200)
    made = arguments.setup()[0](2)
    assert isinstance(made, DamonMonitorSubsystem)
    return made


def run(programs, action, seconds):
    every = np.ones(2, np.bool_)
    programs.execute(np.tile(np.array(action), (2, 1)), every, programs.progress() + round(1000 * seconds), every)


def test_truth_and_picture_are_painted_from_ranges_and_regions(programs):
    programs.reset(np.ones(2, np.bool_), np.array([0, 1], np.uint64))
    run(programs, [-0.2, 0.0, 0.5, 1.0], 5.0)
    for row, workload in enumerate(programs.warm.workloads):
        table, track = workload.table, programs.tracks[row]
        # The truth: the phase that the program is in.
        place = (
            programs.warm.origin_us(row, 0) - programs.warm.warm_us + programs.time_us()[row]
        ) % table.phase_end_us[-1]
        phase = int(np.searchsorted(table.phase_end_us, place, side="right"))
        expected = np.zeros(table.size >> 12)
        for index in range(table.first_range[phase], table.first_range[phase + 1]):
            assert table.sweep_us[index] == 0.0
            expected[table.start[index] >> 12 : table.end[index] >> 12] = 1.0 - np.exp(-table.rate[index] * 0.1)
        truth = programs.pieces["truth"][row, : track["truth_count"]].copy()
        truth["end"] >>= 12
        np.testing.assert_allclose(by_page(truth), expected)
        # The picture: between two aggregations the regions are those of the last one.
        regions = programs.state.regions[row, : programs.state.monitors["region_count"][row]]
        hit = regions["last_nr_accesses"] / 20.5
        shares = 1.0 - (1.0 - hit) ** (100_000 / 80_000)
        picture = programs.pieces["picture"][row, : track["picture_count"]].copy()
        picture["end"] >>= 12
        pages = np.diff(regions["end"] >> 12, prepend=0)
        np.testing.assert_allclose(by_page(picture), np.repeat(shares, pages), atol=1e-12)
        assert track["error"] == pytest.approx(error(picture, truth))


def test_the_error_is_integrated_over_time(programs):
    """Looked at every 10 ms: a picture that is taken in between counts up to so much earlier or later."""
    programs.reset(np.ones(2, np.bool_), np.array([4, 5], np.uint64))
    run(programs, [-0.4, -0.3, 0.0, 1.0], 1.0)
    begun, total = programs.tracks["error_us"].copy(), np.zeros(2)
    for _ in range(400):
        total += 10_000 * programs.tracks["error"]
        programs.wait(programs.progress() + 10, np.ones(2, np.bool_))
    np.testing.assert_allclose(programs.tracks["error_us"] - begun, total, rtol=0.002)
    assert len(set(programs.tracks["error"].tolist())) == 2
