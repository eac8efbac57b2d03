"""The agent tunes tiering: per control interval the thresholds and quotas of the schemes that migrate memory.

Two schemes move memory between two nodes: one takes cold regions from the fast node 0 to the slow node 1, the other
hot ones back. Filters look at each page once more, as in damo's mem_tier: only young pages are promoted, and where cold
means not accessed at all, only others are demoted. Demotion has a goal, too: its quota is 0 as long as enough of node 0
is free (the kernel's temporal tuner).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, compiled
from kml_envs.damon.config import (
    PAGE_BYTES,
    AccessPattern,
    Action,
    Context,
    Filter,
    FilterType,
    GoalMetric,
    GoalTuner,
    MonitoringAttributes,
    Operations,
    Quota,
    QuotaGoal,
    Scheme,
    Weights,
)
from kml_envs.damon.memory_state import extents_of
from kml_envs.damon.monitor import advance_program, change_attributes, most_accesses_of
from kml_envs.damon.policies import FAST_NODE, POLICIES, SLOW_NODE
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
from kml_envs.damon.simulator import attributes_record, write_scheme
from kml_envs.damon.state import GOALS, allocate, goals, regions, schemes
from kml_envs.errors import unknown_name

STATIC = "none"
"""The built-in algorithm that moves nothing: memory stays where it was first touched, and DAMON only watches."""
BUILTINS = ("mem_tier", "hmsdk", "fixed_thresholds", STATIC)
"""Built-in algorithms: of `damon.policies`, damo's own first."""

ACTION_NAMES = ("hot_accesses", "hot_age", "hot_quota", "cold_accesses", "cold_age", "cold_quota", "free_goal")
COLD, HOT = 0, 1
"""Places of the two schemes, in damo's order."""
HOT_AGE_S, HOT_AGE_RANGE = 0.25, 4.0
COLD_AGE_S, COLD_AGE_RANGE = 5.0, 5.0  # at the zero action, and powers of two by which the action moves it
MOST_QUOTA, QUOTA_RANGE = 1 << 30, 6.0  # bytes per second, and powers of two from there down to the zero action
LEAST_QUOTA_SHARE = 2.0 ** (-2.0 * QUOTA_RANGE)
FREE_GOAL_BP, FREE_GOAL_RANGE = 200.0, 4.0  # of node 0, as the cold age
APPLY_INTERVAL_US = 1_000_000
WEIGHTS = Weights(0, 500, 500)

IDLE_BINS = 5
FIRST_IDLE_S, IDLE_FACTOR = 1.0, 4.0
BIN_NAMES = (
    *(f"accessed_{name}" for name in ("rarely", "sometimes", "often", "always")),
    *(f"idle_{bin}" for bin in range(IDLE_BINS)),
)
FEATURE_NAMES = (
    "memory_size",
    "fast_share",
    "fast_free",
    "slowdown",
    "slowdown_mean",
    "slow_wait",
    "promoted",
    "promoted_mean",
    "demoted",
    "demoted_mean",
    "moved_back_mean",
    "hot_quota_exceeded",
    "cold_quota_exceeded",
    "kdamond_share",
    "sampling_interval",
    "slow_accesses_found",
    *(f"fast_{name}" for name in BIN_NAMES),
    *(f"slow_{name}" for name in BIN_NAMES),
    *(f"in_force_{name}" for name in ACTION_NAMES),
)
_FAST_BINS, _SLOW_BINS = FEATURE_NAMES.index("fast_accessed_rarely"), FEATURE_NAMES.index("slow_accessed_rarely")
_IN_FORCE = FEATURE_NAMES.index("in_force_hot_accesses")
_BINS = len(BIN_NAMES)
_MEAN_KEEP = 0.85  # of a running mean, per control interval

TRACK = np.dtype(
    [
        (name, np.float64)
        for name in (
            "time_us",  # totals at the last look
            "lost_us",
            "waited_us",
            "promoted",
            "demoted",
            "kdamond_ns",
            "touches",
            "slow_touches",
            "hot_exceeds",
            "cold_exceeds",
            "slowdown",  # of the last interval: shares of the time
            "slow_wait",
            "promoted_rate",  # of node 0 per second
            "demoted_rate",
            "kdamond_share",
            "hot_exceeded",
            "cold_exceeded",
            "slowdown_mean",  # running means
            "promoted_mean",
            "demoted_mean",
        )
    ]
    + [("in_force", np.float64, (len(ACTION_NAMES),)), ("shipped_attributes", np.int64)]
)
"""What the agent's side of the kernel remembers of a program between two control intervals."""

_SECOND_US = 1_000_000
_CONVERGED_BP = 10_000


def builtin_context(name: str, attributes: MonitoringAttributes) -> Context:
    """DAMON's settings under a built-in algorithm, with the environment's attributes unless it brings its own.

    Raises:
        UserError: There is no such built-in algorithm.
    """
    if name not in BUILTINS:
        raise unknown_name("built-in algorithm", name, BUILTINS)
    return watching_context(attributes) if name == STATIC else POLICIES[name].context(attributes)


def watching_context(attributes: MonitoringAttributes) -> Context:
    """DAMON's settings while nothing is moved."""
    return Context(Operations.PADDR, attributes, schemes=(Scheme(Action.STAT, AccessPattern()),) * 2)


def recommended_context(action: FloatArray, attributes: MonitoringAttributes) -> Context:
    """The settings that an action stands for: what the compiled `apply_parameters` writes.

    Args:
        action: (7,) float64 in [-1, 1], in the order of ACTION_NAMES.
        attributes: Of the monitoring.
    """
    given = np.asarray(action, np.float64)
    numbers = [int(number) for number in _settings(given, attributes.max_nr_accesses, attributes.aggr_us)]
    hot_accesses, hot_age, hot_quota, cold_accesses, cold_age, cold_quota, free_goal = numbers
    goal = QuotaGoal(GoalMetric.NODE_MEM_FREE_BP, target_value=free_goal, nid=FAST_NODE)
    quota = Quota(reset_interval_ms=1000, weights=WEIGHTS)
    demote = Scheme(
        Action.MIGRATE_COLD,
        AccessPattern(max_nr_accesses=cold_accesses, min_age=cold_age),
        apply_interval_us=APPLY_INTERVAL_US,
        quotas=replace(quota, bytes=cold_quota, goals=(goal,), goal_tuner=GoalTuner.TEMPORAL),
        filters=(Filter(FilterType.YOUNG, matching=True, allow=False),) if cold_accesses == 0 else (),
        target_nid=SLOW_NODE,
    )
    promote = Scheme(
        Action.MIGRATE_HOT,
        AccessPattern(min_nr_accesses=hot_accesses, min_age=hot_age),
        apply_interval_us=APPLY_INTERVAL_US,
        quotas=replace(quota, bytes=hot_quota),
        filters=(Filter(FilterType.YOUNG, matching=True, allow=True),),
        target_nid=FAST_NODE,
    )
    return Context(Operations.PADDR, attributes, schemes=(demote, promote))


class TierPrograms(MonitoredPrograms):
    """N programs that ask for the settings of the next control interval."""

    headline = ("slow_access_share", "slowdown")
    resident_title = "on node 0"
    used_title = "accesses to node 1"

    def __init__(
        self, warm: WarmPrograms, instances: int, *, interval_us: int, builtin: str, attributes: MonitoringAttributes
    ) -> None:
        """Allocate the programs.

        Args:
            warm: Where episodes begin; shared with the shadow.
            instances: N.
            interval_us: Length of a control interval.
            builtin: Built-in algorithm.
            attributes: Of the monitoring under the agent.
        """
        super().__init__(warm, instances, interval_us)
        self.builtin, self.attributes = builtin, attributes
        self.reward_scale = interval_us / 1000.0 / 10.0
        self._tracks = np.zeros(instances, TRACK)
        own = recommended_context(np.full(len(ACTION_NAMES), -1.0), attributes)
        shipped = builtin_context(builtin, attributes)
        # All have the same filters or none: a scheme without does not look at them.
        self._recommended, self._recommended_goals, self._filters = _laid_out(own)
        self._shipped, self._shipped_goals, _ = _laid_out(shipped)
        both = [attributes_record(given.monitoring_attrs) for given in (own, shipped)]
        self._attributes = np.stack(both if both[0] != both[1] else both[:1])  # one, where they never change

    def reset(self, rows: BoolArray, seeds: NDArray[np.uint64]) -> None:
        """Begin an episode in the rows, with a decision pending."""
        super().reset(rows, seeds)
        self._tracks[rows] = np.zeros((), TRACK)
        self.state.filters[rows] = self._filters
        # Feedback loops begin at their quota's limit. From a single byte, where the kernel's begin, they would need
        # minutes; a machine that has run for longer than the program has that behind it.
        self.state.schemes["effective_bp"][rows] = (self._shipped["quota_bytes"] * _CONVERGED_BP).astype(np.uint64)
        _start_tracks(self.state.monitors, self.memories.records, self._tracks, rows)

    def observe(self) -> NDArray[np.float32]:
        """Features (N, F) float32, a new array."""
        features = np.zeros((self.instances, len(FEATURE_NAMES)), np.float32)
        _observe_rows(self.state.monitors, self.memories.records, self._tracks, features)
        return features

    def builtin_decision(self) -> FloatArray:
        """(N, 7) float64 NaN: the built-in algorithm at its shipped settings."""
        return np.full((self.instances, len(ACTION_NAMES)), np.nan)

    def settings(self, recommendation: FloatArray) -> IntArray:
        """(N, 7) int64: samples, aggregations, bytes per second and 1/10,000 that recommendations (N, 7) stand for."""
        settings = np.zeros(recommendation.shape, np.int64)
        _settings_rows(recommendation, self.attributes.max_nr_accesses, self.attributes.aggr_us, settings)
        return settings

    def wait(self, until: IntArray, rows: BoolArray) -> None:
        """Let the programs of the rows run on under the last settings (see `proxy.protocols.Waiting`)."""
        _wait_rows(self.state.monitors, until, rows)

    def execute(self, decision: FloatArray, ask: BoolArray, until: IntArray, rows: BoolArray) -> None:
        """Run the rows' next intervals under the decisions (N, 7) (see BatchedSubsystem)."""
        _execute_rows(
            self.state.monitors,
            self.memories.records,
            self._tracks,
            self._recommended,
            self._recommended_goals,
            self._shipped,
            self._shipped_goals,
            self._attributes,
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
        """(N,) float64: milliseconds that the programs lost against all-fast memory, migration included."""
        return np.asarray(self.lost_us() / 1000.0)

    def metrics(self) -> dict[str, NDArray[Any]]:
        """(N,) each, of the running episode; `score` is what counts, higher is better."""
        found = super().metrics()
        promoted, demoted = (self.counted(name) * (PAGE_BYTES / (1 << 20)) for name in ("promoted", "demoted"))
        return {
            **found,
            "slow_access_share": self.counted("slow_touches") / np.maximum(self.counted("touches"), 1.0),
            "promoted_mib": promoted,
            "demoted_mib": demoted,
            "migrated_mib": promoted + demoted,
            "score": -np.asarray(found["slowdown"], np.float64),
        }


def _laid_out(context: Context) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.void]]:
    """The settings of two schemes as SCHEME, GOAL and FILTER records."""
    template = allocate(1, 10, 2)
    for number, scheme in enumerate(context.schemes):
        write_scheme(template, 0, number, scheme, Operations.PADDR)
    return template.schemes[0].copy(), template.goals[0].copy(), template.filters[0].copy()


@compiled
def _settings(parameters: Record, most_accesses: int, aggr_us: int) -> Record:
    """What an action (7,) stands for in the kernel's units: samples, aggregations, bytes per second, 1/10,000."""
    hot_age_s = HOT_AGE_S * (2.0 ** (HOT_AGE_RANGE * (1.0 + parameters[1])) - 1.0)
    cold_age_s = COLD_AGE_S * 2.0 ** (COLD_AGE_RANGE * parameters[4])
    return (
        np.int64((1.0 + parameters[0]) ** 2 / 4.0 * most_accesses),
        np.int64(hot_age_s * _SECOND_US / aggr_us),
        _quota_bytes(parameters[2]),
        np.int64((1.0 + parameters[3]) ** 2 / 8.0 * most_accesses),
        np.int64(math.ceil(cold_age_s * _SECOND_US / aggr_us)),
        _quota_bytes(parameters[5]),
        np.int64(FREE_GOAL_BP * 2.0 ** (FREE_GOAL_RANGE * parameters[6])),
    )


@compiled
def _quota_bytes(parameter: float) -> int:
    return int((2.0 ** (QUOTA_RANGE * (parameter - 1.0)) - LEAST_QUOTA_SHARE) * MOST_QUOTA)


@compiled
def _settings_rows(parameters: Record, most_accesses: int, aggr_us: int, settings: Record) -> None:
    for i in range(parameters.shape[0]):
        found = _settings(parameters[i], most_accesses, aggr_us)
        settings[i, 0], settings[i, 1], settings[i, 2] = found[0], found[1], found[2]
        settings[i, 3], settings[i, 4], settings[i, 5], settings[i, 6] = found[3], found[4], found[5], found[6]


@compiled
def apply_parameters(monitor: Record, recommended: Record, recommended_goals: Record, parameters: Record) -> None:
    """Take over the agent's settings of the schemes.

    Args:
        monitor: The MONITOR record.
        recommended: (2,) SCHEME, all other settings of the two.
        recommended_goals: (2 * GOALS,) GOAL, likewise.
        parameters: (7,) float64 in [-1, 1], in the order of ACTION_NAMES.
    """
    _copy_schemes(monitor, recommended, recommended_goals)
    cold, hot = schemes(monitor)[COLD], schemes(monitor)[HOT]
    attributes = monitor.attributes
    found = _settings(parameters, most_accesses_of(attributes), attributes.aggr_us)
    hot.min_nr_accesses, hot.min_age, hot.quota_bytes = found[0], found[1], found[2]
    cold.max_nr_accesses, cold.min_age, cold.quota_bytes = found[3], found[4], found[5]
    cold.filter_count = 1 if cold.max_nr_accesses == 0 else 0
    goals(monitor)[COLD * GOALS].target_value = found[6]


@compiled
def _copy_schemes(monitor: Record, settings: Record, wanted: Record) -> None:
    for number in range(2):
        copy_settings(schemes(monitor)[number], settings[number])
        for place in range(number * GOALS, number * GOALS + settings[number].goal_count):
            goal, other = goals(monitor)[place], wanted[place]
            goal.metric, goal.target_value, goal.nid = other.metric, other.target_value, other.nid


@compiled
def _start_tracks(monitors: Record, memories: Record, tracks: Record, rows: Record) -> None:
    for i in range(monitors.size):
        if rows[i]:
            _remember(monitors[i], memories[i], tracks[i])


@compiled
def _remember(monitor: Record, memory: Record, track: Record) -> None:
    track.time_us = float(monitor.memory_time_us)
    track.lost_us = lost_us(memory)
    track.waited_us = memory.tier_stall_us
    track.promoted, track.demoted = memory.promoted, memory.demoted
    track.kdamond_ns = memory.kdamond_ns
    track.touches, track.slow_touches = memory.touches, memory.slow_touches
    track.hot_exceeds = float(schemes(monitor)[HOT].qt_exceeds)
    track.cold_exceeds = float(schemes(monitor)[COLD].qt_exceeds)


@compiled
def _close_interval(monitor: Record, memory: Record, track: Record, column: int, maps: Record, curves: Record) -> None:
    """Sum the interval up that is over, and draw it."""
    passed = max(monitor.memory_time_us - track.time_us, 1.0)
    seconds = passed / _SECOND_US
    track.slowdown = (lost_us(memory) - track.lost_us) / passed
    track.slow_wait = (memory.tier_stall_us - track.waited_us) / passed
    track.promoted_rate = (memory.promoted - track.promoted) / memory.fast_pages / seconds
    track.demoted_rate = (memory.demoted - track.demoted) / memory.fast_pages / seconds
    track.kdamond_share = (memory.kdamond_ns - track.kdamond_ns) / 1000.0 / passed
    track.hot_exceeded = min(1.0, (schemes(monitor)[HOT].qt_exceeds - track.hot_exceeds) / seconds)
    track.cold_exceeded = min(1.0, (schemes(monitor)[COLD].qt_exceeds - track.cold_exceeds) / seconds)
    track.slowdown_mean += (1.0 - _MEAN_KEEP) * (track.slowdown - track.slowdown_mean)
    track.promoted_mean += (1.0 - _MEAN_KEEP) * (track.promoted_rate - track.promoted_mean)
    track.demoted_mean += (1.0 - _MEAN_KEEP) * (track.demoted_rate - track.demoted_mean)
    slow = (memory.slow_touches - track.slow_touches) / max(memory.touches - track.touches, 1.0)
    draw_column(monitor, memory, maps, curves, column, slow, track.slowdown, True)
    _remember(monitor, memory, track)


@compiled
def _execute_rows(
    monitors: Record,
    memories: Record,
    tracks: Record,
    recommended: Record,
    recommended_goals: Record,
    shipped: Record,
    shipped_goals: Record,
    attributes: Record,
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
            if monitor.memory_time_us >= interval_end[i]:
                if not decided and ask[i]:
                    break
                by_agent = decided and not np.isnan(decision[i, 0])
                _take_over_attributes(monitor, track, attributes, by_agent)
                if by_agent:
                    apply_parameters(monitor, recommended, recommended_goals, decision[i])
                else:
                    _copy_schemes(monitor, shipped, shipped_goals)
                for k in range(len(ACTION_NAMES)):
                    track.in_force[k] = decision[i, k] if by_agent else 0.0
                interval_end[i] = monitor.memory_time_us + interval_us
                operations[i] += 1
            decided = False
            advance_program(monitor, min(until_us, interval_end[i]))
            if monitor.memory_time_us >= interval_end[i]:
                _close_interval(monitor, memory, track, columns[i], maps[i], curves[i])
                columns[i] += 1
            if monitor.memory_time_us >= until_us:
                break


@compiled
def _take_over_attributes(monitor: Record, track: Record, attributes: Record, by_agent: bool) -> None:
    """Put the attributes of the agent's or of the built-in algorithm's monitoring in force, where they differ.

    Intervals that the kernel tunes stay as it has tuned them until the agent takes over.
    """
    whose = 0 if by_agent else 1
    if track.shipped_attributes != whose:
        track.shipped_attributes = whose
        if attributes.size > 1:
            monitor.time_us = max(monitor.time_us, monitor.memory_time_us)
            change_attributes(monitor, attributes[whose])


@compiled
def _wait_rows(monitors: Record, until: Record, rows: Record) -> None:
    for i in range(monitors.size):
        if rows[i]:
            advance_program(monitors[i], until[i] * 1000)


@compiled
def _observe_rows(monitors: Record, memories: Record, tracks: Record, features: Record) -> None:
    for i in range(monitors.size):
        if memories[i].size > 0:
            _observe(monitors[i], memories[i], tracks[i], features[i])


@compiled
def _observe(monitor: Record, memory: Record, track: Record, row: Record) -> None:
    pages = max(memory.size / PAGE_BYTES, 1.0)
    row[0] = min(1.0, max(0.0, math.log2(memory.size / 2.0**26) / 14.0))
    row[1] = min(1.0, memory.fast_pages / pages)
    row[2] = root(1.0 - memory.fast_used / memory.fast_pages)
    row[3], row[4], row[5] = root(track.slowdown), root(track.slowdown_mean), root(track.slow_wait)
    row[6], row[7] = root(track.promoted_rate), root(track.promoted_mean)
    row[8], row[9] = root(track.demoted_rate), root(track.demoted_mean)
    most = max(track.promoted_mean, track.demoted_mean)
    row[10] = min(track.promoted_mean, track.demoted_mean) / most if most > 0.0 else 0.0
    row[11], row[12] = max(0.0, track.hot_exceeded), max(0.0, track.cold_exceeded)
    row[13] = root(track.kdamond_share)
    row[14] = min(1.0, max(0.0, math.log2(monitor.attributes.sample_us / 1000.0) / 14.0))
    _observe_regions(monitor, memory, row)
    for k in range(len(ACTION_NAMES)):
        row[_IN_FORCE + k] = 0.5 + 0.5 * track.in_force[k]


@compiled
def _observe_regions(monitor: Record, memory: Record, row: Record) -> None:
    """Roots of the shares of the program by node and by accesses, and the share of the accesses found on node 1."""
    found, extents = regions(monitor), extents_of(memory)
    most, seconds = most_accesses_of(monitor.attributes), monitor.attributes.aggr_us / 1e6
    bins = np.zeros((2, _BINS))
    accesses, on_slow, first = 0.0, 0.0, 0
    for index in range(monitor.region_count):
        region = found[index]
        while first < memory.extent_count and extents[first].end <= region.start:
            first += 1
        fast, slow, place = 0.0, 0.0, first
        while place < memory.extent_count and extents[place].start < region.end:
            extent = extents[place]
            part = (min(extent.end, region.end) - max(extent.start, region.start)) / (extent.end - extent.start)
            fast += extent.fast * part
            slow += extent.slow * part
            place += 1
        rate = region.last_nr_accesses / most
        kind = histogram_place(rate, region.age * seconds, FIRST_IDLE_S, IDLE_FACTOR, IDLE_BINS)
        bins[0, kind] += fast
        bins[1, kind] += slow
        accesses += rate * (fast + slow)
        on_slow += rate * slow
    pages = max(memory.size / PAGE_BYTES, 1.0)
    row[15] = min(1.0, on_slow / accesses) if accesses > 0.0 else 0.0
    for kind in range(_BINS):
        row[_FAST_BINS + kind] = root(bins[0, kind] / pages)
        row[_SLOW_BINS + kind] = root(bins[1, kind] / pages)
