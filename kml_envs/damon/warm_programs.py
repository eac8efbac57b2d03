"""Programs in the midst of their run on simulated machines: where the episodes of DAMON's environments begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kml_envs.damon.config import Context
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.memory_state import (
    EXTENT,
    MEMORY,
    MemoryState,
    allocate_memories,
    copy_memory,
    extent_edges,
)
from kml_envs.damon.simulator import advance_rows, turn_on
from kml_envs.damon.state import DamonState, allocate, copy_row, set_accesses, set_memory
from kml_envs.workloads.memory_workloads import MemoryWorkload

SECOND_US = 1_000_000
ORIGINS = 4
"""Places in a workload at which episodes begin."""


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
