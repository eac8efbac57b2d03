"""The state of N simulated memories: extents, and what their dynamics have added up to.

Memory is kept by extents: a fixed grid of at most a few thousand ranges that ends wherever the access pattern has a
border. The pages of an extent are exchangeable: how many are where is kept, not which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.damon.memory_config import RECLAIM_US, MemoryConfig
from kml_envs.errors import UserError
from kml_envs.workloads.access import PAGE_BYTES, AccessTable

EXTENTS = 1024
"""Extents of a memory whose pattern does not ask for more."""
MOST_EXTENTS = 4096

EXTENT = np.dtype(
    [
        ("start", np.int64),  # bytes
        ("end", np.int64),
        ("pages", np.float64),  # the sum of the next five
        ("fast", np.float64),  # pages on node 0 that the program has touched
        ("slow", np.float64),  # pages on node 1
        ("swapped", np.float64),
        ("untouched", np.float64),  # without memory, until the first touch
        ("bloat", np.float64),  # pages on node 0 that only a huge page has brought in
        ("huge", np.float64),  # pages in memory that are mapped by huge pages
        ("advised", np.float64),  # share that may become huge
        ("idle_s", np.float64),  # mean time since the last touch of the pages in memory
        ("entered", np.float64),  # pages first touched in the last step
        ("probability", np.float64),  # of a page to be touched in the last step
        ("rate", np.float64),  # touches per page and second in it
    ]
)
"""Pages are expected numbers, not whole ones: the memory model draws nothing at random."""

MEMORY = np.dtype(
    [
        ("extent_count", np.int64),
        ("size", np.int64),  # bytes
        # settings in pages, microseconds and shares
        ("fast_pages", np.float64),
        ("slow_pages", np.float64),
        ("swap_pages", np.float64),
        ("min_pages", np.float64),
        ("low_pages", np.float64),
        ("high_pages", np.float64),
        ("fault_us", np.float64),
        ("write_us", np.float64),
        ("swap_share", np.float64),  # memory that a swapped page takes, in pages
        ("kswapd_pages_per_s", np.float64),
        ("threads", np.float64),
        ("memory_bound", np.float64),
        ("latency_excess", np.float64),  # of node 1, in latencies of node 0
        ("program_bytes_per_s", np.float64),
        ("slow_bytes_per_s", np.float64),
        ("migration_us", np.float64),
        ("migration_stall_us", np.float64),
        ("walk_share", np.float64),
        ("tlb_entries", np.float64),
        ("khugepaged_pages_per_s", np.float64),
        ("region_check_ns", np.float64),
        ("interference", np.float64),
        ("active_s", np.float64),
        ("mean_rate", np.float64),  # touches per second of the whole pattern, in mean over its cycle
        # state
        ("fast_used", np.float64),  # pages on node 0, the swap device's included
        ("slow_used", np.float64),
        ("swapped", np.float64),
        ("kswapd_awake", np.int64),
        ("huge_allowed", np.int64),  # some extent may have huge pages
        ("charged_ns", np.float64),  # kdamond's time that has slowed the program down already
        ("moved_pages", np.float64),  # migrated since the last step
        ("touched_phase", np.int64),  # of the pattern: what `probability` and `rate` of the extents are about
        ("touched_us", np.float64),  # length of the step that they are about, 0: of none any more
        # totals since the start
        ("time_us", np.float64),
        ("major_faults", np.float64),
        ("minor_faults", np.float64),
        ("paged_out", np.float64),  # pages, by schemes
        ("reclaimed", np.float64),  # pages, by kswapd
        ("reclaimed_directly", np.float64),  # pages, by programs in need
        ("promoted", np.float64),  # pages migrated to node 0
        ("demoted", np.float64),  # pages migrated to node 1
        ("touches", np.float64),  # of pages by the program
        ("slow_touches", np.float64),  # of pages on node 1
        ("fault_stall_us", np.float64),  # each of a thread, in mean over the threads
        ("reclaim_stall_us", np.float64),
        ("tier_stall_us", np.float64),
        ("monitor_stall_us", np.float64),
        ("huge_gain_us", np.float64),
        ("psi_us", np.float64),  # time in which some thread waited for memory
        ("psi_share_10s", np.float64),  # the same as a share, averaged over 10 s
        ("kdamond_ns", np.float64),
        ("resident_page_us", np.float64),  # time integral of the resident pages
        ("used_page_us", np.float64),  # the same with the memory of the swap device
        ("extents", np.uint64),  # address
    ],
    align=True,
)

extents_of = array_of("extents", EXTENT)


@compiled
def room_on_fast(memory: Record) -> float:
    """Pages that can be brought to node 0 without waking kswapd."""
    return max(0.0, memory.fast_pages - memory.low_pages - memory.fast_used)


class MemoryState(NamedTuple):
    """N memories; a record holds the address of its row of extents.

    Attributes:
        records: (N,) MEMORY.
        extents: (N, E) EXTENT, of which each memory uses the first `extent_count`.
    """

    records: NDArray[np.void]
    extents: NDArray[np.void]


def allocate_memories(
    config: MemoryConfig, tables: Sequence[AccessTable], populated: Sequence[bool], limits: Sequence[int]
) -> MemoryState:
    """Make memories, one for each access pattern.

    Args:
        config: The machine.
        tables: (N,) access patterns.
        populated: (N,) whether all memory is resident in the beginning.
        limits: (N,) bytes of node 0 that override the configuration's, 0 where they do not.

    Raises:
        UserError: A program is larger than its memory and its swap device together.
    """
    edges = [extent_edges(table) for table in tables]
    state = MemoryState(
        np.zeros(len(tables), MEMORY), np.zeros((len(tables), max(cut.size - 1 for cut in edges)), EXTENT)
    )
    for row, (table, cut) in enumerate(zip(tables, edges, strict=True)):
        settings = memory_record(config, table, limits[row])
        for name in MEMORY.names or ():
            state.records[row][name] = settings[name]
        state.records[row]["extent_count"] = cut.size - 1
        state.records[row]["extents"] = state.extents[row].ctypes.data
        used = state.extents[row, : cut.size - 1]
        used["advised"] = float(config.always_huge)
        _fill(state.records[row], used, cut, populated[row])
    return state


def copy_memory(source: MemoryState, source_row: int, target: MemoryState, target_row: int) -> None:
    """Copy one memory over another of the same or more extents."""
    address = target.records["extents"][target_row]
    count = source.extents.shape[1]
    target.extents[target_row, :count] = source.extents[source_row]
    target.records[target_row] = source.records[source_row]
    target.records["extents"][target_row] = address


def extent_edges(table: AccessTable, wanted: int = EXTENTS, most: int = MOST_EXTENTS) -> NDArray[np.int64]:
    """Cut the memory of a pattern into extents.

    Args:
        table: The pattern.
        wanted: Extents to cut into where the pattern has fewer borders.
        most: Extents at most; of more borders than that, evenly many are left out.

    Returns:
        (E + 1,) int64, the edges in bytes: all borders of the pattern's ranges, and others that cut what is large.
    """
    borders = np.unique(np.concatenate([[0, table.size], table.start, table.end]))
    if borders.size - 1 > most:
        borders = borders[np.unique(np.linspace(0, borders.size - 1, most + 1).round().astype(np.int64))]
    sizes = np.diff(borders)
    spare = max(min(wanted, most) - sizes.size, 0)
    # Each part gets its share of the spare cuts, so that there are never more than wanted.
    pieces = np.minimum(1 + np.floor(spare * (sizes / table.size)).astype(np.int64), sizes // PAGE_BYTES)
    cuts = [
        low + np.arange(count) * (size // PAGE_BYTES) // count * PAGE_BYTES
        for low, size, count in zip(borders[:-1], sizes, pieces, strict=True)
    ]
    return np.append(np.concatenate(cuts), table.size).astype(np.int64)


def memory_record(config: MemoryConfig, table: AccessTable, limit_bytes: int) -> NDArray[np.void]:
    """The settings of a MEMORY record, shape ()."""
    record = np.zeros((), MEMORY)
    fast = limit_bytes or config.fast_bytes or table.size * 5 // 4
    swap = config.swap
    record["size"] = table.size
    record["fast_pages"] = fast / PAGE_BYTES
    record["slow_pages"] = config.slow_bytes / PAGE_BYTES
    record["swap_pages"] = (config.swap_bytes or table.size) / PAGE_BYTES
    for name in ("min", "low", "high"):
        record[f"{name}_pages"] = fast / PAGE_BYTES * getattr(config, f"{name}_permil") / 1000
    record["fault_us"], record["write_us"], record["swap_share"] = swap.fault_us, swap.write_us, swap.memory_share
    record["kswapd_pages_per_s"] = min(1e6 / (swap.write_us + RECLAIM_US), swap.most_write_pages_per_s)
    record["latency_excess"] = config.slow_latency_ratio - 1.0
    record["khugepaged_pages_per_s"] = config.khugepaged_bytes_per_s / PAGE_BYTES
    record["region_check_ns"] = config.region_check_us * 1000
    for name in (
        "threads",
        "memory_bound",
        "program_bytes_per_s",
        "slow_bytes_per_s",
        "migration_us",
        "migration_stall_us",
        "walk_share",
        "tlb_entries",
        "interference",
        "active_s",
    ):
        record[name] = getattr(config, name)
    record["huge_allowed"] = config.always_huge
    record["mean_rate"] = mean_touches_per_s(table)
    return record


def mean_touches_per_s(table: AccessTable) -> float:
    """Touches per second of a pattern, in mean over its cycle; a sweep touches each page once a turn."""
    swept = table.sweep_us > 0
    rate = np.where(swept, 1e6 / np.where(swept, table.sweep_us, 1.0), table.rate)
    touches = np.concatenate([[0.0], np.cumsum(rate * ((table.end - table.start) // PAGE_BYTES))])
    by_phase = np.diff(touches[table.first_range])
    return float((by_phase * np.diff(table.phase_end_us, prepend=0)).sum() / table.phase_end_us[-1])


def _fill(record: Record, extents: NDArray[np.void], edges: NDArray[np.int64], populated: bool) -> None:
    """Lay the extents out; what is populated fills node 0 from the lowest address on, then node 1, then the swap."""
    extents["start"], extents["end"] = edges[:-1], edges[1:]
    pages = np.diff(edges) / PAGE_BYTES
    extents["pages"] = pages
    if not populated:
        extents["untouched"] = pages
        return
    before = np.cumsum(pages) - pages
    fast, slow = record["fast_pages"] - record["high_pages"], record["slow_pages"]
    extents["fast"] = np.clip(fast - before, 0.0, pages)
    extents["slow"] = np.clip(fast + slow - before, 0.0, pages) - extents["fast"]
    extents["swapped"] = pages - extents["fast"] - extents["slow"]
    record["swapped"], record["slow_used"] = extents["swapped"].sum(), extents["slow"].sum()
    extents["huge"] = extents["advised"] * (extents["fast"] + extents["slow"])
    record["fast_used"] = extents["fast"].sum() + record["swapped"] * record["swap_share"]
    if record["swapped"] > record["swap_pages"]:
        raise UserError(f"a program of {record['size']} bytes is larger than the memory and the swap device together")
