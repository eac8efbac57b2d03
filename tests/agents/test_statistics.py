"""The numbers of a comparison, against numbers made by hand."""

import numpy as np
import pytest

from agents.statistics import bootstrap_interval, geometric_mean, interquartile_mean, normalized_score


def test_score_is_zero_for_the_builtin_one_for_the_oracle_and_negative_below():
    builtin, oracle, user = np.full((1, 4), 300.0), np.full((1, 4), 100.0), np.full((1, 4), 1000.0)
    policy = np.array([[300.0, 100.0, 200.0, 400.0]])
    assert normalized_score(builtin, policy, oracle, user).tolist() == [[0.0, 1.0, 0.5, -0.5]]


def test_score_is_unknown_where_nothing_can_be_won():
    score = normalized_score(np.array([[5.0]]), np.array([[0.0]]), np.array([[0.0]]), np.array([[1000.0]]))
    assert np.isnan(score).all()


def test_interquartile_mean_leaves_a_quarter_out_at_each_end():
    assert interquartile_mean(np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0])) == 3.5
    assert interquartile_mean(np.array([[7.0, np.nan], [np.nan, 9.0]])) == 8.0
    assert np.isnan(interquartile_mean(np.array([np.nan])))


def test_geometric_mean():
    assert geometric_mean(np.array([[1.0, 4.0], [2.0, 2.0]])) == pytest.approx([2.0, 2.0])
    assert np.isnan(geometric_mean(np.array([1.0, np.nan])))


def test_bootstrap_of_equal_values_has_no_width():
    interval = bootstrap_interval(np.full((3, 5), 0.25))
    assert (interval.estimate, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_bootstrap_is_stratified():
    # Seeds agree within each workload, workloads differ: drawing seeds anew changes nothing.
    interval = bootstrap_interval(np.repeat([[0.1], [0.5], [0.9]], 6, axis=1))
    assert interval.low == interval.estimate == interval.high


def test_bootstrap_is_reproducible_and_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(5).normal(0.0, 1.0, (1, 400))
    interval = bootstrap_interval(values, lambda sample: float(sample.mean()), repetitions=1000)
    assert interval == bootstrap_interval(values, lambda sample: float(sample.mean()), repetitions=1000)
    assert (interval.high - interval.low) == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_interval_without_known_values_is_unknown():
    interval = bootstrap_interval(np.full((2, 3), np.nan), repetitions=10)
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()
