"""The machine around a monitor: what schemes measure of it, and what their actions do to it.

The only place where monitoring and schemes meet memory.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.damon import memory
from kml_envs.damon.config import ACTIONS, PAGE_BYTES, Action, FilterType, GoalMetric
from kml_envs.damon.memory_huge import HUGE_PAGE_BYTES
from kml_envs.damon.memory_state import MEMORY
from kml_envs.workloads.access import move_to, touch_probability

NODES = 4
"""Memory nodes that can be measured."""

MACHINE = np.dtype(
    [
        ("free_permil", np.int64),  # free memory
        ("psi_total_us", np.int64),  # some-memory stall time since the start
        ("active_bp", np.int64),  # active pages in all pages of the LRU lists
        ("inactive_bp", np.int64),
        ("node_used_bp", np.int64, (NODES,)),
        ("node_free_bp", np.int64, (NODES,)),
        ("node_memcg_used_bp", np.int64, (NODES,)),
        ("node_memcg_free_bp", np.int64, (NODES,)),
        ("node_eligible_bp", np.int64, (NODES,)),  # without a memory
        ("action_ns_per_page", np.int64),  # cost of an action without a memory
    ]
)
"""What the monitor can measure: its memory says it, or, where it has none, whoever runs it."""

memory_of = array_of("memory", MEMORY, 1)
"""The memory that actions are applied to, (1,) MEMORY; only where `memory` is not 0."""

METRICS = tuple(GoalMetric)
FILTER_TYPES = tuple(FilterType)

_STAT = ACTIONS.index(Action.STAT)
_ADVICE = tuple(
    ACTIONS.index(action)
    for action in (
        Action.WILLNEED,
        Action.COLD,
        Action.PAGEOUT,
        Action.HUGEPAGE,
        Action.NOHUGEPAGE,
        Action.COLLAPSE,
    )
)
_PSI = METRICS.index(GoalMetric.SOME_MEM_PSI_US)
_NODE_USED = METRICS.index(GoalMetric.NODE_MEM_USED_BP)
_NODE_FREE = METRICS.index(GoalMetric.NODE_MEM_FREE_BP)
_MEMCG_USED = METRICS.index(GoalMetric.NODE_MEMCG_USED_BP)
_MEMCG_FREE = METRICS.index(GoalMetric.NODE_MEMCG_FREE_BP)
_ACTIVE_MEM = METRICS.index(GoalMetric.ACTIVE_MEM_BP)
_INACTIVE_MEM = METRICS.index(GoalMetric.INACTIVE_MEM_BP)
_ANON = FILTER_TYPES.index(FilterType.ANON)
_MEMCG = FILTER_TYPES.index(FilterType.MEMCG)
_YOUNG = FILTER_TYPES.index(FilterType.YOUNG)
_ACTIVE = FILTER_TYPES.index(FilterType.ACTIVE)
_HUGEPAGE = FILTER_TYPES.index(FilterType.HUGEPAGE_SIZE)


@compiled
def catch_up(monitor: Record) -> None:
    """Let the memory live up to the monitor's time, and measure it; without a memory nothing happens.

    The monitor calls it before anything depends on the memory, rather than at every sample.
    """
    live_until(monitor, monitor.time_us)


@compiled
def live_until(monitor: Record, time_us: int) -> None:
    """Let the memory live up to a time, which may be later than the monitor's last sample, and measure it."""
    if monitor.memory == 0:
        return
    record, machine = memory_of(monitor)[0], monitor.machine
    if time_us > monitor.memory_time_us:
        move_to(monitor.access, monitor.memory_time_us)
        memory.charge_monitoring(record, monitor.checks - monitor.charged_checks)
        memory.advance(record, monitor.access, time_us - monitor.memory_time_us)
        monitor.charged_checks = monitor.checks
        monitor.memory_time_us = time_us
    machine.free_permil = np.int64(memory.free_permil(record))
    machine.psi_total_us = np.int64(record.psi_us)
    machine.active_bp = np.int64(memory.active_bp(record))
    machine.inactive_bp = 10_000 - machine.active_bp
    for node in range(NODES):
        machine.node_used_bp[node] = np.int64(memory.node_used_bp(record, node))
        machine.node_free_bp[node] = 10_000 - machine.node_used_bp[node]
        # The simulated program is the only one, and so the only cgroup.
        machine.node_memcg_used_bp[node] = machine.node_used_bp[node]
        machine.node_memcg_free_bp[node] = machine.node_free_bp[node]


@compiled
def apply_action(
    monitor: Record, scheme: Record, start: int, end: int, share: float, to_fast: float, to_slow: float
) -> int:
    """Carry an action out on a range, and charge its time to the scheme.

    Args:
        monitor: The MONITOR record.
        scheme: The SCHEME record, whose operations set supports the action.
        start: First byte.
        end: Byte behind the last.
        share: Share of their pages that the action is for.
        to_fast: Share of those pages whose destination, if they migrate, is node 0.
        to_slow: The same for node 1.

    Returns:
        Bytes that the action was applied to.
    """
    if scheme.action == _STAT:
        return np.int64(0)
    if monitor.memory == 0:
        pages = np.int64((end - start) * share) // PAGE_BYTES
        scheme.total_charged_ns += pages * monitor.machine.action_ns_per_page
        return pages * PAGE_BYTES
    record = memory_of(monitor)[0]
    before = record.kdamond_ns
    applied = memory.apply_action(record, scheme.action, start, end, share, to_fast, to_slow)
    scheme.total_charged_ns += np.int64(record.kdamond_ns - before)
    return applied


@compiled
def advises(monitor: Record, scheme: Record) -> bool:
    """Whether a scheme acts by a call of madvise on addresses of a process (damos_madvise).

    Such a call knows no single pages: the filters of the operations set do not bind it, and what it was applied to is
    all that it was called for, or nothing.
    """
    return monitor.physical == 0 and scheme.action in _ADVICE


@compiled
def measure_goal(monitor: Record, goal: Record) -> int:
    """Current value of a goal's metric, which the goal keeps; PSI as the growth since the last look.

    What the machine cannot measure, the user's input and what depends on the scheme, is what the goal has already. A
    cgroup that there is not uses nothing.

    Args:
        monitor: The MONITOR record.
        goal: The GOAL record.
    """
    machine, metric = monitor.machine, goal.metric
    if metric == _PSI:
        goal.current_value = machine.psi_total_us - goal.last_psi_total_us
        goal.last_psi_total_us = machine.psi_total_us
    elif metric == _NODE_USED:
        goal.current_value = machine.node_used_bp[goal.nid]
    elif metric == _NODE_FREE:
        goal.current_value = machine.node_free_bp[goal.nid]
    elif metric == _MEMCG_USED:
        goal.current_value = machine.node_memcg_used_bp[goal.nid] if goal.own_cgroup else 0
    elif metric == _MEMCG_FREE:
        goal.current_value = machine.node_memcg_free_bp[goal.nid] if goal.own_cgroup else 10_000
    elif metric == _ACTIVE_MEM:
        goal.current_value = machine.active_bp
    elif metric == _INACTIVE_MEM:
        goal.current_value = machine.inactive_bp
    return goal.current_value


@compiled
def matching_share(monitor: Record, item: Record, start: int, end: int) -> float:
    """Share of a range's pages that are of a filter's type; all memory is anonymous, mapped and of one program.

    A page that is young is taken to be active too.

    Args:
        monitor: The MONITOR record.
        item: The FILTER record, of a type that the operations set handles.
        start: First byte.
        end: Byte behind the last.
    """
    if item.type == _YOUNG or item.type == _ACTIVE:
        return young_share(monitor, start, end)
    if item.type == _ANON:
        return 1.0
    if item.type == _MEMCG:
        return float(item.first)
    if item.type == _HUGEPAGE:
        return _share_of_sizes(monitor, item.first, item.last, start, end)
    return 0.0


@compiled
def node_pages(monitor: Record, start: int, end: int, node: int) -> float:
    """Pages of a range that are in memory on a node; there is a memory."""
    return memory.node_pages(memory_of(monitor)[0], start, end, node)


@compiled
def _share_of_sizes(monitor: Record, least: int, most: int, start: int, end: int) -> float:
    """Share of a range's pages that belong to folios of some sizes: the memory has huge and single ones."""
    if monitor.memory == 0:
        return 1.0 if least <= monitor.folio_bytes <= most else 0.0
    huge = memory.huge_share(memory_of(monitor)[0], start, end)
    share = huge if least <= HUGE_PAGE_BYTES <= most else 0.0
    return share + (1.0 - huge if least <= PAGE_BYTES <= most else 0.0)


@compiled
def young_share(monitor: Record, start: int, end: int) -> float:
    """Share of a range's pages that were touched in the last aggregation interval."""
    return float(touch_probability(monitor.access, start, end, float(monitor.attributes.aggr_us)))


@compiled
def detected_share(monitor: Record) -> float:
    """Share of the touches that set the accessed bit again after it was cleared without flushing the TLB.

    While all the pages that a program touches fit into the TLB, their translations stay there and the bits stay
    clear. The share is that of the pages touched in a sampling interval in the entries of the TLB, at most 1.
    """
    if monitor.tlb_entries == 0:
        return 1.0
    size = monitor.access.size
    touched = touch_probability(monitor.access, 0, size, float(monitor.attributes.sample_us)) * (size / PAGE_BYTES)
    return min(1.0, touched / monitor.tlb_entries)


@compiled
def folio_touched_probability(monitor: Record, address: int) -> float:
    """Probability that any page of the folio around an address is touched in a sampling interval."""
    access, folio = monitor.access, monitor.folio_bytes
    start = address - address % folio
    end = min(start + folio, access.size)
    untouched = 0.0
    for page in range(start, end, PAGE_BYTES):
        touched = touch_probability(access, page, page + PAGE_BYTES, float(monitor.attributes.sample_us))
        if touched >= 1.0:
            return 1.0
        untouched += math.log1p(-touched)
    return -math.expm1(untouched)
