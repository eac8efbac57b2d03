"""What all environments of DAMON promise: time that passes exactly, refusals, built-in algorithms, messages."""

import numpy as np
import pytest
from damon_programs import BUILTINS, EVERY_BUILTIN, make, middle, play

from kml_envs.compiling import ChosenByRecord
from kml_envs.damon import intervals
from kml_envs.errors import UserError
from kml_envs.proxy import Verdict

RULES = ("begin_episode", "begin_interval", "run_until", "close_interval", "observe")


@pytest.mark.parametrize(("name", "builtin"), EVERY_BUILTIN)
def test_episodes_end_in_time_whatever_sleeps(name, builtin):
    """Sampling intervals of seconds and watermarks that sleep for five outlast control intervals and episodes."""
    rng = np.random.default_rng(0)
    env = make(name, builtin=builtin, episode_s=33.0, interval_s=3.0, efficiency="none")
    draw = rng.uniform(-1.0, 1.0, (12, *env.action_space.shape)).astype(np.float32)
    draw[::3] = np.nan  # the built-in algorithm's turn
    steps = iter(draw)
    info = play(env, lambda: next(steps), seed=2)
    assert env.proxy.subsystem.elapsed_us()[0] == 33_000_000
    assert info["operations"] == 11


@pytest.mark.parametrize("latency_us", [0.0, 700_000.0])
@pytest.mark.parametrize("name", BUILTINS)
def test_a_slow_agent_leaves_the_program_running(name, latency_us):
    env = make(name, latency_us=latency_us)
    env.reset(seed=1)
    env.step(middle(env))
    program = env.proxy.subsystem
    interval_us = program.interval_us
    assert program.elapsed_us()[0] == interval_us + latency_us
    assert program.interval_end[0] == program.time_us()[0]


@pytest.mark.parametrize(("name", "builtin"), EVERY_BUILTIN)
def test_builtin_algorithms_begin_alike(name, builtin):
    observation, _ = make(name, builtin=builtin).reset(seed=1)
    reference, _ = make(name).reset(seed=1)
    np.testing.assert_array_equal(observation, reference)
    assert observation.shape == (len(make(name).proxy.subsystem.feature_names),)


@pytest.mark.parametrize(
    ("name", "action", "verdict"),
    [
        ("DamonMonitor-v0", [0.0, -1.0, 0.0, 1.0], Verdict.TOO_FEW_SAMPLES),
        ("DamonReclaim-v0", [0.0, -1.0, 0.0, 0.0, 0.0, 0.0], Verdict.PAGEOUT_WITHOUT_QUOTA),
        ("DamonTier-v0", [0.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0], Verdict.MIGRATION_WITHOUT_QUOTA),
        ("DamonTier-v0", [0.0, 0.0, 0.0, -1.0, 0.0, -1.0, 0.0], Verdict.MIGRATION_WITHOUT_QUOTA),
        ("DamonTier-v0", [-0.9, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0], Verdict.MIGRATION_THRESHOLDS_CROSSED),
        ("DamonTier-v0", [0.0, 0.0, 0.0, 0.6, 0.0, 0.0, 0.0], Verdict.MIGRATION_THRESHOLDS_CROSSED),
    ],
)
def test_refused_settings_leave_the_builtin_algorithm_in_force(name, action, verdict):
    env = make(name, info_decisions=True)
    env.reset(seed=1)
    _, reward, _, _, info = env.step(np.array(action, np.float32))
    assert info["verdict"] == verdict
    assert not info["acted_by_agent"]
    assert np.isnan(info["executed_decision"]).all()
    assert reward == 0.0


@pytest.mark.parametrize("name", BUILTINS)
def test_mode_auto_runs_and_reports(name):
    env = make(name, mode="auto", episode_s=120.0, window_s=10.0)
    info = play(env, middle(env))
    assert "recommendation_after" in info
    assert np.isfinite(info["score"])


@pytest.mark.parametrize("name", BUILTINS)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"interval_s": 0.01}, "interval_s"),
        ({"max_nr_regions": 3}, "max_nr_regions"),
        ({"episode_s": 0}, "episode_s"),
        ({"window_s": 1}, "window_s"),
        ({"warm_s": -1}, "warm_s"),
        ({"workloads": ["nothing"]}, "nothing"),
    ],
)
def test_mistakes_are_told_in_one_line(name, arguments, said):
    mistake(name, arguments, said)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("DamonMonitor-v0", {"builtin": "autotun"}, "Did you mean 'autotune'"),
        ("DamonMonitor-v0", {"cpu_price": -1.0}, "cpu_price"),
        ("DamonMonitor-v0", {"reference_us": 5}, "reference_us"),
        ("DamonReclaim-v0", {"builtin": "prlc"}, "Did you mean 'prcl'"),
        ("DamonReclaim-v0", {"swap": "floppy"}, "zram"),
        ("DamonReclaim-v0", {"memory_share": 0.0}, "memory_share"),
        ("DamonReclaim-v0", {"sample_us": 0}, "sample_us"),
        ("DamonReclaim-v0", {"min_nr_regions": 2}, "min_nr_regions"),
        ("DamonTier-v0", {"builtin": "mem_tear"}, "Did you mean 'mem_tier'"),
        ("DamonTier-v0", {"memory_share": 1.0}, "memory_share"),
        ("DamonTier-v0", {"slow_latency_ratio": 1.0}, "slow_latency_ratio"),
    ],
)
def test_mistakes_of_one_environment_are_told_in_one_line(name, arguments, said):
    mistake(name, arguments, said)


def mistake(name, arguments, said):
    with pytest.raises(UserError, match=said) as caught:
        make(name, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_for_compiled_code(rule):
    function = getattr(intervals, rule)
    assert isinstance(function, ChosenByRecord)
    assert function.__doc__
    with pytest.raises(NotImplementedError, match="compiled"):
        function()
