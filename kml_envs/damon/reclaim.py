"""The agent tunes proactive reclamation: per control interval the settings of a scheme that pages cold memory out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import (
    ACTIONS,
    PAGE_BYTES,
    AccessPattern,
    Action,
    Context,
    MonitoringAttributes,
    Operations,
    Quota,
    Scheme,
    WatermarkMetric,
    Watermarks,
    Weights,
)
from kml_envs.damon.machine import catch_up
from kml_envs.damon.memory import free_permil, resident_pages, used_pages
from kml_envs.damon.monitor import advance, most_accesses_of
from kml_envs.damon.oracle import SAVING_WEIGHT, SLOWDOWN_WEIGHT
from kml_envs.damon.policies import POLICIES, SENPAI_INTERVAL_US, senpai_step
from kml_envs.damon.programs import (
    BoolArray,
    FloatArray,
    IntArray,
    MonitoredPrograms,
    WarmPrograms,
    draw_column,
    histogram_place,
    lost_us,
    root,
)
from kml_envs.damon.schemes import copy_settings
from kml_envs.damon.simulator import write_scheme
from kml_envs.damon.state import SCHEME, allocate, regions, schemes
from kml_envs.errors import unknown_name

BUILTINS = ("damon_reclaim", "prcl", "prcl_auto", "pdarc", "senpai")
"""Built-in algorithms: of `damon.policies`, the kernel's own first."""

ACTION_NAMES = ("min_age", "quota", "nr_accesses_weight", "age_weight", "watermark_mid", "watermark_low")
MIN_AGE_S, MIN_AGE_RANGE = 5.0, 6.0  # at the zero action, and powers of two by which the action moves it
QUOTA_RANGE = 7.0  # powers of two from a quota of the whole program per second down to the zero action
LEAST_QUOTA = 2.0 ** (-2.0 * QUOTA_RANGE)
WATERMARK_HIGH, WATERMARK_INTERVAL_US = 1000, 1_000_000

IDLE_BINS = 13
FIRST_IDLE_S = 0.2
FEATURE_NAMES = (
    "memory_size",
    "used_share",
    "resident_share",
    "free_share",
    "swapped_share",
    "pressure",
    "slowdown",
    "slowdown_mean",
    "paged_out",
    "paged_out_mean",
    "faulted_back",
    "faulted_back_mean",
    "faulted_back_ratio_mean",
    "quota_exceeded",
    "kdamond_share",
    *(f"accessed_{name}" for name in ("rarely", "sometimes", "often", "always")),
    *(f"idle_{bin}" for bin in range(IDLE_BINS)),
    *(f"in_force_{name}" for name in ACTION_NAMES),
)
_HISTOGRAM = FEATURE_NAMES.index("accessed_rarely")
_IN_FORCE = FEATURE_NAMES.index("in_force_min_age")
_MEAN_KEEP = 0.85  # of a running mean, per control interval

TRACK = np.dtype(
    [
        (name, np.float64)
        for name in (
            "time_us",  # totals at the last look
            "lost_us",
            "used_page_us",
            "paged_out",
            "faults",
            "kdamond_ns",
            "exceeds",
            "slowdown",  # of the last interval: shares of the time
            "paged_out_rate",  # of the program per second
            "fault_rate",
            "kdamond_share",
            "exceeded",
            "slowdown_mean",  # running means
            "paged_out_mean",
            "fault_mean",
        )
    ]
    + [("in_force", np.float64, (len(ACTION_NAMES),)), ("senpai_due_us", np.int64)]
)
"""What the agent's side of the kernel remembers of a program between two control intervals."""

_PAGEOUT = ACTIONS.index(Action.PAGEOUT)
_FREE_MEM_RATE = tuple(WatermarkMetric).index(WatermarkMetric.FREE_MEM_RATE)
_SECOND_US = 1_000_000
NEVER_US = 2**62


def builtin_context(name: str, attributes: MonitoringAttributes) -> Context:
    """DAMON's settings under a built-in algorithm, on physical memory and with the environment's attributes.

    Raises:
        UserError: There is no such built-in algorithm.
    """
    if name not in BUILTINS:
        raise unknown_name("built-in algorithm", name, BUILTINS)
    if name == "senpai":  # acts by itself; DAMON only watches
        return watching_context(attributes)
    made = POLICIES[name].context(attributes)
    return Context(Operations.PADDR, attributes, schemes=made.schemes)


def watching_context(attributes: MonitoringAttributes) -> Context:
    """DAMON's settings while nothing is reclaimed."""
    return Context(Operations.PADDR, attributes, schemes=(Scheme(Action.STAT, AccessPattern()),))


def recommended_scheme(action: FloatArray, size: int, attributes: MonitoringAttributes) -> Scheme:
    """The scheme that an action stands for: what the compiled `apply_parameters` writes.

    Args:
        action: (6,) float64 in [-1, 1], in the order of ACTION_NAMES.
        size: Bytes of the program.
        attributes: Of the monitoring.
    """
    record = np.zeros(1, SCHEME)
    _apply_to_array(record, np.asarray(action, np.float64), size, attributes.aggr_us)
    one = record[0]
    return Scheme(
        Action.PAGEOUT,
        AccessPattern(min_sz=PAGE_BYTES, max_nr_accesses=0, min_age=int(one["min_age"])),
        quotas=Quota(
            bytes=int(one["quota_bytes"]),
            reset_interval_ms=1000,
            weights=Weights(0, int(one["nr_accesses_permil"]), int(one["age_permil"])),
        ),
        watermarks=Watermarks(
            WatermarkMetric.FREE_MEM_RATE,
            WATERMARK_INTERVAL_US,
            WATERMARK_HIGH,
            int(one["mid"]),
            int(one["low"]),
        ),
    )


class ReclaimPrograms(MonitoredPrograms):
    """N programs that ask for the settings of the next control interval."""

    headline = ("memory_saving", "slowdown")

    def __init__(
        self, warm: WarmPrograms, instances: int, *, interval_us: int, builtin: str, attributes: MonitoringAttributes
    ) -> None:
        """Allocate the programs.

        Args:
            warm: Where episodes begin; shared with the shadow.
            instances: N.
            interval_us: Length of a control interval.
            builtin: Built-in algorithm.
            attributes: Of the monitoring.
        """
        super().__init__(warm, instances, interval_us)
        self.builtin, self.attributes = builtin, attributes
        self.reward_scale = interval_us / 1000.0 / 10.0
        self._tracks = np.zeros(instances, TRACK)
        template = allocate(1, attributes.max_nr_regions, 1)
        write_scheme(template, 0, 0, builtin_context(builtin, attributes).schemes[0], Operations.PADDR)
        self._shipped = template.schemes[0, :1].copy()
        self._shipped_goals = template.goals[0].copy()

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows, with a decision pending."""
        super().reset(rows, seeds)
        self._tracks[rows] = np.zeros((), TRACK)
        self.state.goals[rows] = self._shipped_goals
        _start_tracks(self.state.monitors, self.memories.records, self._tracks, rows)

    def observe(self) -> NDArray[np.float32]:
        """Features (N, F) float32, a new array."""
        features = np.zeros((self.instances, len(FEATURE_NAMES)), np.float32)
        _observe_rows(self.state.monitors, self.memories.records, self._tracks, features)
        return features

    def builtin_decision(self) -> FloatArray:
        """(N, 6) float64 NaN: the built-in algorithm at its shipped settings."""
        return np.full((self.instances, len(ACTION_NAMES)), np.nan)

    def quota_bytes(self, recommendation: FloatArray) -> IntArray:
        """(N,) int64: the quota that each recommendation (N, 6) stands for, in bytes per second; 0: none."""
        share = 2.0 ** (QUOTA_RANGE * (recommendation[:, 1] - 1.0)) - LEAST_QUOTA
        return np.asarray((share * self.memories.records["size"]).astype(np.int64))

    def watermarks(self, recommendation: FloatArray) -> tuple[IntArray, IntArray]:
        """(N,) int64 each: the mid and the low watermark of each recommendation (N, 6), per mille of free memory."""
        middle = (500.0 * (1.0 + recommendation[:, 4])).astype(np.int64)
        return np.asarray(middle), np.asarray((50.0 * (1.0 + recommendation[:, 5])).astype(np.int64))

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let the programs of the rows run on under the last settings (see `proxy.protocols.Waiting`)."""
        _wait_rows(self.state.monitors, until, rows)

    def execute(self, decision: FloatArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Run the rows' next intervals under the decisions (N, 6) (see BatchedSubsystem)."""
        _execute_rows(
            self.state.monitors,
            self.memories.records,
            self._tracks,
            self._shipped,
            self.builtin == "senpai",
            self.interval_us,
            self.interval_end,
            self.operations,
            self.pictures.columns,
            self.pictures.maps,
            self.pictures.curves,
            decision,
            ask,
            until,
            rows,
        )

    def cost(self) -> FloatArray:
        """(N,) float64: milliseconds of half the memory in use, as a share of the program, and half the time lost."""
        used = self.memories.records["used_page_us"] / self.pages()
        return np.asarray((SAVING_WEIGHT * used + SLOWDOWN_WEIGHT * self.lost_us()) / 1000.0)

    def metrics(self) -> dict[str, NDArray[Any]]:
        """(N,) each, of the running episode; `score` is what counts, higher is better."""
        found = super().metrics()
        saving = 1.0 - self.counted("used_page_us") / self.elapsed_us() / self.pages()
        score = SAVING_WEIGHT * saving - SLOWDOWN_WEIGHT * found["slowdown"]  # type: ignore[operator]
        return {
            **found,
            "memory_saving": saving,
            "paged_out_mib": self.counted("paged_out") * (PAGE_BYTES / (1 << 20)),
            "major_faults": self.counted("major_faults"),
            "score": np.asarray(score),
        }


@compiled
def apply_parameters(scheme: Record, parameters: Record, size: int, aggr_us: int) -> None:
    """Take over the agent's settings of the scheme.

    Args:
        scheme: The SCHEME record.
        parameters: (6,) float64 in [-1, 1], in the order of ACTION_NAMES.
        size: Bytes of the program.
        aggr_us: Aggregation interval.
    """
    scheme.action = _PAGEOUT
    scheme.supported = 1
    scheme.priority = -1
    scheme.min_sz = PAGE_BYTES
    scheme.max_sz = 2**62
    scheme.min_nr_accesses, scheme.max_nr_accesses = 0, 0
    age_us = MIN_AGE_S * 2.0 ** (MIN_AGE_RANGE * parameters[0]) * _SECOND_US
    scheme.min_age, scheme.max_age = np.int64(math.ceil(age_us / aggr_us)), 2**62
    scheme.apply_interval_us = 0
    scheme.quota_ms = 0
    scheme.quota_bytes = np.int64((2.0 ** (QUOTA_RANGE * (parameters[1] - 1.0)) - LEAST_QUOTA) * size)
    scheme.reset_interval_us = _SECOND_US
    scheme.goal_count = 0
    scheme.nr_accesses_permil = np.int64(500.0 * (1.0 + parameters[2]))
    scheme.age_permil = np.int64(500.0 * (1.0 + parameters[3]))
    scheme.watermark_metric = _FREE_MEM_RATE
    scheme.watermark_interval_us = WATERMARK_INTERVAL_US
    scheme.high = WATERMARK_HIGH
    scheme.mid = np.int64(500.0 * (1.0 + parameters[4]))
    scheme.low = np.int64(50.0 * (1.0 + parameters[5]))


@compiled
def _apply_to_array(record: Record, parameters: Record, size: int, aggr_us: int) -> None:
    apply_parameters(record[0], parameters, size, aggr_us)


@compiled
def _start_tracks(monitors: Record, memories: Record, tracks: Record, rows: Record) -> None:
    for i in range(monitors.size):
        if rows[i]:
            _remember(monitors[i], memories[i], tracks[i])
            tracks[i].senpai_due_us = monitors[i].time_us


@compiled
def _remember(monitor: Record, memory: Record, track: Record) -> None:
    track.time_us = float(monitor.time_us)
    track.lost_us = lost_us(memory)
    track.used_page_us = memory.used_page_us
    track.paged_out = memory.paged_out
    track.faults = memory.major_faults
    track.kdamond_ns = memory.kdamond_ns
    track.exceeds = float(schemes(monitor)[0].qt_exceeds)


@compiled
def _close_interval(monitor: Record, memory: Record, track: Record, column: int, maps: Record, curves: Record) -> None:
    """Sum the interval up that is over, and draw it."""
    passed = max(monitor.time_us - track.time_us, 1.0)
    pages = max(memory.size / PAGE_BYTES, 1.0)
    seconds = passed / _SECOND_US
    track.slowdown = (lost_us(memory) - track.lost_us) / passed
    track.paged_out_rate = (memory.paged_out - track.paged_out) / pages / seconds
    track.fault_rate = (memory.major_faults - track.faults) / pages / seconds
    track.kdamond_share = (memory.kdamond_ns - track.kdamond_ns) / 1000.0 / passed
    track.exceeded = min(1.0, (schemes(monitor)[0].qt_exceeds - track.exceeds) / seconds)
    track.slowdown_mean += (1.0 - _MEAN_KEEP) * (track.slowdown - track.slowdown_mean)
    track.paged_out_mean += (1.0 - _MEAN_KEEP) * (track.paged_out_rate - track.paged_out_mean)
    track.fault_mean += (1.0 - _MEAN_KEEP) * (track.fault_rate - track.fault_mean)
    used = (memory.used_page_us - track.used_page_us) / passed / pages
    draw_column(monitor, memory, maps, curves, column, used, track.slowdown, False)
    _remember(monitor, memory, track)


@compiled
def _execute_rows(
    monitors: Record,
    memories: Record,
    tracks: Record,
    shipped: Record,
    senpai: bool,
    interval_us: int,
    interval_end: Record,
    operations: Record,
    columns: Record,
    maps: Record,
    curves: Record,
    decision: Record,
    ask: Record,
    until: Record,
    rows: Record,
) -> None:
    for i in range(monitors.size):
        if not rows[i]:
            continue
        monitor, memory, track = monitors[i], memories[i], tracks[i]
        until_us = until[i] * 1000
        decided = True
        while True:
            if monitor.time_us >= interval_end[i]:
                if not decided and ask[i]:
                    break
                by_agent = decided and not np.isnan(decision[i, 0])
                _begin_interval(monitor, memory, track, decision[i], shipped[0], by_agent, senpai)
                interval_end[i] = monitor.time_us + interval_us
                operations[i] += 1
            decided = False
            stop = min(until_us, interval_end[i])
            while monitor.time_us < stop:
                if monitor.time_us >= track.senpai_due_us:
                    senpai_step(memory)
                    track.senpai_due_us += SENPAI_INTERVAL_US
                advance(monitor, min(stop, track.senpai_due_us))
            if monitor.time_us >= interval_end[i]:
                _close_interval(monitor, memory, track, columns[i], maps[i], curves[i])
                columns[i] += 1
            if monitor.time_us >= until_us:
                break


@compiled
def _begin_interval(
    monitor: Record,
    memory: Record,
    track: Record,
    parameters: Record,
    shipped: Record,
    by_agent: bool,
    senpai: bool,
) -> None:
    """Put the agent's or the built-in algorithm's settings in force."""
    if by_agent:
        apply_parameters(schemes(monitor)[0], parameters, memory.size, monitor.attributes.aggr_us)
    else:
        copy_settings(schemes(monitor)[0], shipped)
    for k in range(len(ACTION_NAMES)):
        track.in_force[k] = parameters[k] if by_agent else 0.0
    if by_agent or not senpai:
        track.senpai_due_us = NEVER_US
    elif track.senpai_due_us == NEVER_US:
        track.senpai_due_us = monitor.time_us


@compiled
def _wait_rows(monitors: Record, until: Record, rows: Record) -> None:
    for i in range(monitors.size):
        if rows[i]:
            advance(monitors[i], until[i] * 1000)
            catch_up(monitors[i])


@compiled
def _observe_rows(monitors: Record, memories: Record, tracks: Record, features: Record) -> None:
    for i in range(monitors.size):
        if memories[i].size > 0:
            _observe(monitors[i], memories[i], tracks[i], features[i])


@compiled
def _observe(monitor: Record, memory: Record, track: Record, row: Record) -> None:
    pages = max(memory.size / PAGE_BYTES, 1.0)
    row[0] = min(1.0, max(0.0, math.log2(memory.size / 2.0**26) / 14.0))
    row[1] = min(1.0, used_pages(memory) / pages)
    row[2] = min(1.0, resident_pages(memory) / pages)
    row[3] = free_permil(memory) / 1000.0
    row[4] = min(1.0, memory.swapped / pages)
    row[5] = root(memory.psi_share_10s)
    row[6], row[7] = root(track.slowdown), root(track.slowdown_mean)
    row[8], row[9] = root(track.paged_out_rate), root(track.paged_out_mean)
    row[10], row[11] = root(track.fault_rate), root(track.fault_mean)
    moved = track.fault_mean + track.paged_out_mean
    row[12] = track.fault_mean / moved if moved > 0.0 else 0.0
    row[13] = max(0.0, track.exceeded)
    row[14] = root(track.kdamond_share)
    _observe_regions(monitor, row)
    for k in range(len(ACTION_NAMES)):
        row[_IN_FORCE + k] = 0.5 + 0.5 * track.in_force[k]


@compiled
def _observe_regions(monitor: Record, row: Record) -> None:
    """Shares of the bytes by how often they are accessed and, of those that are not, for how long."""
    found = regions(monitor)
    most, seconds = most_accesses_of(monitor.attributes), monitor.attributes.aggr_us / 1e6
    for index in range(monitor.region_count):
        region = found[index]
        share = (region.end - region.start) / monitor.access.size
        rate = region.last_nr_accesses / most
        place = histogram_place(rate, region.age * seconds, FIRST_IDLE_S, 2.0, IDLE_BINS)
        row[_HISTOGRAM + place] = min(1.0, row[_HISTOGRAM + place] + share)
