"""The upper bounds: formulas where there are some, and never below what a simple policy reaches."""

import numpy as np
import pytest

from kml_envs.damon.config import ACTIONS, Action
from kml_envs.damon.memory import advance_rows, apply_to_row
from kml_envs.damon.memory_config import NVME, ZRAM, MemoryConfig
from kml_envs.damon.memory_state import allocate_memories
from kml_envs.damon.oracle import break_even_s, idle_threshold_scores, placement_bound, reclaim_bound
from kml_envs.memory_suites import make_memory_workload
from kml_envs.workloads.access import build_table, open_accesses

MIB, GIB = 1 << 20, 1 << 30
SECOND = 1_000_000


def flat(rate, size=GIB, sweep_us=0.0):
    return build_table("flat", [(1000 * SECOND, [(0, size, rate, sweep_us)])], size)


@pytest.mark.parametrize("device", [ZRAM, NVME])
def test_at_the_break_even_time_a_page_costs_what_it_saves(device):
    config = MemoryConfig(swap=device)
    limit = break_even_s(config, 4 * GIB)
    saved = limit * (1 - device.memory_share) / (4 * GIB / 4096)
    waited = (device.fault_us / config.threads + device.write_us * config.interference) * 1e-6
    assert saved == pytest.approx(waited)
    assert break_even_s(config, 8 * GIB) == pytest.approx(2 * limit)


def test_poisson_gaps_beyond_the_break_even_time_are_taken():
    config = MemoryConfig(swap=NVME)
    limit = break_even_s(config, GIB)
    rate = 0.5 / limit
    parts = build_table("many", [(10**9, [(n * MIB, n * MIB + MIB, rate, 0.0) for n in range(0, 1024)])], GIB)
    found = reclaim_bound(parts, config, 200 * limit)
    # A gap longer than G has probability exp(-rG) and mean length G + 1/r; there are r gaps a second.
    assert found.saving == pytest.approx((1 + rate * limit) * np.exp(-rate * limit), abs=0.04)
    faults = rate * np.exp(-rate * limit) * (GIB / 4096)
    assert found.slowdown == pytest.approx(faults * (22.5 + 2.4) * 1e-6, rel=0.06)
    assert found.score > 0


def test_thresholds_lose_their_own_length_in_every_gap():
    """A sweep comes by every 40 s: gaps of 40 s, of which a threshold of T leaves 40 - T out of memory."""
    config = MemoryConfig(swap=NVME)
    sweep = flat(0.0, sweep_us=40e6)
    never, eager, patient = idle_threshold_scores(sweep, config, 400.0, [50.0, 2.0, 20.0])
    assert never == 0.0
    stall_s = (NVME.fault_us / config.threads + NVME.write_us * config.interference) * 1e-6 * GIB / 4096
    for threshold, score in ((2.0, eager), (20.0, patient)):
        expected = 0.5 * (40.0 - threshold) / 40.0 * (1 - NVME.memory_share) - 0.5 * stall_s / 40.0
        assert score == pytest.approx(expected, rel=0.1)
    assert reclaim_bound(sweep, config, 400.0).score > eager > patient


def test_always_hot_and_never_touched_memory():
    config = MemoryConfig()
    assert reclaim_bound(flat(1000.0), config, 60.0).score == pytest.approx(0.0, abs=1e-9)
    idle = reclaim_bound(build_table("idle", [(SECOND, [])], GIB), config, 60.0)
    assert idle.saving == pytest.approx(1 - ZRAM.memory_share)
    assert idle.slowdown == pytest.approx(GIB / 4096 * ZRAM.write_us * config.interference * 1e-6 / 60.0)  # its way out


def test_a_sweep_is_worth_it_when_it_is_slow():
    config = MemoryConfig(swap=NVME)
    limit = break_even_s(config, GIB)
    fast = reclaim_bound(flat(0.0, sweep_us=limit * 0.5e6), config, 20 * limit)
    slow = reclaim_bound(flat(0.0, sweep_us=limit * 4e6), config, 80 * limit)
    assert 0.0 <= fast.saving < 0.01  # what is not touched again before the end
    assert slow.saving > 0.85
    assert slow.slowdown == pytest.approx(slow.saving / 4, rel=0.15)


@pytest.mark.parametrize("name", ["bursts-4-2", "idle-server", "mis-sized-quota"])
@pytest.mark.parametrize("min_age_s", [2.0, 10.0])
def test_no_age_threshold_beats_the_oracle(name, min_age_s):
    """A policy that pages out every extent idle for long, seen without any monitor."""
    table, config = make_memory_workload(name).table, MemoryConfig()
    state = allocate_memories(config, [table], [True], [0])
    access = open_accesses(table)
    extents, record = state.extents[0, : state.records["extent_count"][0]], state.records[0]
    for _ in range(240):
        advance_rows(state.records, access, SECOND)
        for row in np.flatnonzero((extents["idle_s"] > min_age_s) & (extents["fast"] > 1)):
            apply_to_row(
                state.records, 0, ACTIONS.index(Action.PAGEOUT), extents["start"][row], extents["end"][row], 1.0
            )
    pages = table.size / 4096
    saving = 1 - record["used_page_us"] / record["time_us"] / pages
    slowdown = (record["fault_stall_us"] + record["monitor_stall_us"]) / record["time_us"]
    bound = reclaim_bound(table, config, 240.0)
    assert 0.5 * saving - 0.5 * slowdown <= bound.score + 0.005
    assert saving > 0.0


def test_placement_with_one_phase_needs_no_migration():
    table = make_memory_workload("zipf-memory-0.9-8-2").table
    config = MemoryConfig(fast_bytes=2 * GIB, slow_bytes=8 * GIB)
    bound = placement_bound(table, config, 60.0)
    assert bound.static == pytest.approx(bound.dynamic) == pytest.approx(bound.free)
    assert 0 < bound.static < 0.175 * 1.2
    more = placement_bound(table, MemoryConfig(fast_bytes=6 * GIB, slow_bytes=8 * GIB), 60.0)
    assert more.static < bound.static


def test_following_a_moving_hot_set_beats_standing_still():
    table = make_memory_workload("mis-sized-quota").table
    config = MemoryConfig(fast_bytes=10 * GIB, slow_bytes=40 * GIB)
    bound = placement_bound(table, config, 240.0)
    assert bound.free <= bound.dynamic < bound.static
    assert bound.dynamic < 0.7 * bound.static


def test_moving_costs_keep_a_fast_change_from_being_followed():
    phases = [(50_000, [(turn * GIB, turn * GIB + GIB, 10.0, 0.0)]) for turn in (0, 1)]
    table = build_table("flip", phases, 2 * GIB)
    config = MemoryConfig(fast_bytes=GIB + 64 * MIB, slow_bytes=4 * GIB)
    bound = placement_bound(table, config, 10.0)
    assert bound.dynamic == pytest.approx(bound.static)
    assert bound.free < 0.1 * bound.static


def test_the_static_bound_is_what_the_memory_model_charges():
    table = make_memory_workload("zipf-memory-0.9-8-2").table
    config = MemoryConfig(fast_bytes=2 * GIB, slow_bytes=8 * GIB, slow_bytes_per_s=1e15)
    state = allocate_memories(config, [table], [True], [0])
    extents, record = state.extents[0, : state.records["extent_count"][0]], state.records[0]
    access = open_accesses(table)
    order = np.argsort(-table.rate[np.searchsorted(table.start, extents["start"], side="right") - 1], kind="stable")
    room = record["fast_pages"] - record["low_pages"]
    before = np.cumsum(extents["pages"][order]) - extents["pages"][order]
    extents["fast"][order] = np.clip(room - before, 0, extents["pages"][order])
    extents["slow"] = extents["pages"] - extents["fast"]
    record["fast_used"], record["slow_used"] = extents["fast"].sum(), extents["slow"].sum()
    advance_rows(state.records, access, 10 * SECOND)
    bound = placement_bound(table, config, 10.0)
    assert record["tier_stall_us"] / record["time_us"] == pytest.approx(bound.static, rel=0.05)


def test_a_program_cannot_wait_longer_than_the_time_there_is():
    """All of the touches of a minute come in its last second: the bound is the memory model's there, too."""
    phases = [(59 * SECOND, []), (SECOND, [(0, GIB, 100.0, 0.0)])]
    table = build_table("spurt", phases, GIB)
    config = MemoryConfig(fast_bytes=GIB // 2, slow_bytes=GIB, slow_bytes_per_s=1e15)
    bound = placement_bound(table, config, 60.0)
    state = allocate_memories(config, [table], [True], [0])
    advance_rows(state.records, open_accesses(table), 60 * SECOND)
    assert state.records["tier_stall_us"][0] / 60e6 == pytest.approx(bound.static, rel=0.01)
    assert bound.static == pytest.approx(0.5 * 1.2 / 60, rel=0.01)
