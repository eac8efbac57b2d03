"""Whom mode `auto` trusts: all rows of the table on the proxy page, ten runs each, on smaller volumes where in time."""

import dataclasses

import numpy as np
import proxy_trust
import pytest

from kml_envs.proxy import Mode

RUNS = 10


def play(name, segments, **changes):
    row = next(row for row in proxy_trust.ROWS if row.name == name)
    return proxy_trust.run(dataclasses.replace(row, **changes), RUNS, segments)


def reached(outcome, mode):
    return int((~np.isnan(outcome.reached[mode])).sum())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "segments"), [("better-time", 256), ("better-half", 256), ("better-space", 2048)])
def test_a_better_agent_is_trusted_in_time_and_in_space(name, segments):
    assert reached(play(name, segments), Mode.RECOMMENDATION) == RUNS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "segments", "volumes"), [("worse-time", 256, 60), ("worse-half", 256, 40), ("worse-space", 2048, 15)]
)
def test_a_worse_agent_is_not_trusted(name, segments, volumes):
    outcome = play(name, segments, volumes=volumes)
    assert reached(outcome, Mode.RECOMMENDATION) == reached(outcome, Mode.COLLABORATION) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "segments", "changes"),
    [("same-time", 256, {"volumes": 40, "share": 0.5}), ("same-space", 2048, {"volumes": 15})],
    ids=["time", "space"],
)
def test_the_builtin_algorithm_itself_is_not_called_better(name, segments, changes):
    assert reached(play(name, segments, **changes), Mode.RECOMMENDATION) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "segments", "volumes"),
    [("harmful-shadow", 256, 30), ("harmful-space", 2048, 8), ("harmful-time", 256, 30)],
    ids=["shadow", "space", "time"],
)
def test_the_most_harmful_agent_stays_within_the_budget_at_every_look(name, segments, volumes):
    outcome = play(name, segments, volumes=volumes)
    assert outcome.overrun.max() <= 0.03
    assert reached(outcome, Mode.COLLABORATION) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "segments", "changes"),
    [
        ("turns", 256, {"volumes": 50, "share": 0.5, "harmful": (40, 50)}),
        ("turns-space", 2048, {"volumes": 26}),
        ("shift", 256, {"volumes": 80}),
        ("shift-space", 2048, {"volumes": 40}),
    ],
)
def test_trust_is_lost_when_a_good_agent_turns_bad(name, segments, changes):
    outcome = play(name, segments, **changes)
    assert reached(outcome, Mode.RECOMMENDATION) == RUNS
    assert not np.isnan(outcome.fell).any()


def test_bounds_are_clopper_and_pearsons():
    np.testing.assert_allclose(proxy_trust.binomial_interval(0, 100), (0.0, 0.0362), atol=5e-5)
    np.testing.assert_allclose(proxy_trust.binomial_interval(95, 100), (0.8872, 0.9836), atol=5e-5)
    np.testing.assert_allclose(proxy_trust.binomial_interval(10, 10), (0.6915, 1.0), atol=5e-5)
