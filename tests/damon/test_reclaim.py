"""Reclamation behind the proxy: what an action stands for, what is refused, and what the built-in algorithms do."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kml_envs  # noqa: F401 - registers the environments
from kml_envs.damon.checks import Reason, harmful_settings
from kml_envs.damon.config import PAGE_BYTES, Context, MonitoringAttributes, Operations
from kml_envs.damon.policies import SENPAI_SHARE
from kml_envs.damon.reclaim import BUILTINS, recommended_scheme
from kml_envs.errors import UserError
from kml_envs.proxy import Verdict

NUMBERS = st.floats(-1.0, 1.0, width=32)
EAGER = np.array([-0.17, 1.0, 0.0, 0.5, 1.0, 0.0], np.float32)  # what was idle for 2.5 s, without a tight quota


def make(**arguments):
    given = {"workloads": ["sort-rows"], "episode_s": 20.0, "warm_s": 5.0, "max_nr_regions": 200, **arguments}
    return gymnasium.make("kml/DamonReclaim-v0", **given).unwrapped


def play(env, action, seed=1):
    env.reset(seed=seed)
    truncated = False
    while not truncated:
        _, _, _, truncated, info = env.step(action)
    return info


@pytest.fixture(scope="module")
def subsystem():
    env = make()
    env.reset(seed=0)
    return env.proxy.subsystem


@given(action=st.lists(st.one_of(NUMBERS, st.sampled_from([-1.0, 1.0])), min_size=6, max_size=6))
@settings(deadline=None)
def test_what_is_refused_is_what_the_checks_find_harmful(subsystem, action):
    reasons = {
        Reason.PAGEOUT_WITHOUT_QUOTA: Verdict.PAGEOUT_WITHOUT_QUOTA,
        Reason.WATERMARKS_NEVER_STOP: Verdict.WATERMARKS_NEVER_STOP,
        Reason.WATERMARKS_CROSSED: Verdict.WATERMARKS_CROSSED,
    }
    attributes = MonitoringAttributes()
    size = int(subsystem.memories.records["size"][0])
    scheme = recommended_scheme(np.array(action), size, attributes)
    found = harmful_settings(Context(Operations.PADDR, attributes, schemes=(scheme,)), nodes=1)
    expected = reasons[found[0].reason] if found else Verdict.ACCEPTED
    assert subsystem.check(np.array([action]))[0] == expected


def test_numbers_stand_for_the_documented_settings():
    scheme = recommended_scheme(np.zeros(6), 1 << 30, MonitoringAttributes())
    assert scheme.access_pattern.min_age == 50  # aggregations of 100 ms
    assert scheme.access_pattern.max_nr_accesses == 0
    assert scheme.quotas.bytes == (1 << 23) - (1 << 16)
    assert scheme.quotas.reset_interval_ms == 1000
    assert (scheme.quotas.weights.nr_accesses_permil, scheme.quotas.weights.age_permil) == (500, 500)
    assert (scheme.watermarks.high, scheme.watermarks.mid, scheme.watermarks.low) == (1000, 500, 50)


def test_refused_settings_leave_the_builtin_algorithm_in_force():
    env = make(info_decisions=True)
    env.reset(seed=1)
    without_quota = np.array([0.0, -1.0, 0.0, 0.0, 0.0, 0.0], np.float32)
    _, _, _, _, info = env.step(without_quota)
    assert info["verdict"] == Verdict.PAGEOUT_WITHOUT_QUOTA
    assert not info["acted_by_agent"]
    assert np.isnan(info["executed_decision"]).all()


def test_settings_reach_the_memory():
    """Eager settings page out what the built-in algorithm leaves; a quota bounds how fast."""
    eager = play(make(), EAGER)
    bounded = play(make(), np.array([-0.17, 0.0, 0.0, 0.5, 1.0, 0.0], np.float32))
    idle = play(make(), np.array([1.0, 1.0, 0.0, 0.5, 1.0, 0.0], np.float32))
    assert idle["paged_out_mib"] == 0.0
    assert eager["memory_saving"] > bounded["memory_saving"] > idle["memory_saving"] == 0.0
    size_mib = 4096
    assert bounded["paged_out_mib"] <= size_mib / 128 * 20 * 1.05
    assert eager["score"] == pytest.approx(0.5 * eager["memory_saving"] - 0.5 * eager["slowdown"])


@pytest.mark.parametrize("builtin", BUILTINS)
def test_builtin_algorithms_begin_alike_and_act(builtin):
    observation, _ = make(builtin=builtin).reset(seed=1)
    reference, _ = make().reset(seed=1)
    np.testing.assert_array_equal(observation, reference)
    info = play(make(builtin=builtin, mode="emergency", episode_s=60.0), np.zeros(6, np.float32))
    assert info["operations"] == 30
    if builtin in ("prcl", "prcl_auto", "pdarc"):
        assert info["paged_out_mib"] > 1.0
    else:  # nothing is idle for two minutes yet, and senpai reclaims without a scheme
        assert info["paged_out_mib"] == 0.0
    assert (info["memory_saving"] > 0.0) == (builtin != "damon_reclaim")


def test_senpai_asks_for_its_share():
    env = make(builtin="senpai", mode="emergency", episode_s=60.0)
    info = play(env, np.zeros(6, np.float32))  # has run through when it has begun
    record = env.proxy.subsystem.memories.records[0]
    # Ten times a share of the memory in use; what a page takes on the swap device is not gained.
    asked = 10 * SENPAI_SHARE * record["size"] / PAGE_BYTES / (1.0 - record["swap_share"])
    assert 0.9 * asked < record["reclaimed"] <= asked
    assert info["paged_out_mib"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"builtin": "prlc"}, "Did you mean 'prcl'"),
        ({"swap": "floppy"}, "zram"),
        ({"memory_share": 0.0}, "memory_share"),
        ({"interval_s": 0.01}, "interval_s"),
        ({"sample_us": 0}, "sample_us"),
        ({"max_nr_regions": 3}, "max_nr_regions"),
        ({"episode_s": 0}, "episode_s"),
        ({"window_s": 1}, "window_s"),
        ({"warm_s": -1}, "warm_s"),
        ({"workloads": ["nothing"]}, "nothing"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, said):
    with pytest.raises(UserError, match=said) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)


def test_mode_auto_runs_and_reports():
    info = play(make(mode="auto", episode_s=120.0, window_s=10.0), EAGER)
    assert "recommendation_after" in info
    assert info["slowdown"] >= 0.0
