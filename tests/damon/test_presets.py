"""The kernel's own configurations, and what DAMON_STAT publishes."""

import numpy as np
import pytest
from damon_monitors import PAGE, touched

from kml_envs.damon.checks import harmful_settings, kernel_refusals
from kml_envs.damon.config import Action, FilterType, GoalMetric, IntervalsGoal, MonitoringAttributes, Operations
from kml_envs.damon.control import Snapshot
from kml_envs.damon.presets import access_statistics, damon_lru_sort, damon_reclaim, damon_stat
from kml_envs.damon.simulator import SimulatedDamon


def test_reclaim_defaults():
    context = damon_reclaim()
    (scheme,) = context.schemes
    assert context.operations is Operations.PADDR
    assert scheme.action is Action.PAGEOUT
    assert (scheme.access_pattern.max_nr_accesses, scheme.access_pattern.min_age) == (0, 1200)
    assert (scheme.quotas.ms, scheme.quotas.bytes, scheme.quotas.reset_interval_ms) == (10, 128 << 20, 1000)
    assert (scheme.watermarks.high, scheme.watermarks.mid, scheme.watermarks.low) == (500, 400, 200)
    tuned = damon_reclaim(
        quota_mem_pressure_us=1000, quota_autotune_feedback=5000, skip_anon=True, autotune_monitoring_intervals=True
    )
    metrics = [goal.target_metric for goal in tuned.schemes[0].quotas.goals]
    assert metrics == [GoalMetric.SOME_MEM_PSI_US, GoalMetric.USER_INPUT]
    assert tuned.schemes[0].filters[0].type is FilterType.ANON
    assert tuned.monitoring_attrs.intervals_goal == IntervalsGoal(40, 3, 5_000, 10_000_000)


def test_lru_sort_defaults():
    hot, cold = damon_lru_sort().schemes
    assert (hot.action, hot.access_pattern.min_nr_accesses) == (Action.LRU_PRIO, 10)
    assert (cold.action, cold.access_pattern.min_age) == (Action.LRU_DEPRIO, 1200)
    assert (hot.quotas.ms, cold.quotas.ms) == (5, 5)
    hot, cold = damon_lru_sort(active_mem_bp=6000, filter_young_pages=True).schemes
    assert [scheme.quotas.goals[0].target_value for scheme in (hot, cold)] == [6000, 4002]
    assert (hot.filters[0].matching, cold.filters[0].matching) == (False, True)


@pytest.mark.parametrize("attributes", [MonitoringAttributes(), MonitoringAttributes(200_000, 2_000_000)])
def test_times_and_shares_are_counted_in_the_given_intervals(attributes):
    (reclaim,) = damon_reclaim(attributes=attributes).schemes
    hot, cold = damon_lru_sort(attributes=attributes).schemes
    for scheme in (reclaim, cold):
        assert scheme.access_pattern.min_age * attributes.aggr_us == 120_000_000
    assert hot.access_pattern.min_nr_accesses * 2 == attributes.max_nr_accesses
    tuned = damon_reclaim(attributes=attributes, autotune_monitoring_intervals=True).monitoring_attrs
    assert (tuned.aggr_us, tuned.intervals_goal.access_bp) == (attributes.aggr_us, 40)


@pytest.mark.parametrize("context", [damon_reclaim(), damon_lru_sort(), damon_stat()])
def test_presets_are_accepted_and_run(context):
    assert kernel_refusals(context) == []
    assert harmful_settings(context, nodes=1) == []
    damon = SimulatedDamon(touched([(0, 64 * PAGE, 100)], 1024 * PAGE), seed=1)
    damon.turn_on(context)
    damon.state.monitors["machine"]["free_permil"] = context.schemes[0].watermarks.mid - 1
    damon.run(2_000_000)
    assert damon.state.monitors["samples"][0] > 0


def test_stat_tunes_its_intervals():
    damon = SimulatedDamon(touched([(0, 2 * PAGE, 1)], 4096 * PAGE), seed=1)
    damon.turn_on(damon_stat())
    damon.run(120_000_000)
    sample_us, aggr_us = damon.intervals()
    assert 5_000 < sample_us <= 10_000_000
    assert aggr_us == 20 * sample_us


def test_published_statistics():
    columns = ([0, 100], [100, 400], [10, 0], [4, 9])
    picture = Snapshot(*(np.array(column) for column in columns), np.zeros(2, np.int64), 400)
    published = access_statistics(picture, 100_000)
    assert published.estimated_memory_bandwidth == 100 * 10 * 10
    assert published.memory_idle_ms_percentiles[[0, 25, 26, 100]].tolist() == [-500, -500, 1000, 1000]
