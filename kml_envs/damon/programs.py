"""Programs on simulated machines under DAMON: where episodes begin, and what DAMON's environments have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import PAGE_BYTES, Context
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.memory_state import (
    EXTENT,
    MEMORY,
    MemoryState,
    allocate_memories,
    copy_memory,
    extent_edges,
    extents_of,
)
from kml_envs.damon.monitor import most_accesses_of
from kml_envs.damon.simulator import advance_rows, turn_on
from kml_envs.damon.state import DamonState, allocate, copy_row, regions, set_accesses, set_memory
from kml_envs.errors import unknown_name
from kml_envs.workloads.access import touch_probability
from kml_envs.workloads.memory_workloads import MemoryWorkload

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SECOND_US = 1_000_000
ORIGINS = 4
"""Places in a workload at which episodes begin."""
HISTORY = 120
"""Control intervals that a picture shows."""
BINS = 48
"""Parts of the address space that a picture shows."""
ACCESS_EDGES = (0.05, 0.2, 0.5)
"""Shares of samples that part memory that is accessed rarely, sometimes, often and always."""
TOUCHED, FOUND, RESIDENT = range(3)
"""Rows of `Pictures.maps`: share of the pages touched in a sample, the same as monitored, in memory (or on node 0)."""
USED, SLOWDOWN = range(2)
"""Rows of `Pictures.curves`: what an environment shows beside it, and time lost as a share of the time."""

_TOTALS = (
    "used_page_us",
    "paged_out",
    "major_faults",
    "kdamond_ns",
    "promoted",
    "demoted",
    "touches",
    "slow_touches",
)
_STALLS = ("fault_stall_us", "reclaim_stall_us", "tier_stall_us", "monitor_stall_us")


class Pictures(NamedTuple):
    """What happened in the last control intervals of N programs, as rings.

    Attributes:
        columns: (N,) int64, intervals drawn so far.
        maps: (N, 3, HISTORY, BINS) float32, by TOUCHED, FOUND and RESIDENT.
        curves: (N, 2, HISTORY) float32, by USED and SLOWDOWN.
    """

    columns: IntArray
    maps: NDArray[np.float32]
    curves: NDArray[np.float32]


@dataclass(frozen=True)
class Machine:
    """The machine that a program runs on.

    Attributes:
        config: Parameters of the memory model.
        memory_share: Memory of node 0 over the size of the program; with one node only where the workload does not say
            how much it is.
        slow_share: Memory of node 1 over the size of the program; 0: there is none.
    """

    config: MemoryConfig
    memory_share: float
    slow_share: float = 0.0

    def config_for(self, workload: MemoryWorkload) -> MemoryConfig:
        """The parameters with the sizes of the nodes for a workload."""
        size = workload.table.size
        limit = workload.limit_bytes if self.slow_share == 0.0 else 0
        return replace(
            self.config, fast_bytes=limit or int(size * self.memory_share), slow_bytes=int(size * self.slow_share)
        )


class WarmPrograms:
    """Programs in the midst of their run; made when first asked for, copied at every reset.

    Attributes:
        machine: The machine.
        workloads: The workloads that episodes are drawn from.
        only: Index of the one workload that episodes are drawn from for now; None: all of them.
        max_nr_regions: Regions that a monitor has room for.
    """

    def __init__(
        self,
        machine: Machine,
        workloads: Sequence[MemoryWorkload],
        context: Context,
        *,
        warm_s: float,
        episode_s: float,
        max_nr_regions: int = 0,
    ) -> None:
        """Prepare to warm up.

        Args:
            machine: The machine.
            workloads: The workloads; all of their memory is resident or swapped out in the beginning.
            context: DAMON's settings while a program warms up, which should only watch: so all policies begin alike.
            warm_s: How long.
            episode_s: Length of an episode, for workloads that end.
            max_nr_regions: Room for the regions of other settings than the context's.
        """
        self.machine = machine
        self.workloads = tuple(workloads)
        self.only: int | None = None
        self.warm_us, self._episode_us = round(warm_s * SECOND_US), round(episode_s * SECOND_US)
        self.most_extents = max(extent_edges(workload.table).size - 1 for workload in workloads)
        self._context = context
        self.max_nr_regions = max(max_nr_regions, context.monitoring_attrs.max_nr_regions)
        self._kept: dict[tuple[int, int], tuple[DamonState, MemoryState]] = {}

    def allocate(self, instances: int) -> tuple[DamonState, MemoryState]:
        """Room for N programs, each with a memory of its own."""
        state = allocate(instances, self.max_nr_regions, max(1, len(self._context.schemes)))
        memories = MemoryState(np.zeros(instances, MEMORY), np.zeros((instances, self.most_extents), EXTENT))
        for row in range(instances):
            memories.records["extents"][row] = memories.extents[row].ctypes.data
            set_memory(state, row, memories, row)
        return state, memories

    def restore(self, state: DamonState, memories: MemoryState, row: int, seed: int) -> int:
        """Begin an episode: copy a warm program into a row; which one, and everything random, follows from the seed.

        Returns:
            Index of the workload.
        """
        workload, place = self.begins(seed)
        warm, memory = self._warm(workload, place)
        copy_row(warm, 0, state, row)
        copy_memory(memory, 0, memories, row)
        state.monitors["random"][row] = seed
        return workload

    def begins(self, seed: int) -> tuple[int, int]:
        """Index of the workload of an episode, and at which of the `ORIGINS` places in it the episode begins."""
        count = len(self.workloads)
        return seed % count if self.only is None else self.only, seed // count % ORIGINS

    def origin_us(self, workload: int, place: int) -> int:
        """Where in its pattern a workload's episode begins, the warm-up not included.

        Args:
            workload: Its index.
            place: 0 to `ORIGINS` - 1.
        """
        table = self.workloads[workload].table
        cycle = int(table.phase_end_us[-1])
        span = max(0, cycle - self.warm_us - self._episode_us) if table.once else cycle
        return self.warm_us + span * place // ORIGINS

    def _warm(self, workload: int, place: int) -> tuple[DamonState, MemoryState]:
        if (workload, place) not in self._kept:
            one = self.workloads[workload]
            state = allocate(1, self.max_nr_regions, max(1, len(self._context.schemes)))
            memory = allocate_memories(self.machine.config_for(one), [one.table], [True], [0])
            set_accesses(state, 0, one.table, self.origin_us(workload, place) - self.warm_us)
            turn_on(state, 0, self._context, seed=place)
            set_memory(state, 0, memory, 0)
            advance_rows(state.monitors, np.zeros(1, np.int64), np.full(1, self.warm_us))
            self._kept[workload, place] = state, memory
        return self._kept[workload, place]


class MonitoredPrograms:
    """N programs, each in its own episode; subclasses add what the agent is asked for.

    Attributes:
        instances: N.
        warm: Where episodes begin.
        state: The monitors.
        memories: Their memories.
        pictures: What happened lately.
        interval_us: Length of a control interval.
        headline: Metrics that a picture's caption tells.
        resident_title: What the third map of a picture shows.
        used_title: What its first curve shows.
        slowdown_title: What its second curve shows.
    """

    headline: tuple[str, ...] = ("slowdown",)
    resident_title = "in memory"
    used_title = "memory in use"
    slowdown_title = "time lost"

    def __init__(self, warm: WarmPrograms, instances: int, interval_us: int) -> None:
        """Allocate the programs; `reset` begins their episodes."""
        self.instances = instances
        self.warm = warm
        self.interval_us = interval_us
        self.state, self.memories = warm.allocate(instances)
        self.pictures = Pictures(
            np.zeros(instances, np.int64),
            np.zeros((instances, 3, HISTORY, BINS), np.float32),
            np.zeros((instances, 2, HISTORY), np.float32),
        )
        self.interval_end: IntArray = np.zeros(instances, np.int64)
        self.operations: IntArray = np.zeros(instances, np.int64)
        self._workload: IntArray = np.zeros(instances, np.int64)
        self._began: FloatArray = np.zeros(instances)
        self._at_start = {name: np.zeros(instances) for name in (*_TOTALS, *_STALLS)}

    def fix_workload(self, name: str | None) -> None:
        """Draw the coming episodes from one workload; None: from all of them.

        Raises:
            UserError: There is no such workload.
        """
        names = [workload.name for workload in self.warm.workloads]
        if name is not None and name not in names:
            raise unknown_name("workload", name, names)
        self.warm.only = None if name is None else names.index(name)

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows (N,) bool with their seeds (N,) uint64, a decision pending."""
        for row in np.flatnonzero(rows).tolist():
            self._workload[row] = self.warm.restore(self.state, self.memories, row, int(seeds[row]))
        self.interval_end[rows] = self.time_us()[rows]
        self.operations[rows] = 0
        self.pictures.columns[rows] = 0
        self._began[rows] = self.time_us()[rows]
        for name, start in self._at_start.items():
            start[rows] = self.memories.records[name][rows]

    def pending(self) -> BoolArray:
        """(N,) bool: the control interval is over."""
        return np.asarray(self.time_us() >= self.interval_end)

    def time_us(self) -> IntArray:
        """(N,) int64: time that the program has run; a monitor may still be in a sampling interval begun before."""
        return np.asarray(self.state.monitors["memory_time_us"])

    def critical(self) -> BoolArray:
        """(N,) bool: free memory is below the least, where programs reclaim themselves."""
        return np.asarray(self._free_pages() < self.memories.records["min_pages"])

    def pressure(self) -> FloatArray:
        """(N,) float64: 1 at the least free memory, 0 at twice what kswapd leaves free or more."""
        least, most = self.memories.records["min_pages"], 2.0 * self.memories.records["high_pages"]
        return np.asarray(np.clip((most - self._free_pages()) / np.maximum(most - least, 1.0), 0.0, 1.0))

    def progress(self) -> IntArray:
        """(N,) int64: time that the program has run, in milliseconds."""
        return np.asarray(self.time_us() // 1000)

    def elapsed_us(self) -> FloatArray:
        """(N,) float64: time of the running episode, at least 1."""
        return np.asarray(np.maximum(self.time_us() - self._began, 1.0))

    def pages(self) -> FloatArray:
        """(N,) float64: pages of the programs."""
        return np.asarray(np.maximum(self.memories.records["size"] / PAGE_BYTES, 1.0))

    def lost_us(self) -> FloatArray:
        """(N,) float64: time that the programs lost since they were started, in microseconds."""
        records = self.memories.records
        return np.asarray(sum(records[name] for name in _STALLS) - records["huge_gain_us"])

    def metrics(self) -> dict[str, NDArray[np.generic]]:
        """(N,) each, of the running episode: what every environment of DAMON tells."""
        elapsed = self.elapsed_us()
        return {
            "operations": self.operations.copy(),
            "workload": self._workload.copy(),
            "slowdown": np.asarray(sum(self.counted(name) for name in _STALLS)) / elapsed,
            "monitor_cpu_share": self.counted("kdamond_ns") / 1000.0 / elapsed,
            "regions": self.state.monitors["region_count"].copy(),
        }

    def counted(self, name: str) -> FloatArray:
        """(N,) float64: what a total of the memories has grown by in the running episode."""
        return np.asarray(self.memories.records[name] - self._at_start[name])

    def _free_pages(self) -> FloatArray:
        records = self.memories.records
        return np.asarray(records["fast_pages"] + records["slow_pages"] - records["fast_used"] - records["slow_used"])


@compiled
def lost_us(memory: Record) -> float:
    """Time that a program lost since it was started, in microseconds; huge pages are not counted."""
    return float(memory.fault_stall_us + memory.reclaim_stall_us + memory.tier_stall_us + memory.monitor_stall_us)


@compiled
def root(share: float) -> float:
    """A share's square root, which tells small ones apart: a feature in 0..1."""
    return math.sqrt(min(1.0, max(0.0, share)))


@compiled
def histogram_place(rate: float, idle_s: float, first_idle_s: float, factor: float, idle_bins: int) -> int:
    """Bin of memory in a histogram: by accesses (the upper ends are ACCESS_EDGES and 1), then by idle time.

    Args:
        rate: Share of an aggregation's samples that found an access.
        idle_s: How long none was found, where the share is 0.
        first_idle_s: Idle time at which the first bin of idle memory ends.
        factor: By which the ends of the next ones grow.
        idle_bins: How many there are; the last one has no end.
    """
    if rate > 0.0:
        place = 0
        while place < len(ACCESS_EDGES) and rate > ACCESS_EDGES[place]:
            place += 1
        return place
    place, edge = len(ACCESS_EDGES) + 1, first_idle_s
    while place < len(ACCESS_EDGES) + idle_bins and idle_s >= edge:
        edge *= factor
        place += 1
    return place


@compiled
def draw_column(
    monitor: Record,
    memory: Record,
    maps: Record,
    curves: Record,
    place: int,
    used: float,
    slowdown: float,
    fast_only: bool,
) -> None:
    """Add a control interval to the pictures of one program.

    Args:
        monitor: The MONITOR record.
        memory: Its MEMORY record.
        maps: (3, HISTORY, BINS) float32.
        curves: (2, HISTORY) float32.
        place: Intervals drawn before; the ring's place follows.
        used: The first curve's value, a share.
        slowdown: Time lost as a share of the time.
        fast_only: Show what is on node 0 rather than all that is in memory.
    """
    column = place % HISTORY
    curves[USED, column], curves[SLOWDOWN, column] = used, slowdown
    size, most = monitor.access.size, most_accesses_of(monitor.attributes)
    for k in range(BINS):
        maps[FOUND, column, k] = 0.0
        maps[RESIDENT, column, k] = 0.0
        start, end = size * k // BINS, size * (k + 1) // BINS
        maps[TOUCHED, column, k] = touch_probability(monitor.access, start, end, float(monitor.attributes.sample_us))
    found = regions(monitor)
    for index in range(monitor.region_count):
        spread(maps[FOUND], column, size, found[index].start, found[index].end, found[index].last_nr_accesses / most)
    extents = extents_of(memory)
    for index in range(memory.extent_count):
        extent = extents[index]
        share = (extent.fast + (0.0 if fast_only else extent.slow)) / max(extent.pages, 1.0)
        spread(maps[RESIDENT], column, size, extent.start, extent.end, share)


@compiled
def spread(picture: Record, column: int, size: int, start: int, end: int, value: float) -> None:
    """Add a range's value to the parts of the address space that it lies in, by its share of each.

    Args:
        picture: (HISTORY, BINS) float32.
        column: Which interval of it.
        size: Bytes of the memory.
        start: First byte of the range.
        end: Byte behind it.
        value: Of the range.
    """
    k = start * BINS // size
    while k < BINS and size * k // BINS < end:
        low, high = size * k // BINS, size * (k + 1) // BINS
        overlap = min(end, high) - max(start, low)
        if overlap > 0:
            picture[column, k] += value * overlap / (high - low)
        k += 1
