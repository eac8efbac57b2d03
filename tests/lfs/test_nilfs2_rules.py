"""The state machine of NILFS2's cleaner daemon, one table each."""

import numpy as np
import pytest

from kml_envs.lfs.config import CleanerdConfig, CleaningConfig, Geometry, LfsConfig, Trigger
from kml_envs.lfs.f2fs import NEVER
from kml_envs.lfs.nilfs2 import cleanerd_record, is_deferred, is_eligible, look, sleep_after, step_size

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
    assert look(cleanerd, clean) == bool(runs)
    assert cleanerd["running"] == runs


def test_a_minimum_of_zero_means_always():
    cleanerd = record(min_clean_segments=0)
    assert look(cleanerd, 400)


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
        (200, 100, 150, 0, False),  # a stamp from the future
    ],
)
def test_eligibility(modified, changed, now, protection, eligible):
    assert is_eligible(modified, changed, now, protection) == eligible
