"""What the cleaning policies charge for a section, and which one they take, on states made by hand."""

import math

import numpy as np
import pytest
from lfs_volumes import formatted

from kml_envs.lfs.config import CleaningConfig, CleaningPolicy, Geometry, LfsConfig
from kml_envs.lfs.policies import select_victim, victim_cost
from kml_envs.lfs.section_index import add_section, remove_section
from kml_envs.lfs.volume import SegmentState

NOW = 1000
# section, valid blocks of 64, age
SECTIONS = ((3, 16, 400), (10, 8, 100), (20, 32, 900), (30, 8, 100))


def volume_of(sections=SECTIONS, **cleaning):
    state = formatted(LfsConfig(Geometry(64, 64, utilisation=0.5), cleaning=CleaningConfig(**cleaning)))
    volume = state.volumes[0]
    for section, valid, age in sections:
        remove_section(volume, 66, section)
        add_section(volume, valid, section)
        add_section(volume, 65, section)
        state.section_states[0, section] = SegmentState.DIRTY
        state.segments["valid"][0, section] = state.section_valid[0, section] = valid
        state.mtimes[0, section] = state.sealed_at[0, section] = NOW - age
        state.sections["erases"][0, section] = 2
    state.volumes["clock"] = state.volumes["user_writes"] = state.volumes["newest_mtime"] = NOW
    return state


@pytest.mark.parametrize(
    ("policy", "cost"),
    [
        (CleaningPolicy.GREEDY, 16),
        (CleaningPolicy.COST_BENEFIT, -0.75 * 400 / 1.25),
        (CleaningPolicy.COST_BENEFIT_ENVY, -0.75 * 400 / 0.5),
        (CleaningPolicy.COST_BENEFIT_SQRT, -3 * math.sqrt(400)),
        (CleaningPolicy.FIFO, 600),
        (CleaningPolicy.CAT, 0.25 * 3 / (0.75 * 400)),
    ],
)
def test_costs_follow_their_formulas(policy, cost):
    state = volume_of()
    assert victim_cost(state.volumes[0], 3, policy, 0) == pytest.approx(cost)


@pytest.mark.parametrize(
    ("policy", "victim"),
    [
        (CleaningPolicy.GREEDY, 10),
        (CleaningPolicy.COST_BENEFIT, 20),
        (CleaningPolicy.COST_BENEFIT_SQRT, 10),
        (CleaningPolicy.FIFO, 20),
        (CleaningPolicy.CAT, 3),
        (CleaningPolicy.ATGC, 20),
    ],
)
def test_the_cheapest_section_is_taken_and_the_first_of_equals(policy, victim):
    state = volume_of(policy=policy)
    assert select_victim(state.volumes[0], policy) == victim


def test_the_scan_starts_where_the_last_one_ended():
    state = volume_of()
    state.volumes["scan_start"] = 11
    assert select_victim(state.volumes[0], CleaningPolicy.GREEDY) == 30
    state.volumes["scan_start"] = 31
    assert select_victim(state.volumes[0], CleaningPolicy.GREEDY) == 10


def test_protected_sections_are_left_alone():
    state = volume_of(policy=CleaningPolicy.FIFO, protection=500)
    assert select_victim(state.volumes[0], CleaningPolicy.FIFO) == 20
    state = volume_of(policy=CleaningPolicy.FIFO, protection=950)
    assert select_victim(state.volumes[0], CleaningPolicy.FIFO) == -1


def test_windowed_greedy_looks_at_the_oldest_only():
    state = volume_of(policy=CleaningPolicy.WINDOWED_GREEDY, window=0.25)
    assert select_victim(state.volumes[0], CleaningPolicy.WINDOWED_GREEDY) == 3


def test_nothing_dirty_gives_no_victim():
    state = volume_of(())
    for policy in CleaningPolicy:
        assert select_victim(state.volumes[0], policy) == -1


def test_several_drawn_are_compared():
    state = volume_of(policy=CleaningPolicy.D_CHOICES, choices=40)
    assert select_victim(state.volumes[0], CleaningPolicy.D_CHOICES) in (10, 30)
    drawn = {int(select_victim(state.volumes[0], CleaningPolicy.RANDOM)) for _ in range(100)}
    assert drawn == {section for section, _, _ in SECTIONS}
    assert np.isfinite(state.volumes["random"]).all()
