"""The project's F2FS policies against 240 victims and costs that a real kernel chose."""

from pathlib import Path

import numpy as np
import pytest

from kml_envs.compiling import compiled
from kml_envs.lfs.config import CleaningConfig, CleaningPolicy, Geometry, LfsConfig
from kml_envs.lfs.policies import oldest_mtime, select_victim, victim_cost
from kml_envs.lfs.section_index import add_section
from kml_envs.lfs.state import allocate
from kml_envs.lfs.victim_costs import age_threshold_cost
from kml_envs.lfs.volume import SegmentState, dirty_row, mtimes, section_states, section_valid
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import uniform

RECORDED = np.load(Path(__file__).parent / "data" / "f2fs_victims.npz")
RUNS = {
    "greedy-foreground": (0, CleaningPolicy.GREEDY),
    "cost-benefit-foreground": (1, CleaningPolicy.COST_BENEFIT_F2FS),
    "cost-benefit-background": (2, CleaningPolicy.COST_BENEFIT_F2FS),
    "atgc-background": (3, CleaningPolicy.ATGC),
}


@pytest.mark.parametrize("run", RUNS)
def test_every_recorded_victim_and_cost_is_reproduced(run):
    number, policy = RUNS[run]
    rows = np.flatnonzero(RECORDED["run"] == number)
    chosen = [_choose(row, policy) for row in rows]
    expected = list(zip(RECORDED["victim"][rows], RECORDED["cost"][rows], strict=True))
    exact = sum(mine == theirs for mine, theirs in zip(chosen, expected, strict=True))
    print(f"{run}: {exact} of {len(expected)} victims and costs")
    assert len(expected) == 60
    assert chosen == expected


@pytest.mark.parametrize("run", RUNS)
def test_the_scan_goes_on_where_the_kernel_went_on(run):
    number, policy = RUNS[run]
    rows = np.flatnonzero(RECORDED["run"] == number)
    for row in rows:
        state = _load(row, policy)
        _decide(state.volumes, policy, np.zeros(2, np.int64))
        last = RECORDED["last_victim"][row]
        dirty = np.flatnonzero(RECORDED["dirty"][row])
        following = last + 1 if dirty[0] < last else dirty[-1] + 1
        assert state.volumes["scan_start"][0] == following % RECORDED["valid"].shape[1]


def _choose(row, policy):
    result = np.zeros(2, np.int64)
    state = _load(row, policy)
    _decide(state.volumes, policy, result)
    return tuple(result)


def _load(row, policy):
    config = LfsConfig(
        geometry=Geometry(segments=248, blocks_per_segment=512, utilisation=0.5),
        cleaning=CleaningConfig(policy=policy, candidate_age=5),
    )
    state = allocate(config, bind_workloads([uniform()], config.geometry.volume_blocks), 1)
    state.segments["valid"][0] = state.section_valid[0] = RECORDED["valid"][row]
    state.mtimes[0] = RECORDED["mtime"][row]
    state.volumes["newest_mtime"] = RECORDED["newest"][row]
    state.volumes["scan_start"] = RECORDED["last_victim"][row]
    _mark_dirty(state.volumes, np.flatnonzero(RECORDED["dirty"][row]))
    return state


@compiled
def _mark_dirty(volumes, sections):
    volume = volumes[0]
    for section in sections:
        section_states(volume)[section] = SegmentState.DIRTY
        add_section(volume, section_valid(volume)[section], section)
        add_section(volume, dirty_row(volume), section)


@compiled
def _decide(volumes, policy, result):
    volume = volumes[0]
    victim = select_victim(volume, policy)
    result[0] = victim
    if policy != CleaningPolicy.ATGC:
        result[1] = np.int64(victim_cost(volume, victim, policy, oldest_mtime(volume)))
        return
    oldest, newest = np.int64(2**62), np.int64(0)
    for section in range(volume.section_count):
        if section_states(volume)[section] == SegmentState.DIRTY:
            oldest = min(oldest, mtimes(volume)[section])
            newest = max(newest, mtimes(volume)[section])
    slots = np.int64(volume.slots_per_section)
    result[1] = age_threshold_cost(mtimes(volume)[victim], slots - section_valid(volume)[victim], slots, oldest, newest)
