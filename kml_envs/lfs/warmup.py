"""Volumes in steady state: filled, overwritten for a while under the built-in algorithm, and kept for every reset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kml_envs.lfs.config import LfsConfig
from kml_envs.lfs.observation import mark_recent
from kml_envs.lfs.simulator import advance_rows, format_rows
from kml_envs.lfs.state import LfsState, allocate, copy_row, set_source
from kml_envs.workloads.source import WorkloadTable, bind_workloads
from kml_envs.workloads.synthetic import Workload

Advance = Callable[[NDArray[np.void], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]], None]


class WarmVolumes:
    """Warmed-up volumes by workload and seed; made when first asked for, copied at every reset.

    Attributes:
        config: The file system, built-in algorithm included.
        workloads: The workloads that episodes are drawn from.
        table: The same, bound to the volume size.
        only: Index of the one workload that episodes are drawn from for now; None: all of them.
        domains: Neighbouring volumes that are the domains of one volume, and have the same workload.
    """

    def __init__(
        self,
        config: LfsConfig,
        workloads: Sequence[Workload],
        *,
        volumes: float = 4.0,
        seeds: int = 4,
        domains: int = 1,
        advance: Advance = advance_rows,
    ) -> None:
        """Prepare to warm up.

        Args:
            config: The file system.
            workloads: The workloads.
            volumes: Volumes of user writes after the fill.
            seeds: Different warm volumes per workload.
            domains: Volumes that make up one volume.
            advance: The compiled loop that the volumes run in.
        """
        self.config = config
        self.workloads = tuple(workloads)
        self.table: WorkloadTable = bind_workloads(workloads, config.geometry.volume_blocks)
        self._quarters = round(4 * (1.0 + volumes))
        self.only: int | None = None
        self.domains = domains
        self._seeds = seeds
        self._advance = advance
        self._kept: dict[tuple[int, int], LfsState] = {}

    def restore(self, state: LfsState, row: int, seed: int, volume_seed: int | None = None) -> None:
        """Begin an episode: copy a warm volume into a row; which one, and everything random, follows from the seed.

        Args:
            state: Volumes allocated with this object's configuration and table.
            row: Instance.
            seed: Record number below 2**63.
            volume_seed: From which the workload follows; None: from the same one.
        """
        count = len(self.workloads)
        workload = (seed if volume_seed is None else volume_seed) % count if self.only is None else self.only
        warm = self._warm(workload, seed // count % self._seeds)
        copy_row(warm, 0, state, row)
        state.volumes["random"][row] = seed
        state.volumes["source"]["random"][row] = seed ^ 0x5851F42D4C957F2D

    def _warm(self, workload: int, seed: int) -> LfsState:
        if (workload, seed) not in self._kept:
            state = allocate(self.config, self.table, 1)
            only = np.zeros(1, np.int64)
            format_rows(state.volumes, only, np.full(1, seed, np.uint64))
            set_source(state, 0, workload, seed)
            for quarter in range(1, self._quarters + 1):
                until = quarter * self.config.geometry.volume_blocks // 4
                self._advance(state.volumes, only, np.full(1, until), np.zeros(1, np.bool_))
                mark_recent(state.volumes[0])
            state.latencies[:] = 0
            self._kept[workload, seed] = state
        return self._kept[workload, seed]
