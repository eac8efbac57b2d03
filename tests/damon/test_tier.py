"""Tiering behind the proxy: what an action stands for, what is refused, and what the built-in algorithms do."""

import numpy as np
import pytest
from damon_programs import begun, make_tier, play, verdict_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.damon.checks import harmful_settings
from kml_envs.damon.config import Action, GoalMetric, MonitoringAttributes
from kml_envs.damon.oracle import placement_bound
from kml_envs.damon.tier_features import FEATURE_NAMES
from kml_envs.damon.tier_settings import ACTION_NAMES, BUILTINS, recommended_context

NUMBERS = st.floats(-1.0, 1.0, width=32)
BRISK = np.array([-0.5, -0.5, 0.5, -1.0, 0.0, 0.5, 1.0], np.float32)  # a sample for 0.75 s, idle for 5 s, 128 MiB/s
SLOW_QUOTA = np.array([-0.5, -0.5, -0.2, -1.0, 0.0, -0.2, 1.0], np.float32)
AVERSE = np.array([1.0, 1.0, 0.5, -1.0, 1.0, 0.5, 1.0], np.float32)  # nothing is ever that hot or that cold
ATTRIBUTES = MonitoringAttributes(20_000, 400_000)


@pytest.fixture(scope="module")
def subsystem():
    return begun(make_tier())


@given(action=st.lists(st.one_of(NUMBERS, st.sampled_from([-1.0, 1.0])), min_size=7, max_size=7))
@settings(deadline=None)
def test_what_is_refused_is_what_the_checks_find_harmful(subsystem, action):
    found = harmful_settings(recommended_context(np.array(action), ATTRIBUTES), nodes=2)
    assert subsystem.check(np.array([action]))[0] == verdict_of(found)


def test_numbers_stand_for_the_documented_settings():
    demote, promote = recommended_context(np.zeros(7), ATTRIBUTES).schemes
    assert (demote.action, promote.action) == (Action.MIGRATE_COLD, Action.MIGRATE_HOT)
    assert (demote.target_nid, promote.target_nid) == (1, 0)
    assert promote.access_pattern.min_nr_accesses == 5  # of 20 samples
    assert promote.access_pattern.min_age == 9  # 3.75 s in aggregations of 400 ms, cut off
    assert demote.access_pattern.max_nr_accesses == 2
    assert demote.access_pattern.min_age == 13  # 5 s, rounded up
    assert promote.quotas.bytes == demote.quotas.bytes == (1 << 24) - (1 << 18)
    assert [(goal.target_metric, goal.target_value, goal.nid) for goal in demote.quotas.goals] == [
        (GoalMetric.NODE_MEM_FREE_BP, 200, 0)
    ]
    demote, promote = recommended_context(np.ones(7), ATTRIBUTES).schemes
    assert (promote.access_pattern.min_nr_accesses, demote.access_pattern.max_nr_accesses) == (20, 10)
    assert promote.quotas.bytes == (1 << 30) - (1 << 18)


def test_settings_reach_the_memory():
    """Brisk settings bring the hot set to node 0; a quota bounds how fast; what fits nothing moves nothing."""
    brisk, slow, averse = (play(make_tier(), action) for action in (BRISK, SLOW_QUOTA, AVERSE))
    static = play(make_tier(builtin="none", mode="emergency"), AVERSE)
    assert averse["migrated_mib"] == static["migrated_mib"] == 0.0
    assert averse["score"] == pytest.approx(static["score"], abs=1e-3)
    assert brisk["slow_access_share"] < slow["slow_access_share"] < averse["slow_access_share"]
    assert brisk["score"] > slow["score"] > averse["score"]
    quota_mib = recommended_context(SLOW_QUOTA, ATTRIBUTES).schemes[0].quotas.bytes / (1 << 20)
    for way in ("promoted_mib", "demoted_mib"):
        assert 0.0 < slow[way] <= quota_mib * 41
        assert brisk[way] > slow[way]
    assert brisk["score"] == -brisk["slowdown"]
    assert brisk["migrated_mib"] == brisk["promoted_mib"] + brisk["demoted_mib"]


def test_nothing_is_demoted_while_enough_is_free():
    env = make_tier()
    play(env, np.append(BRISK[:6], np.float32(-0.2)))
    record = env.proxy.subsystem.memories.records[0]
    target = recommended_context(np.append(BRISK[:6], -0.2), ATTRIBUTES).schemes[0].quotas.goals[0].target_value
    assert target == 114
    # At most one window's quota more than the goal asks for was demoted than promoted.
    assert record["demoted"] - record["promoted"] <= record["fast_pages"] * target / 1e4 + (128 << 20) / 4096
    assert record["demoted"] > record["promoted"]


def test_no_policy_beats_the_placement_oracle():
    env = make_tier()
    info = play(env, BRISK)
    warm = env.proxy.subsystem.warm
    workload = warm.workloads[0]
    config = warm.machine.config_for(workload)
    assert (config.fast_bytes, config.slow_bytes) == (workload.table.size // 2, workload.table.size)
    bound = placement_bound(workload.table, config, 40.0, origin_us=warm.origin_us(*warm.begins(1)))
    assert info["slowdown"] > bound.dynamic


@pytest.mark.parametrize("builtin", BUILTINS)
def test_builtin_algorithms_act(builtin):
    info = play(make_tier(builtin=builtin, mode="emergency"), BRISK)
    assert info["operations"] == 20
    assert (info["promoted_mib"] > 1.0) == (info["demoted_mib"] > 1.0) == (builtin != "none")


def test_the_kernel_tunes_intervals_only_under_algorithms_that_ask_for_it():
    """mem_tier's intervals grow while they find too few accesses; the agent's are those of the arguments."""
    tuned = make_tier(builtin="mem_tier", mode="emergency")
    play(tuned, BRISK)
    assert tuned.proxy.subsystem.state.monitors["attributes"]["sample_us"][0] > 20_000
    # However long the monitor's last sampling interval is, the program is where the episode ends.
    assert tuned.proxy.subsystem.elapsed_us()[0] == 40e6
    agents = make_tier(builtin="mem_tier")
    observations, _ = agents.reset(seed=1)
    agents.step(np.full(7, np.nan, np.float32))
    assert agents.proxy.subsystem.state.monitors["attributes"]["access_bp"][0] == 400
    agents.step(BRISK)
    attributes = agents.proxy.subsystem.state.monitors["attributes"]
    assert (attributes["sample_us"][0], attributes["aggr_us"][0], attributes["access_bp"][0]) == (20_000, 400_000, 0)
    assert observations.shape == (len(FEATURE_NAMES),)


def test_features_show_nodes_and_settings():
    env = make_tier()
    first, _ = env.reset(seed=1)
    named = dict(zip(FEATURE_NAMES, first, strict=True))
    assert named["fast_share"] == 0.5
    on_fast, on_slow = (
        sum(value**2 for name, value in named.items() if name.startswith((f"{node}_accessed", f"{node}_idle")))
        for node in ("fast", "slow")
    )
    assert on_fast == pytest.approx(0.5, abs=0.01)
    assert on_fast + on_slow == pytest.approx(1.0, abs=1e-5)
    assert named["slow_accesses_found"] > 0.3  # of the accesses to the part that did not fit
    for _ in range(15):
        last, *_ = env.step(BRISK)
    named = dict(zip(FEATURE_NAMES, last, strict=True))
    assert named["slow_accesses_found"] < 0.2
    np.testing.assert_allclose([named[f"in_force_{name}"] for name in ACTION_NAMES], 0.5 + 0.5 * BRISK, rtol=1e-6)
