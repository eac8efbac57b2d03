"""F2FS's rules of when to clean, one table each."""

import numpy as np
import pytest

from kml_envs.lfs.config import (
    AgeClock,
    CleaningConfig,
    CleaningPolicy,
    F2fsConfig,
    GcMode,
    Geometry,
    LfsConfig,
    MtimeRule,
    Trigger,
    mkfs_reserve,
)
from kml_envs.lfs.f2fs import (
    NEVER,
    background_done,
    background_wakes,
    checkpoint_due,
    f2fs_record,
    has_enough_invalid,
    is_idle,
    is_short,
    longer_sleep,
    policy_of,
    shorter_sleep,
)
from kml_envs.lfs.simulator import advance_rows, format_rows
from kml_envs.lfs.state import allocate, set_source
from kml_envs.lfs.volume import SegmentState
from kml_envs.workloads.source import bind_workloads
from kml_envs.workloads.synthetic import uniform, with_interval

SECOND = 1_000_000_000
NORMAL, HIGH, LOW, MID = GcMode.NORMAL, GcMode.URGENT_HIGH, GcMode.URGENT_LOW, GcMode.URGENT_MID


def record(**fields):
    config = LfsConfig(geometry=Geometry(segments=248, blocks_per_segment=512))
    result = np.zeros(1, f2fs_record(config).dtype)
    result[0] = f2fs_record(config)
    for name, value in fields.items():
        result[name] = value
    return result[0]


@pytest.mark.parametrize(
    ("segments", "reserved", "overprovisioned"), [(248, 28, 50), (2048, 72, 134), (8192, 136, 262), (32768, 264, 518)]
)
def test_the_reserve_is_that_of_mkfs(segments, reserved, overprovisioned):
    assert mkfs_reserve(segments) == (reserved, pytest.approx(overprovisioned, abs=1))


@pytest.mark.parametrize(
    ("free", "nodes", "data", "node_space", "data_space", "short"),
    [
        (28, 0, 0, 512, 512, True),  # at the reserve
        (29, 0, 0, 512, 512, False),
        (29, 1, 0, 512, 512, False),  # between the bounds, and the node log has room
        (29, 80, 0, 79, 512, True),  # between the bounds, and the node log has none
        (30, 80, 0, 0, 512, False),  # above the upper bound
        (30, 80, 63, 512, 62, True),  # dirty data raise the upper bound by one more
        (30, 80, 63, 512, 63, False),
        (31, 80, 63, 0, 0, False),
        (29, 600, 0, 512, 512, True),  # a whole section of dirty nodes raises the lower bound
        (30, 600, 0, 512, 512, False),
    ],
)
def test_foreground_cleaning_is_triggered(free, nodes, data, node_space, data_space, short):
    f2fs = record(dirty_nodes=nodes, dirty_data=data)
    assert is_short(f2fs, free, 512, node_space, data_space) == short


@pytest.mark.parametrize(("sleep", "longer", "shorter"), [(30, 60, 30), (45, 60, 30), (60, 60, 30), (300, 300, 30)])
def test_the_walk_of_the_sleep(sleep, longer, shorter):
    f2fs = record()
    assert longer_sleep(f2fs, sleep * SECOND) == longer * SECOND
    assert shorter_sleep(f2fs, sleep * SECOND) == shorter * SECOND


def test_the_walk_of_the_sleep_in_smaller_steps():
    f2fs = record(min_sleep_ns=10, max_sleep_ns=35, no_gc_sleep_ns=99)
    sleep, up, down = 10, [], []
    for _ in range(4):
        sleep = longer_sleep(f2fs, sleep)
        up.append(sleep)
    for _ in range(4):
        sleep = shorter_sleep(f2fs, sleep)
        down.append(sleep)
    assert up == [20, 30, 35, 35]
    assert down == [25, 15, 10, 10]
    assert shorter_sleep(f2fs, 99) == 25


@pytest.mark.parametrize(
    ("mode", "busy", "quiet", "idle"),
    [
        (NORMAL, False, 5.1, True),
        (NORMAL, False, 5.0, False),
        (NORMAL, True, 60, False),
        (LOW, False, 0, True),
        (LOW, True, 60, False),
        (MID, False, 0, False),
        (HIGH, True, 0, True),
    ],
)
def test_the_idle_test(mode, busy, quiet, idle):
    assert is_idle(mode, busy, round(quiet * SECOND), 5 * SECOND) == idle


@pytest.mark.parametrize(
    ("user", "written", "free", "overprovision", "enough"),
    [
        (1000, 600, 100, 100, False),  # exactly 40 % invalid
        (1000, 599, 100, 100, True),
        (1000, 500, 299, 100, True),  # 199 free of 500 invalid
        (1000, 500, 300, 100, False),  # 200 free are 40 %
        (1000, 500, 50, 100, True),  # less free than overprovisioned counts as none
        (1000, 900, 0, 100, False),
    ],
)
def test_enough_invalid_blocks_to_hurry(user, written, free, overprovision, enough):
    assert has_enough_invalid(user, written, free, overprovision) == enough


@pytest.mark.parametrize(
    ("mode", "idle", "enough", "sleep", "cleans", "following"),
    [
        (NORMAL, True, True, 60, True, 30),
        (NORMAL, True, False, 30, True, 60),  # idle without much to gain: later, but it does clean
        (NORMAL, False, True, 30, False, 60),
        (NORMAL, False, True, 300, False, 300),
        (LOW, True, True, 60, True, 30),
        (MID, False, False, 60, True, 0.5),
        (HIGH, False, False, 60, True, 0.5),
    ],
)
def test_the_background_thread_wakes(mode, idle, enough, sleep, cleans, following):
    f2fs = record(gc_mode=mode, sleep_ns=sleep * SECOND)
    assert background_wakes(f2fs, idle, enough) == cleans
    assert f2fs["sleep_ns"] == following * SECOND


@pytest.mark.parametrize(
    ("sleep", "found", "following"), [(60, True, 60), (60, False, 300), (300, True, 30), (300, False, 300)]
)
def test_the_sleep_after_an_attempt(sleep, found, following):
    f2fs = record(sleep_ns=sleep * SECOND)
    background_done(f2fs, found)
    assert f2fs["sleep_ns"] == following * SECOND


@pytest.mark.parametrize(("prefree", "seconds", "due"), [(12, 59, False), (13, 0, True), (0, 60, True)])
def test_the_background_thread_writes_checkpoints(prefree, seconds, due):
    assert checkpoint_due(record(), seconds * SECOND, prefree, 248) == due


@pytest.mark.parametrize(
    ("mode", "background", "atgc", "policy"),
    [
        (NORMAL, False, False, CleaningPolicy.GREEDY),
        (NORMAL, False, True, CleaningPolicy.GREEDY),
        (NORMAL, True, False, CleaningPolicy.COST_BENEFIT_F2FS),
        (NORMAL, True, True, CleaningPolicy.ATGC),
        (GcMode.IDLE_COST_BENEFIT, False, False, CleaningPolicy.COST_BENEFIT_F2FS),
        (GcMode.IDLE_GREEDY, True, True, CleaningPolicy.GREEDY),
        (GcMode.IDLE_AGE_THRESHOLD, False, True, CleaningPolicy.ATGC),
        (HIGH, True, True, CleaningPolicy.GREEDY),
        (LOW, False, False, CleaningPolicy.COST_BENEFIT_F2FS),
        (MID, True, True, CleaningPolicy.COST_BENEFIT_F2FS),
    ],
)
def test_the_policy_of_a_mode(mode, background, atgc, policy):
    assert policy_of(mode, background, atgc) == policy


def test_the_thread_never_wakes_unless_it_is_asked_for():
    assert f2fs_record(LfsConfig())["wake_ns"] == NEVER


@pytest.mark.parametrize(
    ("interval_s", "mode", "some"), [(6.0, NORMAL, True), (0.01, NORMAL, False), (0.01, HIGH, True)]
)
def test_background_cleaning_happens_in_simulated_time(interval_s, mode, some):
    state = simulate(F2fsConfig(background_thread=True, gc_mode=mode), round(interval_s * SECOND), 20_000)
    cleanings = int(state.volumes["f2fs"]["background_cleanings"][0])
    assert (cleanings > 0) == some
    assert cleanings <= 20_000 * interval_s / 0.5


def test_no_block_is_lost_under_the_rules_of_f2fs():
    state = simulate(F2fsConfig(), SECOND // 100, 60_000)
    volume = state.volumes[0]
    assert volume["cleanings"] > 100
    locations = state.blocks["location"][0]
    live = locations[locations >= 0]
    assert np.unique(live).size == live.size == volume["block_count"] + volume["node_count"]
    assert np.array_equal(state.owners[0][locations], np.arange(locations.size))
    assert state.segments["valid"].sum() == live.size == volume["valid_blocks"]
    assert (state.section_states == SegmentState.FREE).sum() == volume["free_sections"]
    assert volume["f2fs"]["dirty_nodes"] == state.dirty_pages[0, volume["block_count"] :].sum()
    assert volume["f2fs"]["dirty_data"] == state.dirty_pages[0, : volume["block_count"]].sum()


def simulate(f2fs, interval_ns, writes):
    config = LfsConfig(
        geometry=Geometry(segments=256, blocks_per_segment=64, utilisation=0.7),
        cleaning=CleaningConfig(trigger=Trigger.F2FS, age_clock=AgeClock.SECONDS, mtime_rule=MtimeRule.WEIGHTED_MEAN),
        f2fs=f2fs,
    )
    blocks = config.geometry.volume_blocks
    table = bind_workloads([with_interval(uniform(), interval_ns)], blocks)
    state = allocate(config, table, 1)
    row = np.zeros(1, np.int64)
    format_rows(state.volumes, row, np.zeros(1, np.uint64))
    set_source(state, 0, 0, 1)
    advance_rows(state.volumes, row, np.array([blocks + writes]), np.zeros(1, np.bool_))
    assert not state.volumes["exhausted"][0]
    return state
