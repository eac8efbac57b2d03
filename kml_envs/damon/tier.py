"""Programs on two memory nodes whose agent tunes tiering: per control interval the settings of two schemes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.damon import intervals
from kml_envs.damon.config import PAGE_BYTES, MonitoringAttributes
from kml_envs.damon.intervals import monitor_of, picture_of
from kml_envs.damon.machine import memory_of
from kml_envs.damon.monitor import advance_program, change_attributes
from kml_envs.damon.pictures import draw_column
from kml_envs.damon.programs import BoolArray, FloatArray, IntArray, MonitoredPrograms, lost_us
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import ATTRIBUTES, GOAL, GOALS, SCHEME, schemes
from kml_envs.damon.tier_features import FEATURE_NAMES, write_features
from kml_envs.damon.tier_settings import (
    ACTION_NAMES,
    COLD,
    HOT,
    apply_parameters,
    builtin_context,
    copy_schemes,
    laid_out,
    recommended_context,
    settings_rows,
)
from kml_envs.damon.warm_programs import WarmPrograms

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
_QUOTAS = [ACTION_NAMES.index(name) for name in ("hot_quota", "cold_quota")]
_CONVERGED_BP = 10_000


SETTINGS = np.dtype(
    [
        ("recommended", SCHEME, (2,)),  # the agent's, but for what its recommendations say
        ("recommended_goals", GOAL, (2 * GOALS,)),
        ("shipped", SCHEME, (2,)),  # the built-in algorithm's
        ("shipped_goals", GOAL, (2 * GOALS,)),
        ("attributes", ATTRIBUTES, (2,)),  # of the monitoring: the agent's and the built-in algorithm's
        ("attributes_differ", np.int64),
    ]
)
"""What is the same for all programs."""

_track_of = array_of("track", TRACK, 1)


class TierPrograms(MonitoredPrograms):
    """N programs that ask for the settings of the next control interval."""

    action_names = ACTION_NAMES
    feature_names = FEATURE_NAMES
    track = TRACK
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
        super().__init__(warm, instances, interval_us, builtin)
        self.attributes = attributes
        own = recommended_context(np.full(len(ACTION_NAMES), -1.0), attributes)
        shipped = builtin_context(builtin, attributes)
        settings = np.zeros(1, SETTINGS)
        # All have the same filters or none: a scheme without does not look at them.
        settings["recommended"][0], settings["recommended_goals"][0], self._filters = laid_out(own)
        settings["shipped"][0], settings["shipped_goals"][0], _ = laid_out(shipped)
        both = [attributes_record(given.monitoring_attrs) for given in (own, shipped)]
        settings["attributes"][0] = both
        settings["attributes_differ"] = both[0] != both[1]
        self.settings = settings
        # Feedback loops begin at their quota's limit. From a single byte, where the kernel's begin, they would need
        # minutes; a machine that has run for longer than the program has that behind it.
        self._converged_bp = (settings["shipped"][0]["quota_bytes"] * _CONVERGED_BP).astype(np.uint64)

    def prepare(self, rows: BoolArray) -> None:
        """Begin with the schemes' filters, and with feedback loops that have converged."""
        self.state.filters[rows] = self._filters
        self.state.schemes["effective_bp"][rows] = self._converged_bp

    def recommended(self, recommendation: FloatArray) -> IntArray:
        """(N, 7) int64: samples, aggregations, bytes per second and 1/10,000 that recommendations (N, 7) stand for."""
        settings = np.zeros(recommendation.shape, np.int64)
        settings_rows(recommendation, self.attributes.max_nr_accesses, self.attributes.aggr_us, settings)
        return settings

    def cost(self) -> FloatArray:
        """(N,) float64: milliseconds that the programs lost against all-fast memory, migration included."""
        return np.asarray(self.lost_us() / 1000.0)

    def most_cost(self, recommendation: FloatArray) -> FloatArray:
        """(N,) float64, milliseconds: an interval in which all accesses go to node 1 and both quotas are used up."""
        settings, memories = self.recommended(np.nan_to_num(recommendation)), self.memories.records
        waiting = memories["memory_bound"] * memories["latency_excess"]
        pages_per_us = settings[:, _QUOTAS].sum(axis=1) / PAGE_BYTES / _SECOND_US
        moving = pages_per_us * memories["migration_stall_us"] / memories["threads"]
        kdamond = memories["interference"] * np.minimum(pages_per_us * memories["migration_us"], 1.0)
        return np.asarray((waiting + moving + kdamond) * self.interval_us / 1000.0)

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


@intervals.begin_episode.rule(SETTINGS)
def _begin_episode(settings: Record, program: Record) -> None:
    _remember(monitor_of(program)[0], memory_of(program)[0], _track_of(program)[0])


@intervals.begin_interval.rule(SETTINGS)
def _begin_interval(settings: Record, program: Record, decision: Record, by_agent: bool) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    _take_over_attributes(monitor, track, settings, by_agent)
    if by_agent:
        apply_parameters(monitor, settings.recommended, settings.recommended_goals, decision)
    else:
        copy_schemes(monitor, settings.shipped, settings.shipped_goals)
    for k in range(len(ACTION_NAMES)):
        track.in_force[k] = decision[k] if by_agent else 0.0


@intervals.run_until.rule(SETTINGS)
def _run_until(settings: Record, program: Record, until_us: int) -> None:
    advance_program(monitor_of(program)[0], until_us)


@intervals.close_interval.rule(SETTINGS)
def _close_interval(settings: Record, program: Record) -> None:
    monitor, memory, track = monitor_of(program)[0], memory_of(program)[0], _track_of(program)[0]
    slow = (memory.slow_touches - track.slow_touches) / max(memory.touches - track.touches, 1.0)
    _sum_up(monitor, memory, track)
    draw_column(monitor, memory, picture_of(program)[0], slow, track.slowdown, True)
    _remember(monitor, memory, track)


@intervals.observe.rule(SETTINGS)
def _observe(settings: Record, program: Record, features: Record) -> None:
    write_features(monitor_of(program)[0], memory_of(program)[0], _track_of(program)[0], features)


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
def _sum_up(monitor: Record, memory: Record, track: Record) -> None:
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


@compiled
def _take_over_attributes(monitor: Record, track: Record, settings: Record, by_agent: bool) -> None:
    """Put the attributes of the agent's or of the built-in algorithm's monitoring in force, where they differ.

    Intervals that the kernel tunes stay as it has tuned them until the agent takes over.
    """
    whose = 0 if by_agent else 1
    if track.shipped_attributes != whose:
        track.shipped_attributes = whose
        if settings.attributes_differ:
            monitor.time_us = max(monitor.time_us, monitor.memory_time_us)
            change_attributes(monitor, settings.attributes[whose])
