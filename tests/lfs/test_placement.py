"""Which log a block goes to, on states made by hand."""

import numpy as np
import pytest
from lfs_volumes import formatted

from kml_envs.lfs.config import Geometry, LfsConfig, Placement, PlacementConfig
from kml_envs.lfs.placement import note_collected, relocation_log, user_log
from kml_envs.lfs.writing import note_interval

NOW = 100_000
BLOCK = 5


def volume_with(placement, age=0, **arguments):
    state = formatted(LfsConfig(Geometry(256, 64, utilisation=0.5), PlacementConfig(placement, **arguments)))
    state.volumes["user_writes"] = NOW
    state.blocks["written_at"][0, BLOCK] = NOW - age
    return state


@pytest.mark.parametrize(
    ("placement", "user", "relocated"), [(Placement.ONE_LOG, 0, 0), (Placement.USER_GC_SPLIT, 0, 1)]
)
def test_fixed_logs(placement, user, relocated):
    state = volume_with(placement)
    volume = state.volumes[0]
    assert user_log(volume, BLOCK, -1) == user
    assert relocation_log(volume, BLOCK, 0) == relocated


@pytest.mark.parametrize(("age", "log"), [(0, 1), (818, 1), (819, 2), (8191, 2), (8192, 3), (90_000, 3)])
def test_relocated_blocks_are_split_by_age(age, log):
    state = volume_with(Placement.AGE_THRESHOLD, age, age_thresholds=(0.1, 1.0))
    volume = state.volumes[0]
    assert user_log(volume, BLOCK, 0) == 0
    assert relocation_log(volume, BLOCK, 0) == log


@pytest.mark.parametrize(("age", "log"), [(0, 0), (819, 0), (820, 1), (8192, 1), (8193, 2)])
def test_temperature_follows_the_age_of_the_overwritten_block(age, log):
    state = volume_with(Placement.TEMPERATURE, age)
    volume = state.volumes[0]
    assert user_log(volume, BLOCK, 0) == log
    assert user_log(volume, BLOCK, -1) == 2
    assert relocation_log(volume, BLOCK, 0) == 3


def test_dac_promotes_writes_and_demotes_relocations():
    state = volume_with(Placement.DAC, classes=4)
    for log in range(4):
        state.sections["log"][0, 9] = log
        assert user_log(state.volumes[0], BLOCK, 9 * 64 + 3) == min(log + 1, 3)
        assert relocation_log(state.volumes[0], BLOCK, log) == max(log - 1, 0)
    assert user_log(state.volumes[0], BLOCK, -1) == 0


def test_sepbit_learns_its_threshold_from_sixteen_short_lived_segments():
    state = volume_with(Placement.SEPBIT, age=999)
    volume = state.volumes[0]
    assert user_log(volume, BLOCK, 0) == 0  # everything is short-lived until the threshold is known
    for lifetime in range(993, 1009):
        note_collected(volume, 1, 5)
        note_collected(volume, 0, lifetime)
    assert volume["lifetime_threshold"] == 1000.5
    assert user_log(volume, BLOCK, 0) == 0
    assert user_log(volume, BLOCK, -1) == 1
    for age, class_of_relocated in ((4001, 3), (4002, 4), (16_007, 4), (16_008, 5)):
        state.blocks["written_at"][0, BLOCK] = NOW - age
        assert user_log(volume, BLOCK, 0) == 1
        assert relocation_log(volume, BLOCK, 0) == 2
        assert relocation_log(volume, BLOCK, 1) == class_of_relocated


def test_ages_survive_the_wrap_of_the_write_counter():
    state = volume_with(Placement.TEMPERATURE)
    state.volumes["user_writes"] = 2**32 + 100
    state.blocks["written_at"][0, BLOCK] = np.uint32(2**32 - 100)
    assert user_log(state.volumes[0], BLOCK, 0) == 0


@pytest.mark.parametrize(("interval", "log"), [(100, 0), (818, 0), (819, 1), (3276, 2), (9000, 2)])
def test_update_intervals_split_the_blocks_of_the_user(interval, log):
    state = volume_with(Placement.UPDATE_INTERVAL, age_thresholds=(0.1, 0.4))
    volume = state.volumes[0]
    state.intervals[0, BLOCK] = interval
    assert user_log(volume, BLOCK, 0) == log
    volume["settings"]["user_interval_scale"] = 2.0**-9
    assert user_log(volume, BLOCK, 0) == 0


def test_the_age_of_a_moved_block_lengthens_its_update_interval():
    state = volume_with(Placement.UPDATE_INTERVAL, age=4000, age_thresholds=(0.1, 0.4))
    volume = state.volumes[0]
    state.intervals[0, BLOCK] = 800
    assert relocation_log(volume, BLOCK, 0) == 1  # 800 + 4000 / 4
    volume["settings"]["age_weight"] = 1.0
    assert relocation_log(volume, BLOCK, 0) == 2


def test_update_intervals_are_smoothed_and_compared_with_what_came():
    state = volume_with(Placement.AGE_THRESHOLD, age=1000, keep_intervals=True, interval_gain=0.25)
    volume = state.volumes[0]
    assert (state.intervals == volume["block_count"]).all()
    note_interval(volume, BLOCK)  # never written: nothing to learn
    assert state.intervals[0, BLOCK] == volume["block_count"]
    state.blocks["location"][0, BLOCK] = 3
    note_interval(volume, BLOCK)
    assert state.intervals[0, BLOCK] == 0.75 * 8192 + 0.25 * 1000
    assert state.overwrite_intervals[0, 11] == state.overwrite_intervals.sum() == 1
    assert volume["age_products"] == 11 * 7
