"""NILFS2's cleaner frees the segments that were modified longest ago first: in the recording, and in the simulator."""

from pathlib import Path

import numpy as np
import pytest

from kml_envs.lfs.config import (
    AgeClock,
    CleanerdConfig,
    CleaningConfig,
    Geometry,
    LfsConfig,
    Placement,
    PlacementConfig,
    Trigger,
)
from kml_envs.lfs.simulator import advance_rows, format_rows
from kml_envs.lfs.state import allocate, set_source
from kml_envs.lfs.volume import SegmentState
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import hot_cold, with_interval

RECORDED = np.load(Path(__file__).parent / "data" / "nilfs2_segments.npz")
SEGMENTS = 511
RECORDED_SETTINGS = CleanerdConfig(
    min_clean_segments=0.25,
    max_clean_segments=0.35,
    clean_check_interval_s=1,
    segments_per_clean=4,
    urgent_segments_per_clean=8,
    cleaning_interval_s=0.2,
    urgent_cleaning_interval_s=0.1,
    retry_interval_s=1,
    min_reclaimable=0.10,
    urgent_min_reclaimable=0.01,
)


def recorded_releases():
    """Position in the order of allocation, and time of allocation, of each segment in the order of release."""
    order = {segment: (segment - SEGMENTS, 0) for segment in range(SEGMENTS)}
    free, releases = set(), []
    for position, (time, segment, freed) in enumerate(zip(*(RECORDED[n] for n in RECORDED.files), strict=True)):
        if not freed:
            order[int(segment)] = (position, int(time))
            free.discard(int(segment))
        elif int(segment) not in free:
            free.add(int(segment))
            releases.append(order[int(segment)])
    return np.array(releases)


def test_the_kernel_frees_the_oldest_segments_first():
    releases = recorded_releases()
    steps = np.diff(releases[:, 0])
    exceptions = np.flatnonzero(steps < 0)
    print(f"{len(releases)} segments freed, {exceptions.size} younger than the one freed after it")
    assert len(releases) == 1913
    assert exceptions.size <= 0.01 * len(releases)


@pytest.mark.parametrize("min_reclaimable", [0.10, 0.60])
def test_the_simulated_cleaner_frees_the_oldest_segments_first(min_reclaimable):
    modified, deferred, cleaned = simulate(min_reclaimable)
    print(f"min reclaimable {min_reclaimable:.0%}: {cleaned} segments cleaned, {deferred} deferred")
    assert cleaned > 500
    assert np.all(np.diff(modified) >= 0)
    if min_reclaimable == 0.60:
        assert deferred > 0


def simulate(min_reclaimable):
    """Run the recorded settings; returns the lastmod of each segment as it was freed, and the counters."""
    settings = {**RECORDED_SETTINGS.__dict__, "min_reclaimable": min_reclaimable}
    config = LfsConfig(
        geometry=Geometry(SEGMENTS, 256, utilisation=0.5),
        placement=PlacementConfig(rule=Placement.ONE_LOG),
        cleaning=CleaningConfig(trigger=Trigger.CLEANERD, age_clock=AgeClock.SECONDS),
        cleanerd=CleanerdConfig(**settings),
    )
    blocks = config.geometry.volume_blocks
    state = allocate(config, bind_workloads([with_interval(hot_cold(0.8, 0.2), 1_000_000)], blocks), 1)
    row = np.zeros(1, np.int64)
    format_rows(state.volumes, row, np.zeros(1, np.uint64))
    set_source(state, 0, 0, 1)
    records, freed, until = state.sections[0], [], blocks
    for _ in range(6000):
        erases, sealed = records["erases"].copy(), state.sealed_at[0].copy()
        dirty = np.isin(state.section_states[0], (SegmentState.DIRTY, SegmentState.FULL))
        advance_rows(state.volumes, row, np.array([until]), np.zeros(1, np.bool_))
        taken = np.flatnonzero((records["erases"] > erases) & dirty)
        freed.extend(np.sort(sealed[taken]))
        until += 25
    assert not state.volumes["exhausted"][0]
    cleanerd = state.volumes["cleanerd"][0]
    return freed, int(cleanerd["deferred"]), int(cleanerd["cleaned"])
