"""The file system's face to the proxy: what its two kinds of decision have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kml_envs.errors import unknown_name
from kml_envs.lfs.latency import percentile_ns
from kml_envs.lfs.state import LfsState, allocate
from kml_envs.lfs.volume import HISTORY
from kml_envs.lfs.warmup import WarmVolumes

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_EPISODE_COUNTERS = (
    "user_writes",
    "moved",
    "cleanings",
    "emptied",
    "stalls",
    "stall_ns",
    "user_ns",
    "cleaning_ns",
    "marks",
)

LEAST_WINDOW_VOLUMES = 2.0
"""User writes, in volumes, within which a cleaner may be judged at least: cleaning is an investment, and what it brings
shows later, so that shorter windows take the worse of two cleaners for the better one."""


class LfsVolumes:
    """N volumes, each in its own episode; `victim.py` and `tune.py` add what the agent is asked for.

    Attributes:
        instances: N.
        reward_scale: Cost units (blocks moved) in one unit of reward: the blocks of a section.
        state: The volumes.
        warm: Where episodes begin.
    """

    def __init__(self, warm: WarmVolumes, instances: int) -> None:
        """Allocate the volumes; `reset` begins their episodes.

        Args:
            warm: Where episodes begin; shared with the shadow.
            instances: N.
        """
        self.instances = instances
        self.warm = warm
        self.state: LfsState = allocate(warm.config, warm.table, instances)
        self._reserve_sections = warm.config.reserve_sections  # looked up at every decision
        self.reward_scale = float(warm.config.geometry.blocks_per_section)
        self._at_start = {name: np.zeros(instances, np.int64) for name in _EPISODE_COUNTERS}

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
        """Begin an episode in the rows (N,) bool with their seeds (N,) uint64."""
        for row in np.flatnonzero(rows):
            first = row - row % self.warm.domains
            self.warm.restore(self.state, int(row), int(seeds[row]), int(seeds[first]))
        for name, start in self._at_start.items():
            start[rows] = self.state.volumes[name][rows]

    def pressure(self) -> FloatArray:
        """(N,) float64: 1 at the reserve, 0 at twice the cleaning trigger or more."""
        config = self.warm.config
        span = 2 * config.trigger_sections - config.reserve_sections
        free = self.state.volumes["free_sections"].astype(np.float64)
        return np.asarray(np.clip(1.0 - (free - config.reserve_sections) / span, 0.0, 1.0))

    def critical(self) -> BoolArray:
        """(N,) bool: free sections at the reserve."""
        return np.asarray(self.state.volumes["free_sections"] <= self._reserve_sections)

    def progress(self) -> IntArray:
        """(N,) int64: user blocks written."""
        return np.asarray(self.state.volumes["user_writes"])

    def time_us(self) -> FloatArray:
        """(N,) float64: time of the user writes, which follow each other without a pause."""
        return np.asarray(self.state.volumes["user_writes"] * (self.warm.config.latency.write_ns / 1000.0))

    def progress_by(self, time_us: FloatArray) -> IntArray:
        """(N,) int64: user blocks written by a time (N,) float64 (see `proxy.protocols.Clocked`)."""
        writes = np.floor(time_us * (1000.0 / self.warm.config.latency.write_ns))
        return np.maximum(self.progress(), writes.astype(np.int64))

    def cost(self) -> FloatArray:
        """(N,) float64: blocks moved."""
        return self.state.volumes["moved"].astype(np.float64)

    def write_amplification_curve(self, row: int) -> FloatArray:
        """Write amplification of each quarter volume of the running episode so far, (quarters,) float64."""
        marks, first = int(self.state.volumes["marks"][row]), int(self._at_start["marks"][row])
        shown = np.arange(max(first, marks - HISTORY), marks) % HISTORY
        curve: FloatArray = 1.0 + self.state.history[row][shown]
        return curve

    def metrics(self) -> dict[str, NDArray[np.generic]]:
        """(N,) each, of the running episode."""
        volumes = self.state.volumes
        counted = {name: volumes[name] - start for name, start in self._at_start.items()}
        writes = np.maximum(counted["user_writes"], 1)
        slots = self.warm.config.geometry.blocks_per_section
        return {
            "operations": counted["cleanings"],
            "workload": volumes["source"]["workload"].copy(),
            "write_amplification": 1.0 + counted["moved"] / writes,
            "moved_blocks": counted["moved"],
            "user_blocks": counted["user_writes"],
            "victim_valid_share": np.minimum(counted["moved"] / np.maximum(counted["cleanings"] * slots, 1), 1.0),
            "emptied_sections": counted["emptied"],
            "free_sections": volumes["free_sections"].copy(),
            "minimum_free_sections": volumes["minimum_free"].copy(),
            "stalls": counted["stalls"],
            "stall_ms": counted["stall_ns"] / 1e6,
            # The histogram begins anew with every episode.
            "latency_p99_ms": percentile_ns(self.state.latencies, 99.0) / 1e6,
            "cleaning_time_share": counted["cleaning_ns"] / np.maximum(counted["cleaning_ns"] + counted["user_ns"], 1),
        }
