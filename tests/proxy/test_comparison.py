"""What windows have cost, compared by hand."""

import numpy as np
import pytest

from kml_envs.proxy.comparison import Comparison
from kml_envs.proxy.units import UnitOutcome
from kml_envs.proxy.windows import RISE, RISEN_WINDOWS

ONE = np.ones(1, bool)
FIRST = np.zeros(1, np.int64)


def take(comparison, agent, cost, share=0.5):
    """One window of one volume."""
    outcome = UnitOutcome(ONE, np.array([agent]), np.array([100]), np.array([cost * 100]), np.array([share]), ~ONE)
    return comparison.update(outcome, 0.03)


@pytest.fixture
def settled():
    """A volume in which the built-in algorithm's windows cost 3 and the agent's 1."""
    comparison = Comparison(1, 1)
    for agent in (False, False, True, True, False, False, True, True, True, True):
        take(comparison, agent, 1.0 if agent else 3.0)
    return comparison


def test_a_window_is_compared_with_windows_that_followed_the_like():
    comparison = Comparison(1, 1)
    for agent, cost in ((False, 3.0), (True, 1.0), (False, 2.0), (False, 3.0), (True, 1.0)):
        take(comparison, agent, cost)
    # The next window follows one of the agent's, after which the built-in algorithm's costs 2 instead of 3.
    bets = [np.array(take(comparison, False, 2.0)[1][1])]
    comparison = Comparison(1, 1)
    for agent, cost in ((False, 2.0), (True, 1.0), (False, 2.0), (False, 2.0), (True, 1.0)):
        take(comparison, agent, cost)
    np.testing.assert_allclose(bets[0], take(comparison, False, 2.0)[1][1])


def test_the_first_window_after_another_side_is_not_bet_on():
    comparison = Comparison(1, 1)
    assert take(comparison, False, 3.0)[0].size == 0  # nothing to compare with
    assert take(comparison, True, 1.0)[0].size == 1
    assert take(comparison, False, 2.0)[0].size == 0  # the first of the built-in algorithm after the agent
    take(comparison, True, 1.0)
    assert take(comparison, False, 2.0)[0].size == 1


def test_two_dear_windows_of_the_agent_in_a_row_are_a_shift(settled):
    for windows in range(1, 6):
        take(settled, True, 1.1 * RISE)
        assert settled.shifted(FIRST) == (windows >= RISEN_WINDOWS)
    settled.forget_costs(ONE)
    assert not settled.shifted(FIRST) and np.isnan(settled.rate)


@pytest.mark.parametrize("cost", [0.2, 1.0, 0.95 * RISE])
def test_a_fall_or_a_small_rise_is_none(settled, cost):
    for _ in range(5):
        take(settled, True, cost)
        assert not settled.shifted(FIRST)


def test_one_dear_window_is_none(settled):
    for cost in (2.0, 1.0, 2.0, 1.0):
        take(settled, True, cost)
        assert not settled.shifted(FIRST)


def test_windows_that_follow_the_builtin_algorithm_say_nothing_of_a_shift(settled):
    for _ in range(4):
        take(settled, False, 3.0)
        take(settled, True, 5.0)
    assert not settled.shifted(FIRST)


def test_costs_that_vary_much_have_to_rise_more():
    comparison, random = Comparison(1, 1), np.random.default_rng(1)
    for _ in range(200):
        take(comparison, False, 3.0 * np.exp(random.normal(0.0, 0.3)))
    for _ in range(3):
        take(comparison, True, 1.0)
    for _ in range(3):
        take(comparison, True, 1.5)
        assert not comparison.shifted(FIRST)
    for _ in range(2):
        take(comparison, True, 10.0)
    assert comparison.shifted(FIRST)
