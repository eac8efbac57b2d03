"""The state machine of NILFS2's cleaner daemon, one table each."""

import numpy as np
import pytest

from kml_envs.lfs.config import AgeClock, CleanerdConfig, CleaningConfig, Geometry, LfsConfig, Trigger
from kml_envs.lfs.f2fs import NEVER
from kml_envs.lfs.nilfs2 import (
    cleanerd_record,
    importance,
    is_deferred,
    is_eligible,
    look,
    sleep_after,
    sleep_without_victims,
    step_size,
)
from kml_envs.lfs.simulator import advance_rows, format_rows
from kml_envs.lfs.state import allocate, set_source
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import uniform, with_interval

SECOND = 1_000_000_000


def record(**settings):
    config = LfsConfig(
        geometry=Geometry(segments=400, blocks_per_segment=256),
        cleaning=CleaningConfig(trigger=Trigger.CLEANERD),
        cleanerd=CleanerdConfig(**settings),
    )
    result = np.zeros(1, cleanerd_record(config).dtype)
    result[0] = cleanerd_record(config)
    return result[0]


def test_the_settings_become_segments_and_blocks():
    cleanerd = record()
    assert (cleanerd["min_clean"], cleanerd["max_clean"]) == (40 + 20, 80 + 20)
    assert (cleanerd["min_reclaimable"], cleanerd["urgent_min_reclaimable"]) == (25, 2)
    assert cleanerd_record(LfsConfig())["wake_ns"] == NEVER


@pytest.mark.parametrize(
    ("running", "clean", "runs"),
    [(0, 60, 0), (0, 59, 1), (1, 60, 1), (1, 100, 1), (1, 101, 0), (0, 101, 0)],
)
def test_it_starts_below_the_minimum_and_stops_above_the_maximum(running, clean, runs):
    cleanerd = record()
    cleanerd["running"] = running
    assert look(cleanerd, clean, 7) == bool(runs)
    assert cleanerd["running"] == runs


def test_a_minimum_of_zero_means_always_until_nothing_is_left():
    cleanerd = record(min_clean_segments=0)
    assert look(cleanerd, 400, 7)
    assert look(cleanerd, 400, 7)
    assert sleep_without_victims(cleanerd, NEVER, 1000, 0) == 10 * SECOND
    assert not look(cleanerd, 400, 7)  # the file system has not changed
    assert look(cleanerd, 400, 8)


def test_with_nothing_left_it_goes_idle_and_looks_again_after_the_protection_period():
    cleanerd = record()
    assert look(cleanerd, 59, 7)
    assert sleep_without_victims(cleanerd, NEVER, 10_000, 3600) == cleanerd["idle_ns"] == 3600 * SECOND
    assert not look(cleanerd, 60, 8)
    assert look(cleanerd, 59, 8)
    cleanerd["idle_ns"] = 0
    assert not look(cleanerd, 101, 8) and cleanerd["idle_ns"] == 10 * SECOND


@pytest.mark.parametrize(
    ("oldest", "now", "protection", "seconds"),
    [
        (9_000, 10_000, 3600, 2601),  # the oldest loses its protection then
        (6_400, 10_000, 3600, 10),
        (9_999, 10_000, 5, 10),  # never sooner than the interval of checks
        (20_000, 10_000, 3600, 3601),  # a stamp from the future counts as now
    ],
)
def test_the_sleep_while_all_segments_are_protected(oldest, now, protection, seconds):
    assert sleep_without_victims(record(), oldest, now, protection) == seconds * SECOND


@pytest.mark.parametrize(("clean", "size"), [(60, 2), (59, 4), (3, 3), (0, 0)])
def test_the_size_of_a_step(clean, size):
    assert step_size(record(), clean) == size


def test_a_step_is_at_most_thirty_two_segments():
    assert step_size(record(segments_per_clean=100), 80) == 32


@pytest.mark.parametrize(
    ("clean", "taken", "failed", "seconds"),
    [(80, 0, False, 10), (80, 2, False, 5), (50, 4, False, 1), (50, 0, False, 10), (0, 0, True, 60)],
)
def test_the_sleep_after_a_look(clean, taken, failed, seconds):
    assert sleep_after(record(), clean, taken, failed) == seconds * SECOND


@pytest.mark.parametrize(
    ("clean", "taken", "reclaimable", "deferred"),
    [(80, 2, 49, True), (80, 2, 50, False), (50, 2, 4, False), (50, 2, 3, True)],
)
def test_a_step_that_gains_too_little_is_deferred(clean, taken, reclaimable, deferred):
    assert is_deferred(record(), clean, taken, reclaimable) == deferred


@pytest.mark.parametrize(
    ("modified", "changed", "now", "protection", "eligible"),
    [
        (99, 100, 100, 0, True),
        (100, 100, 101, 0, False),  # nobody but the cleaner has written since
        (99, 100, 100, 1, False),
        (98, 100, 100, 1, True),
        (200, 100, 150, 0, True),  # a stamp from the future is protected by nothing
        (200, 100, 150, 1000, True),
    ],
)
def test_eligibility(modified, changed, now, protection, eligible):
    assert is_eligible(modified, changed, now, protection) == eligible


@pytest.mark.parametrize(("modified", "value"), [(98, 98), (150, 150), (151, 99)])
def test_a_stamp_from_the_future_comes_last_of_all(modified, value):
    assert importance(modified, 100, 150) == value


def test_deferred_steps_follow_each_other_at_once_until_nothing_is_eligible():
    """A full volume of which nothing can be reclaimed is deferred at the first look of the daemon, all of it."""
    config = LfsConfig(
        geometry=Geometry(segments=64, blocks_per_segment=64, utilisation=0.5),
        cleaning=CleaningConfig(trigger=Trigger.CLEANERD, age_clock=AgeClock.SECONDS),
        cleanerd=CleanerdConfig(min_clean_segments=0.9, min_reclaimable=0.5, urgent_min_reclaimable=0.5),
    )
    blocks = config.geometry.volume_blocks
    state = allocate(config, bind_workloads([with_interval(uniform(), SECOND)], blocks), 1)
    format_rows(state.volumes, np.zeros(1, np.int64), np.zeros(1, np.uint64))
    set_source(state, 0, 0, 1)
    wake_ns = state.volumes["cleanerd"]["wake_ns"][0]
    advance_rows(state.volumes, np.zeros(1, np.int64), np.array([blocks + wake_ns // SECOND + 2]), np.zeros(1, bool))
    cleanerd = state.volumes["cleanerd"][0]
    sealed = blocks // config.geometry.blocks_per_section
    assert (cleanerd["cleaned"], cleanerd["deferred"]) == (0, sealed)
    assert cleanerd["wake_ns"] == 2 * wake_ns
