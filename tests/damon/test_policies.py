"""The built-in policies are settings that a kernel accepts, with the published numbers in its units."""

import numpy as np
import pytest

from kml_envs.damon.checks import kernel_refusals
from kml_envs.damon.config import Action, GoalMetric, MonitoringAttributes, Operations, Weights
from kml_envs.damon.memory_config import MemoryConfig
from kml_envs.damon.memory_state import allocate_memories
from kml_envs.damon.policies import (
    POLICIES,
    ethp,
    hmsdk,
    lru_sort,
    mem_tier,
    pdarc,
    plrus,
    policy,
    prcl,
    prcl_auto,
    samples,
    senpai_pages,
    senpai_step,
)
from kml_envs.errors import UserError
from kml_envs.workloads.access import build_table

GUIDE = MonitoringAttributes(sample_us=400_000, aggr_us=8_000_000)
MIB = 1 << 20


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("attributes", [MonitoringAttributes(), GUIDE])
def test_every_policy_is_accepted_by_the_kernels_checks(name, attributes):
    context = policy(name).context(attributes)
    assert not kernel_refusals(context)
    assert context.schemes


def test_unknown_policies_are_told():
    with pytest.raises(UserError, match=r"unknown policy 'prlc'.*Did you mean 'prcl'"):
        policy("prlc")


def test_ages_and_accesses_are_in_the_units_of_the_monitor():
    (scheme,) = prcl().schemes
    assert (scheme.action, scheme.access_pattern.min_age, scheme.access_pattern.max_nr_accesses) == (
        Action.PAGEOUT,
        50,
        0,
    )
    assert prcl(GUIDE).schemes[0].access_pattern.min_age == 1
    assert prcl(min_age_s=7).schemes[0].access_pattern.min_age == 70
    hot, cold = ethp().schemes
    assert (hot.access_pattern.min_nr_accesses, cold.access_pattern.min_age) == (1, 70)
    assert plrus().schemes[0].access_pattern.min_nr_accesses == 4
    assert samples(0.05, MonitoringAttributes(50_000, 100_000)) == 1


@pytest.mark.parametrize("attributes", [MonitoringAttributes(), GUIDE])
def test_the_kernels_modules_bring_no_intervals_along(attributes):
    for name, cold in (("damon_reclaim", 0), ("damon_lru_sort", 1)):
        context = policy(name).context(attributes)
        assert context.monitoring_attrs == attributes
        assert context.schemes[cold].access_pattern.min_age * attributes.aggr_us == 120_000_000


def test_quotas_goals_and_nodes():
    quota = pdarc().schemes[0].quotas
    assert (quota.ms, quota.reset_interval_ms, quota.weights.nr_accesses_permil, quota.weights.age_permil) == (
        50,
        1000,
        3,
        7,
    )
    assert prcl_auto().schemes[0].quotas.goals[0].target_value == 5000
    deprio, prio = lru_sort().schemes
    assert (deprio.action, prio.action) == (Action.LRU_DEPRIO, Action.LRU_PRIO)
    assert (deprio.access_pattern.max_nr_accesses, prio.access_pattern.min_nr_accesses) == (0, 1)
    for scheme, metric in ((deprio, GoalMetric.INACTIVE_MEM_BP), (prio, GoalMetric.ACTIVE_MEM_BP)):
        assert (scheme.quotas.bytes, scheme.quotas.reset_interval_ms) == (100 * MIB, 1000)
        assert (scheme.quotas.goals[0].target_metric, scheme.quotas.goals[0].target_value) == (metric, 5010)
        assert scheme.quotas.weights == Weights(0, 1, 1)
    demote, promote = mem_tier().schemes
    assert (demote.target_nid, promote.target_nid) == (1, 0)
    assert [scheme.quotas.goals[0].target_value for scheme in (demote, promote)] == [50, 9970]
    assert mem_tier().monitoring_attrs.intervals_goal.access_bp == 400
    assert hmsdk().operations is Operations.PADDR
    assert hmsdk().monitoring_attrs.max_nr_regions == 10_000
    assert hmsdk().schemes[0].access_pattern.min_age == 15


def test_senpai_asks_for_less_as_pressure_rises():
    assert senpai_pages(1e6, 0.0) == pytest.approx(500)
    assert senpai_pages(1e6, 0.0005) == pytest.approx(250)
    assert senpai_pages(1e6, 0.002) == 0


def test_senpai_takes_the_longest_idle_pages():
    table = build_table("rest", [(1000, [])], 256 * MIB)
    state = allocate_memories(MemoryConfig(), [table], [True], [0])
    state.extents["idle_s"][0, :10] = 50.0
    taken = senpai_step(state.records[0])
    # A page swapped out to compressed memory frees a page less what it takes there.
    assert taken == pytest.approx(65536 * 0.0005 * 2.7 / 1.7)
    assert state.extents["swapped"][0, :10].sum() == pytest.approx(taken)
    assert np.count_nonzero(state.extents["swapped"]) == 10
