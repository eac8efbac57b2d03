"""The kernel's own ready-made configurations: DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT.

The defaults are those of their module parameters (mm/damon/reclaim.c, lru_sort.c and stat.c).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kml_envs.damon.config import (
    AccessPattern,
    Action,
    Context,
    Filter,
    FilterType,
    GoalMetric,
    IntervalsGoal,
    MonitoringAttributes,
    Operations,
    Quota,
    QuotaGoal,
    Scheme,
    Target,
    WatermarkMetric,
    Watermarks,
    Weights,
)
from kml_envs.damon.control import WHOLE_PICTURE, Snapshot

_WINDOW_MS = 1000
_AUTOTUNED_ACCESS_BP = 40
_DEFAULTS = MonitoringAttributes()
_STAT_INTERVALS = IntervalsGoal(access_bp=400, aggrs=3, min_sample_us=5_000, max_sample_us=10_000_000)
_PERCENTILES = np.arange(101)


def damon_reclaim(
    regions: tuple[tuple[int, int], ...] = (),
    min_age_us: int = 120_000_000,
    quota_ms: int = 10,
    quota_bytes: int = 128 << 20,
    quota_mem_pressure_us: int = 0,
    quota_autotune_feedback: int = 0,
    skip_anon: bool = False,
    autotune_monitoring_intervals: bool = False,
    attributes: MonitoringAttributes = _DEFAULTS,
) -> Context:
    """DAMON_RECLAIM: page memory out that was not accessed for a while, when free memory runs short.

    Args:
        regions: Monitored ranges of physical memory; empty: all of it.
        min_age_us: Time without an access after which memory is cold.
        quota_ms: Time for reclaim in a second.
        quota_bytes: Bytes to reclaim in a second.
        quota_mem_pressure_us: Wanted memory stall time a second, 0: not tuned by it.
        quota_autotune_feedback: The user's measure of success, of which 10,000 is wanted; 0: not tuned by it.
        skip_anon: Leave anonymous pages.
        autotune_monitoring_intervals: Let the kernel tune the intervals.
        attributes: Of the monitoring, which the modules take as parameters of their own; times and shares of samples
            are counted in their intervals.

    Returns:
        The context.
    """
    attributes = _attributes(attributes, autotune_monitoring_intervals)
    goals = []
    if quota_mem_pressure_us:
        goals.append(QuotaGoal(GoalMetric.SOME_MEM_PSI_US, quota_mem_pressure_us))
    if quota_autotune_feedback:
        goals.append(QuotaGoal(GoalMetric.USER_INPUT, 10_000, quota_autotune_feedback))
    scheme = Scheme(
        Action.PAGEOUT,
        AccessPattern(min_sz=4096, max_nr_accesses=0, min_age=min_age_us // attributes.aggr_us),
        quotas=Quota(quota_ms, quota_bytes, _WINDOW_MS, tuple(goals), weights=Weights(0, 0, 1)),
        watermarks=Watermarks(WatermarkMetric.FREE_MEM_RATE, 5_000_000, 500, 400, 200),
        filters=(Filter(FilterType.ANON),) if skip_anon else (),
    )
    return Context(Operations.PADDR, attributes, (Target(regions=regions),), (scheme,))


def damon_lru_sort(
    regions: tuple[tuple[int, int], ...] = (),
    hot_thres_access_freq: int = 500,
    cold_min_age_us: int = 120_000_000,
    quota_ms: int = 10,
    active_mem_bp: int = 0,
    filter_young_pages: bool = False,
    autotune_monitoring_intervals: bool = False,
    attributes: MonitoringAttributes = _DEFAULTS,
) -> Context:
    """DAMON_LRU_SORT: move hot memory up and cold memory down in the lists that reclaim goes by.

    Args:
        regions: Monitored ranges of physical memory; empty: all of it.
        hot_thres_access_freq: Share of samples with an access from which on memory is hot, per mille.
        cold_min_age_us: Time without an access after which memory is cold.
        quota_ms: Time for both schemes in a second, half of it for each.
        active_mem_bp: Wanted share of active in all listed memory, in 1/10,000; 0: not tuned by it.
        filter_young_pages: Look at each page once more: only young ones are hot, only others are cold.
        autotune_monitoring_intervals: Let the kernel tune the intervals.
        attributes: Of the monitoring, which the modules take as parameters of their own; times and shares of samples
            are counted in their intervals.

    Returns:
        The context: the hot scheme, then the cold one.
    """
    attributes = _attributes(attributes, autotune_monitoring_intervals)
    patterns = {
        Action.LRU_PRIO: AccessPattern(
            min_sz=4096, min_nr_accesses=attributes.max_nr_accesses * hot_thres_access_freq // 1000
        ),
        Action.LRU_DEPRIO: AccessPattern(min_sz=4096, max_nr_accesses=0, min_age=cold_min_age_us // attributes.aggr_us),
    }
    goals = {Action.LRU_PRIO: (), Action.LRU_DEPRIO: ()} | (
        {
            Action.LRU_PRIO: (QuotaGoal(GoalMetric.ACTIVE_MEM_BP, active_mem_bp),),
            Action.LRU_DEPRIO: (QuotaGoal(GoalMetric.INACTIVE_MEM_BP, 10_000 - active_mem_bp + 2),),
        }
        if active_mem_bp
        else {}
    )
    schemes = tuple(
        Scheme(
            action,
            pattern,
            quotas=Quota(quota_ms // 2, 0, _WINDOW_MS, goals[action], weights=Weights(0, 1, 1)),
            watermarks=Watermarks(WatermarkMetric.FREE_MEM_RATE, 5_000_000, 200, 150, 50),
            filters=(Filter(FilterType.YOUNG, matching=action is Action.LRU_DEPRIO),) if filter_young_pages else (),
        )
        for action, pattern in patterns.items()
    )
    return Context(Operations.PADDR, attributes, (Target(regions=regions),), schemes)


def damon_stat(regions: tuple[tuple[int, int], ...] = ()) -> Context:
    """DAMON_STAT: monitor all of physical memory with tuned intervals, to publish `access_statistics` of it.

    Args:
        regions: Monitored ranges of physical memory; empty: all of it.
    """
    attributes = MonitoringAttributes(intervals_goal=_STAT_INTERVALS)
    return Context(Operations.PADDR, attributes, (Target(regions=regions),), (WHOLE_PICTURE,))


class AccessStatistics(NamedTuple):
    """What DAMON_STAT publishes every five seconds.

    Attributes:
        estimated_memory_bandwidth: Bytes a second, if each access found is to a whole region.
        memory_idle_ms_percentiles: (101,) int64, percentiles over the memory of the time since the last access;
            of accessed memory the time that it has been accessed for, negative.
        aggr_interval_us: Aggregation interval.
    """

    estimated_memory_bandwidth: int
    memory_idle_ms_percentiles: NDArray[np.int64]
    aggr_interval_us: int


def access_statistics(picture: Snapshot, aggr_us: int) -> AccessStatistics:
    """Work out DAMON_STAT's statistics (mm/damon/stat.c).

    Args:
        picture: All regions.
        aggr_us: Aggregation interval.
    """
    size = picture.end - picture.start
    bandwidth = int((size * picture.nr_accesses).sum()) * 1_000_000 // aggr_us
    idle = np.where(picture.nr_accesses == 0, picture.age + 1, -(picture.age + 1)) * aggr_us // 1000
    order = np.argsort(idle, kind="stable")
    reached = np.cumsum(size[order])
    places = np.searchsorted(reached * 100, reached[-1] * _PERCENTILES)
    return AccessStatistics(bandwidth, idle[order][places], aggr_us)


def _attributes(attributes: MonitoringAttributes, autotune: bool) -> MonitoringAttributes:
    goal = IntervalsGoal(_AUTOTUNED_ACCESS_BP, 3, 5_000, 10_000_000) if autotune else IntervalsGoal()
    return replace(attributes, intervals_goal=goal)
