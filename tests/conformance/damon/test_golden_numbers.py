"""Numbers that the kernel's formulas give, worked out apart from this project: intervals, feedback, priorities."""

import numpy as np
import pytest
from damon_monitors import call_factor, call_score, monitor_of

from kml_envs.damon.config import Action, IntervalsGoal, Quota, Scheme, Weights
from kml_envs.damon.monitor import adaptation_bp
from kml_envs.damon.quota import next_input
from kml_envs.damon.versions import KernelVersion

FEEDBACK = [
    (900_000, 200, 1_782_000),
    (900_000, 2_000, 1_620_000),
    (900_000, 250_000_000, 10_000),
    (10_000, 0, 20_000),
    (10_000, 9_999, 10_001),
    (20_000, 15_000, 10_000),
    (100_000_000, 5_000, 150_000_000),
    (100_000_000, 12_000, 80_000_000),
    (100_000_000, 19_999, 10_000),
    (42, 10_000, 42),
    (2**64 - 1, 0, 2**64 - 1),
]
FACTORS = [
    (0, 20_000),
    (2_500, 17_500),
    (5_000, 15_000),
    (9_000, 11_000),
    (10_000, 10_000),
    (11_000, 9_500),
    (15_000, 7_500),
    (19_999, 5_000),
    (10**9, 5_000),
]
HOTNESS = [
    ((1, 1), (0, 0), 24),
    ((1, 1), (0, 10), 23),
    ((1, 1), (0, 50), 21),
    ((1, 1), (0, 300), 20),
    ((1, 1), (0, 1200), 18),
    ((1, 1), (0, 36000), 14),
    ((1, 1), (1, 0), 26),
    ((1, 1), (1, 50), 28),
    ((1, 1), (10, 0), 49),
    ((1, 1), (10, 50), 51),
    ((1, 1), (20, 0), 74),
    ((1, 1), (20, 1200), 79),
    ((1, 1), (20, 36000), 83),
    ((0, 1), (0, 0), 49),
    ((0, 1), (0, 50), 44),
    ((0, 1), (0, 1200), 38),
    ((0, 1), (0, 36000), 30),
    ((1, 0), (0, 77), 0),
    ((1, 0), (1, 77), 4),
    ((1, 0), (10, 0), 49),
    ((1, 0), (20, 5), 99),
]


@pytest.mark.parametrize(("last", "score", "expected"), FEEDBACK)
def test_feedback_loop(last, score, expected):
    assert next_input(np.uint64(last), np.uint64(score)) == expected


@pytest.mark.parametrize(("score", "factor"), FACTORS)
def test_factor_of_intervals(score, factor):
    assert adaptation_bp(score) == factor


@pytest.mark.parametrize(("observed", "factor"), [(0, 20_000), (2, 15_000), (4, 10_000), (6, 7_500), (100, 5_000)])
def test_factor_of_observed_accesses(observed, factor):
    """Of 100 regions of equal size with 25 samples each, `observed` regions have 25 accesses; the goal is 4 %."""
    spans = [(10 * index, 10 * index + 10, 25 if index < observed else 0) for index in range(100)]
    state = monitor_of(
        spans, aggr_us=125_000, intervals_goal=IntervalsGoal(400, 3, 5_000, 10_000_000), min_nr_regions=10
    )
    assert call_factor(state.monitors) == factor


@pytest.mark.parametrize("version", list(KernelVersion))
@pytest.mark.parametrize(("weights", "history", "hotness"), HOTNESS)
def test_priorities(version, weights, history, hotness):
    schemes = tuple(
        Scheme(action, quotas=Quota(bytes=1, reset_interval_ms=1, weights=Weights(0, *weights)))
        for action in (Action.MIGRATE_HOT, Action.PAGEOUT, Action.WILLNEED)
        if version is not KernelVersion.V6_1 or action is not Action.MIGRATE_HOT
    )
    accesses, age = history
    state = monitor_of([(0, 4096, accesses, accesses, age)], version, schemes)
    state.monitors["samples"] = state.monitors["next_aggregation"]
    scores = [call_score(state.monitors, number, 0) for number in range(len(schemes))]
    assert scores == [hotness, 99 - hotness, 99][-len(schemes) :]
