"""Modes, their shares of the units, and the schedule that hands the units out."""

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.proxy import Mode
from kml_envs.proxy.modes import FixedMode, parse_mode
from kml_envs.proxy.units import UnitSchedule, draw_unit


def test_modes_by_name():
    assert [parse_mode(name) for name in ("emergency", "learning", "collaboration", "recommendation")] == list(Mode)
    with pytest.raises(UserError, match=r"unknown mode 'learnin'.*Did you mean 'learning'"):
        parse_mode("learnin")


@pytest.mark.parametrize(
    ("mode", "settings", "share", "in_units"),
    [
        (Mode.EMERGENCY, {}, 0.0, False),
        (Mode.LEARNING, {}, 1 / 8, True),
        (Mode.COLLABORATION, {}, 1 / 2, True),
        (Mode.RECOMMENDATION, {}, 1.0, False),
        (Mode.RECOMMENDATION, {"probes": True}, 15 / 16, True),
        (Mode.LEARNING, {"share": 0.5}, 0.5, True),
    ],
)
def test_shares(mode, settings, share, in_units):
    controller = FixedMode(mode, 3, **settings)
    assert controller.share().tolist() == [share] * 3
    assert controller.mode().tolist() == [mode] * 3
    assert controller.in_units == in_units


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        (Mode.LEARNING, {"probes": True}),
        (Mode.LEARNING, {"share": 1.5}),
        (Mode.EMERGENCY, {"share": 0.5}),
        (Mode.RECOMMENDATION, {"share": 0.5, "probes": True}),
    ],
)
def test_settings_that_contradict_each_other_are_refused(mode, settings):
    with pytest.raises(UserError):
        FixedMode(mode, 1, **settings)


def test_draws_are_uniform_and_independent_of_each_other():
    draws = np.array([[draw_unit(np.uint64(seed), index) for index in range(200)] for seed in range(200)])
    assert 0 <= draws.min() and draws.max() < 1
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)
    by_seed, by_index = draws[:, :-1].ravel(), draws[:-1].ravel()
    assert abs(np.corrcoef(by_seed, draws[:, 1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(by_index, draws[1:].ravel())[0, 1]) < 0.03


def run_schedule(share, windows=2000, window=20):
    rows, seeds = np.ones(2, dtype=bool), np.array([1, 2], dtype=np.uint64)
    shares = np.full(2, share)
    schedule = UnitSchedule(2, window)
    schedule.begin(rows, seeds, np.zeros(2, dtype=np.int64), shares)
    outcomes = []
    for _ in range(2 * windows):
        progress = schedule.boundary.copy()
        if (outcome := schedule.advance(progress, progress * 2.0, shares)) is not None:
            outcomes.append(outcome)
    return outcomes


@pytest.mark.parametrize("share", [0.0, 1 / 8, 1 / 2, 15 / 16, 1.0])
def test_windows_go_to_the_agent_by_its_share(share):
    agent = np.array([outcome.agent for outcome in run_schedule(share)])
    assert agent.shape == (2000, 2)
    tolerance = 4 * np.sqrt(share * (1 - share) / agent.size)
    assert abs(agent.mean() - share) <= tolerance
    if 0 < share < 1:
        assert (agent[:, 0] != agent[:, 1]).any()


def test_only_the_second_half_of_a_window_counts():
    for outcome in run_schedule(0.5, windows=5, window=21):
        assert outcome.progress.tolist() == [11, 11]
        assert outcome.cost.tolist() == [22.0, 22.0]


def test_the_same_seed_draws_the_same_windows():
    first, second = run_schedule(0.5, windows=50), run_schedule(0.5, windows=50)
    assert all((one.agent == other.agent).all() for one, other in zip(first, second, strict=True))


def test_a_window_needs_two_halves():
    with pytest.raises(UserError, match="at least 2"):
        UnitSchedule(1, 1)
