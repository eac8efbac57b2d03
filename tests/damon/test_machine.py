"""Schemes that act on a simulated memory: what they page out is gone, what they measure is the memory's state."""

import numpy as np
import pytest
from damon_monitors import PAGE, call_apply, monitor_of, run, touched

from kml_envs.damon.config import (
    ACTIONS,
    SUPPORTED_ACTIONS,
    AccessPattern,
    Action,
    Destination,
    Filter,
    FilterType,
    GoalMetric,
    Operations,
    Quota,
    QuotaGoal,
    Scheme,
    WatermarkMetric,
    Watermarks,
)
from kml_envs.damon.memory import apply_to_row
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.memory_state import allocate_memories
from kml_envs.damon.monitor import advance_program
from kml_envs.damon.state import set_memory
from kml_envs.damon.versions import KernelVersion

PAGES = 4096
HOT = 512
NEW = KernelVersion.LATEST
UNLIMITED = Quota()
COLD = AccessPattern(max_nr_accesses=0, min_age=5)


def with_memory(*schemes, config=None, limit_pages=2 * PAGES, operations=Operations.PADDR):
    table = touched([(0, HOT * PAGE, 500)], PAGES * PAGE)
    memories = allocate_memories(config or MemoryConfig(), [table], [True], [limit_pages * PAGE])
    state = monitor_of(None, NEW, schemes, table=table, seed=1, operations=operations, min_region_bytes=PAGE)
    set_memory(state, 0, memories, 0)
    return state, memories.records


def test_cold_memory_is_paged_out():
    quota = Quota(bytes=512 * PAGE, reset_interval_ms=1000)
    state, memory = with_memory(Scheme(Action.PAGEOUT, COLD, quotas=quota))
    run(state, 3_000_000)
    assert memory["time_us"][0] == pytest.approx(3_000_000)
    assert 2 * 512 <= memory["paged_out"][0] <= 3 * 512
    assert state.schemes["sz_applied"][0, 0] == pytest.approx(memory["paged_out"][0] * PAGE, rel=0.01)
    run(state, 12_000_000)
    # The hot eighth stays, but for what a border page costs.
    assert memory["swapped"][0] == pytest.approx(PAGES - HOT, rel=0.05)
    assert memory["kdamond_ns"][0] > 0
    assert state.schemes["total_charged_ns"][0, 0] > 0


@pytest.mark.parametrize(
    ("filters", "paged_out"),
    [
        ((), 48),
        ((Filter(FilterType.YOUNG),), 48),
        ((Filter(FilterType.YOUNG, allow=True),), 16),
        ((Filter(FilterType.YOUNG, matching=False),), 16),
        ((Filter(FilterType.YOUNG, matching=False, allow=True),), 48),
        ((Filter(FilterType.ANON),), 0),
        ((Filter(FilterType.ANON, matching=False),), 48),
        ((Filter(FilterType.ANON, allow=True),), 64),  # decides before the kernel's own filter is asked
        ((Filter(FilterType.ADDR, addr_end=64 * PAGE, allow=True), Filter(FilterType.YOUNG)), 64),  # nor is any asked
    ],
)
def test_pageout_rechecks_pages_unless_a_filter_says_which(filters, paged_out):
    """Of 64 pages, a quarter is touched in an aggregation: paddr leaves it, but where the scheme has its own say."""
    size = 64 * PAGE
    table = touched([(0, size, np.log(4 / 3) / 0.1)], size)
    memories = allocate_memories(MemoryConfig(), [table], [True], [0])
    scheme = Scheme(Action.PAGEOUT, filters=filters)
    state = monitor_of([(0, size)], NEW, (scheme,), table=table, operations=Operations.PADDR, min_region_bytes=PAGE)
    set_memory(state, 0, memories, 0)
    state.monitors["samples"] = state.schemes["next_apply"][0, 0]
    call_apply(state.monitors)
    assert memories.records["paged_out"][0] == pytest.approx(paged_out, abs=1e-3)
    assert state.schemes["sz_applied"][0, 0] == paged_out * PAGE
    assert state.schemes["sz_ops_filter_passed"][0, 0] == pytest.approx(paged_out * PAGE, abs=1)


def halves(action, operations=Operations.FVADDR, quota=UNLIMITED, filters=(), mapped=()):
    """A memory whose second half is swapped out, and what a scheme for all of it says to have done."""
    size = 64 * PAGE
    table = touched([(0, size, 0.0)], size)
    memories = allocate_memories(MemoryConfig(slow_bytes=size), [table], [True], [0])
    apply_to_row(memories.records, 0, ACTIONS.index(Action.PAGEOUT), size // 2, size, 1.0)
    scheme = Scheme(action, quotas=quota, filters=filters, target_nid=1)
    spans = [(0, size)]
    state = monitor_of(spans, NEW, (scheme,), table, operations=operations, mapped=mapped, min_region_bytes=PAGE)
    set_memory(state, 0, memories, 0)
    state.monitors["samples"] = state.schemes["next_apply"][0, 0]
    call_apply(state.monitors)
    names = ("sz_tried", "sz_applied", "sz_ops_filter_passed", "charged_bytes")
    return {name: int(state.schemes[name][0, 0]) // PAGE for name in names}


@pytest.mark.parametrize("operations", [Operations.VADDR, Operations.FVADDR])
@pytest.mark.parametrize("action", [item for item in Action if item in SUPPORTED_ACTIONS[Operations.FVADDR]])
def test_advice_is_applied_to_all_that_it_is_given_for(action, operations):
    """Advice for addresses succeeds whatever the pages are, and no filter looks at them; migrations count pages."""
    done = halves(action, operations, filters=(Filter(FilterType.ANON),))
    if action in (Action.MIGRATE_HOT, Action.MIGRATE_COLD, Action.STAT):
        assert (done["sz_applied"], done["sz_ops_filter_passed"]) == (0, 0)
        expected = 0 if action is Action.STAT else 32
        assert halves(action, operations)["sz_applied"] == expected
    else:
        assert (done["sz_tried"], done["sz_applied"], done["sz_ops_filter_passed"]) == (64, 64, 0)


def test_pages_of_physical_memory_are_counted_one_by_one():
    assert halves(Action.PAGEOUT, Operations.PADDR)["sz_applied"] == 32
    assert halves(Action.LRU_PRIO, Operations.PADDR)["sz_applied"] == 32


@pytest.mark.parametrize(
    ("mapped", "applied"), [(((0, 64),), 64), (((0, 20), (20, 64)), 64), (((0, 20), (21, 64)), 0), (((0, 63),), 0)]
)
def test_advice_fails_where_something_is_not_mapped(mapped, applied):
    ranges = tuple((start * PAGE, end * PAGE) for start, end in mapped)
    assert halves(Action.PAGEOUT, Operations.VADDR, mapped=ranges)["sz_applied"] == applied


def test_what_advice_did_in_vain_is_charged_in_full():
    quota = Quota(bytes=1 << 30, reset_interval_ms=1000, fail_charge_num=1, fail_charge_denom=4)
    assert halves(Action.PAGEOUT, Operations.FVADDR, quota)["charged_bytes"] == 64
    assert halves(Action.PAGEOUT, Operations.PADDR, quota)["charged_bytes"] == 32 + 32 // 4


def test_watermarks_look_at_the_memory():
    marks = Watermarks(WatermarkMetric.FREE_MEM_RATE, 1_000_000, 400, 300, 100)
    scheme = Scheme(Action.PAGEOUT, COLD, watermarks=marks)
    idle, memory = with_memory(scheme)  # half of the memory is free
    run(idle, 3_000_000)
    assert memory["paged_out"][0] == 0
    assert idle.monitors["slept_us"][0] >= 3_000_000
    busy, memory = with_memory(scheme, limit_pages=PAGES * 5 // 4)
    run(busy, 5_000_000)
    assert memory["paged_out"][0] > 0
    assert busy.monitors["machine"]["free_permil"][0] > 400


def test_goals_measure_the_memory():
    goal = QuotaGoal(GoalMetric.NODE_MEM_FREE_BP, 5000)
    quota = Quota(reset_interval_ms=200, goals=(goal,))
    state, memory = with_memory(Scheme(Action.PAGEOUT, COLD, quotas=quota), limit_pages=PAGES * 5 // 4)
    run(state, 30_000_000)
    free = state.goals["current_value"][0, 0]
    assert free == pytest.approx(5000, rel=0.15)
    assert memory["paged_out"][0] > 0


@pytest.mark.parametrize(("fast", "slow", "elsewhere"), [(1, 1, 0), (3, 1, 0), (1, 1, 2)])
def test_migration_to_weighted_destinations(fast, slow, elsewhere):
    """Pages go to the shares of their destinations, those of a missing node stay, and then nothing moves."""
    config = MemoryConfig(slow_bytes=4 * PAGES * PAGE)
    dests = tuple(Destination(node, weight) for node, weight in enumerate((fast, slow, elsewhere)) if weight)
    state, memory = with_memory(Scheme(Action.MIGRATE_HOT, dests=dests), config=config)
    wanted = PAGES * slow / (fast + slow + elsewhere)
    for seconds in range(1, 4):
        run(state, 1_000_000)
        assert (memory["demoted"][0], memory["promoted"][0]) == (pytest.approx(wanted), pytest.approx(0.0, abs=1e-6))
        assert state.schemes["nr_snapshots"][0, 0] == 10 * seconds
    assert state.schemes["sz_applied"][0, 0] == pytest.approx(wanted * PAGE, rel=0.01)


def eligible(operations, pattern, nid):
    """The goal of a scheme measured, for a memory of four quarters: hot and cold on node 0, the same on node 1."""
    quarter = 64 * PAGE
    table = touched([(0, 4 * quarter, 0.0)], 4 * quarter)
    memories = allocate_memories(MemoryConfig(slow_bytes=4 * quarter), [table], [True], [0])
    apply_to_row(memories.records, 0, ACTIONS.index(Action.MIGRATE_COLD), 2 * quarter, 4 * quarter, 1.0, 0.0, 1.0)
    apply_to_row(memories.records, 0, ACTIONS.index(Action.PAGEOUT), 3 * quarter, 4 * quarter, 0.5)
    goal = QuotaGoal(GoalMetric.NODE_ELIGIBLE_MEM_BP, 6000, nid=nid)
    quota = Quota(reset_interval_ms=1, goals=(goal,))
    scheme = Scheme(Action.MIGRATE_HOT, pattern, quotas=quota, target_nid=nid, filters=(Filter(FilterType.ANON),))
    spans = [(number * quarter, (number + 1) * quarter, *2 * (20 * (1 - number % 2),)) for number in range(4)]
    state = monitor_of(spans, NEW, (scheme,), table=table, operations=operations, min_region_bytes=PAGE)
    set_memory(state, 0, memories, 0)
    state.monitors["samples"] = state.schemes["next_apply"][0, 0]
    state.monitors["next_aggregation"] = state.monitors["samples"]
    call_apply(state.monitors)
    return int(state.goals["current_value"][0, 0])


@pytest.mark.parametrize(
    ("pattern", "nid", "share"),
    [
        (AccessPattern(min_nr_accesses=1), 0, 5000),
        (AccessPattern(min_nr_accesses=1), 1, 5000),
        (AccessPattern(max_nr_accesses=0), 0, 6666),  # half of the other cold quarter is not in memory
        (AccessPattern(max_nr_accesses=0), 1, 3333),
        (AccessPattern(max_nr_accesses=0), 2, 0),
        (AccessPattern(min_nr_accesses=21), 0, 0),
    ],
)
def test_eligible_memory_is_that_of_the_pattern(pattern, nid, share):
    """Of the memory that a scheme is for, filters aside, the share on a node; a process's addresses have none."""
    assert eligible(Operations.PADDR, pattern, nid) == share
    assert eligible(Operations.FVADDR, pattern, nid) == 0


@pytest.mark.parametrize(
    ("least", "most", "paged_out"),
    [(2 << 20, 2 << 20, 384), (PAGE, PAGE, 640), (0, 1 << 30, 1024), (PAGE + 1, 1 << 20, 0)],
)
def test_huge_page_filters_look_at_the_memory(least, most, paged_out):
    """Of two huge pages' worth of memory three quarters of the first are mapped by huge pages."""
    size = 1024 * PAGE
    table = touched([(0, size // 2, 0.0), (size // 2, size, 0.0)], size)
    memories = allocate_memories(MemoryConfig(), [table], [True], [0])
    extents = memories.extents[0]
    extents["huge"] = np.where(extents["end"] <= size // 2, 0.75 * extents["pages"], 0.0)
    item = Filter(FilterType.HUGEPAGE_SIZE, allow=True, min=least, max=most)
    scheme = Scheme(Action.PAGEOUT, filters=(item,))
    state = monitor_of([(0, size)], NEW, (scheme,), table=table, operations=Operations.PADDR, min_region_bytes=PAGE)
    set_memory(state, 0, memories, 0)
    state.monitors["samples"] = state.schemes["next_apply"][0, 0]
    call_apply(state.monitors)
    assert memories.records["paged_out"][0] == pytest.approx(paged_out)
    assert state.schemes["sz_ops_filter_passed"][0, 0] == paged_out * PAGE


@pytest.mark.parametrize("node", [-1, 2])
def test_migration_to_no_node_moves_nothing(node):
    scheme = Scheme(Action.MIGRATE_COLD, target_nid=node)
    state, memory = with_memory(scheme, config=MemoryConfig(slow_bytes=4 * PAGES * PAGE))
    run(state, 1_000_000)
    assert (memory["demoted"][0], state.schemes["sz_applied"][0, 0]) == (0.0, 0)


def test_memory_lives_the_same_in_any_steps():
    quota = Quota(bytes=256 * PAGE, reset_interval_ms=1000)
    totals = []
    for step_us in (5_000_000, 500_000):
        state, memory = with_memory(Scheme(Action.PAGEOUT, COLD, quotas=quota))
        for _ in range(5_000_000 // step_us):
            run(state, step_us)
        totals.append((memory["paged_out"][0], state.monitors["random"][0]))
    assert totals[0] == pytest.approx(totals[1])
    assert np.isfinite(totals).all()


def test_programs_stay_in_step_whatever_their_monitors_wait_for():
    marks = Watermarks(WatermarkMetric.FREE_MEM_RATE, 2_000_000, 400, 300, 100)
    asleep, _ = with_memory(Scheme(Action.PAGEOUT, COLD, watermarks=marks))
    awake, memory = with_memory()
    for until_us, asleep_us, awake_us in ((1_003_000, 0, 1_000_000), (2_500_000, 2_000_000, 2_500_000)):
        for state in (asleep, awake):
            advance_program(state.monitors[0], until_us)
            assert state.monitors["memory_time_us"][0] == until_us
        assert asleep.monitors["time_us"][0] == asleep_us
        assert awake.monitors["time_us"][0] == awake_us
    assert memory["time_us"][0] == 2_500_000
    reference, _ = with_memory()
    run(reference, 2_500_000)
    np.testing.assert_array_equal(awake.regions, reference.regions)
