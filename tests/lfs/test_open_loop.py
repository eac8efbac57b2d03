"""Cleaning in time: between writes that arrive by themselves, in their way, and part of a section at a time."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lfs_volumes import ROW, check, formatted

from kml_envs.lfs.config import (
    Background,
    CleanerdConfig,
    CleaningConfig,
    F2fsConfig,
    Geometry,
    LatencyProfile,
    LfsConfig,
    OpenLoopConfig,
    Placement,
    PlacementConfig,
)
from kml_envs.lfs.latency import bucket_edges, percentile_ns
from kml_envs.lfs.load_gate import MEASUREMENTS, gate_opens
from kml_envs.lfs.open_loop import advance_open_loop_rows, carry_out, wait_open_loop
from kml_envs.lfs.state import ARRAYS
from kml_envs.lfs.timeline import TIMELINE
from kml_envs.lfs.writing import latency_bucket
from kml_envs.workloads.source import materialize
from kml_envs.workloads.synthetic import Bursts, hot_cold, in_bursts, uniform, with_interval, zipf

ASK, NEVER = np.ones(1, np.bool_), np.zeros(1, np.bool_)
SECOND = 1_000_000_000
BURSTS = Bursts(writes=60, rate=3000, gap_s=8)


def volume_in_time(background=Background.NONE, workload=None, seed=1, **changes):
    """A filled volume of 1536 blocks in 96 sections, at the first arrival."""
    config = LfsConfig(
        Geometry(96, 16, utilisation=0.8),
        f2fs=F2fsConfig(reserved_sections=7, overprovision_sections=7, min_sleep_s=2, max_sleep_s=4, no_gc_sleep_s=20),
        cleanerd=CleanerdConfig(min_clean_segments=0.02, max_clean_segments=0.06, reserved_segments=0.0),
        open_loop=OpenLoopConfig(background=background, latency_limit_s=0.002),
        **changes,
    )
    state = formatted(config, workload or in_bursts(hot_cold(0.8, 0.2), BURSTS), seed)
    advance_open_loop_rows(state.volumes, ROW, state.volumes["block_count"], NEVER)
    return state


def decide(state, victim, quota):
    """Carry the pending decision out."""
    carry_out(state.volumes[0], int(victim), int(quota))


@st.composite
def configurations(draw):
    placement = PlacementConfig(draw(st.sampled_from([Placement.USER_GC_SPLIT, Placement.SEPBIT, Placement.DAC])))
    span, live = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(10, 60))
    empty = 2 * placement.logs + 8
    return LfsConfig(
        Geometry((live + empty) * span, draw(st.sampled_from([2, 16, 64, 128])), span, live / (live + empty)),
        placement,
        CleaningConfig(checkpoint_interval=0),
        LatencyProfile(erase_ns=draw(st.sampled_from([0, 1_000_000]))),
        open_loop=OpenLoopConfig(background=draw(st.sampled_from(list(Background)))),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), st.sampled_from([uniform(), zipf(1.0), hot_cold(0.9, 0.1)]), st.randoms(use_true_random=False))
def test_no_block_is_lost_whatever_part_of_a_section_is_cleaned(config, workload, random):
    state = formatted(config, in_bursts(workload, BURSTS))
    advance_open_loop_rows(state.volumes, ROW, state.volumes["block_count"], NEVER)
    blocks = int(state.volumes["block_count"][0])
    sequence = np.concatenate([np.arange(blocks), materialize(state.volumes["source"][:1].copy(), 2 * blocks)])
    expected = np.zeros(blocks, np.uint32)
    expected[sequence] = np.arange(sequence.size)
    until = state.volumes["block_count"] * 3
    for step in range(400):
        advance_open_loop_rows(state.volumes, ROW, until, ASK)
        volume = state.volumes[0]
        if not volume["pending"]:
            break
        if step % 10 == 0:
            check(state)
        half_cleaned, suggestion = int(volume["timeline"]["victim"]), int(volume["suggestion"])
        assert half_cleaned < 0 or suggestion in (-1, half_cleaned)
        before, quota = int(volume["moved"]), random.choice([1, 3, config.geometry.blocks_per_section])
        victim = random.choice([-1, suggestion, half_cleaned])
        decide(state, victim, quota)
        assert state.volumes["moved"][0] - before <= (quota if victim >= 0 else 0)
    advance_open_loop_rows(state.volumes, ROW, until, NEVER)
    check(state)
    assert state.volumes["user_writes"] == until
    assert np.array_equal(state.blocks[0]["written_at"], expected)


@pytest.mark.parametrize("background", list(Background))
def test_whoever_does_what_the_builtin_does_gets_what_it_gets(background):
    asked, unasked = volume_in_time(background), volume_in_time(background)
    until = asked.volumes["block_count"] * 4
    decisions = 0
    while True:
        advance_open_loop_rows(asked.volumes, ROW, until, ASK)
        if not asked.volumes["pending"][0]:
            break
        decisions += 1
        decide(asked, asked.volumes["suggestion"][0], 16)
    advance_open_loop_rows(unasked.volumes, ROW, until, NEVER)
    for name in ARRAYS:
        assert np.array_equal(getattr(asked, name), getattr(unasked, name)), name
    for name in ("moved", "cleanings", "stalls", "stall_ns", "busy_until_ns", "free_sections", "scan_start"):
        assert asked.volumes[name] == unasked.volumes[name], name
    assert asked.volumes["timeline"]["excess_ns"] == unasked.volumes["timeline"]["excess_ns"]
    assert decisions > asked.volumes["cleanings"][0] / 2


def test_a_write_waits_for_foreground_cleaning_from_its_arrival():
    """Latencies, stalls and excess, replayed beside the simulator."""
    state = volume_in_time(workload=with_interval(uniform(), 400_000))
    busy = excess = stalls = stall = cleaning_until = 0
    latencies = np.zeros(512, np.int64)
    for write in range(1, 4000):
        moved = int(state.volumes["moved"][0])
        advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, NEVER)
        arrival, moved = write * 400_000, int(state.volumes["moved"][0]) - moved
        if moved:
            cleaning_until = busy = max(busy, arrival) + moved * 100_000
        if busy > arrival and cleaning_until > arrival:
            stalls += 1
            stall += min(busy, cleaning_until) - arrival
        busy = max(busy, arrival) + 20_000
        latencies[latency_bucket(busy - arrival)] += 1
        excess += max(busy - arrival - 2_000_000, 0)
    volume = state.volumes[0]
    assert np.array_equal(state.latencies[0], latencies)
    assert (volume["stalls"], volume["stall_ns"], volume["timeline"]["excess_ns"]) == (stalls, stall, excess)
    assert excess > 0 and volume["timeline"]["foreground_operations"] == volume["cleanings"] > 0


def test_the_agent_wakes_at_growing_quiet_times_and_after_its_operations():
    state = volume_in_time(workload=with_interval(uniform(), 30 * SECOND))
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 3, NEVER)
    idle_since = int(state.volumes["completed_ns"][0])
    quiet = []
    for _ in range(6):
        advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, ASK)
        quiet.append(int(state.volumes["timeline"]["now_ns"][0]) - idle_since)
        decide(state, -1, 0)
    assert quiet == [10_000_000 * 4**k for k in range(6)]
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, NEVER)
    idle_since = int(state.volumes["completed_ns"][0])
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, ASK)
    dirty = int(np.flatnonzero(state.section_states[0] == 2)[0])
    valid = int(state.section_valid[0, dirty])
    for part in (5, 5, valid - 10):
        now = int(state.volumes["timeline"]["now_ns"][0])
        decide(state, dirty, part)
        assert state.volumes["busy_until_ns"] == now + part * 100_000
        advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, ASK)
        assert state.volumes["timeline"]["now_ns"] == now + part * 100_000
    assert state.volumes["cleanings"] == 1 and state.volumes["timeline"]["victim"] == -1


def test_a_write_waits_for_the_operation_in_its_way_and_not_longer():
    state = volume_in_time(workload=with_interval(uniform(), 10_500_000))
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 9, NEVER)
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, ASK)
    dirty = int(np.flatnonzero(state.section_states[0] == 2)[0])
    decide(state, dirty, 8)  # 0.8 ms from 10.02 ms after the last arrival: 0.32 ms into the next one
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, NEVER)
    volume = state.volumes[0]
    assert volume["stall_ns"] == 10_020_000 + 800_000 - 10_500_000
    assert volume["completed_ns"] - volume["source"]["arrival_ns"] == volume["stall_ns"] + 20_000


def test_writes_that_are_let_through_are_served_down_to_the_reserve():
    state = volume_in_time()
    until = state.volumes["block_count"] * 4
    lowest = 100
    for _ in range(300):
        advance_open_loop_rows(state.volumes, ROW, until, ASK)
        if not state.volumes["pending"][0]:
            break
        lowest = min(lowest, int(state.volumes["free_sections"][0]))
        assert state.volumes["free_sections"] > state.volumes["settings"]["reserve_sections"]
        decide(state, -1, 0)
    assert lowest == state.volumes["settings"]["reserve_sections"] + 1
    assert state.volumes["timeline"]["foreground_operations"] > 0  # of the built-in algorithm, at the reserve


def test_f2fs_cleans_only_when_idle_and_by_its_sleeps():
    state = volume_in_time(Background.F2FS, with_interval(uniform(), SECOND))
    advance_open_loop_rows(state.volumes, ROW, state.volumes["block_count"] * 2, NEVER)
    assert state.volumes["timeline"]["background_operations"] == 0
    # At this filling there is never enough garbage to hurry: sleeps stay at their maximum of 4 s, and the first one or
    # two wake-ups of a gap of 100 s find the device not idle for 5 s.
    state.volumes["source"]["interval_ns"] = 100 * SECOND
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 2, NEVER)
    assert state.volumes["f2fs"]["sleep_ns"] == 4 * SECOND
    before = int(state.volumes["timeline"]["background_operations"][0])
    advance_open_loop_rows(state.volumes, ROW, state.volumes["user_writes"] + 1, NEVER)
    assert 23 <= state.volumes["timeline"]["background_operations"][0] - before <= 24


def test_cleanerd_keeps_clean_segments_between_its_marks():
    state = volume_in_time(Background.CLEANERD, in_bursts(hot_cold(0.8, 0.2), Bursts(20, 1000, 60)))
    advance_open_loop_rows(state.volumes, ROW, state.volumes["block_count"] * 4, NEVER)
    assert state.volumes["cleanerd"]["cleaned"] == state.volumes["timeline"]["background_operations"]
    low, high = (int(state.volumes["cleanerd"][name][0]) for name in ("min_clean", "max_clean"))
    assert low - 4 <= state.volumes["free_sections"][0] <= high + 2


@pytest.mark.parametrize(
    ("loads", "opens"),
    [
        ([0], True),
        ([50], True),
        ([51], False),  # too few measurements to tell
        ([1000], False),
        ([400, 300, 200], True),  # falls by 200 over the measurements: gone within five
        ([201, 200, 199], False),  # falls too slowly
        ([100, 200, 300], False),
        ([900, 2000, 60, 59, 58], False),  # the measurements began anew at the upper bound
    ],
)
def test_the_gate_opens_at_low_and_falling_load(loads, opens):
    timeline = np.zeros(1, TIMELINE)[0]
    assert [gate_opens(timeline, load) for load in loads][-1] == opens
    assert 0 <= timeline["measurements"] <= MEASUREMENTS


def test_percentiles_are_right_to_within_a_bucket():
    latencies = np.random.default_rng(3).lognormal(11, 2, 50_000).astype(np.int64)
    histogram = np.zeros(512, np.int64)
    for latency in latencies:
        histogram[latency_bucket(int(latency))] += 1
    edges = bucket_edges()
    assert all(
        edges[latency_bucket(int(latency))] <= latency < edges[latency_bucket(int(latency)) + 1]
        for latency in latencies[:500]
    )
    for percent in (50.0, 99.0, 99.9):
        assert percentile_ns(histogram, percent) == pytest.approx(np.percentile(latencies, percent), rel=0.07)
    assert percentile_ns(np.zeros((2, 512), np.int64), 99.0).tolist() == [0.0, 0.0]


def test_writes_go_on_while_a_decision_is_pending():
    state = volume_in_time(Background.F2FS)
    volume, until = state.volumes[0], state.volumes["block_count"] * 4
    waited = 0
    while volume["user_writes"] < until[0] - 100:
        advance_open_loop_rows(state.volumes, ROW, until, ASK)
        if not volume["pending"]:
            break
        written, moved, now = (int(volume[name]) for name in ("user_writes", "moved", "busy_until_ns"))
        before = int(volume["timeline"]["now_ns"])
        wait_open_loop(volume, written + 20)
        made = int(volume["user_writes"]) - written
        assert 0 <= made <= 20 and volume["moved"] == moved and volume["busy_until_ns"] >= now
        passed = int(volume["timeline"]["now_ns"]) - before
        assert 0 <= passed <= 20 * volume["settings"]["write_ns"] or made == 20
        assert volume["free_sections"] >= volume["settings"]["reserve_sections"]
        waited += made
        check(state)
        decide(state, volume["suggestion"], 16)
    assert waited > 100
    check(state)


def test_waiting_stops_at_the_reserve():
    state = volume_in_time()
    volume, until = state.volumes[0], state.volumes["block_count"] * 4
    while not (volume["pending"] and volume["timeline"]["foreground"]):
        advance_open_loop_rows(state.volumes, ROW, until, ASK)
        if not volume["timeline"]["foreground"]:
            decide(state, -1, 16)
    wait_open_loop(volume, 10**9)
    assert volume["free_sections"] == volume["settings"]["reserve_sections"]
    assert volume["suggestion"] >= 0
    check(state)
