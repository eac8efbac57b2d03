"""Programs on two memory nodes whose agent tunes tiering: per control interval the settings of two schemes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kml_envs.compiling import Record, array_of, compiled
from kml_envs.damon import intervals
from kml_envs.damon.config import PAGE_BYTES, MonitoringAttributes
from kml_envs.damon.features import pages_of
from kml_envs.damon.intervals import monitor_of, picture_of
from kml_envs.damon.machine import memory_of
from kml_envs.damon.memory_state import extents_of
from kml_envs.damon.monitor import advance_program, change_attributes
from kml_envs.damon.pictures import draw_column
from kml_envs.damon.programs import BoolArray, FloatArray, IntArray, MonitoredPrograms, lost_us
from kml_envs.damon.simulator import attributes_record
from kml_envs.damon.state import ATTRIBUTES, GOAL, GOALS, SCHEME, regions, schemes
from kml_envs.damon.tier_features import (
    BINS,
    FEATURE_NAMES,
    MEASURED,
    RATES,
    count_region,
    sum_up,
    write_features,
    write_regions,
)
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

TRACK = np.dtype(
    [
        ("now", MEASURED),
        ("rates", RATES),
        ("touches", np.float64),  # totals at the end of the last interval
        ("slow_touches", np.float64),
        ("shipped_attributes", np.int64),
    ]
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
    memory, track = memory_of(program)[0], _track_of(program)[0]
    _measure(monitor_of(program)[0], memory, track.now)
    track.rates.before = track.now
    track.touches, track.slow_touches = memory.touches, memory.slow_touches


@intervals.begin_interval.rule(SETTINGS)
def _begin_interval(settings: Record, program: Record, decision: Record, by_agent: bool) -> None:
    monitor, track = monitor_of(program)[0], _track_of(program)[0]
    _take_over_attributes(monitor, track, settings, by_agent)
    if by_agent:
        apply_parameters(monitor, settings.recommended, settings.recommended_goals, decision)
    else:
        copy_schemes(monitor, settings.shipped, settings.shipped_goals)
    for k in range(len(ACTION_NAMES)):
        track.rates.in_force[k] = decision[k] if by_agent else 0.0


@intervals.run_until.rule(SETTINGS)
def _run_until(settings: Record, program: Record, until_us: int) -> None:
    advance_program(monitor_of(program)[0], until_us)


@intervals.close_interval.rule(SETTINGS)
def _close_interval(settings: Record, program: Record) -> None:
    monitor, memory, track = monitor_of(program)[0], memory_of(program)[0], _track_of(program)[0]
    slow = (memory.slow_touches - track.slow_touches) / max(memory.touches - track.touches, 1.0)
    track.touches, track.slow_touches = memory.touches, memory.slow_touches
    _measure(monitor, memory, track.now)
    sum_up(track.rates, track.now)
    draw_column(monitor, memory, picture_of(program)[0], slow, track.rates.slowdown, True)


@intervals.observe.rule(SETTINGS)
def _observe(settings: Record, program: Record, features: Record) -> None:
    monitor, memory, track = monitor_of(program)[0], memory_of(program)[0], _track_of(program)[0]
    _measure(monitor, memory, track.now)
    write_features(track.rates, track.now, monitor.attributes.sample_us, features)
    bins, accesses = np.zeros((2, BINS)), np.zeros(2)
    _count_regions(monitor, memory, bins, accesses)
    write_regions(bins, accesses, pages_of(track.now), features)


@compiled
def _measure(monitor: Record, memory: Record, now: Record) -> None:
    now.size = memory.size
    now.fast_pages, now.fast_used = memory.fast_pages, memory.fast_used
    now.time_us = float(monitor.memory_time_us)
    now.lost_us = lost_us(memory)
    now.waited_us = memory.tier_stall_us
    now.promoted, now.demoted = memory.promoted, memory.demoted
    now.kdamond_ns = memory.kdamond_ns
    now.hot_exceeds = float(schemes(monitor)[HOT].qt_exceeds)
    now.cold_exceeds = float(schemes(monitor)[COLD].qt_exceeds)


@compiled
def _count_regions(monitor: Record, memory: Record, bins: Record, accesses: Record) -> None:
    """Count the pages of all regions by node, which the extents tell, and the accesses found to them."""
    found, extents, first = regions(monitor), extents_of(memory), 0
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
        count_region(region, monitor.attributes, fast, slow, bins, accesses)


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
