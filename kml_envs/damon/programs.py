"""N programs under DAMON, each in its own episode: what the environments have in common."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import PAGE_BYTES
from kml_envs.damon.intervals import PROGRAM, begin_rows, execute_rows, observe_rows, wait_rows
from kml_envs.damon.pictures import PICTURE, pictures_of
from kml_envs.damon.warm_programs import WarmPrograms
from kml_envs.errors import unknown_name

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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


class MonitoredPrograms:
    """N programs, each in its own episode; subclasses add what the agent is asked for.

    Attributes:
        instances: N.
        warm: Where episodes begin.
        builtin: Built-in algorithm.
        state: The monitors.
        memories: Their memories.
        tracks: What is remembered of each program between two control intervals.
        pictures: What happened lately.
        interval_us: Length of a control interval.
        interval_end: (N,) int64, when the running ones end.
        operations: (N,) int64, intervals begun in the running episodes.
        action_names: Numbers of a recommendation.
        feature_names: What an observation consists of.
        track: Type of `tracks`.
        headline: Metrics that a picture's caption tells.
        resident_title: What the third map of a picture shows.
        used_title: What its first curve shows.
        slowdown_title: What its second curve shows.
        settings: (1,) record of what is the same for all programs, whose type chooses the rules of `intervals`.
    """

    action_names: ClassVar[tuple[str, ...]]
    feature_names: ClassVar[tuple[str, ...]]
    track: ClassVar[np.dtype[np.void]]
    headline: ClassVar[tuple[str, ...]] = ("slowdown",)
    resident_title = "in memory"
    used_title = "memory in use"
    slowdown_title = "time lost"

    settings: NDArray[np.void]

    def __init__(self, warm: WarmPrograms, instances: int, interval_us: int, builtin: str) -> None:
        """Allocate the programs; the subclass sets `settings`, and `reset` begins the episodes.

        Args:
            warm: Where episodes begin; shared with the shadow.
            instances: N.
            interval_us: Length of a control interval.
            builtin: Built-in algorithm.
        """
        self.instances = instances
        self.warm = warm
        self.builtin = builtin
        self.interval_us = interval_us
        self.reward_scale = interval_us / 1000.0 / 10.0
        self.state, self.memories = warm.allocate(instances)
        self.tracks = np.zeros(instances, self.track)
        pictures = np.zeros(instances, PICTURE)
        self.pictures = pictures_of(pictures)
        self._programs = np.zeros(instances, PROGRAM)
        self._programs["interval_us"] = interval_us
        self.interval_end: IntArray = self._programs["interval_end"]
        self.operations: IntArray = self._programs["operations"]
        records_of = {"monitor": self.state.monitors, "memory": self.memories.records}
        for name, records in {**records_of, "track": self.tracks, "picture": pictures}.items():
            self._programs[name] = records.ctypes.data + np.arange(instances) * records.itemsize
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
        self.tracks[rows] = np.zeros((), self.track)
        self.prepare(rows)
        self.interval_end[rows] = self.time_us()[rows]
        self.operations[rows] = 0
        self.pictures.columns[rows] = 0
        self._began[rows] = self.time_us()[rows]
        for name, start in self._at_start.items():
            start[rows] = self.memories.records[name][rows]
        begin_rows(self.settings, self._programs, rows)

    def prepare(self, rows: BoolArray) -> None:
        """Set what an episode of the subclass begins with, in the rows (N,) bool that have just been restored."""

    def observe(self) -> NDArray[np.float32]:
        """Features (N, F) float32, a new array."""
        features = np.zeros((self.instances, len(self.feature_names)), np.float32)
        observe_rows(self.settings, self._programs, features)
        return features

    def builtin_decision(self) -> FloatArray:
        """(N, A) float64 NaN: the built-in algorithm at its shipped settings."""
        return np.full((self.instances, len(self.action_names)), np.nan)

    def execute(self, decision: FloatArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Run the rows' next intervals under the decisions (N, A) (see BatchedSubsystem)."""
        execute_rows(self.settings, self._programs, decision, ask, until, rows)

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let the programs of the rows run on under the last settings (see `proxy.protocols.Waiting`)."""
        wait_rows(self.settings, self._programs, until, rows)

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

    def progress_by(self, time_us: FloatArray) -> IntArray:
        """(N,) int64: milliseconds that the program will have run by a time (see `proxy.protocols.Clocked`)."""
        return np.maximum(self.progress(), (time_us / 1000.0).astype(np.int64))

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
