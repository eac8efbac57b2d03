"""Access patterns: what the compiled accessors say is what the table describes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.compiling import compiled
from kml_envs.errors import UserError
from kml_envs.workloads.access import (
    NO_BOUNDARY_US,
    PAGE_BYTES,
    build_table,
    move_to,
    next_boundary,
    open_accesses,
    page_touched,
    touch_probability,
    touch_rate,
    validate,
)

MIB = 1 << 20


@compiled
def probability(records, time_us, start, end, duration_us):
    move_to(records[0], time_us)
    return touch_probability(records[0], start, end, duration_us)


@compiled
def rate(records, time_us, start, end):
    move_to(records[0], time_us)
    return touch_rate(records[0], start, end)


@compiled
def boundary(records, time_us):
    move_to(records[0], time_us)
    return next_boundary(records[0])


@compiled
def touched(records, time_us, duration_us, uniforms, out):
    move_to(records[0], time_us)
    for page in range(out.size):
        out[page] = page_touched(records[0], page * 4096 + 17, duration_us, uniforms[page])


KEPT = []


def opened(table, **options):
    KEPT.append(table)  # a record holds the addresses of its table's arrays
    return open_accesses(table, **options)


def touched_pages(table, time_us, duration_us, uniforms=None):
    out = np.zeros(table.size // PAGE_BYTES, np.bool_)
    touched(opened(table), time_us, duration_us, np.full(out.size, 0.5) if uniforms is None else uniforms, out)
    return np.flatnonzero(out)


def two_phases(once=False):
    phases = [(1_000_000, [(0, MIB, 20.0, 0.0), (2 * MIB, 4 * MIB, 1.0, 0.0)]), (500_000, [(MIB, 2 * MIB, 5.0, 0.0)])]
    return build_table("two", phases, 4 * MIB, once=once)


def test_random_touches_are_poisson_and_weighted_by_bytes():
    access = opened(two_phases())
    hot, warm = 1 - np.exp(-20.0 * 0.005), 1 - np.exp(-0.005)
    assert probability(access, 0, 0, MIB, 5000) == pytest.approx(hot)
    assert probability(access, 0, 0, 4 * MIB, 5000) == pytest.approx((hot + 2 * warm) / 4)
    assert probability(access, 0, MIB, 2 * MIB, 5000) == 0.0
    assert rate(access, 0, 0, 4 * MIB) == pytest.approx((20 + 2 * 1) / 4)


def test_phases_follow_each_other_and_repeat():
    access = opened(two_phases())
    for cycle in (0, 1, 7):
        assert rate(access, cycle * 1_500_000 + 999_999, 0, MIB) == pytest.approx(20)
        assert rate(access, cycle * 1_500_000 + 1_000_000, 0, MIB) == 0
        assert boundary(access, cycle * 1_500_000 + 1_000_000) == (cycle + 1) * 1_500_000
    assert rate(access, 0, 0, MIB) == pytest.approx(20), "time may go back"


def test_a_pattern_that_runs_once_falls_silent():
    access = opened(two_phases(once=True))
    assert rate(access, 1_499_999, MIB, 2 * MIB) == pytest.approx(5)
    assert rate(access, 1_500_000, 0, 4 * MIB) == 0
    assert boundary(access, 9_000_000) == NO_BOUNDARY_US


def test_the_origin_shifts_the_pattern():
    access = opened(two_phases(), origin_us=1_200_000)
    assert rate(access, 0, MIB, 2 * MIB) == pytest.approx(5)
    assert boundary(access, 0) == 300_000
    assert rate(access, 300_000, 0, MIB) == pytest.approx(20)


def test_a_sweep_touches_a_moving_window_once_each_turn():
    table = build_table("sweep", [(10_000_000, [(MIB, 2 * MIB, 0.0, 256_000.0)])], 4 * MIB)
    first = MIB // PAGE_BYTES  # 256 pages in 256 ms: one page a millisecond
    assert touched_pages(table, 0, 5000).tolist() == list(range(first, first + 5))
    assert touched_pages(table, 10_500, 1000).tolist() == [first + 10, first + 11]
    wrapped = [first, first + 1, first + 254, first + 255]
    assert touched_pages(table, 254_000, 4000).tolist() == wrapped
    assert len(touched_pages(table, 77_300, 256_000)) == 256
    assert probability(opened(table), 0, 0, 4 * MIB, 5000) == pytest.approx(5 / 1024)


def test_a_page_is_touched_as_often_as_its_probability_says():
    table = build_table("flat", [(1_000_000, [(0, 16 * MIB, 30.0, 0.0)])], 16 * MIB)
    uniforms = np.random.default_rng(3).random(4096)
    share = len(touched_pages(table, 0, 10_000, uniforms)) / 4096
    assert share == pytest.approx(1 - np.exp(-0.3), abs=0.03)


@given(
    cuts=st.lists(st.integers(0, 64), min_size=2, max_size=12, unique=True).map(sorted),
    sweeps=st.lists(st.floats(0, 1e6), min_size=12, max_size=12),
    time_us=st.integers(0, 3_000_000),
    duration_us=st.integers(1, 500_000),
    middle=st.integers(1, 63),
)
@settings(max_examples=60, deadline=None)
def test_probability_of_a_part_is_the_mean_of_its_pages(cuts, sweeps, time_us, duration_us, middle):
    ranges = [(low * 4096, high * 4096, 3.0, sweeps[low % 12]) for low, high in itertools.pairwise(cuts)]
    access = opened(build_table("cuts", [(2_000_000, ranges)], 64 * 4096))
    whole = probability(access, time_us, 0, 64 * 4096, duration_us)
    pages = [probability(access, time_us, page * 4096, page * 4096 + 4096, duration_us) for page in range(64)]
    left = probability(access, time_us, 0, middle * 4096, duration_us)
    right = probability(access, time_us, middle * 4096, 64 * 4096, duration_us)
    assert 0 <= whole <= 1 + 1e-12
    assert whole == pytest.approx(np.mean(pages))
    assert whole * 64 == pytest.approx(left * middle + right * (64 - middle))


@pytest.mark.parametrize(
    "ranges, message",
    [
        ([(0, 4096, -1.0, 0.0)], "needs a rate"),
        ([(0, 4096, 1.0, float("inf"))], "needs a sweep time"),
        ([(0, 4000, 1.0, 0.0)], "must lie on 4096-byte pages"),
        ([(4096, 4096, 1.0, 0.0)], "must not be empty"),
        ([(0, 8192, 1.0, 0.0), (4096, 12288, 1.0, 0.0)], "must not begin before the end of the range before it"),
        ([(0, 2 * MIB, 1.0, 0.0)], "must end within the memory"),
    ],
)
def test_a_wrong_range_is_named(ranges, message):
    with pytest.raises(UserError, match=f"mine, phase 0, range .*: {message}"):
        build_table("mine", [(1000, ranges)], MIB)


def test_wrong_shapes_are_named():
    table = two_phases()
    for change, message in (
        ({"size": 100}, "size 100: a positive multiple"),
        ({"phase_end_us": np.array([5, 5])}, "phase 1: its length"),
        ({"first_range": np.array([0, 1, 2])}, "must hold all 3 ranges"),
        ({"rate": np.zeros(2)}, "every range needs"),
    ):
        with pytest.raises(UserError, match=message):
            validate(table._replace(**change), "mine")
