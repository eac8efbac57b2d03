"""Reclamation behind the proxy: what an action stands for, what is refused, and what the built-in algorithms do."""

import numpy as np
import pytest
from damon_programs import begun, make_reclaim, play, verdict_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kml_envs.damon.checks import harmful_settings
from kml_envs.damon.config import PAGE_BYTES, Context, MonitoringAttributes, Operations
from kml_envs.damon.policies import SENPAI_SHARE
from kml_envs.damon.reclaim_settings import BUILTINS, SENPAI, builtin_context, recommended_scheme
from kml_envs.envs.damon_reclaim import ReclaimArguments

NUMBERS = st.floats(-1.0, 1.0, width=32)
EAGER = np.array([-0.17, 1.0, 0.0, 0.5, 1.0, 0.0], np.float32)  # what was idle for 2.5 s, without a tight quota


@pytest.fixture(scope="module")
def subsystem():
    return begun(make_reclaim())


@given(action=st.lists(st.one_of(NUMBERS, st.sampled_from([-1.0, 1.0])), min_size=6, max_size=6))
@settings(deadline=None)
def test_what_is_refused_is_what_the_checks_find_harmful(subsystem, action):
    attributes = MonitoringAttributes()
    size = int(subsystem.memories.records["size"][0])
    scheme = recommended_scheme(np.array(action), size, attributes)
    found = harmful_settings(Context(Operations.PADDR, attributes, schemes=(scheme,)), nodes=1)
    assert subsystem.check(np.array([action]))[0] == verdict_of(found)


def test_numbers_stand_for_the_documented_settings():
    scheme = recommended_scheme(np.zeros(6), 1 << 30, MonitoringAttributes())
    assert scheme.access_pattern.min_age == 13  # 1.25 s in aggregations of 100 ms, rounded up
    assert recommended_scheme(np.zeros(6), 1 << 32, MonitoringAttributes()).access_pattern.min_age == 50
    assert scheme.access_pattern.max_nr_accesses == 0
    assert scheme.quotas.bytes == (1 << 24) - (1 << 18)
    assert scheme.quotas.reset_interval_ms == 1000
    assert (scheme.quotas.weights.nr_accesses_permil, scheme.quotas.weights.age_permil) == (500, 500)
    assert (scheme.watermarks.high, scheme.watermarks.mid, scheme.watermarks.low) == (1000, 500, 50)


def test_settings_reach_the_memory():
    """Eager settings page out what the built-in algorithm leaves; a quota bounds how fast."""
    eager = play(make_reclaim(), EAGER)
    bounded = play(make_reclaim(), np.array([-0.17, 0.0, 0.0, 0.5, 1.0, 0.0], np.float32))
    idle = play(make_reclaim(), np.array([1.0, 1.0, 0.0, 0.5, 1.0, 0.0], np.float32))
    assert idle["paged_out_mib"] == 0.0
    assert eager["memory_saving"] > bounded["memory_saving"] > idle["memory_saving"] == 0.0
    assert bounded["paged_out_mib"] <= 16 * 20 * 1.05
    assert eager["score"] == pytest.approx(0.5 * eager["memory_saving"] - 0.5 * eager["slowdown"])


@pytest.mark.parametrize("builtin", [name for name in BUILTINS if name != "damon_reclaim"])
def test_builtin_algorithms_act(builtin):
    info = play(make_reclaim(builtin=builtin, mode="emergency", episode_s=60.0), np.zeros(6, np.float32))
    assert info["operations"] == 30
    assert info["memory_saving"] > 0.0
    if builtin == SENPAI:  # reclaims without a scheme
        assert info["paged_out_mib"] == 0.0
    else:
        assert info["paged_out_mib"] > 1.0


def test_the_kernels_module_acts_on_what_is_idle_for_two_minutes():
    paged_out = {}
    for episode_s in (110.0, 150.0):  # and 5 s of watching before
        env = make_reclaim(builtin="damon_reclaim", mode="emergency", episode_s=episode_s)
        paged_out[episode_s] = play(env, np.zeros(6, np.float32))["paged_out_mib"]
    assert paged_out[110.0] == 0.0
    assert paged_out[150.0] > 100.0


@pytest.mark.parametrize("attributes", [MonitoringAttributes(), ReclaimArguments().attributes()])
def test_the_kernels_module_counts_in_the_monitors_intervals(attributes):
    context = builtin_context("damon_reclaim", attributes)
    assert context.monitoring_attrs == attributes
    assert context.schemes[0].access_pattern.min_age * attributes.aggr_us == 120_000_000


def test_senpai_asks_for_its_share():
    env = make_reclaim(builtin="senpai", mode="emergency", episode_s=60.0)
    info = play(env, np.zeros(6, np.float32))  # has run through when it has begun
    record = env.proxy.subsystem.memories.records[0]
    # Ten times a share of the memory in use; what a page takes on the swap device is not gained.
    asked = 10 * SENPAI_SHARE * record["size"] / PAGE_BYTES / (1.0 - record["swap_share"])
    assert 0.9 * asked < record["reclaimed"] <= asked
    assert info["paged_out_mib"] == 0.0
