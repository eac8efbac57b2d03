"""What the agent of LfsTune sees of update intervals, and what its numbers do."""

import gymnasium
import numpy as np
import pytest
from lfs_volumes import check, formatted

from kml_envs.lfs.config import LfsConfig, Placement, PlacementConfig
from kml_envs.lfs.observation import INTERVAL_FEATURES, observe_intervals
from kml_envs.lfs.simulator import advance, fill_rows
from kml_envs.lfs.tune import ACTION_NAMES, apply_parameters
from kml_envs.workloads.synthetic import hot_cold, uniform

CONFIG = LfsConfig(placement=PlacementConfig(Placement.AGE_THRESHOLD, keep_intervals=True))


def run(workload, volumes=4.0):
    state = formatted(CONFIG, workload)
    fill_rows(state.volumes, np.zeros(1, np.int64))
    advance(state.volumes[0], int((1 + volumes) * state.volumes[0]["block_count"]), False)
    return state


def features(state):
    out = np.zeros(len(INTERVAL_FEATURES), np.float32)
    observe_intervals(state.volumes[0], out)
    return out


def test_predictability_is_the_correlation_of_what_was_expected_and_what_came():
    state = formatted(CONFIG)
    expected, ages = np.array([3, 3, 7, 9, 12]), np.array([4, 2, 8, 8, 11])
    for bucket, age in zip(expected, ages, strict=True):
        state.overwrite_intervals[0, bucket] += 1
        state.overwrite_ages[0, age] += 1
    state.volumes[0]["age_products"] = (expected * ages).sum()
    found = features(state)
    assert found[-1] == pytest.approx(np.corrcoef(expected, ages)[0, 1])
    assert np.allclose(found[:-1], np.bincount(expected, minlength=16) / 5)


def test_a_volume_without_overwrites_shows_nothing():
    assert not features(formatted(CONFIG)).any()


def test_skewed_writes_can_be_predicted_and_uniform_ones_cannot():
    assert features(run(uniform()))[-1] < 0.1
    assert features(run(hot_cold(0.9, 0.1)))[-1] > 0.3


def test_the_zero_action_is_greedy_with_a_tenth_of_the_volume():
    state = formatted(CONFIG)
    volume = state.volumes[0]
    apply_parameters(volume, np.zeros(len(ACTION_NAMES)))
    count = volume["block_count"]
    settings = volume["settings"]
    assert settings["placement"] == Placement.UPDATE_INTERVAL
    assert not settings["score"].any()
    assert np.array_equal(settings["age_threshold"][:3], np.floor(count * 2.0**-3.3 * np.array([1.0, 4.0, 16.0])))
    assert settings["user_interval_scale"] == 2.0**-4
    assert settings["age_weight"] == 0.25


@pytest.mark.parametrize("action", [-1.0, 1.0])
def test_a_volume_stays_sound_when_the_agent_takes_over(action):
    state = run(hot_cold(0.8, 0.2), volumes=1.0)
    volume = state.volumes[0]
    apply_parameters(volume, np.full(len(ACTION_NAMES), action))
    advance(volume, int(3 * volume["block_count"]), False)
    check(state)


def test_parameters_that_come_late_are_held_for_a_whole_interval():
    env = gymnasium.make("kml_envs:kml/LfsTune-v0", segments=96, warm_volumes=1, efficiency="none").unwrapped
    env.reset(seed=1)
    subsystem, row = env.proxy.subsystem, np.ones(1, np.bool_)
    subsystem.wait(subsystem.progress() + 3 * subsystem.interval_writes, row)
    in_force = subsystem.progress().copy()
    subsystem.execute(np.zeros((1, len(ACTION_NAMES))), row, in_force + 10 * subsystem.interval_writes, row)
    assert subsystem.pending() and subsystem.progress() == in_force + subsystem.interval_writes
