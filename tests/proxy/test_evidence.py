"""The sequential tests: a fair game where there is nothing to find, whatever the load, and quick where there is."""

import itertools

import numpy as np
import pytest

from kml_envs.proxy.evidence import SHIFTS, ChangeDetector, SequentialTest, domain_bets, window_bet

ALPHA = 0.05
RUNS = 2000


def window_bets(excess, spread, agent, share):
    """Log factors (R, K) of windows with these excesses (R,), spreads, sides and shares."""
    factors = np.empty((len(excess), len(SHIFTS)))
    for one in zip(excess, spread, agent, share, factors, strict=True):
        window_bet(*one)
    return factors


def loads(kind, units, random):
    """Log costs (units, RUNS) of windows that are the same whoever controls them."""
    noise = random.normal(0.0, 0.05, (units, RUNS))
    if kind == "independent":
        return noise
    level = np.zeros((units, RUNS))
    for unit in range(1, units):
        level[unit] = 0.9 * level[unit - 1] + noise[unit]
    if kind == "autocorrelated":
        return level
    drift = np.linspace(0.0, 2.0, units) + 0.5 * np.sin(np.arange(units) / 9.0)
    return level + drift[:, None] + 0.05 * random.standard_t(2.0, (units, RUNS))


def follow(costs, share, random, effect=0.0):
    """Bet on windows of these costs with a running mean and spread; returns the highest evidence of each run."""
    test, highest = SequentialTest(RUNS), np.full(RUNS, -np.inf)
    usual, variance = costs[0].copy(), np.full(RUNS, 0.05**2)
    for cost in costs[1:]:
        agent = random.random(RUNS) < share
        excess = cost + effect * agent - usual
        bets = window_bets(excess, np.sqrt(variance), agent, np.full(RUNS, share))
        test.update(np.arange(RUNS), bets)
        usual = np.where(agent, usual, usual + 0.2 * excess)
        variance = np.where(agent, variance, 0.9 * variance + 0.1 * excess**2)
        highest = np.maximum(highest, test.log_evidence())
    return highest


@pytest.mark.parametrize("share", [1 / 8, 1 / 2, 15 / 16])
@pytest.mark.parametrize("kind", ["independent", "autocorrelated", "drifting"])
def test_looking_after_every_window_errs_no_more_often_than_alpha(kind, share):
    random = np.random.default_rng(1)
    highest = follow(loads(kind, 150, random), share, random)
    assert np.mean(highest >= np.log(1.0 / ALPHA)) <= ALPHA + 3 * np.sqrt(ALPHA / RUNS)


def test_an_agent_that_costs_more_is_not_called_better():
    random = np.random.default_rng(2)
    assert np.mean(follow(loads("autocorrelated", 150, random), 1 / 8, random, 0.1) >= np.log(1.0 / ALPHA)) < ALPHA


def test_an_agent_that_costs_less_is_found():
    random = np.random.default_rng(3)
    highest = follow(loads("independent", 60, random), 1 / 8, random, -0.2)
    assert np.mean(highest >= np.log(1.0 / ALPHA)) > 0.95


@pytest.mark.parametrize("excess", [-3.0, -0.02, 0.0, 0.05, 50.0])
@pytest.mark.parametrize("share", [1 / 8, 15 / 16])
def test_a_window_is_a_fair_bet(excess, share):
    factors = [
        np.exp(window_bets(np.array([excess]), np.array([0.03]), np.array([agent]), np.array([share])))
        for agent in (True, False)
    ]
    np.testing.assert_allclose(share * factors[0] + (1 - share) * factors[1], 1.0)


def test_a_bet_on_the_agent_only_falls_with_the_cost():
    excess = np.linspace(-1.0, 1.0, 50)
    bets = window_bets(excess, np.full(50, 0.05), np.ones(50, bool), np.full(50, 0.5))
    assert (np.diff(bets, axis=0) <= 0).all()


def test_a_choice_of_domains_is_a_fair_bet():
    excess = np.array([0.3, -0.1, 0.02, 0.0, -0.4])
    choices = [np.isin(np.arange(5), chosen) for chosen in itertools.combinations(range(5), 2)]
    factors = np.exp(domain_bets(np.tile(excess, (len(choices), 1)), np.full(len(choices), 0.1), np.array(choices)))
    np.testing.assert_allclose(factors.mean(axis=0), 1.0)


def test_worse_domains_only_lower_the_bet_on_them():
    agent = np.array([[True, True, False, False, False]])
    before = domain_bets(np.zeros((1, 5)), np.full(1, 0.1), agent)
    after = domain_bets(np.array([[0.2, 0.0, 0.0, 0.0, 0.0]]), np.full(1, 0.1), agent)
    assert (after < before).all()
    np.testing.assert_allclose(before, 0.0, atol=1e-12)


def test_rows_may_differ_in_their_numbers_of_domains():
    random = np.random.default_rng(4)
    excess, spread = random.normal(0, 0.1, (3, 6)), np.full(3, 0.1)
    agent = np.array([[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]], bool)
    together = domain_bets(excess, spread, agent)
    for row in range(3):
        one = slice(row, row + 1)
        np.testing.assert_allclose(together[one], domain_bets(excess[one], spread[one], agent[one]))


def test_an_agent_that_has_become_good_need_not_win_back_what_was_lost():
    test, rows = SequentialTest(1), np.array([0])
    bad, good = np.full((1, len(SHIFTS)), -0.5), np.full((1, len(SHIFTS)), 0.5)
    for _ in range(100):
        test.update(rows, bad)
    for _ in range(40):
        test.update(rows, good)
    assert test.log_evidence()[0] > 5.0
    test.restart(np.array([True]))
    assert test.log_evidence().tolist() == [0.0]


def test_a_change_for_the_worse_is_noticed_after_a_long_good_time():
    detector, rows = ChangeDetector(1), np.array([0])
    for _ in range(100):
        detector.update(rows, np.full((1, len(SHIFTS)), -0.5))
    for _ in range(10):
        detector.update(rows, np.full((1, len(SHIFTS)), 0.5))
    np.testing.assert_allclose(detector.log_evidence(), 5.0)
