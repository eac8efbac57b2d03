"""The state of N simulated monitors as one structure of arrays, instance axis first."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import array_of, constant_of
from kml_envs.damon.binomial import binomial_table
from kml_envs.damon.machine import MACHINE
from kml_envs.damon.memory_state import MemoryState
from kml_envs.damon.versions import Rules
from kml_envs.errors import UserError
from kml_envs.workloads.access import ACCESS, AccessTable, open_accesses
from kml_envs.workloads.source import ALIAS

GOALS = 4
"""Quota goals that a simulated scheme can have."""
FILTERS = 8
"""Filters that a simulated scheme can have."""
DESTINATIONS = 8
"""Destinations that a simulated scheme can have."""
SCORES = 100
"""Priorities that a region can have: 0..99 (DAMOS_MAX_SCORE + 1)."""

REGION = np.dtype(
    [
        ("start", np.int64),  # bytes
        ("end", np.int64),
        ("target", np.int64),
        ("nr_accesses", np.int64),  # of the running aggregation
        ("last_nr_accesses", np.int64),  # of the aggregation before
        ("age", np.int64),  # aggregations
        ("nr_accesses_bp", np.int64),  # moving sum, in 1/10,000
        ("sz_filter_passed", np.int64),  # bytes; of tried regions only
    ]
)
"""A region, a cache line."""

ATTRIBUTES = np.dtype(
    [
        (name, np.int64)
        for name in (
            "sample_us",
            "aggr_us",
            "update_us",
            "access_bp",
            "aggrs",
            "min_sample_us",
            "max_sample_us",
            "min_nr_regions",
            "max_nr_regions",
            "min_region_bytes",
        )
    ]
)
"""MonitoringAttributes; `intervals_goal` is laid out flat."""

RULES = np.dtype([(item.name, np.int64) for item in dataclasses.fields(Rules)])
"""The flags of `versions.Rules`."""

GOAL = np.dtype(
    [
        ("metric", np.int64),  # place in GoalMetric
        ("target_value", np.int64),
        ("current_value", np.int64),
        ("nid", np.int64),
        ("own_cgroup", np.int64),  # the path is the simulated program's
        ("last_psi_total_us", np.int64),
    ]
)
"""A quota goal and what it remembers."""

FILTER = np.dtype(
    [
        ("type", np.int64),  # place in FilterType
        ("matching", np.int64),
        ("allow", np.int64),
        ("first", np.int64),  # addr_start, min, damon_target_idx or 1: the cgroup is the simulated program's
        ("last", np.int64),  # addr_end or max
    ]
)
"""A filter of a scheme; the core's come first."""

DESTINATION = np.dtype([("id", np.int64), ("weight", np.int64)])
"""A destination of migrations."""

SCHEME = np.dtype(
    [
        # settings
        ("action", np.int64),  # place in Action
        ("supported", np.int64),  # the operations set carries the action out
        ("priority", np.int64),  # -1: cold regions first, 1: hot regions first, 0: all alike
        ("min_sz", np.int64),
        ("max_sz", np.int64),
        ("min_nr_accesses", np.int64),
        ("max_nr_accesses", np.int64),
        ("min_age", np.int64),
        ("max_age", np.int64),
        ("apply_interval_us", np.int64),
        ("target_nid", np.int64),
        ("max_nr_snapshots", np.int64),
        ("quota_ms", np.int64),
        ("quota_bytes", np.int64),
        ("reset_interval_us", np.int64),
        ("goal_tuner", np.int64),  # place in GoalTuner
        ("nr_accesses_permil", np.int64),
        ("age_permil", np.int64),
        ("fail_charge_num", np.int64),
        ("fail_charge_denom", np.int64),
        ("watermark_metric", np.int64),  # place in WatermarkMetric
        ("watermark_interval_us", np.int64),
        ("high", np.int64),
        ("mid", np.int64),
        ("low", np.int64),
        ("goal_count", np.int64),
        ("core_filter_count", np.int64),
        ("filter_count", np.int64),
        ("destination_count", np.int64),
        ("core_default_reject", np.int64),
        ("ops_default_reject", np.int64),
        # state
        ("active", np.int64),  # by its watermarks
        ("next_apply", np.int64),  # samples
        ("window_start_us", np.int64),
        ("effective_bytes", np.int64),
        ("effective_bp", np.uint64),  # bytes in 1/10,000, of the feedback loop
        ("charged_bytes", np.int64),  # in this window
        ("total_charged_bytes", np.int64),  # before this window
        ("total_charged_ns", np.int64),
        ("charged_target", np.int64),  # where the quota ran out, -1: it did not
        ("charged_address", np.int64),
        ("min_score", np.int64),
        ("tried_count", np.int64),  # rows of `tried`
        ("tried_bytes", np.int64),
        # statistics
        ("nr_tried", np.int64),
        ("sz_tried", np.int64),
        ("nr_applied", np.int64),
        ("sz_applied", np.int64),
        ("sz_ops_filter_passed", np.int64),
        ("qt_exceeds", np.int64),
        ("nr_snapshots", np.int64),
    ]
)
"""A scheme: settings, quota, statistics."""

MONITOR = np.dtype(
    [
        ("attributes", ATTRIBUTES),
        ("rules", RULES),
        ("access", ACCESS),
        ("machine", MACHINE),
        ("random", np.uint64),  # SplitMix64 state
        # sizes
        ("region_capacity", np.int64),
        ("scheme_capacity", np.int64),
        ("mapping_capacity", np.int64),
        ("target_capacity", np.int64),
        # addresses of this instance's arrays in DamonState, of the same names
        ("regions", np.uint64),
        ("spare", np.uint64),
        ("schemes", np.uint64),
        ("goals", np.uint64),
        ("filters", np.uint64),
        ("destinations", np.uint64),
        ("tried", np.uint64),
        ("mappings", np.uint64),
        ("histogram", np.uint64),
        ("binomial", np.uint64),
        ("probabilities", np.uint64),  # address of one float64 for each range of the access pattern
        ("memory", np.uint64),  # address of the MEMORY record that actions are applied to, 0: none
        # settings
        ("follows_mappings", np.int64),  # the operations set re-reads them (VADDR)
        ("physical", np.int64),  # what is monitored are pages, not addresses of a process (PADDR)
        ("per_sample", np.int64),
        ("folio_bytes", np.int64),
        ("tlb_entries", np.int64),
        ("paused", np.int64),
        ("target_count", np.int64),
        ("scheme_count", np.int64),
        ("mapping_count", np.int64),
        # state
        ("region_count", np.int64),
        ("time_us", np.int64),
        ("samples", np.int64),  # passed so far
        ("aggregations", np.int64),
        ("window_samples", np.int64),  # length of the running aggregation
        ("next_aggregation", np.int64),  # samples
        ("next_update", np.int64),  # samples
        ("next_tuning", np.int64),  # samples
        ("size_limit", np.int64),  # bytes of a merged region
        ("probable_phase", np.int64),  # phase and sampling interval that `probabilities` are for, -1: none
        ("probable_us", np.int64),
        ("swept", np.int64),  # a sequential cursor goes through some range of that phase
        ("most_accesses", np.int64),  # largest nr_accesses of the last check
        ("regions_at_split", np.int64),
        ("split_phase", np.int64),
        ("checks", np.int64),  # accesses looked for, the monitor's work
        ("charged_checks", np.int64),  # of them, those whose cost the memory's program has felt
        ("memory_time_us", np.int64),  # how far the memory has lived
        ("slept_us", np.int64),  # all schemes were inactive
        ("refused_cuts", np.int64),  # for lack of room in `regions`
    ],
    align=True,
)

ARRAYS = ("regions", "spare", "schemes", "goals", "filters", "destinations", "tried", "mappings", "histogram")


class DamonState(NamedTuple):
    """N monitors. R regions at the most, S schemes, V mapped ranges.

    Compiled functions get one MONITOR record, which holds the addresses of its rows of the other arrays.
    """

    monitors: NDArray[np.void]  # (N,) MONITOR
    regions: NDArray[np.void]  # (N, R) REGION, sorted by target and address
    spare: NDArray[np.void]  # (N, R) REGION, room to split in
    schemes: NDArray[np.void]  # (N, S) SCHEME
    goals: NDArray[np.void]  # (N, S * GOALS) GOAL
    filters: NDArray[np.void]  # (N, S * FILTERS) FILTER
    destinations: NDArray[np.void]  # (N, S * DESTINATIONS) DESTINATION
    tried: NDArray[np.void]  # (N, S * R) REGION, the regions that each scheme tried last
    mappings: NDArray[np.int64]  # (N, V * 3) target, start and end of the ranges that are mapped
    histogram: NDArray[np.int64]  # (N, SCORES) bytes by score
    binomial: NDArray[np.void]  # ALIAS, kept alive for the records
    accesses: list[AccessTable | None]  # kept alive for the records
    probabilities: list[NDArray[np.float64]]  # N times one for each range: a touch of a page within a sample
    memories: list[MemoryState | None]  # kept alive for the records


def allocate(instances: int, max_nr_regions: int, max_schemes: int, max_mappings: int = 16) -> DamonState:
    """Allocate monitors without regions; `simulator.turn_on` makes them usable.

    Args:
        instances: N.
        max_nr_regions: The largest `max_nr_regions` that any of them will be given.
        max_schemes: S.
        max_mappings: Ranges that may be mapped, over all targets.

    Returns:
        The state, all zero but for sizes and addresses.
    """
    # Twice as many, since each region can be split; and what schemes cut off before the next merge.
    capacity = 2 * max_nr_regions + 8 * max_schemes + 6 * max_mappings
    table = binomial_table()
    state = DamonState(
        monitors=np.zeros(instances, MONITOR),
        regions=np.zeros((instances, capacity), REGION),
        spare=np.zeros((instances, capacity), REGION),
        schemes=np.zeros((instances, max_schemes), SCHEME),
        goals=np.zeros((instances, max_schemes * GOALS), GOAL),
        filters=np.zeros((instances, max_schemes * FILTERS), FILTER),
        destinations=np.zeros((instances, max_schemes * DESTINATIONS), DESTINATION),
        tried=np.zeros((instances, max_schemes * capacity), REGION),
        mappings=np.zeros((instances, max_mappings * 3), np.int64),
        histogram=np.zeros((instances, SCORES), np.int64),
        binomial=table,
        accesses=[None] * instances,
        probabilities=[np.zeros(0)] * instances,
        memories=[None] * instances,
    )
    state.monitors["region_capacity"] = capacity
    state.monitors["scheme_capacity"] = max_schemes
    state.monitors["mapping_capacity"] = max_mappings
    state.monitors["binomial"] = table.ctypes.data
    for name in ARRAYS:
        array = getattr(state, name)
        state.monitors[name] = array.ctypes.data + np.arange(instances, dtype=np.uint64) * np.uint64(array.strides[0])
    return state


def copy_row(source: DamonState, source_row: int, target: DamonState, target_row: int) -> None:
    """Copy one instance over another of the same sizes: how snapshots are restored and shadows begin.

    The target keeps its own memory, which `memory_state.copy_memory` copies.
    """
    for name in ARRAYS:
        getattr(target, name)[target_row] = getattr(source, name)[source_row]
    kept = [*ARRAYS, "memory", "probabilities"]
    addresses = target.monitors[kept][target_row].copy()
    target.monitors[target_row] = source.monitors[source_row]
    for name in kept:
        target.monitors[name][target_row] = addresses[name]
    target.accesses[target_row] = source.accesses[source_row]
    _make_room_for_ranges(target, target_row, source.probabilities[source_row].size)


def set_accesses(state: DamonState, row: int, table: AccessTable, origin_us: int = 0) -> None:
    """Let an instance monitor an access pattern, from a place in it on (see `open_accesses`)."""
    state.monitors["access"][row] = open_accesses(table, origin_us)[0]
    state.accesses[row] = table
    _make_room_for_ranges(state, row, table.start.size)


def set_memory(state: DamonState, row: int, memories: MemoryState, memory_row: int) -> None:
    """Let the schemes of an instance act on a memory, which lives with the instance from now on."""
    record = memories.records[memory_row : memory_row + 1]
    state.monitors["memory"][row] = record.ctypes.data
    state.monitors["memory_time_us"][row] = state.monitors["time_us"][row]
    state.memories[row] = memories


def set_mappings(state: DamonState, row: int, target: int, ranges: tuple[tuple[int, int], ...]) -> None:
    """Say which ranges of bytes of a target are mapped; VADDR sees it at its next update.

    Raises:
        UserError: There is no room for so many.
    """
    monitor = state.monitors[row]
    kept = state.mappings[row][: 3 * int(monitor["mapping_count"])].reshape(-1, 3)
    kept = kept[kept[:, 0] != target]
    added = np.array([(target, start, end) for start, end in ranges], np.int64).reshape(-1, 3)
    mapped = np.concatenate([kept, added])
    if len(mapped) > monitor["mapping_capacity"]:
        raise UserError(f"{len(mapped)} mapped ranges: at most {monitor['mapping_capacity']} were allocated")
    mapped = mapped[np.lexsort((mapped[:, 1], mapped[:, 0]))]
    state.mappings[row][: mapped.size] = mapped.ravel()
    state.monitors["mapping_count"][row] = len(mapped)


def _make_room_for_ranges(state: DamonState, row: int, count: int) -> None:
    if state.probabilities[row].size != count:
        state.probabilities[row] = np.zeros(count)
    state.monitors["probabilities"][row] = state.probabilities[row].ctypes.data
    state.monitors["probable_phase"][row] = -1


regions = array_of("regions", REGION)
"""The REGION records of a monitor, (R,)."""

spare = array_of("spare", REGION)
"""Room for as many, (R,) REGION."""

schemes = array_of("schemes", SCHEME)
"""The SCHEME records of a monitor, (S,)."""

goals = array_of("goals", GOAL)
"""The GOAL records, (S * GOALS,)."""

filters = array_of("filters", FILTER)
"""The FILTER records, (S * FILTERS,)."""

destinations = array_of("destinations", DESTINATION)
"""The DESTINATION records, (S * DESTINATIONS,)."""

tried = array_of("tried", REGION)
"""The regions that schemes tried last, (S * R,) REGION."""

mappings = array_of("mappings", np.int64)
"""Target, start and end of the mapped ranges, (V * 3,) int64."""

histogram = array_of("histogram", np.int64)
"""Bytes of a scheme's regions by score, (SCORES,) int64."""

binomial = array_of("binomial", ALIAS)
"""The table of `binomial.py`."""

probabilities = array_of("probabilities", np.float64)
"""Probability that a page of each range of the access pattern is touched in a sample, (ranges,) float64."""

region_capacity = constant_of("region_capacity")
"""R."""
