"""The memory model against its formulas: where pages are, what they cost, and what bounds both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.damon.config import ACTIONS, Action
from kml_envs.damon.memory import (
    active_bp,
    advance_rows,
    apply_to_row,
    charge_monitoring,
    free_permil,
    node_used_bp,
    resident_pages,
    slow_wait,
    used_pages,
)
from kml_envs.damon.memory_config import CXL, NVME, SWAP_DEVICES, ZRAM, MemoryConfig
from kml_envs.damon.memory_state import MOST_EXTENTS, allocate_memories, copy_memory, extent_edges
from kml_envs.errors import UserError
from kml_envs.memory_suites import make_memory_workload
from kml_envs.workloads.access import build_table, open_accesses

MIB, GIB = 1 << 20, 1 << 30
SECOND = 1_000_000
DEFAULTS = MemoryConfig()
POOLS = ("fast", "slow", "swapped", "untouched", "bloat")


class Machine:
    """One memory under one pattern, with what it needs kept alive."""

    def __init__(self, table, config=DEFAULTS, populated=True, limit=0):
        self.table = table
        self.state = allocate_memories(config, [table], [populated], [limit])
        self.access = open_accesses(table)

    def __getattr__(self, name):
        return float(self.state.records[name][0])

    def run(self, seconds, step=0.5):
        for _ in range(round(seconds / step)):
            advance_rows(self.state.records, self.access, int(step * SECOND))
        return self

    def act(self, action, start=0, end=None, share=1.0, node=0, to_slow=None):
        end = self.table.size if end is None else end
        to_slow = float(node) if to_slow is None else to_slow
        return apply_to_row(self.state.records, 0, ACTIONS.index(action), start, end, share, 1.0 - to_slow, to_slow)

    def pages(self, pool):
        return float(self.state.extents[pool].sum())

    @property
    def record(self):
        return self.state.records[0]


def flat(rate, size=256 * MIB, sweep_us=0.0):
    return build_table("flat", [(1000 * SECOND, [(0, size, rate, sweep_us)] if rate or sweep_us else [])], size)


def hot_and_cold():
    return build_table(
        "two", [(1000 * SECOND, [(0, 64 * MIB, 100.0, 0.0), (64 * MIB, 256 * MIB, 0.01, 0.0)])], 256 * MIB
    )


def check_conservation(machine):
    extents, record = machine.state.extents[0], machine.record
    total = sum(extents[pool] for pool in POOLS)
    assert total == pytest.approx(extents["pages"], abs=1e-6)
    for pool in POOLS:
        assert extents[pool].min() >= -1e-6
    assert (extents["huge"] <= extents["fast"] + extents["slow"] + extents["bloat"] + 1e-6).all()
    assert record["swapped"] == pytest.approx(extents["swapped"].sum(), abs=1e-3)
    in_fast = extents["fast"].sum() + extents["bloat"].sum() + record["swapped"] * record["swap_share"]
    assert record["fast_used"] == pytest.approx(in_fast, abs=1e-3)
    assert record["slow_used"] == pytest.approx(extents["slow"].sum(), abs=1e-3)
    assert resident_pages(record) <= machine.table.size / 4096 + 1e-3


def test_swapped_pages_come_back_as_poisson_touches_say():
    machine = Machine(flat(0.3))
    pages = 256 * MIB // 4096
    assert machine.act(Action.PAGEOUT) == 256 * MIB
    assert resident_pages(machine.record) == pytest.approx(0.0, abs=1e-6)
    machine.run(2.0, step=0.25)
    assert machine.major_faults == pytest.approx(pages * (1 - np.exp(-0.3 * 2.0)))
    assert machine.fault_stall_us == pytest.approx(machine.major_faults * ZRAM.fault_us / 4)
    check_conservation(machine)


def test_faults_do_not_depend_on_the_step():
    found = [Machine(flat(0.3)) for _ in range(3)]
    for machine, step in zip(found, (0.05, 0.5, 2.0), strict=True):
        machine.act(Action.PAGEOUT)
        machine.run(4.0, step)
    assert found[0].major_faults == pytest.approx(found[2].major_faults)
    assert found[0].resident_page_us == pytest.approx(found[1].resident_page_us, rel=0.1)


def test_a_sweep_brings_back_what_it_passes():
    machine = Machine(flat(0.0, sweep_us=10 * SECOND))
    machine.act(Action.PAGEOUT)
    machine.run(5.0)
    assert machine.major_faults == pytest.approx(256 * MIB / 4096 / 2, rel=0.02)


def test_touches_follow_phases_cursors_and_steps_of_any_length():
    """What is remembered of a step's touches is forgotten with the phase, and where the step's length changes."""
    calm = [(0, 32 * MIB, 0.5, 0.0), (32 * MIB, 96 * MIB, 3.0, 0.0)]
    busy = [(0, 64 * MIB, 8.0, 0.0), (64 * MIB, 128 * MIB, 0.0, 16.0 * SECOND)]
    machine = Machine(build_table("two phases", [(4 * SECOND, calm), (4 * SECOND, busy)], 128 * MIB))
    extents, starts = machine.state.extents[0], machine.state.extents["start"][0]
    for step in (0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 1.0, 1.0, 1.0) * 2:
        ranges = busy if machine.time_us % (8 * SECOND) >= 4 * SECOND else calm
        machine.run(step, step)
        for start, end, rate, sweep_us in ranges:
            inside = (start <= starts) & (starts < end)
            if sweep_us:
                swept = (extents["probability"] * extents["pages"])[inside].sum()
                assert swept == pytest.approx((end - start) / 4096 * step * SECOND / sweep_us, abs=1)
                rate = 1e6 / sweep_us
            else:
                assert extents["probability"][inside] == pytest.approx(1.0 - np.exp(-rate * step))
            assert extents["rate"][inside] == pytest.approx(rate)
        outside = starts >= ranges[-1][1]
        assert not extents["probability"][outside].any()
        assert not extents["rate"][outside].any()


def test_phases_are_cut_where_they_end():
    table = build_table("late", [(1_300_000, []), (10 * SECOND, [(0, 64 * MIB, 1.0, 0.0)])], 64 * MIB)
    machine = Machine(table)
    machine.act(Action.PAGEOUT)
    advance_rows(machine.state.records, machine.access, 2 * SECOND)
    assert machine.major_faults == pytest.approx(64 * MIB / 4096 * (1 - np.exp(-0.7)))


@pytest.mark.parametrize("device", [ZRAM, NVME, CXL])
def test_the_swap_device_takes_memory_and_time(device):
    machine = Machine(flat(0.3), MemoryConfig(swap=device))
    machine.act(Action.PAGEOUT, end=128 * MIB)
    half = 128 * MIB / 4096
    assert resident_pages(machine.record) == pytest.approx(half)
    assert used_pages(machine.record) == pytest.approx(half * (1 + device.memory_share))
    assert machine.kdamond_ns == pytest.approx(half * (device.write_us * 1000 + 200))
    machine.run(1.0, step=1.0)
    assert machine.fault_stall_us == pytest.approx(half * (1 - np.exp(-0.3)) * device.fault_us / 4)


def test_part_of_an_extent_is_acted_on_in_proportion():
    machine = Machine(flat(0.0))
    extent = 256 * MIB // 1024
    assert machine.act(Action.PAGEOUT, extent // 2, extent // 2 + extent, share=0.5) == extent // 2
    assert machine.state.extents["swapped"][0, :3].tolist() == [16, 16, 0]
    check_conservation(machine)


def test_a_full_swap_device_takes_no_more():
    machine = Machine(flat(0.0), MemoryConfig(swap_bytes=64 * MIB))
    assert machine.act(Action.PAGEOUT) == pytest.approx(64 * MIB, rel=1e-3)
    check_conservation(machine)


def test_kswapd_keeps_the_watermarks_and_takes_the_coldest():
    machine = Machine(hot_and_cold(), MemoryConfig(swap=NVME), populated=False, limit=160 * MIB)
    machine.run(200.0)
    check_conservation(machine)
    assert free_permil(machine.record) >= 2.0 - 1e-6
    hot = machine.state.extents["end"][0] <= 64 * MIB
    assert machine.state.extents["swapped"][0][hot].sum() < 0.02 * machine.swapped
    assert machine.swapped > 1000 and machine.reclaimed > 1000


def test_what_kswapd_cannot_do_programs_do_and_wait():
    table = build_table("flood", [(1000 * SECOND, [(0, 256 * MIB, 50.0, 0.0)])], 256 * MIB)
    machine = Machine(table, populated=False, limit=192 * MIB).run(1.0, step=0.05)
    assert machine.reclaimed_directly > 0 and machine.reclaim_stall_us > 0 and machine.psi_us > 0
    assert used_pages(machine.record) <= machine.fast_pages * 0.998 + 1e-6
    check_conservation(machine)


def test_pressure_is_the_share_of_time_in_which_any_thread_waits():
    machine = Machine(flat(50.0), MemoryConfig(threads=2))
    machine.act(Action.PAGEOUT)
    machine.run(1.0, step=1.0)
    stall = 65536 * 5.0 / 2
    waiting = stall / (1e6 + stall)
    assert machine.psi_us == pytest.approx(1e6 * (1 - (1 - waiting) ** 2), rel=1e-6)
    assert machine.psi_share_10s == pytest.approx((1 - np.exp(-0.1)) * machine.psi_us / 1e6)


def test_touches_are_counted_by_node():
    machine = Machine(flat(10.0), MemoryConfig(fast_bytes=128 * MIB, slow_bytes=256 * MIB)).run(5)
    assert machine.touches == pytest.approx(5 * 10.0 * 65536)
    assert machine.slow_touches / machine.touches == pytest.approx(machine.pages("slow") / 65536)


def test_a_program_on_the_slow_node_is_as_slow_as_measured():
    config = MemoryConfig(fast_bytes=2 * MIB, slow_bytes=512 * MIB, slow_bytes_per_s=1e12)
    machine = Machine(flat(100.0), config).run(10.0)
    assert machine.tier_stall_us / machine.time_us == pytest.approx(0.21, rel=0.03)


def test_a_program_that_wants_more_than_the_bandwidth_runs_at_the_bandwidth():
    assert slow_wait(0.2, 1.2, 0.0, 0.0) == pytest.approx(0.24)
    assert slow_wait(0.2, 1.2, 0.0, 0.5) == pytest.approx(0.2 * (1.2 + 1.0))
    for program in (0.1, 1.0, 3.0, 30.0):
        wait = slow_wait(0.5, 1.2, program, 0.0)
        used = program / (1.0 + wait)
        assert used < 1.0 or wait == pytest.approx(0.5 * (1.2 + 19.0))
        if used < 0.95:
            assert wait == pytest.approx(0.5 * (1.2 + used / (1.0 - used)), rel=1e-6)


def test_migration_fills_the_target_and_no_more():
    config = MemoryConfig(fast_bytes=64 * MIB, slow_bytes=256 * MIB)
    machine = Machine(hot_and_cold(), config)
    room = machine.fast_pages - machine.low_pages - machine.fast_used
    assert machine.act(Action.MIGRATE_HOT, 64 * MIB, 128 * MIB, node=0) == pytest.approx(room * 4096, abs=4096)
    assert machine.act(Action.MIGRATE_COLD, 0, 16 * MIB, node=1) == pytest.approx(16 * MIB, abs=4096)
    assert machine.act(Action.MIGRATE_HOT, 64 * MIB, 256 * MIB, node=0) == pytest.approx(16 * MIB, abs=4096)
    assert machine.promoted + machine.demoted == pytest.approx((32 * MIB) / 4096 + room, abs=3)
    assert node_used_bp(machine.record, 0) == pytest.approx(9970, abs=1)
    check_conservation(machine)
    before = machine.tier_stall_us
    machine.run(0.5)
    assert machine.tier_stall_us > before


@pytest.mark.parametrize("to_slow", [0.5, 0.25])
def test_migration_by_weights_brings_extents_to_their_shares_once(to_slow):
    config = MemoryConfig(fast_bytes=320 * MIB, slow_bytes=320 * MIB)
    machine = Machine(flat(0.0), config)
    assert machine.act(Action.MIGRATE_HOT, 0, 128 * MIB, to_slow=to_slow) == to_slow * 128 * MIB
    extents = machine.state.extents[0]
    touched = extents["end"] <= 128 * MIB
    np.testing.assert_allclose(extents["slow"], np.where(touched, to_slow * extents["pages"], 0.0))
    for _ in range(2):
        assert machine.act(Action.MIGRATE_HOT, 0, 128 * MIB, to_slow=to_slow) == 0
    assert (machine.demoted, machine.promoted) == (to_slow * 32768, 0.0)
    machine.act(Action.MIGRATE_HOT, 0, 128 * MIB, to_slow=1.0)
    assert machine.act(Action.MIGRATE_HOT, 0, 128 * MIB, to_slow=to_slow) == (1.0 - to_slow) * 128 * MIB
    check_conservation(machine)


def test_a_faster_placement_is_faster():
    config = MemoryConfig(fast_bytes=80 * MIB, slow_bytes=256 * MIB)
    good, bad = Machine(hot_and_cold(), config), Machine(hot_and_cold(), config)
    bad.act(Action.MIGRATE_COLD, 0, 64 * MIB, node=1)
    bad.run(1.0)
    before = bad.tier_stall_us
    assert good.run(10.0).tier_stall_us < 0.1 * (bad.run(10.0).tier_stall_us - before)


def test_huge_pages_bring_speed_and_bloat():
    workload = make_memory_workload("huge-page-bloat")
    machine = Machine(workload.table, populated=False).run(5.0)
    small = resident_pages(machine.record)
    assert machine.huge_gain_us == 0
    assert small == pytest.approx((GIB + 3 * GIB / 16) / 4096, rel=0.01)
    machine.act(Action.COLLAPSE, 0, GIB)
    assert resident_pages(machine.record) == pytest.approx(small, rel=1e-3)
    machine.run(1.0)
    gained = machine.huge_gain_us
    assert 0.02 < gained / SECOND < 0.06
    machine.act(Action.COLLAPSE, GIB, 4 * GIB)
    assert resident_pages(machine.record) == pytest.approx(4 * GIB / 4096, rel=0.01)
    check_conservation(machine)
    machine.act(Action.PAGEOUT, GIB, 4 * GIB)
    assert machine.pages("bloat") < 1.0
    check_conservation(machine)


def test_always_huge_faults_whole_huge_pages():
    workload = make_memory_workload("huge-page-bloat")
    always = Machine(workload.table, MemoryConfig(always_huge=True), populated=False).run(2.0)
    assert resident_pages(always.record) == pytest.approx(4 * GIB / 4096, rel=0.01)
    check_conservation(always)
    sparse_allowed = Machine(workload.table, MemoryConfig(always_huge=True), populated=False)
    sparse_allowed.act(Action.NOHUGEPAGE, GIB, 4 * GIB)
    sparse_allowed.run(2.0)
    assert resident_pages(sparse_allowed.record) < 0.4 * resident_pages(always.record)


def test_khugepaged_works_at_its_speed():
    machine = Machine(flat(20.0))
    machine.act(Action.HUGEPAGE)
    machine.run(10.0)
    assert machine.pages("huge") == pytest.approx(4096, rel=0.01)


def test_a_hot_set_that_fits_the_tlb_gains_nothing_from_huge_pages():
    machine = Machine(flat(100.0, size=4 * MIB), MemoryConfig(always_huge=True)).run(2.0)
    assert machine.huge_gain_us == 0


def test_the_monitor_slows_the_program_by_its_processor_time():
    machine = Machine(flat(1.0))
    for _ in range(200):
        charge_monitoring(machine.record, 500)
    machine.run(1.0)
    assert machine.kdamond_ns == pytest.approx(200 * 500 * 300)
    assert machine.monitor_stall_us == pytest.approx(0.6 * 30_000)


def test_lists_decide_who_is_reclaimed_first():
    config = MemoryConfig(swap=NVME)
    for action, spared in ((Action.LRU_DEPRIO, 128), (Action.LRU_PRIO, 0)):
        machine = Machine(flat(0.0), config, limit=250 * MIB)
        machine.run(100.0, step=10.0)
        machine.act(Action.PAGEOUT, share=0.0)
        machine.act(action, 0, 128 * MIB)
        assert 0 <= active_bp(machine.record) <= 10000
        machine.record["fast_pages"] = 200 * MIB / 4096
        machine.run(5.0)
        chosen = machine.state.extents["swapped"][0]
        low = machine.state.extents["end"][0] <= 128 * MIB
        newly = chosen[low].sum() > chosen[~low].sum() - 6 * MIB / 4096 - 1
        assert newly == (spared == 128)


def test_fetching_ahead_costs_kdamond_and_no_stall():
    machine = Machine(flat(10.0))
    machine.act(Action.PAGEOUT)
    machine.act(Action.WILLNEED)
    assert machine.run(1.0).major_faults == pytest.approx(0.0, abs=1e-6)
    assert machine.kdamond_ns > 65536 * 5000


@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(ACTIONS),
            st.integers(0, 255),
            st.integers(1, 64),
            st.floats(0, 1),
            st.integers(0, 1),
            st.floats(0.01, 3.0),
        ),
        max_size=12,
    ),
    slow=st.sampled_from([0, 96 * MIB]),
    limit=st.sampled_from([0, 128 * MIB, 200 * MIB]),
    always=st.booleans(),
    populated=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_done_no_page_is_lost(actions, slow, limit, always, populated):
    config = MemoryConfig(slow_bytes=slow, always_huge=always, swap=NVME)
    machine = Machine(hot_and_cold(), config, populated, limit)
    for action, start, length, share, node, seconds in actions:
        applied = machine.act(action, start * MIB, min(start + length, 256) * MIB, share, node)
        assert 0 <= applied <= length * MIB + 4096
        advance_rows(machine.state.records, machine.access, int(seconds * SECOND))
        check_conservation(machine)
        assert machine.slow_used <= machine.slow_pages + 1e-6


def test_rows_are_independent_and_can_be_copied():
    tables = [flat(0.3), hot_and_cold()]
    state = allocate_memories(MemoryConfig(), tables, [True, True], [0, 0])
    accesses = np.concatenate([open_accesses(table) for table in tables])
    alone = Machine(tables[1])
    for row in (0, 1):
        apply_to_row(state.records, row, ACTIONS.index(Action.PAGEOUT), 0, 256 * MIB, 1.0)
    alone.act(Action.PAGEOUT)
    advance_rows(state.records, accesses, SECOND)
    alone.run(1.0, step=1.0)
    assert state.records["major_faults"][1] == alone.major_faults
    other = allocate_memories(MemoryConfig(), tables[::-1], [True, True], [0, 0])
    copy_memory(state, 0, other, 0)
    assert other.records["major_faults"][0] == state.records["major_faults"][0]
    assert other.records["extents"][0] == other.extents[0].ctypes.data
    assert np.array_equal(other.extents[0], state.extents[0])


def test_extents_end_where_the_pattern_has_borders():
    table = make_memory_workload("needle").table
    edges = extent_edges(table)
    assert {0, table.size, *table.start.tolist(), *table.end.tolist()} <= set(edges.tolist())
    assert 1000 <= edges.size - 1 <= 1024
    many = extent_edges(make_memory_workload("huge-page-bloat").table, most=100)
    assert many.size - 1 == 100 and (np.diff(many) > 0).all()
    assert extent_edges(flat(1.0, size=64 * 4096)).size - 1 == 64
    assert make_memory_workload("huge-page-bloat").table.start.size * 2 <= MOST_EXTENTS


def test_settings_out_of_range_are_refused():
    assert set(SWAP_DEVICES) == {"zram", "nvme", "cxl"}
    for wrong in ({"threads": 0}, {"fast_bytes": -1}, {"min_permil": 5.0}, {"memory_bound": 1.5}):
        with pytest.raises(UserError):
            MemoryConfig(**wrong)
    with pytest.raises(UserError, match="larger than the memory and the swap device"):
        Machine(flat(1.0), MemoryConfig(swap_bytes=MIB), limit=128 * MIB)
