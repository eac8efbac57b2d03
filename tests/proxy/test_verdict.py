"""Checks judge anything that user space may send, row by row, and never raise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kml_envs.errors import UserError
from kml_envs.proxy import Bounds, Choice, Verdict
from kml_envs.proxy.verdict import count_verdicts, is_stale, judge, reject

N = 3
ROWS = np.arange(N)
CHOICE = Choice(4)
BOUNDS = Bounds(["a", "b"], [-1, 0], [1, 0.1])
MASK = np.array([[True] * 4, [True, True, False, True], [False, False, False, True]])

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.complex_numbers(),
)
SHAPES = st.one_of(st.just((N,)), st.just((N, 2)), npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
GARBAGE = st.one_of(
    ATOMS,
    st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4), max_leaves=12),
    st.lists(st.one_of(ATOMS, st.lists(ATOMS, max_size=3)), min_size=N, max_size=N),
    st.dictionaries(st.text(max_size=2), ATOMS, max_size=3),
    npst.arrays(
        dtype=st.one_of(npst.scalar_dtypes(), st.just(np.dtype(object)), npst.array_dtypes()),
        shape=SHAPES,
    ),
)


def names(judgement):
    return [Verdict(verdict).name.lower() for verdict in judgement.verdict]


@given(GARBAGE, st.sampled_from([CHOICE, BOUNDS]))
@settings(max_examples=600, deadline=None)
def test_anything_gets_a_verdict_and_accepted_decisions_are_valid(recommendation, accepted):
    mask = MASK if accepted is CHOICE else None
    decision, verdict, all_accepted = judge(recommendation, accepted, mask, ROWS)
    assert verdict.shape == (N,) and verdict.dtype == np.int8
    assert all_accepted == (verdict == Verdict.ACCEPTED).all()
    good = np.flatnonzero(verdict == Verdict.ACCEPTED)
    if accepted is CHOICE:
        assert decision.shape == (N,) and decision.dtype == np.int64
        assert MASK[good, decision[good]].all()
    else:
        assert decision.shape == (N, 2) and decision.dtype == np.float64
        assert ((decision[good] >= BOUNDS.low) & (decision[good] <= BOUNDS.high)).all()


@given(st.lists(st.integers(-(2**70), 2**70), min_size=N, max_size=N))
def test_a_list_of_choices_is_judged_like_an_array(choices):
    as_list = judge(choices, CHOICE, MASK, ROWS)
    as_objects = judge(np.array(choices, dtype=object), CHOICE, MASK, ROWS)
    assert names(as_list) == names(as_objects)
    if all(abs(choice) < 2**62 for choice in choices):
        assert names(as_list) == names(judge(np.array(choices, dtype=np.int64), CHOICE, MASK, ROWS))


@given(npst.arrays(np.float64, (N, 2), elements=st.floats(width=64)))
def test_a_list_of_numbers_is_judged_like_an_array(numbers):
    assert names(judge(numbers.tolist(), BOUNDS, None, ROWS)) == names(judge(numbers, BOUNDS, None, ROWS))


@pytest.mark.parametrize(
    ("recommendation", "expected"),
    [
        (np.array([1, 1, 3]), ["accepted"] * 3),
        (np.array([1, 1, 3], dtype=np.uint8), ["accepted"] * 3),
        (np.array([-1, 4, 3]), ["out_of_range", "out_of_range", "accepted"]),
        (np.array([2**63 + 1, 1, 3], dtype=np.uint64), ["out_of_range", "accepted", "accepted"]),
        (np.array([0, 2, 0]), ["accepted", "no_such_candidate", "no_such_candidate"]),
        (np.array([0.0, np.nan, np.inf]), ["wrong_type", "not_finite", "not_finite"]),
        (np.array([True, False, True]), ["wrong_type"] * 3),
        (np.zeros((N, 1), dtype=int), ["wrong_shape"] * 3),
        (np.zeros(N + 1, dtype=int), ["wrong_shape"] * 3),
        ([0, None, [3]], ["accepted", "deadline_missed", "wrong_shape"]),
        (["0", 1 + 0j, {}], ["wrong_type"] * 3),
        (7, ["wrong_shape"] * 3),
        (None, ["deadline_missed"] * 3),
    ],
)
def test_choices(recommendation, expected):
    assert names(judge(recommendation, CHOICE, MASK, ROWS)) == expected


@pytest.mark.parametrize(
    ("recommendation", "expected"),
    [
        (np.array([[-1, 0], [1, 0.1], [0, 0.05]]), ["accepted"] * 3),
        (np.array([[-1, 0], [1, 0.1], [0, 0.05]], dtype=np.float32), ["accepted"] * 3),
        (np.array([[2, 0], [np.nan, 0], [0, -np.inf]]), ["out_of_range", "not_finite", "not_finite"]),
        (np.full((N, 2), 1e300), ["out_of_range"] * 3),
        (np.full((N, 2), np.timedelta64(1, "s")), ["wrong_type"] * 3),
        (np.full((N, 2), np.timedelta64("NaT")), ["wrong_type"] * 3),
        (np.zeros((N, 3)), ["wrong_shape"] * 3),
        (np.zeros(N), ["wrong_shape"] * 3),
        ([[0, 0], [0], [[0], 0]], ["accepted", "wrong_shape", "wrong_shape"]),
        ([[10**400, 0], [True, 0], ["0", 0]], ["out_of_range", "wrong_type", "wrong_type"]),
    ],
)
def test_bounded_numbers(recommendation, expected):
    assert names(judge(recommendation, BOUNDS, None, ROWS)) == expected


def test_a_decision_does_not_change_with_the_array_it_came_from():
    recommendation = np.array([1, 1, 3])
    decision = judge(recommendation, CHOICE, MASK, ROWS).decision
    recommendation[:] = 0
    assert decision.tolist() == [1, 1, 3]


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        (5, [False, True, False]),
        (np.array([5, 6, 7]), [False, False, True]),
        (np.array([5, 6]), [True] * 3),
        (True, [True] * 3),
        ("5", [True] * 3),
        (np.array([5.0, 6.0, 5.0]), [True] * 3),
    ],
)
def test_staleness(generation, expected):
    assert is_stale(generation, np.array([5, 6, 5])).tolist() == expected


def test_the_first_reason_stays():
    verdict = np.array([0, 3, 0], dtype=np.int8)
    assert reject(verdict, np.array([True, True, False]), Verdict.STALE).tolist() == [Verdict.STALE, 3, 0]


def test_counting_leaves_other_rows_alone():
    counts = np.zeros((N, len(Verdict)), dtype=np.int64)
    count_verdicts(counts, np.array([0, 3, 3], dtype=np.int8), np.array([True, True, False]))
    assert counts.sum() == 2 and counts[0, 0] == 1 and counts[1, 3] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice(0),
        lambda: Bounds([], 0, 1),
        lambda: Bounds(["a"], 1, 1),
        lambda: Bounds(["a"], 0, np.inf),
        lambda: Bounds(["a", "b"], [0], 1),
    ],
)
def test_specifications_that_make_no_sense_are_refused(make):
    with pytest.raises(UserError):
        make()
