"""Whatever is written and cleaned, no block is lost, and all that the simulator keeps of it agrees."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lfs_volumes import ROW, check, formatted, index_row

from kml_envs.lfs.cleaning import clean
from kml_envs.lfs.config import (
    AgeClock,
    CleaningConfig,
    CleaningPolicy,
    Geometry,
    LfsConfig,
    MtimeRule,
    Placement,
    PlacementConfig,
    Trigger,
)
from kml_envs.lfs.sections import checkpointed_valid
from kml_envs.lfs.simulator import advance_rows, fill_rows
from kml_envs.lfs.state import ARRAYS, allocate, copy_row
from kml_envs.lfs.volume import SegmentState
from kml_envs.lfs.writing import write_checkpoint
from kml_envs.workloads.source import materialize
from kml_envs.workloads.synthetic import hot_cold, sequential, uniform, with_interval, zipf

FORESIGHT = ("CLAIRVOYANT", "INFORMED")
policies = st.sampled_from([policy for policy in CleaningPolicy if policy.name not in FORESIGHT])
placements = st.sampled_from([rule for rule in Placement if rule.name not in FORESIGHT])
workloads = st.sampled_from(
    [uniform(), zipf(1.0), hot_cold(0.9, 0.1), sequential(), with_interval(hot_cold(0.8, 0.2), 50_000)]
)


@st.composite
def configurations(draw):
    placement = PlacementConfig(draw(placements))
    span = draw(st.sampled_from([1, 1, 2, 3]))
    live = draw(st.integers(5, 70))
    elastic = draw(st.booleans()) and draw(st.booleans())
    empty = 2 * placement.logs + 6 + draw(st.integers(0, 20)) + (2 * live if elastic else 0)
    size = draw(st.sampled_from([2, 4, 16, 64, 128]))
    return LfsConfig(
        Geometry(
            segments=(live + empty) * span,
            blocks_per_segment=size,
            segments_per_section=span,
            utilisation=live / (live + empty),
        ),
        placement,
        CleaningConfig(
            policy=draw(policies),
            trigger=Trigger.GARBAGE_SHARE if elastic else Trigger.FREE_SECTIONS,
            garbage_share=draw(st.sampled_from([0.15, 0.4])),
            choices=draw(st.integers(1, 5)),
            protection=draw(st.sampled_from([0, 100])),
            max_search=0 if elastic else draw(st.sampled_from([0, 3])),
            candidate_age=draw(st.sampled_from([0, 200])),
            age_clock=draw(st.sampled_from(list(AgeClock))),
            mtime_rule=draw(st.sampled_from(list(MtimeRule))),
            checkpoint_interval=0 if elastic else draw(st.sampled_from([0, 0, 1, 37, 10_000])),
        ),
    )


def last_writes(state, count):
    """The number of the user write that wrote each block last, from the fill and a copy of the source."""
    blocks = state.volumes["block_count"][0]
    sequence = np.concatenate([np.arange(blocks), materialize(state.volumes["source"][:1].copy(), count)])
    last = np.zeros(blocks, np.uint32)
    last[sequence] = np.arange(sequence.size)
    return last


def index_of_full(state):
    return np.flatnonzero(state.section_states[0] == SegmentState.FULL)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), workloads, st.integers(0, 2**32))
def test_no_block_is_lost_and_all_counts_agree(config, workload, seed):
    state = formatted(config, workload, seed)
    check(state)
    expected = last_writes(state, 3 * config.geometry.volume_blocks + 7)
    fill_rows(state.volumes, ROW)
    check(state)
    until = state.volumes["user_writes"] * 4 + 7
    advance_rows(state.volumes, ROW, until, np.zeros(1, np.bool_))
    check(state)
    assert state.volumes["user_writes"] == until
    assert np.array_equal(state.blocks[0]["written_at"], expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), workloads, st.randoms(use_true_random=False))
def test_an_asking_caller_may_clean_any_dirty_section(config, workload, random):
    state = formatted(config, workload)
    fill_rows(state.volumes, ROW)
    until = state.volumes["user_writes"] * 3
    for _ in range(300):
        advance_rows(state.volumes, ROW, until, np.ones(1, np.bool_))
        if not state.volumes["pending"][0]:
            assert state.volumes["user_writes"] == until
            break
        dirty = index_row(state, config.geometry.blocks_per_section + 1)
        suggestion = state.volumes["suggestion"][0]
        drawn = config.cleaning.policy in (CleaningPolicy.RANDOM, CleaningPolicy.D_CHOICES)
        assert suggestion in dirty or suggestion == -1 or (drawn and suggestion in index_of_full(state))
        victim = random.choice(list(dirty))
        valid = state.section_valid[0, victim]
        moved = state.volumes["moved"][0]
        assert clean(state.volumes[0], int(victim))
        assert state.volumes["moved"][0] == moved + valid
        if random.random() < 0.1:
            write_checkpoint(state.volumes[0])
    check(state)


@pytest.mark.parametrize("policy", [CleaningPolicy.GREEDY, CleaningPolicy.COST_BENEFIT, CleaningPolicy.FIFO])
@pytest.mark.parametrize("placement", [Placement.ONE_LOG, Placement.USER_GC_SPLIT])
def test_sequential_overwrite_moves_nothing(policy, placement):
    config = LfsConfig(Geometry(128, 64), PlacementConfig(placement), CleaningConfig(policy=policy))
    state = formatted(config, sequential())
    fill_rows(state.volumes, ROW)
    advance_rows(state.volumes, ROW, state.volumes["user_writes"] * 10, np.zeros(1, np.bool_))
    assert state.volumes["moved"] == 0
    assert state.volumes["cleanings"] == 0
    assert state.volumes["emptied"] > 0


def test_empty_sections_wait_for_the_checkpoint():
    config = LfsConfig(Geometry(128, 64), cleaning=CleaningConfig(checkpoint_interval=10**9))
    state = formatted(config, sequential())
    fill_rows(state.volumes, ROW)
    advance_rows(state.volumes, ROW, state.volumes["user_writes"] + 5 * 64 + 1, np.zeros(1, np.bool_))
    prefree = index_row(state, 64)
    free = state.volumes["free_sections"][0]
    assert prefree.size >= 3
    write_checkpoint(state.volumes[0])
    assert index_row(state, 64).size == 0
    assert state.volumes["free_sections"][0] == free + prefree.size
    check(state)


def test_checkpointed_counts_are_those_of_the_last_checkpoint():
    """They stay while blocks are overwritten, moved and cleaned, and are taken anew by the next checkpoint."""
    config = LfsConfig(Geometry(128, 64), cleaning=CleaningConfig(checkpoint_interval=10**9))
    state = formatted(config, uniform())
    fill_rows(state.volumes, ROW)
    volume, until = state.volumes[0], state.volumes["user_writes"].copy()

    def checkpointed():
        return [int(checkpointed_valid(volume, segment)) for segment in range(config.geometry.segments)]

    for _ in range(3):
        write_checkpoint(volume)
        at_checkpoint, written = state.segments["valid"][0].copy(), int(volume["checkpoints"])
        assert checkpointed() == at_checkpoint.tolist()
        while int(volume["checkpoints"]) == written:
            assert checkpointed() == at_checkpoint.tolist()
            until += 97
            advance_rows(state.volumes, ROW, until, np.zeros(1, np.bool_))
        assert (state.segments["valid"][0] != at_checkpoint).any()
    assert volume["moved"] > 0


def test_a_copied_row_goes_the_same_way_on_its_own():
    config = LfsConfig(Geometry(96, 32), cleaning=CleaningConfig(policy=CleaningPolicy.D_CHOICES))
    state = formatted(config, zipf(0.9), seed=3, instances=2)
    fill_rows(state.volumes, ROW)
    until = state.volumes["user_writes"] * 2
    advance_rows(state.volumes, ROW, until, np.zeros(2, np.bool_))
    copy = allocate(config, state.table, 2)
    copy_row(state, 0, copy, 1)
    kept = {name: getattr(state, name)[0].copy() for name in ARRAYS}
    advance_rows(copy.volumes, np.ones(1, np.int64), until[[0, 0]] + 5_000, np.zeros(2, np.bool_))
    for name in ARRAYS:
        assert np.array_equal(getattr(state, name)[0], kept[name])
    advance_rows(state.volumes, ROW, until + 5_000, np.zeros(2, np.bool_))
    for name in ARRAYS:
        assert np.array_equal(getattr(state, name)[0], getattr(copy, name)[1])
    for name in set(state.volumes.dtype.names) - set(ARRAYS):
        assert np.array_equal(state.volumes[name][0], copy.volumes[name][1])
    check(copy, 1)


def test_the_same_seed_gives_the_same_volume_and_another_another():
    config = LfsConfig(Geometry(96, 32), cleaning=CleaningConfig(policy=CleaningPolicy.RANDOM))

    def moved(seed):
        state = formatted(config, seed=seed)
        fill_rows(state.volumes, ROW)
        advance_rows(state.volumes, ROW, state.volumes["user_writes"] * 4, np.zeros(1, np.bool_))
        return state.volumes["moved"][0], state.blocks[0].tobytes()

    assert moved(5) == moved(5)
    assert moved(5) != moved(6)
