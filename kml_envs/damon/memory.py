"""The consequences of what DAMON's schemes do: a compiled model of memory under an access pattern.

`advance` lets a program run on its memory, `apply_action` does to a range what a scheme asks for. In between stands
the state of `memory_state.py`: for each extent, how many of its pages are on which node, swapped out, never touched,
or mapped by huge pages. All numbers of pages are expectations under the pattern's Poisson touches: a swapped page is
touched within a step, and so faulted in, with the probability that `touch_probability` gives; nothing is drawn.

Docs: docs/memory-model.md, with the source of every rule and the effect of every simplification.
"""

from __future__ import annotations

import math

import numpy as np

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import ACTIONS, Action
from kml_envs.damon.memory_config import FAST_NODE, SLOW_NODE
from kml_envs.damon.memory_huge import collapse_now, collapse_slowly, take_huge_faults
from kml_envs.damon.memory_reclaim import keep_watermarks, swap_out
from kml_envs.damon.memory_state import extents_of, room_on_fast
from kml_envs.damon.pressure import some_pressure
from kml_envs.workloads.access import (
    PAGE_BYTES,
    move_to,
    next_boundary,
    range_end,
    range_is_swept,
    range_rate,
    range_start,
    touch_probability_from,
    touch_rate_from,
)

_WILLNEED = ACTIONS.index(Action.WILLNEED)
_COLD = ACTIONS.index(Action.COLD)
_PAGEOUT = ACTIONS.index(Action.PAGEOUT)
_HUGEPAGE = ACTIONS.index(Action.HUGEPAGE)
_NOHUGEPAGE = ACTIONS.index(Action.NOHUGEPAGE)
_COLLAPSE = ACTIONS.index(Action.COLLAPSE)
_LRU_PRIO = ACTIONS.index(Action.LRU_PRIO)
_LRU_DEPRIO = ACTIONS.index(Action.LRU_DEPRIO)
_MIGRATE_HOT = ACTIONS.index(Action.MIGRATE_HOT)
_MIGRATE_COLD = ACTIONS.index(Action.MIGRATE_COLD)

# kdamond's time for each page that an action looks at. Assumed; it makes 52 ms for a GiB (see docs/memory-model.md).
_VISIT_NS = 200.0
_COLDEST_S = 1e6  # idle time of pages that were moved to the end of the inactive list
_PSI_MEMORY_S = 10.0
_BUSIEST = 0.95  # utilisation of node 1 from which its queue is taken to grow no more
_HALVINGS = 40  # of the interval that the time waited for node 1 is sought in


@compiled
def advance(memory: Record, access: Record, duration_us: int) -> None:
    """Let the program run.

    Args:
        memory: The MEMORY record.
        access: The ACCESS record, moved to the time of the memory; it is moved on with it, phase by phase.
        duration_us: How long. Pages that fault in are touched at once in the step in which they do, so a step should
            be no longer than the idle times that matter; 1 s or less is advised.
    """
    end_us = access.time_us + duration_us
    while access.time_us < end_us:
        step_us = min(end_us, next_boundary(access)) - access.time_us
        _step(memory, access, float(step_us))
        move_to(access, access.time_us + step_us)


@compiled
def apply_action(
    memory: Record, action: int, start: int, end: int, share: float, to_fast: float = 0.0, to_slow: float = 0.0
) -> int:
    """Do to a range what a scheme asks for. What is free on the target bounds what is moved there.

    Args:
        memory: The MEMORY record; kdamond's time is added to `kdamond_ns`.
        action: Place in `ACTIONS`.
        start: First byte.
        end: Byte behind the last.
        share: Share of the range's pages that the scheme's filters let pass, any of them alike.
        to_fast: Share of the pages that a migration is to bring to node 0.
        to_slow: The same for node 1; what is for neither stays.

    Returns:
        Bytes that the action was applied to: pages paged out, migrated, fetched or collapsed, and for advice and lists
        the pages in memory.
    """
    extents = extents_of(memory)
    applied = 0.0
    index = extent_at(memory, start)
    while index < memory.extent_count and extents[index].start < end:
        extent = extents[index]
        low, high = max(start, extent.start), min(end, extent.end)
        part = share * (high - low) / (extent.end - extent.start)
        memory.kdamond_ns += part * extent.pages * _VISIT_NS
        applied += _apply_to_extent(memory, action, index, part, to_fast, to_slow)
        index += 1
    return np.int64(round(applied)) * PAGE_BYTES


@compiled
def charge_monitoring(memory: Record, region_checks: int) -> None:
    """Add kdamond's time for so many checks of a region to `kdamond_ns`."""
    memory.kdamond_ns += region_checks * memory.region_check_ns


@compiled
def extent_at(memory: Record, address: int) -> int:
    """Index of the first extent that ends behind an address."""
    extents = extents_of(memory)
    low, high = 0, memory.extent_count
    while low < high:
        middle = (low + high) // 2
        if extents[middle].end > address:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def resident_pages(memory: Record) -> float:
    """Pages of the program in memory: what its RSS counts."""
    return memory.fast_used + memory.slow_used - memory.swapped * memory.swap_share


@compiled
def used_pages(memory: Record) -> float:
    """Pages of memory that are in use, those that hold compressed pages included."""
    return memory.fast_used + memory.slow_used


@compiled
def free_permil(memory: Record) -> float:
    """Free memory, per mille: the metric `free_mem_rate` of watermarks."""
    total = memory.fast_pages + memory.slow_pages
    return max(0.0, 1000.0 * (total - used_pages(memory)) / total)


@compiled
def node_used_bp(memory: Record, node: int) -> float:
    """Used memory of a node in 1/10,000; all of it for a node that does not exist."""
    used = memory.fast_used if node == 0 else memory.slow_used
    size = memory.fast_pages if node == 0 else memory.slow_pages
    return min(1.0, used / size) * 10000.0 if size > 0 and node < 2 else 10000.0


@compiled
def node_pages(memory: Record, start: int, end: int, node: int) -> float:
    """Pages of a range that are in memory on a node."""
    extents, pages = extents_of(memory), 0.0
    index = extent_at(memory, start)
    while index < memory.extent_count and extents[index].start < end:
        extent = extents[index]
        part = (min(end, extent.end) - max(start, extent.start)) / (extent.end - extent.start)
        if node == FAST_NODE:
            pages += part * (extent.fast + extent.bloat)
        elif node == SLOW_NODE:
            pages += part * extent.slow
        index += 1
    return pages


@compiled
def huge_share(memory: Record, start: int, end: int) -> float:
    """Share of a range's pages in memory that are mapped by huge pages."""
    extents, huge = extents_of(memory), 0.0
    index = extent_at(memory, start)
    while index < memory.extent_count and extents[index].start < end:
        extent = extents[index]
        huge += extent.huge * (min(end, extent.end) - max(start, extent.start)) / (extent.end - extent.start)
        index += 1
    present = node_pages(memory, start, end, FAST_NODE) + node_pages(memory, start, end, SLOW_NODE)
    return min(1.0, huge / present) if present > 0.0 else 0.0


@compiled
def active_bp(memory: Record) -> float:
    """Pages on the active lists in 1/10,000 of all in memory: here, those whose extent was not idle for long."""
    extents, active, total = extents_of(memory), 0.0, 0.0
    for index in range(memory.extent_count):
        extent = extents[index]
        pages = extent.fast + extent.slow + extent.bloat
        total += pages
        if extent.idle_s < memory.active_s:
            active += pages
    return 10000.0 * active / total if total > 0.0 else 0.0


@compiled
def advance_rows(memories: Record, accesses: Record, duration_us: int) -> None:
    """`advance` each of N memories under its own pattern: MEMORY (N,), ACCESS (N,)."""
    for row in range(memories.size):
        advance(memories[row], accesses[row], duration_us)


@compiled
def apply_to_row(
    memories: Record,
    row: int,
    action: int,
    start: int,
    end: int,
    share: float,
    to_fast: float = 0.0,
    to_slow: float = 0.0,
) -> int:
    """`apply_action` on one of N memories, for use from Python."""
    return apply_action(memories[row], action, start, end, share, to_fast, to_slow)


@compiled
def _step(memory: Record, access: Record, step_us: float) -> None:
    _remember_touches(memory, access, step_us)
    extents = extents_of(memory)
    seconds = step_us * 1e-6
    faults, entered = 0.0, 0.0
    touches, squares, on_slow, on_huge = 0.0, 0.0, 0.0, 0.0
    for index in range(memory.extent_count):
        extent = extents[index]
        probability, rate = extent.probability, extent.rate
        present = extent.fast + extent.slow + extent.bloat
        extent.entered = 0.0
        if probability > 0.0:
            # Of the touches, those on node 1 and on huge pages count as they are placed before the step.
            touches += extent.pages * rate
            squares += extent.pages * rate * rate
            if extent.slow > 0.0:
                on_slow += extent.pages * rate * extent.slow / present
            if extent.huge > 0.0 and present > 0.0:
                on_huge += extent.pages * rate * extent.huge / present
            if extent.swapped > 0.0 or extent.untouched > 0.0 or extent.bloat > 0.0:
                faults += extent.swapped * probability
                entered += extent.untouched * probability
                _fault_in(memory, extent, probability)
        # The step's end is dt after its start for pages untouched in it; the last touch is half a gap ago for others.
        last_touch = min(seconds / 2, 1.0 / rate) if rate > 0.0 else 0.0
        extent.idle_s = (1.0 - probability) * (extent.idle_s + seconds) + probability * last_touch
    memory.major_faults += faults
    memory.minor_faults += entered
    if memory.huge_allowed:
        take_huge_faults(memory)
        collapse_slowly(memory, seconds)
    waited_us = keep_watermarks(memory, seconds) / memory.threads
    fault_us = faults * memory.fault_us / memory.threads
    memory.fault_stall_us += fault_us
    memory.reclaim_stall_us += waited_us
    _account_speed(memory, step_us, touches, squares, on_slow, on_huge)
    _account_pressure(memory, step_us, fault_us + waited_us)
    memory.resident_page_us += resident_pages(memory) * step_us
    memory.used_page_us += used_pages(memory) * step_us
    memory.time_us += step_us


@compiled
def _remember_touches(memory: Record, access: Record, step_us: float) -> None:
    """Work out how often the extents are touched, once for all steps of a phase that are equally long."""
    if access.phase == memory.touched_phase and step_us == memory.touched_us:
        return
    extents, first = extents_of(memory), access.first
    known, probability, rate = np.int64(-1), 0.0, 0.0
    for index in range(memory.extent_count):
        extent = extents[index]
        start, end = extent.start, extent.end
        while first < access.last and range_end(access, first) <= start:
            first += 1
        inside = first < access.last and range_start(access, first) <= start and end <= range_end(access, first)
        if not inside or range_is_swept(access, first):
            extent.probability = touch_probability_from(access, first, start, end, step_us)
            extent.rate = touch_rate_from(access, first, start, end)
            continue
        if first != known:  # a range has many extents
            known, rate = first, range_rate(access, first)
            probability = -math.expm1(-rate * step_us * 1e-6)
        extent.probability, extent.rate = probability, rate
    memory.touched_phase, memory.touched_us = access.phase, step_us
    for index in range(access.first, access.last):
        if range_is_swept(access, index):  # where the cursor is changes from step to step
            memory.touched_us = 0.0


@compiled
def _fault_in(memory: Record, extent: Record, probability: float) -> None:
    """Bring the touched pages of an extent into memory: node 0 while it has room, then node 1."""
    back, new = extent.swapped * probability, extent.untouched * probability
    extent.swapped -= back
    extent.untouched -= new
    extent.entered = new
    memory.swapped -= back
    memory.fast_used -= back * memory.swap_share
    # What huge pages brought in and the program touches now is no bloat any more.
    extent.fast += extent.bloat * probability
    extent.bloat -= extent.bloat * probability
    coming = back + new
    on_fast = coming
    if memory.slow_pages > 0.0:
        on_fast = min(coming, room_on_fast(memory))
        on_fast = max(on_fast, coming - max(0.0, memory.slow_pages - memory.slow_used))
    extent.fast += on_fast
    extent.slow += coming - on_fast
    memory.fast_used += on_fast
    memory.slow_used += coming - on_fast


@compiled
def slow_wait(weight: float, excess: float, program: float, moved: float) -> float:
    """Time that a program waits for node 1, per time of its work.

    The busier node 1 is the longer is its queue; and the longer the program waits, the less traffic it makes. So a
    program that wants more than the bandwidth is slowed down until it fits.

    Args:
        weight: Share of the time that the program would wait for node 0, times the share of its touches on node 1.
        excess: Latency of node 1 above that of node 0, in latencies of node 0.
        program: Traffic of a program that does not wait, in bandwidths of node 1.
        moved: Traffic of migrations.
    """
    if weight <= 0.0:
        return 0.0
    low, high = 0.0, weight * (excess + _BUSIEST / (1.0 - _BUSIEST))
    for _ in range(_HALVINGS):
        wait = 0.5 * (low + high)
        busy = min(_BUSIEST, program / (1.0 + wait) + moved)
        if weight * (excess + busy / (1.0 - busy)) > wait:
            low = wait
        else:
            high = wait
    return high


@compiled
def _account_speed(
    memory: Record, step_us: float, touches: float, squares: float, on_slow: float, on_huge: float
) -> None:
    """What slows the program down or speeds it up besides faults: nodes, bandwidth, walks, migrations, kdamond."""
    waiting = 0.0
    memory.touches += touches * step_us * 1e-6
    memory.slow_touches += on_slow * step_us * 1e-6
    if touches > 0.0 and memory.mean_rate > 0.0:
        # A program that touches less than in mean waits less; it cannot wait longer than the time there is.
        activity = touches / memory.mean_rate
        bound = min(1.0, memory.memory_bound * activity)
        slow_share = on_slow / touches
        program = memory.program_bytes_per_s * activity * slow_share / memory.slow_bytes_per_s
        moved = memory.moved_pages * PAGE_BYTES / (step_us * 1e-6) / memory.slow_bytes_per_s
        waiting = slow_wait(bound * slow_share, memory.latency_excess, program, moved) * step_us
        # The pattern is as spread out as one of so many equally hot pages.
        spread = touches * touches / squares
        missing = max(0.0, 1.0 - memory.tlb_entries / spread)
        memory.huge_gain_us += min(1.0, memory.walk_share * activity) * missing * on_huge / touches * step_us
    waiting += memory.moved_pages * memory.migration_stall_us / memory.threads
    memory.moved_pages = 0.0
    memory.tier_stall_us += waiting
    memory.monitor_stall_us += memory.interference * (memory.kdamond_ns - memory.charged_ns) / 1000.0
    memory.charged_ns = memory.kdamond_ns


@compiled
def _account_pressure(memory: Record, step_us: float, stall_us: float) -> None:
    """PSI "some": the share of time in which at least one of the threads waits, if they wait independently."""
    waiting = stall_us / (step_us + stall_us)
    some = some_pressure(waiting, memory.threads)
    memory.psi_us += some * step_us
    keep = math.exp(-step_us * 1e-6 / _PSI_MEMORY_S)
    memory.psi_share_10s = keep * memory.psi_share_10s + (1.0 - keep) * some


@compiled
def _apply_to_extent(memory: Record, action: int, index: int, part: float, to_fast: float, to_slow: float) -> float:
    """Apply an action to a share of an extent's pages; returns the pages that it was applied to."""
    extent = extents_of(memory)[index]
    present = (extent.fast + extent.slow + extent.bloat) * part
    if action == _PAGEOUT:
        return _page_out(memory, extent, part)
    if action == _MIGRATE_HOT or action == _MIGRATE_COLD:
        return _migrate(memory, extent, part, to_fast, to_slow)
    if action == _WILLNEED:
        return _fetch(memory, extent, part)
    if action == _COLLAPSE:
        return collapse_now(memory, index, part)
    if action == _COLD or action == _LRU_DEPRIO:
        extent.idle_s += part * (_COLDEST_S - extent.idle_s)
    elif action == _LRU_PRIO:
        extent.idle_s -= part * extent.idle_s
    elif action == _HUGEPAGE:
        extent.advised += part * (1.0 - extent.advised)
        memory.huge_allowed = 1
    elif action == _NOHUGEPAGE:
        extent.advised -= part * extent.advised
    else:
        return 0.0
    return present


@compiled
def _page_out(memory: Record, extent: Record, part: float) -> float:
    touched = (extent.fast + extent.slow) * part
    if touched > 0.0:
        part *= min(1.0, max(0.0, memory.swap_pages - memory.swapped) / touched)
    taken = swap_out(memory, extent, part)
    memory.paged_out += taken
    memory.kdamond_ns += taken * memory.write_us * 1000.0
    return taken


@compiled
def _migrate(memory: Record, extent: Record, part: float, to_fast: float, to_slow: float) -> float:
    """Bring a share of an extent's pages to their nodes; those that lie there already are not moved."""
    missing_on_fast = extent.slow * to_fast - extent.fast * (1.0 - to_fast)
    missing_on_slow = extent.fast * to_slow - extent.slow * (1.0 - to_slow)  # only one of both can be above 0
    if missing_on_fast > 0.0:
        moved = min(missing_on_fast * part, room_on_fast(memory))
        memory.promoted += moved
        change = moved
    else:
        moved = min(max(0.0, missing_on_slow * part), max(0.0, memory.slow_pages - memory.slow_used))
        memory.demoted += moved
        change = -moved
    extent.fast += change
    extent.slow -= change
    memory.fast_used += change
    memory.slow_used -= change
    memory.moved_pages += moved
    memory.kdamond_ns += moved * memory.migration_us * 1000.0
    return moved


@compiled
def _fetch(memory: Record, extent: Record, part: float) -> float:
    fetched = min(extent.swapped * part, room_on_fast(memory))
    extent.swapped -= fetched
    extent.fast += fetched
    memory.swapped -= fetched
    memory.fast_used += fetched * (1.0 - memory.swap_share)
    memory.kdamond_ns += fetched * memory.fault_us * 1000.0
    return fetched
